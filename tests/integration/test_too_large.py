# SPDX-License-Identifier: Apache-2.0
"""A disk that the staging file system cannot hold is refused with that reason; the others of its source are copied, but are no point in time."""
import os

import pytest

from harness import IS_ROOT, MIB, random_bytes, wait_for

pytestmark = pytest.mark.skipif(not IS_ROOT, reason="file systems of its own need root")

TIB = 1 << 40
HUGE = 8 * TIB  # ext4 with blocks of 1 KiB ends at 4 TiB


def test_a_volume_larger_than_the_staging_file_system_can_hold_is_refused(rig):
    staging, _, _ = rig.file_system("staging", 128 * MIB, "ext4", "-b", "1024")
    disks, _, _ = rig.file_system("disks", 512 * MIB, "xfs")
    (staging / "data").mkdir()
    daemon = rig.daemon(data=staging / "data")
    huge, small = disks / "huge", rig.file("small", random_bytes(rig.random, 2 * MIB))
    with open(huge, "wb") as f:
        f.truncate(HUGE)
        f.write(random_bytes(rig.random, MIB))
        os.fsync(f.fileno())
    agent = rig.agent(daemon, {"small": small, "huge": huge}).start()
    wait_for(lambda: daemon.state(agent.source) == "STALLED" and agent.status(), 20, "STALLED")
    reason = "a file of 8.0 TiB is more than the file system of %s/" % (staging / "data")
    info = daemon.source(agent.source)["dataReplicationInfo"]
    assert "volume huge (" in info["stateReason"] and reason in info["stateReason"]
    assert reason in info["dataReplicationError"]["rawError"]
    wait_for(lambda: [e for e in daemon.events("volume_refused") if e["sourceServerID"] == agent.source and reason in e["text"]], 20, "its event")
    shown = daemon.ctl("source", "show", agent.source).stdout
    assert "STALLED" in shown and reason in shown
    mine = {v["name"]: v for v in agent.status()["volumes"]}
    assert (mine["huge"]["state"], mine["small"]["state"]) == ("REFUSED", "OK") and reason in mine["huge"]["text"]

    def replicated():
        return {v["name"]: v["replicatedStorageBytes"] for v in daemon.items("/v1/volumes?sourceServerID=%s" % agent.source)}
    wait_for(lambda: replicated() == {"small": 2 * MIB}, 10, "the small one, and nothing of the huge one, to be there")
    assert not [p for p in (staging / "data").rglob("vol-*") if p.stat().st_size > MIB * 4], "a staging file of it was left"
    source = daemon.source(agent.source)
    assert not source["ready"] and source["newestPointInTime"] is None, "half a source is not a point in time"
    agent.stop()
