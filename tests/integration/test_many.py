# SPDX-License-Identifier: Apache-2.0
"""Many at once, and large ones: neither memory nor time may follow the size of a disk."""
import os
import time

import pytest

from harness import IS_ROOT, MIB, SLOW, data_ranges, first_difference, first_difference_sparse, random_bytes, wait_for
from history import History

TIB = 1 << 40


def test_eight_agents_with_two_volumes_each_at_once(rig):
    daemon = rig.daemon()
    agents = []
    for i in range(8):
        disks = {name: History(rig.path("%s-%d" % (name, i)), 512, rig.random) for name in ("root", "data")}
        agent = rig.agent(daemon, {name: disk.path for name, disk in disks.items()}, name="agent-%d" % i)
        agent.disks = disks
        agents.append(agent)
    for agent in agents:
        agent.start()
    for agent in agents:
        daemon.wait_ready(agent.source)
    for agent in agents:
        for disk in agent.disks.values():
            rig.on_end(disk.stop)
            disk.start()
    for i, agent in enumerate(agents):
        agent.point = daemon.point(agent.source, "busy-%d" % i)
    for agent in agents:
        for disk in agent.disks.values():
            disk.stop()
    for agent in agents:
        rest = daemon.point(agent.source, "rest")
        assert rest["consistency"] == "crash" and rest["complete"] and len(rest["volumes"]) == 2
        for name, disk in agent.disks.items():
            if agent.point["consistency"] != "fuzzy":
                disk.check(daemon.export(agent.source, name, agent.point["pointInTimeID"], rig.path("check"), force=True))
            assert disk.check(daemon.export(agent.source, name, "rest", rig.path("check"), force=True)) == len(disk.writes)
            assert first_difference(disk.path, rig.path("check")) is None
    assert {s["sourceServerID"] for s in daemon.sources()} == {a.source for a in agents}
    assert daemon.program.memory_peak() < SLOW * 300 * MIB
    for agent in agents:
        agent.stop()


@pytest.mark.skipif(not IS_ROOT, reason="mounting XFS needs root")
def test_a_sparse_disk_of_16_tib_takes_neither_memory_nor_time(rig):
    where, _, _ = rig.file_system("xfs", 2048 * MIB, "xfs")
    (where / "data").mkdir()
    daemon = rig.daemon(data=where / "data")
    disk = where / "disk"
    islands = {0: 3 * MIB, 5 * TIB + 12345 * 4096: MIB, 16 * TIB - 2 * MIB: 2 * MIB}
    with open(disk, "wb") as f:
        f.truncate(16 * TIB)
        for at, size in islands.items():
            f.seek(at)
            f.write(random_bytes(rig.random, size))
        os.fsync(f.fileno())
    began = time.monotonic()
    agent = rig.agent(daemon, {"huge": disk}).start()
    daemon.wait_ready(agent.source)
    point = daemon.point(agent.source, "filled")
    with open(disk, "r+b") as f:
        f.seek(11 * TIB + 4096)
        f.write(b"late" * 1024)
    daemon.point(agent.source, "changed")
    passes = agent.status()["pass"]
    wait_for(lambda: agent.status()["pass"] >= passes + 2, 20, "two more passes")
    assert time.monotonic() - began < 120 * SLOW, "it was read whole"
    assert daemon.program.memory_peak() < SLOW * 300 * MIB
    assert agent.program.memory_peak() < SLOW * 300 * MIB
    copy = daemon.export(agent.source, "huge", "changed", where / "copy")
    assert first_difference_sparse(disk, copy) is None
    filled = daemon.export(agent.source, "huge", point["pointInTimeID"], where / "filled")
    assert first_difference_sparse(disk, filled) == "byte %d" % (11 * TIB + 4096)
    assert sum(length for _, length in data_ranges(copy)) < 64 * MIB
    daemon.restart("kill")
    daemon.wait_streaming(agent.source)
    daemon.point(agent.source, "after-the-kill")
    agent.stop()
