# SPDX-License-Identifier: Apache-2.0
"""A second agent, written from docs/protocol.md and proto/holdfast.proto alone: the proof that they are enough.

Tests drive it step by step, and make it misbehave on purpose (send_frame, send_raw). Beside the standard library it needs
python3-protobuf, python3-xxhash, protoc and the openssl command.

    identity = enroll(("127.0.0.1", 1501), token, "/tmp/state")
    agent = Agent(identity, ("127.0.0.1", 1500))
    agent.open([Volume("root", "serial:1", len(disk))])
    agent.fill("root", disk)
    agent.checkpoint("crash")
    agent.wait_ack()
    agent.close()

One thread owns the socket: it reads whatever comes, also while a write is blocked, sends what is queued, and keeps up the
heartbeats. Everybody else queues bytes and waits on one condition.
"""
import atexit
import base64
import collections
import hashlib
import importlib
import json
import os
import random
import select
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time

import xxhash

BLOCK = 4096
ZEROS = bytes(BLOCK)
EXTENTS_MAX = 1024
PAYLOAD_BLOCKS_MAX = 256
COMPARES_OPEN_MAX = 16
PROTOCOL_VERSION = 1

FRAME = {
    "HELLO": 1, "WELCOME": 2, "DECLARE": 3, "VOLUMES": 4, "START": 5, "DATA": 16, "CHECKPOINT": 17, "ACK": 32,
    "HEARTBEAT": 33, "CHECKPOINT_REQUEST": 34, "COMPARE": 35, "COMPARED": 36, "RECENT": 37, "RECENT_ANSWER": 38,
    "RENEW_REQUEST": 39, "RENEW": 40, "RENEWED": 41, "REPORT": 42, "NOTICE": 43, "GOODBYE": 44, "FETCH": 45, "FETCHED": 46,
    "ENROLL": 64, "ENROLLED": 65,
}
FRAME_NAME = {number: name for name, number in FRAME.items()}

STATUS = {
    "PROTOCOL": 1000, "VERSION": 1001, "TOOBIG": 1002, "DIGEST": 1003, "CREDIT": 1004, "BEYOND": 1005, "FRONTIER": 1006,
    "VOLUME": 1007, "SEQUENCE": 1008, "STREAM": 1009, "FENCED": 1010, "CLONE": 1011, "REVOKED": 1012, "EXPIRED": 1013,
    "TOKEN": 1014, "RATE": 1015, "SILENT": 1016, "SHUTDOWN": 1017, "FORMAT": 1018, "CORRUPT": 1019, "FULL": 1020,
    "NOPIT": 1021, "IDENTITY": 1022, "TOOLARGE": 1023, "INCOMPLETE": 1024, "ADMIN": 1025,
}
STATUS_NAME = {number: name for name, number in STATUS.items()}

DATA, ZERO, FILL, FILL_ZERO, FRAGMENT = 1, 2, 3, 4, 5
CONSISTENCY = {"fuzzy": 1, "crash": 2, "filesystem": 3, "application": 4}
LEVEL_BLOCKS = (1, 16, 256, 65536)

Extent = collections.namedtuple("Extent", "block count volume kind")
Frame = collections.namedtuple("Frame", "type flags sequence message payload")


class Goodbye(Exception):
    """The server ended the session and said why."""

    def __init__(self, message):
        self.status = message.status
        self.name = STATUS_NAME.get(message.status, str(message.status))
        self.text, self.cure = message.text, message.cure
        self.message = message
        super().__init__("%s: %s%s" % (self.name, self.text, " (%s)" % self.cure if self.cure else ""))


class Closed(ConnectionError):
    """The connection is gone, without a word."""


# ---- the .proto, compiled once per process ----

_protobuf = None


def protobuf():
    """The module protoc makes of proto/holdfast.proto."""
    global _protobuf
    if _protobuf is None:
        source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "proto")
        made = tempfile.mkdtemp(prefix="hfagent-")
        atexit.register(shutil.rmtree, made, ignore_errors=True)
        subprocess.run(["protoc", "-I", source, "--python_out", made, "holdfast.proto"], check=True)
        sys.path.insert(0, made)
        _protobuf = importlib.import_module("holdfast_pb2")
        sys.path.remove(made)
    return _protobuf


# ---- digests ----

def block_digest(seed, block):
    if block == ZEROS:
        return 0
    return xxhash.xxh3_64_intdigest(block, seed=seed) or 1


def node_digest(seed, children):
    if not any(children):
        return 0
    return xxhash.xxh3_64_intdigest(struct.pack("<%dQ" % len(children), *children), seed=seed) or 1


def chain_hash(chain, data):
    return xxhash.xxh3_64_intdigest(data, seed=chain)


def blocks_of(data):
    """The blocks of a volume, the last one padded."""
    for at in range(0, len(data), BLOCK):
        block = bytes(data[at:at + BLOCK])
        yield block if len(block) == BLOCK else block.ljust(BLOCK, b"\0")


def block_count(size_bytes):
    return -(-size_bytes // BLOCK)


def digest_tree(seed, data):
    """The digests of all four levels, lists from level 0 up."""
    levels = [[block_digest(seed, block) for block in blocks_of(data)]]
    for fan in (16, 16, 256):
        below = levels[-1]
        groups = (below[i:i + fan] for i in range(0, len(below), fan))
        levels.append([node_digest(seed, group + [0] * (fan - len(group))) for group in groups])
    return levels


# ---- frames ----

HEADER = struct.Struct("<4sHHIIQ")


def encode_frame(kind, message=b"", payload=b"", sequence=0, flags=0):
    return HEADER.pack(b"HFS1", kind, flags, len(message), len(payload), sequence) + message + payload


class FrameReader:
    """Fed bytes, yields frames."""

    def __init__(self):
        self.buffer = bytearray()

    def feed(self, data):
        self.buffer += data
        while len(self.buffer) >= HEADER.size:
            magic, kind, flags, message_bytes, payload_bytes, sequence = HEADER.unpack_from(self.buffer)
            if magic != b"HFS1" or message_bytes > 65536 or payload_bytes > 1048576:
                raise Closed("the server does not speak the protocol")
            end = HEADER.size + message_bytes + payload_bytes
            if len(self.buffer) < end:
                return
            body = bytes(self.buffer[HEADER.size:end])
            del self.buffer[:end]
            yield Frame(kind, flags, sequence, body[:message_bytes], body[message_bytes:])


def data_message(extents, digests):
    table = b"".join(struct.pack("<QQII", *extent) for extent in extents)
    return struct.pack("<II", len(extents), len(digests)) + table + struct.pack("<%dQ" % len(digests), *digests)


class Packer:
    """Gathers blocks of one volume into DATA messages, runs of zeros without payload; a list of (message, payload)."""

    def __init__(self, seed, volume, data_kind, zero_kind):
        self.seed, self.volume, self.data_kind, self.zero_kind = seed, volume, data_kind, zero_kind
        self.done = []
        self.extents, self.digests, self.payload = [], [], []

    def add(self, block, data):
        self._extend(self.data_kind if data != ZEROS else self.zero_kind, block, 1)
        if data != ZEROS:
            self.digests.append(block_digest(self.seed, data))
            self.payload.append(data)

    def add_zeros(self, block, count):
        self._extend(self.zero_kind, block, count)

    def _extend(self, kind, block, count):
        full = len(self.payload) == PAYLOAD_BLOCKS_MAX and kind == self.data_kind
        last = self.extents[-1] if self.extents else None
        if not full and last and last.kind == kind and last.block + last.count == block:
            self.extents[-1] = last._replace(count=last.count + count)
            return
        if full or len(self.extents) == EXTENTS_MAX:
            self._flush()
        self.extents.append(Extent(block, count, self.volume, kind))

    def _flush(self):
        if self.extents:
            self.done.append((data_message(self.extents, self.digests), b"".join(self.payload)))
        self.extents, self.digests, self.payload = [], [], []

    def take(self, last=False):
        """Messages completed so far, and with last the rest; take them often, so that a large volume needs little memory."""
        if last:
            self._flush()
        done, self.done = self.done, []
        return done


class Stream:
    """What one process sends: numbered, chained, kept until acknowledged."""

    def __init__(self, stream_id=None):
        self.id = stream_id or random.SystemRandom().randrange(1, 1 << 64)
        self.sequence = 0
        self.chain = self.id
        self.chains = {0: self.id}  # by sequence: of the newest acknowledged frame and everything after it
        self.kept = collections.OrderedDict()
        self.acked = 0

    def next(self, kind, message, payload=b"", flags=0):
        """Number, chain and keep one frame; its bytes."""
        self.sequence += 1
        frame = encode_frame(kind, message, payload, self.sequence, flags)
        self.chain = chain_hash(self.chain, frame[:HEADER.size + len(message)])
        self.chains[self.sequence] = self.chain
        self.kept[self.sequence] = frame
        return frame

    def ack(self, sequence):
        for old in [s for s in self.kept if s <= sequence]:
            del self.kept[old]
        for old in [s for s in self.chains if s < sequence]:
            del self.chains[old]
        self.acked = max(self.acked, sequence)

    def may_resume(self, welcome):
        return welcome.stream_id == self.id and self.chains.get(welcome.durable_sequence) == welcome.chain


# ---- identity and enrolment ----

def parse_token(token):
    """(secret, fingerprint) of "hf1.<secret>.<fingerprint>"."""
    prefix, secret, fingerprint = token.strip().split(".")
    if prefix != "hf1" or len(secret) != 32 or len(fingerprint) != 64:
        raise ValueError("not a token: %r" % token)
    return base64.b32decode(secret.upper()), bytes.fromhex(fingerprint)


def openssl(*arguments, **options):
    return subprocess.run(("openssl",) + arguments, check=True, capture_output=True, **options).stdout


def make_key(path):
    """A new P-256 key, readable by us alone."""
    key = openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as f:
        f.write(key)


def make_csr(key_path):
    """A PKCS#10 request for the key, DER."""
    return openssl("req", "-new", "-key", key_path, "-subj", "/CN=agent", "-outform", "DER")


class Identity:
    """What an installed agent keeps: key.pem, cert.pem, ca.pem and agent.json in one directory."""

    def __init__(self, directory):
        self.directory = str(directory)
        with open(self.path("agent.json"), encoding="utf-8") as f:
            self.facts = json.load(f)

    def path(self, name):
        return os.path.join(self.directory, name)

    @property
    def source_id(self):
        return self.facts["source_id"]

    @property
    def nonce(self):
        return bytes.fromhex(self.facts["nonce"])

    @property
    def data_port(self):
        return self.facts["data_port"]

    def save(self, **facts):
        self.facts.update(facts)
        replace_file(self.path("agent.json"), json.dumps(self.facts).encode())

    def next_incarnation(self):
        self.save(incarnation=self.facts["incarnation"] + random.SystemRandom().randint(1, 1 << 20))
        return self.facts["incarnation"]

    def save_certificate(self, der):
        replace_file(self.path("cert.pem"), ssl.DER_cert_to_PEM_cert(der).encode())

    def ca_der(self):
        with open(self.path("ca.pem"), encoding="ascii") as f:
            return ssl.PEM_cert_to_DER_cert(f.read())

    def tls_context(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False  # the pinned CA is what is trusted; addresses may change
        context.load_verify_locations(self.path("ca.pem"))
        context.load_cert_chain(self.path("cert.pem"), self.path("key.pem"))
        return context


def replace_file(path, data):
    """The old content or the new, whatever happens."""
    with open(path + ".new", "wb") as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())
    os.rename(path + ".new", path)


def peer_chain(connection):
    """The certificates the server sent, DER. Python 3.11 has this only below ssl.SSLSocket."""
    import _ssl
    return [c.public_bytes(_ssl.ENCODING_DER) for c in connection._sslobj.get_unverified_chain()]


def check_server(chain, fingerprint):
    """Before anything secret is sent: the CA is the token's, and it vouches for the server. Returns the CA, DER."""
    cas = [der for der in chain if hashlib.sha256(der).digest() == fingerprint]
    if not cas:
        raise Closed("the server's CA is not the one the token names")
    with tempfile.TemporaryDirectory() as d:
        for name, der in (("ca.pem", cas[0]), ("server.pem", chain[0])):
            with open(os.path.join(d, name), "w", encoding="ascii") as f:
                f.write(ssl.DER_cert_to_PEM_cert(der))
        try:
            openssl("verify", "-purpose", "sslserver", "-CAfile", "ca.pem", "server.pem", cwd=d)
        except subprocess.CalledProcessError as e:
            raise Closed("the server's certificate does not verify: %s" % e.stderr.decode()) from e
    return cas[0]


def hints(hostname=None):
    return protobuf().Hints(hostname=hostname or socket.gethostname()[:127], os="test", cpus=os.cpu_count() or 1, agent_version="hfagent.py")


def enroll(address, token, directory, nonce=None, timeout=10, csr=None, source_address=None, hostname=None):
    """Turn a token into an Identity kept in directory. Raises Goodbye or Closed."""
    pb = protobuf()
    secret, fingerprint = parse_token(token)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    key_path = os.path.join(str(directory), "key.pem")
    nonce = nonce or os.urandom(16)
    make_key(key_path)
    request = pb.Enroll(protocol_version=PROTOCOL_VERSION, protocol_version_min=PROTOCOL_VERSION, token_secret=secret,
                        csr=csr or make_csr(key_path), installation_nonce=nonce, hints=hints(hostname))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # check_server() does it, by the token's fingerprint
    with socket.create_connection(address, timeout, source_address) as raw, context.wrap_socket(raw) as connection:
        ca = check_server(peer_chain(connection), fingerprint)
        connection.sendall(encode_frame(FRAME["ENROLL"], request.SerializeToString()))
        answer = read_one_frame(connection)
    if answer.type == FRAME["GOODBYE"]:
        raise Goodbye(pb.Goodbye.FromString(answer.message))
    if answer.type != FRAME["ENROLLED"]:
        raise Closed("%s instead of ENROLLED" % FRAME_NAME.get(answer.type, answer.type))
    enrolled = pb.Enrolled.FromString(answer.message)
    if enrolled.ca_certificate != ca:
        raise Closed("ENROLLED names another CA")
    replace_file(os.path.join(str(directory), "ca.pem"), ssl.DER_cert_to_PEM_cert(ca).encode())
    replace_file(os.path.join(str(directory), "cert.pem"), ssl.DER_cert_to_PEM_cert(enrolled.certificate).encode())
    facts = {"source_id": enrolled.source_id, "nonce": nonce.hex(), "incarnation": 0, "data_port": enrolled.data_port,
             "last_stream_id": 0, "last_acked_sequence": 0, "hostname": hostname}
    replace_file(os.path.join(str(directory), "agent.json"), json.dumps(facts).encode())
    return Identity(directory)


def read_one_frame(connection):
    reader = FrameReader()
    while True:
        data = connection.recv(65536)
        if not data:
            raise Closed("closed before an answer came")
        for frame in reader.feed(data):
            return frame


# ---- the session ----

class Volume:
    """One disk, as declared; number, id and frontier as the server answered."""

    def __init__(self, name, identity, size_bytes, state=1, device_name="", boot_disk=False):
        self.name, self.identity, self.size_bytes, self.state = name, identity, size_bytes, state
        self.device_name, self.boot_disk = device_name, boot_disk
        self.number = self.id = self.answer = None
        self.frontier = 0


class Agent:
    """One agent process: at most one connection at a time, and one stream that survives reconnections."""

    def __init__(self, identity, address=None, timeout=20, context=None, heartbeats=True, incarnation=None, clock=time.time_ns):
        self.identity = identity
        self.address = address or ("127.0.0.1", identity.data_port)
        self.timeout = timeout
        self.context = context
        self.heartbeats = heartbeats
        self.clock = clock
        self.incarnation = incarnation or identity.next_incarnation()
        self.stream = None
        self.volumes = {}
        self.backlog_bytes = self.unchanged_until_ns = 0
        self.backlogs = {}  # by number of volume; none: as an older agent
        self.changed = threading.Condition()
        self.thread = None
        self._reset()

    def _reset(self):
        self.welcome = self.goodbye = self.error = None
        self.connected = False
        self.interval = None
        self.outgoing = bytearray()
        self.out_total = self.out_done = 0
        self.stream_bytes = self.credit = 0
        self.hold = False
        self.durable = None
        self.acks = 0
        self.compared = collections.deque()
        self.compares_open = 0
        self.recent_answers = collections.deque()
        self.volume_answers = collections.deque()
        self.checkpoint_requests = []
        self.fetches = collections.deque()
        self.renewals = 0
        self.peer_heartbeat = None
        self.round_trip_ns = self.offset_ns = None
        self.frames_received = collections.Counter()

    # -- connection --

    def connect(self):
        """TCP and TLS; then the socket belongs to the thread."""
        self.cut()
        self._reset()
        context = self.context or self.identity.tls_context()
        raw = socket.create_connection(self.address, self.timeout)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.local_port = raw.getsockname()[1]
        self.socket = context.wrap_socket(raw)
        self.socket.setblocking(False)
        self.wake_read, self.wake_write = socket.socketpair()
        self.wake_read.setblocking(False)
        self.wake_write.setblocking(False)
        self.reader = FrameReader()
        self.stopping = self.reset_on_stop = False
        self.last_received = time.monotonic()
        self.next_heartbeat = None
        self.connected = True
        self.thread = threading.Thread(target=self._run, name="hfagent", daemon=True)
        self.thread.start()

    def open(self, volumes, stream_id=None):
        """connect, hello, declare, start."""
        self.connect()
        self.hello()
        self.declare(volumes)
        self.start(stream_id=stream_id)

    def resume(self):
        """Come back after a cut: True if the stream went on, False if a new one had to begin."""
        self.connect()
        self.hello()
        self.declare(list(self.volumes.values()))
        return self.start()

    def close(self, status=0, text=""):
        """Leave in good order."""
        if self.thread is None:
            return
        if self.stream:
            self.identity.save(last_stream_id=self.stream.id, last_acked_sequence=self.stream.acked)
        try:
            self.send("GOODBYE", status=status, text=text)
            self.wait(lambda: self.out_done == self.out_total)
        except (Closed, Goodbye):
            pass
        self._stop()

    def cut(self):
        """Vanish: the connection is reset, nothing is said."""
        if self.thread is not None:
            self.reset_on_stop = True
            self._stop()

    def _stop(self):
        self.stopping = True
        self._wake()
        self.thread.join()
        self.thread = None

    # -- sending --

    def send_raw(self, data):
        with self.changed:
            self._check()
            self.outgoing += data
            self.out_total += len(data)
        self._wake()

    def send_frame(self, kind, message=b"", payload=b"", sequence=0, flags=0):
        """Any frame, right or wrong; nothing is numbered, chained or counted."""
        kind = FRAME[kind] if isinstance(kind, str) else kind
        message = message if isinstance(message, bytes) else message.SerializeToString()
        self.send_raw(encode_frame(kind, message, payload, sequence, flags))

    def send(self, name, **fields):
        """The control message of frame type `name`, with these fields."""
        message_type = getattr(protobuf(), name.title().replace("_", ""))
        self.send_frame(name, message_type(**fields))

    def send_stream(self, kind, message, payload=b"", flags=0):
        """The stream's next frame, within credit. Returns its sequence number."""
        message = message if isinstance(message, bytes) else message.SerializeToString()
        size = HEADER.size + len(message) + len(payload)
        self.wait(lambda: not self.hold and self.stream_bytes + size <= self.credit)
        frame = self.stream.next(FRAME[kind], message, payload, flags)
        self.stream_bytes += size
        self.send_raw(frame)
        return self.stream.sequence

    # -- session start --

    def hello(self, **overrides):
        """Returns WELCOME."""
        fields = dict(protocol_version=PROTOCOL_VERSION, protocol_version_min=PROTOCOL_VERSION, role=1,
                      installation_nonce=self.identity.nonce, incarnation=self.incarnation, hints=hints(self.identity.facts.get("hostname")),
                      clock_ns=self.clock(), last_stream_id=self.identity.facts["last_stream_id"],
                      last_acked_sequence=self.identity.facts["last_acked_sequence"])
        if self.stream:
            fields.update(last_stream_id=self.stream.id, last_acked_sequence=self.stream.acked)
        fields.update(overrides)
        self.send("HELLO", **fields)
        self.wait(lambda: self.welcome)
        return self.welcome

    @property
    def seed(self):
        return self.welcome.digest_seed

    def declare(self, volumes):
        """All volumes. Returns the answers, in order, and fills in number, id and frontier of each Volume."""
        before = len(self.volume_answers)
        self.send("DECLARE", volumes=[
            protobuf().DeclaredVolume(name=v.name, identity=v.identity, device_name=v.device_name, size_bytes=v.size_bytes,
                                      state=v.state, boot_disk=v.boot_disk) for v in volumes])
        self.wait(lambda: len(self.volume_answers) > before)
        answers = self.volume_answers[-1].volumes
        for volume, answer in zip(volumes, answers):
            if answer.identity != volume.identity:
                raise Closed("VOLUMES answers in another order than DECLARE asked")
            volume.answer, volume.number, volume.id = answer, answer.volume, answer.volume_id
            volume.frontier = max(answer.frontier_blocks, volume.frontier if self.durable is not None else 0)
        self.volumes = {v.name: v for v in volumes}
        return answers

    def start(self, stream_id=None, force_new=False):
        """Resume if the rule allows it, else begin a new stream. Returns whether it resumed."""
        resume = not force_new and self.stream is not None and self.stream.may_resume(self.welcome)
        if resume:
            self.stream.ack(self.welcome.durable_sequence)
        else:
            self.stream = Stream(stream_id)
        acks = self.acks
        self.send("START", resume=resume, stream_id=self.stream.id)
        self.wait(lambda: self.acks > acks)
        if resume:
            self._send_again()
        return resume

    def _send_again(self):
        for frame in list(self.stream.kept.values()):
            self.wait(lambda: not self.hold and self.stream_bytes + len(frame) <= self.credit)
            self.stream_bytes += len(frame)
            self.send_raw(frame)
            self._follow_frontier(frame)

    def _follow_frontier(self, frame):
        """A frame of a fill sent again moves the frontier again."""
        _, kind, _, message_bytes, _, _ = HEADER.unpack_from(frame)
        if kind != FRAME["DATA"]:
            return
        numbers = {v.number: v for v in self.volumes.values()}
        count, _ = struct.unpack_from("<II", frame, HEADER.size)
        for i in range(count):
            extent = Extent(*struct.unpack_from("<QQII", frame, HEADER.size + 8 + i * 24))
            if extent.kind in (FILL, FILL_ZERO) and extent.volume in numbers:
                numbers[extent.volume].frontier = extent.block + extent.count

    # -- the stream --

    def _volume(self, volume):
        return volume if isinstance(volume, Volume) else self.volumes[volume]

    def fill(self, volume, data, blocks=None):
        """Send the first copy from the frontier on; data is the whole volume. At most `blocks` blocks, if given."""
        v = self._volume(volume)
        end = block_count(v.size_bytes)
        if blocks is not None:
            end = min(end, v.frontier + blocks)
        packer = Packer(self.seed, v.number, FILL, FILL_ZERO)
        for block, content in enumerate(blocks_of(memoryview(data)[v.frontier * BLOCK:end * BLOCK]), v.frontier):
            packer.add(block, content)
            self._send_data(packer.take())
        self._send_data(packer.take(last=True))
        v.frontier = end

    def write(self, volume, block, data):
        """data (whole blocks, or up to the volume's end) now stands at block."""
        packer = Packer(self.seed, self._volume(volume).number, DATA, ZERO)
        for i, content in enumerate(blocks_of(data)):
            packer.add(block + i, content)
        self._send_data(packer.take(last=True))

    def zero(self, volume, block, count):
        packer = Packer(self.seed, self._volume(volume).number, DATA, ZERO)
        packer.add_zeros(block, count)
        self._send_data(packer.take(last=True))

    def _send_data(self, messages):
        for message, payload in messages:
            self.send_stream("DATA", message, payload)

    def checkpoint(self, consistency="crash", clock_ns=None, request_ids=(), **fields):
        """Mark a checkpoint. Returns its sequence number."""
        return self.send_stream("CHECKPOINT", protobuf().Checkpoint(
            clock_ns=clock_ns or self.clock(), consistency=CONSISTENCY[consistency], request_ids=list(request_ids), **fields))

    def wait_ack(self, sequence=None):
        """Until everything sent, or everything up to sequence, is durable."""
        sequence = self.stream.sequence if sequence is None else sequence
        self.wait(lambda: self.durable is not None and self.durable >= sequence)

    # -- comparing --

    def compare_send(self, volume, level, first, count, request_id=0):
        self.wait(lambda: self.compares_open < COMPARES_OPEN_MAX)
        self.compares_open += 1
        self.send("COMPARE", request_id=request_id, volume=self._volume(volume).number, level=level, first=first, count=count)

    def compare_wait(self):
        """The next answer, in order of the questions: (Compared, digests)."""
        self.wait(lambda: self.compared)
        with self.changed:
            self.compares_open -= 1
            return self.compared.popleft()

    def compare(self, volume, level, first, count):
        """The server's digests of these nodes. The caller sees to it that nothing sent for them is unacknowledged."""
        self.compare_send(volume, level, first, count)
        answer, digests = self.compare_wait()
        if answer.status:
            raise RuntimeError("COMPARED says %s" % STATUS_NAME.get(answer.status, answer.status))
        return digests

    def recent(self, volume):
        """Level 2 nodes written lately, newest first."""
        self.send("RECENT", volume=self._volume(volume).number)
        self.wait(lambda: self.recent_answers)
        return list(self.recent_answers.popleft().nodes)

    def sync(self, volume, data):
        """One pass: make the server's copy below the frontier equal to data. Returns the number of blocks sent."""
        v = self._volume(volume)
        self.wait_ack()
        tree = digest_tree(self.seed, memoryview(data)[:v.frontier * BLOCK])
        packer = Packer(self.seed, v.number, DATA, ZERO)
        sent = 0
        for node, theirs in enumerate(self._digests(v, 2, len(tree[2]))):
            if theirs == tree[2][node]:
                continue
            first = node * 256
            leaves = tree[0][first:first + 256]
            for i, (mine, other) in enumerate(zip(leaves, self.compare(v, 0, first, len(leaves)))):
                if mine != other:
                    at = (first + i) * BLOCK
                    packer.add(first + i, bytes(data[at:at + BLOCK]).ljust(BLOCK, b"\0"))
                    sent += 1
        self._send_data(packer.take(last=True))
        return sent

    def _digests(self, volume, level, count):
        digests = []
        for first in range(0, count, 4096):
            digests += self.compare(volume, level, first, min(4096, count - first))
        return digests

    # -- waiting --

    def wait(self, condition, timeout=None):
        """Until condition() holds; Goodbye or Closed if the session ends first, TimeoutError if nothing happens."""
        with self.changed:
            deadline = time.monotonic() + (timeout or self.timeout)
            while not condition():
                self._check()
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError("the server did not answer in %g s" % (timeout or self.timeout))
                self.changed.wait(left)
            return True

    def wait_end(self, timeout=None):
        """Until the server ends the session: its Goodbye, or None if it said none."""
        with self.changed:
            if not self.changed.wait_for(lambda: not self.connected, timeout or self.timeout):
                raise TimeoutError("the server did not end the session")
            return Goodbye(self.goodbye) if self.goodbye else None

    def _check(self):
        if self.goodbye:
            raise Goodbye(self.goodbye)
        if not self.connected:
            raise Closed(str(self.error or "not connected"))

    # -- the thread --

    def _wake(self):
        try:
            self.wake_write.send(b"x")
        except (BlockingIOError, OSError):
            pass  # a byte is there already, or the thread is gone

    def _run(self):
        try:
            while not self.stopping:
                self._step()
            self._finish()
        except (OSError, Goodbye) as e:  # Closed and ssl.SSLError are OSErrors
            self.error = e
        finally:
            self.socket.close()
            self.wake_read.close()
            self.wake_write.close()
            with self.changed:
                self.connected = False
                self.changed.notify_all()

    def _finish(self):
        if self.reset_on_stop:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return
        self.socket.setblocking(True)
        self.socket.settimeout(1)
        self.socket.unwrap()

    def _step(self):
        self._heartbeat()
        writers = [self.socket] if self.outgoing else []
        ready, _, _ = select.select([self.socket, self.wake_read], writers, [], self._sleep_seconds())
        if self.wake_read in ready:
            self._drain_wake()
        self._read()
        self._write()

    def _sleep_seconds(self):
        if self.next_heartbeat is None:
            return 1.0
        return max(0.0, min(1.0, self.next_heartbeat - time.monotonic()))

    def _drain_wake(self):
        try:
            self.wake_read.recv(4096)
        except BlockingIOError:
            pass

    def _read(self):
        while True:
            try:
                data = self.socket.recv(65536)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            if not data:
                raise Closed("the server closed the connection")
            self.last_received = time.monotonic()
            for frame in self.reader.feed(data):
                self._on_frame(frame)

    def _write(self):
        with self.changed:
            chunk = bytes(self.outgoing[:262144])
        while chunk:
            try:
                n = self.socket.send(chunk)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            with self.changed:
                del self.outgoing[:n]
                self.out_done += n
                self.changed.notify_all()
                chunk = bytes(self.outgoing[:262144])
            self._read()  # never write on while the server has something to say

    def _heartbeat(self):
        now = time.monotonic()
        if self.interval is None:
            return
        if now - self.last_received > max(5, 3 * self.interval):
            raise Closed("the server was silent for too long")
        if not self.heartbeats or now < self.next_heartbeat:
            return
        self.next_heartbeat = now + self.interval
        echo, hold = 0, 0
        if self.peer_heartbeat:
            echo = self.peer_heartbeat[0].clock_ns
            hold = time.monotonic_ns() - self.peer_heartbeat[1]
        self.send("HEARTBEAT", clock_ns=self.clock(), echo_clock_ns=echo, echo_hold_ns=hold,
                  backlog_bytes=self.backlog_bytes, unchanged_until_ns=self.unchanged_until_ns,
                  volume_backlogs=[protobuf().VolumeBacklog(volume=v, bytes=b) for v, b in self.backlogs.items()])

    def _on_frame(self, frame):
        name = FRAME_NAME.get(frame.type)
        handler = getattr(self, "_on_%s" % (name or "").lower(), None)
        if handler is None:
            raise Closed("the server sent frame type %d" % frame.type)
        message = getattr(protobuf(), name.title().replace("_", "")).FromString(frame.message)
        with self.changed:
            self.frames_received[name] += 1
            handler(message, frame)
            self.changed.notify_all()

    def _on_welcome(self, message, frame):
        self.welcome = message
        self.interval = message.heartbeat_interval_ms / 1000
        self.next_heartbeat = time.monotonic()

    def _on_volumes(self, message, frame):
        self.volume_answers.append(message)

    def _on_ack(self, message, frame):
        if self.durable is not None and message.durable_sequence < self.durable:
            raise Closed("an acknowledgement was taken back")
        if message.credit_bytes < self.credit:
            raise Closed("credit was taken back")
        self.durable, self.credit, self.hold = message.durable_sequence, message.credit_bytes, getattr(message, "hold", False)
        self.acks += 1
        self.stream.ack(message.durable_sequence)

    def _on_heartbeat(self, message, frame):
        self.peer_heartbeat = (message, time.monotonic_ns())
        if message.echo_clock_ns:
            now = self.clock()
            self.round_trip_ns = now - message.echo_clock_ns - message.echo_hold_ns
            self.offset_ns = message.clock_ns + self.round_trip_ns // 2 - now

    def _on_checkpoint_request(self, message, frame):
        self.checkpoint_requests.append(message.request_id)

    def _on_fetch(self, message, frame):
        """Only if hello() said features=[1]; whoever did answers."""
        self.fetches.append(message)

    def _on_compared(self, message, frame):
        if message.status or message.all_zero:
            digests = [0] * message.count
        else:
            digests = list(struct.unpack("<%dQ" % message.count, frame.payload))
        self.compared.append((message, digests))

    def _on_recent_answer(self, message, frame):
        self.recent_answers.append(message)

    def _on_renew_request(self, message, frame):
        self.send("RENEW", csr=make_csr(self.identity.path("key.pem")))

    def _on_renewed(self, message, frame):
        if message.ca_certificate != self.identity.ca_der():
            self.send("NOTICE", event="renewal_foreign_ca", text="RENEWED names another CA; ignored")
            return
        self.identity.save_certificate(message.certificate)
        self.renewals += 1

    def _on_goodbye(self, message, frame):
        self.goodbye = message
