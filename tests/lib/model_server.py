# SPDX-License-Identifier: Apache-2.0
"""A model of holdfastd in memory, for agents: it speaks docs/protocol.md, and what it is sent may be looked at.

    make_pki(directory)
    server = ModelServer(directory)
    identity = hfagent.enroll(server.enrolment.getsockname(), server.token, "/tmp/state")
"""
import base64
import hashlib
import random
import socket
import ssl
import struct
import subprocess
import threading

import hfagent
from hfagent import BLOCK, DATA, FILL, FILL_ZERO, FRAME, ZERO

SOURCE = "s-00123456789abcdef"
SECRET = bytes(range(20))


def run(directory, *command):
    subprocess.run(command, cwd=directory, check=True, capture_output=True)


def make_pki(d):
    ec = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    run(d, "openssl", "req", "-x509", *ec, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=CA", "-days", "2")
    run(d, "openssl", "req", *ec, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=server")
    sign(d, "server.csr", "server.pem", "serverAuth", "server")
    with open(d / "chain.pem", "w", encoding="ascii") as chain:
        chain.write((d / "server.pem").read_text() + (d / "ca.pem").read_text())


def sign(d, csr, certificate, usage, name):
    (d / "ext").write_text("extendedKeyUsage = %s\n" % usage)
    run(d, "openssl", "x509", "-req", "-in", csr, "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "1",
        "-extfile", "ext", "-out", certificate)


class ModelServer:
    """Speaks docs/protocol.md, keeps volumes in memory; durable at once, unless acknowledgements are held back."""

    def __init__(self, directory):
        self.d = directory
        self.seed = random.Random(1).randrange(1 << 64)
        self.volumes = {}  # by identity: [number, size, frontier, content]
        self.stream_id = self.sequence = self.chain = 0
        self.credit = 64 << 20
        self.hold_acks = False
        self.checkpoints = []
        self.data_blocks = 0
        self.reports, self.notices = [], []
        self.data = self.listen(self.session, client_certificate=True)
        self.enrolment = self.listen(self.enroll, client_certificate=False)

    def listen(self, serve, client_certificate):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(self.d / "chain.pem", self.d / "server.key")
        if client_certificate:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.d / "ca.pem")
        listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self.accept, args=(listener, context, serve), daemon=True).start()
        return listener

    def accept(self, listener, context, serve):
        while True:
            try:
                raw, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self.shake, args=(raw, context, serve), daemon=True).start()

    def shake(self, raw, context, serve):
        try:
            with context.wrap_socket(raw, server_side=True) as connection:
                serve(connection)
        except (OSError, hfagent.Closed) as e:
            self.reports.append(e)

    def close(self):
        for listener in (self.data, self.enrolment):
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    @property
    def token(self):
        ca = ssl.PEM_cert_to_DER_cert((self.d / "ca.pem").read_text())
        return "hf1.%s.%s" % (base64.b32encode(SECRET).decode().lower(), hashlib.sha256(ca).hexdigest())

    def enroll(self, connection):
        frame = hfagent.read_one_frame(connection)
        request = hfagent.protobuf().Enroll.FromString(frame.message)
        pb = hfagent.protobuf()
        if request.token_secret != SECRET:
            bye = pb.Goodbye(status=1014, text="no such token", cure="holdfastctl token create")
            connection.sendall(hfagent.encode_frame(FRAME["GOODBYE"], bye.SerializeToString()))
            return
        (self.d / "agent.csr").write_bytes(request.csr)
        run(self.d, "openssl", "req", "-inform", "DER", "-in", "agent.csr", "-out", "agent.csr.pem", "-verify")
        sign(self.d, "agent.csr.pem", "agent.pem", "clientAuth", SOURCE)
        der = [ssl.PEM_cert_to_DER_cert((self.d / name).read_text()) for name in ("agent.pem", "ca.pem")]
        answer = pb.Enrolled(source_id=SOURCE, certificate=der[0], ca_certificate=der[1], data_port=self.data.getsockname()[1])
        connection.sendall(hfagent.encode_frame(FRAME["ENROLLED"], answer.SerializeToString()))

    # -- one session --

    def session(self, connection):
        reader = hfagent.FrameReader()
        received = 0
        while True:
            data = connection.recv(1 << 20)
            if not data:
                return
            for frame in reader.feed(data):
                if frame.sequence:
                    received += hfagent.HEADER.size + len(frame.message) + len(frame.payload)
                name = hfagent.FRAME_NAME[frame.type]
                answer = getattr(self, "on_" + name.lower())(frame, received)
                if answer:
                    connection.sendall(answer)
                if name == "GOODBYE":
                    return

    def frame(self, name, payload=b"", **fields):
        message = getattr(hfagent.protobuf(), name.title().replace("_", ""))(**fields)
        return hfagent.encode_frame(FRAME[name], message.SerializeToString(), payload)

    def ack(self, received):
        return self.frame("ACK", durable_sequence=self.sequence, credit_bytes=received + self.credit)

    def on_hello(self, frame, received):
        return self.frame("WELCOME", protocol_version=1, source_id=SOURCE, session_id=1, digest_seed=self.seed,
                          heartbeat_interval_ms=100, stream_id=self.stream_id, durable_sequence=self.sequence,
                          chain=self.chain, clock_ns=1, volumes_max=60)

    def on_declare(self, frame, received):
        pb = hfagent.protobuf()
        answers = []
        for v in pb.Declare.FromString(frame.message).volumes:
            row = self.volumes.setdefault(v.identity, [len(self.volumes) + 1, 0, 0, bytearray()])
            row[1] = v.size_bytes
            row[3].extend(bytes(hfagent.block_count(v.size_bytes) * BLOCK - len(row[3])))
            answers.append(pb.VolumeAnswer(identity=v.identity, volume_id="vol-%017x" % row[0], volume=row[0],
                                           size_bytes=row[1], frontier_blocks=row[2], state=1))
        return self.frame("VOLUMES", volumes=answers)

    def on_start(self, frame, received):
        start = hfagent.protobuf().Start.FromString(frame.message)
        if not start.resume:
            self.stream_id, self.sequence, self.chain = start.stream_id, 0, start.stream_id
        assert start.stream_id == self.stream_id
        return self.ack(received)

    def on_data(self, frame, received):
        self.follow(frame)
        extents, digests = struct.unpack_from("<II", frame.message)
        assert len(frame.message) == 8 + 24 * extents + 8 * digests and len(frame.payload) == digests * BLOCK
        digest = list(struct.unpack_from("<%dQ" % digests, frame.message, 8 + 24 * extents))
        payload = [frame.payload[i:i + BLOCK] for i in range(0, len(frame.payload), BLOCK)]
        assert digest == [hfagent.block_digest(self.seed, block) for block in payload] and 0 not in digest
        rows = {row[0]: row for row in self.volumes.values()}
        for i in range(extents):
            extent = hfagent.Extent(*struct.unpack_from("<QQII", frame.message, 8 + 24 * i))
            self.apply(rows[extent.volume], extent, payload)
        assert not payload
        return None if self.hold_acks else self.ack(received)

    def apply(self, row, extent, payload):
        assert extent.block + extent.count <= hfagent.block_count(row[1])
        if extent.kind in (FILL, FILL_ZERO):
            assert extent.block == row[2]
            row[2] += extent.count
        assert extent.block + extent.count <= row[2]
        for block in range(extent.block, extent.block + extent.count):
            content = payload.pop(0) if extent.kind in (DATA, FILL) else bytes(BLOCK)
            self.data_blocks += extent.kind in (DATA, ZERO)
            row[3][block * BLOCK:(block + 1) * BLOCK] = content

    def follow(self, frame):
        assert frame.sequence == self.sequence + 1
        self.sequence = frame.sequence
        head = hfagent.encode_frame(frame.type, frame.message, b"", frame.sequence, frame.flags)
        head = head[:12] + struct.pack("<I", len(frame.payload)) + head[16:]
        self.chain = hfagent.chain_hash(self.chain, head)

    def on_checkpoint(self, frame, received):
        self.follow(frame)
        self.checkpoints.append(hfagent.protobuf().Checkpoint.FromString(frame.message))
        return None if self.hold_acks else self.ack(received)

    def on_compare(self, frame, received):
        c = hfagent.protobuf().Compare.FromString(frame.message)
        row = {r[0]: r for r in self.volumes.values()}[c.volume]
        nodes = hfagent.digest_tree(self.seed, row[3])[c.level][c.first:c.first + c.count]
        nodes += [0] * (c.count - len(nodes))
        payload = struct.pack("<%dQ" % c.count, *nodes) if any(nodes) else b""
        return self.frame("COMPARED", payload, request_id=c.request_id, volume=c.volume, level=c.level, first=c.first,
                          count=c.count, all_zero=not payload)

    def on_recent(self, frame, received):
        return self.frame("RECENT_ANSWER", volume=hfagent.protobuf().Recent.FromString(frame.message).volume, nodes=[3, 1])

    def on_heartbeat(self, frame, received):
        clock = hfagent.protobuf().Heartbeat.FromString(frame.message).clock_ns
        return self.frame("HEARTBEAT", clock_ns=clock + 5_000_000_000, echo_clock_ns=clock, echo_hold_ns=0)

    def on_report(self, frame, received):
        return None

    def on_notice(self, frame, received):
        self.notices.append(hfagent.protobuf().Notice.FromString(frame.message).event)

    def on_goodbye(self, frame, received):
        return None
