# SPDX-License-Identifier: Apache-2.0
"""Sources that want more than the disk, or the line, gives: all the same, but one that is late goes first."""
import time

import pytest

from far import Far
from faulty_disk import FaultyDisk
from harness import IS_ROOT, MIB, random_bytes, run, wait_for

pytestmark = pytest.mark.skipif(not IS_ROOT, reason="a file system of its own needs root")

SIZE = 64 * MIB  # of a disk: much more than is on its way


@pytest.fixture(name="slow")
def slow_fixture(rig):
    """A daemon whose disk writes one request after the other, and can be made slow."""
    image = rig.empty_file("area.img", 512 * MIB)
    rig.disk = FaultyDisk(rig, image)
    device = rig.loop(rig.disk.path)
    run("mkfs.ext4", "-q", "-O", "^has_journal", "-E", "lazy_itable_init=0", device)
    where = rig.mount(device, "area")
    data = where / "data"
    data.mkdir()
    rig.served = rig.daemon(data=data, ingest__credit="8MiB")
    return rig


def durable(daemon, source):
    return daemon.source(source)["counters"]["durableBytes"]


def gains(daemon, sources, megabytes):
    """What each got while all of them together got so much."""
    before = [durable(daemon, s) for s in sources]

    def enough():
        now = [durable(daemon, s) - b for s, b in zip(sources, before)]
        return now if sum(now) >= megabytes * MIB else None
    return wait_for(enough, 60, "%d MiB to be durable" % megabytes)


def test_who_wants_as_much_gets_as_much(slow):
    daemon = slow.served
    agents = [slow.agent(daemon, {"root": slow.file("disk%d" % i, random_bytes(slow.random, SIZE))}) for i in range(2)]
    slow.disk.delay("write", 0.01)
    for agent in agents:
        agent.start()
    wait_for(lambda: all(durable(daemon, a.source) > 0 for a in agents), 60, "both to be under way")
    one, other = gains(daemon, [a.source for a in agents], 24)
    assert one < 2 * other and other < 2 * one
    slow.disk.heal()


def test_who_is_nearer_to_its_target_goes_first(slow):
    daemon = slow.served
    disks = [slow.file("disk%d" % i, random_bytes(slow.random, SIZE)) for i in range(2)]
    agents = [slow.agent(daemon, {"root": disk}).start() for disk in disks]
    late, other = (agent.source for agent in agents)
    for agent in agents:
        daemon.wait_ready(agent.source)
    daemon.ctl("source", "set", late, "rpo-target=1s")
    daemon.ctl("source", "set", other, "rpo-target=1d")
    changed = [random_bytes(slow.random, SIZE) for _ in disks]
    slow.disk.delay("write", 0.06)  # long enough for a trial: twice five seconds
    before = [durable(daemon, source) for source in (late, other)]
    for disk, data in reversed(list(zip(disks, changed))):  # the late one has no start of the other
        with open(disk, "r+b") as f:
            f.write(data)
    wait_for(lambda: daemon.events("rpo_missed"), 60, "one to be late")

    def goes_first():
        first, second = gains(daemon, (late, other), 12)
        assert durable(daemon, other) - before[1] < 0.9 * SIZE, "the other has what it wants: nothing can be seen any more"
        return first > 3 * second and daemon.source(other)["throttle"]["givesWay"]

    wait_for(goes_first, 60, "the late one to get three quarters of the disk")
    assert durable(daemon, other) > before[1], "whoever gives way still goes on"
    slow.disk.heal()
    daemon.wait_state(other, "CONTINUOUS", seconds=60)


def test_on_a_line_that_all_share_who_is_late_goes_first_however_many_the_others_are(rig):
    far = Far(rig)
    daemon = rig.daemon(host=far.server_ip)
    disks = [rig.file("disk%d" % i, random_bytes(rig.random, size * MIB)) for i, size in enumerate([96] + 5 * [32])]
    agents = [rig.agent(daemon, {"root": disk}, prefix=far.prefix).start() for disk in disks]
    late, *others = sources = [agent.source for agent in agents]
    for source in sources:
        daemon.wait_ready(source)
        daemon.ctl("source", "set", source, "rpo-target=1d")
    daemon.ctl("source", "set", late, "rpo-target=1s")
    far.narrow(30)
    for disk in reversed(disks):
        disk.write_bytes(random_bytes(rig.random, disk.stat().st_size))

    def give_way():
        return [source for source in sources if daemon.source(source)["throttle"]["givesWay"]]

    def goes_first():
        first, *rest = gains(daemon, sources, 8)
        return first > 3 * sum(rest)

    wait_for(goes_first, 60, "the late one to get three quarters of the line")
    wait_for(lambda: give_way() == others, 20, "the others, and they alone, to give way")
    wait_for(lambda: "gives way" in daemon.ctl("source", "show", others[0]).stdout, 20, "a person to see it")
    wait_for(lambda: "event=trial level=info source=%s" % late in daemon.program.log.read_text(), 20, "the trial to be judged")
    assert "does not help" not in daemon.program.log.read_text()
    daemon.ctl("source", "set", others[0], "rpo-target=1s")
    wait_for(lambda: give_way() == others[1:], 20, "one that misses its own target not to give way")
    for source in (late, others[0]):
        daemon.ctl("source", "set", source, "rpo-target=1d")
    before = [durable(daemon, source) for source in others]
    wait_for(lambda: not give_way(), 20, "nobody to give way when nobody is late")
    wait_for(lambda: all(durable(daemon, source) > b for source, b in zip(others, before)), 60, "all to go on")
