# SPDX-License-Identifier: Apache-2.0
"""The data directory: one daemon's alone, whole in itself, and at home anywhere."""
import json
import os
import shutil
import signal

import pytest

from harness import BUILD, IS_ROOT, MIB, Daemon, first_difference, random_bytes, ready_agent, run, wait_for
from history import History


def test_a_second_daemon_on_it_is_refused_and_does_no_harm(rig):
    daemon = rig.daemon()
    disk = rig.file("disk", random_bytes(rig.random, MIB))
    agent = ready_agent(rig, daemon, {"root": disk})
    second = Daemon(rig, data=daemon.data, start=False).launch()
    assert second.program.process.wait(20) == 1
    told = second.program.log.read_text()
    assert str(daemon.data) in told and str(daemon.program.pid) in told
    daemon.point(agent.source, "still here")
    agent.stop()


def test_moved_to_another_path_and_port_it_serves_its_agents_again(rig):
    old = rig.daemon()
    history = History(rig.path("disk"), 512, rig.random)
    agent = ready_agent(rig, old, {"root": history.path})
    history.write(30)
    old.point(agent.source, "before")
    old.stop()
    moved = rig.path("elsewhere")
    os.rename(old.data, moved)
    new = rig.daemon(data=moved)
    history.write(30)
    agent.stop()
    agent.daemon = new
    agent.go_through(new.port).start()
    new.wait_streaming(agent.source)
    new.point(agent.source, "after")
    assert history.check(new.export(agent.source, "root", "before")) == 30
    assert history.check(new.export(agent.source, "root", "after")) == 60
    agent.stop()


def test_it_can_be_exported_from_without_the_daemon(rig):
    daemon = rig.daemon()
    disks = {name: rig.file(name, random_bytes(rig.random, 3 * MIB + 17)) for name in ("root", "data")}
    agent = ready_agent(rig, daemon, disks)
    daemon.point(agent.source, "kept")
    to = rig.path("offline.img")
    command = ["export", "file", agent.source, "--data-dir", daemon.data, "--volume", "data", "--at", "kept", "-o", to, "--no-progress"]
    assert run(BUILD / "holdfastctl", *command, check=False).returncode != 0, "it read under the daemon's hands"
    agent.stop()
    daemon.kill()
    run(BUILD / "holdfastctl", *command)
    assert first_difference(disks["data"], to) is None
    daemon.start()
    assert first_difference(disks["data"], daemon.export(agent.source, "data", "kept")) is None, "the export changed something"


def test_a_directory_that_is_not_ours_or_not_there_is_left_alone(rig):
    foreign = rig.path("foreign")
    foreign.mkdir()
    (foreign / "letter").write_text("dear diary")
    daemon = Daemon(rig, data=foreign, start=False).launch()
    assert daemon.program.process.wait(20) == 1
    assert os.listdir(foreign) == ["letter"]
    assert str(foreign) in daemon.program.log.read_text()
    absent = Daemon(rig, start=False)
    absent.data.rmdir()
    absent.launch()
    assert absent.program.process.wait(20) == 1 and not absent.data.exists()


def test_a_newer_format_is_refused(rig):
    daemon = rig.daemon()
    daemon.stop()
    identity = daemon.data / "IDENTITY"
    assert "\nformat 1\n" in identity.read_text()
    identity.write_text(identity.read_text().replace("\nformat 1\n", "\nformat 99\n"))
    daemon.launch()
    assert daemon.program.process.wait(20) == 1
    assert "99" in daemon.program.log.read_text() or "newer" in daemon.program.log.read_text()


def test_any_port_is_found_out_from_a_file_and_from_the_log(rig):
    daemon = rig.daemon(server__listen="127.0.0.1:0", server__enroll_listen="127.0.0.1:0")
    ports = json.loads((daemon.run_dir / "ports.json").read_text())
    assert ports == {"data": daemon.port, "enroll": daemon.enroll_port}
    assert "127.0.0.1:%d" % daemon.port in daemon.program.log.read_text()
    daemon.stop()


def test_it_stops_in_good_order(rig):
    daemon = rig.daemon()
    disk = rig.file("disk", random_bytes(rig.random, MIB))
    agent = ready_agent(rig, daemon, {"root": disk})
    daemon.stop()
    wait_for(lambda: "SHUTDOWN" in agent.program.log.read_text(), 10, "the agent to hear the goodbye")
    daemon.start()
    daemon.wait_streaming(agent.source)
    daemon.program.signal(signal.SIGINT)
    assert daemon.program.process.wait(20) == 0
    agent.stop()


@pytest.mark.skipif(not IS_ROOT, reason="two users need root")
def test_what_another_user_made_is_told_with_the_cure(rig):
    """holdfastd was started by hand as root; the service is somebody else, and its directory alone is his."""
    rig.dir.chmod(0o755)
    daemon = rig.daemon()
    daemon.stop()
    for folder in (daemon.data, daemon.run_dir):
        os.chown(folder, 65534, 65534)
    path = daemon.write_config()
    path.chmod(0o644)
    daemon.programs = rig.path("bin")  # that nobody gets at
    daemon.programs.mkdir()
    shutil.copy(BUILD / "holdfastd", daemon.programs)
    daemon.prefix = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    service = [*daemon.prefix, daemon.programs / "holdfastd", "-c", path]
    for words, code in (((), 1), (("--check-config",), 78)):
        done = run(*service, *words, check=False)
        assert done.returncode == code
        said = done.stdout + done.stderr
        assert "%s/LOCK belongs to root, and holdfastd runs as nobody" % daemon.data in said
        cure = said[said.index("chown -R "):].rstrip('"\n')
        assert cure == "chown -R nobody %s" % daemon.data
    run(*cure.split())
    run(*service, "--check-config")
    daemon.start()
    daemon.stop()


def test_a_bad_configuration_is_told_line_by_line(rig):
    bad = rig.path("bad.conf")
    bad.write_text("[server]\nlisten = nonsense\nworkers = -1\nsurprise = 1\n[storage]\nsegment_size = 1\n")
    done = run(BUILD / "holdfastd", "-c", bad, "--check-config", check=False)
    assert done.returncode == 78
    for line in (2, 3, 4, 6):
        assert "%s:%d:" % (bad, line) in done.stderr
    assert run(BUILD / "holdfastd", "-c", bad, check=False).returncode == 78
    empty = rig.path("empty.conf")
    empty.write_text("")
    run(BUILD / "holdfastd", "-c", empty, "--check-config")


@pytest.mark.parametrize("words, said", [
    (["--nonsense"], "--nonsense means nothing here"), (["-xh"], "-x means nothing here"), (["--check-config=7"], "--check-config=7 means"),
    (["-c"], "-c wants a value"), (["extra"], "extra is one argument too many"), (["--log-level", "loud"], "one of err|warning")])
def test_a_wrong_command_line_is_told_in_one_line(words, said):
    done = run(BUILD / "holdfastd", *words, check=False)
    assert done.returncode == 64
    assert said in done.stderr and done.stderr.endswith(" (see holdfastd --help)\n") and done.stderr.count("\n") == 1


def test_what_a_configuration_names_is_looked_at_beside_a_daemon(rig):
    daemon = rig.daemon()
    path = daemon.write_config()

    def problem():
        done = run(BUILD / "holdfastd", "-c", path, "--check-config", check=False)
        assert done.returncode == (78 if done.stderr else 0)
        return done.stderr

    assert problem() == ""
    key = daemon.data / "pki" / "ca.key"
    key.rename(key.with_suffix(".away"))
    assert "ca.key" in problem()
    key.with_suffix(".away").rename(key)
    daemon.settings["storage.data_dir"] = "/nowhere/at/all"
    daemon.write_config()
    assert "/nowhere/at/all does not exist" in problem()
