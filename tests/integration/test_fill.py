# SPDX-License-Identifier: Apache-2.0
"""The main job: a disk goes in, the same disk comes out."""
import json
import os
import random

import pytest

from harness import (BLOCK, BUILD, MIB, first_difference, patchwork, random_bytes, ready_agent, run, wait_for)


@pytest.mark.parametrize("size", [BLOCK, BLOCK - 1, 1, MIB, 5 * MIB + 777, 33 * MIB + 4095])
def test_a_disk_of_any_size_comes_back_as_it_was(house, size):
    daemon = house.served
    disk = house.file("disk-%d" % size, patchwork(random.Random(size), size))
    agent = house.agent(daemon, {"root": disk}).once()
    newest = daemon.newest(agent.source)
    assert newest["consistency"] == "crash"
    copy = daemon.export(agent.source, "root", newest["pointInTimeID"])
    assert os.path.getsize(copy) == size
    assert first_difference(disk, copy) is None


def test_an_empty_disk_is_ready_at_once_and_comes_back_empty(house):
    daemon = house.served
    disk = house.empty_file("empty", 64 * MIB)
    agent = house.agent(daemon, {"root": disk}).start()
    daemon.wait_ready(agent.source)
    copy = daemon.export(agent.source, "root", "latest")
    assert first_difference(disk, copy) is None
    assert os.stat(copy).st_blocks * 512 < MIB, "zeros were written out"
    agent.stop()


def test_the_first_checkpoint_after_the_fill_becomes_a_point_at_once(house):
    daemon = house.served
    disk = house.file("first", random_bytes(house.random, 2 * MIB))
    agent = house.agent(daemon, {"root": disk}).once()
    kept = wait_for(lambda: [p for p in daemon.points(agent.source) if p["kept"]], 10, "a kept point")
    assert kept[0]["complete"] and kept[0]["consistency"] == "crash" and not kept[0]["byHand"]


def test_an_export_that_was_cut_goes_on_where_it_was(house):
    daemon = house.served
    disk = house.file("large", random_bytes(house.random, 96 * MIB))
    agent = house.agent(daemon, {"root": disk}).once()
    to = house.path("resumed.img")
    partial = house.path("resumed.img.partial")
    command = [BUILD / "holdfastctl", "export", "file", agent.source, "--volume", "root", "--at", "latest", "-o", to, "--no-progress",
               "--socket", daemon.run_dir]
    cut = house.program("ctl", command)
    wait_for(lambda: partial.exists() and os.stat(partial).st_blocks * 512 > 4 * MIB, 20, "a part of the export")
    cut.kill()
    assert not to.exists(), "the export was complete before it could be cut"
    house.program("ctl-again", command).process.wait(60)
    assert first_difference(disk, to) is None
    assert not partial.exists()


def test_an_export_never_replaces_a_file_unasked(house):
    daemon = house.served
    disk = house.file("small", random_bytes(house.random, MIB))
    agent = house.agent(daemon, {"root": disk}).once()
    there = house.file("precious", b"precious")
    daemon.ctl("export", "file", agent.source, "--volume", "root", "--at", "latest", "-o", there, check=2)
    assert there.read_bytes() == b"precious"
    daemon.ctl("export", "file", agent.source, "--volume", "root", "--at", "latest", "-o", there, "--force")
    assert first_difference(disk, there) is None


def test_what_changes_is_followed_and_only_that_is_sent(house):
    daemon = house.served
    disk = house.file("changing", random_bytes(house.random, 32 * MIB))
    agent = house.agent(daemon, {"root": disk}).start()
    daemon.wait_ready(agent.source)
    before = daemon.source(agent.source)["counters"]["receivedBytes"]
    with open(disk, "r+b") as f:
        for block in house.random.sample(range(32 * 256), 100):
            f.seek(block * BLOCK)
            f.write(house.random.randbytes(BLOCK))
    point = daemon.point(agent.source, "changed")
    assert point["consistency"] == "crash"
    sent = wait_for(lambda: (n := daemon.source(agent.source)["counters"]["receivedBytes"] - before) >= 100 * BLOCK and n, 5,
                    "the counter to be published")
    assert sent < 2 * 100 * BLOCK
    assert first_difference(disk, daemon.export(agent.source, "root", "changed")) is None
    agent.stop()


def test_a_disk_that_grows_is_followed(house):
    daemon = house.served
    disk = house.file("growing", random_bytes(house.random, 3 * MIB + 100))
    agent = house.agent(daemon, {"root": disk}).start()
    daemon.wait_ready(agent.source)
    with open(disk, "r+b") as f:
        f.seek(0, os.SEEK_END)
        f.write(random_bytes(house.random, 2 * MIB + 55))
    point = daemon.point(agent.source, "grown")
    assert [v["sizeBytes"] for v in point["volumes"]] == [5 * MIB + 155]
    assert first_difference(disk, daemon.export(agent.source, "root", "grown")) is None
    agent.stop()


def test_the_agent_keeps_little_on_disk(house):
    daemon = house.served
    disk = house.empty_file("keeps", 256 * MIB)
    agent = house.agent(daemon, {"root": disk}).once()
    assert sum(f.stat().st_size for f in agent.state_dir.iterdir() if f.is_file()) < 65536


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_a_compressed_stream_carries_the_same(house, compression):
    daemon = house.served
    text = b"".join(b"%09d the same again and again\n" % i for i in range(200_000))
    disk = house.file("text-" + compression, text)
    agent = house.agent(daemon, {"root": disk}, options=["--compress", compression]).once()
    assert first_difference(disk, daemon.export(agent.source, "root", "latest")) is None


def test_programs_say_what_they_are(house):
    for program in ("holdfastd", "holdfastctl", "holdfast-agent"):
        assert run(BUILD / program, "--version").stdout.startswith(program + " ")
    disks = json.loads(run(BUILD / "holdfast-agent", "list-disks", "--json").stdout)
    assert isinstance(disks, (list, dict))


def test_what_a_disk_is_called_commands_no_terminal(rig):
    """U+009B begins a command on some."""
    daemon = rig.daemon()
    disk = rig.file("disk\u009b2J", random_bytes(rig.random, MIB))
    agent = ready_agent(rig, daemon, {"root": disk})
    assert [d["deviceName"] for d in daemon.source(agent.source)["dataReplicationInfo"]["replicatedDisks"]] == [str(disk).replace("\u009b", "??")]
    disk = disk.rename(str(disk) + "\udce9")  # the byte E9, which begins a character and is none
    assert "disk??2J? (was at" in wait_for(lambda: daemon.events("volume_moved"), 20, "the news of it")[0]["text"]
    wait_for(lambda: [os.path.basename(v["deviceName"]) for v in agent.status()["volumes"]] == ["disk??2J?"], 20, "its own words")
    agent.restart("stop")
    wait_for(lambda: (agent.status() or {}).get("connected"), 20, "the agent")
    daemon.point(agent.source, "after")  # its volume was remembered
    done = run(BUILD / "holdfast-agent", "enroll", "--server", "%s:%d" % (daemon.host, daemon.enroll_port), "--token", daemon.token(),
               "--volume", "root\u009b2J=%s" % disk, "--state", rig.path("other"), check=False)
    assert done.returncode == 2 and "control characters" in done.stderr and "\u009b" not in done.stderr
