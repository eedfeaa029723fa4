# SPDX-License-Identifier: Apache-2.0
"""holdfastctl wait: until something is true of a source."""
import concurrent.futures
import json

import pytest

import hfagent
from harness import BLOCK, MIB, random_bytes, wait_for


@pytest.fixture(name="db", scope="module")
def db_fixture(house):
    """A source whose agent does not run yet."""
    return house.agent(house.served, {"root": house.file("root", random_bytes(house.random, MIB))})


def wait(house, *words, check=0):
    return house.served.ctl("wait", *words, check=check)


def test_what_does_not_become_true_in_time_is_exit_6_and_says_what_holds_it_up(house, db):
    for goal in ("ready", "point", "synced", "state=CONTINUOUS"):
        said = wait(house, db.source, "--for", goal, "--timeout", "1s", check=6)
        assert said.stdout == "" and house.served.state(db.source) in said.stderr, said.stderr
    said = wait(house, db.source, "--timeout", "1s", "--json", check=6)
    assert json.loads(said.stdout)["sourceServerID"] == db.source and "not in time" in said.stderr


@pytest.mark.parametrize("goal, holds", [
    ("synced", lambda s: all(d["replicatedStorageBytes"] == d["totalStorageBytes"] for d in s["dataReplicationInfo"]["replicatedDisks"])),
    ("ready", lambda s: s["ready"]), ("state=CONTINUOUS", lambda s: s["dataReplicationInfo"]["dataReplicationState"] == "CONTINUOUS"),
    ("point", lambda s: s["newestPointInTime"] is not None)])
def test_the_wait_ends_when_it_becomes_true(house, goal, holds):
    agent = house.agent(house.served, {"root": house.file(house.unique("disk"), random_bytes(house.random, MIB))})
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(wait, house, agent.source, "--for", goal, "--json", "--timeout", "60s")
        agent.start()
        assert holds(json.loads(waiting.result().stdout))
    agent.stop()


def test_a_point_that_was_there_before_is_not_the_one_waited_for(house, db):
    db.start()
    wait(house, db.source)
    db.stop()
    house.served.wait_state(db.source, "DISCONNECTED")
    assert wait(house, db.source, "--for", "ready").stdout.startswith(db.source)
    wait(house, db.source, "--for", "point", "--timeout", "1s", check=6)
    said = wait(house, db.source, "--for", "synced", "--timeout", "1s", check=6).stderr
    assert "waiting: %s is DISCONNECTED: the agent" % db.source in said and "100 %" not in said


def test_what_waits_at_the_source_is_not_synced(house):
    identity = hfagent.enroll(("127.0.0.1", house.served.enroll_port), house.served.token(), house.path("backlogged"))
    agent = hfagent.Agent(identity)
    house.on_end(agent.cut)
    agent.backlog_bytes = BLOCK
    agent.open([hfagent.Volume("root", "serial:backlogged", 4 * BLOCK)])
    agent.fill("root", random_bytes(house.random, 4 * BLOCK))
    agent.checkpoint("crash")
    source = identity.source_id
    wait_for(lambda: house.served.source(source)["backlogBytes"] == BLOCK and house.served.source(source)["ready"], 20, "the backlog to be told")
    wait(house, source, "--for", "synced", "--timeout", "1s", check=6)
    agent.backlog_bytes = 0
    wait(house, source, "--for", "synced", "--timeout", "60s")


@pytest.mark.parametrize("words, code", [(["--for", "miracle"], 2), (["--for", "state=GOOD"], 2), (["--timeout", "soon"], 2)])
def test_what_cannot_be_waited_for_is_refused(house, db, words, code):
    assert words[-1] in wait(house, db.source, *words, check=code).stderr


def test_an_unknown_source_and_a_daemon_that_is_gone_end_it(house, db):
    wait(house, "nobody", check=4)
    house.served.stop()
    wait(house, db.source, check=3)
