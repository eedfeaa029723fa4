# SPDX-License-Identifier: Apache-2.0
"""What new sources begin with, and what is set of one: targets, tags."""
import contextlib
import json
import re
import signal
import sqlite3

import pytest

from harness import MIB, Refusal, UnixConnection, random_bytes, ready_agent, wait_for


@pytest.fixture(name="db", scope="module")
def db_fixture(house):
    """A source that was there before anything was set."""
    return ready_agent(house, house.served, {"root": house.file("root", random_bytes(house.random, MIB))})


def metrics(house):
    connection = UnixConnection(house.served.run_dir / "monitor.sock", 20)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return text


def told(house, event):
    return [e["text"] for e in house.served.events(event)]


def settings(house):
    return json.loads(house.served.ctl("settings", "show", "--json").stdout)


def test_nothing_is_set_at_first_and_a_source_has_the_defaults(house, db):
    assert settings(house)["set"] == []
    assert settings(house)["rpoTargetSeconds"] is None and settings(house)["autoReplicateNewDisks"] is True
    assert [rule["units"] for rule in settings(house)["pitPolicy"]] == ["MINUTE", "HOUR", "DAY"]
    source = house.served.source(db.source)
    assert (source["rpoTargetSeconds"], source["autoReplicateNewDisks"], source["tags"]) == (None, True, {})


def test_a_new_source_begins_with_what_is_set_and_the_others_stay(house, db):
    said = house.served.ctl("settings", "set", "rpo-target=15m", "auto-replicate-new-disks=off", "bandwidth=800", "pit-policy=1h/24h", "journal-window=30m",
                            "min-retention=1s", "quota=1GiB", "when-full=thin").stdout
    assert "15m" in said and "1h/24h" in said
    house.served.ctl("settings", "tag", "site=berlin", "team=")
    assert sorted(settings(house)["set"]) == ["autoReplicateNewDisks", "bandwidthThrottling", "journalWindowSeconds", "minRetentionSeconds", "pitPolicy", "quotaBytes",
                                              "rpoTargetSeconds", "tags", "whenFull"]
    house.served.restart("kill")
    web = house.served.source(ready_agent(house, house.served, {"root": house.file("web", random_bytes(house.random, MIB))}).source)
    assert (web["rpoTargetSeconds"], web["autoReplicateNewDisks"], web["tags"]) == (900, False, {"site": "berlin", "team": ""})
    assert [(rule["units"], rule["interval"], rule["retentionDuration"]) for rule in web["pitPolicy"]] == [("HOUR", 1, 24)]
    assert (web["journalWindowSeconds"], web["retention"]["minRetentionSeconds"]) == (1800, 1)
    assert (web["space"]["quotaBytes"], web["space"]["whenFull"]) == (1 << 30, "thin")
    old = house.served.source(db.source)
    assert (old["rpoTargetSeconds"], old["tags"], old["space"]["quotaBytes"], len(old["pitPolicy"])) == (None, {}, None, 3)
    house.served.ctl("settings", "untag", "site", "team")
    house.served.ctl("settings", "set", *[key + "=default" for key in (
        "rpo-target", "auto-replicate-new-disks", "bandwidth", "pit-policy", "journal-window", "min-retention", "quota", "when-full")])
    assert settings(house)["rpoTargetSeconds"] is None and settings(house)["tags"] == {} and len(settings(house)["pitPolicy"]) == 3
    assert house.served.events("settings_set")[0]["text"].startswith("rpo-target=15m")


def test_the_worst_of_several_of_one_name_is_told_by_id_too(house, db):
    ready_agent(house, house.served, {"root": house.file("twin", random_bytes(house.random, MIB))})
    said = " ".join(house.served.ctl("status").stdout.split())
    assert re.search(r"; worst lag \S+, of \S+ \(s-[0-9a-f]+\) ", said), said


def test_what_is_set_of_a_source_holds_at_once_over_a_restart_and_disconnects_nobody(house, db):
    house.served.wait_streaming(db.source)
    address = house.served.source(db.source)["agent"]["address"]
    house.served.ctl("source", "set", db.source, "rpo-target=90s", "auto-replicate-new-disks=off")
    source = house.served.source(db.source)
    assert (source["rpoTargetSeconds"], source["autoReplicateNewDisks"], source["agent"]["address"]) == (90, False, address)
    event = wait_for(lambda: house.served.events("source_set"), 20, "its event")[-1]
    assert (event["sourceServerID"], event["text"]) == (db.source, "rpo-target=90s auto-replicate-new-disks=off")
    house.served.restart("kill")
    assert house.served.source(db.source)["rpoTargetSeconds"] == 90
    assert "1m30s" in house.served.ctl("source", "show", db.source).stdout
    house.served.ctl("source", "set", db.source, "rpo-target=default")
    source = house.served.source(db.source)
    assert (source["rpoTargetSeconds"], source["autoReplicateNewDisks"]) == (None, False)


@pytest.mark.parametrize("event", ["source_set", "settings_set"])
def test_what_is_set_to_what_it_was_is_no_event_however_the_number_is_written(house, db, event):
    shown, path = {"source_set": ("/v1/source-servers/" + db.source, "/v1/source-servers/%s/settings" % db.source),
                   "settings_set": ("/v1/settings", "/v1/settings")}[event]
    before = told(house, event)
    for seconds in (90, 90.0, 90, 91.0, None):
        house.served.request("POST", path, {"rpoTargetSeconds": seconds}, admin=True)
        house.served.request("POST", path, {"rpoTargetSeconds": house.served.get(shown)["rpoTargetSeconds"]}, admin=True)
    wanted = ["rpo-target=90s", "rpo-target=91s", "rpo-target=default"]
    wait_for(lambda: set(wanted) <= set(told(house, event)[len(before):]), 20, "the events")
    assert told(house, event)[len(before):] == wanted


def test_tags_of_an_older_version_that_may_not_be_shown_cost_no_setting(house, db):
    house.served.ctl("source", "set", db.source, "rpo-target=90s", "auto-replicate-new-disks=off")
    house.served.ctl("settings", "set", "rpo-target=7m")
    house.served.stop()
    tags = {"tags": {"red\x9b": "\x9b31mred", "role": "db"}}
    with contextlib.closing(sqlite3.connect(house.served.data / "holdfast.db")) as database, database:
        for table, column, key, value in (("source", "settings", "id", db.source), ("setting", "value", "key", "new_source")):
            kept, = database.execute("SELECT %s FROM %s WHERE %s = ?" % (column, table, key), (value,)).fetchone()
            database.execute("UPDATE %s SET %s = ? WHERE %s = ?" % (table, column, key), (json.dumps(json.loads(kept) | tags, ensure_ascii=False), value))
    house.served.start()
    shown = {"red??": "??31mred", "role": "db"}
    source = house.served.source(db.source)
    assert (source["rpoTargetSeconds"], source["autoReplicateNewDisks"], source["tags"]) == (90, False, shown)
    assert (settings(house)["rpoTargetSeconds"], settings(house)["tags"]) == (420, shown)
    house.served.ctl("source", "set", db.source, "rpo-target=2m")
    assert house.served.source(db.source)["tags"] == shown
    house.served.ctl("source", "untag", db.source, "red??", "role")
    house.served.ctl("settings", "untag", "red??", "role")
    assert house.served.source(db.source)["tags"] == settings(house)["tags"] == {}
    for verb in (("source", "set", db.source), ("settings", "set")):
        house.served.ctl(*verb, "rpo-target=default", "auto-replicate-new-disks=default")


def test_a_target_that_is_missed_is_told_and_ready_does_not_depend_on_it(house, db):
    house.served.wait_streaming(db.source)
    house.served.ctl("source", "set", db.source, "rpo-target=1h")
    assert house.served.source(db.source)["rpoTargetMet"] is True
    db.stop()
    house.served.ctl("source", "set", db.source, "rpo-target=1s")
    wait_for(lambda: house.served.source(db.source)["rpoTargetMet"] is False, 20, "the target to be missed")
    wait_for(lambda: house.served.events("rpo_missed"), 20, "the event")
    assert house.served.source(db.source)["ready"]
    assert 'holdfast_source_rpo_target_seconds{source="%s"} 1' % db.source in metrics(house)
    assert "RPO target 1.0s" in " ".join(house.served.ctl("status").stdout.split())
    assert "missed" in house.served.ctl("source", "show", db.source).stdout
    house.served.ctl("source", "set", db.source, "rpo-target=none")
    wait_for(lambda: house.served.events("rpo_met"), 20, "the event")
    assert house.served.source(db.source)["rpoTargetMet"] is None
    db.start()


def test_a_target_that_is_missed_now_and_then_is_told_once(house, db):
    house.served.wait_streaming(db.source)
    house.served.ctl("source", "set", db.source, "rpo-target=2s")
    wait_for(lambda: house.served.source(db.source)["rpoTargetMet"], 20, "the target to be met")
    told = len(house.served.events("rpo_missed"))
    for _ in range(3):
        db.program.signal(signal.SIGSTOP)
        wait_for(lambda: house.served.source(db.source)["rpoTargetMet"] is False, 20, "the target to be missed")
        wait_for(lambda: len(house.served.events("rpo_missed")) > told, 20, "the event")
        db.program.signal(signal.SIGCONT)
        wait_for(lambda: house.served.source(db.source)["rpoTargetMet"], 20, "the target to be met again")
    assert len(house.served.events("rpo_missed")) == told + 1
    house.served.ctl("source", "set", db.source, "rpo-target=none")


def test_tags_are_given_taken_and_looked_for(house, db):
    house.served.ctl("source", "tag", db.source, "role=db", "query=a=b", "größe=klein")
    house.served.ctl("source", "tag", db.source, "role=dba")
    said = house.served.ctl("source", "untag", db.source, "query", "never-there").stdout
    assert "tags.query removed tags.never-there was not there" in said
    assert "tags.query was not there" in house.served.ctl("source", "untag", db.source, "query").stdout
    house.served.ctl("settings", "tag", "site=berlin")
    house.served.ctl("settings", "untag", "site", "never-there")
    house.served.ctl("settings", "untag", "site")
    assert settings(house)["set"] == []
    house.served.ctl("source", "tag", db.source, "told=last")
    wait_for(lambda: {"tags.told=last", said.split(": ", 1)[1].strip()} <= set(told(house, "source_set")), 20, "the events")
    assert "tags.query was not there" not in told(house, "source_set"), "what changed nothing is no event"
    wait_for(lambda: "tags.site removed tags.never-there was not there" in told(house, "settings_set"), 20, "the event")
    assert "tags.site was not there" not in told(house, "settings_set")
    house.served.ctl("source", "untag", db.source, "told")
    assert house.served.source(db.source)["tags"] == {"role": "dba", "größe": "klein"}
    shown = house.served.ctl("source", "show", db.source).stdout
    assert "role=dba" in shown and "größe=klein" in shown
    for words, found in ((("--tag", "role"), True), (("--tag", "role=dba"), True), (("--tag", "role=db"), False), (("--tag", "rol"), False)):
        for command in (("source", "list"), ("status",)):
            rows = house.served.ctl(*command, "-H", "-o", "id", *words).stdout.split()
            assert rows == ([db.source] if found else []), (command, words)


def test_tags_beyond_the_limits_are_refused_and_nothing_is_changed(house, db):
    before = house.served.source(db.source)["tags"]
    for words in (["k" * 129 + "=v"], ["k=" + "v" * 257], ["=v"], ["no-equals-sign"], ["red=\x1b[31m"]):
        done = house.served.ctl("source", "tag", db.source, *words, check=None)
        assert done.returncode == 2 and "\x1b" not in done.stderr, done.stderr
    path = "/v1/source-servers/%s/settings" % db.source
    house.served.request("POST", path, {"tags": {"key%d" % i: "x" for i in range(48)}}, admin=True)
    assert len(house.served.source(db.source)["tags"]) == 50
    with pytest.raises(Refusal) as refusal:
        house.served.request("POST", path, {"tags": {"one-more": "x"}}, admin=True)
    assert refusal.value.status == 400 and "50" in refusal.value.problem["detail"]
    house.served.request("POST", path, {"tags": {"one-more": "x", "key0": None}}, admin=True)
    assert len(house.served.source(db.source)["tags"]) == 50
    house.served.request("POST", path, {"tags": None}, admin=True)
    assert house.served.source(db.source)["tags"] == {} and before


@pytest.mark.parametrize("words", [["rpo-target"], ["rpo-target=soon"], ["quota=1GiB"], ["tags=x"], ["rpo-target=1m", "what=ever"]])
def test_mistakes_are_named_and_nothing_is_changed(house, db, words):
    done = house.served.ctl("source", "set", db.source, *words, check=None)
    assert done.returncode == 2 and words[-1] in done.stderr, done.stderr
    assert house.served.source(db.source)["rpoTargetSeconds"] is None


@pytest.mark.parametrize("body", [{}, {"rpoTargetSeconds": -1}, {"pitPolicy": []}, {"tags": {"a": 1}}, {"other": 1}, [], {"autoReplicateNewDisks": "yes"}])
def test_the_api_refuses_what_is_no_setting_of_a_source(house, db, body):
    with pytest.raises(Refusal) as refusal:
        house.served.request("POST", "/v1/source-servers/%s/settings" % db.source, body, admin=True)
    assert refusal.value.status == 400


def test_the_monitor_socket_shows_settings_and_changes_none(house, db):
    assert house.served.request("GET", "/v1/settings")["autoReplicateNewDisks"] is True
    for path in ("/v1/settings", "/v1/source-servers/%s/settings" % db.source):
        with pytest.raises(Refusal) as refusal:
            house.served.request("POST", path, {"rpoTargetSeconds": 60})
        assert refusal.value.status == 403
