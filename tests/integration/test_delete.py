# SPDX-License-Identifier: Apache-2.0
"""A source is stopped, started again, and deleted: explicitly, whole, and however it is cut."""
import contextlib
import shutil
import sqlite3

import pytest

from harness import BUILD, MIB, Refusal, UnixConnection, copy_of, first_difference, random_bytes, ready_agent, run, wait_for

DELETING = 2  # enum registry_phase


def folders(daemon):
    return sorted(p.name for p in (daemon.data / "sources").iterdir())


def is_known(daemon, source):
    return source in [s["sourceServerID"] for s in daemon.sources()]


@contextlib.contextmanager
def registry(daemon):
    """The daemon is stopped."""
    with contextlib.closing(sqlite3.connect(daemon.data / "holdfast.db")) as database, database:
        yield database


def rows(daemon, source):
    """What holdfast.db still has of it."""
    with registry(daemon) as database:
        return sum(database.execute("SELECT count(*) FROM %s WHERE %s = ?" % (table, column), (source,)).fetchone()[0]
                   for table, column in (("source", "id"), ("certificate", "source"), ("token", "source")))


def two_sources(rig, daemon):
    disks = [rig.file(name, random_bytes(rig.random, 4 * MIB)) for name in ("goes", "stays")]
    agents = [ready_agent(rig, daemon, {"root": disk}) for disk in disks]
    for agent in agents:
        daemon.point(agent.source, "kept")
    return agents, [copy_of(disk, "%s.copy" % disk) for disk in disks]


def check_stays(daemon, agent, copy):
    assert first_difference(copy, daemon.export(agent.source, "root", "kept")) is None


def wait_gone(daemon, source):
    wait_for(lambda: not is_known(daemon, source), 20, "the source to be gone")
    wait_for(lambda: not [f for f in folders(daemon) if source in f], 20, "its files to be gone")


def test_a_stopped_source_keeps_its_points_and_goes_on_when_it_is_started(rig):
    daemon = rig.daemon()
    disk = rig.file("disk", random_bytes(rig.random, 4 * MIB))
    agent = ready_agent(rig, daemon, {"root": disk})
    daemon.point(agent.source, "before")
    before = copy_of(disk, rig.path("before"))
    points = {p["pointInTimeID"] for p in daemon.points(agent.source)}
    daemon.ctl("source", "stop", agent.source, check=2)  # nobody confirmed it
    assert daemon.is_streaming(agent.source)
    daemon.ctl("source", "stop", agent.source, "--yes")
    daemon.wait_state(agent.source, "STOPPED")
    wait_for(lambda: not agent.is_connected(), 10, "the agent to be sent away")
    wait_for(lambda: "stopped by an administrator" in agent.status()["lastError"], 10, "the agent to know why")
    shown = daemon.source(agent.source)
    assert shown["ready"] and shown["dataReplicationInfo"]["dataReplicationError"] is None
    daemon.restart("kill")
    daemon.wait_state(agent.source, "STOPPED")
    assert points <= {p["pointInTimeID"] for p in daemon.points(agent.source)}
    assert first_difference(before, daemon.export(agent.source, "root", "before")) is None
    with open(disk, "r+b") as f:
        f.write(rig.random.randbytes(MIB))
    refused = len(agent.program.log.read_text().splitlines())
    daemon.ctl("source", "start", agent.source)
    daemon.wait_streaming(agent.source, 60)
    assert len(agent.program.log.read_text().splitlines()) - refused < 40, "the agent is not quiet"
    daemon.point(agent.source, "after")
    assert first_difference(disk, daemon.export(agent.source, "root", "after")) is None
    names = [e["event"] for e in daemon.events()]
    assert "source_stopped" in names and "source_started" in names


def test_a_source_is_deleted_only_when_it_is_stopped_and_then_wholly(rig):
    daemon = rig.daemon()
    (goes, stays), (_, copy) = two_sources(rig, daemon)
    late = daemon.token(source=goes.source)
    with pytest.raises(Refusal) as refusal:
        daemon.request("DELETE", "/v1/source-servers/%s" % goes.source, admin=True)
    assert refusal.value.status == 409 and "source stop" in refusal.value.problem["detail"]
    daemon.ctl("source", "stop", goes.source, "--yes")
    wait_for(lambda: not daemon.is_streaming(goes.source), 10, "the agent to go")
    unasked = daemon.ctl("source", "delete", goes.source, check=2)
    assert "points in time" in unasked.stderr and is_known(daemon, goes.source)
    daemon.ctl("source", "delete", goes.source, "--yes", "--wait", "--json")
    assert not is_known(daemon, goes.source)
    assert folders(daemon) == [stays.source], "--wait was over before the files were gone"
    assert [e["sourceServerID"] for e in daemon.events("source_deleted")] == [goes.source]
    daemon.ctl("source", "show", goes.source, check=4)
    wait_for(lambda: "revoked or not known" in goes.status()["lastError"], 60, "its agent to be refused")
    with pytest.raises(AssertionError):
        goes.enroll(late, None, "--force")
    check_stays(daemon, stays, copy)
    daemon.stop()
    assert rows(daemon, goes.source) == 0 and rows(daemon, stays.source) > 0
    daemon.start()
    assert not is_known(daemon, goes.source)
    daemon.wait_streaming(stays.source)
    check_stays(daemon, stays, copy)


def test_nothing_is_deleted_under_an_export(rig):
    daemon = rig.daemon()
    disk = rig.file("disk", random_bytes(rig.random, 64 * MIB))  # more than sockets hold
    agent = ready_agent(rig, daemon, {"root": disk})
    point = daemon.point(agent.source, "kept")["pointInTimeID"]
    daemon.ctl("source", "stop", agent.source, "--yes")
    wait_for(lambda: not daemon.is_streaming(agent.source), 10, "the agent to go")
    path = "/v1/points-in-time/%s/volumes/root/data?sourceServerID=%s" % (point, agent.source)
    with contextlib.closing(UnixConnection(daemon.run_dir / "admin.sock", 60)) as connection:
        connection.request("GET", path)
        assert connection.getresponse().read(32)
        done = daemon.ctl("source", "delete", agent.source, "--yes", check=1)
        assert "export" in done.stderr
        assert is_known(daemon, agent.source)
    wait_for(lambda: daemon.ctl("source", "delete", agent.source, "--yes", check=None).returncode == 0, 20, "the export to be over")
    wait_gone(daemon, agent.source)


@pytest.mark.parametrize("step", ["doomed", "renamed", "rows gone", "half removed"])
def test_a_deletion_that_was_cut_is_gone_on_with_at_the_next_start(rig, step):
    daemon = rig.daemon()
    (goes, stays), (_, copy) = two_sources(rig, daemon)
    for agent in (goes, stays):
        agent.stop()
    daemon.stop()
    with registry(daemon) as database:
        database.execute("UPDATE source SET phase = ? WHERE id = ?", (DELETING, goes.source))
        if step in ("rows gone", "half removed"):
            database.execute("DELETE FROM source WHERE id = ?", (goes.source,))
    folder = daemon.data / "sources" / goes.source
    if step != "doomed":
        folder = folder.rename(folder.with_name("deleted-" + goes.source))
    if step == "half removed":
        shutil.rmtree(folder / "journal")
        next(folder.glob("*.img")).unlink()
    daemon.start()
    wait_gone(daemon, goes.source)
    check_stays(daemon, stays, copy)
    daemon.stop()
    assert folders(daemon) == [stays.source]


def is_whole(daemon, source):
    """Not gone, and not going."""
    try:
        return daemon.state(source) != "STOPPED"
    except Refusal:
        return False


def test_a_daemon_killed_in_a_deletion_has_it_whole_or_not_at_all(rig):
    """SIGKILL after the n-th system call that changes names or syncs, from the command on."""
    daemon = rig.daemon()
    disk = rig.file("disk", random_bytes(rig.random, 2 * MIB))
    outcomes = set()
    for n in range(1, 8):
        agent = ready_agent(rig, daemon, {"root": disk})
        daemon.point(agent.source, "kept")
        agent.stop()
        wait_for(lambda: not daemon.is_streaming(agent.source), 10, "the agent to go")
        tracer = rig.program("strace%d" % n, ["strace", "-f", "-p", daemon.program.pid, "-o", rig.path("trace%d" % n), "-e",
                                              "inject=pwrite64,fdatasync,fsync,rename:signal=KILL:when=%d" % n])
        wait_for(lambda: "attached" in tracer.log.read_text(), 20, "strace to attach")
        run(BUILD / "holdfastctl", "source", "delete", agent.source, "--yes", "--socket", daemon.run_dir, check=False)
        wait_for(lambda: not daemon.program.is_alive(), 20, "the daemon to be killed")
        tracer.kill()
        daemon.start()
        whole = is_whole(daemon, agent.source)
        if whole:
            assert first_difference(disk, daemon.export(agent.source, "root", "kept")) is None
            daemon.request("DELETE", "/v1/source-servers/%s" % agent.source, admin=True)
        wait_gone(daemon, agent.source)
        outcomes.add(whole)
    assert outcomes == {True, False}, "no kill came before, or none after, the moment it is decided"
