# SPDX-License-Identifier: Apache-2.0
"""The agent in Python, which knows docs/protocol.md and nothing of ours, against the real daemon."""
import time

import pytest

import hfagent
from harness import BLOCK, BUILD, MIB, first_difference, patchwork, random_bytes, wait_for
from hfagent import Volume


@pytest.fixture(name="agent")
def agent_fixture(house, request):
    agent = hfagent.Agent(enroll(house))
    yield agent
    agent.cut()


def enroll(house, **options):
    daemon = house.served
    return hfagent.enroll(("127.0.0.1", daemon.enroll_port), daemon.token(), house.path(house.unique("py-agent")), **options)


def stored(house, agent, volume, data, at="latest"):
    """Whether the export of a volume is exactly data."""
    expected = house.file(house.unique("expected"), bytes(data))
    return first_difference(expected, house.served.export(agent.identity.source_id, volume, at)) is None


def mark(house, agent):
    """A durable checkpoint; it is listed as soon as it is acknowledged."""
    before = len(house.served.points(agent.identity.source_id))
    agent.checkpoint("crash")
    agent.wait_ack()
    wait_for(lambda: len(house.served.points(agent.identity.source_id)) > before, 5, "the checkpoint to be listed")


def test_it_enrols_fills_and_streams(house, agent):
    root, data = bytearray(patchwork(house.random, 5 * MIB + 99)), bytearray(random_bytes(house.random, 300 * BLOCK))
    agent.open([Volume("root", "serial:%s" % agent.identity.source_id, len(root)), Volume("data", "wwn:%s" % agent.identity.source_id, len(data))])
    agent.fill("root", root)
    agent.fill("data", data)
    mark(house, agent)
    assert stored(house, agent, "root", root) and stored(house, agent, "data", data)
    root[7 * BLOCK:9 * BLOCK] = house.random.randbytes(2 * BLOCK)
    agent.write("root", 7, root[7 * BLOCK:9 * BLOCK])
    data[100 * BLOCK:250 * BLOCK] = bytes(150 * BLOCK)
    agent.zero("data", 100, 150)
    mark(house, agent)
    assert stored(house, agent, "root", root) and stored(house, agent, "data", data)
    agent.close()


def test_a_machine_that_was_renamed_is_known_by_its_new_name_at_once(house, agent):
    daemon, source = house.served, agent.identity.source_id
    agent.connect()
    agent.hello(hints=hfagent.hints("renamed-%s" % source))
    wait_for(lambda: daemon.source(source)["sourceProperties"]["identificationHints"]["hostname"] == "renamed-%s" % source, 10, "the new name")
    assert source in daemon.ctl("source", "show", "renamed-%s" % source).stdout


def test_its_first_checkpoint_makes_it_ready(house, agent):
    disk = random_bytes(house.random, 40 * BLOCK)
    agent.open([Volume("root", "serial:ready-%s" % agent.identity.source_id, len(disk))])
    assert not house.served.source(agent.identity.source_id)["ready"]
    agent.fill("root", disk)
    mark(house, agent)
    house.served.wait_ready(agent.identity.source_id)
    agent.close()


def test_after_a_cut_its_stream_goes_on_exactly(house, agent):
    disk = random_bytes(house.random, 12 * MIB)
    agent.open([Volume("root", "serial:cut-%s" % agent.identity.source_id, len(disk))])
    agent.fill("root", disk, blocks=1000)
    agent.cut()
    assert agent.resume() is True
    agent.fill("root", disk, blocks=1000)
    agent.cut()
    assert agent.resume() is True
    agent.fill("root", disk)
    mark(house, agent)
    assert stored(house, agent, "root", disk)
    agent.close()


def test_after_the_server_was_killed_its_stream_goes_on(house, agent):
    disk = random_bytes(house.random, 4 * MIB)
    agent.open([Volume("root", "serial:kill-%s" % agent.identity.source_id, len(disk))])
    agent.fill("root", disk, blocks=700)
    agent.wait(lambda: agent.durable)  # else nothing is there to be resumed
    house.served.restart("kill")
    agent.wait_end()
    assert agent.resume() is True
    agent.fill("root", disk)
    mark(house, agent)
    assert stored(house, agent, "root", disk)
    agent.close()


def test_after_its_own_restart_it_compares_and_sends_what_differs(house, agent):
    disk = bytearray(patchwork(house.random, 1300 * BLOCK + 17))
    agent.open([Volume("root", "serial:again-%s" % agent.identity.source_id, len(disk))])
    agent.fill("root", disk)
    mark(house, agent)
    agent.cut()
    for block in (0, 1, 255, 256, 1299, 1300):
        disk[block * BLOCK] ^= 0x55
    again = hfagent.Agent(agent.identity)
    again.open([Volume("root", "serial:again-%s" % agent.identity.source_id, len(disk))])
    assert again.stream.acked == 0 and again.volumes["root"].frontier == 1301
    assert again.sync("root", disk) == 6
    again.wait_ack()
    assert again.sync("root", disk) == 0
    assert 0 in again.recent("root") and 5 in again.recent("root")
    mark(house, again)
    assert stored(house, again, "root", disk)
    again.close()


def test_the_servers_digests_are_those_of_the_page_on_all_levels(house, agent):
    disk = patchwork(house.random, 2 * 256 * BLOCK + 33 * BLOCK + 5)
    agent.open([Volume("root", "serial:tree-%s" % agent.identity.source_id, len(disk))])
    agent.fill("root", disk)
    agent.write("root", 300, b"\x01" * BLOCK)
    agent.wait_ack()
    disk = disk[:300 * BLOCK] + b"\x01" * BLOCK + disk[301 * BLOCK:]
    for level, nodes in enumerate(hfagent.digest_tree(agent.seed, disk)):
        assert agent.compare("root", level, 0, len(nodes)) == nodes, "level %d" % level
        assert agent.compare("root", level, len(nodes), 3) == [0, 0, 0], "beyond the end, level %d" % level
    agent.close()


def ask_for_point(house, agent, name):
    return house.program("ctl-pit-" + name, [BUILD / "holdfastctl", "--socket", house.served.run_dir, "pit", "create",
                                             agent.identity.source_id, "--name", name])


def test_it_is_asked_for_a_point_and_names_the_request(house, agent):
    disk = random_bytes(house.random, 20 * BLOCK)
    agent.open([Volume("root", "serial:asked-%s" % agent.identity.source_id, len(disk))])
    agent.fill("root", disk)
    mark(house, agent)
    asked = ask_for_point(house, agent, "asked")
    agent.wait(lambda: agent.checkpoint_requests)
    agent.checkpoint("filesystem", request_ids=agent.checkpoint_requests)
    assert asked.process.wait(30) == 0
    point = next(p for p in house.served.points(agent.identity.source_id) if p["name"] == "asked")
    assert point["consistency"] == "filesystem" and point["byHand"] and point["kept"]
    agent.close()


def test_a_point_may_be_asked_for_before_the_stream_goes_on(house, agent):
    disk = random_bytes(house.random, 20 * BLOCK)
    volumes = [Volume("root", "serial:early-%s" % agent.identity.source_id, len(disk))]
    agent.open(volumes)
    agent.fill("root", disk)
    mark(house, agent)
    agent.connect()
    agent.hello()
    asked = ask_for_point(house, agent, "early")
    wait_for(lambda: "name=early" in house.served.program.log.read_text() or asked.process.poll() is not None, 20, "the question to arrive")
    agent.declare(volumes)
    agent.start()
    agent.wait(lambda: agent.checkpoint_requests)
    agent.checkpoint("crash", request_ids=agent.checkpoint_requests)
    assert asked.process.wait(30) == 0
    agent.close()


def test_a_newcomer_of_the_same_installation_fences_the_old_session(house, agent):
    volume = [Volume("root", "serial:fence-%s" % agent.identity.source_id, 10 * BLOCK)]
    agent.open(volume)
    newcomer = hfagent.Agent(agent.identity)
    newcomer.open([Volume("root", "serial:fence-%s" % agent.identity.source_id, 10 * BLOCK)])
    assert agent.wait_end().name == "FENCED"
    newcomer.fill("root", b"x" * 10 * BLOCK)
    newcomer.wait_ack()
    newcomer.close()


def test_its_clock_offset_is_measured(house, agent):
    shifted = hfagent.Agent(agent.identity, clock=lambda: time.time_ns() - 3600 * 10**9)
    shifted.open([Volume("root", "serial:clock-%s" % agent.identity.source_id, BLOCK)])
    source = agent.identity.source_id
    wait_for(lambda: abs(house.served.source(source)["agent"]["clockOffsetSeconds"] + 3600) < 1, 10, "the offset")
    shifted.close()
