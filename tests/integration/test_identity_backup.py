# SPDX-License-Identifier: Apache-2.0
"""The staging server is gone, with all its data: from the backup of its identity another one is made, and the agents come to it."""
import fcntl
import json
import os
import pty
import select
import shutil
import subprocess
import termios
import time

import pytest

from harness import BUILD, IS_ROOT, first_difference, random_bytes, ready_agent, run, wait_for

PASSPHRASE = "correct horse battery staple"


def passphrase(rig, text=PASSPHRASE, name="passphrase"):
    path = rig.path(name)
    path.write_text(text + "\n")
    return path


def backup(rig, daemon, name="identity"):
    path = rig.path(name)
    daemon.ctl("identity", "backup", path, "--passphrase-file", passphrase(rig))
    return path


def restore(rig, path, to, secret=None, check=0, **options):
    done = run(BUILD / "holdfastctl", "identity", "restore", path, "--data-dir", to, "--passphrase-file", secret or passphrase(rig),
               check=False, **options)
    assert done.returncode == check, done.stdout + done.stderr
    return done.stdout + done.stderr


def empty_dir(rig, name):
    path = rig.path(name)
    path.mkdir(mode=0o700)
    return path


def lose(daemon):
    """Its disk is gone."""
    daemon.kill()
    shutil.rmtree(daemon.data)
    daemon.data.mkdir(mode=0o700)


def facts_of(daemon, agent):
    source = daemon.source(agent.source)
    return source["pitPolicy"], source["journalWindowSeconds"], source["retention"], source["space"]["quotaBytes"], source["space"]["whenFull"]


def test_agents_of_a_lost_server_replicate_to_the_restored_one_without_being_enrolled_again(rig):
    daemon = rig.daemon()
    disks = [rig.file("disk%d" % i, random_bytes(rig.random, 1 << 20)) for i in range(2)]
    agents = [ready_agent(rig, daemon, {"root": disk}) for disk in disks]
    for agent, window in zip(agents, ("30m", "20m")):
        daemon.ctl("policy", "set", agent.source, "10m/2h", "1d/3d", "--journal-window", window, "--min-retention", "1m")
        daemon.ctl("quota", "set", agent.source, "1GiB", "--when-full", "thin")
    daemon.ctl("retention", "freeze", agents[0].source)
    before = [facts_of(daemon, agent) for agent in agents]
    ca = daemon.get("/v1/ca")["fingerprint"]
    path = backup(rig, daemon)
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert b"PRIVATE KEY" not in path.read_bytes() and agents[0].source.encode() not in path.read_bytes()
    assert any("identity.backup" in line for line in daemon.program.log.read_text().splitlines())
    wait_for(lambda: "identity.backup\tOK" in daemon.ctl("audit", "-H", "-o", "verb,result").stdout, 20, "the audit to say that it was given")
    agents[1].stop()  # it comes later
    lose(daemon)
    assert "2 sources" in restore(rig, path, daemon.data)
    daemon.start()
    assert daemon.get("/v1/ca")["fingerprint"] == ca
    wait_for(lambda: [facts_of(daemon, agent) for agent in agents] == before, 10, "the settings of before")
    agents[1].start()
    for agent, disk in zip(agents, disks):
        daemon.wait_ready(agent.source)
        daemon.point(agent.source, "after")
        assert first_difference(disk, daemon.export(agent.source, "root", "after")) is None
    wait_for(lambda: {e["sourceServerID"] for e in daemon.events("staging_went_back")} == {a.source for a in agents}, 20, "its events")
    for agent in agents:
        agent.stop()


def test_a_certificate_that_is_newer_than_the_backup_is_known_again(rig):
    daemon = rig.daemon()
    agent = ready_agent(rig, daemon, {"root": rig.file("disk", bytes(1 << 20))})
    path = backup(rig, daemon)
    daemon.ctl("cert", "renew", agent.source)
    wait_for(lambda: daemon.events("certificate_renewed"), 10, "the new certificate")
    agent.restart("stop").wait_connected()
    lose(daemon)
    restore(rig, path, daemon.data)
    daemon.start()
    daemon.wait_ready(agent.source)
    wait_for(lambda: daemon.events("certificate_recovered"), 20, "its event")
    agent.stop()


def test_one_is_reminded_of_a_backup_that_is_missing_or_lacks_something(rig):
    daemon = rig.daemon()

    def unsaved():
        return daemon.get("/v1/version")["identityBackup"]["unsavedSinceDateTime"]

    def reminder():
        found = json.loads(daemon.ctl("doctor", "--json", check=None).stdout)["findings"]
        return next((f["what"] for f in found if f["check"] == "identity"), None)

    assert unsaved() is None and reminder() is None  # there is nobody to lose
    first = rig.agent(daemon, {"root": rig.file("disk0", bytes(4096))})
    wait_for(unsaved, 10, "the reminder")
    assert "no backup" in reminder()
    backup(rig, daemon, "one")
    assert unsaved() is None, "it was answered before it was seen"
    assert reminder() is None and daemon.get("/v1/version")["identityBackup"]["takenDateTime"]
    daemon.ctl("ca", "rotate")
    wait_for(unsaved, 10, "the reminder, because of the CA")
    assert "is not in the identity's backup of" in reminder()
    path = backup(rig, daemon, "two")
    assert unsaved() is None
    rig.agent(daemon, {"root": rig.file("disk1", bytes(4096))})
    wait_for(unsaved, 10, "the reminder, because of the newcomer")
    lose(daemon)
    restore(rig, path, daemon.data)
    daemon.start()
    assert daemon.source(first.source)["sourceServerID"] == first.source
    assert unsaved() is None and daemon.get("/v1/version")["identityBackup"]["takenDateTime"]


def test_a_backup_is_refused_with_the_wrong_passphrase_cut_off_changed_or_into_a_directory_in_use(rig):
    daemon = rig.daemon()
    path = backup(rig, daemon)
    refused = daemon.ctl("identity", "backup", path, "--passphrase-file", passphrase(rig), check=1)
    assert "--force" in refused.stderr
    daemon.ctl("identity", "backup", path, "--force", "--passphrase-file", passphrase(rig))
    assert "8 characters" in daemon.ctl("identity", "backup", rig.path("other"), "--passphrase-file", passphrase(rig, "short", "p2"), check=1).stderr
    to = empty_dir(rig, "new")
    assert "passphrase is wrong" in restore(rig, path, to, passphrase(rig, "another passphrase", "p3"), check=5)
    whole = path.read_bytes()
    for cut in (0, 10, 63, 64, len(whole) // 2, len(whole) - 1):
        assert "cut off" in restore(rig, rig.file("cut", whole[:cut]), to, check=7)
    changed = bytearray(whole)
    changed[len(whole) // 2] ^= 1
    assert "was changed" in restore(rig, rig.file("changed", bytes(changed)), to, check=5)
    assert list(to.iterdir()) == []
    daemon.stop()
    assert "not empty" in restore(rig, path, daemon.data, check=1)
    assert "does not exist" in restore(rig, path, rig.path("nowhere"), check=4)
    restore(rig, path, to)
    assert "not empty" in restore(rig, path, to, check=1)


def typed(command, *lines):
    """Run it with a terminal of its own, on which these lines are typed, each after a question: (exit status, what the terminal showed)."""
    master, slave = pty.openpty()
    until = time.monotonic() + 60
    program = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
                               preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
    os.close(slave)
    shown, asked = b"", 0
    while True:
        if not select.select([master], [], [], max(0, until - time.monotonic()))[0]:
            program.kill()
        try:
            piece = os.read(master, 4096)
        except OSError:  # the program is gone
            break
        if not piece:
            break
        shown += piece
        if shown.count(b": ") > asked and asked < len(lines) and shown.endswith(b": "):
            os.write(master, lines[asked].encode() + b"\n")
            asked += 1
    os.close(master)
    return program.wait(30), shown.decode()


def test_the_passphrase_is_asked_for_twice_and_not_shown(rig):
    daemon = rig.daemon()
    path = rig.path("identity")
    command = [BUILD / "holdfastctl", "identity", "backup", path, "--socket", daemon.run_dir]
    code, shown = typed(command, PASSPHRASE, PASSPHRASE + "x")
    assert code == 1 and "two different" in shown and not path.exists()
    code, shown = typed(command, PASSPHRASE, PASSPHRASE)
    assert code == 0 and PASSPHRASE not in shown, shown
    assert "0 sources" in restore(rig, path, empty_dir(rig, "new"))


def test_a_backup_that_is_told_of_is_on_disk_and_so_is_its_name(rig):
    daemon = rig.daemon()
    path, log = rig.path("identity"), rig.path("strace.log")
    run("strace", "-f", "-y", "-o", log, "-e", "trace=fsync,rename", BUILD / "holdfastctl", "identity", "backup", path, "--socket", daemon.run_dir,
        "--passphrase-file", passphrase(rig))
    steps = [line.split(maxsplit=1)[1] for line in log.read_text().splitlines() if str(path.parent) in line]
    assert [step.split("(")[0] for step in steps] == ["fsync", "rename", "fsync"], steps
    assert "<%s>" % path.parent in steps[2]


@pytest.mark.skipif(not IS_ROOT, reason="only root makes files for others")
def test_what_root_restores_belongs_to_the_owner_of_the_directory(rig):
    daemon = rig.daemon()
    rig.agent(daemon, {"root": rig.file("disk", bytes(4096))})
    path = backup(rig, daemon)
    to = empty_dir(rig, "new")
    os.chown(to, 65534, 65534)
    for parent in to.parents[:-1]:
        if parent.stat().st_mode & 0o001 == 0:
            parent.chmod(0o711)
    restore(rig, path, to, env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"})  # they cannot be looked for in who became another
    owners = {(p.stat().st_uid, p.stat().st_gid) for p in to.rglob("*")}
    assert owners == {(65534, 65534)} and (to / "sources").exists() and (to / "pki" / "ca.key").exists()
