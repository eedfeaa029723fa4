# SPDX-License-Identifier: Apache-2.0
"""Server and agents of this version and of the one before (BEFORE), in any order.

What the version before spoke is kept in tests/samples/before.proto. An agent (hfagent.py) and a server (model_server.py) that
know these messages and nothing later are a version before that every check can run. They read strictly, as the programs do:
what they are sent may have fields they do not know, for those are passed over, but no frame and no value that they do not know,
unless they offered it.

With the programs of the version before (HOLDFAST_BEFORE names their build: `make check-upgrade`) the same is tried with those,
over the data and the state they left.
"""
import os
import pathlib
import subprocess
import types

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

import hfagent
from harness import BUILD, MIB, ROOT, Daemon, Refusal, first_difference, random_bytes, run, wait_for
from model_server import SOURCE, ModelServer, make_pki

BEFORE = os.environ.get("HOLDFAST_BEFORE")
SAMPLES = ROOT / "tests" / "samples"
OFFERS = ("Hello.features", "Hello.compressions")  # the only places for values that a peer may not know


# ---- messages as they were ----

class OldMessage:
    """A class of messages that has only the fields there were, and refuses values it does not know."""

    def __init__(self, kind):
        self.kind = kind

    def __call__(self, **fields):
        return self.kind(**{name: value for name, value in fields.items() if name in self.kind.DESCRIPTOR.fields_by_name})

    def FromString(self, data):  # as protobuf calls it
        message = self.kind.FromString(data)
        check_values(message)
        return message


def check_values(message):
    for field, value in message.ListFields():
        values = value if field.label == field.LABEL_REPEATED else [value]
        where = "%s.%s" % (message.DESCRIPTOR.name, field.name)
        if field.message_type:
            for inner in values:
                check_values(inner)
        elif field.enum_type and where not in OFFERS and not set(values) <= set(field.enum_type.values_by_number):
            raise hfagent.Closed("%s is %s: the version before refuses that" % (where, values))


def described(directory, path):
    """A .proto as protoc describes it."""
    made = directory / (path.name + ".bin")
    subprocess.run(["protoc", "-I", path.parent, "--descriptor_set_out", made, path.name], check=True)
    return descriptor_pb2.FileDescriptorSet.FromString(made.read_bytes()).file[0]


def messages_before(directory):
    """What hfagent.protobuf() gives, of the version before; apart from that of today, which this process may know, too."""
    pool = descriptor_pool.DescriptorPool()
    file = described(directory, SAMPLES / "before.proto")
    pool.Add(file)
    factory = message_factory.MessageFactory(pool)
    kinds = {m.name: factory.GetPrototype(pool.FindMessageTypeByName("%s.%s" % (file.package, m.name))) for m in file.message_type}
    return types.SimpleNamespace(**{name: OldMessage(kind) for name, kind in kinds.items()})


@pytest.fixture(name="before")
def before_fixture(rig, monkeypatch):
    monkeypatch.setattr(hfagent, "_protobuf", messages_before(rig.dir))


def places(file):
    """What may not change: number and kind of each field, number of each value."""
    for message in file.message_type:
        for field in message.field:
            yield "%s.%s" % (message.name, field.name), (field.number, field.type, field.label, field.type_name)
    for enum in file.enum_type:
        for value in enum.value:
            yield value.name, value.number


def test_what_there_was_has_its_place_and_kind(tmp_path):
    before, now = (dict(places(described(tmp_path, path))) for path in (SAMPLES / "before.proto", ROOT / "proto" / "holdfast.proto"))
    assert len(before) > 100
    assert {name: now.get(name) for name in before} == before


# ---- one side as it was ----

def test_an_agent_of_the_version_before_finds_all_it_needs(rig, before):
    daemon = rig.daemon()
    disk = bytearray(random_bytes(rig.random, 2 * MIB + 123))
    identity = hfagent.enroll(("127.0.0.1", daemon.enroll_port), daemon.token(), rig.path("state"))
    agent = hfagent.Agent(identity)
    rig.on_end(agent.close)
    agent.open([hfagent.Volume("root", "serial:1", len(disk))])
    agent.fill("root", bytes(disk))
    agent.checkpoint("crash")
    agent.wait_ack()
    daemon.wait_ready(identity.source_id)
    daemon.ctl("cert", "renew", identity.source_id)
    agent.wait(lambda: agent.renewals == 1)
    assert first_difference(rig.file("first", bytes(disk)), daemon.export(identity.source_id, "root", "latest")) is None

    daemon.ctl("source", "pause", identity.source_id)  # no credit: it knows nothing of `hold`
    daemon.wait_state(identity.source_id, "PAUSED")
    daemon.ctl("source", "resume", identity.source_id)
    agent.close()
    disk[5000:5010] = b"0123456789"
    again = hfagent.Agent(hfagent.Identity(identity.directory))  # with the new certificate
    rig.on_end(again.close)
    again.open([hfagent.Volume("root", "serial:1", len(disk))])
    assert again.sync("root", bytes(disk)) == 1
    again.checkpoint("crash")
    again.wait_ack()
    wait_for(lambda: first_difference(rig.file("second", bytes(disk)), daemon.export(identity.source_id, "root", "latest")) is None, 20, "it")


def test_a_server_of_the_version_before_gives_all_an_agent_needs(rig, before):
    pki = rig.path("pki")
    pki.mkdir()
    make_pki(pki)
    server = ModelServer(pki)
    rig.on_end(server.close)
    data = random_bytes(rig.random, 2 * MIB + 123)
    disk = rig.file("disk", data)
    agent = rig.agent(types.SimpleNamespace(host="127.0.0.1"), {"root": disk}, enroll=False)
    agent.enroll(server.token, "127.0.0.1:%d" % server.enrolment.getsockname()[1])
    assert agent.source == SOURCE
    agent.once()
    with open(disk, "r+b") as f:
        f.seek(5000)
        f.write(b"0123456789")
    agent.once()  # another process: it compares
    assert server.data_blocks == 1
    held = bytes(next(iter(server.volumes.values()))[3])
    assert held[:len(data)] == disk.read_bytes() and server.checkpoints
    assert not [e for e in server.reports if isinstance(e, hfagent.Closed)], server.reports


# ---- both, as programs ----

class Pair:
    """A server and an agent, each of either version, over one data directory and one state."""

    def __init__(self, rig):
        self.rig, self.before = rig, pathlib.Path(BEFORE)
        self.daemon = Daemon(rig, programs=self.before)
        self.disk = rig.file("disk", random_bytes(rig.random, 2 * MIB + 123))
        self.agent = rig.agent(self.daemon, {"root": self.disk}, executable=self.before / "holdfast-agent").start()
        self.points = {}

    def upgrade_server(self):
        self.daemon.stop()
        self.daemon.programs = BUILD
        self.daemon.start()

    def upgrade_agent(self):
        self.agent.stop()
        self.agent.executable = BUILD / "holdfast-agent"
        self.agent.start()

    def point(self, name):
        try:
            return self.daemon.point(self.agent.source, name)
        except Refusal as refusal:
            assert refusal.problem["code"] == "ENOTCONN", refusal
            return None

    def write_and_check(self, name):
        """A new point, and all there were, hold what the disk held."""
        with open(self.disk, "r+b") as f:
            f.seek(len(self.points) * 10000)
            f.write(random_bytes(self.rig.random, 5000))
        self.daemon.wait_ready(self.agent.source)
        point = wait_for(lambda: self.point(name), 30, "the agent to stream")["pointInTimeID"]
        self.points[point] = run("sha256sum", self.disk).stdout.split()[0]
        for known, digest in self.points.items():
            exported = self.daemon.export(self.agent.source, "root", known)
            assert run("sha256sum", exported).stdout.split()[0] == digest, name


@pytest.mark.skipif(not BEFORE, reason="HOLDFAST_BEFORE names no build of the version before (make check-upgrade)")
@pytest.mark.parametrize("order", [("upgrade_server", "upgrade_agent"), ("upgrade_agent", "upgrade_server")], ids=["server first", "agent first"])
def test_the_programs_are_upgraded_in_any_order(rig, order):
    pair = Pair(rig)
    pair.write_and_check("before")
    for step in order:
        getattr(pair, step)()
        pair.write_and_check(step)
    assert not pair.daemon.events("staging_went_back") and not pair.daemon.events("store_unusable")
    pair.agent.stop()
