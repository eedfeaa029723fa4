# SPDX-License-Identifier: Apache-2.0
"""Points in time: what a disk held at three moments, found by every name a moment has."""
import datetime
import json

import pytest

from harness import BLOCK, MIB, Refusal, copy_of, first_difference, random_bytes, ready_agent, wait_for


def scribble(rig, disk, blocks=50):
    with open(disk, "r+b") as f:
        for _ in range(blocks):
            f.seek(rig.random.randrange(disk.stat().st_size // BLOCK) * BLOCK)
            f.write(rig.random.randbytes(BLOCK))


@pytest.fixture(name="three", scope="module")
def three_fixture(house):
    """A source with three named points, and the private copies made at each."""
    disks = {name: house.file(name, random_bytes(house.random, 6 * MIB + 123)) for name in ("root", "data")}
    agent = ready_agent(house, house.served, disks)
    points = []
    for moment in ("one", "two", "three"):
        for disk in disks.values():
            scribble(house, disk)
        point = house.served.point(agent.source, moment)
        points.append((point, {name: copy_of(disk, house.path("%s-%s.copy" % (name, moment))) for name, disk in disks.items()}))
    for disk in disks.values():
        scribble(house, disk)
    agent.points = points
    return agent


def test_each_moment_comes_back_on_every_volume(house, three):
    for point, copies in three.points:
        assert point["complete"] and point["kept"] and point["byHand"] and point["consistency"] == "crash"
        for volume, copy in copies.items():
            assert first_difference(copy, house.served.export(three.source, volume, point["pointInTimeID"])) is None


def test_a_point_is_found_by_name_and_by_time(house, three):
    for i, (point, copies) in enumerate(three.points):
        assert first_difference(copies["root"], house.served.export(three.source, "root", point["name"])) is None
        assert first_difference(copies["root"], house.served.export(three.source, "root", point["timestamp"])) is None, i


def test_a_point_that_is_taken_is_told_to_who_listens_and_not_kept_as_an_event(rig):
    daemon = rig.daemon()
    listener = rig.program("listener", ["curl", "-sSN", "--unix-socket", daemon.run_dir / "monitor.sock", "http://localhost/v1/events?follow=1"])

    def taken():
        return [e for e in map(json.loads, listener.log.read_text().splitlines()) if e["event"] == "point_taken"]

    agent = rig.agent(daemon, {"root": rig.file("root", random_bytes(rig.random, MIB))})
    wait_for(lambda: "source_enrolled" in listener.log.read_text(), 20, "the listener")
    agent.start()
    daemon.wait_ready(agent.source)
    wait_for(taken, 20, "the first point of the policy")
    scribble(rig, agent.volumes["root"])
    point = daemon.point(agent.source, "by-hand")["pointInTimeID"]
    wait_for(lambda: len(taken()) == 2, 20, "the point that was asked for")
    kept = [p["pointInTimeID"] for p in daemon.points(agent.source) if p["kept"]]
    assert [e["drs"]["detail"]["DrsSnapshotID"] for e in taken()] == kept and kept[-1] == point
    assert "by its policy" in taken()[0]["text"] and "asked for" in taken()[1]["text"]
    assert all(e["number"] is None and e["sourceServerID"] == agent.source for e in taken())
    assert daemon.events() and not daemon.events("point_taken")


def test_before_the_first_point_there_is_none(house, three):
    to = house.path("never.img")
    done = house.served.ctl("export", "file", three.source, "--volume", "root", "--at", "2001-01-01T00:00:00Z", "-o", to, check=4)
    assert done.stderr and not to.exists()


def test_the_chosen_point_and_the_gap_are_told(house, three):
    point = three.points[1][0]
    to = house.path("told.img")
    done = house.served.ctl("export", "file", three.source, "--volume", "root", "--at", point["timestamp"], "-o", to)
    assert point["pointInTimeID"] in done.stdout + done.stderr


def test_a_point_of_idle_disks_is_found_at_every_moment_it_shows(house, three):
    def idle():
        made = house.served.point(three.source, "idle", newest=True)
        since, until = (datetime.datetime.fromisoformat(made[key]) for key in ("unchangedSince", "timestamp"))
        return (made, since + (until - since) / 2) if (until - since).total_seconds() > 1 else None
    point, between = wait_for(idle, 20, "the newest point to stay true for a while")
    to = house.path("idle.img")
    done = house.served.ctl("export", "file", three.source, "--volume", "root", "--at", between.isoformat(), "-o", to)
    assert point["pointInTimeID"] in done.stderr
    assert first_difference(three.volumes["root"], to) is None


def test_points_stay_after_a_restart_and_after_power_is_cut(house, three):
    before = {p["pointInTimeID"] for p in house.served.points(three.source) if p["kept"]}
    for how in ("stop", "kill"):
        house.served.restart(how)
        house.served.wait_streaming(three.source)
        assert before <= {p["pointInTimeID"] for p in house.served.points(three.source) if p["kept"]}
    for point, copies in three.points:
        assert first_difference(copies["data"], house.served.export(three.source, "data", point["pointInTimeID"])) is None


def test_a_held_point_cannot_be_deleted_until_it_is_released(house, three):
    point = house.served.point(three.source, "held")["pointInTimeID"]
    house.served.ctl("pit", "hold", point)
    assert next(p for p in house.served.points(three.source) if p["pointInTimeID"] == point)["held"]
    house.served.ctl("pit", "delete", point, "--yes", check=1)
    house.served.ctl("pit", "release", point)
    house.served.ctl("pit", "delete", point, "--yes")
    kept = [p for p in house.served.points(three.source) if p["pointInTimeID"] == point and p["kept"]]
    assert kept == []


def test_what_was_answered_is_in_the_list(house, three):
    def find(point):
        return next((p for p in house.served.points(three.source) if p["pointInTimeID"] == point and p["kept"]), None)

    for i in range(5):
        scribble(house, three.volumes["root"], 1)
        point = house.served.point(three.source, "answered-%d" % i)["pointInTimeID"]
        assert find(point)["byHand"]
        for verb, held in (("hold", True), ("release", False)):
            house.served.request("POST", "/v1/points-in-time/%s/%s" % (point, verb), admin=True)
            assert find(point)["held"] == held
        house.served.request("DELETE", "/v1/points-in-time/%s" % point, admin=True)
        assert find(point) is None


def test_points_come_in_pages(house, three):
    path = "/v1/points-in-time?sourceServerID=%s" % three.source
    for disk in three.volumes.values():
        scribble(house, disk)
        house.served.point(three.source, "page-of-%s" % disk.name)
    newest, pages = house.served.get(path + "&limit=1"), []
    cursor = str(int(newest["items"][0]["lsn"]) + 1)  # what comes meanwhile is not asked for
    whole = house.served.get("%s&cursor=%s" % (path, cursor))["items"]
    while cursor:
        page = house.served.get("%s&limit=2&cursor=%s" % (path, cursor))
        assert len(page["items"]) == 2 or not page["nextCursor"]
        pages = page["items"] + pages
        cursor = page["nextCursor"]
    assert [p["lsn"] for p in pages] == [p["lsn"] for p in whole]
    assert len(whole) >= 5


def test_deleting_asks_first(house, three):
    house.served.ctl("pit", "delete", three.points[0][0]["pointInTimeID"], check=2)
    assert any(p["name"] == "one" for p in house.served.points(three.source))


def test_without_the_agent_only_the_newest_durable_point_can_be_kept(rig):
    daemon = rig.daemon()
    disk = rig.file("disk", random_bytes(rig.random, 2 * MIB))
    agent = ready_agent(rig, daemon, {"root": disk})
    copy = copy_of(disk, rig.path("copy"))
    agent.kill()
    daemon.wait_state(agent.source, "DISCONNECTED")
    scribble(rig, disk)
    with pytest.raises(Refusal) as refusal:
        daemon.point(agent.source, "now")
    assert "newest" in refusal.value.problem["detail"] + str(refusal.value.problem["hint"])
    daemon.ctl("pit", "create", agent.source, "--name", "then", "--newest")
    assert first_difference(copy, daemon.export(agent.source, "root", "then")) is None
    again = daemon.ctl("pit", "create", agent.source, "--name", "again", "--newest", check=1)
    assert "then" in again.stderr, "nothing has changed, so it is the same point"
    assert daemon.source(agent.source)["ready"], "a source that is gone may still be recovered"


def test_of_a_block_that_rotted_nothing_is_handed_out(rig):
    daemon = rig.daemon()
    disk = rig.file("disk", random_bytes(rig.random, 2 * MIB))
    agent = ready_agent(rig, daemon, {"root": disk})
    point = daemon.point(agent.source, "sound")["pointInTimeID"]
    agent.stop()
    staging = next((daemon.data / "sources" / agent.source).glob("vol-*.img"))
    with open(staging, "r+b") as f:
        f.seek(300 * BLOCK + 77)
        byte = f.read(1)[0]
        f.seek(300 * BLOCK + 77)
        f.write(bytes([byte ^ 4]))
    to = daemon.export(agent.source, "root", point, check=1)
    assert not to.exists()
    event = wait_for(lambda: daemon.events("integrity_error"), 5, "the event")[-1]
    for word in (str(300 * BLOCK), point, "vol-"):
        assert word in event["text"]
