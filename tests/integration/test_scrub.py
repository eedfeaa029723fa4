# SPDX-License-Identifier: Apache-2.0
"""Rot on the server's disk: bits are flipped in the files of a real staging area, and a scrub finds each, says what it means, and heals
it from the source where the source still has the bytes."""
import json
import os

import pytest

import hfagent
from harness import BLOCK, MIB, first_difference, random_bytes, ready_agent, wait_for


def scrub_of(daemon, source):
    return daemon.source(source)["scrub"]


def scrub(daemon, source):
    """A whole one, from now on."""
    before = scrub_of(daemon, source)["lastCompletedDateTime"]
    daemon.ctl("scrub", "start", source, "--wait", "--no-progress")
    wait_for(lambda: scrub_of(daemon, source)["lastCompletedDateTime"] not in (before, None), 30, "the scrub to be complete")
    return scrub_of(daemon, source)


def staging(daemon, kind):
    return sorted(daemon.data.glob("sources/*/*." + kind))


def segments(daemon):
    return sorted(daemon.data.glob("sources/*/journal/*.seg"))


def flip(path, offset, mask=1):
    """The bytes on the disk, not in the page cache alone: the daemon reads past it."""
    with open(path, "r+b") as f:
        f.seek(offset)
        byte = f.read(1)[0]
        f.seek(offset)
        f.write(bytes([byte ^ mask]))
        f.flush()
        os.fsync(f.fileno())


def flip_block(paths, block, mask=1):
    """Where these bytes of a disk are stored: one bit of them."""
    hits = 0
    for path in paths:
        at = path.read_bytes().find(block)
        if at >= 0:
            flip(path, at + 77, mask)
            hits += 1
    assert hits == 1
    return True


def rewrite(disk, offset, data):
    with open(disk, "r+b") as f:
        f.seek(offset)
        f.write(data)


def point(daemon, agent, name):
    return daemon.point(agent.source, name)["pointInTimeID"]


def damaged(daemon, source, count):
    return wait_for(lambda: scrub_of(daemon, source)["damagedBlocks"] == count, 30, "%d damaged blocks" % count)


def test_what_is_whole_is_found_whole_and_its_points_are_verified(rig):
    daemon = rig.daemon()
    disk = rig.file("disk", random_bytes(rig.random, 8 * MIB))
    agent = ready_agent(rig, daemon, {"root": disk})
    rewrite(disk, 5 * BLOCK, rig.random.randbytes(3 * BLOCK))
    pit = point(daemon, agent, "one")
    result = scrub(daemon, agent.source)
    assert result["state"] == "IDLE" and result["damagedBlocks"] == 0 and not result["damage"]
    assert result["readBytes"] >= 8 * MIB + 3 * BLOCK
    kept = next(p for p in daemon.points(agent.source) if p["pointInTimeID"] == pit)
    wait_for(lambda: next(p for p in daemon.points(agent.source) if p["pointInTimeID"] == pit)["lastVerified"] ==
             scrub_of(daemon, agent.source)["lastCompletedDateTime"], 20, "lastVerified of %s" % kept)
    wait_for(lambda: daemon.events("scrub_ended"), 20, "its event")
    assert "was read, and is whole" in daemon.ctl("scrub", "start", agent.source, "--wait", "--no-progress").stdout


@pytest.mark.parametrize("name", ["disk", "disk\u009b2J"])  # the server is shown the second with "?"
def test_rot_is_healed_from_the_source_while_it_has_the_bytes(rig, name):
    daemon = rig.daemon()
    content = random_bytes(rig.random, 8 * MIB)
    disk = rig.file(name, content)
    agent = ready_agent(rig, daemon, {"root": disk})
    written = rig.random.randbytes(BLOCK)
    rewrite(disk, 9 * BLOCK, written)
    pit = point(daemon, agent, "one")
    for n, block in enumerate((content[:BLOCK], content[100 * BLOCK:101 * BLOCK], written)):
        flip_block([*staging(daemon, "img"), *segments(daemon)], block, 1 << n)
    scrub(daemon, agent.source)
    wait_for(lambda: scrub_of(daemon, agent.source)["healedBlocks"] == 3, 30, "three blocks to be healed")
    damaged(daemon, agent.source, 0)
    wait_for(lambda: daemon.events("integrity_error") and len(daemon.events("block_healed")) == 3, 20, "their events")
    assert scrub(daemon, agent.source)["damagedBlocks"] == 0
    assert first_difference(daemon.export(agent.source, "root", pit), disk) is None


def test_rot_of_what_the_source_no_longer_has_is_told_by_point_and_never_exported(rig):
    daemon = rig.daemon()
    content = random_bytes(rig.random, 4 * MIB)
    disk = rig.file("disk", content)
    agent = ready_agent(rig, daemon, {"root": disk})
    first = point(daemon, agent, "first")
    rewrite(disk, 7 * BLOCK, rig.random.randbytes(BLOCK))
    second = point(daemon, agent, "second")
    flip_block(staging(daemon, "img"), content[7 * BLOCK:8 * BLOCK])
    result = scrub(daemon, agent.source)
    assert result["damagedBlocks"] == 1 and result["healedBlocks"] == 0
    wait_for(lambda: scrub_of(daemon, agent.source)["pointsHit"], 20, "the points hit")
    result = scrub_of(daemon, agent.source)
    assert result["damage"][0]["offset"] == 7 * BLOCK and result["damage"][0]["segment"] is None
    hit = {p["pointInTimeID"] for p in result["pointsHit"]}
    assert first in hit and second not in hit
    event = wait_for(lambda: daemon.events("integrity_error"), 20, "its event")[0]
    assert event["sourceServerID"] == agent.source and "offset %d" % (7 * BLOCK) in event["text"] and "pit-" in event["text"]
    said = daemon.ctl("scrub", "start", agent.source, "--wait", "--no-progress").stdout
    assert "1 block is damaged: holdfastctl scrub status %s" % agent.source in said, said
    assert "cannot be exported whole: 1 block" in daemon.ctl("scrub", "status", agent.source).stdout
    done = daemon.ctl("export", "file", agent.source, "--volume", "root", "--at", first, "-o", rig.path("first.img"), "--no-progress",
                      check=1)
    assert "offset %d" % (7 * BLOCK) in done.stderr and not rig.path("first.img").exists()
    assert first_difference(daemon.export(agent.source, "root", second), disk) is None
    assert daemon.source(agent.source)["dataReplicationInfo"]["dataReplicationError"]["code"] == "INTEGRITY_ERROR"
    pits = {p["pointInTimeID"]: p for p in daemon.points(agent.source)}
    assert not pits[first]["verified"] and pits[second]["verified"]
    # a restart forgets nothing
    daemon.restart("kill")
    damaged(daemon, agent.source, 1)
    # the source has the bytes again: healed at the next occasion, which a new start of the daemon is
    rewrite(disk, 7 * BLOCK, content[7 * BLOCK:8 * BLOCK])
    damaged(daemon, agent.source, 0)
    assert daemon.export(agent.source, "root", first)


def test_rot_of_a_digest_is_mended_from_the_data_without_the_source(rig):
    daemon = rig.daemon()
    content = random_bytes(rig.random, 4 * MIB)
    disk = rig.file("disk", content)
    agent = rig.agent(daemon, {"root": disk}).once()
    pit = daemon.newest(agent.source)["pointInTimeID"]
    page = BLOCK  # behind the header: leaves, 8 bytes each
    for offset in (page + 8 * 20, page + BLOCK * 128 + 8 * 3, page + BLOCK * 136 + 8 * 2, page + BLOCK * 136 + 8 * 256):
        flip(staging(daemon, "sum")[0], offset)
        before = scrub_of(daemon, agent.source)["mendedDigests"]
        result = scrub(daemon, agent.source)
        assert result["mendedDigests"] == before + 1 and result["damagedBlocks"] == 0, offset
    assert first_difference(daemon.export(agent.source, "root", pit), disk) is None


def test_rot_of_the_index_is_mended_or_told(rig):
    """One page is made again of the others of its group; two are beyond that."""
    daemon = rig.daemon(storage__segment_size="1MiB")
    disk = rig.file("disk", random_bytes(rig.random, 2 * MIB))
    agent = ready_agent(rig, daemon, {"root": disk})
    for i in range(8):
        rewrite(disk, 0, rig.random.randbytes(MIB))
        point(daemon, agent, "p%d" % i)
    run = wait_for(lambda: sorted(daemon.data.glob("sources/*/journal/*.run")), 20, "a run")[0]
    flip(run, BLOCK + 100)
    result = scrub(daemon, agent.source)
    assert result["mendedDigests"] == 1 and result["damagedBlocks"] == 0
    flip(run, BLOCK + 100)
    flip(run, run.stat().st_size - BLOCK + 100)
    result = scrub(daemon, agent.source)
    assert result["damagedBlocks"] > 0
    wait_for(lambda: any(d["volumeID"] is None for d in scrub_of(daemon, agent.source)["damage"]), 20, "the damaged index")


def test_an_agent_that_cannot_be_asked_is_not(rig):
    """--once is gone when the rot is found: the damage stays until an agent comes."""
    daemon = rig.daemon()
    content = random_bytes(rig.random, MIB)
    agent = rig.agent(daemon, {"root": rig.file("disk", content)}).once()
    flip_block(staging(daemon, "img"), content[:BLOCK])
    assert scrub(daemon, agent.source)["damagedBlocks"] == 1
    agent.start()
    damaged(daemon, agent.source, 0)
    wait_for(lambda: daemon.events("block_healed"), 20, "its event")


def test_rot_of_a_header_is_found_before_a_restart_stumbles_over_it(rig):
    daemon = rig.daemon()
    agent = rig.agent(daemon, {"root": rig.file("disk", random_bytes(rig.random, MIB))}).once()
    segment = segments(daemon)[0]
    flip(segment, 72)
    result = scrub(daemon, agent.source)
    assert result["damagedBlocks"] == 1
    assert "header of journal segment 1" in wait_for(lambda: daemon.events("integrity_error"), 20, "its event")[0]["text"]
    flip(segment, 72)
    daemon.ctl("scrub", "start", agent.source, "--wait", "--no-progress")
    daemon.restart("kill")
    damaged(daemon, agent.source, 0)


def foreign_agent(rig, daemon, disk, **hello):
    """One that streams a disk, and says of itself what it is told to."""
    agent = hfagent.Agent(hfagent.enroll(("127.0.0.1", daemon.enroll_port), daemon.token(), rig.path("foreign")))
    rig.on_end(agent.cut)
    agent.connect()
    agent.hello(**hello)
    agent.declare([hfagent.Volume("root", "serial:foreign", len(disk))])
    agent.start()
    agent.fill("root", disk)
    agent.checkpoint("crash")
    agent.wait_ack()
    return agent


def rot_of(daemon, agent, block):
    flip_block([*staging(daemon, "img"), *segments(daemon)], block)
    assert scrub(daemon, agent.identity.source_id)["damagedBlocks"] == 1
    wait_for(lambda: scrub_of(daemon, agent.identity.source_id)["damage"], 20, "the damage to be published")


def test_an_agent_that_did_not_say_it_can_is_never_asked(rig):
    daemon = rig.daemon()
    disk = random_bytes(rig.random, 16 * BLOCK)
    agent = foreign_agent(rig, daemon, disk)
    rot_of(daemon, agent, disk[:BLOCK])
    beats = agent.frames_received["HEARTBEAT"]
    agent.wait(lambda: agent.frames_received["HEARTBEAT"] > beats + 3)
    assert agent.frames_received["FETCH"] == 0


def test_only_bytes_that_match_the_digest_are_taken(rig):
    daemon = rig.daemon()
    disk = random_bytes(rig.random, 16 * BLOCK)
    agent = foreign_agent(rig, daemon, disk, features=[1])
    source = agent.identity.source_id
    rot_of(daemon, agent, disk[5 * BLOCK:6 * BLOCK])
    agent.wait(lambda: agent.fetches)
    question = agent.fetches.popleft()
    assert question.block == 5 and question.volume > 0
    agent.send("FETCHED", request_id=question.request_id, data=disk[6 * BLOCK:7 * BLOCK])
    assert scrub(daemon, source)["damagedBlocks"] == 1 and not daemon.events("block_healed")
    daemon.restart("kill")  # it asks again
    agent.connect()
    agent.hello(features=[1])
    agent.declare(list(agent.volumes.values()))
    agent.start()
    agent.wait(lambda: agent.fetches)
    question = agent.fetches.popleft()
    agent.send("FETCHED", request_id=question.request_id, data=disk[5 * BLOCK:6 * BLOCK])
    damaged(daemon, source, 0)
    assert first_difference(daemon.export(source, "root", "latest"), rig.file("expected", disk)) is None
    agent.send("FETCHED", request_id=question.request_id, data=disk[5 * BLOCK:6 * BLOCK])  # nobody asked
    wait_for(lambda: agent.goodbye, 20, "the refusal")
    assert agent.goodbye.status == hfagent.STATUS["PROTOCOL"]


def test_an_export_finds_rot_too(rig):
    daemon = rig.daemon()
    content = random_bytes(rig.random, MIB)
    agent = rig.agent(daemon, {"root": rig.file("disk", content)}).once()
    pit = daemon.newest(agent.source)["pointInTimeID"]
    flip_block(staging(daemon, "img"), content[3 * BLOCK:4 * BLOCK])
    daemon.export(agent.source, "root", pit, check=1)
    damaged(daemon, agent.source, 1)


def test_one_begins_by_itself_and_goes_on_over_a_restart(rig):
    daemon = rig.daemon(storage__scrub_interval="1s", storage__scrub_rate="1MiB")
    agent = rig.agent(daemon, {"root": rig.file("disk", random_bytes(rig.random, 12 * MIB))}).once()
    wait_for(lambda: scrub_of(daemon, agent.source)["state"] == "RUNNING" and scrub_of(daemon, agent.source)["readBytes"] > 2 * MIB, 30,
             "a scrub under way")
    began = scrub_of(daemon, agent.source)["startedDateTime"]
    daemon.restart("stop")
    wait_for(lambda: scrub_of(daemon, agent.source)["lastCompletedDateTime"], 60, "its end")
    assert began is not None
    daemon.ctl("scrub", "cancel", agent.source, check=None)


def test_one_that_is_given_up_is_not_under_way(rig):
    daemon = rig.daemon(storage__scrub_interval="1s", storage__scrub_rate="1MiB")  # one that is asked for has no limit
    agent = rig.agent(daemon, {"root": rig.file("disk", random_bytes(rig.random, 8 * MIB))}).once()
    wait_for(lambda: scrub_of(daemon, agent.source)["state"] == "RUNNING", 30, "a scrub under way")
    began = scrub_of(daemon, agent.source)["startedDateTime"]
    daemon.ctl("scrub", "cancel", agent.source)
    now = scrub_of(daemon, agent.source)
    assert now["state"] == "IDLE" or now["startedDateTime"] != began, "it was answered before it was seen"


def test_the_command_says_no_in_words(rig):
    daemon = rig.daemon()
    agent = rig.agent(daemon, {"root": rig.file("disk", random_bytes(rig.random, MIB))}).once()
    assert "no scrub is under way" in daemon.ctl("scrub", "cancel", agent.source, check=4).stderr
    assert "--all" in daemon.ctl("scrub", "start", check=2).stderr
    items = json.loads(daemon.ctl("scrub", "start", "--all", "--json").stdout)["items"]
    assert [i["sourceServerID"] for i in items] == [agent.source]
    assert json.loads(daemon.ctl("scrub", "status", "--json").stdout)["items"][0]["scrub"]["state"] in ("RUNNING", "IDLE")


# ---- salvage ----

def salvage(daemon, agent, at, to, *options, check=7):
    return daemon.ctl("export", "file", agent.source, "--volume", "root", "--at", at, "-o", to, "--salvage", "--no-progress", *options,
                      check=check)


def expect_salvaged(to, content, bad):
    """All but these blocks; zeros for them, a list beside it, and no file that looks like a whole one."""
    assert not to.exists()
    data = bytearray(content)
    lines = to.with_name(to.name + ".bad").read_text().splitlines()
    assert lines == ["%d %d" % (first * BLOCK, count * BLOCK) for first, count in bad]
    for first, count in bad:
        data[first * BLOCK:(first + count) * BLOCK] = bytes(count * BLOCK)
    assert to.with_name(to.name + ".salvaged").read_bytes() == data


def test_salvage_takes_what_is_good_and_lists_the_rest(rig):
    daemon = rig.daemon()
    content = random_bytes(rig.random, 3 * MIB)
    disk = rig.file("disk", content)
    agent = ready_agent(rig, daemon, {"root": disk})
    first = point(daemon, agent, "first")
    changed = bytearray(content)
    many = list(range(20, 44, 2))
    for block in (0, 5, 6, 7, *many, 300, 767):
        changed[block * BLOCK:(block + 1) * BLOCK] = rig.random.randbytes(BLOCK)
    disk.write_bytes(changed)
    second = point(daemon, agent, "second")
    agent.stop()
    for block in (0, 5, 6, *many, 300, 767):
        flip_block(staging(daemon, "img"), content[block * BLOCK:(block + 1) * BLOCK])
    bad = [(0, 1), (5, 2), *((block, 1) for block in many), (300, 1), (767, 1)]
    to = rig.path("salvaged.img")
    done = salvage(daemon, agent, first, to)
    assert "is not whole" in done.stderr and "offset %d, %d bytes" % (5 * BLOCK, 2 * BLOCK) in done.stderr
    assert done.stderr.count("offset ") == 10 and "and %d more such ranges" % (len(bad) - 10) in done.stderr
    expect_salvaged(to, content, bad)
    again = rig.path("again.img")
    result = json.loads(salvage(daemon, agent, first, again, "--json").stdout)
    assert result["whole"] is False and result["file"] == str(again) + ".salvaged"
    assert result["badRanges"] == [{"offset": f * BLOCK, "length": n * BLOCK} for f, n in bad]
    # another point needs none of it: a whole export, with the name that was asked for
    whole = rig.path("whole.img")
    salvage(daemon, agent, second, whole, check=0)
    assert whole.read_bytes() == changed and not whole.with_name("whole.img.bad").exists()
    daemon.stop()
    offline = rig.path("offline.img")
    run = daemon.ctl("export", "file", agent.source, "--volume", "root", "--at", first, "-o", offline, "--salvage", "--no-progress",
                     "--data-dir", daemon.data, check=7)
    assert "is not whole" in run.stderr
    expect_salvaged(offline, content, bad)


def test_more_damage_than_is_listed_is_never_told_as_gone(rig):
    daemon = rig.daemon()
    disk = rig.file("disk", random_bytes(rig.random, 5 * MIB))
    agent = ready_agent(rig, daemon, {"root": disk})
    pit = point(daemon, agent, "one")
    agent.stop()
    image, = staging(daemon, "img")
    with open(image, "r+b") as f:
        for block in range(4 * MIB // BLOCK):
            f.seek(block * BLOCK)
            f.write(b"rotten")
        f.flush()
        os.fsync(f.fileno())
    result = scrub(daemon, agent.source)
    assert result["damagedBlocks"] == 512 and result["moreDamaged"]
    salvage(daemon, agent, pit, rig.path("salvaged"))  # all of it is looked at again, in another order
    result = scrub(daemon, agent.source)
    assert result["damagedBlocks"] == 512 and result["moreDamaged"]
    assert not daemon.events("damage_gone") and not daemon.events("block_healed")
    assert next(p for p in daemon.points(agent.source) if p["pointInTimeID"] == pit)["lastVerified"] is None


def test_a_salvage_is_never_taken_up_by_an_export(rig):
    """What a cut salvage left has zeros in it that are not the disk's."""
    daemon = rig.daemon()
    content = random_bytes(rig.random, MIB)
    agent = rig.agent(daemon, {"root": rig.file("disk", content)}).once()
    pit = daemon.newest(agent.source)["pointInTimeID"]
    flip_block(staging(daemon, "img"), content[9 * BLOCK:10 * BLOCK])
    to = rig.path("cut.img")
    salvage(daemon, agent, pit, to)
    cut = to.with_name("cut.img.partial")
    to.with_name("cut.img.salvaged").rename(cut)
    inode = cut.stat().st_ino
    state = {"salvage": True, "source": agent.source, "pit": pit, "timestamp": "", "volume": "root", "at": pit, "sizeBytes": MIB,
             "inode": inode, "offset": 20 * BLOCK}
    to.with_name("cut.img.partial.state").write_text(json.dumps(state))
    done = daemon.ctl("export", "file", agent.source, "--volume", "root", "--at", pit, "-o", to, "--no-progress", check=1)
    assert "offset %d" % (9 * BLOCK) in done.stderr and not to.exists()
