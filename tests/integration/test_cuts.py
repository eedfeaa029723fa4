# SPDX-License-Identifier: Apache-2.0
"""The connection is cut: after every byte of a client's session of 12 to 16 KiB, and without a word."""
import concurrent.futures
import os
import signal
import socket
import ssl
import struct
import time

import pytest

import hfagent
from far import Far
from harness import BLOCK, IS_ROOT, MIB, SLOW, first_difference, random_bytes, ready_agent, wait_for
from hfagent import DATA, FRAME, Extent, Volume
from history import History
from tcp_proxy import TcpProxy

PARTS = 4    # cut at once, each with a source of its own
WIGGLE = 16  # bytes by which one session is shorter than another: signatures and times differ in length


class Cut(Exception):
    """The bytes a connection may send are used up."""


class Line:
    """A TLS connection that ends after `limit` bytes to the server, wherever that is. No threads, so thousands are quick."""

    def __init__(self, context, address, limit):
        self.limit, self.sent = limit, 0
        self.socket = socket.create_connection(address, 20)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing)
        self.reader = hfagent.FrameReader()
        self.frames = []

    def handshake(self):
        self._until(self.tls.do_handshake)
        self._flush()

    def send(self, name, message, **options):
        if not isinstance(message, bytes):
            message = message.SerializeToString()
        self.tls.write(hfagent.encode_frame(FRAME[name], message, **options))
        self._flush()

    def send_bytes(self, data):
        self.tls.write(data)
        self._flush()

    def receive(self, name):
        """The next frame of that type; others (heartbeats) are passed over."""
        while True:
            while self.frames:
                frame = self.frames.pop(0)
                if frame.type == FRAME["GOODBYE"]:
                    raise hfagent.Goodbye(hfagent.protobuf().Goodbye.FromString(frame.message))
                if frame.type == FRAME[name]:
                    return frame
            self.frames += self.reader.feed(self._until(lambda: self.tls.read(65536)))

    def _until(self, operation):
        while True:
            try:
                return operation()
            except ssl.SSLWantReadError:
                self._flush()
                data = self.socket.recv(65536)
                if not data:
                    raise hfagent.Closed("the server closed the connection") from None
                self.incoming.write(data)

    def _flush(self):
        data = self.outgoing.read()
        allowed = data[:self.limit - self.sent]
        self.socket.sendall(allowed)
        self.sent += len(allowed)
        if len(allowed) < len(data):
            raise Cut()

    def close(self, reset):
        if reset:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


class Client:
    """One source whose three blocks are always written together: never may the server hold some of one write and some of another."""

    def __init__(self, directory, port, incarnation):
        self.identity = hfagent.Identity(directory)
        self.context = self.identity.tls_context()
        self.address = ("127.0.0.1", port)
        self.incarnation = incarnation
        self.generation = 0
        self.acked = 0

    def session(self, limit, fill=False):
        """A whole session: write the next generation, a checkpoint, and leave. Returns bytes sent; raises Cut."""
        pb = hfagent.protobuf()
        line = Line(self.context, self.address, limit)
        try:
            line.handshake()
            line.send("HELLO", pb.Hello(protocol_version=1, protocol_version_min=1, role=1, installation_nonce=self.identity.nonce,
                                        incarnation=self.incarnation, clock_ns=time.time_ns()))
            self.seed = pb.Welcome.FromString(line.receive("WELCOME").message).digest_seed
            line.send("DECLARE", pb.Declare(volumes=[pb.DeclaredVolume(name="v", identity="serial:cut", size_bytes=3 * BLOCK, state=1)]))
            volume = pb.Volumes.FromString(line.receive("VOLUMES").message).volumes[0].volume
            stream = hfagent.Stream()
            line.send("START", pb.Start(stream_id=stream.id))
            line.receive("ACK")
            self.check(line, volume, fill)
            self.generation += 1
            content = [self.block(self.generation, i) for i in range(3)]
            message = hfagent.data_message([Extent(0, 3, volume, hfagent.FILL if fill else DATA)], [hfagent.block_digest(self.seed, b) for b in content])
            line.send_bytes(stream.next(FRAME["DATA"], message, b"".join(content)))
            line.send_bytes(stream.next(FRAME["CHECKPOINT"], pb.Checkpoint(clock_ns=time.time_ns(), consistency=2).SerializeToString()))
            while pb.Ack.FromString(line.receive("ACK").message).durable_sequence < 2:
                pass
            self.acked = self.generation
            line.send("GOODBYE", pb.Goodbye())
            return line.sent
        finally:
            line.close(reset=limit % 2 == 1)

    def check(self, line, volume, fill):
        """What the server holds is one generation, and none older than the newest acknowledged."""
        if fill:
            return
        line.send("COMPARE", hfagent.protobuf().Compare(request_id=1, volume=volume, level=0, first=0, count=3))
        digests = struct.unpack("<3Q", line.receive("COMPARED").payload)
        for generation in range(self.acked, self.generation + 1):
            if digests == tuple(hfagent.block_digest(self.seed, self.block(generation, i)) for i in range(3)):
                return
        raise AssertionError("after %d acknowledged and %d sent the server holds none of them" % (self.acked, self.generation))

    @staticmethod
    def block(generation, i):
        return struct.pack("<QQ", generation, i) * (BLOCK // 16)


def cut_many(directory, port, incarnation, part):
    """In a process of its own: every PARTS-th byte of a session. Returns (bytes of a session, how many were cut)."""
    client = Client(directory, port, incarnation)
    client.session(1 << 30, fill=True)
    whole = client.session(1 << 30)
    cuts = 0
    for limit in range(part, whole, PARTS):
        try:
            sent = client.session(limit)
        except Cut:
            cuts += 1
        else:
            assert sent >= whole - WIGGLE, "not cut after %d bytes of %d: the session ended there" % (limit, whole)
    client.session(1 << 30)
    return whole, cuts


def test_after_a_cut_at_every_byte_the_server_holds_what_it_acknowledged(house):
    daemon = house.served
    with concurrent.futures.ProcessPoolExecutor(PARTS) as pool:
        jobs = []
        for part in range(PARTS):
            identity = hfagent.enroll(("127.0.0.1", daemon.enroll_port), daemon.token(), house.path("cut-%d" % part))
            jobs.append(pool.submit(cut_many, identity.directory, daemon.port, 1, part))
        results = [job.result() for job in jobs]
    shortest = min(whole for whole, _ in results)
    assert 12 * 1024 < shortest <= 16 * 1024
    assert sum(cuts for _, cuts in results) >= shortest - WIGGLE
    assert daemon.program.is_alive()
    wait_for(lambda: not any(s["agent"]["connected"] for s in daemon.sources()), 15, "the sessions to be gone")


def test_an_agent_whose_connection_breaks_all_the_time_arrives_all_the_same(house):
    daemon = house.served
    disk = house.file("broken-line", random_bytes(house.random, 6 * MIB))
    proxy = TcpProxy(("127.0.0.1", daemon.port))
    house.on_end(proxy.close)
    agent = house.agent(daemon, {"root": disk}).go_through(proxy.port)
    proxy.cut_after(2 * MIB + 12345)
    agent.start()
    daemon.wait_ready(agent.source)
    assert proxy.connections >= 3
    assert first_difference(disk, daemon.export(agent.source, "root", "latest")) is None
    agent.stop()


def network_error(daemon, agent):
    error = daemon.source(agent.source)["dataReplicationInfo"]["dataReplicationError"]
    return error and error["code"]


def test_a_network_that_loses_sessions_is_told_and_agents_that_die_are_not(rig):
    daemon = rig.daemon()
    proxy = TcpProxy(("127.0.0.1", daemon.port))
    rig.on_end(proxy.close)
    agent = rig.agent(daemon, {"root": rig.file("root", random_bytes(rig.random, MIB))}).go_through(proxy.port).start()
    daemon.wait_ready(agent.source)
    proxy.cut_after(None, reset=True)

    def lost():
        return int(daemon.source(agent.source)["counters"]["lostSessions"])

    for deaths in range(3):
        agent.restart("kill")
        wait_for(lambda: proxy.connections > deaths + 1, 20, "the next process")
        daemon.wait_streaming(agent.source)
    assert lost() == 0 and network_error(daemon, agent) is None
    for losses in range(1, 4):
        assert network_error(daemon, agent) is None and not daemon.events("network_unstable")
        agent.wait_connected()
        proxy.cut()
        wait_for(lambda: lost() == losses, 20, "the agent to be back")
    wait_for(lambda: network_error(daemon, agent) == "UNSTABLE_NETWORK", 10, "the error")
    assert daemon.source(agent.source)["ready"]
    wait_for(lambda: daemon.events("network_unstable"), 20, "its event")
    assert len(daemon.events("network_unstable")) == 1
    status = " ".join(daemon.ctl("status").stdout.split())
    assert "lost again and again" in status and "next: look at the path between" in status
    agent.stop()


# ---- silence ----

def test_a_server_that_stands_still_blames_neither_its_agents_nor_the_network(rig):
    daemon = rig.daemon()
    agent = ready_agent(rig, daemon, {"root": rig.file("root", random_bytes(rig.random, MIB))})
    daemon.program.signal(signal.SIGSTOP)
    wait_for(lambda: not agent.is_connected(), 20, "the agent to miss it")
    daemon.program.signal(signal.SIGCONT)
    agent.wait_connected()
    daemon.wait_streaming(agent.source)
    assert "stood still for" in wait_for(lambda: daemon.events("server_stood_still"), 10, "its event")[0]["text"]
    assert not [e for e in daemon.events("session_refused") if "SILENT" in e["text"]]
    assert int(daemon.source(agent.source)["counters"]["lostSessions"]) == 0
    agent.stop()


def test_an_agent_of_whom_a_byte_comes_now_and_then_is_not_silent(house):
    daemon = house.served
    proxy = TcpProxy(("127.0.0.1", daemon.port))
    house.on_end(proxy.close)
    identity = hfagent.enroll(("127.0.0.1", daemon.enroll_port), daemon.token(), house.path("slow"))
    agent = hfagent.Agent(identity, proxy.address)
    agent.open([Volume("v", "serial:slow", 4 * BLOCK)])
    proxy.limit(2000)
    came = proxy.forwarded_bytes
    wait_for(lambda: proxy.forwarded_bytes > came, 20, "a heartbeat: what the proxy waited for before may be of any length")
    agent.fill("v", random_bytes(house.random, 4 * BLOCK))  # its first TLS record, 16 KiB, takes seven seconds or more
    agent.checkpoint()
    agent.wait_ack()
    assert proxy.connections == 1
    agent.close()


@pytest.fixture(name="far")
def far_fixture(rig):
    if not IS_ROOT:
        pytest.skip("network name spaces need root")
    return Far(rig)


def seconds_to_go_on(daemon, agent, far, history, silence):
    """How long after the path's return the first data arrives."""
    far.take_path()
    gone = time.monotonic()
    history.write(20)
    while time.monotonic() < gone + silence:  # this is how long the path is gone, not a wait for something
        time.sleep(0.05)
    before = int(daemon.source(agent.source)["counters"]["lastLSN"])
    far.give_path()
    back = time.monotonic()
    wait_for(lambda: int(daemon.source(agent.source)["counters"]["lastLSN"]) > before, 20, "the stream to go on")
    return time.monotonic() - back


@pytest.mark.parametrize("seconds", [3, 8])
def test_after_silence_the_agent_streams_within_two_seconds_of_the_paths_return(rig, far, seconds):
    daemon = rig.daemon(host=far.server_ip)
    history = History(rig.path("disk"), 512, rig.random)
    agent = ready_agent(rig, daemon, {"root": history.path}, prefix=far.prefix)
    tries = []
    while not tries or (tries[-1] >= 2 * SLOW and len(tries) < 3):  # the machine may be busy once
        tries.append(seconds_to_go_on(daemon, agent, far, history, seconds))
    assert tries[-1] < 2 * SLOW, tries
    point = daemon.point(agent.source, "after")
    assert history.check(daemon.export(agent.source, "root", point["pointInTimeID"])) == 20 * len(tries)
    agent.stop()
