# SPDX-License-Identifier: Apache-2.0
"""A paused source: its agent stays connected, nothing is taken of it, and its points stay."""
import pytest

from harness import MIB, Refusal, copy_of, first_difference, random_bytes, ready_agent, wait_for


def state_of(daemon, source):
    info = daemon.source(source)["dataReplicationInfo"]
    return info["dataReplicationState"], info["stateSinceDateTime"]


def received(daemon, source):
    return daemon.source(source)["counters"]["receivedBytes"]


def change(rig, disk):
    with open(disk, "r+b") as f:
        f.write(random_bytes(rig.random, disk.stat().st_size))


def sees_backlog(daemon, source):
    return daemon.source(source)["backlogBytes"] > 0


def welcomes(daemon):
    return daemon.program.log.read_text().count("event=session_welcome ")


def test_nothing_is_taken_of_a_paused_source_until_it_is_resumed(rig):
    daemon = rig.daemon()
    disk = rig.file("disk", random_bytes(rig.random, 4 * MIB))
    agent = ready_agent(rig, daemon, {"root": disk})
    daemon.point(agent.source, "before")
    before = copy_of(disk, rig.path("before"))
    points = {p["pointInTimeID"] for p in daemon.points(agent.source) if p["name"]}

    assert "its agent stays connected" in daemon.ctl("source", "pause", agent.source).stdout
    assert state_of(daemon, agent.source)[0] == "PAUSED"
    bytes_before = received(daemon, agent.source)
    change(rig, disk)
    wait_for(lambda: sees_backlog(daemon, agent.source), 20, "the agent to see the change")
    lag = daemon.source(agent.source)["lag"]["durableSeconds"]
    wait_for(lambda: daemon.source(agent.source)["lag"]["durableSeconds"] > lag + 0.5, 20, "the lag to grow")
    assert received(daemon, agent.source) == bytes_before
    assert daemon.is_streaming(agent.source)
    assert points <= {p["pointInTimeID"] for p in daemon.points(agent.source)}
    with pytest.raises(Refusal, match="paused"):
        daemon.point(agent.source, "not now")
    assert "paused" in daemon.ctl("verify", agent.source, check=1).stderr

    daemon.ctl("source", "resume", agent.source)
    daemon.point(agent.source, "after")
    assert state_of(daemon, agent.source)[0] != "PAUSED"
    assert welcomes(daemon) == 1
    assert first_difference(disk, daemon.export(agent.source, "root", "after")) is None
    assert first_difference(before, daemon.export(agent.source, "root", "before")) is None
    assert [e["event"] for e in daemon.events() if e["event"] in ("source_paused", "source_resumed")] == ["source_paused", "source_resumed"]
    agent.stop()


def test_a_pause_outlives_both_sides(rig):
    daemon = rig.daemon()
    disk = rig.file("disk", random_bytes(rig.random, 4 * MIB))
    agent = ready_agent(rig, daemon, {"root": disk})
    daemon.ctl("source", "pause", agent.source)
    paused = state_of(daemon, agent.source)
    daemon.restart()
    daemon.wait_state(agent.source, "PAUSED")
    assert state_of(daemon, agent.source) == paused
    agent.kill()
    change(rig, disk)  # before it compares: what it finds then it may not send, and so it does not look again
    agent.start()
    daemon.wait_state(agent.source, "PAUSED")
    wait_for(lambda: sees_backlog(daemon, agent.source), 20, "the agent to see the change")
    assert received(daemon, agent.source) == 0
    daemon.ctl("source", "resume", agent.source)
    daemon.point(agent.source, "after")
    assert first_difference(disk, daemon.export(agent.source, "root", "after")) is None
    agent.stop()


def test_a_stopped_source_is_neither_paused_nor_resumed(rig):
    daemon = rig.daemon()
    agent = rig.agent(daemon, {"root": rig.file("disk", b"x" * MIB)})
    daemon.ctl("source", "stop", agent.source, "--yes")
    for verb in ("pause", "resume"):
        assert "holdfastctl source start" in daemon.ctl("source", verb, agent.source, check=1).stderr
        assert state_of(daemon, agent.source)[0] == "STOPPED"
    daemon.ctl("source", "start", agent.source)
    daemon.ctl("source", "pause", agent.source)
    assert "holdfastctl source resume" in daemon.ctl("source", "start", agent.source, check=1).stderr
    assert "replication goes on" in daemon.ctl("source", "resume", agent.source).stdout
    agent.start()
    daemon.wait_ready(agent.source)
    agent.stop()


@pytest.mark.parametrize("verbs", [("stop", "start"), ("pause", "resume")])
def test_what_is_so_already_is_said_and_changes_nothing(rig, verbs):
    daemon = rig.daemon()
    source = rig.agent(daemon, {"root": rig.file("disk", b"x" * MIB)}).source
    begin, end = verbs
    there = {"stop": "it was stopped before", "pause": "it was paused before"}[begin]
    gone = {"stop": "it was not stopped", "pause": "it was not paused"}[begin]
    assert gone in daemon.ctl("source", end, source).stdout
    daemon.ctl("source", begin, source, *(["--yes"] if begin == "stop" else []))
    state = state_of(daemon, source)
    assert there in daemon.request("POST", "/v1/source-servers/%s/%s" % (source, begin), admin=True)["text"]
    assert state_of(daemon, source) == state
    daemon.ctl("source", end, source)
    assert gone in daemon.ctl("source", end, source).stdout
    kept = [e["event"] for e in daemon.events()]
    assert [e for e in kept if e in ("source_stopped", "source_started", "source_paused", "source_resumed")] == {
        "stop": ["source_stopped", "source_started"], "pause": ["source_paused", "source_resumed"]}[begin]
