# SPDX-License-Identifier: Apache-2.0
"""holdfastd as a service: what it tells its manager, by a manager of our own; and the unit files."""
import contextlib
import ctypes
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import threading
import time

import pytest

from harness import BUILD, ROOT, Refusal, Trouble, parse_time, patchwork, ready_agent, run, wait_for

SYSTEMD = ROOT / "deploy" / "systemd"
LIBC = ctypes.CDLL(None, use_errno=True)
PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT, WALL = 17, 0x4206, 0x4207, 0x40000000


class Manager:
    """The other end of $NOTIFY_SOCKET: everything that was ever said, as (name, value)."""

    def __init__(self, rig, abstract=False):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        path = str(rig.path("notify"))
        self.socket.bind("\0" + path if abstract else path)
        self.name = "@" + path if abstract else path
        self.said = []
        self.listener = threading.Thread(target=self.listen)
        self.listener.start()
        rig.on_end(self.close)

    def listen(self):
        for text in iter(lambda: self.socket.recv(4096).decode(), ""):
            self.said += [tuple(line.split("=", 1)) for line in text.splitlines()]

    def close(self):
        self.socket.shutdown(socket.SHUT_RD)  # the listener receives the end
        self.listener.join()
        self.socket.close()

    def values(self, name):
        return [value for key, value in self.said if key == name]

    def count(self, name):
        return len(self.values(name))

    def status(self):
        return (self.values("STATUS") or [""])[-1]

    def wait(self, name, value, seconds=20):
        wait_for(lambda: value in self.values(name), seconds, "%s=%s" % (name, value))


def thread_of(program, name):
    """The thread id of a thread of that name."""
    for task in pathlib.Path("/proc/%d/task" % program.pid).iterdir():
        if (task / "comm").read_text().strip() == name:
            return int(task.name)
    raise Trouble("no thread %s" % name)


def trace(request, tid):
    if LIBC.ptrace(request, tid, None, None) != 0:
        raise OSError(ctypes.get_errno(), "ptrace")


@contextlib.contextmanager
def stuck(tid):
    """One thread does not go on; the others do."""
    trace(PTRACE_SEIZE, tid)
    trace(PTRACE_INTERRUPT, tid)
    os.waitpid(tid, WALL)
    try:
        yield
    finally:
        trace(PTRACE_DETACH, tid)


def start(rig, manager, **options):
    return rig.daemon(env={"NOTIFY_SOCKET": manager.name, **options})


@pytest.mark.parametrize("abstract", [False, True])
def test_it_is_ready_when_it_can_be_reached(rig, abstract):
    manager = Manager(rig, abstract)
    daemon = start(rig, manager)
    manager.wait("READY", "1")
    said = [name for name, _ in manager.said]
    assert said.index("EXTEND_TIMEOUT_USEC") < said.index("READY")
    assert manager.status().startswith("Ready: no sources yet")
    daemon.stop()
    manager.wait("STOPPING", "1")
    assert manager.count("READY") == 1


def test_the_status_line_says_how_things_are(rig):
    manager = Manager(rig)
    daemon = start(rig, manager)
    agent = ready_agent(rig, daemon, {"root": rig.file("disk", patchwork(rig.random, 1 << 20))})
    wait_for(lambda: manager.status().startswith("Ready: 1/1 sources, worst lag "), 20, "the source in the status line")
    daemon.request("POST", "/v1/source-servers/%s/stop" % agent.source, admin=True)
    wait_for(lambda: "worst lag unknown" in manager.status(), 20, "a stopped source not to lag")


def test_an_end_that_takes_its_time_says_so(rig):
    manager = Manager(rig)
    daemon = start(rig, manager)
    agent = ready_agent(rig, daemon, {"root": rig.file("disk", bytes(1 << 20))})
    agent.program.signal(signal.SIGSTOP)  # it does not take leave
    stat = pathlib.Path("/proc/%d/stat" % agent.program.pid)
    wait_for(lambda: stat.read_text().rsplit(")", 1)[1].split()[0] == "T", 20, "it to stand still")
    try:
        daemon.stop()
    finally:
        agent.program.signal(signal.SIGCONT)
    said = [name for name, _ in manager.said]
    assert "EXTEND_TIMEOUT_USEC" in said[said.index("STOPPING"):]


def test_a_start_that_fails_says_why(rig):
    manager = Manager(rig)
    daemon = rig.daemon(start=False, env={"NOTIFY_SOCKET": manager.name})
    (daemon.data / "somebody-elses").write_text("file")
    daemon.launch()
    assert daemon.program.process.wait(60) == 1
    wait_for(lambda: manager.status().startswith("Not"), 20, "the reason")
    assert manager.count("READY") == 0
    assert manager.status().startswith("Not started: ") and str(daemon.data) in manager.status()


def test_a_thread_that_is_stuck_lets_the_watchdog_lapse(rig):
    manager = Manager(rig)
    daemon = start(rig, manager, WATCHDOG_USEC="3000000")
    for thread in ("worker0", "catalog", "maintenance"):
        wait_for(lambda: manager.count("WATCHDOG") >= 1, 20, "the watchdog to be fed")
        let_it_lapse(manager, daemon, thread)


def silent_seconds(daemon):
    text = run("curl", "-sSf", "--unix-socket", daemon.run_dir / "monitor.sock", "http://localhost/metrics").stdout
    return float(re.search(r"^holdfast_thread_silent_seconds (\S+)$", text, re.M).group(1))


def said_by_check(daemon):
    done = run(BUILD / "check_holdfast", "-S", daemon.run_dir, check=False)
    return done.returncode, done.stdout


def assert_it_is_told(daemon, thread):
    """Wherever somebody looks: by then the log has it."""
    silent = daemon.get("/v1/version")["silentThread"]
    assert silent["name"] == thread and silent["silentSinceDateTime"] in silent["text"]
    with pytest.raises(Refusal) as refusal:
        daemon.get("/v1/health")
    health = refusal.value.problem
    assert [(r["code"], r["text"]) for r in health["reasons"]] == [("THREAD_SILENT", silent["text"])]
    told = " ".join(daemon.ctl("status").stdout.split())
    assert silent["text"] in told and "next: %s" % silent["cure"] in told
    found = {f["check"]: f for f in json.loads(daemon.ctl("doctor", "--json", check=6).stdout)["findings"]}["threads"]
    assert found["severity"] == "BAD" and (found["what"], found["next"]) == (silent["text"], silent["cure"])
    code, line = said_by_check(daemon)
    assert code == 2 and line.startswith("HOLDFAST CRITICAL - %s" % silent["text"]) and silent["cure"] in line
    assert silent_seconds(daemon) >= 1.5


def assert_none_is_told(daemon):
    wait_for(lambda: daemon.get("/v1/version")["silentThread"] is None, 20, "the thread to be well")
    wait_for(lambda: silent_seconds(daemon) == 0, 20, "the metric, which may be a second old")
    daemon.get("/v1/health")
    assert "next: systemctl" not in daemon.ctl("status").stdout
    assert "has not gone on" not in said_by_check(daemon)[1]
    assert '"threads", "severity"' not in daemon.ctl("doctor", "--json", check=None).stdout


def let_it_lapse(manager, daemon, thread):
    with stuck(thread_of(daemon.program, thread)):
        line = "event=thread_silent level=err thread=%s " % thread
        wait_for(lambda: line in daemon.program.log.read_text(), 20, "the silence to be told")
        assert_it_is_told(daemon, thread)
        assert manager.status().startswith("Stuck: thread %s " % thread)
        fed = manager.count("WATCHDOG")
        time.sleep(1.5)  # for what must not come
        daemon.get("/v1/version")  # the main thread itself goes on
        assert manager.count("WATCHDOG") == fed
    wait_for(lambda: manager.count("WATCHDOG") > fed, 20, "the watchdog to be fed again")
    assert "event=threads_go_on " in daemon.program.log.read_text()
    assert_none_is_told(daemon)


def test_a_daemon_that_was_stopped_as_a_whole_blames_no_thread(rig):
    manager = Manager(rig)
    daemon = start(rig, manager, WATCHDOG_USEC="3000000")
    for _ in range(2):
        daemon.program.signal(signal.SIGSTOP)
        time.sleep(2)  # longer than a thread may be silent
        fed = manager.count("WATCHDOG")
        daemon.program.signal(signal.SIGCONT)
        wait_for(lambda: manager.count("WATCHDOG") > fed, 20, "the watchdog to be fed again")
    assert "event=thread_silent" not in daemon.program.log.read_text()


@pytest.mark.parametrize("options", [{}, {"WATCHDOG_USEC": "4000000", "WATCHDOG_PID": "1"}])
def test_a_watchdog_that_nobody_wants_or_somebody_else_is_not_fed(rig, options):
    manager = Manager(rig)
    daemon = start(rig, manager, **options)
    manager.wait("READY", "1")
    rig.agent(daemon, {"root": rig.file("disk", bytes(1 << 20))})  # never started
    wait_for(lambda: manager.status().startswith("Ready: 0/1 "), 20, "the source, which is told of by who would feed it")
    assert "event=thread_silent" not in daemon.program.log.read_text()
    daemon.stop()
    manager.wait("STOPPING", "1")
    assert manager.count("WATCHDOG") == 0


# ---- the unit files ----

def unit(name, rig):
    """With the programs where they are now: verify looks for them."""
    text = (SYSTEMD / name).read_text().replace("/usr/sbin/", "%s/" % BUILD)
    path = rig.path(name)
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", ["holdfastd.service", "holdfast-agent.service"])
def test_the_unit_is_understood(rig, name):
    done = run("systemd-analyze", "verify", "--man=no", "--recursive-errors=one", unit(name, rig))
    assert name not in done.stdout + done.stderr


@pytest.mark.parametrize("name,limit", [("holdfastd.service", 20), ("holdfast-agent.service", 45)])
def test_the_unit_is_hardened(name, limit):
    """In tenths; systemd's own scale, 0 (nothing is exposed) to 10."""
    run("systemd-analyze", "security", "--offline=true", "--threshold=%d" % limit, SYSTEMD / name)


def test_users_groups_and_directories_are_made(rig):
    root = rig.path("root")
    (root / "etc").mkdir(parents=True)
    run("systemd-sysusers", "--root=%s" % root, SYSTEMD / "holdfast.sysusers")
    groups = dict(line.split(":", 1) for line in (root / "etc/group").read_text().splitlines())
    assert groups["holdfast-admin"].endswith(":holdfast") and groups["holdfast-monitor"].endswith(":holdfast")
    if os.geteuid() == 0:
        run("systemd-tmpfiles", "--root=%s" % root, "--create", SYSTEMD / "holdfast.tmpfiles")
        uid = int(next(line for line in (root / "etc/passwd").read_text().splitlines() if line.startswith("holdfast:")).split(":")[2])
        data = (root / "var/lib/holdfast").stat()
        assert data.st_uid == uid and data.st_mode & 0o777 == 0o700


# ---- reload ----

def shown_certificate(daemon):
    """What a newcomer is shown at the data port."""
    text = run("openssl", "s_client", "-connect", "127.0.0.1:%d" % daemon.port, "-tls1_3", check=False).stdout
    return text[text.index("-----BEGIN CERTIFICATE"):text.index("-----END CERTIFICATE")]


def log_of(daemon):
    return daemon.program.log.read_text()


def test_a_reload_changes_what_can_be_changed_and_says_what_takes_a_restart(rig):
    manager = Manager(rig)
    daemon = start(rig, manager)
    assert daemon.get("/v1/version")["restartRequired"] == []
    daemon.settings.update({"server.log_level": "warning", "tls.certificate_lifetime": "30d", "tls.token_lifetime": "2h",
                            "ingest.credit": "8MiB"})
    daemon.write_config()
    done = daemon.ctl("reload").stdout
    assert done == ("changed: server.log_level tls.certificate_lifetime tls.token_lifetime\n"
                    "not before a restart (systemctl restart holdfastd): ingest.credit\n")
    wait_for(lambda: manager.count("READY") == 2, 20, "the manager to know that it is over")
    said = [name for name, _ in manager.said]
    assert said.index("RELOADING") < said.index("MONOTONIC_USEC")
    assert daemon.get("/v1/version")["restartRequired"] == ["ingest.credit"]
    assert "event=restart_required " in log_of(daemon)
    token = daemon.request("POST", "/v1/tokens", {}, admin=True)
    assert parse_time(token["expiresDateTime"]) - time.time() > 3600
    rig.agent(daemon, {"root": rig.file("disk", bytes(1 << 20))})  # never started
    assert 29 < next(c for c in daemon.items("/v1/certificates?") if c["role"] == "AGENT")["daysLeft"] < 31
    before = len(log_of(daemon))
    daemon.request("DELETE", "/v1/tokens/%s" % token["tokenID"], admin=True)
    assert len(log_of(daemon)) == before, "a notice, at level warning"
    daemon.settings["ingest.credit"] = "4MiB"
    daemon.write_config()
    assert daemon.request("POST", "/v1/reload", admin=True) == {"changed": [], "restartRequired": [], "certificateChanged": False}
    assert daemon.ctl("reload").stdout == "nothing to change\n"


def test_a_reload_of_a_bad_configuration_changes_nothing(rig):
    daemon = rig.daemon()
    daemon.settings.update({"server.log_level": "warning", "server.workers": "many", "pit.policy": "now and then"})
    path = daemon.write_config()
    done = daemon.ctl("reload", check=2)
    assert "%s:" % path in done.stderr and "server.workers" in done.stderr and "1 more" in done.stderr
    assert "everything stays as it was" in done.stderr
    log = log_of(daemon)
    assert log.count("event=config_problem ") == 2 and "event=reload_failed " in log
    assert run(BUILD / "holdfastd", "-c", path, "--check-config", check=False).returncode == 78
    daemon.program.signal(signal.SIGUSR1)  # a notice still comes through
    wait_for(lambda: "event=summary " in log_of(daemon), 20, "a summary")


def test_a_signal_reloads_as_well(rig):
    manager = Manager(rig)
    daemon = start(rig, manager)
    daemon.settings["server.sessions_max"] = "7"
    daemon.write_config()
    daemon.program.signal(signal.SIGHUP)
    wait_for(lambda: 'changed="server.sessions_max"' in log_of(daemon), 20, "the reload")
    wait_for(lambda: manager.count("READY") == 2, 20, "the manager to know")


def test_a_new_certificate_is_shown_to_newcomers_and_cuts_nobody(rig):
    daemon = rig.daemon()
    agent = ready_agent(rig, daemon, {"root": rig.file("disk", patchwork(rig.random, 1 << 20))})
    pki, before = daemon.data / "pki", shown_certificate(daemon)
    key, request, fresh = rig.path("server.key"), rig.path("server.csr"), rig.path("server.pem")
    (rig.path("extensions")).write_text("basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\n")
    run("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
    run("openssl", "req", "-new", "-key", key, "-subj", "/CN=holdfastd", "-out", request)
    run("openssl", "x509", "-req", "-in", request, "-CA", pki / "ca.pem", "-CAkey", pki / "ca.key", "-set_serial", "77", "-days", "30",
        "-extfile", rig.path("extensions"), "-out", fresh)
    shutil.copy(fresh, pki / "server.pem")
    done = daemon.ctl("reload", check=1)
    assert "not a pair" in done.stderr and shown_certificate(daemon) == before, "the key is still the old one"
    shutil.copy(key, pki / "server.key")
    (pki / "server.key").chmod(0o600)
    assert daemon.request("POST", "/v1/reload", admin=True)["certificateChanged"]
    assert wait_for(lambda: shown_certificate(daemon) != before, 20, "the new one")
    assert fresh.read_text().startswith(shown_certificate(daemon))
    point = daemon.point(agent.source, "after")
    assert point["name"] == "after" and log_of(daemon).count("event=session_welcome ") == 1
    agent.restart("stop")
    wait_for(lambda: log_of(daemon).count("event=session_welcome ") == 2, 20, "it to come back")
