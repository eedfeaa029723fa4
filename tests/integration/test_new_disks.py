# SPDX-License-Identifier: Apache-2.0
"""A disk that appears on a source: replicated by itself, or told of, as the source's setting says. Root only: loop devices."""
import os

import pytest

from harness import MIB, Trouble, random_bytes, ready_agent, run, wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="loop devices are root's")


class Slot:
    """A loop device in which one image takes the place of another: what was there when the agent began is not new."""

    def __init__(self, house):
        self.house = house
        self.device = house.loop(house.file(house.unique("before"), random_bytes(house.random, MIB)))

    def put(self, data):
        image = self.house.file(self.house.unique("after"), data)
        self.take()
        wait_for(lambda: self.attached(image), 20, "the loop device to be free")

    def take(self):
        run("losetup", "-d", self.device)

    def attached(self, image):
        try:
            run("losetup", self.device, image)
        except Trouble:
            return False  # somebody still reads the one before
        return True


@pytest.fixture(name="slot")
def slot_fixture(house):
    return Slot(house)


@pytest.fixture(name="agent")
def agent_fixture(house, slot):
    root = house.file(house.unique("root"), random_bytes(house.random, MIB))
    agent = ready_agent(house, house.served, {"root": root}, options=["--new-disks", slot.device])
    yield agent
    agent.stop()


def volumes(house, agent):
    return {disk["deviceName"]: disk for disk in house.served.source(agent.source)["dataReplicationInfo"]["replicatedDisks"]}


def events(house, agent, name):
    return [event for event in house.served.events(name) if event["sourceServerID"] == agent.source]


def is_filled(house, agent, device):
    disk = volumes(house, agent).get(device)
    return disk is not None and disk["replicatedStorageBytes"] == disk["totalStorageBytes"]


def test_a_new_disk_is_replicated_by_itself_and_stays_a_volume(house, agent, slot):
    assert set(volumes(house, agent)) == {str(agent.volumes["root"])}
    data = random_bytes(house.random, 2 * MIB)
    slot.put(data)
    wait_for(lambda: is_filled(house, agent, slot.device), 30, "the new disk to be replicated")
    name = volumes(house, agent)[slot.device]["name"]
    assert name == os.path.basename(slot.device)
    assert name in wait_for(lambda: events(house, agent, "volume_added"), 20, "the event")[0]["text"]
    agent.restart("kill")
    house.served.ctl("wait", agent.source, "--for", "point", "--timeout", "60s")
    point = house.served.point(agent.source, "with-the-new-disk")
    assert house.served.export(agent.source, name, point["pointInTimeID"]).read_bytes() == data
    assert len(events(house, agent, "volume_added")) == 1


def test_where_the_setting_is_off_it_is_told_once_and_taken_when_that_is_switched_on(house, agent, slot):
    house.served.ctl("source", "set", agent.source, "auto-replicate-new-disks=off")
    agent.restart("stop")  # its first heartbeat says so
    house.served.wait_streaming(agent.source)
    slot.put(random_bytes(house.random, MIB))
    told = wait_for(lambda: events(house, agent, "new_disk"), 30, "the event")
    assert slot.device in told[0]["text"] and "auto-replicate-new-disks=on" in told[0]["text"]
    assert slot.device not in volumes(house, agent)
    shown = wait_for(lambda: house.served.source(agent.source)["newDisks"], 20, "the disk to be listed")
    assert [(disk["deviceName"], disk["bytes"]) for disk in shown] == [(slot.device, MIB)]
    assert "new disk" in house.served.ctl("source", "show", agent.source).stdout
    house.served.ctl("source", "set", agent.source, "auto-replicate-new-disks=on")
    wait_for(lambda: is_filled(house, agent, slot.device), 30, "the new disk to be replicated")
    wait_for(lambda: house.served.source(agent.source)["newDisks"] == [], 20, "it to be new no more")
    assert len(events(house, agent, "new_disk")) == 1


def test_one_that_is_taken_out_again_is_not_shown_any_more(house, agent, slot):
    house.served.ctl("source", "set", agent.source, "auto-replicate-new-disks=off")
    agent.restart("stop")
    house.served.wait_streaming(agent.source)
    slot.put(random_bytes(house.random, MIB))
    wait_for(lambda: house.served.source(agent.source)["newDisks"], 30, "the disk to be listed")
    slot.take()
    wait_for(lambda: house.served.source(agent.source)["newDisks"] == [], 30, "it to be gone from the list")


def test_what_was_there_at_the_first_start_is_never_new(house, agent, slot):
    agent.restart("stop")
    house.served.wait_streaming(agent.source)
    other = Slot(house)  # no pattern matches it, and it is a loop device
    slot.put(random_bytes(house.random, MIB))
    wait_for(lambda: is_filled(house, agent, slot.device), 30, "the new disk to be replicated")
    assert other.device not in volumes(house, agent) and len(volumes(house, agent)) == 2
