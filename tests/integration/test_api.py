# SPDX-License-Identifier: Apache-2.0
"""The control sockets as monitoring scripts use them: curl and jq, and holdfastctl's exit codes."""
import json
import os
import stat
import subprocess

import pytest

from harness import BUILD, MIB, random_bytes, ready_agent, run, wait_for


@pytest.fixture(name="source", scope="module")
def source_fixture(house):
    agent = ready_agent(house, house.served, {"root": house.file("root", random_bytes(house.random, 2 * MIB + 5)),
                                              "data": house.file("data", random_bytes(house.random, MIB))})
    house.served.point(agent.source, "named")
    return agent.source


def curl(house, path, *options, socket="monitor.sock"):
    """(HTTP status, body)."""
    done = run("curl", "-sS", "-w", "\n%{http_code}", *options, "--unix-socket", house.served.run_dir / socket, "http://localhost" + path)
    body, code = done.stdout.rsplit("\n", 1)
    return int(code), body


def jq(body, expression):
    return subprocess.run(["jq", "-r", expression], input=body, capture_output=True, text=True, check=True).stdout.strip()


def test_the_states_of_all_sources_in_one_line(house, source):
    code, body = curl(house, "/v1/source-servers")
    assert code == 200
    assert jq(body, ".items[] | select(.ready) | .sourceServerID") == source
    assert jq(body, ".items[0].dataReplicationInfo.dataReplicationState") == "CONTINUOUS"
    assert jq(body, ".items[0].dataReplicationInfo.lagDuration").startswith("PT")
    assert jq(body, ".items[0].dataReplicationInfo.replicatedDisks | map(.replicatedStorageBytes) | add") == str(3 * MIB + 5)
    assert float(jq(body, ".items[0].lag.consistentSeconds")) < 30
    assert jq(body, "all(.items[]; .ready)") == "true"


@pytest.mark.parametrize("path, expression, expected", [
    ("/v1/version", ".program", "holdfastd"),
    ("/v1/version", ".apiVersion", "v1"),
    ("/v1/health", ".status", "ok"),
    ("/v1/source-servers/SOURCE", ".sourceServerID", "SOURCE"),
    ("/v1/points-in-time?sourceServerID=SOURCE", '[.items[] | select(.name == "named")] | length', "1"),
    ("/v1/volumes?sourceServerID=SOURCE", "[.items[].name] | sort | join(\",\")", "data,root"),
    ("/v1/ca", ".fingerprint | length", "64"),
    ("/v1/tokens", ".items[0].state", "USED"),
])
def test_a_question_and_its_answer(house, source, path, expression, expected):
    code, body = curl(house, path.replace("SOURCE", source))
    assert code == 200
    assert jq(body, expression) == expected.replace("SOURCE", source)


def test_events_come_as_lines_and_follow(house, source):
    code, body = curl(house, "/v1/events")
    assert code == 200
    lines = [json.loads(line) for line in body.splitlines() if line]
    assert sum(e["event"] == "source_enrolled" and e["sourceServerID"] == source for e in lines) == 1
    following = house.program("curl-events", ["curl", "-sSN", "--unix-socket", house.served.run_dir / "monitor.sock",
                                              "http://localhost/v1/events?follow=1"])
    wait_for(lambda: "source_enrolled" in following.log.read_text(), 10, "the old events")
    seen = len(following.log.read_text())
    house.agent(house.served, {"root": house.file("another", b"x" * 4096)})
    wait_for(lambda: len(following.log.read_text()) > seen, 10, "the new event")
    following.kill()


def test_metrics_are_prometheus_text(house, source):
    code, body = curl(house, "/metrics")
    assert code == 200
    for line in body.splitlines():
        assert line.startswith("# ") or len(line.rsplit(" ", 1)) == 2 and float(line.rsplit(" ", 1)[1]) is not None, line
    assert "holdfast_" in body and source in body


def test_the_monitor_socket_changes_nothing(house, source):
    for method, path, body in (("POST", "/v1/tokens", "{}"), ("DELETE", "/v1/points-in-time/pit-00000000000000000", None),
                               ("POST", "/v1/points-in-time", json.dumps({"sourceServerID": source, "name": "no"}))):
        code, answer = curl(house, path, "-X", method, *(["-d", body] if body else []))
        assert code in (403, 405), (method, path, answer)
        assert jq(answer, ".status") == str(code)
    assert not any(p["name"] == "no" for p in house.served.points(source))


@pytest.mark.parametrize("path, code", [("/v1/nothing", 404), ("/v1/source-servers/s-00000000000000000", 404),
                                        ("/v1/source-servers/nonsense", 400), ("/v1/points-in-time", 400)])
def test_a_mistake_is_told_as_a_problem(house, source, path, code):
    got, body = curl(house, path)
    assert got == code
    assert jq(body, ".status") == str(code) and jq(body, ".detail") not in ("", "null")


def test_the_sockets_are_for_their_owners(house):
    for name in ("monitor.sock", "admin.sock"):
        mode = stat.S_IMODE(os.stat(house.served.run_dir / name).st_mode)
        assert mode & 0o007 == 0


def test_what_is_not_http_is_put_out(house):
    done = subprocess.run(["curl", "-sS", "-X", "X" * 9000, "--unix-socket", house.served.run_dir / "monitor.sock", "http://localhost/"],
                          capture_output=True, text=True, check=False)
    assert done.returncode != 0 or '"status"' in done.stdout
    assert house.served.get("/v1/version")


# ---- holdfastctl ----

def test_exit_codes(house, source):
    ctl = house.served.ctl
    ctl("ready", source)
    ctl("ready", source, "--max-lag", "1h")
    ctl("source", "show", "s-00000000000000000", check=4)
    ctl("no-such-command", check=2)
    ctl("pit", "list", "--nonsense", check=2)
    ctl("source", "revoke", source, check=2)
    absent = run(BUILD / "holdfastctl", "status", "--socket", house.path("nowhere"), check=False)
    assert absent.returncode == 3 and absent.stderr
    assert run(BUILD / "holdfastctl", "ready", source, "--socket", house.path("nowhere"), check=False).returncode == 3


def test_tables_for_people_tabs_for_scripts_json_for_programs(house, source):
    ctl = house.served.ctl
    table = ctl("volume", "list", source).stdout
    assert "NAME" in table.splitlines()[0] and "MiB" in table
    rows = [line.split("\t") for line in ctl("volume", "list", source, "-Hp").stdout.splitlines()]
    assert len(rows) == 2 and any(str(2 * MIB + 5) in row for row in rows)
    document = json.loads(ctl("volume", "list", source, "--json").stdout)
    volumes = document["items"] if isinstance(document, dict) else document
    assert sorted(v["totalStorageBytes"] for v in volumes) == [MIB, 2 * MIB + 5]
    for command in (["status"], ["source", "list"], ["source", "show", source], ["pit", "list", source], ["token", "list"], ["ca", "show"]):
        assert json.loads(ctl(*command, "--json").stdout)
        assert ctl(*command).stdout
    assert ctl().stdout == ctl("status").stdout or "holdfastd" in ctl().stdout


def test_a_token_is_one_line_ready_to_paste(house):
    lines = house.served.ctl("token", "create").stdout.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("holdfast-agent enroll --server 127.0.0.1:%d --token hf1." % house.served.enroll_port)


def test_a_source_may_be_named_by_the_beginning_of_its_id(house, source):
    assert house.served.ctl("source", "show", source[:12]).stdout.startswith(source)


def test_changes_are_audited(house, source):
    house.served.point(source, "audited")
    log = house.served.program.log.read_text()
    assert "verb=pit.create" in log and "uid=%d" % os.geteuid() in log and "name=audited" in log
