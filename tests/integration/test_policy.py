# SPDX-License-Identifier: Apache-2.0
"""Which points are kept: a source's policy, changed by command and by API while its agent replicates; and retention, frozen and thawed."""
import concurrent.futures
import json

import pytest

from harness import BLOCK, MIB, Refusal, random_bytes, ready_agent, wait_for

RULES = [{"ruleID": 1, "units": "MINUTE", "interval": 10, "retentionDuration": 60, "enabled": True},
         {"ruleID": 2, "units": "HOUR", "interval": 1, "retentionDuration": 24, "enabled": True},
         {"ruleID": 3, "units": "DAY", "interval": 1, "retentionDuration": 7, "enabled": True}]


@pytest.fixture(name="db", scope="module")
def db_fixture(house):
    """A source with one small disk."""
    return ready_agent(house, house.served, {"root": house.file("root", random_bytes(house.random, MIB))})


def show(house, db):
    return json.loads(house.served.ctl("policy", "show", db.source, "--json").stdout)


def change(house, db, body):
    return house.served.request("POST", "/v1/source-servers/%s/policy" % db.source, body, admin=True)


def session_of(house, db):
    return house.served.source(db.source)["agent"]["address"]


def test_a_new_source_has_the_policy_of_drs(house, db):
    assert show(house, db)["pitPolicy"] == RULES
    assert show(house, db)["journalWindowSeconds"] == 3600
    said = house.served.ctl("policy", "show", db.source).stdout
    assert "10m" in said and "every checkpoint for 1h" in said
    rows = house.served.ctl("policy", "show", db.source, "-Hp").stdout.splitlines()
    assert [row.split("\t")[:3] for row in rows] == [["1", "600", "3600"], ["2", "3600", "86400"], ["3", "86400", "604800"]]


def test_a_policy_set_by_command_holds_at_once_and_over_a_restart_and_disconnects_nobody(house, db):
    before = session_of(house, db)
    said = house.served.ctl("policy", "set", db.source, "5m/15m", "10m/60m", "1h/24h", "4h/48h", "1d/30d", "--journal-window", "2h").stdout
    assert "5m/15m 10m/60m 1h/24h 4h/48h 1d/30d" in said
    policy = show(house, db)
    assert [(r["ruleID"], r["interval"], r["retentionDuration"], r["units"]) for r in policy["pitPolicy"]] == [
        (1, 5, 15, "MINUTE"), (2, 10, 60, "MINUTE"), (3, 1, 24, "HOUR"), (4, 4, 48, "HOUR"), (5, 1, 30, "DAY")]
    assert policy["journalWindowSeconds"] == 7200
    assert session_of(house, db) == before and house.served.is_streaming(db.source)
    assert wait_for(lambda: house.served.events("policy_set"), 20, "its event")[-1]["sourceServerID"] == db.source
    house.served.restart("kill")
    house.served.wait_streaming(db.source)
    assert show(house, db) == policy


def test_two_who_change_different_things_at_once_both_have_what_they_said(house, db):
    for i in range(1, 25):
        bodies = [{"pitPolicy": [{**RULES[0], "interval": i}]}, {"journalWindowSeconds": 3600 + i}]
        with concurrent.futures.ThreadPoolExecutor(len(bodies)) as pool:
            list(pool.map(lambda body: change(house, db, body), bodies))
        now = show(house, db)
        assert (now["pitPolicy"][0]["interval"], now["journalWindowSeconds"]) == (i, 3600 + i)
    change(house, db, {"pitPolicy": RULES, "journalWindowSeconds": 3600})


def test_the_newest_point_is_kept_by_the_rules_of_the_policy_there_is(house, db):
    change(house, db, {"pitPolicy": [{**RULES[1], "ruleID": 7}, {**RULES[2], "ruleID": 3}]})
    kept = wait_for(lambda: [p for p in house.served.points(db.source) if p["kept"] and 7 in p["ruleIDs"]], 20, "a point of the policy")
    assert kept[0]["ruleIDs"] == [7, 3]
    assert kept[0]["expectedTimestamp"] <= kept[0]["timestamp"]
    assert [v["sizeBytes"] for v in kept[0]["volumes"]] == [MIB]
    listed = house.served.ctl("pit", "list", db.source, "-o", "id,time,planned,kept,size").stdout
    assert kept[0]["pointInTimeID"] in listed and "rule 7,3" in listed


def test_only_what_is_said_changes(house, db):
    change(house, db, {"pitPolicy": RULES, "journalWindowSeconds": 60, "minRetentionSeconds": 0})
    house.served.ctl("policy", "set", db.source, "--journal-window", "30m")
    assert show(house, db)["pitPolicy"] == RULES
    change(house, db, {"minRetentionSeconds": 1})
    policy = show(house, db)
    assert (policy["journalWindowSeconds"], policy["minRetentionSeconds"]) == (1800, 1)
    house.served.ctl("policy", "set", db.source, "none")
    assert show(house, db)["pitPolicy"] == []
    assert show(house, db)["journalWindowSeconds"] == 1800


@pytest.mark.parametrize("words, named", [
    (["10m"], '"10m"'), (["1h/24h", "tomorrow/7d"], '"tomorrow/7d"'), (["90s/60m"], "whole minutes"), (["1h/24h", "60m/10m"], "rule 2"),
    (["1m/7d"], "10080 points"), (["1h/2h"] * 17, None), ([], "--journal-window"), (["--journal-window", "soon"], "--journal-window soon"),
    (["--journal-window", "31d"], "30 days")])
def test_mistakes_on_the_command_line_are_named(house, db, words, named):
    before = show(house, db)
    done = house.served.ctl("policy", "set", db.source, *words, check=None)
    assert done.returncode in (1, 2) and (named is None or named in done.stderr), done.stderr
    assert show(house, db) == before


@pytest.mark.parametrize("body, named", [
    ({"pitPolicy": [{**RULES[0], "units": "WEEK"}]}, "rule 1"), ({"pitPolicy": [RULES[0], {**RULES[1], "interval": 0}]}, "rule 2"),
    ({"pitPolicy": [RULES[0], RULES[0]]}, "ruleID 1"), ({"pitPolicy": [{"units": "DAY"}]}, "interval"),
    ({"pitPolicy": [{**RULES[0], "retention": 5}]}, "retention"), ({"pitPolicy": {}}, "pitPolicy"), ({"pitPolicy": [RULES[0]] * 17}, "16"),
    ({"journalWindowSeconds": -1}, "journalWindowSeconds"), ({"journalWindowSeconds": "1h"}, "journalWindowSeconds"),
    ({"minRetentionSeconds": 4e9}, "minRetention"), ({}, "pitPolicy"), ({"policy": []}, "policy")])
def test_mistakes_in_a_body_are_named(house, db, body, named):
    before = show(house, db)
    with pytest.raises(Refusal) as refused:
        change(house, db, body)
    assert refused.value.status == 400 and named in refused.value.problem["detail"], refused.value.problem
    assert show(house, db) == before


def test_a_point_that_min_retention_guards_is_not_deleted(house, db):
    house.served.ctl("policy", "set", db.source, "--min-retention", "1h")
    point = house.served.point(db.source, "guarded")["pointInTimeID"]
    with open(db.volumes["root"], "r+b") as f:
        f.write(house.random.randbytes(BLOCK))
    house.served.point(db.source, "newer")  # it is not the only complete one
    done = house.served.ctl("pit", "delete", point, "--yes", check=1)
    assert "minRetention guards" in done.stderr
    house.served.ctl("policy", "set", db.source, "--min-retention", "0")
    house.served.ctl("pit", "delete", point, "--yes", check=1)  # it was promised


def frozen(house, db):
    return house.served.source(db.source)["retention"]["frozenSinceDateTime"]


def test_retention_is_frozen_over_a_restart_and_thawed(house, db):
    assert frozen(house, db) is None and not house.served.source(db.source)["retention"]["stopped"]
    house.served.ctl("retention", "freeze", db.source)
    since = frozen(house, db)
    assert since is not None and house.served.source(db.source)["retention"]["stopped"]
    assert "frozen" in house.served.ctl("status").stdout and "frozen" in house.served.ctl("source", "show", db.source).stdout
    house.served.restart("kill")
    house.served.wait_streaming(db.source)
    assert frozen(house, db) == since
    answers = json.loads(house.served.ctl("retention", "thaw", "--all", "--json").stdout)["items"]
    assert [a["sourceServerID"] for a in answers] == [db.source]
    assert frozen(house, db) is None
    assert "frozen" not in house.served.ctl("status").stdout
    wait_for(lambda: house.served.events("retention_frozen") and house.served.events("retention_thawed"), 20, "their events")
    house.served.ctl("retention", "freeze", check=2)
    house.served.ctl("retention", "freeze", db.source, "--all", check=2)


def moment(house, db, daemon=None):
    """Something is written, and then there is a checkpoint to recover from, which is no point by name."""
    daemon = daemon or house.served
    before = int(daemon.newest(db.source)["lsn"])
    with open(db.volumes["root"], "r+b") as f:
        f.seek((MIB // BLOCK - 1) * BLOCK)
        f.write(house.random.randbytes(BLOCK))
    return wait_for(lambda: int(daemon.newest(db.source)["lsn"]) > before and daemon.newest(db.source), 30, "a checkpoint")


def listed(house, db):
    return {p["pointInTimeID"] for p in house.served.points(db.source)}


def test_the_journal_window_stays_open_behind_while_it_is_frozen(house, db):
    house.served.ctl("policy", "set", db.source, "none", "--journal-window", "1s")
    house.served.ctl("retention", "freeze", db.source)
    seen = [moment(house, db)["pointInTimeID"] for _ in range(8)]
    assert set(seen) <= listed(house, db)
    house.served.ctl("retention", "thaw", db.source)

    def closed():
        moment(house, db)
        return not set(seen) & listed(house, db)
    wait_for(closed, 60, "the window to close behind")


def test_new_sources_have_what_the_configuration_says(rig):
    daemon = rig.daemon(pit__policy="30m/12h 1d/30d", pit__journal_window="10m", pit__min_retention="1h")
    agent = ready_agent(rig, daemon, {"root": rig.file("root", random_bytes(rig.random, MIB))})
    source = daemon.source(agent.source)
    assert [(r["interval"], r["retentionDuration"], r["units"]) for r in source["pitPolicy"]] == [(30, 720, "MINUTE"), (1, 30, "DAY")]
    assert (source["journalWindowSeconds"], source["retention"]["minRetentionSeconds"]) == (600, 3600)


# ---- what points cost ----

def overwrite(rig, disk, first, count):
    with open(disk, "r+b") as f:
        f.seek(first * BLOCK)
        f.write(rig.random.randbytes(count * BLOCK))


@pytest.fixture(name="costly", scope="module")
def costly_fixture(house):
    """Three points by name, each of which alone sees what the one after it wrote over; all of it in runs."""
    daemon = house.daemon(storage__segment_size="1MiB", pit__journal_window="1s", pit__policy="none")
    db = ready_agent(house, daemon, {"root": house.file("costly", random_bytes(house.random, 4 * MIB))})
    db.daemon = daemon
    db.points = {}
    for name, blocks in ("one", 300), ("two", 200), ("three", 100), ("four", 300):
        overwrite(house, db.volumes["root"], 0, blocks)
        db.points[name] = daemon.point(db.source, name)["pointInTimeID"]
    overwrite(house, db.volumes["root"], 0, 300)
    daemon.point(db.source, "five")
    daemon.restart("stop")
    daemon.wait_streaming(db.source)
    return db


def plan_of(db, rules):
    return json.loads(db.daemon.ctl("pit", "plan", db.source, "--policy", rules, "--json").stdout)


def test_each_point_says_what_it_alone_sees_and_what_goes_with_it(house, costly):
    def counted():
        moment(house, costly, costly.daemon)  # the window moves on
        listed = {p["pointInTimeID"]: p for p in costly.daemon.points(costly.source)}
        wanted = [listed[costly.points[name]] for name in ("one", "two", "three", "four")]
        return all(p["uniqueBytes"] is not None for p in wanted) and wanted[1]["uniqueBytes"] > 0 and wanted
    one, two, three, four = wait_for(counted, 120, "points to be counted")
    assert two["uniqueBytes"] == two["freedBytesIfDeleted"] == 100 * BLOCK  # one's other 100 are there too, under three's
    assert three["uniqueBytes"] == 100 * BLOCK
    assert four["uniqueBytes"] == 300 * BLOCK
    assert one["freedBytesIfDeleted"] >= one["uniqueBytes"]
    costliest = wait_for(lambda: costly.daemon.source(costly.source)["space"]["costliestPointInTime"], 20, "the status")
    assert costliest["freedBytesIfDeleted"] >= 300 * BLOCK
    assert costly.points["two"] in costly.daemon.ctl("pit", "list", costly.source, "-o", "id,unique,frees").stdout


def test_a_plan_tells_what_goes_and_what_that_frees_and_changes_nothing(house, costly):
    before = {p["pointInTimeID"] for p in costly.daemon.points(costly.source) if p["kept"]}
    plan = plan_of(costly, "none")
    assert [p["goes"] for p in plan["items"] if p["name"]] == [False] * 5  # people made them
    assert plan["freedBytes"] == 0 and plan["keptBytes"] > 600 * BLOCK
    said = costly.daemon.ctl("pit", "plan", costly.source, "--policy", "10m/60m").stdout
    assert "0 of 5 kept points would go" in said and "four" in said
    assert {p["pointInTimeID"] for p in costly.daemon.points(costly.source) if p["kept"]} == before
    costly.daemon.ctl("pit", "plan", costly.source, check=2)
    assert '"soon"' in costly.daemon.ctl("pit", "plan", costly.source, "--policy", "soon", check=None).stderr
