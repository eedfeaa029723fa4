# SPDX-License-Identifier: Apache-2.0
"""holdfastctl against the real control sockets over a server without workers (`test_api serve`, tests/unit/test_api.c):
exit codes, tables for scripts, exports that are cut and go on."""
import json
import os
import pathlib
import shutil
import signal
import socket
import socketserver
import subprocess
import tempfile
import threading
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("HOLDFAST_BUILD", ROOT / "build")).resolve()
CTL, FAKE = BUILD / "holdfastctl", BUILD / "unit" / "test_api"
READY, BROKEN = "s-00000000000000001", "s-00000000000000002"
VOLUME_BYTES = 5 * 1024 * 1024 + 512
PATIENCE = 30

DONE, FAILED, USAGE, UNREACHABLE, NOT_FOUND, NOT_ALLOWED, NOT_MET, INTERRUPTED = 0, 1, 2, 3, 4, 5, 6, 130


def wait_for(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


class Server:
    """The fake one; may be stopped and started again with other habits."""

    def __init__(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="hf-ctl-"))
        self.run_dir = self.dir / "run"
        self.process = None
        self.start()

    def start(self, fails_at=0, delay_ms=0):
        self.process = subprocess.Popen([FAKE, "serve", self.dir, str(fails_at), str(delay_ms)])
        wait_for(self.listens)

    def listens(self):
        assert self.process.poll() is None
        with socket.socket(socket.AF_UNIX) as s:
            return s.connect_ex(str(self.run_dir / "monitor.sock")) == 0

    def stop(self):
        if self.process:
            self.process.terminate()
            assert self.process.wait(PATIENCE) == 0
        self.process = None

    def command(self, *arguments):
        return [CTL, "--socket", self.run_dir, *arguments]

    def ctl(self, *arguments, code=DONE, **options):
        done = subprocess.run(self.command(*arguments), capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=PATIENCE,
                              check=False, **options)
        assert done.returncode == code, (arguments, done.returncode, done.stdout, done.stderr)
        return done

    def rows(self, *arguments):
        return [line.split("\t") for line in self.ctl(*arguments, "-Hp").stdout.splitlines()]

    def json(self, *arguments):
        return json.loads(self.ctl(*arguments, "--json").stdout)

    def export(self, to, *options, code=DONE):
        return self.ctl("export", "file", "db01", "-o", to, *options, code=code)


@pytest.fixture
def server():
    s = Server()
    yield s
    s.stop()
    shutil.rmtree(s.dir)


def test_status_alone_is_the_default_and_a_table_for_people(server):
    text = server.ctl().stdout
    assert text == server.ctl("status").stdout or "1 of 2 sources ready" in text
    assert "\x1b" not in text and "DISCONNECTED" in text and "not ready" in text


def test_scripts_get_tabs_and_exact_numbers(server):
    rows = server.rows("status", "-o", "id,state,ready,rate")
    assert rows == [[BROKEN, "DISCONNECTED", "no", "0"], [READY, "CONTINUOUS", "yes", str(12 << 20)]], "the worst first"
    assert server.rows("volume", "list", "db01", "-o", "name,size,state") == [["sda", str(VOLUME_BYTES), "OK"], ["sdb", "0", "RETIRED"]]
    assert [row[0] for row in server.rows("pit", "list", "-o", "name")] == ["", "before-upgrade", ""]


def test_an_output_that_is_full_is_no_success(server):
    with open("/dev/full", "w", encoding="ascii") as full:
        for arguments in (["status"], ["source", "list", "--json"], ["--help"]):
            done = subprocess.run(server.command(*arguments), stdout=full, stderr=subprocess.PIPE, text=True, timeout=PATIENCE, check=False)
            assert done.returncode == FAILED and "standard output" in done.stderr


def test_json_is_the_apis(server):
    assert [s["sourceServerID"] for s in server.json("status")["items"]] == [READY, BROKEN]
    assert server.json("source", "show", "web01")["dataReplicationInfo"]["dataReplicationError"]["code"] == "AGENT_NOT_SEEN"


def test_ready_is_a_probe(server):
    assert server.ctl("ready", "db01").stdout.startswith("Ready: " + READY)
    assert "NO_CONSISTENT_POINT" in server.ctl("ready", "web01", code=NOT_MET).stdout
    assert "LAG_ABOVE_LIMIT" in server.ctl("ready", "db01", "--max-lag", "60s", code=NOT_MET).stdout
    server.ctl("ready", "db01", "--max-lag", "1h")
    server.ctl("ready", "db01", "--max-lag", "soon", code=USAGE)
    server.ctl("ready", code=USAGE)


def test_sources_are_named_by_id_beginning_or_host(server):
    for name in (READY, READY[:-1] + "1", "db01"):
        assert server.json("source", "show", name)["sourceServerID"] == READY
    assert READY in server.ctl("source", "show", "s-0", code=USAGE).stderr
    server.ctl("source", "show", "nobody", code=NOT_FOUND)
    server.ctl("source", "show", "s-00000000000000009", code=NOT_FOUND)


@pytest.mark.parametrize("arguments", [["bogus"], ["pit"], ["pit", "bogus"], ["status", "more"], ["status", "--name", "x"],
                                       ["status", "-o", "bogus"], ["--bogus"], ["--timeout", "x", "status"], ["--color", "red"],
                                       ["token", "create", "--address", "my host"], ["pit", "hold", "x"],
                                       ["pit", "create", "db01"], ["export", "file", "db01"], ["events", "-n", "x"]])
def test_mistakes_are_usage(server, arguments):
    assert server.ctl(*arguments, code=USAGE).stderr.strip()


@pytest.mark.parametrize("typed, meant", [
    ("stats", "did you mean holdfastctl status?"), ("sorce lsit", "did you mean holdfastctl source list?"),
    ("source pauze db01", "did you mean holdfastctl source pause?"), ("source", "source what? list, show, set"),
    ("source db01", "source what? list, show, set"), ("nonsense", "holdfastctl --help"), ("nonsense --help", "holdfastctl --help"),
    ("status --jsno", "did you mean --json?"), ("status --fro", "--help lists"), ("wait db01 --fro", "did you mean --for?"),
    ("status --nonsense", "--help"), ("status -z", "no such option: -z"),
    ("status --json=yes", "--json takes no value"), ("pit create db01 --name", "--name NAME: it has no value"), ("status -o", "--columns")])
def test_a_mistake_is_answered_with_what_was_meant(server, typed, meant):
    done = server.ctl(*typed.split(), code=USAGE)
    assert done.stdout == "" and len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("holdfastctl: ") and meant in done.stderr, done.stderr


def test_help_knows_every_command(server):
    text = server.ctl("--help").stdout
    for line in ("status", "ready SOURCE", "pit create SOURCE", "token create", "export file SOURCE", "ca show"):
        assert "  %s " % line in text
    assert "--max-lag" in server.ctl("ready", "--help").stdout


class Busy(socketserver.StreamRequestHandler):
    """Answers with the next of its server's (status, body), over one connection after the other."""

    def handle(self):
        while self.rfile.readline():
            while self.rfile.readline() not in (b"\r\n", b""):
                pass
            status, body = self.server.answers.pop(0)
            text = json.dumps(body).encode()
            self.wfile.write(b"HTTP/1.1 %d -\r\nContent-Length: %d\r\n\r\n%s" % (status, len(text), text))


@pytest.mark.parametrize("code, waits", [("EAGAIN", True), ("SHUTDOWN", False)])
def test_a_list_waits_for_data_that_is_being_opened(tmp_path, code, waits):
    with socketserver.ThreadingUnixStreamServer(str(tmp_path / "monitor.sock"), Busy) as busy:
        busy.daemon_threads = True
        busy.answers = [(503, {"code": code, "detail": "not now"})] * 2 + [(200, {"items": [], "nextCursor": None})]
        threading.Thread(target=busy.serve_forever, args=(0.01,), daemon=True).start()
        done = subprocess.run([CTL, "--socket", tmp_path, "token", "list", "--json"], capture_output=True, text=True, timeout=PATIENCE,
                              check=False)
        busy.shutdown()
    assert (done.returncode, "not now" in done.stderr) == ((DONE, False) if waits else (FAILED, True)), done.stderr
    assert len(busy.answers) == (0 if waits else 2)


def test_no_daemon_is_told_from_no_permission(server, tmp_path):
    server.stop()
    assert "start holdfastd" in server.ctl("status", code=UNREACHABLE).stderr
    stale = tmp_path / "stale.sock"
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(stale))
    done = subprocess.run([CTL, "--socket", stale, "status"], capture_output=True, text=True, check=False)
    assert done.returncode == UNREACHABLE and "not running" in done.stderr


@pytest.mark.parametrize("answer, code, says", [
    (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", UNREACHABLE, "holdfastd went away before its answer was whole"),
    (b"", UNREACHABLE, "holdfastd went away before its answer was whole"),
    (b'HTTP/1.1 404 Not Found\r\nContent-Length: 17\r\n\r\n{"code":"ENOSYS"}', FAILED, "it is of another version than this program")])
def test_a_server_that_goes_or_is_another_is_told_in_our_words(tmp_path, answer, code, says):
    def serve():
        with listening.accept()[0] as client:
            client.recv(65536)
            client.sendall(answer)

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "monitor.sock"))
        listening.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        done = subprocess.run([CTL, "--socket", tmp_path, "status"], capture_output=True, text=True, check=False)
        thread.join()
    assert done.returncode == code and says in done.stderr, done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_permission_denied_says_which_group(server):
    server.dir.chmod(0o755)
    program = pathlib.Path(shutil.copy(CTL, server.dir / "ctl"))
    done = subprocess.run([program, "--socket", server.run_dir, "status"], capture_output=True, text=True, user="nobody", check=False,
                          env={"PATH": "/usr/bin:/bin"})
    assert done.returncode == NOT_ALLOWED, done.stderr
    assert "holdfast-monitor" in done.stderr


def test_socket_comes_from_the_environment(server):
    done = subprocess.run([CTL, "status", "--json"], capture_output=True, text=True, check=False,
                          env={**os.environ, "HOLDFAST_SOCKET": str(server.run_dir)})
    assert done.returncode == DONE, done.stderr


def test_points_are_made_held_and_deleted(server):
    pit = server.ctl("pit", "create", "db01", "--name", "before\u00fcpgrade").stdout.strip()
    server.ctl("pit", "hold", pit)
    assert "release it" in server.ctl("pit", "delete", "--yes", pit, code=FAILED).stderr
    server.ctl("pit", "release", pit)
    assert "--yes" in server.ctl("pit", "delete", pit, code=USAGE).stderr  # no terminal to ask on
    server.ctl("pit", "delete", "--yes", pit)
    server.ctl("pit", "delete", "--yes", pit, code=NOT_FOUND)
    assert "--newest" in server.ctl("pit", "create", "web01", "--name", "x", code=FAILED).stderr


def test_token_is_one_line_to_paste(server):
    lines = server.ctl("token", "create").stdout.splitlines()
    assert lines == ["holdfast-agent enroll --server %s:1501 --token hf1.not.a.real.token" % socket.gethostname()]
    assert "--server dr.example --token" in server.ctl("token", "create", "--address", "dr.example", "--lifetime", "5m").stdout
    server.ctl("token", "create", "--lifetime", "soon", code=USAGE)
    (first, _), _ = server.rows("token", "list", "-o", "id,state")
    assert "REVOKED" in server.ctl("token", "revoke", first).stdout


# ---- export ----

def volume_bytes():
    """As fake_byte() in tests/unit/fake_commands.h makes them."""
    out = bytearray(VOLUME_BYTES)
    for at in range(VOLUME_BYTES):
        chunk = at // (256 * 1024)
        if chunk % 3 != 2:
            out[at] = ((at * 2654435761 & 0xffffffffffffffff) >> 13 ^ chunk) & 0xff
    return bytes(out)


@pytest.fixture(scope="module")
def wanted():
    return volume_bytes()


def test_export_is_whole_and_sparse(server, wanted, tmp_path):
    out = tmp_path / "disk.img"
    assert server.export(out).stdout == "%s\n" % out
    assert out.read_bytes() == wanted
    assert out.stat().st_blocks * 512 < VOLUME_BYTES * 0.8
    assert out.stat().st_mode & 0o777 == 0o600
    assert sorted(p.name for p in tmp_path.iterdir()) == ["disk.img"]


def test_export_overwrites_nothing_unasked(server, wanted, tmp_path):
    out = tmp_path / "disk.img"
    out.write_bytes(b"precious")
    assert "--force" in server.export(out, code=USAGE).stderr
    assert out.read_bytes() == b"precious" and len(list(tmp_path.iterdir())) == 1
    server.export(out, "--force")
    assert out.read_bytes() == wanted
    server.export("/dev/null", "--force", code=USAGE)


def test_at_takes_names_times_and_ids(server, tmp_path):
    ids = [row[0] for row in server.rows("pit", "list", "db01", "-o", "id")]
    cases = {"before-upgrade": ids[1], "latest": ids[2], "-15m": ids[1], "-25m": ids[0], ids[0]: ids[0],
             "2200-01-01T00:00:00Z": ids[2]}
    for number, (at, pit) in enumerate(cases.items()):
        done = server.export(tmp_path / str(number), "--at", at, "--json")
        assert json.loads(done.stdout)["pointInTimeID"] == pit, at
        assert pit in done.stderr
    for at in ("nonsense", "-15d", "pit-00000000000000009"):
        server.export(tmp_path / "none", "--at", at, code=NOT_FOUND)
    assert not (tmp_path / "none.partial").exists()


def test_failed_read_leaves_no_file_but_a_partial_one_that_goes_on(server, wanted, tmp_path):
    out = tmp_path / "disk.img"
    server.stop()
    server.start(fails_at=2 << 20)
    assert "does not match its digest" in server.export(out, code=FAILED).stderr
    assert not out.exists()
    state = json.loads((tmp_path / "disk.img.partial.state").read_text())
    assert 0 < state["offset"] < 2 << 20
    with open(tmp_path / "disk.img.partial", "r+b") as f:  # what a crash may leave behind the state's back
        f.seek(state["offset"])
        f.write(b"\xff" * (VOLUME_BYTES - state["offset"]))
    server.stop()
    server.start()
    assert "going on after" in server.export(out).stderr
    assert out.read_bytes() == wanted
    assert [p.name for p in tmp_path.iterdir()] == ["disk.img"]


def test_state_without_its_file_starts_over(server, wanted, tmp_path):
    out = tmp_path / "disk.img"
    server.stop()
    server.start(fails_at=2 << 20)
    server.export(out, code=FAILED)
    (tmp_path / "disk.img.partial").unlink()
    server.stop()
    server.start()
    assert "going on" not in server.export(out).stderr
    assert out.read_bytes() == wanted


def test_interrupted_export_goes_on(server, wanted, tmp_path):
    out = tmp_path / "disk.img"
    server.stop()
    server.start(delay_ms=100)
    process = subprocess.Popen(server.command("export", "file", "db01", "-o", out), stderr=subprocess.PIPE, text=True)
    partial = tmp_path / "disk.img.partial"
    wait_for(lambda: partial.exists() and partial.stat().st_blocks * 512 > 512 * 1024)
    other = server.export(out, code=FAILED)
    assert "another holdfastctl" in other.stderr
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == INTERRUPTED and "goes on from there" in said
    server.stop()
    server.start()
    assert "going on after" in server.export(out).stderr
    assert out.read_bytes() == wanted


def test_daemon_that_dies_in_the_middle_is_a_failure(server, tmp_path):
    server.stop()
    server.start(delay_ms=100)
    process = subprocess.Popen(server.command("export", "file", "db01", "-o", tmp_path / "x"), stderr=subprocess.PIPE, text=True)
    partial = tmp_path / "x.partial"
    wait_for(lambda: partial.exists() and partial.stat().st_blocks > 0)
    server.process.kill()
    server.process.wait()
    server.process = None
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == UNREACHABLE and "goes on from there" in said
    assert not (tmp_path / "x").exists()


# ---- curl, as in the page ----

def curl(server, path, *options):
    return subprocess.run(["curl", "-s", *options, "--unix-socket", server.run_dir / "monitor.sock", "http://localhost" + path],
                          capture_output=True, text=True, timeout=PATIENCE, check=True).stdout


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl")
def test_curl_reads_the_monitor_socket(server):
    assert json.loads(curl(server, "/v1/version"))["apiVersion"] == "v1"
    assert curl(server, "/v1/health", "-o", "/dev/null", "-w", "%{http_code}") == "200"
    assert curl(server, "/v1/tokens", "-X", "POST", "-d", "{}", "-o", "/dev/null", "-w", "%{http_code}") == "403"
    assert "holdfast_source_ready" in curl(server, "/metrics")
