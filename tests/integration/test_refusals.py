# SPDX-License-Identifier: Apache-2.0
"""What the server must refuse: with a reason a person can read, and without any other effect."""
import concurrent.futures
import os
import shutil
import socket
import ssl
import struct
import time

import pytest

import hfagent
from harness import BLOCK, MIB, first_difference, random_bytes, run, wait_for
from hfagent import DATA, FILL, FILL_ZERO, FRAGMENT, ZERO, Extent, Goodbye, Volume

BLOCKS = 64


# ---- the victim: a source with one full volume ----

class Victim:
    def __init__(self, house):
        self.house, self.daemon = house, house.served
        self.identity = enroll(house)
        self.source = self.identity.source_id
        self.disk = random_bytes(house.random, BLOCKS * BLOCK)
        self.volume = Volume("root", "serial:victim", len(self.disk))
        self.half = Volume("half", "serial:half", BLOCKS * BLOCK)  # filled up to block 32
        agent = self.agent()
        agent.fill("root", self.disk)
        agent.fill("half", self.disk, blocks=32)
        agent.checkpoint("crash")
        agent.wait_ack()
        agent.close()

    def agent(self, **options):
        """A new process of it, streaming."""
        agent = hfagent.Agent(self.identity, **options)
        agent.open([Volume("root", "serial:victim", BLOCKS * BLOCK), Volume("half", "serial:half", BLOCKS * BLOCK)])
        return agent

    def check_untouched(self):
        agent = self.agent()
        assert agent.compare("root", 0, 0, BLOCKS) == [hfagent.block_digest(agent.seed, b) for b in hfagent.blocks_of(self.disk)]
        assert agent.volumes["half"].frontier == 32
        agent.close()


def enroll(house, token=None, daemon=None, **options):
    daemon = daemon or house.served
    identity = hfagent.enroll(("127.0.0.1", daemon.enroll_port), token or daemon.token(), house.path(house.unique("py-agent")), **options)
    identity.daemon = daemon
    return identity


@pytest.fixture(name="victim", scope="module")
def victim_fixture(house):
    return Victim(house)


@pytest.fixture(name="agent")
def agent_fixture(victim):
    """A streaming agent of the victim; what it did must have left no trace."""
    agent = victim.agent()
    yield agent
    agent.cut()
    victim.check_untouched()


def refusal_of(agent, name, seconds=10):
    """The GOODBYE that ends the session; its event is there for the administrator, too."""
    goodbye = agent.wait_end(seconds)
    assert goodbye is not None, "the session ended without a word"
    assert goodbye.name == name, goodbye
    assert goodbye.text
    wait_for(lambda: is_told(agent, name), 5, "the event of the refusal")
    return goodbye


def is_told(agent, name):
    """The event names the source, the status, and the connection: nobody else's will do."""
    words = ["(status %s," % name, "from 127.0.0.1:%d)" % agent.local_port]
    return [e for e in agent.identity.daemon.events("session_refused")
            if e["sourceServerID"] == agent.identity.source_id and all(w in e["text"] for w in words)]


def test_an_agent_that_talks_without_end_fills_neither_registry_nor_log(victim, agent):
    for n in range(1000):
        agent.send("NOTICE", event="chatter", text="number %d" % n)
    agent.checkpoint("crash")
    agent.wait_ack()
    victim.daemon.token()  # made by the thread that keeps events, after them
    told = [e for e in victim.daemon.events("chatter") if e["sourceServerID"] == victim.source]
    assert 0 < len(told) < 500


# ---- at the door ----

def knock(victim, context):
    """What the data port answers to a client that shows itself like this and says HELLO as the victim would: (bytes or the
    exception, why the daemon's log says that the handshake of just this connection failed, or None)."""
    hello = hfagent.protobuf().Hello(protocol_version=1, protocol_version_min=1, role=1, installation_nonce=victim.identity.nonce,
                                     incarnation=victim.identity.next_incarnation(), clock_ns=time.time_ns())
    with socket.create_connection(("127.0.0.1", victim.daemon.port), 10) as raw:
        peer = "peer=127.0.0.1:%d " % raw.getsockname()[1]
        try:
            with context.wrap_socket(raw) as tls:
                tls.sendall(hfagent.encode_frame(hfagent.FRAME["HELLO"], hello.SerializeToString()))
                answer = tls.recv(65536)
        except OSError as e:
            answer = e
    end = wait_for(lambda: [line for line in victim.daemon.program.log.read_text().splitlines()
                            if peer in line and ("event=handshake_failed" in line or "event=session_" in line)], 10, "the end in the log")[-1]
    return answer, end.split("msg=", 1)[1].strip('"') if "event=handshake_failed" in end else None


def client_context(certificate=None, key=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if certificate:
        context.load_cert_chain(certificate, key)
    return context


def refused_in_handshake(victim, context, reason):
    """Not a byte is answered, and the log says why."""
    answer, logged = knock(victim, context)
    assert isinstance(answer, (ssl.SSLError, ConnectionError)) or answer == b"", answer
    assert logged == reason


def make_certificate(house, name, subject, usage, ca=None, ca_key=None):
    """A client certificate with a key of its own: (certificate, key)."""
    d = house.path(house.unique("cert"))
    d.mkdir()
    key, csr, out = d / "key.pem", d / "csr.pem", d / (name + ".pem")
    hfagent.make_key(str(key))
    if ca is None:
        ca, ca_key = d / "ca.pem", d / "ca.key"
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", ca_key, "-out", ca,
            "-subj", "/CN=holdfast CA", "-days", "2")
    run("openssl", "req", "-new", "-key", key, "-subj", "/CN=" + subject, "-out", csr)
    (d / "ext").write_text("extendedKeyUsage = %s\n" % usage)
    run("openssl", "x509", "-req", "-in", csr, "-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-CAserial", d / "serial", "-days", "1",
        "-extfile", d / "ext", "-out", out)
    return out, key


def test_the_certificate_we_gave(victim):
    """Against which the refusals below are to be held: the same knock, let in."""
    answer, logged = knock(victim, client_context(victim.identity.path("cert.pem"), victim.identity.path("key.pem")))
    assert logged is None
    _, kind, _, _, _, _ = hfagent.HEADER.unpack_from(answer)
    assert kind == hfagent.FRAME["WELCOME"]


def test_no_certificate(victim):
    refused_in_handshake(victim, client_context(), "peer did not return a certificate")


def test_a_certificate_of_another_ca(house, victim):
    certificate, key = make_certificate(house, "foreign", victim.source, "clientAuth")
    refused_in_handshake(victim, client_context(certificate, key), "certificate verify failed: unable to get local issuer certificate")


def test_a_certificate_of_our_ca_for_another_use(house, victim):
    pki = house.served.data / "pki"
    certificate, key = make_certificate(house, "server-use", victim.source, "serverAuth", pki / "ca.pem", pki / "ca.key")
    refused_in_handshake(victim, client_context(certificate, key), "certificate verify failed: unsuitable certificate purpose")


def test_a_certificate_of_our_ca_that_we_never_gave(house, victim):
    pki = house.served.data / "pki"
    certificate, key = make_certificate(house, "unlisted", victim.source, "clientAuth", pki / "ca.pem", pki / "ca.key")
    agent = hfagent.Agent(victim.identity, context=client_context(certificate, key))
    agent.connect()
    goodbye = refusal_of(agent, "REVOKED")
    assert "holdfastctl token create --source %s" % victim.source in goodbye.cure
    agent.cut()
    victim.check_untouched()


def test_tls_1_2(victim):
    context = client_context(victim.identity.path("cert.pem"), victim.identity.path("key.pem"))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    refused_in_handshake(victim, context, "unsupported protocol")


def test_bytes_that_are_not_tls(house):
    with socket.create_connection(("127.0.0.1", house.served.port), 10) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + os.urandom(512))
        assert drained(raw)
    assert house.served.get("/v1/version")


def drained(raw, seconds=60):
    """The peer has closed."""
    raw.settimeout(seconds)
    try:
        while raw.recv(65536):
            pass
    except ConnectionError:
        pass
    return True


def test_who_connects_and_says_nothing_is_put_out(house):
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", house.served.port), 10) as raw, \
            socket.create_connection(("127.0.0.1", house.served.enroll_port), 10) as newcomer:
        assert drained(raw) and drained(newcomer)
    assert 5 < time.monotonic() - began < 45


def test_the_ways_in_are_not_confused(house, victim):
    """Neither port takes the other's frames."""
    agent = hfagent.Agent(victim.identity)
    agent.connect()
    agent.send_frame("ENROLL", b"")
    refusal_of(agent, "PROTOCOL")
    agent.cut()
    with socket.create_connection(("127.0.0.1", house.served.enroll_port), 10) as raw, client_context().wrap_socket(raw) as tls:
        tls.sendall(hfagent.encode_frame(hfagent.FRAME["HELLO"], b""))
        frame = hfagent.read_one_frame(tls)
        assert hfagent.protobuf().Goodbye.FromString(frame.message).status == hfagent.STATUS["PROTOCOL"]


# ---- certificates over time ----

def test_an_expired_certificate(rig):
    daemon = rig.daemon(tls__certificate_lifetime="2s")
    disk = rig.file("disk", random_bytes(rig.random, MIB))
    agent = rig.agent(daemon, {"root": disk})
    identity = enroll(rig, daemon=daemon)  # the younger one: when it has expired both have

    def refusal():
        late = hfagent.Agent(identity)
        try:
            late.connect()
            late.hello()
        except Goodbye as e:
            return e
        finally:
            late.cut()
        return None

    goodbye = wait_for(refusal, 10, "the certificate to expire")
    assert goodbye.name == "EXPIRED"
    cure = "holdfastctl token create --source %s" % identity.source_id
    assert cure in goodbye.cure
    assert cure in wait_for(lambda: cure in (text := daemon.ctl("source", "show", identity.source_id).stdout) and text, 15, "the cure in source show")
    wait_for(lambda: any(e["sourceServerID"] == identity.source_id and "expired" in e["text"] for e in daemon.events()), 20, "its event")
    assert cure in daemon.program.log.read_text()
    done = run(*agent.command("--once"), check=False)
    assert done.returncode == 5 and "token create --source %s" % agent.source in done.stderr
    again = enroll(rig, daemon=daemon, token=daemon.token(source=identity.source_id))
    assert again.source_id == identity.source_id, "the cure did not cure"


def test_a_certificate_is_renewed_over_the_live_session(rig):
    daemon = rig.daemon(tls__certificate_lifetime="6s", server__heartbeat_interval="200ms")
    identity = enroll(rig, daemon=daemon)
    before = hfagent.Identity(identity.directory).tls_context() and open(identity.path("cert.pem"), encoding="ascii").read()
    agent = hfagent.Agent(identity)
    agent.open([Volume("root", "serial:renewed", BLOCK)])
    agent.wait(lambda: agent.renewals, 10)
    assert open(identity.path("cert.pem"), encoding="ascii").read() != before
    agent.close()
    again = hfagent.Agent(identity)
    again.open([Volume("root", "serial:renewed", BLOCK)])
    again.close()


def test_a_revoked_certificate(house):
    identity = enroll(house)
    agent = hfagent.Agent(identity)
    agent.open([Volume("root", "serial:revoked", 4 * BLOCK)])
    agent.fill("root", b"r" * 4 * BLOCK)
    agent.wait_ack()
    house.served.ctl("source", "revoke", identity.source_id, "--yes")
    error = house.served.source(identity.source_id)["dataReplicationInfo"]["dataReplicationError"]
    assert error["code"] == "CERTIFICATE_REVOKED", "it was answered before it was seen"
    assert agent.wait_end(), "the live session was not cut"
    late = hfagent.Agent(identity)
    late.connect()
    goodbye = refusal_of(late, "REVOKED")
    assert "holdfastctl token create --source %s" % identity.source_id in goodbye.cure
    late.cut()
    wait_for(lambda: goodbye.cure in house.served.ctl("source", "show", identity.source_id).stdout, 15, "the cure in source show")


# ---- tokens ----

def refused_token(house, token, address, **options):
    with pytest.raises(Goodbye) as refusal:
        enroll(house, token=token, source_address=(address, 0), **options)
    assert refusal.value.name == "TOKEN"
    assert "holdfastctl token create" in refusal.value.cure


def test_a_token_works_once(house):
    token = house.served.token()
    sources = len(house.served.sources())
    enroll(house, token=token)
    refused_token(house, token, "127.0.1.1")
    assert len(house.served.sources()) == sources + 1


def test_an_expired_a_revoked_and_a_made_up_token(house):
    expired = house.served.token(lifetime="1s")
    listed = {t["tokenID"]: t for t in house.served.get("/v1/tokens")["items"]}
    wait_for(lambda: any(t["state"] == "EXPIRED" for t in house.served.get("/v1/tokens")["items"]), 5, "the token to expire")
    refused_token(house, expired, "127.0.1.2")
    made = house.served.request("POST", "/v1/tokens", {}, admin=True)
    assert made["tokenID"] not in listed
    house.served.ctl("token", "revoke", made["tokenID"])
    refused_token(house, made["token"], "127.0.1.2")
    parts = made["token"].split(".")
    refused_token(house, ".".join([parts[0], "a" * 32, parts[2]]), "127.0.1.2")


def test_a_hundred_uses_of_one_token_at_once_yield_one_source(house):
    daemon = house.served
    token = daemon.token()
    before = {s["sourceServerID"] for s in daemon.sources()}

    def use(i):
        try:
            return enroll(house, token=token, source_address=("127.0.2.%d" % (1 + i // 4), 0), timeout=60).source_id
        except Goodbye as e:
            return e.name

    with concurrent.futures.ThreadPoolExecutor(100) as pool:
        results = list(pool.map(use, range(100)))
    winners = [r for r in results if r.startswith("s-")]
    assert len(winners) == 1, results
    assert results.count("TOKEN") == 99, results
    assert {s["sourceServerID"] for s in daemon.sources()} - before == set(winners)


def test_who_guesses_is_slowed_down(house):
    token = house.served.token()
    parts = token.split(".")
    guess = ".".join([parts[0], "b" * 32, parts[2]])
    for _ in range(5):
        refused_token(house, guess, "127.0.3.1")
    with pytest.raises(Goodbye) as refusal:
        enroll(house, token=token, source_address=("127.0.3.1", 0))
    assert refusal.value.name == "RATE"
    assert enroll(house, token=token, source_address=("127.0.3.2", 0)), "the token was used up by a refusal"


# ---- clones ----

def test_a_clone_is_refused_until_it_is_adopted(house):
    identity = enroll(house)
    source = identity.source_id
    agent = hfagent.Agent(identity)
    agent.open([Volume("root", "serial:clone", BLOCK)])
    agent.fill("root", b"o" * BLOCK)
    agent.wait_ack()
    shutil.copytree(identity.directory, identity.directory + "-clone")
    clone = hfagent.Identity(identity.directory + "-clone")
    clone.save(nonce=os.urandom(16).hex())
    clone.daemon = house.served
    adopt = "holdfastctl source adopt %s" % source
    refused_clone(clone, adopt)
    error = wait_for(lambda: house.served.source(source)["dataReplicationInfo"]["dataReplicationError"], 5, "the error")
    assert error["code"] == "IDENTITY_CLONE" and error["cure"] == adopt
    agent.write("root", 0, b"p" * BLOCK)
    agent.wait_ack()  # the rightful one goes on
    agent.close()
    refused_clone(clone, adopt)
    house.served.wait_state(source, "STALLED", seconds=15)
    assert adopt in house.served.ctl("source", "show", source).stdout
    house.served.ctl("source", "adopt", source, "--yes")
    assert house.served.source(source)["dataReplicationInfo"]["dataReplicationState"] == "DISCONNECTED", "it was answered before it was seen"
    adopted = hfagent.Agent(clone)
    adopted.open([Volume("root", "serial:clone", BLOCK)])
    adopted.close()
    refused_clone(identity, adopt)


def refused_clone(identity, cure):
    agent = hfagent.Agent(identity)
    with pytest.raises(Goodbye) as refusal:
        agent.open([Volume("root", "serial:clone", BLOCK)])
    assert refusal.value.name == "CLONE" and refusal.value.cure == cure
    wait_for(lambda: is_told(agent, "CLONE"), 5, "the event of the refusal")
    agent.cut()


def test_an_older_start_of_the_same_installation_is_refused(house):
    identity = enroll(house)
    newer = hfagent.Agent(identity, incarnation=9)
    newer.open([Volume("root", "serial:older", BLOCK)])
    with pytest.raises(Goodbye) as refusal:
        hfagent.Agent(identity, incarnation=8).open([Volume("root", "serial:older", BLOCK)])
    assert refusal.value.name == "CLONE"
    newer.cut()


# ---- a stream that lies ----

def data(agent, extents, digests=(), payload=b"", **options):
    """A DATA frame of any content, properly numbered and chained."""
    return agent.send_stream("DATA", hfagent.data_message(extents, list(digests)), payload, **options)


def block(agent, byte=b"!"):
    content = byte * BLOCK
    return content, [hfagent.block_digest(agent.seed, content)]


def test_a_write_beyond_the_volume(agent):
    content, digests = block(agent)
    data(agent, [Extent(BLOCKS, 1, agent.volumes["root"].number, DATA)], digests, content)
    refusal_of(agent, "BEYOND")


def test_zeros_that_end_beyond_the_volume(agent):
    data(agent, [Extent(BLOCKS - 1, 1 << 40, agent.volumes["root"].number, ZERO)])
    refusal_of(agent, "BEYOND")


@pytest.mark.parametrize("place", [31, 33])
def test_a_fill_behind_or_beyond_the_frontier(agent, place):
    content, digests = block(agent)
    data(agent, [Extent(place, 1, agent.volumes["half"].number, FILL)], digests, content)
    refusal_of(agent, "FRONTIER")


def test_a_write_above_the_frontier(agent):
    content, digests = block(agent)
    data(agent, [Extent(32, 1, agent.volumes["half"].number, DATA)], digests, content)
    refusal_of(agent, "FRONTIER")


def test_a_fill_of_what_is_full(agent):
    data(agent, [Extent(0, 1, agent.volumes["root"].number, FILL_ZERO)])
    refusal_of(agent, "FRONTIER")


@pytest.mark.parametrize("number", [0, 99, 0xFFFFFFFF])
def test_a_volume_that_is_not_there(agent, number):
    content, digests = block(agent)
    data(agent, [Extent(0, 1, number, DATA)], digests, content)
    refusal_of(agent, "VOLUME")


def test_a_volume_of_another_source(house, victim, agent):
    stranger = hfagent.Agent(enroll(house))
    names = ["v%d" % i for i in range(5)]
    stranger.open([Volume(n, "serial:" + n, BLOCK) for n in names])
    foreign = max(v.number for v in stranger.volumes.values())
    assert foreign not in [v.number for v in agent.volumes.values()]
    content, digests = block(agent)
    data(agent, [Extent(0, 1, foreign, DATA)], digests, content)
    refusal_of(agent, "VOLUME")
    stranger.close()


def test_a_digest_that_does_not_match(agent):
    content, digests = block(agent)
    data(agent, [Extent(3, 1, agent.volumes["root"].number, DATA)], [digests[0] ^ 1], content)
    refusal_of(agent, "DIGEST")


def test_of_a_bad_frame_not_even_the_good_blocks_are_taken(agent):
    good, good_digest = block(agent, b"g")
    bad, bad_digest = block(agent, b"b")
    data(agent, [Extent(3, 2, agent.volumes["root"].number, DATA)], [good_digest[0], bad_digest[0] ^ 2], good + bad)
    refusal_of(agent, "DIGEST")


def test_a_digest_of_zero(agent):
    data(agent, [Extent(3, 1, agent.volumes["root"].number, DATA)], [0], bytes(BLOCK))
    refusal_of(agent, "PROTOCOL")


def test_extents_that_overlap(agent):
    number = agent.volumes["root"].number
    data(agent, [Extent(3, 5, number, ZERO), Extent(7, 2, number, ZERO)])
    refusal_of(agent, "PROTOCOL")


def test_a_reserved_kind_of_extent(agent):
    content, digests = block(agent)
    data(agent, [Extent(3, 1, agent.volumes["root"].number, FRAGMENT)], digests, content)
    refusal_of(agent, "PROTOCOL")


def test_a_payload_of_another_length(agent):
    content, digests = block(agent)
    data(agent, [Extent(3, 1, agent.volumes["root"].number, DATA)], digests, content + b"x")
    refusal_of(agent, "PROTOCOL")


def test_a_compression_nobody_agreed_on(agent):
    content, digests = block(agent)
    data(agent, [Extent(3, 1, agent.volumes["root"].number, DATA)], digests, content[:100], flags=1)
    refusal_of(agent, "PROTOCOL")


def test_data_beyond_the_credit(victim, agent):
    """Within it the blocks are those that are there already; so nothing changes, however many of the frames are taken."""
    digests = [hfagent.block_digest(agent.seed, b) for b in hfagent.blocks_of(victim.disk)]
    message = hfagent.data_message([Extent(0, BLOCKS, agent.volumes["root"].number, DATA)], digests)
    sent = agent.stream_bytes
    try:
        while sent <= agent.credit + 8 * MIB:  # as fast as the socket takes it, whatever credit comes meanwhile
            frame = agent.stream.next(hfagent.FRAME["DATA"], message, victim.disk)
            agent.send_raw(frame)
            sent += len(frame)
    except Goodbye:
        pass
    refusal_of(agent, "CREDIT")


def test_a_frame_before_the_first_ack(victim):
    agent = hfagent.Agent(victim.identity)
    agent.connect()
    agent.hello()
    agent.declare([Volume("root", "serial:victim", BLOCKS * BLOCK), Volume("half", "serial:half", BLOCKS * BLOCK)])
    agent.stream = hfagent.Stream()
    agent.send_raw(agent.stream.next(hfagent.FRAME["DATA"], hfagent.data_message([Extent(0, 1, agent.volumes["root"].number, ZERO)], [])))
    assert agent.wait_end(10).name in ("CREDIT", "PROTOCOL")
    agent.cut()
    victim.check_untouched()


@pytest.mark.parametrize("jump", [-1, 1])
def test_a_sequence_with_a_gap_or_a_repetition(agent, jump):
    agent.checkpoint("fuzzy")
    agent.stream.sequence += jump
    agent.checkpoint("fuzzy")
    refusal_of(agent, "SEQUENCE")


def test_the_resumption_of_a_foreign_stream(victim):
    agent = hfagent.Agent(victim.identity)
    agent.connect()
    agent.hello()
    agent.declare([Volume("root", "serial:victim", BLOCKS * BLOCK), Volume("half", "serial:half", BLOCKS * BLOCK)])
    agent.send("START", resume=True, stream_id=12345)
    refusal_of(agent, "STREAM")
    agent.cut()
    victim.check_untouched()


# ---- frames that are none ----

def test_an_oversized_message(agent):
    agent.send_raw(hfagent.HEADER.pack(b"HFS1", hfagent.FRAME["HEARTBEAT"], 0, 1025, 0, 0))
    refusal_of(agent, "TOOBIG")


def test_an_oversized_payload(agent):
    agent.send_raw(hfagent.HEADER.pack(b"HFS1", hfagent.FRAME["DATA"], 0, 64, 1048577, agent.stream.sequence + 1))
    refusal_of(agent, "TOOBIG")


@pytest.mark.parametrize("kind", [0, 6, 31, 200, 65535])
def test_an_unknown_frame_type(agent, kind):
    agent.send_frame(kind, b"")
    refusal_of(agent, "PROTOCOL")


def test_a_frame_of_the_wrong_side(agent):
    agent.send_frame("ACK", hfagent.protobuf().Ack(durable_sequence=1).SerializeToString())
    refusal_of(agent, "PROTOCOL")


@pytest.mark.parametrize("message", [b"\xff" * 20, b"\x0b\x0c", b"\x0a\xff\x01", b"\x08" + b"\x80" * 11])
def test_a_malformed_message(agent, message):
    agent.send_frame("HEARTBEAT", message)
    refusal_of(agent, "PROTOCOL")


def test_garbage(house, agent):
    agent.send_raw(house.random.randbytes(5000))
    refusal_of(agent, "PROTOCOL")


def test_more_questions_than_may_be_open(agent):
    questions = b""
    for i in range(200):
        question = hfagent.protobuf().Compare(request_id=i + 1, volume=agent.volumes["root"].number, level=0, first=0, count=BLOCKS)
        questions += hfagent.encode_frame(hfagent.FRAME["COMPARE"], question.SerializeToString())
    agent.send_raw(questions)
    refusal_of(agent, "PROTOCOL")


def test_silence(victim):
    agent = victim.agent(heartbeats=False)
    began = time.monotonic()
    refusal_of(agent, "SILENT", 60)
    assert 3 < time.monotonic() - began < 45
    agent.cut()
    victim.check_untouched()


# ---- hello and declare ----

def refused_hello(victim, name, **fields):
    agent = hfagent.Agent(victim.identity)
    agent.connect()
    with pytest.raises(Goodbye) as refusal:
        agent.hello(**fields)
    assert refusal.value.name == name
    wait_for(lambda: is_told(agent, name), 5, "the event of the refusal")
    agent.cut()
    return refusal.value


def test_another_version_is_told_both_ranges_and_what_to_upgrade(victim):
    goodbye = refused_hello(victim, "VERSION", protocol_version=99, protocol_version_min=99)
    assert goodbye.message.server_version_min <= goodbye.message.server_version_max < 99
    assert "99" in goodbye.text and "upgrade" in goodbye.text + goodbye.cure
    info = wait_for(lambda: (i := victim.identity.daemon.source(victim.identity.source_id)["dataReplicationInfo"])["dataReplicationState"] == "DISCONNECTED" and i,
                    20, "it to count as gone")
    assert info["dataReplicationError"]["code"] == "AGENT_REFUSED" and "upgrade the server" in info["stateReason"]


def test_bulk_streams_are_reserved(victim):
    refused_hello(victim, "PROTOCOL", role=2)
    refused_hello(victim, "PROTOCOL", stream_index=1)


@pytest.mark.parametrize("second", [("root", "serial:other"), ("other", "serial:victim")])
def test_two_volumes_of_one_name_or_identity(victim, second):
    agent = hfagent.Agent(victim.identity)
    agent.connect()
    agent.hello()
    with pytest.raises(Goodbye) as refusal:
        agent.declare([Volume("root", "serial:victim", BLOCKS * BLOCK), Volume(*second, BLOCKS * BLOCK)])
    assert refusal.value.name == "PROTOCOL"
    agent.cut()
    victim.check_untouched()


def test_a_volume_that_shrank_is_refused_and_the_others_go_on(victim):
    agent = hfagent.Agent(victim.identity)
    agent.connect()
    agent.hello()
    answers = agent.declare([Volume("root", "serial:victim", (BLOCKS - 1) * BLOCK), Volume("half", "serial:half", BLOCKS * BLOCK)])
    pb = hfagent.protobuf()
    assert answers[0].state == pb.VOLUME_REFUSED and answers[0].text
    assert answers[1].state == pb.VOLUME_OK
    agent.start()
    data(agent, [Extent(0, 1, answers[0].volume or agent.volumes["half"].number + 1, ZERO)])
    refusal_of(agent, "VOLUME")
    agent.cut()
    victim.check_untouched()


def test_a_volume_larger_than_the_staging_file_system_can_hold(house):
    agent = hfagent.Agent(enroll(house))
    agent.connect()
    agent.hello()
    answers = agent.declare([Volume("huge", "serial:huge", 1 << 57)])
    pb = hfagent.protobuf()
    assert answers[0].state == pb.VOLUME_REFUSED and answers[0].status == hfagent.STATUS["TOOLARGE"] and answers[0].text
    agent.cut()


# ---- after all that ----

def test_after_all_refusals_the_victim_is_whole(house, victim):
    victim.check_untouched()
    assert house.served.program.is_alive()
    expected = house.file("victim", victim.disk)
    agent = victim.agent()
    agent.fill("half", victim.disk)
    agent.checkpoint("crash")
    agent.wait_ack()
    agent.close()
    house.served.newest(victim.source)
    for volume in ("root", "half"):
        assert first_difference(expected, house.served.export(victim.source, volume, "latest")) is None
