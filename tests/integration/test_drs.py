# SPDX-License-Identifier: Apache-2.0
"""Tools written for `aws drs describe-source-servers` read our answer: botocore's own model says what they expect."""
import json
import re
import subprocess
import time

import pytest

import hfagent
from harness import BUILD, MIB, ROOT, parse_time, random_bytes, ready_agent, run, wait_for

botocore = pytest.importorskip("botocore.session", reason="python3-botocore is not installed")
from botocore import parsers, validate  # noqa: E402  pylint: disable=wrong-import-position

QUERIES = ROOT / "deploy/monitoring/drs.jq"
SHAPE = botocore.get_session().get_service_model("drs").operation_model("DescribeSourceServers").output_shape
SERVER = SHAPE.members["items"].member


# ---- botocore's model ----

def leaf_deviations(value, shape, path):
    """What the model says of a string, and botocore's validator does not look at."""
    rules = shape.metadata
    if "enum" in rules and value not in rules["enum"]:
        yield "%s: %r is not one of %s" % (path, value, rules["enum"])
    if "pattern" in rules and not re.search(rules["pattern"], value):
        yield "%s: %r does not match %s" % (path, value, rules["pattern"])


def deviations(value, shape, path=""):
    rules = shape.metadata
    if shape.type_name in ("string", "list") and not rules.get("min", 0) <= len(value) <= rules.get("max", 1 << 62):
        yield "%s: length %d is not %s..%s" % (path, len(value), rules.get("min"), rules.get("max"))
    if shape.type_name == "structure":
        for name, member in shape.members.items():
            if name in value:
                yield from deviations(value[name], member, "%s.%s" % (path, name))
    elif shape.type_name == "list":
        for i, item in enumerate(value):
            yield from deviations(item, shape.member, "%s[%d]" % (path, i))
    elif shape.type_name == "string":
        yield from leaf_deviations(value, shape, path)


def known(value, shape):
    """What the model knows of it, as it was sent; null is as good as not there."""
    if shape.type_name == "structure" and isinstance(value, dict):
        return {name: known(value[name], member) for name, member in shape.members.items() if value.get(name) is not None}
    return [known(item, shape.member) for item in value] if shape.type_name == "list" and isinstance(value, list) else value


def parse(answer):
    """As `aws` does; and nothing in it is other than the model says."""
    given = known(answer, SHAPE)  # not as it was parsed: the parser makes a number of "1"
    report = validate.ParamValidator().validate(given, SHAPE)
    assert not report.has_errors(), report.generate_report()
    assert not list(deviations(given, SHAPE))
    response = {"status_code": 200, "headers": {}, "body": json.dumps(answer).encode()}
    return parsers.create_parser("rest-json").parse(response, SHAPE)["items"]


def missing(value, shape, path=""):
    """Members of the model that the JSON does not even have as null."""
    if shape.type_name == "structure" and value is not None:
        for name, member in shape.members.items():
            if name not in value:
                yield "%s.%s" % (path, name)
            else:
                yield from missing(value[name], member, "%s.%s" % (path, name))
    elif shape.type_name == "list":
        for item in value or []:
            yield from missing(item, shape.member, path + "[]")


def sample(shape):
    """A value as the model wants it, with all its members."""
    if shape.type_name == "structure":
        return {name: sample(member) for name, member in shape.members.items()}
    if shape.type_name == "list":
        return [sample(shape.member)]
    if shape.type_name == "map":
        return {"Name": "x"}
    if shape.type_name in ("long", "boolean"):
        return 1 if shape.type_name == "long" else True
    given = {"ISO8601DatetimeString": "2026-11-22T10:00:00Z", "ISO8601DurationString": "PT1H", "SourceServerID": "s-00000000000000000",
             "ARN": "arn:aws:drs:eu-west-1:123456789012:source-server/s-00000000000000000", "JobID": "drsjob-00000000000000000",
             "SourceServerARN": "arn:aws:drs:eu-west-1:123456789012:source-server/s-00000000000000000", "AccountID": "123456789012",
             "AwsRegion": "eu-west-1", "AwsAvailabilityZone": "eu-west-1a", "EC2InstanceID": "i-00000000000000000",
             "RecoveryInstanceID": "i-00000000000000000"}
    return given.get(shape.name) or shape.metadata.get("enum", ["some text"])[0]


def drs_server(number, name, state, lag, disks, error=None, seen="2026-11-22T10:00:00Z", failed=()):
    """A server of DRS's own. disks: device -> (total, replicated, rescanned, backlog)."""
    server = sample(SERVER)
    info = server["dataReplicationInfo"]
    server["sourceServerID"] = "s-%017d" % number
    server["tags"] = {"Name": name}
    server["lifeCycle"]["lastSeenByServiceDateTime"] = seen
    server["sourceProperties"]["identificationHints"]["hostname"] = name
    server["sourceProperties"]["disks"] = [{"deviceName": device, "bytes": sizes[0]} for device, sizes in disks.items()]
    info.update(dataReplicationState=state, lagDuration=lag)
    words = ("totalStorageBytes", "replicatedStorageBytes", "rescannedStorageBytes", "backloggedStorageBytes")
    info["replicatedDisks"] = [dict(zip(words, sizes), deviceName=device) for device, sizes in disks.items()]
    if error:
        info["dataReplicationError"] = {"error": error, "rawError": error.lower()}
    else:
        del info["dataReplicationError"]
    step = info["dataReplicationInitiation"]["steps"][0]
    info["dataReplicationInitiation"]["steps"] = [dict(step, status="SUCCEEDED")] + [dict(name=n, status="FAILED") for n in failed]
    return server


def drs_answer():
    return {"items": [
        drs_server(1, "db01", "CONTINUOUS", "PT0S", {"/dev/sda": (100, 100, 0, 0), "/dev/sdb": (50, 50, 0, 0)}),
        drs_server(2, "web01", "BACKLOG", "P1DT2H3M4.5S", {"/dev/sda": (200, 150, 20, 7)}, error="NOT_CONVERGING"),
        drs_server(3, "old01", "STALLED", "PT1H", {"/dev/sda": (10, 10, 0, 3)}, error="FAILED_TO_AUTHENTICATE_WITH_SERVICE",
                   seen="2026-11-22T09:00:00Z", failed=["AUTHENTICATE_WITH_SERVICE"])]}


# ---- ours ----

class Fleet:
    """One source that is well, one whose agent is gone, one that was never seen."""

    def __init__(self, rig):
        self.began = time.time()
        self.daemon = rig.daemon()
        self.disk = rig.file("disk", random_bytes(rig.random, 2 * MIB))
        self.second = rig.file("second", random_bytes(rig.random, MIB))
        self.well = ready_agent(rig, self.daemon, {"root": self.disk, "data": self.second})
        self.gone = ready_agent(rig, self.daemon, {"root": rig.file("gone", random_bytes(rig.random, MIB))})
        self.never = rig.agent(self.daemon, {"root": self.disk})
        self.gone.kill()
        self.daemon.wait_state(self.gone.source, "DISCONNECTED")
        self.daemon.wait_state(self.well.source, "CONTINUOUS")
        self.answer = self.daemon.get("/v1/source-servers")
        self.ids = [agent.source for agent in (self.well, self.gone, self.never)]

    def each(self, well, gone, never):
        """Is it {source: value}, of which some are functions of the value?"""
        def check(given):
            assert sorted(given) == sorted(self.ids)
            for source, want in zip(self.ids, (well, gone, never)):
                assert want(given[source]) if callable(want) else given[source] == want, (given[source], want)
            return True
        return check

    def recent(self, when):
        return self.began - 1 < when < time.time() + 1

    def some(self, *agents):
        return lambda given: sorted(given) == sorted(agent.source for agent in agents)


def drs_each(*values):
    return dict(zip(("s-%017d" % n for n in (1, 2, 3)), values))


def small(seconds):
    return 0 <= seconds < 60


def questions(fleet):
    """query: what it says of DRS's answer; of ours, or a function that looks at it."""
    host = fleet.answer["items"][0]["sourceProperties"]["identificationHints"]["hostname"]
    some, each, hour = fleet.some, fleet.each, parse_time("2026-11-22T10:00:00Z")
    well, gone, never = fleet.well, fleet.gone, fleet.never
    sizes = {str(fleet.disk): 2 * MIB, str(fleet.second): MIB}
    three = fleet.some(well, gone, never)
    return {
        "count": (3, 3),
        "ids": (list(drs_each(1, 2, 3)), three),
        "names": (drs_each("db01", "web01", "old01"), each(host, host, host)),
        "states": (drs_each("CONTINUOUS", "BACKLOG", "STALLED"), each("CONTINUOUS", "DISCONNECTED", "INITIATING")),
        "count_by_state": ({"CONTINUOUS": 1, "BACKLOG": 1, "STALLED": 1}, {"CONTINUOUS": 1, "DISCONNECTED": 1, "INITIATING": 1}),
        "not_continuous": (["s-%017d" % 2, "s-%017d" % 3], some(gone, never)),
        "errors": (drs_each(None, "NOT_CONVERGING", "FAILED_TO_AUTHENTICATE_WITH_SERVICE"), each(None, "AGENT_NOT_SEEN", None)),
        "error_texts": (drs_each(None, "not_converging", "failed_to_authenticate_with_service"),
                        each(None, lambda text: "not connected" in text, None)),
        "stalled_or_gone": (["old01"], [host]),
        "lag": (drs_each(0, 93784.5, 3600), each(small, lambda s: 0 < s < 600, None)),
        "worst_lag": (93784.5, lambda s: 0 < s < 600),
        "lag_above(1800)": (["s-%017d" % 2, "s-%017d" % 3], []),
        "lag_above(0)": (["s-%017d" % 2, "s-%017d" % 3], lambda given: gone.source in given and never.source not in given),
        "backlog": (drs_each(0, 7, 3), each(0, 0, 0)),
        "total_backlog": (10, 0),
        "replicated": (drs_each(150, 150, 10), each(3 * MIB, MIB, 0)),
        "progress_percent": (drs_each(100, 75, 100), each(100, 100, 0)),
        "rescanned": (drs_each(0, 20, 0), each(0, 0, 0)),
        "disk_sizes": (drs_each({"/dev/sda": 100, "/dev/sdb": 50}, {"/dev/sda": 200}, {"/dev/sda": 10}),
                       each(sizes, {str(gone.volumes["root"]): MIB}, {})),
        "source_disks": (drs_each({"/dev/sda": 100, "/dev/sdb": 50}, {"/dev/sda": 200}, {"/dev/sda": 10}),
                         each(sizes, {str(gone.volumes["root"]): MIB}, {})),
        "last_seen": (drs_each(hour, hour, hour - 3600), each(fleet.recent, fleet.recent, None)),
        "not_seen_for(60; %d)" % (hour + 60): (["s-%017d" % 3], lambda given: never.source in given),
        "added": (drs_each(hour, hour, hour), each(fleet.recent, fleet.recent, fleet.recent)),
        "replicating_since": (drs_each(hour, hour, hour), each(fleet.recent, fleet.recent, None)),
        "elapsed": (drs_each(3600, 3600, 3600), each(lambda s: 0 < s < 600, lambda s: 0 < s < 600, None)),
        "eta": (drs_each(hour, hour, hour), each(None, None, None)),
        "failed_steps": (drs_each([], [], ["AUTHENTICATE_WITH_SERVICE"]), each([], [], [])),
        "steps_left": (drs_each(0, 0, 1), each(0, 0, 6)),
        "cores": (drs_each(1, 1, 1), each(lambda n: n > 0, lambda n: n > 0, lambda n: n > 0)),
        "ram": (drs_each(1, 1, 1), each(lambda n: n > MIB, lambda n: n > MIB, lambda n: n > MIB)),
        "addresses": (drs_each(["some text"], ["some text"], ["some text"]), each(*[lambda macs: isinstance(macs, list)] * 3)),
        "tagged(\"Name\"; \"db01\")": (["s-%017d" % 1], []),
        "never_launched": (list(drs_each(1, 2, 3)), three),
    }


def ask(answer, queries):
    """What each says, by one jq."""
    program = 'include "drs"; {%s}' % ", ".join("%s: (%s)" % (json.dumps(query), query) for query in queries)
    done = subprocess.run(["jq", "-L", str(QUERIES.parent), program], input=json.dumps(answer), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(name="fleet", scope="module")
def fleet_fixture(house):
    return Fleet(house)


def test_the_answer_passes_through_botocores_parser_and_its_model(fleet):
    items = parse(fleet.answer)
    assert [item["sourceServerID"] for item in items] == sorted(fleet.ids)
    assert all("dataReplicationInfo" in item and "lifeCycle" in item for item in items)


def test_a_source_has_as_many_disks_as_the_model_allows_and_no_more(rig):
    daemon, most = rig.daemon(), SERVER.members["dataReplicationInfo"].members["replicatedDisks"].metadata["max"]
    identity = hfagent.enroll(("127.0.0.1", daemon.enroll_port), daemon.token(), rig.path("state"))
    disks = [hfagent.Volume("v%d" % n, "serial:%d" % n, MIB) for n in range(most + 1)]
    agent = hfagent.Agent(identity, ("127.0.0.1", daemon.port))
    rig.on_end(agent.close)
    agent.connect()
    assert agent.hello().volumes_max == most
    agent.declare(disks[:most])
    wait_for(lambda: len(daemon.source(identity.source_id)["dataReplicationInfo"]["replicatedDisks"]) == most, 20, "the disks")
    parse(daemon.get("/v1/source-servers"))
    with pytest.raises(hfagent.Goodbye, match="TOOBIG"):
        agent.declare(disks)
    names = [word for n in range(most + 1) for word in ("--volume", "v%d=/dev/null" % n)]
    done = run(BUILD / "holdfast-agent", "enroll", "--server", "127.0.0.1:1", "--token", "t", *names, check=False)
    assert done.returncode != 0 and "more than %d --volume" % most in done.stderr


def test_every_member_of_the_model_is_there(fleet):
    assert not list(missing(fleet.answer["items"], SHAPE.members["items"]))


def test_what_deviates_from_the_model_is_noticed():
    for path, wrong in (("sourceServerID", "web01"), ("dataReplicationInfo.dataReplicationState", "READY"), ("sourceProperties.cpus", 4),
                        ("dataReplicationInfo.dataReplicationError.error", "STAGING_FULL"), ("sourceProperties.ramBytes", "1"),
                        ("lifeCycle.addedToServiceDateTime", "22 Nov 2026, 10:00:00")):
        server = sample(SERVER)
        parse({"items": [server]})
        *way, last = path.split(".")
        place = server
        for word in way:
            place = place[word]
        place[last] = wrong
        with pytest.raises(AssertionError):
            parse({"items": [server]})


def test_one_file_of_queries_answers_for_both(fleet):
    theirs = drs_answer()
    parse(theirs)
    asked = questions(fleet)
    named = set(re.findall(r"^def ([a-z_]+)", QUERIES.read_text().partition("def count:")[2], re.M)) | {"count"}
    assert named == {query.partition("(")[0] for query in asked} and len(named) >= 15
    of_theirs, of_ours = ask(theirs, asked), ask(fleet.answer, asked)
    for query, (drs, ours) in asked.items():
        assert of_theirs[query] == drs, query
        assert ours(of_ours[query]) if callable(ours) else of_ours[query] == ours, (query, of_ours[query])
