# SPDX-License-Identifier: Apache-2.0
"""A source is stopped, started again, and deleted: explicitly, whole, and however it is cut."""
import contextlib
import json
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
    assert daemon.state(agent.source) == "STOPPED"
    wait_for(lambda: not agent.is_connected(), 10, "the agent to be sent away")
    for words in (("verify", agent.source), ("pit", "create", agent.source, "--name", "never")):
        assert "holdfastctl source start" in daemon.ctl(*words, check=1).stderr
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


def test_a_source_whose_folder_is_gone_can_be_deleted(rig):
    daemon = rig.daemon()
    (goes, stays), (_, copy) = two_sources(rig, daemon)
    point = daemon.points(goes.source)[0]["pointInTimeID"]
    for agent in (goes, stays):
        agent.stop()
    daemon.stop()
    shutil.rmtree(daemon.data / "sources" / goes.source)
    daemon.start()
    daemon.wait_state(goes.source, "STALLED")
    unseen = daemon.ctl("pit", "hold", point, check=1)
    assert goes.source in unseen.stderr, "whose point it is nobody knows, but that it is none is not known either"
    asked = daemon.ctl("source", "delete", goes.source, check=2)
    assert "all its points in time" in asked.stderr
    daemon.ctl("source", "delete", goes.source, "--yes")
    wait_gone(daemon, goes.source)
    daemon.ctl("pit", "hold", point, check=4)
    check_stays(daemon, stays, copy)


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


# ---- volumes ----

def change_volumes(agent, change):
    """The agent goes, and comes with other volumes. Those it had."""
    path = agent.state_dir / "agent.json"
    agent.stop()
    state = json.loads(path.read_text())
    before, state["volumes"] = state["volumes"], change(state["volumes"])
    path.write_text(json.dumps(state))
    agent.start()
    return before


def names(daemon, source):
    return sorted(d["name"] for d in daemon.source(source)["dataReplicationInfo"]["replicatedDisks"])


def image_of(daemon, source, volume_id):
    return daemon.data / "sources" / source / (volume_id + ".img")


@pytest.fixture(name="lost")
def lost_fixture(rig):
    """A source that had two disks, of which one is gone: point "both" has them, "one" has not."""
    daemon = rig.daemon(storage__segment_size="1MiB", pit__journal_window="1s")
    disks = {name: rig.file(name, random_bytes(rig.random, 3 * MIB)) for name in ("root", "data")}
    agent = ready_agent(rig, daemon, disks)
    with open(disks["data"], "r+b") as f:  # what the journal has of it stays there for a while
        f.write(rig.random.randbytes(MIB))
    daemon.point(agent.source, "both")
    agent.data_id = next(d["volumeID"] for d in daemon.source(agent.source)["dataReplicationInfo"]["replicatedDisks"] if d["name"] == "data")
    agent.before = change_volumes(agent, lambda volumes: [v for v in volumes if v["name"] != "data"])
    wait_for(lambda: names(daemon, agent.source) == ["root"], 20, "the disk to be retired")
    daemon.point(agent.source, "one")
    return agent


def test_a_volume_is_deleted_only_when_it_is_retired_and_no_point_has_it(lost):
    daemon, source = lost.daemon, lost.source
    root = daemon.source(source)["dataReplicationInfo"]["replicatedDisks"][0]["volumeID"]
    listed = dict(line.split("\t") for line in daemon.ctl("volume", "list", source, "-H", "-p", "-o", "id,state").stdout.splitlines())
    assert listed == {root: "OK", lost.data_id: "RETIRED"}
    statuses = {v["volumeID"]: v["volumeStatus"] for v in daemon.items("/v1/volumes?sourceServerID=%s" % source)}
    assert statuses == {root: "REGULAR", lost.data_id: "RETIRED"}
    lost_before = daemon.program.log.read_text().count("event=session_")
    for today in (root, "root"):
        assert "replicated today" in daemon.ctl("volume", "delete", source, today, "--yes", check=1).stderr
    assert lost.data_id in daemon.ctl("volume", "delete", source, "no-such", "--yes", check=4).stderr, "those that are retired are not named"
    refused = daemon.ctl("volume", "delete", source, "data", "--yes", check=1)
    assert "points in time have it" in refused.stderr
    both = next(p for p in daemon.points(source) if p["name"] == "both")
    daemon.request("POST", "/v1/points-in-time/%s/hold" % both["pointInTimeID"], admin=True)
    assert "held" in daemon.ctl("volume", "delete", source, "data", "--yes", "--with-points", check=1).stderr
    assert daemon.program.log.read_text().count("event=session_") == lost_before, "the agent was sent away for a refusal"
    assert image_of(daemon, source, lost.data_id).exists()
    assert first_difference(lost.volumes["data"], daemon.export(source, "data", "both")) is None


def test_a_deleted_volume_goes_with_the_points_that_have_it_and_no_others(lost):
    daemon, source = lost.daemon, lost.source
    daemon.ctl("volume", "delete", source, "data", "--yes", "--with-points")
    wait_for(lambda: daemon.source(source)["ready"], 20, "the source to be open")
    listed = {p["name"] for p in daemon.points(source)}
    assert "one" in listed and "both" not in listed
    wait_for(lambda: lost.data_id not in daemon.ctl("volume", "list", source).stdout, 10, "it to be listed no more")
    assert all(len(p["volumes"]) == 1 for p in daemon.points(source))
    assert not image_of(daemon, source, lost.data_id).exists()
    wait_for(lambda: folders(daemon) == [source], 20, "its files to be gone")
    assert len(daemon.events("volume_deleted")) == 1
    wait_for(lambda: "resume=1" in lost.program.log.read_text(), 20, "the agent to go on without comparing")
    daemon.restart("kill")
    assert first_difference(lost.volumes["root"], daemon.export(source, "root", "one")) is None
    daemon.ctl("scrub", "start", source, "--wait", "--no-progress")
    daemon.stop()
    run(BUILD / "holdfastctl", "fsck", "--data", daemon.data)
    daemon.start()
    change_volumes(lost, lambda volumes: lost.before)  # the disk is back: another volume, filled anew
    wait_for(lambda: names(daemon, source) == ["data", "root"], 20, "the disk to be declared again")
    daemon.wait_state(source, "CONTINUOUS")  # Ready it was all the time: the points without it are whole
    daemon.point(source, "again")
    again = {d["name"]: d for d in daemon.source(source)["dataReplicationInfo"]["replicatedDisks"]}
    assert again["data"]["volumeID"] != lost.data_id and again["data"]["volumeNumber"] == 3
    assert first_difference(lost.volumes["data"], daemon.export(source, "data", "again")) is None


def test_a_volume_whose_deletion_was_cut_is_gone_after_the_next_start(lost):
    daemon, source = lost.daemon, lost.source
    lost.stop()
    daemon.stop()
    with contextlib.closing(sqlite3.connect(daemon.data / "sources" / source / "catalog.db")) as database, database:
        database.execute("DELETE FROM seal")  # these rows are changed by hand
        database.execute("UPDATE volume SET deleted = 1 WHERE id = ?", (lost.data_id,))
        database.execute("DELETE FROM pit WHERE lsn <= (SELECT lsn FROM pit WHERE name = 'both')")
    image = image_of(daemon, source, lost.data_id)
    image.rename(image.with_suffix(".lost"))  # the names may go in any order
    daemon.start()
    assert first_difference(lost.volumes["root"], daemon.export(source, "root", "one")) is None
    assert all(len(p["volumes"]) == 1 for p in daemon.points(source))
    assert not list((daemon.data / "sources" / source).glob(lost.data_id + ".sum"))


def made(daemon, source, name):
    """A point of that name, unless the agent is not there yet."""
    try:
        return daemon.point(source, name)
    except Refusal:
        return None


def test_history_is_folded_over_what_the_journal_has_of_a_deleted_volume(rig, lost):
    daemon, source = lost.daemon, lost.source
    daemon.ctl("volume", "delete", source, "data", "--yes", "--with-points")
    wait_for(lambda: daemon.source(source)["ready"], 20, "the source to be open")
    wait_for(lambda: "resume=1" in lost.program.log.read_text(), 20, "the agent to go on")
    before = int(daemon.source(source)["counters"]["baseLSN"])
    for number in range(3):
        with open(lost.volumes["root"], "r+b") as f:
            f.write(rig.random.randbytes(MIB))
        wait_for(lambda name="late%d" % number: made(daemon, source, name), 20, "a point")
    late = copy_of(lost.volumes["root"], rig.path("late"))

    def folded():
        """The window moves only with a new checkpoint to recover from, and there is none while the disk is written to all the time."""
        newest = int(daemon.newest(source)["lsn"])
        with open(lost.volumes["root"], "r+b") as f:
            f.write(rig.random.randbytes(MIB))
        wait_for(lambda: int(daemon.newest(source)["lsn"]) > newest, 30, "a checkpoint")
        return int(daemon.source(source)["counters"]["baseLSN"]) > before

    for point in daemon.points(source):
        if point["kept"] and point["name"] != "late2":
            daemon.request("DELETE", "/v1/points-in-time/%s" % point["pointInTimeID"], admin=True)
    wait_for(folded, 30, "a fold")
    assert first_difference(late, daemon.export(source, "root", "late2")) is None
    daemon.restart("kill")
    assert first_difference(late, daemon.export(source, "root", "late2")) is None
