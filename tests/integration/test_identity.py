# SPDX-License-Identifier: Apache-2.0
"""A volume is a disk, not a path."""
import os

import pytest

from harness import IS_ROOT, MIB, copy_of, first_difference, random_bytes, ready_agent, run, wait_for

needs_loop = pytest.mark.skipif(not IS_ROOT, reason="loop devices need root")


def state_of(daemon, agent, volume="root"):
    return next(v["volumeState"] for v in daemon.items("/v1/volumes?sourceServerID=%s" % agent.source) if v["name"] == volume)


@needs_loop
def test_two_swapped_loop_devices_are_followed(rig):
    daemon = rig.daemon()
    images = {name: rig.file(name + ".img", random_bytes(rig.random, 4 * MIB)) for name in ("one", "two")}
    devices = {name: rig.loop(image) for name, image in images.items()}
    agent = ready_agent(rig, daemon, devices)
    run("losetup", "--detach", devices["one"])
    run("losetup", "--detach", devices["two"])
    wait_for(lambda: not any(os.path.exists("/sys/block/%s/loop/backing_file" % d[5:]) for d in devices.values()), 20, "the devices to be free")
    run("losetup", devices["one"], images["two"])
    run("losetup", devices["two"], images["one"])
    for image in images.values():
        with open(image, "r+b") as f:
            f.write(random_bytes(rig.random, MIB))
    daemon.point(agent.source, "swapped")
    for name, image in images.items():
        assert first_difference(image, daemon.export(agent.source, name, "swapped")) is None, name
    wait_for(lambda: len(daemon.events("volume_moved")) >= 2, 5, "the events")
    agent.stop()


def test_a_file_that_was_replaced_is_another_disk_and_nothing_of_it_is_sent(rig):
    daemon = rig.daemon()
    disk = rig.file("disk", random_bytes(rig.random, 2 * MIB))
    agent = ready_agent(rig, daemon, {"root": disk})
    before = copy_of(disk, rig.path("before"))
    keep_inode = open(disk, "rb")  # so that the new file cannot get the old one's number
    disk.unlink()
    rig.file("disk", random_bytes(rig.random, 2 * MIB))
    daemon.wait_state(agent.source, "STALLED")
    source = daemon.source(agent.source)
    assert source["dataReplicationInfo"]["dataReplicationError"]["error"] == "DISK_IDENTITY"
    assert state_of(daemon, agent) == "IDENTITY_MISSING"
    assert first_difference(before, daemon.export(agent.source, "root", "latest")) is None
    agent.stop()
    keep_inode.close()


def test_a_disk_that_shrank_is_refused_and_taken_again_when_it_is_whole(rig):
    daemon = rig.daemon()
    data = random_bytes(rig.random, 2 * MIB)
    disk = rig.file("disk", data)
    agent = ready_agent(rig, daemon, {"root": disk})
    os.truncate(disk, MIB)
    daemon.wait_state(agent.source, "STALLED")
    assert state_of(daemon, agent) == "SHRUNK"
    with open(disk, "r+b") as f:
        f.write(data)
    daemon.wait_state(agent.source, "CONTINUOUS")
    daemon.point(agent.source, "whole")
    assert first_difference(disk, daemon.export(agent.source, "root", "whole")) is None
    agent.stop()


def test_only_one_agent_runs_on_a_state_directory(rig):
    daemon = rig.daemon()
    disk = rig.file("disk", random_bytes(rig.random, MIB))
    agent = ready_agent(rig, daemon, {"root": disk})
    done = run(*agent.command(), check=False)
    assert done.returncode == 1 and "another holdfast-agent" in done.stderr
    agent.stop()


def test_a_launched_copy_does_not_go_on_with_the_stream(rig):
    daemon = rig.daemon()
    disk = rig.file("disk", random_bytes(rig.random, MIB))
    agent = rig.agent(daemon, {"root": disk})
    (agent.state_dir / "launched-copy").touch()
    done = run(*agent.command("--once"), check=False)
    assert done.returncode == 1 and "launched" in done.stderr
