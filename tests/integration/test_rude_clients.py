# SPDX-License-Identifier: Apache-2.0
"""Whoever may reach the monitor socket may do there what he likes: nobody else notices."""
import contextlib
import json
import os
import select
import socket

import pytest

from harness import MIB, random_bytes, ready_agent, wait_for

CONNECTIONS_MAX = 64  # server/api.c
TAKEN_MAX = MIB         # of questions, before their answers are taken: what the kernel's buffers hold, and ours
MEMORY_MAX_MIB = 64   # more than that all answers of all connections cannot be


@pytest.fixture(name="agent", scope="module")
def agent_fixture(house):
    return ready_agent(house, house.served, {"root": house.file("root", random_bytes(house.random, 4 * MIB))})


@pytest.fixture(name="door")
def door_fixture(house, agent):
    """Opens connections to the monitor socket; all of them end with the test, and are forgotten before the next."""
    before = files_open(house.served)
    with contextlib.ExitStack() as stack:
        def make(text=b""):
            s = stack.enter_context(socket.socket(socket.AF_UNIX))
            s.connect(str(house.served.run_dir / "monitor.sock"))
            s.settimeout(20)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the answer may be there before the question
                s.sendall(text)
            return s
        yield make
    wait_for(lambda: files_open(house.served) <= before + 2, 20, "the connections to be forgotten")


def memory_mib(daemon):
    return int(open("/proc/%d/statm" % daemon.program.process.pid).read().split()[1]) * os.sysconf("SC_PAGESIZE") / MIB


def files_open(daemon):
    return len(os.listdir("/proc/%d/fd" % daemon.program.process.pid))


def all_goes_on(house, agent, name):
    """Questions are answered; what a source writes becomes a point."""
    assert house.served.get("/v1/version")["program"] == "holdfastd"
    with open(agent.volumes["root"], "r+b") as f:
        f.write(name.encode())
    assert house.served.point(agent.source, name)["complete"]
    assert house.served.source(agent.source)["ready"]


def test_one_that_never_reads_fills_nobodys_memory(house, agent, door):
    before = memory_mib(house.served)
    rude, sent = door(), 0
    many = b"GET /v1/source-servers HTTP/1.1\r\nHost: x\r\n\r\n" * 100
    while sent < TAKEN_MAX and select.select([], [rude], [], 0.5)[1]:
        sent += rude.send(many, socket.MSG_DONTWAIT)
    assert sent < TAKEN_MAX
    all_goes_on(house, agent, "unread")
    assert memory_mib(house.served) - before < MEMORY_MAX_MIB


def test_five_hundred_connections_that_say_nothing(house, agent, door):
    before = files_open(house.served)
    rude = [door() for _ in range(500)]
    all_goes_on(house, agent, "silent")
    assert files_open(house.served) < before + CONNECTIONS_MAX + 20
    assert len(rude) == 500


def test_five_hundred_that_want_all_events_for_ever(house, agent, door):
    before, memory = files_open(house.served), memory_mib(house.served)
    rude = [door(b"GET /v1/events?follow=1 HTTP/1.1\r\nHost: x\r\n\r\n") for _ in range(500)]
    all_goes_on(house, agent, "followed")
    assert files_open(house.served) < before + CONNECTIONS_MAX + 20
    assert memory_mib(house.served) - memory < MEMORY_MAX_MIB
    assert rude[0].recv(12) == b"HTTP/1.1 200"  # the first come are served


@pytest.mark.parametrize("text, status", [
    (b"GET / HTTP/1.1\r\nX: " + b"x" * 100000, 431),
    (b"x" * 100000, 431),
    (b"GET /" + b"a/" * 3000 + b" HTTP/1.1\r\n\r\n", 414),
    (b"POST /v1/tokens HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", 413),
    (b"POST /v1/tokens HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
    (b"POST /v1/tokens HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello", 501),
    (b"\x00\x01\x02\xff" * 100 + b"\r\n\r\n", 400),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
])
def test_what_is_not_http_is_refused_and_cut(house, agent, door, text, status):
    rude = door()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        rude.sendall(text)
    heard = b""
    with contextlib.suppress(ConnectionResetError):
        while part := rude.recv(65536):
            heard += part
    assert heard.startswith(b"HTTP/1.1 %d " % status), heard[:100]
    assert json.loads(heard.split(b"\r\n\r\n", 1)[1])["status"] == status
    assert house.served.get("/v1/version")


def test_requests_that_never_end_hold_up_nobody(house, agent, door):
    rude = [door(b"POST /v1/tokens HTTP/1.1\r\nContent-Length: 60000\r\n\r\n{") for _ in range(40)]
    rude += [door(b"GET /v1/ver") for _ in range(40)]
    all_goes_on(house, agent, "unfinished")
    assert len(rude) == 80
