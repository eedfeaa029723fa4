# SPDX-License-Identifier: Apache-2.0
"""The staging area is full: back-pressure, nothing lost, and on by itself when there is room again."""
import os

import pytest

from harness import IS_ROOT, MIB, copy_of, first_difference, random_bytes, ready_agent, wait_for

pytestmark = pytest.mark.skipif(not IS_ROOT, reason="a file system of its own needs root")


@pytest.fixture(name="small")
def small_fixture(rig):
    """A daemon on a file system of 160 MiB."""
    where, _, _ = rig.file_system("staging", 160 * MIB)
    rig.where = where
    data = where / "data"
    data.mkdir()
    rig.served = rig.daemon(data=data, storage__segment_size="4MiB")
    return rig


def fill_up(rig, leave=0):
    """The filler file takes all that is free but `leave` bytes."""
    filler = rig.where / "filler"
    with open(filler, "wb") as f:
        space = os.statvfs(rig.where)
        size = space.f_bavail * space.f_frsize - leave
        os.posix_fallocate(f.fileno(), 0, size)
    return filler


def rewrite(rig, disk):
    with open(disk, "r+b") as f:
        f.write(random_bytes(rig.random, disk.stat().st_size))


def error_of(daemon, source):
    return (daemon.source(source)["dataReplicationInfo"]["dataReplicationError"] or {}).get("code")


def test_a_filler_file_stalls_replication_and_its_end_lets_it_go_on(small):
    daemon = small.served
    disk = small.file("disk", random_bytes(small.random, 16 * MIB))
    agent = ready_agent(small, daemon, {"root": disk})
    daemon.point(agent.source, "before")
    before = copy_of(disk, small.path("before.copy"))
    filler = fill_up(small, leave=2 * MIB)
    rewrite(small, disk)
    wait_for(lambda: error_of(daemon, agent.source) == "STAGING_FULL", 30, "STAGING_FULL")
    assert daemon.state(agent.source) == "STALLED"
    assert daemon.program.is_alive() and agent.program.is_alive()
    assert daemon.is_streaming(agent.source), "a full disk is no reason to cut the session"
    assert first_difference(before, daemon.export(agent.source, "root", "before")) is None
    filler.unlink()
    daemon.wait_state(agent.source, "CONTINUOUS", seconds=60)
    wait_for(lambda: daemon.events("stall_ended"), 20, "the event of its end")
    assert [e["drs"]["detail"]["state"] for e in daemon.events() if e["drs"]] == ["STALLED", "NOT_STALLED"]
    daemon.point(agent.source, "after")
    assert first_difference(disk, daemon.export(agent.source, "root", "after")) is None
    assert first_difference(before, daemon.export(agent.source, "root", "before")) is None
    agent.stop()


def test_full_to_the_last_byte_and_killed_it_comes_back(small):
    daemon = small.served
    disk = small.file("disk", random_bytes(small.random, 16 * MIB))
    agent = ready_agent(small, daemon, {"root": disk})
    daemon.point(agent.source, "before")
    before = copy_of(disk, small.path("before.copy"))
    filler = fill_up(small)
    rewrite(small, disk)
    wait_for(lambda: error_of(daemon, agent.source) == "STAGING_FULL", 30, "STAGING_FULL")
    daemon.restart("kill")
    wait_for(lambda: daemon.is_streaming(agent.source), 30, "the agent to come back")
    assert first_difference(before, daemon.export(agent.source, "root", "before")) is None
    filler.unlink()
    daemon.wait_state(agent.source, "CONTINUOUS", seconds=60)
    daemon.point(agent.source, "after")
    assert first_difference(disk, daemon.export(agent.source, "root", "after")) is None
    agent.stop()


def test_a_first_fill_waits_for_room(small):
    daemon = small.served
    filler = fill_up(small, leave=24 * MIB)
    disk = small.file("disk", random_bytes(small.random, 64 * MIB))
    agent = small.agent(daemon, {"root": disk}).start()
    wait_for(lambda: error_of(daemon, agent.source) == "STAGING_FULL", 30, "STAGING_FULL")
    assert not daemon.source(agent.source)["ready"]
    filler.unlink()
    daemon.wait_ready(agent.source)
    assert first_difference(disk, daemon.export(agent.source, "root", "latest")) is None
    agent.stop()
