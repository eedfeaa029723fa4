# SPDX-License-Identifier: Apache-2.0
"""Room: what gives way when it runs out, in which order, and that everything goes on by itself when there is some again."""
import contextlib
import os
import re
import shutil
import sqlite3

import pytest

from harness import BUILD, IS_ROOT, MIB, Refusal, copy_of, first_difference, random_bytes, ready_agent, run, wait_for

needs_root = pytest.mark.skipif(not IS_ROOT, reason="a file system of its own needs root")
KINDS = [("ext4", 200 * MIB), ("xfs", 320 * MIB), ("btrfs", 320 * MIB)]


def daemon_on(rig, kind="ext4", size=200 * MIB, **settings):
    """A daemon on a small file system; rig.where is its mount point, rig.device, rig.image what is under it."""
    if shutil.which("mkfs." + kind) is None:
        pytest.skip("no mkfs.%s" % kind)
    rig.where, rig.device, rig.image = rig.file_system("staging", size, kind)
    data = rig.where / "data"
    data.mkdir()
    return rig.daemon(data=data, storage__segment_size="4MiB", **settings)


def rewrite(rig, disk):
    with open(disk, "r+b") as f:
        f.write(random_bytes(rig.random, disk.stat().st_size))


def fill_up(rig, leave=0):
    """The filler takes all that is free now but `leave` bytes; not what the daemon gives back meanwhile."""
    filler = rig.where / "filler"
    space = os.statvfs(rig.where)
    left, piece = space.f_bavail * space.f_frsize - leave, 16 * MIB
    with open(filler, "ab") as f:
        while left > 0 and piece >= 4096:
            try:
                os.posix_fallocate(f.fileno(), f.seek(0, os.SEEK_END), min(piece, left))
                left -= min(piece, left)
            except OSError:
                piece //= 2  # metadata takes some, too
    return filler


def error_of(daemon, source):
    return (daemon.source(source)["dataReplicationInfo"]["dataReplicationError"] or {}).get("code")


def wait_error(daemon, source, error, seconds=60):
    wait_for(lambda: error_of(daemon, source) == error, seconds, error)


def area(daemon):
    return daemon.get("/v1/version")["stagingArea"]


def received(daemon, source):
    return daemon.source(source)["counters"]["receivedBytes"]


# ---- quotas ----

def test_a_source_at_its_quota_stalls_alone_and_goes_on_with_more(rig):
    daemon = rig.daemon(storage__segment_size="8MiB")  # of the quota more is left, in the end, than a hundredth, and less than a segment
    disks = {name: rig.file(name, random_bytes(rig.random, 8 * MIB)) for name in ("busy", "calm")}
    busy, calm = (ready_agent(rig, daemon, {"root": disk}) for disk in disks.values())
    daemon.ctl("quota", "set", busy.source, "40MiB")
    for turn in range(8):
        if error_of(daemon, busy.source) == "QUOTA_REACHED":
            break
        rewrite(rig, disks["busy"])
        daemon.ctl("pit", "create", busy.source, "--name", "busy-%d" % turn, "--timeout", "8s", check=None)
    wait_error(daemon, busy.source, "QUOTA_REACHED")
    assert daemon.state(busy.source) == "STALLED"
    assert "holdfastctl quota set %s" % busy.source in daemon.ctl("status").stdout
    assert daemon.is_streaming(busy.source), "a quota is no reason to cut the session"
    taken = daemon.source(busy.source)["space"]["usage"]["totalBytes"]
    assert 32 * MIB < taken <= (40 + 4 + 2) * MIB, "the quota, what was on its way, and a run; and not long before it"
    rewrite(rig, disks["calm"])
    daemon.point(calm.source, "meanwhile")
    assert first_difference(disks["calm"], daemon.export(calm.source, "root", "meanwhile")) is None
    assert error_of(daemon, busy.source) == "QUOTA_REACHED"
    assert [e["sourceServerID"] for e in daemon.events("quota_reached")] == [busy.source]
    daemon.ctl("quota", "set", busy.source, "none")
    daemon.wait_state(busy.source, "CONTINUOUS", seconds=60)
    daemon.point(busy.source, "after")
    assert first_difference(disks["busy"], daemon.export(busy.source, "root", "after")) is None
    wait_for(lambda: daemon.events("quota_room"), 30, "its event")
    busy.stop()
    calm.stop()


def test_a_quota_is_kept_over_a_restart_and_a_wrong_one_is_refused(rig):
    daemon = rig.daemon()
    agent = ready_agent(rig, daemon, {"root": rig.file("disk", random_bytes(rig.random, MIB))})
    daemon.ctl("quota", "set", agent.source, "7GiB", "--when-full", "thin")
    daemon.restart("kill")
    space = wait_for(lambda: (lambda s: s if s["quotaBytes"] else None)(daemon.source(agent.source)["space"]), 30, "the store")
    assert (space["quotaBytes"], space["whenFull"], space["whenFullIsDefault"]) == (7 << 30, "thin", False)
    daemon.ctl("quota", "set", agent.source, "--when-full", "default")  # and the quota stays
    wait_for(lambda: daemon.source(agent.source)["space"]["whenFullIsDefault"], 30, "the default")
    assert daemon.source(agent.source)["space"]["quotaBytes"] == 7 << 30
    for wrong in (["much"], ["0"], ["-1"], []):
        daemon.ctl("quota", "set", agent.source, *wrong, check=2)
    for body in ({}, {"quotaBytes": 0}, {"quotaBytes": "1GiB"}, {"whenFull": "burst"}, {"quota": 1}):
        with pytest.raises(Refusal) as refused:
            daemon.request("POST", "/v1/source-servers/%s/quota" % agent.source, body, admin=True)
        assert refused.value.status == 400
    line = daemon.ctl("quota", "list", "-H", "-p", "-o", "id,quota,full").stdout.strip().split("\t")
    assert line == [agent.source, str(7 << 30), "stall"]
    agent.stop()


# ---- the order in which things go ----

@needs_root
def test_the_journal_window_goes_first_and_replication_goes_on(rig):
    """More than fits comes in; only the window holds it, so nobody has to be asked."""
    daemon = daemon_on(rig)
    disk = rig.file("disk", random_bytes(rig.random, 16 * MIB))
    agent = ready_agent(rig, daemon, {"root": disk})
    daemon.point(agent.source, "first")
    first = copy_of(disk, rig.path("first.copy"))
    while received(daemon, agent.source) < 300 * MIB:
        before = received(daemon, agent.source)
        rewrite(rig, disk)
        wait_for(lambda before=before: received(daemon, agent.source) >= before + 8 * MIB, 120, "replication to go on")
    assert daemon.events("window_shortened")
    assert daemon.source(agent.source)["space"]["pointsGivenUp"] == 0
    daemon.point(agent.source, "last", seconds=120)
    assert first_difference(disk, daemon.export(agent.source, "root", "last")) is None
    assert first_difference(first, daemon.export(agent.source, "root", "first")) is None
    agent.stop()


@needs_root
@pytest.mark.parametrize("thin", [True, False], ids=["thin", "stall"])
def test_a_point_of_the_policy_goes_only_when_that_is_wanted(rig, thin):
    daemon = daemon_on(rig, storage__when_full="thin" if thin else "stall")
    disk = rig.file("disk", random_bytes(rig.random, 16 * MIB))
    agent = ready_agent(rig, daemon, {"root": disk})
    wait_for(lambda: any(p["ruleIDs"] for p in daemon.points(agent.source)), 30, "a point of the policy")
    by_policy = next(p["pointInTimeID"] for p in daemon.points(agent.source) if p["ruleIDs"])
    rewrite(rig, disk)
    named = daemon.point(agent.source, "named")["pointInTimeID"]
    wait_for(lambda: next(p for p in daemon.points(agent.source) if p["pointInTimeID"] == named)["verified"], 90, "it to be read back")
    filler = fill_up(rig, leave=2 * MIB)
    wait_for(lambda: daemon.events("window_shortened") or daemon.source(agent.source)["space"]["level"] != "easy", 30, "pressure")
    if thin:
        wait_for(lambda: daemon.events("point_thinned"), 60, "a point to be given up")
        assert by_policy not in [p["pointInTimeID"] for p in daemon.points(agent.source)]
    else:
        rewrite(rig, disk)
        wait_error(daemon, agent.source, "STAGING_FULL")
        assert by_policy in [p["pointInTimeID"] for p in daemon.points(agent.source)]
        assert not daemon.events("point_thinned")
    assert named in [p["pointInTimeID"] for p in daemon.points(agent.source)]
    filler.unlink()
    daemon.wait_state(agent.source, "CONTINUOUS", seconds=60)
    agent.stop()


# ---- full to the last byte ----

def held_by_points(rig, daemon, agent, disk):
    """Points by hand until nothing more fits: [(name, copy)]."""
    points = []
    while error_of(daemon, agent.source) != "STAGING_FULL":
        name = "p%d" % len(points)
        done = daemon.ctl("pit", "create", agent.source, "--name", name, "--timeout", "10s", check=None)
        if done.returncode == 0:
            points.append((name, copy_of(disk, rig.path(name + ".copy"))))
        assert len(points) < 50
        rewrite(rig, disk)
    return points


def advised(daemon):
    """The first point that status tells to delete: (id, what that frees)."""
    found = re.search(r"holdfastctl pit delete (pit-\w+) +# of [^ ]+: frees (.+)", daemon.ctl("status").stdout)
    return found and found.groups()


def costliest(daemon, source):
    """The same from the list of points."""
    points = {p["pointInTimeID"]: p["freedBytesIfDeleted"] for p in daemon.points(source)[:-1] if p["kept"]}
    if None in points.values():
        return None
    most = max(points, key=points.get)
    texts = dict(line.split("\t") for line in daemon.ctl("pit", "list", source, "-H", "-o", "id,frees").stdout.splitlines())
    return points[most] > 0 and (most, texts[most])


def is_full(rig, daemon):
    """With the reserve in use. A fold may make some room again for a while: then the disk is filled up once more, but not while
    the reserve is in use, for who takes it then takes it for good."""
    space = area(daemon)
    in_use = space["reserveHeldBytes"] < space["reserveBytes"]
    if not in_use and space["state"] != "FULL":
        fill_up(rig)
    return in_use and space["state"] == "FULL"


@needs_root
@pytest.mark.parametrize("kind, size", KINDS, ids=[kind for kind, _ in KINDS])
def test_on_a_full_disk_points_are_readable_and_deleting_some_makes_room(rig, kind, size):
    daemon = daemon_on(rig, kind, size)
    disk = rig.file("disk", random_bytes(rig.random, 16 * MIB))
    agent = ready_agent(rig, daemon, {"root": disk})
    points = held_by_points(rig, daemon, agent, disk)
    assert len(points) > 4
    wait_for(lambda: is_full(rig, daemon), 90, "the reserve to be used")
    assert "reserve_released" in daemon.program.log.read_text()  # no room, perhaps, to keep it as an event
    wait_for(lambda: advised(daemon) == costliest(daemon, agent.source), 30, "status to name the point that frees most")
    daemon.restart("kill")
    daemon.wait_streaming(agent.source)
    for name, copy in points:
        assert first_difference(copy, daemon.export(agent.source, "root", name)) is None, name
    ids = {p["name"]: p["pointInTimeID"] for p in daemon.points(agent.source) if p["name"]}
    for name, _ in points[:-1]:
        daemon.ctl("pit", "delete", ids[name], "--yes")
    daemon.wait_state(agent.source, "CONTINUOUS", seconds=90)
    wait_for(lambda: area(daemon)["reserveHeldBytes"] >= area(daemon)["reserveBytes"], 60, "the reserve to be made again")
    daemon.point(agent.source, "after", seconds=120)
    assert first_difference(disk, daemon.export(agent.source, "root", "after")) is None
    assert first_difference(points[-1][1], daemon.export(agent.source, "root", points[-1][0])) is None
    agent.stop()


def eat_up(rig, daemon):
    """The reserve, too, and what is root's alone: whatever is given back is taken at once, until nothing is left."""
    filler = rig.where / "filler"
    filler.touch()

    def eaten():
        before, space, held = filler.stat().st_size, os.statvfs(rig.where), area(daemon)["reserveHeldBytes"]
        fill_up(rig, leave=(space.f_bavail - space.f_bfree) * space.f_frsize)
        return held == 0 and filler.stat().st_size == before
    wait_for(eaten, 60, "the reserve to be eaten")


def audited(daemon):
    """[(verb, object, result)]. The daemon is stopped."""
    with contextlib.closing(sqlite3.connect(daemon.data / "holdfast.db")) as database:
        return database.execute("SELECT verb, object, result FROM audit ORDER BY number").fetchall()


@needs_root
@pytest.mark.parametrize("kind, size", KINDS[::2], ids=[kind for kind, _ in KINDS[::2]])
def test_on_a_disk_full_beyond_the_reserve_points_are_readable_and_all_is_audited_later(rig, kind, size):
    daemon = daemon_on(rig, kind, size)
    disk = rig.file("disk", random_bytes(rig.random, 8 * MIB))
    agent = ready_agent(rig, daemon, {"root": disk})
    goes = daemon.point(agent.source, "goes")["pointInTimeID"]
    rewrite(rig, disk)
    stays = daemon.point(agent.source, "stays")["pointInTimeID"]
    agent.stop()
    eat_up(rig, daemon)
    for _ in range(6):
        assert first_difference(disk, daemon.export(agent.source, "root", stays, to=rig.path("out"), force=True)) is None
    refused = daemon.ctl("token", "create", check=None)
    assert refused.returncode == 0 or "nothing was changed" in refused.stderr
    deleted = daemon.ctl("pit", "delete", goes, "--yes", check=None)
    assert deleted.returncode == 0 or kind == "btrfs", deleted.stderr  # Btrfs writes nothing again where it is
    (rig.where / "filler").unlink()
    wait_for(lambda: daemon.get("/v1/version")["rowsWaiting"] == 0, 60, "the rows to be written")
    daemon.stop()
    rows = audited(daemon)
    exports = [result for verb, what, result in rows if verb == "export" and stays in what]
    assert exports.count("") == 6 and exports.count("OK") == 6
    assert ("pit.delete", goes, "") in rows
    assert daemon.start().ctl("audit", "--verify").stdout.startswith("intact: ")


@needs_root
def test_a_larger_file_system_lets_everything_go_on(rig):
    daemon = daemon_on(rig, "xfs", 320 * MIB)
    disk = rig.file("disk", random_bytes(rig.random, 16 * MIB))
    agent = ready_agent(rig, daemon, {"root": disk})
    fill_up(rig)
    rewrite(rig, disk)
    wait_for(lambda: area(daemon)["state"] == "FULL", 30, "FULL")
    wait_error(daemon, agent.source, "STAGING_FULL")
    os.truncate(rig.image, 600 * MIB)
    run("losetup", "--set-capacity", rig.device)
    run("xfs_growfs", rig.where)
    daemon.wait_state(agent.source, "CONTINUOUS", seconds=60)
    wait_for(lambda: daemon.events("staging_room"), 30, "its event")
    daemon.point(agent.source, "after")
    assert first_difference(disk, daemon.export(agent.source, "root", "after")) is None
    agent.stop()


@needs_root
def test_a_full_disk_of_journals_stalls_and_goes_on_too(rig):
    rig.where, _, _ = rig.file_system("journals", 100 * MIB)
    root = rig.where / "root"
    root.mkdir(mode=0o700)
    daemon = rig.daemon(storage__journal_dir=root, storage__segment_size="4MiB")
    disk = rig.file("disk", random_bytes(rig.random, 8 * MIB))
    agent = ready_agent(rig, daemon, {"root": disk})
    daemon.point(agent.source, "before")
    before = copy_of(disk, rig.path("before.copy"))
    wait_for(lambda: daemon.source(agent.source)["space"]["usage"], 30, "its usage to be counted")
    filler = fill_up(rig)
    rewrite(rig, disk)
    wait_error(daemon, agent.source, "STAGING_FULL")
    wait_for(lambda: daemon.get("/v1/version")["journalArea"]["state"] == "FULL", 30, "FULL")
    assert area(daemon)["state"] == "OK"
    wait_for(lambda: any(str(root) in e["text"] for e in daemon.events("staging_full")), 30, "its event")
    assert first_difference(before, daemon.export(agent.source, "root", "before")) is None
    filler.unlink()
    daemon.wait_state(agent.source, "CONTINUOUS", seconds=60)
    daemon.point(agent.source, "after")
    assert first_difference(disk, daemon.export(agent.source, "root", "after")) is None
    agent.stop()
    daemon.stop()
    run(BUILD / "holdfastctl", "fsck", daemon.data)


# ---- what is told ----

@needs_root
def test_room_is_told_before_it_runs_out(rig):
    daemon = daemon_on(rig)
    healthy = area(daemon)
    assert healthy["state"] == "OK" and healthy["daysToFull"] is None and healthy["growthBytesPerDay"] is None
    assert healthy["reserveHeldBytes"] >= healthy["reserveBytes"] > 0
    assert "growth not known yet" in daemon.ctl("status").stdout
    filler = fill_up(rig, leave=20 * MIB)
    wait_for(lambda: area(daemon)["state"] == "LOW", 30, "the warning")
    wait_for(lambda: daemon.events("space_low"), 30, "its event")
    assert "LOW" in daemon.ctl("status").stdout
    assert "to make room" not in daemon.ctl("status", "-H").stdout, "scripts read tables"
    assert daemon.get("/v1/health")["status"] == "ok", "a warning is no failure"
    filler.unlink()
    wait_for(lambda: daemon.events("space_enough"), 30, "the all-clear")
    assert area(daemon)["state"] == "OK"
