# SPDX-License-Identifier: Apache-2.0
"""docs/protocol.md says what an agent's author needs. Here its figures and its worked example are computed again from
its own words, with none of our C; tests/unit/test_protocol_page.c holds the C code against the same page."""
import os
import re
import struct
import sys

import xxhash

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "lib"))

import hfagent  # noqa: E402

PAGE = open(os.path.join(ROOT, "docs", "protocol.md"), encoding="utf-8").read()
SEED = 0x0123456789ABCDEF
STREAM = 0x1122334455667788
SAMPLE = bytes(i % 251 for i in range(4096))


def frame_on_page(name):
    block = re.search(r"```hex %s\n(.*?)```" % name, PAGE, re.S).group(1)
    return bytes.fromhex("".join(line.split("#")[0] for line in block.splitlines()))


def value_on_page(label):
    return int(re.search(r"^\| %s \| `(0x[0-9a-f]{16})` \|$" % re.escape(label), PAGE, re.M).group(1), 16)


def xxh3(data, seed):
    return xxhash.xxh3_64_intdigest(data, seed=seed)


def node(children):
    return xxh3(struct.pack("<%dQ" % len(children), *children), SEED) if any(children) else 0


def header(kind, message, payload_bytes, sequence):
    return b"HFS1" + struct.pack("<HHIIQ", kind, 0, len(message), payload_bytes, sequence)


def data_frame():
    message = struct.pack("<II", 2, 1)
    message += struct.pack("<QQII", 2, 1, 1, 1) + struct.pack("<QQII", 10, 1000, 1, 2)
    message += struct.pack("<Q", xxh3(SAMPLE, SEED))
    return header(16, message, len(SAMPLE), 1) + message


def checkpoint_frame():
    pb = hfagent.protobuf()
    message = pb.Checkpoint(clock_ns=1795333442113000000, consistency=pb.CONSISTENCY_CRASH, request_ids=[7])
    message = message.SerializeToString()
    return header(17, message, 0, 2) + message


def test_digests():
    leaf = value_on_page("digest of the sample block")
    level1 = value_on_page("level 1 node whose child 2 is the sample block, all others zero")
    level2 = value_on_page("level 2 node whose child 0 is that node, all others zero")
    level3 = value_on_page("level 3 node whose child 0 is that node, all others zero")
    assert leaf == xxh3(SAMPLE, SEED)
    assert level1 == node([leaf if i == 2 else 0 for i in range(16)])
    assert level2 == node([level1] + [0] * 15)
    assert level3 == node([level2] + [0] * 255)


def test_frames():
    assert frame_on_page("data") == data_frame()
    assert frame_on_page("checkpoint") == checkpoint_frame()
    ack = hfagent.protobuf().Ack(durable_sequence=2, credit_bytes=64 << 20).SerializeToString()
    assert frame_on_page("ack") == header(32, ack, 0, 0) + ack


def test_chains_and_credit():
    chain = xxh3(data_frame(), STREAM)
    assert value_on_page("chain after the DATA frame") == chain
    assert value_on_page("chain after the CHECKPOINT frame") == xxh3(checkpoint_frame(), chain)
    used = int(re.search(r"have used ([0-9,]+) bytes of credit", PAGE).group(1).replace(",", ""))
    assert used == len(data_frame()) + len(SAMPLE) + len(checkpoint_frame())


def test_the_agent_in_python_encodes_the_same():
    stream = hfagent.Stream(STREAM)
    extents = [hfagent.Extent(2, 1, 1, hfagent.DATA), hfagent.Extent(10, 1000, 1, hfagent.ZERO)]
    message = hfagent.data_message(extents, [hfagent.block_digest(SEED, SAMPLE)])
    assert stream.next(hfagent.FRAME["DATA"], message, SAMPLE) == data_frame() + SAMPLE
    assert stream.chain == value_on_page("chain after the DATA frame")


def test_statuses_are_those_of_the_header():
    with open(os.path.join(ROOT, "proto", "common", "status.h"), encoding="utf-8") as f:
        table = re.findall(r'X\(HF_E(\w+), (\d+), "(.*?)"\)', f.read())
    page = re.findall(r"^\| (1\d\d\d) \| (\w+) \| (.*?) \|$", PAGE, re.M)
    assert len(table) > 20
    assert page == [(value, name, text) for name, value, text in table]


def test_frame_types_are_those_of_the_header():
    with open(os.path.join(ROOT, "proto", "frame.h"), encoding="utf-8") as f:
        table = re.findall(r"^\tFRAME_(\w+) = (\d+),", re.search(r"enum frame_type \{(.*?)\};", f.read(), re.S).group(1), re.M)
    page = re.findall(r"^\| (\d+) \| (\w+) \| (?:agent|server|both) \|", PAGE, re.M)
    assert len(table) > 20
    assert page == [(value, name) for name, value in table]
