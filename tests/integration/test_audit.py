# SPDX-License-Identifier: Apache-2.0
"""The audit: who asked for what, what came of it, and that nobody changes it unseen."""
import json
import os
import sqlite3

import pytest

from harness import Refusal, wait_for


def rows(daemon, *options):
    return json.loads(daemon.ctl("audit", "--json", *options).stdout)["items"]


def results(daemon):
    return {row["requestID"]: row["result"] for row in rows(daemon) if row["result"]}


def requests(daemon):
    return [row for row in rows(daemon) if not row["result"]]


def tamper(daemon, statement):
    """With a database editor, while nobody looks."""
    daemon.stop()
    with sqlite3.connect(daemon.data / "holdfast.db") as database:
        database.execute(statement)
    database.close()
    daemon.start()


def test_who_asked_for_what_and_what_came_of_it(rig):
    daemon = rig.daemon()
    token = daemon.request("POST", "/v1/tokens", {}, admin=True)["tokenID"]
    daemon.request("DELETE", "/v1/tokens/%s" % token, admin=True)
    with pytest.raises(Refusal):
        daemon.request("DELETE", "/v1/tokens/tok-00000000000000000", admin=True)
    wait_for(lambda: len(results(daemon)) == 3, 20, "the results")
    asked = requests(daemon)
    assert [(row["verb"], results(daemon)[row["requestID"]]) for row in asked] == [
        ("token.create", "OK"), ("token.revoke", "OK"), ("token.revoke", "ENOENT")]
    assert asked[1]["object"] == token and {row["uid"] for row in asked} == {os.geteuid()} and asked[0]["pid"] == os.getpid()
    shown = daemon.ctl("audit", "-H", "-o", "verb,object,result").stdout.splitlines()
    assert shown[1:] == ["token.revoke\t%s\tOK" % token, "token.revoke\ttok-00000000000000000\tENOENT"]
    assert daemon.ctl("audit", "-H", "--tail", "1", "-o", "result").stdout == "ENOENT\n"
    log = daemon.program.log.read_text()
    assert all("audit=%d digest=%s" % (row["number"], row["digest"]) in log for row in asked)
    with pytest.raises(Refusal) as refused:
        daemon.get("/v1/audit")
    assert refused.value.status == 403, "it is nothing for the monitor socket"


def test_the_object_says_what_was_asked(rig):
    daemon = rig.daemon()
    source = rig.agent(daemon, {"root": rig.file("disk", b"x" * 4096)}).source
    path = "/v1/source-servers/%s/" % source
    hourly = {"enabled": True, "interval": 1, "retentionDuration": 24, "ruleID": 1, "units": "HOUR"}
    long = [dict(hourly, ruleID=i, interval=52000000, retentionDuration=52000000, units="MINUTE") for i in range(1, 17)]
    asked = [("policy", {"pitPolicy": [hourly], "journalWindowSeconds": 7200}, "pit-policy=1h/24h journal-window=2h"),
             ("quota", {"quotaBytes": 1 << 30, "whenFull": "thin"}, "quota=1GiB when-full=thin"),
             ("quota", {"quotaBytes": None}, "quota=default"),
             ("throttle", {"bandwidthThrottling": 20}, "20 Mbps"),
             ("settings", {"rpoTargetSeconds": 900, "tags": {"team": "db"}}, "rpo-target=15m tags.team=db")]
    for verb, body, _ in asked:
        daemon.request("POST", path + verb, body, admin=True)
    daemon.request("POST", "/v1/settings", {"quotaBytes": 1 << 31}, admin=True)
    daemon.request("POST", path + "policy", {"pitPolicy": long}, admin=True)
    objects = [row["object"] for row in requests(daemon)][1:]  # the first is the token's
    assert objects[:6] == ["%s %s" % (source, said) for _, _, said in asked] + ["quota=2GiB"]
    assert objects[6].startswith("%s pit-policy=52000000m/52000000m 520" % source) and len(objects[6]) == 255, "as far as there is room"
    assert daemon.ctl("audit", "--verify").stdout.startswith("intact: ")


def test_who_changes_it_afterwards_is_found_out(rig):
    daemon = rig.daemon()
    for _ in range(4):
        daemon.token()
    wait_for(lambda: len(results(daemon)) == 4, 20, "the results")
    newest = rows(daemon)[-1]
    assert daemon.ctl("audit", "--verify").stdout == "intact: 8 rows; the newest is 8, digest %s\n" % newest["digest"]
    tamper(daemon, "UPDATE audit SET uid = 4711 WHERE number = 3")
    assert daemon.ctl("audit", "--verify", check=6).stdout.startswith("row 3 is not what was written")
    tamper(daemon, "DELETE FROM audit WHERE number = 3")
    done = daemon.ctl("audit", "--verify", check=6)
    assert "row 3 is missing" in done.stdout and "NOT INTACT: 1 fault in 7 rows" in done.stdout
    daemon.token()  # it goes on behind what was there
    wait_for(lambda: rows(daemon)[-1]["number"] == 10, 20, "the result")
    assert json.loads(daemon.ctl("audit", "--verify", "--json", check=6).stdout)["faultCount"] == 1


def test_no_token_is_made_that_nobody_could_use(rig):
    daemon = rig.daemon(server__enroll_listen="off")
    for words in ((), ("--address", "dr.example.com")):
        assert "enrolment is switched off" in daemon.ctl("token", "create", *words, check=1).stderr
    assert daemon.items("/v1/tokens?") == []
    wait_for(lambda: list(results(daemon).values()) == ["EBUSY"] * 2, 20, "the results")
