# SPDX-License-Identifier: Apache-2.0
"""holdfastctl doctor: what is wrong with the machine, with holdfastd and without."""
import ctypes
import json
import os
import pathlib
import resource
import time

import pytest

import hfagent
from harness import BLOCK, BUILD, IS_ROOT, MIB, run, wait_for

CHECKED = ["daemon", "threads", "kernel", "io_uring", "limits", "file_system", "space", "clock", "certificates", "identity", "source_clock"]
TIME_ERROR, STA_UNSYNC, STATUS_OFFSET = 5, 0x40, 40  # of struct timex, on x86-64


def findings(served, *words, code=None):
    done = served.ctl("doctor", *words, "--json", check=None)
    answer = json.loads(done.stdout)
    assert answer["checked"] == CHECKED
    assert done.returncode == (6 if answer["findings"] else 0) and done.stderr == "", done.stderr
    for finding in answer["findings"]:
        assert set(finding) == {"check", "severity", "what", "why", "next"} and all(finding.values())
    return {finding["check"]: finding for finding in answer["findings"]}


def test_a_daemon_that_is_well_is_no_finding_and_the_clock_is_one_if_the_kernel_says_so(house):
    found = findings(house.served)
    assert "daemon" not in found and "io_uring" not in found and "certificates" not in found
    timex = ctypes.create_string_buffer(256)
    state = ctypes.CDLL(None).adjtimex(timex)
    unsynchronised = state == TIME_ERROR or int.from_bytes(timex[STATUS_OFFSET:STATUS_OFFSET + 4], "little") & STA_UNSYNC
    assert ("clock" in found) == bool(unsynchronised)


def test_it_reads_as_what_why_and_what_next(house):
    done = house.served.ctl("doctor", "/dev/shm", check=6)
    lines = done.stdout.splitlines()
    at = next(i for i, line in enumerate(lines) if "file_system: /dev/shm is on tmpfs" in line)
    assert lines[at].startswith("BAD") and lines[at + 1].strip().startswith("why:") and lines[at + 2].strip().startswith("next:")


def test_a_data_directory_that_is_not_there_is_named(house):
    assert "/nowhere/at/all" in findings(house.served, "/nowhere/at/all")["data_directory"]["what"]


def test_a_read_only_file_system_is_bad(house):
    mounted, _, _ = house.file_system("small", 16 * MIB)
    run("mount", "-o", "remount,ro", mounted)
    assert findings(house.served, mounted)["space"]["severity"] == "BAD"


def test_a_file_system_that_is_nearly_full_is_told(house):
    mounted, _, _ = house.file_system("full", 16 * MIB)
    assert "space" not in findings(house.served, mounted)
    space = os.statvfs(mounted)
    with open(mounted / "filler", "wb") as f:
        os.posix_fallocate(f.fileno(), 0, space.f_bavail * space.f_frsize * 9 // 10)
    assert findings(house.served, mounted)["space"]["severity"] == "WARNING"


def test_a_source_whose_clock_is_far_off_is_told(rig):
    daemon = rig.daemon()
    identity = hfagent.enroll(("127.0.0.1", daemon.enroll_port), daemon.token(), rig.path("agent"), hostname="db01")
    agent = hfagent.Agent(identity, clock=lambda: time.time_ns() - 120 * 10**9)
    rig.on_end(agent.cut)
    agent.open([hfagent.Volume("root", "serial:1", 4 * BLOCK)])
    wait_for(lambda: abs(daemon.source(identity.source_id)["agent"]["clockOffsetSeconds"] or 0) > 60, 20, "the clock to be compared")
    found = findings(daemon)["source_clock"]
    assert "db01" in found["what"] and "120 s behind" in found["what"]


def test_a_certificate_near_its_end_is_told(rig):
    daemon = rig.daemon(tls__certificate_lifetime="6s")
    identity = hfagent.enroll(("127.0.0.1", daemon.enroll_port), daemon.token(), rig.path("agent"))
    assert "certificates" not in findings(daemon) or identity.source_id not in findings(daemon)["certificates"]["what"]
    found = wait_for(lambda: [f for f in json.loads(daemon.ctl("doctor", "--json", check=None).stdout)["findings"] if identity.source_id in f["what"]], 20,
                     "its certificate to expire")
    assert found[0]["check"] == "certificates" and "token create --source" in found[0]["next"]


def test_limits_are_those_of_the_daemon(house):
    pid = house.served.get("/v1/version")["processID"]
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (600, before[1]))
    try:
        assert "600" in findings(house.served)["limits"]["what"]
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def test_without_a_daemon_the_rest_is_looked_at_all_the_same(rig):
    served = rig.daemon()
    data = served.data
    served.stop()
    found = findings(served, data)
    assert found["daemon"]["severity"] == "BAD" and "cannot reach" in found["daemon"]["what"] and "data_directory" not in found and "certificates" not in found
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "3", "-subj", "/CN=soon",
        "-keyout", "/dev/null", "-out", pathlib.Path(data) / "pki" / "server.pem")
    assert "server.pem" in findings(served, data)["certificates"]["what"]
    assert findings(served, data)["certificates"]["severity"] == "WARNING"


@pytest.mark.skipif(not IS_ROOT, reason="becoming somebody else needs root")
def test_whoever_may_not_ask_is_told_that_and_the_rest(rig):
    """Not that holdfastd is down: it is not."""
    daemon = rig.daemon()
    os.chmod(rig.path("."), 0o755)
    os.chmod(daemon.run_dir, 0o755)
    done = run("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", BUILD / "holdfastctl", "doctor", "/dev/shm", "--socket", daemon.run_dir,
               "--json", check=False)
    found = {finding["check"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert done.returncode == 6 and done.stderr == "" and "file_system" in found
    assert found["daemon"]["severity"] == "WARNING" and "permission denied" in found["daemon"]["what"]
