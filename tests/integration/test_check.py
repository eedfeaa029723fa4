# SPDX-License-Identifier: Apache-2.0
"""check_holdfast: the exit codes and lines a monitoring system acts upon."""
import json
import os
import re
import socketserver
import subprocess
import threading

import pytest

from harness import BUILD, MIB, ROOT, random_bytes, ready_agent, run

VERSION = json.dumps({"program": "holdfastd", "stagingArea": {"state": "OK"}})


def check(where, *options):
    """(exit code, what it says)."""
    done = run(BUILD / "check_holdfast", "-S", where, *options, check=False, timeout=60)  # it ends by itself long before
    assert done.stderr == ""
    return done.returncode, done.stdout


@pytest.fixture(name="source", scope="module")
def source_fixture(house):
    return ready_agent(house, house.served, {"root": house.file("root", random_bytes(house.random, MIB))}).source


def test_a_server_whose_sources_are_ready_is_ok(house, source):
    for options in ([], ["-s", source], ["-s", source[:12]], ["-S", house.served.run_dir / "monitor.sock"]):
        code, said = check(house.served.run_dir, *options)
        assert code == 0, said
        assert re.fullmatch(r"HOLDFAST OK - 1 of 1 sources ready \|( 'staging_free'=\d+B;;;0;\d+)? '[^']+_lag'=\d+\.\d{3}s;\d+;\d+;0"
                            r" '[^']+_backlog'=\d+B;;;0\n", said), said


def test_the_lag_is_held_against_the_ranges(house, source):
    assert check(house.served.run_dir, "-w", "@0:", "-c", "86400")[0] == 1
    code, said = check(house.served.run_dir, "-s", source, "-c", "@0:")
    assert code == 2 and said.startswith("HOLDFAST CRITICAL - ") and source in said.splitlines()[1]


def test_a_source_that_does_not_exist_is_critical(house):
    for name in ("s-00000000000000000", "nowhere.example"):
        code, said = check(house.served.run_dir, "-s", name)
        assert code == 2 and said.startswith("HOLDFAST CRITICAL - "), said


@pytest.mark.parametrize("options", [["-w", "often"], ["-c", "9:1"], ["-t", "0"], ["-t", "soon"], ["db01"], ["--nonsense"], ["-z"], ["--warning"]])
def test_wrong_usage_is_unknown(house, options):
    done = run(BUILD / "check_holdfast", *options, check=False)
    assert done.returncode == 3 and done.stdout.startswith("HOLDFAST UNKNOWN - ") and options[0] in done.stdout
    assert done.stderr == "" and len(done.stdout.splitlines()) == 1


def test_a_letter_that_it_does_not_have_is_named():
    assert "- -v means nothing here" in run(BUILD / "check_holdfast", "-vvv", check=False).stdout


def test_a_dead_server_is_critical(rig):
    daemon = rig.daemon()
    assert check(daemon.run_dir)[0] == 1  # alive, without a source
    daemon.kill()
    for where in (daemon.run_dir, rig.path("nowhere")):
        code, said = check(where)
        assert code == 2 and said.startswith("HOLDFAST CRITICAL - cannot reach "), said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_who_may_not_ask_does_not_know(house):
    daemon = house.daemon()
    os.chmod(daemon.run_dir.parent, 0o711)
    os.chmod(daemon.run_dir, 0o755)
    somebody = {"user": 65534, "group": 65534, "extra_groups": []}
    if subprocess.run(["test", "-x", BUILD / "check_holdfast"], check=False, **somebody).returncode != 0:
        pytest.skip("%s is in a folder that is closed to others" % BUILD)
    done = subprocess.run([BUILD / "check_holdfast", "-S", daemon.run_dir], capture_output=True, text=True, check=False, **somebody)
    assert done.returncode == 3 and "permission denied" in done.stdout, done.stdout


# ---- a server that is not itself ----

class Impostor(socketserver.ThreadingUnixStreamServer):
    """Answers with the next of its texts; None: not at all."""
    daemon_threads = True

    def __init__(self, path, answer):
        super().__init__(str(path), ImpostorHandler)
        self.answer, self.over = answer, threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()


class ImpostorHandler(socketserver.StreamRequestHandler):
    def handle(self):
        while True:
            words = self.rfile.readline().split()
            if not words:
                return
            while self.rfile.readline() not in (b"\r\n", b""):
                pass
            body = self.server.answer(words[1].decode())
            if body is None:
                self.server.over.wait(60)
                return
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body.encode()))


@pytest.fixture(name="impostor")
def impostor_fixture(rig):
    servers = []

    def make(answer):
        servers.append(Impostor(rig.path(rig.unique("impostor")), answer))
        return servers[-1].server_address
    yield make
    for server in servers:
        server.over.set()
        server.shutdown()
        server.server_close()


def test_a_server_that_says_nothing_is_critical(impostor):
    code, said = check(impostor(lambda path: None), "-t", "1")
    assert code == 2 and said.startswith("HOLDFAST CRITICAL - "), said


def test_a_server_that_never_ends_is_critical(impostor):
    """Each of its answers is in time."""
    code, said = check(impostor(lambda path: VERSION if path == "/v1/version" else '{"items": [], "nextCursor": "1"}'), "-t", "1")
    assert code == 2 and said == "HOLDFAST CRITICAL - holdfastd did not answer in time\n"


@pytest.mark.parametrize("version, sources", [
    ("It works!", None), ("{}", '{"items": []}'), ('{"program": "nginx"}', '{"items": []}'), (VERSION, "{}"), (VERSION, '{"items": 7}'), (VERSION, "[]"),
    (VERSION, '{"items": [{}]}'), (VERSION, "")])
def test_nonsense_is_critical(impostor, version, sources):
    code, said = check(impostor(lambda path: version if path == "/v1/version" else sources))
    assert code == 2 and said.startswith("HOLDFAST CRITICAL - "), said


# ---- its page ----

def test_the_page_has_every_option():
    page = (ROOT / "docs" / "man" / "check_holdfast.8.scd").read_text()
    usage = run(BUILD / "check_holdfast", "--help").stdout
    options = re.findall(r"(-\w), (--[a-z]+)", usage)
    assert len(options) == 7
    for letter, name in options:
        assert "*%s*, *%s*" % (letter, name) in page
    assert set(re.findall(r"\*(--[a-z]+)\*", page)) == {name for _, name in options}
