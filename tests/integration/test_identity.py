# SPDX-License-Identifier: Apache-2.0
"""A volume is a disk, not a path."""
import os
import pathlib
import subprocess
import time

import pytest

from harness import BLOCK, IS_ROOT, MIB, copy_of, first_difference, own_mounts, random_bytes, ready_agent, run, wait_for

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


# ---- a disk and its clone ----

class SysTree:
    """A /sys of the test's own, in which loop devices are disks that the kernel knows nothing about, so that they are recognised
    by their partition tables. Only a program started with `prefix` sees it, in a mount name space that ends with it."""

    def __init__(self, rig):
        self.top = rig.path("sys")
        for folder in ("block", "devices", "dev/block"):
            (self.top / folder).mkdir(parents=True)
        self.prefix = [*own_mounts(), "sh", "-c", 'mount -o bind,relatime "$0" /sys && exec "$@"', self.top]

    def attach(self, device):
        name = os.path.basename(device)
        real, made = pathlib.Path("/sys/block") / name, self.top / "devices" / name
        made.mkdir()
        for attribute in ("dev", "size", "ro", "removable"):
            (made / attribute).write_text((real / attribute).read_text())
        (self.top / "dev/block" / (real / "dev").read_text().strip()).symlink_to("../../devices/" + name)
        (self.top / "block" / name).symlink_to("../devices/" + name)

    def detach(self, device):
        (self.top / "block" / os.path.basename(device)).unlink()

    def wait_looked(self, device):
        """Until the agent has read an attribute of the device once more: that moves the time of access from 1970 to now."""
        attribute = self.top / "devices" / os.path.basename(device) / "size"
        os.utime(attribute, (0, time.time()))
        wait_for(lambda: attribute.stat().st_atime > 0, 20, "the agent to look at %s" % device)


def write_block(rig, device):
    """Beyond the partition table, through the device."""
    with open(device, "r+b") as f:
        f.seek(MIB + BLOCK * rig.random.randrange(256))
        f.write(rig.random.randbytes(BLOCK))
        f.flush()
        os.fsync(f.fileno())


@needs_loop
def test_while_a_clone_of_a_disk_is_attached_nothing_of_either_is_sent(rig):
    daemon = rig.daemon()
    tree = SysTree(rig)
    image = rig.file("disk.img", random_bytes(rig.random, 4 * MIB))
    subprocess.run(["sfdisk", "--quiet", "--wipe", "always", image], input="label: gpt\n,,\n", text=True, check=True, capture_output=True)
    disk, clone = rig.loop(image), rig.loop(copy_of(image, rig.path("clone.img")))
    tree.attach(disk)
    agent = ready_agent(rig, daemon, {"root": disk}, prefix=tree.prefix)
    volume = daemon.items("/v1/volumes?sourceServerID=%s" % agent.source)[0]
    assert volume["identity"].startswith("ptuuid:"), volume
    tree.attach(clone)
    daemon.wait_state(agent.source, "STALLED")
    error = daemon.source(agent.source)["dataReplicationInfo"]["dataReplicationError"]
    assert error["code"] == "DISK_IDENTITY" and "two disks of the source have its identity" in error["rawError"], error
    assert state_of(daemon, agent) == "IDENTITY_AMBIGUOUS"
    wait_for(lambda: [e for e in daemon.events("volume_ambiguous") if e["sourceServerID"] == agent.source and "2 disks have the identity" in e["text"]],
             20, "its event")
    before = copy_of(image, rig.path("before"))
    received = daemon.source(agent.source)["counters"]["receivedBytes"]
    for device in (disk, clone):
        write_block(rig, device)
    for _ in range(3):
        tree.wait_looked(disk)
    assert daemon.state(agent.source) == "STALLED"
    assert daemon.source(agent.source)["counters"]["receivedBytes"] == received
    assert first_difference(before, daemon.export(agent.source, "root", "latest")) is None
    tree.detach(clone)
    daemon.wait_state(agent.source, "CONTINUOUS")
    daemon.point(agent.source, "alone")
    assert first_difference(image, daemon.export(agent.source, "root", "alone")) is None
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
    assert source["dataReplicationInfo"]["dataReplicationError"]["code"] == "DISK_IDENTITY"
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
