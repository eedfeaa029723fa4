# SPDX-License-Identifier: Apache-2.0
"""holdfastctl verify: what is staged is compared with the source's disks, every block, and the answer is kept."""
import json
import signal
import threading

import pytest

import hfagent
from harness import BLOCK, BUILD, MIB, Refusal, first_difference, parse_time, random_bytes, ready_agent, wait_for
from hfagent import Volume


def volumes(daemon, source):
    return {d["name"]: d for d in daemon.source(source)["dataReplicationInfo"]["replicatedDisks"]}


def verification(daemon, source):
    return daemon.source(source)["verification"]


def verify(daemon, source, *options, check=0):
    """Its result, as JSON; exit status `check`."""
    return json.loads(daemon.ctl("verify", source, "--wait", "--json", "--no-progress", *options, check=check).stdout)


def overwrite(path, at, data):
    with open(path, "r+b") as f:
        f.seek(at)
        f.write(data)


def test_disks_that_rest_are_proved_equal_and_the_proof_is_durable(rig):
    daemon = rig.daemon()
    disks = {name: rig.file(name, random_bytes(rig.random, 3 * MIB + 123)) for name in ("root", "data")}
    agent = ready_agent(rig, daemon, disks)
    assert verification(daemon, agent.source) is None
    assert [v["provedEqualDateTime"] for v in volumes(daemon, agent.source).values()] == [None, None]
    result = verify(daemon, agent.source)
    began, ended = (parse_time(result["verification"][key]) for key in ("startedDateTime", "endedDateTime"))
    assert result["verification"]["state"] == "EQUAL"
    proved = {name: v["provedEqualDateTime"] for name, v in volumes(daemon, agent.source).items()}
    for at in proved.values():
        assert began - 1 <= parse_time(at) <= ended, "the proof is not of a moment of the verification"
    assert [v["verificationDifferingBytes"] for v in volumes(daemon, agent.source).values()] == [0, 0]
    wait_for(lambda: daemon.events("verified_equal"), 20, "its event")
    assert "PROVED EQUAL" in daemon.ctl("source", "show", agent.source).stdout
    daemon.restart("kill")
    wait_for(lambda: volumes(daemon, agent.source), 20, "the source to be open")
    assert {name: v["provedEqualDateTime"] for name, v in volumes(daemon, agent.source).items()} == proved


def test_what_differs_is_counted_and_sent(rig):
    daemon = rig.daemon()
    disk = rig.file("disk", random_bytes(rig.random, 8 * MIB))
    agent = ready_agent(rig, daemon, {"root": disk}, interval="1h")  # nothing but the verification makes it look
    for at in range(10):
        overwrite(disk, at * 8 * BLOCK, rig.random.randbytes(BLOCK))
    result = verify(daemon, agent.source)
    assert result["verification"]["passes"] == 2
    assert volumes(daemon, agent.source)["root"]["verificationDifferingBytes"] == 10 * BLOCK
    point = daemon.source(agent.source)["newestPointInTime"]["pointInTimeID"]
    assert first_difference(disk, daemon.export(agent.source, "root", point)) is None


def restart_slowly(daemon, agent):
    """From now on a pass takes some seconds; the first is over when this returns."""
    agent.stop()
    agent.options = ["--read-limit", "4MiB"]
    agent.start()
    daemon.wait_state(agent.source, "RESCAN")
    daemon.wait_state(agent.source, "CONTINUOUS", seconds=60)


def test_a_disk_that_changes_all_the_time_is_not_proved_and_a_resting_one_is(rig):
    daemon = rig.daemon()
    disks = {name: rig.file(name, random_bytes(rig.random, 2 * MIB)) for name in ("rests", "changes")}
    agent = ready_agent(rig, daemon, disks)
    restart_slowly(daemon, agent)  # so that there is a write between any two looks, however busy the machine
    over = threading.Event()

    def scribble():
        while not over.is_set():
            overwrite(disks["changes"], 0, rig.random.randbytes(BLOCK))

    writer = threading.Thread(target=scribble)
    writer.start()
    try:
        result = verify(daemon, agent.source, check=6)
        assert result["verification"]["state"] == "CHANGING"
        assert "changes" in result["verification"]["text"] and "rests" not in result["verification"]["text"]
        assert volumes(daemon, agent.source)["changes"]["provedEqualDateTime"] is None
        assert volumes(daemon, agent.source)["rests"]["provedEqualDateTime"] is not None
        verify(daemon, agent.source, "--volume", "rests")
        assert volumes(daemon, agent.source)["changes"]["verificationDifferingBytes"] is None
    finally:
        over.set()
        writer.join()


def test_ctrl_c_ends_the_watching_alone(rig):
    daemon = rig.daemon()
    disk = rig.file("disk", random_bytes(rig.random, 16 * MIB))
    agent = ready_agent(rig, daemon, {"root": disk}, interval="1h")
    restart_slowly(daemon, agent)
    watcher = rig.program("watcher", [BUILD / "holdfastctl", "verify", agent.source, "--wait", "--progress", "lines", "--socket",
                                      daemon.run_dir])
    wait_for(lambda: verification(daemon, agent.source), 20, "it to begin")
    wait_for(lambda: 0 < verification(daemon, agent.source)["doneBytes"] < 16 * MIB, 20, "some to be compared")
    wait_for(lambda: "/100" in watcher.log.read_text(), 20, "progress to be shown")
    watcher.signal(signal.SIGINT)
    assert watcher.process.wait(20) == 130
    assert "it goes on" in watcher.log.read_text()
    assert verification(daemon, agent.source)["state"] == "RUNNING"
    daemon.restart("kill")  # the source goes on, and whoever wants to know asks again
    daemon.wait_streaming(agent.source)
    assert verify(daemon, agent.source)["verification"]["state"] == "EQUAL"


def test_a_verification_goes_on_over_a_cut_connection(rig):
    daemon = rig.daemon()
    disk = rig.file("disk", random_bytes(rig.random, 8 * MIB))
    agent = ready_agent(rig, daemon, {"root": disk}, interval="1h")
    restart_slowly(daemon, agent)
    daemon.ctl("verify", agent.source)
    wait_for(lambda: verification(daemon, agent.source)["doneBytes"], 20, "some to be compared")
    agent.restart("kill")
    wait_for(lambda: verification(daemon, agent.source)["state"] == "EQUAL", 20, "it to be proved equal")


def test_what_cannot_be_verified_is_refused_and_why(rig):
    daemon = rig.daemon()
    disk = rig.file("disk", random_bytes(rig.random, MIB))
    agent = ready_agent(rig, daemon, {"root": disk})
    daemon.ctl("verify", agent.source, "--volume", "no-such", check=4)
    agent.stop()
    wait_for(lambda: not daemon.is_streaming(agent.source), 10, "the agent to go")
    with pytest.raises(Refusal) as refusal:
        daemon.request("POST", "/v1/source-servers/%s/verify" % agent.source, {}, admin=True)
    assert refusal.value.status == 409 and "not connected" in refusal.value.problem["detail"]


def test_an_agent_that_does_not_know_how_is_told_apart(rig):
    daemon = rig.daemon()
    agent = hfagent.Agent(hfagent.enroll(("127.0.0.1", daemon.enroll_port), daemon.token(), rig.path("py-agent")))
    rig.on_end(agent.cut)
    source = agent.identity.source_id
    agent.open([Volume("root", "serial:1", MIB)])
    agent.fill("root", rig.random.randbytes(MIB))
    agent.checkpoint("crash")
    agent.wait_ack()
    daemon.wait_ready(source)
    daemon.request("POST", "/v1/source-servers/%s/verify" % source, {}, admin=True)
    agent.wait(lambda: agent.checkpoint_requests)
    agent.checkpoint("fuzzy", request_ids=agent.checkpoint_requests)
    agent.wait_ack()
    wait_for(lambda: verification(daemon, source)["state"] == "FAILED", 20, "the agent to be found too old")
    assert "upgrade" in verification(daemon, source)["text"]
