# SPDX-License-Identifier: Apache-2.0
"""An agent that was started again knows nothing of the disk: it reads and compares all of it, and says how far it is."""
from harness import BLOCK, MIB, copy_of, first_difference, random_bytes, ready_agent, wait_for

DISK_BYTES = 16 * MIB
READ_LIMIT = "4MiB"  # so that comparing takes some seconds: long enough to look at


def rescanned(daemon, agent):
    disks = daemon.source(agent.source)["dataReplicationInfo"]["replicatedDisks"]
    return sum(d["rescannedStorageBytes"] for d in disks)


def change(rig, disk, blocks):
    with open(disk, "r+b") as f:
        for block in rig.random.sample(range(DISK_BYTES // BLOCK), blocks):
            f.seek(block * BLOCK)
            f.write(rig.random.randbytes(BLOCK))


def test_while_a_restarted_agent_compares_it_is_rescan_and_old_points_stay_restorable(rig):
    daemon = rig.daemon()
    disk = rig.file("disk", random_bytes(rig.random, DISK_BYTES))
    agent = ready_agent(rig, daemon, {"root": disk})
    daemon.point(agent.source, "before")
    before = copy_of(disk, rig.path("before"))
    received = daemon.source(agent.source)["counters"]["receivedBytes"]
    agent.stop()
    change(rig, disk, 50)
    agent.options = ["--read-limit", READ_LIMIT]
    agent.start()
    daemon.wait_state(agent.source, "RESCAN")
    first = wait_for(lambda: rescanned(daemon, agent), 20, "the first bytes to be compared")
    assert first < DISK_BYTES
    old = daemon.export(agent.source, "root", "before")
    more = wait_for(lambda: (now := rescanned(daemon, agent)) > first and now, 20, "more bytes to be compared")
    assert daemon.state(agent.source) == "RESCAN", "it was over too soon to export a point in the meantime"
    assert more < DISK_BYTES
    assert first_difference(before, old) is None
    daemon.wait_state(agent.source, "CONTINUOUS")
    daemon.wait_ready(agent.source)
    daemon.point(agent.source, "after")
    assert first_difference(disk, daemon.export(agent.source, "root", "after")) is None
    assert first_difference(before, daemon.export(agent.source, "root", "before")) is None
    sent = daemon.source(agent.source)["counters"]["receivedBytes"] - received
    assert 50 * BLOCK <= sent < 2 * 50 * BLOCK, "more was sent than what differs"
    agent.stop()
