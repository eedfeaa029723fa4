# SPDX-License-Identifier: Apache-2.0
"""An agent that was started again knows nothing of the disk: it reads and compares all of it, and says how far it is."""
import re
import signal
import time

from harness import BLOCK, MIB, copy_of, first_difference, parse_time, random_bytes, ready_agent, wait_for

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
    agent.program.signal(signal.SIGSTOP)  # a busy machine takes longer for an export than the agent for the rest
    old = daemon.export(agent.source, "root", "before")
    assert daemon.state(agent.source) == "RESCAN"
    agent.program.signal(signal.SIGCONT)
    more = wait_for(lambda: (now := rescanned(daemon, agent)) > first and now, 20, "more bytes to be compared")
    assert more < DISK_BYTES
    assert first_difference(before, old) is None
    daemon.wait_state(agent.source, "CONTINUOUS")
    daemon.wait_ready(agent.source)
    daemon.point(agent.source, "after")
    assert first_difference(disk, daemon.export(agent.source, "root", "after")) is None
    assert first_difference(before, daemon.export(agent.source, "root", "before")) is None
    sent = wait_for(lambda: (n := daemon.source(agent.source)["counters"]["receivedBytes"] - received) >= 50 * BLOCK and n, 20,
                    "the counter to be published")
    assert sent < 2 * 50 * BLOCK, "more was sent than what differs"
    agent.stop()


def restart_slowly(daemon, agent):
    agent.options = ["--read-limit", READ_LIMIT]
    agent.start()
    daemon.wait_state(agent.source, "RESCAN")


def received(daemon, agent):
    return daemon.source(agent.source)["counters"]["receivedBytes"]


def write_block(rig, disk, block):
    with open(disk, "r+b") as f:
        f.seek(block * BLOCK)
        f.write(rig.random.randbytes(BLOCK))


def test_blocks_that_changed_lately_are_compared_first(rig):
    daemon = rig.daemon()
    disk = rig.file("disk", random_bytes(rig.random, DISK_BYTES))
    agent = ready_agent(rig, daemon, {"root": disk})
    last = DISK_BYTES // BLOCK - 1
    before = received(daemon, agent)
    write_block(rig, disk, last)
    wait_for(lambda: received(daemon, agent) == before + BLOCK, 20, "the change to arrive")
    agent.stop()
    write_block(rig, disk, last)
    restart_slowly(daemon, agent)
    arrived = wait_for(lambda: (now := daemon.source(agent.source))["counters"]["receivedBytes"] == before + 2 * BLOCK and now, 20,
                       "the change of meanwhile to arrive")
    compared = sum(d["rescannedStorageBytes"] for d in arrived["dataReplicationInfo"]["replicatedDisks"])
    assert compared < DISK_BYTES // 2, "it came in its turn, at the end of the disk"
    agent.stop()


def test_during_a_compare_no_point_goes_and_age_and_time_left_are_shown(rig):
    daemon = rig.daemon(pit__journal_window="1s")
    disk = rig.file("disk", random_bytes(rig.random, 2 * DISK_BYTES))
    agent = ready_agent(rig, daemon, {"root": disk}, interval="50ms")
    for _ in range(3):
        write_block(rig, disk, 7)
        daemon.point(agent.source, "kept%d" % _)
        change(rig, disk, 5)
    wait_for(lambda: any(not p["kept"] for p in daemon.points(agent.source)), 20, "a point of the window")
    agent.stop()
    wait_for(lambda: not daemon.is_streaming(agent.source), 10, "the agent to go")
    points = {p["pointInTimeID"] for p in daemon.points(agent.source)}
    agent.interval = "1h"
    restart_slowly(daemon, agent)
    lags, left, shows, screens = [], [], [], []
    while (shown := daemon.source(agent.source))["dataReplicationInfo"]["dataReplicationState"] == "RESCAN":
        assert points <= {p["pointInTimeID"] for p in daemon.points(agent.source)}, "a point went during the compare"
        assert shown["newestPointInTime"]["pointInTimeID"] in points
        lags.append(shown["lag"]["consistentSeconds"])
        if shown["dataReplicationInfo"]["etaDateTime"]:
            left.append(parse_time(shown["dataReplicationInfo"]["etaDateTime"]) - time.time())
            shows.append(daemon.ctl("source", "show", agent.source).stdout)
            screens.append(daemon.ctl("status").stdout)
    assert lags == sorted(lags) and lags[-1] > lags[0], "the age of the newest point does not grow"
    assert left[0] > left[-1] and len(left) > 2, "the time left does not shrink"
    assert any(re.search(r"caught up .* in ", show) for show in shows)  # not every one: it may be over by then
    assert any("CAUGHT UP" in screen for screen in screens)


def test_the_checkpoint_that_ends_a_compare_is_a_point_at_once(rig):
    daemon = rig.daemon()
    disk = rig.file("disk", random_bytes(rig.random, DISK_BYTES))
    agent = ready_agent(rig, daemon, {"root": disk})
    agent.stop()
    change(rig, disk, 20)
    agent.interval = "1h"  # nobody waits for that
    began = time.time()
    restart_slowly(daemon, agent)
    after = wait_for(lambda: [p for p in daemon.points(agent.source) if parse_time(p["timestamp"]) > began], 30, "a point after the compare")
    assert after[0]["complete"]
    newest = wait_for(lambda: (p := daemon.source(agent.source)["newestPointInTime"]) and parse_time(p["timestamp"]) > began and p, 30,
                      "a consistent point")
    assert first_difference(disk, daemon.export(agent.source, "root", newest["pointInTimeID"])) is None
