# SPDX-License-Identifier: Apache-2.0
"""The agent in Python (tests/lib/hfagent.py) against a model of a server, so that a failure against the real daemon can be
told from a mistake of this agent's."""
import os
import random
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "lib"))

import hfagent  # noqa: E402
from hfagent import BLOCK, DATA, FILL, FILL_ZERO, ZERO, Volume  # noqa: E402
from model_server import SOURCE, ModelServer, make_pki  # noqa: E402


@pytest.fixture(name="server")
def server_fixture(tmp_path):
    pki = tmp_path / "pki"
    pki.mkdir()
    make_pki(pki)
    server = ModelServer(pki)
    yield server
    server.close()


@pytest.fixture(name="agent")
def agent_fixture(server, tmp_path):
    identity = hfagent.enroll(server.enrolment.getsockname(), server.token, tmp_path / "state")
    agent = hfagent.Agent(identity, timeout=10)
    yield agent
    agent.cut()


def sample(blocks, seed=2, tail=0):
    """Random blocks, every third of zeros, and a last one that is not whole."""
    r = random.Random(seed)
    data = b"".join(bytes(BLOCK) if i % 3 == 0 else r.randbytes(BLOCK) for i in range(blocks))
    return data + r.randbytes(tail)


def content(server, identity):
    row = server.volumes[identity]
    return bytes(row[3])[:row[1]]


def test_enrolment_yields_an_identity(server, agent):
    assert agent.identity.source_id == SOURCE
    assert agent.incarnation >= 1
    assert hfagent.Agent(agent.identity).incarnation > agent.incarnation


def test_a_wrong_token_is_refused_with_its_cure(server, tmp_path):
    parts = server.token.split(".")
    with pytest.raises(hfagent.Goodbye) as refusal:
        hfagent.enroll(server.enrolment.getsockname(), ".".join([parts[0], "a" * 32, parts[2]]), tmp_path / "other")
    assert refusal.value.name == "TOKEN" and refusal.value.cure


def test_a_server_of_another_ca_learns_nothing(server, tmp_path):
    parts = server.token.split(".")
    with pytest.raises(hfagent.Closed, match="not the one the token names"):
        hfagent.enroll(server.enrolment.getsockname(), ".".join([parts[0], parts[1], "0" * 64]), tmp_path / "other")


def test_fill_write_zero_and_checkpoint(server, agent):
    disks = {"root": bytearray(sample(700, tail=100)), "data": bytearray(sample(30, seed=3))}
    agent.open([Volume(name, "serial:" + name, len(disk)) for name, disk in disks.items()])
    for name, disk in disks.items():
        agent.fill(name, disk)
    disks["root"][5 * BLOCK:7 * BLOCK] = b"x" * 2 * BLOCK
    agent.write("root", 5, b"x" * 2 * BLOCK)
    disks["data"][2 * BLOCK:9 * BLOCK] = bytes(7 * BLOCK)
    agent.zero("data", 2, 7)
    agent.checkpoint("crash", request_ids=[4])
    agent.wait_ack()
    for name, disk in disks.items():
        assert content(server, "serial:" + name) == disk
    assert server.checkpoints[0].request_ids == [4]
    agent.close()


def test_after_a_cut_the_stream_goes_on_exactly(server, agent):
    disk = sample(2000)
    agent.open([Volume("root", "serial:1", len(disk))])
    agent.fill("root", disk, blocks=600)
    agent.wait_ack()
    server.hold_acks = True
    agent.fill("root", disk, blocks=600)
    held = agent.stream.sequence
    assert agent.stream.acked < held
    agent.cut()
    server.hold_acks = False
    assert agent.resume() is True
    agent.fill("root", disk)
    agent.wait_ack()
    assert content(server, "serial:1") == disk


def test_another_history_under_the_same_name_is_not_resumed(server, agent):
    disk = sample(100)
    agent.open([Volume("root", "serial:1", len(disk))])
    agent.fill("root", disk)
    agent.wait_ack()
    agent.cut()
    server.chain ^= 1
    assert agent.resume() is False
    assert agent.volumes["root"].frontier == 100


def test_a_new_process_compares_and_sends_what_differs(server, agent):
    disk = bytearray(sample(1500, tail=1))
    agent.open([Volume("root", "serial:1", len(disk))])
    agent.fill("root", disk)
    agent.wait_ack()
    agent.close()
    for block in (0, 255, 256, 1400, 1500):
        disk[block * BLOCK] ^= 0xFF
    again = hfagent.Agent(agent.identity, timeout=10)
    again.open([Volume("root", "serial:1", len(disk))])
    assert again.sync("root", disk) == 5
    again.wait_ack()
    assert again.sync("root", disk) == 0
    assert server.data_blocks == 5
    assert content(server, "serial:1") == disk
    assert again.recent("root") == [3, 1]
    again.close()


def test_credit_holds_the_stream_but_not_the_heartbeats(server, agent):
    server.credit = 1075232
    server.hold_acks = True
    disk = sample(1000)
    agent.open([Volume("root", "serial:1", len(disk))])
    agent.timeout = 1
    with pytest.raises(TimeoutError):
        agent.fill("root", disk)
    assert agent.stream_bytes <= server.credit
    before = agent.frames_received["HEARTBEAT"]
    agent.wait(lambda: agent.frames_received["HEARTBEAT"] > before + 2, timeout=10)


def test_the_clock_offset_is_measured(server, agent):
    agent.open([Volume("root", "serial:1", BLOCK)])
    agent.wait(lambda: agent.offset_ns)
    assert abs(agent.offset_ns - 5_000_000_000) < 1_000_000_000


def test_a_grown_volume_goes_on_filling(server, agent):
    disk = sample(10, tail=5)
    agent.open([Volume("root", "serial:1", len(disk))])
    agent.fill("root", disk)
    bigger = disk + sample(4, seed=9, tail=7)
    agent.declare([Volume("root", "serial:1", len(bigger))])
    agent.fill("root", bigger)
    agent.write("root", 10, bigger[10 * BLOCK:11 * BLOCK])
    agent.wait_ack()
    assert content(server, "serial:1") == bigger
