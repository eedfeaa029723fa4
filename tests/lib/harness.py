# SPDX-License-Identifier: Apache-2.0
"""What the integration tests and the demo stand on: a real holdfastd, real agents, real disks, and an end to all of them.

    with Rig("fill") as rig:
        daemon = rig.daemon()
        disk = rig.file("disk", random_bytes(rig.random, 8 * MIB))
        agent = rig.agent(daemon, {"root": disk}).start()
        point = daemon.point(agent.source, "first")
        assert same(disk, daemon.export(agent.source, "root", point["pointInTimeID"]))

Whatever a rig has started, mounted or attached is undone when it ends, in reverse order, also after a failure, and nothing
else is touched. Nobody sleeps for a time: wait_for() waits for a condition, with a deadline that only a failure reaches.
"""
import contextlib
import datetime
import fcntl
import http.client
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import time

import scratch

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("HOLDFAST_BUILD", ROOT / "build")).resolve()
os.environ["PATH"] += ":/usr/sbin:/sbin"  # an ordinary user's has not mke2fs and the like
BLOCK = 4096
MIB = 1 << 20
CREDIT = 4 * MIB  # that a Daemon grants: what an agent may have sent without its being acknowledged
SEED = int(os.environ.get("SEED") or random.SystemRandom().randrange(1 << 32))
IS_ROOT = os.geteuid() == 0
SANITIZER_WORDS = ("AddressSanitizer", "LeakSanitizer", "ThreadSanitizer", "runtime error:", "Assertion `")

rigs = []  # those open now, so that a failing test can show their logs


def _sanitizer():
    """The library of the one the programs are built with; None: of none."""
    program = BUILD / "holdfastd"
    libraries = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout if program.exists() else ""
    return next((name for name in ("libasan.so", "libtsan.so") if name in libraries), None)


SANITIZER = _sanitizer()
SLOW = 4 if SANITIZER else 1  # what is measured in seconds may take this much longer
PATIENCE = 3 * SLOW  # and a condition is waited for this much longer than it ought to take: the machine may be busy


class Trouble(AssertionError):
    """Something outside the test's own assertions went wrong."""


def wait_for(condition, seconds=20, what="the condition"):
    """Until condition() is true; what it gave. Exceptions of a program that is just starting are its own business."""
    deadline = time.monotonic() + seconds * PATIENCE
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Trouble("waited %g s in vain for %s" % (seconds * PATIENCE, what))
        time.sleep(0.02)


def run(*command, check=True, **options):
    """A command to its end; its output is in the exception if it fails."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, errors="replace", check=False,
                          stdin=subprocess.DEVNULL, **options)
    if check and done.returncode != 0:
        raise Trouble("%s: exit %d\n%s%s" % (" ".join(map(str, command)), done.returncode, done.stdout, done.stderr))
    return done


def parse_time(text):
    """Seconds since 1970 of an RFC 3339 time."""
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def pick(value, path):
    """What is at a path of JSON: "space.quotaBytes", "items.0.name"."""
    for word in path.split("."):
        value = value[int(word)] if isinstance(value, list) else value[word]
    return value


claims = []  # of ports, until the process ends


def free_port():
    """Below the ephemeral range: a port from it could be taken by somebody's outgoing connection while our daemon is down. And no
    other test's, which may run beside this one: each is claimed by an abstract socket of its name."""
    while True:
        port = random.SystemRandom().randrange(10240, 32000)
        claim = socket.socket(socket.AF_UNIX)
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                claim.bind("\0holdfast-test-port-%d" % port)
                s.bind(("127.0.0.1", port))
            except OSError:
                claim.close()
                continue
        claims.append(claim)
        return port


# ---- disks ----

def random_bytes(dice, size):
    return b"".join(dice.randbytes(min(MIB, size - at)) for at in range(0, size, MIB))


def patchwork(dice, size):
    """Random runs between runs of zeros, and an end that need not be a whole block."""
    out = bytearray()
    while len(out) < size:
        run_bytes = dice.randrange(1, 64) * BLOCK
        out += dice.randbytes(run_bytes) if dice.random() < 0.6 else bytes(run_bytes)
    return bytes(out[:size])


def write_sparse(path, data):
    """Blocks of zeros become holes."""
    with open(path, "wb") as f:
        for at in range(0, len(data), 65536):
            piece = data[at:at + 65536]
            if piece.count(0) != len(piece):
                f.seek(at)
                f.write(piece)
        f.truncate(len(data))
        os.fsync(f.fileno())
    return path


def copy_of(path, to):
    """A private copy of a disk as it is now."""
    run("cp", "--sparse=always", path, to)
    return pathlib.Path(to)


def first_difference(a, b):
    """None if two files, or devices, hold the same bytes; else where they first differ."""
    done = run("cmp", a, b, check=False)
    return None if done.returncode == 0 else (done.stdout + done.stderr).strip()


def data_ranges(path):
    """(offset, length) of what is not a hole."""
    with open(path, "rb") as f:
        end, at = os.fstat(f.fileno()).st_size, 0
        while at < end:
            try:
                at = os.lseek(f.fileno(), at, os.SEEK_DATA)
            except OSError:
                return
            stop = os.lseek(f.fileno(), at, os.SEEK_HOLE)
            yield at, stop - at
            at = stop


def first_difference_sparse(a, b):
    """The same for files too large to read: holes are zeros in both."""
    if os.path.getsize(a) != os.path.getsize(b):
        return "sizes %d and %d" % (os.path.getsize(a), os.path.getsize(b))
    with open(a, "rb") as fa, open(b, "rb") as fb:
        for at, length in sorted(set(data_ranges(a)) | set(data_ranges(b))):
            for piece in range(at, at + length, MIB):
                size = min(MIB, at + length - piece)
                if os.pread(fa.fileno(), size, piece) != os.pread(fb.fileno(), size, piece):
                    return "byte %d" % piece
    return None


# ---- programs ----

def with_env(env):
    """Before a command: its environment, for it alone (LD_PRELOAD is not for every program on the way)."""
    return ["env", *("%s=%s" % item for item in env.items())] if env else []


class Program:
    """One process with its log; dies with us."""

    def __init__(self, rig, name, command, env=None, stdout=None):
        self.name = name
        self.log = rig.dir / (name + ".log")
        rig.logs[name] = self.log
        words = ["setpriv", "--pdeathsig", "KILL", *with_env(env), *map(str, command)]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=stdout or log, stderr=log, start_new_session=True)
        self.pid = self.process.pid

    def is_alive(self):
        return self.process.poll() is None

    def signal(self, number):
        if self.is_alive():
            self.process.send_signal(number)

    def kill(self):
        """SIGKILL, and gone when this returns."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGKILL)
        self.process.wait(30)

    def stop(self, seconds=20):
        """SIGTERM; its exit status."""
        self.signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds * PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Trouble("%s did not end within %g s of SIGTERM" % (self.name, seconds * PATIENCE)) from None

    def memory_peak(self):
        """Bytes of memory it ever had at once."""
        with open("/proc/%d/status" % self.pid, encoding="ascii") as f:
            return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmHWM"))

    def children(self):
        with contextlib.suppress(OSError):
            with open("/proc/%d/task/%d/children" % (self.pid, self.pid), encoding="ascii") as f:
                return [int(pid) for pid in f.read().split()]
        return []


class Rig:
    """Everything one test makes."""

    def __init__(self, name):
        self.name = name
        self.scratch = new_scratch()
        self.dir = self.scratch.dir
        self.logs, self.marks = {}, {}
        self.ends = contextlib.ExitStack()
        self.random = random.Random("%d %s" % (SEED, name))
        self.count = 0

    def __enter__(self):
        rigs.append(self)
        return self

    def __exit__(self, kind, value, traceback):
        try:
            self.ends.close()
            if kind is not None:
                print("\n".join("---- log of %s\n%s" % tail for tail in self.log_tails()), file=sys.stderr)
            trouble = list(self.sanitizer_words())
            if trouble and kind is None:
                raise Trouble("\n".join(trouble))
        finally:
            rigs.remove(self)
            self.scratch.disown()
            if not os.environ.get("HOLDFAST_KEEP"):
                shutil.rmtree(self.dir, ignore_errors=True)

    def on_end(self, function, *arguments):
        self.ends.callback(function, *arguments)

    def path(self, name):
        return self.dir / name

    def unique(self, name):
        self.count += 1
        return "%s%d" % (name, self.count)

    # -- what a test asks for --

    def daemon(self, **options):
        return Daemon(self, **options)

    def agent(self, daemon, volumes, **options):
        return AgentProcess(self, daemon, volumes, **options)

    def file(self, name, data):
        return write_sparse(self.path(name), data)

    def empty_file(self, name, size):
        with open(self.path(name), "wb") as f:
            f.truncate(size)
        return self.path(name)

    def loop(self, image, *options):
        """A loop device over the image. Root only."""
        device = run("losetup", "--find", "--show", *options, image).stdout.strip()
        self.on_end(detach_loop, device)
        return device

    def mount(self, device, name, *options):
        where = self.path(name)
        where.mkdir(exist_ok=True)
        run("mount", *options, device, where)
        self.on_end(unmount, where)
        return where

    def file_system(self, name, size, kind="ext4", *options):
        """A mounted file system in an image file: (mount point, device, image)."""
        image = self.empty_file(name + ".img", size)
        quiet = ("-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0") if kind == "ext4" else ("-q", "-f")
        run("mkfs." + kind, *quiet, *options, image)
        device = self.loop(image)
        return self.mount(device, name), device, image

    def program(self, name, command, **options):
        program = Program(self, name, command, **options)
        self.on_end(program.kill)
        return program

    # -- the end --

    def sanitizer_words(self):
        for name, log in self.logs.items():
            text = log.read_text(errors="replace") if log.exists() else ""
            for word in SANITIZER_WORDS:
                if word in text:
                    yield "%s's log says: %s" % (name, text[max(0, text.index(word) - 400):][:4000])

    def mark_logs(self):
        """From here on is what log_tails() shows."""
        self.marks = {name: log.stat().st_size for name, log in self.logs.items() if log.exists()}

    tail_bytes = 6000

    def log_tails(self):
        for name, log in self.logs.items():
            text = log.read_bytes()[self.marks.get(name, 0):] if log.exists() else b""
            if text:
                yield name, text[-self.tail_bytes:].decode(errors="replace")


def is_mounted(where):
    with open("/proc/self/mounts", encoding="utf-8") as f:
        return any(line.split()[1] == str(where) for line in f)


def own_mounts():
    """What to put before a command that mounts what nobody else is to see. Root only.
    A mount can be kept from spreading only if what it lies in is made private, and in a chroot / is no mount that could be. So
    there / is put once more into a mount that can be, and that copy is the command's root."""
    if is_mounted("/"):
        return ["unshare", "--mount"]
    script = ("mount --make-private /proc && mount --rbind / /proc/tty && mount --make-rprivate /proc/tty && "
              "exec chroot /proc/tty \"$@\"")
    return ["unshare", "--mount", "--propagation", "unchanged", "sh", "-c", script, "sh"]


def thaw(where):
    """If it stands frozen, let it go: a frozen file system cannot be unmounted."""
    with contextlib.suppress(OSError):
        fd = os.open(where, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, 0xC0045878, 0)  # FITHAW
        finally:
            os.close(fd)


def unmount(where):
    if not is_mounted(where):
        return
    thaw(where)
    wait_for(lambda: run("umount", where, check=False).returncode == 0, 10, "umount %s" % where)


def detach_loop(device):
    if run("losetup", device, check=False).returncode == 0:
        run("losetup", "--detach", device)


def new_scratch():
    """A directory on a file system with O_DIRECT."""
    made = scratch.Scratch()
    try:
        os.close(os.open(made.dir / "probe", os.O_RDWR | os.O_CREAT | os.O_DIRECT))
        (made.dir / "probe").unlink()
    except OSError as e:
        made.clear()
        raise Trouble("%s does not do O_DIRECT (%s); name another place with HOLDFAST_SCRATCH" % (made.dir.parent, e)) from e
    return made


# ---- the daemon ----

class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Refusal(Exception):
    """The API said no: .status and .problem (a dict)."""

    def __init__(self, status, problem):
        super().__init__("%d %s" % (status, problem))
        self.status, self.problem = status, problem


class Daemon:
    """holdfastd over a data directory, with its control sockets. It keeps its ports over restarts."""

    def __init__(self, rig, data=None, name=None, env=None, start=True, host="127.0.0.1", prefix=(), programs=BUILD,
                 **settings):
        self.rig = rig
        self.programs = programs  # the daemon's own; it is asked with today's
        self.name = name or rig.unique("holdfastd")
        self.host = host
        self.env = env
        self.prefix = prefix
        self.data = data or rig.path(self.name + "-data")
        self.data.mkdir(mode=0o700, exist_ok=True)
        self.run_dir = rig.path(self.name + "-run")
        self.program = None
        self.settings = {"server.listen": "%s:%d" % (host, free_port()), "server.enroll_listen": "%s:%d" % (host, free_port()),
                         "server.log_level": "debug", "storage.data_dir": self.data,
                         "storage.reserve": "16MiB",  # of the machine's own disk, mostly
                         "admin.runtime_dir": self.run_dir,
                         "ingest.memory": "64MiB", "ingest.credit": "%dMiB" % (CREDIT // MIB)}
        self.settings.update((key.replace("__", "."), value) for key, value in settings.items())
        if start:
            self.start()

    # -- life --

    def write_config(self):
        path = self.rig.path(self.name + ".conf")
        sections = {}
        for key, value in self.settings.items():
            section, name = key.split(".")
            sections.setdefault(section, []).append("%s = %s\n" % (name, value))
        path.write_text("".join("[%s]\n%s" % (s, "".join(lines)) for s, lines in sections.items()))
        return path

    def launch(self):
        """Start it and do not wait."""
        self.run_dir.mkdir(mode=0o700, exist_ok=True)
        self.program = self.rig.program(self.name, [*self.prefix, self.programs / "holdfastd", "-c", self.write_config()], env=self.env)
        return self

    def start(self):
        self.launch()
        wait_for(self._answers, 20, "holdfastd to answer")
        version = self.get("/v1/version")
        self.port = int(version["listen"].rsplit(":", 1)[1])
        self.enroll_port = int(version["enrollListen"].rsplit(":", 1)[1]) if version["enrollListen"] else None
        return self

    def _answers(self):
        if not self.program.is_alive():
            raise Trouble("holdfastd ended with exit %d while starting" % self.program.process.returncode)
        try:
            return self.get("/v1/version")
        except (OSError, http.client.HTTPException, ValueError):
            return None

    def kill(self):
        self.program.kill()

    def stop(self):
        code = self.program.stop()
        assert code == 0, "holdfastd left with %d after SIGTERM" % code

    def restart(self, how="kill"):
        getattr(self, how)()
        return self.start()

    # -- the API --

    def request(self, method, path, body=None, admin=False, timeout=90):
        connection = UnixConnection(self.run_dir / ("admin.sock" if admin else "monitor.sock"), timeout)
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None)
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        value = json.loads(text) if text else None
        if answer.status >= 400:
            raise Refusal(answer.status, value)
        return value

    def get(self, path):
        return self.request("GET", path)

    def items(self, path):
        items, cursor = [], None
        while True:
            page = self.get(path + ("&cursor=%s" % cursor if cursor else ""))
            items = page["items"] + items
            cursor = page.get("nextCursor")
            if not cursor:
                return items

    def source(self, source):
        return self.get("/v1/source-servers/%s" % source)

    def sources(self):
        return self.items("/v1/source-servers?")

    def points(self, source):
        """Once its data is open."""
        def told():
            try:
                return [self.items("/v1/points-in-time?sourceServerID=%s" % source)]
            except Refusal as refusal:
                if refusal.problem["code"] != "EAGAIN":
                    raise
                return None
        return wait_for(told, 30, "the points of %s" % source)[0]

    def state(self, source):
        return self.source(source)["dataReplicationInfo"]["dataReplicationState"]

    def events(self, name=None):
        lines = self.ctl("events", "--tail", "0", "--json").stdout.splitlines()
        return [e for e in map(json.loads, lines) if name is None or e.get("event") == name]

    def token(self, source=None, lifetime=None):
        body = {}
        if source:
            body["sourceServerID"] = source
        if lifetime:
            body["lifetime"] = lifetime
        return self.request("POST", "/v1/tokens", body, admin=True)["token"]

    def point(self, source, name, newest=False, seconds=60):
        """A named point of what is on the disks now."""
        body = {"sourceServerID": source, "name": name, "newest": newest, "timeoutSeconds": seconds * PATIENCE}
        return self.request("POST", "/v1/points-in-time", body, admin=True, timeout=seconds * PATIENCE + 10)

    # -- holdfastctl --

    def ctl(self, *arguments, check=0):
        done = run(BUILD / "holdfastctl", *arguments, "--socket", self.run_dir, check=False)
        if check is not None and done.returncode != check:
            raise Trouble("holdfastctl %s: exit %d, not %d\n%s%s" % (" ".join(map(str, arguments)), done.returncode, check,
                                                                     done.stdout, done.stderr))
        return done

    def export(self, source, volume, at, to=None, force=False, check=0):
        to = to or self.rig.path(self.rig.unique("export") + ".img")
        self.ctl("export", "file", source, "--volume", volume, "--at", at, "-o", to, "--no-progress", *(["--force"] if force else []),
                 check=check)
        return to

    # -- waiting --

    def wait_state(self, source, *states, seconds=30):
        return wait_for(lambda: self.state(source) in states, seconds, "state %s" % " or ".join(states))

    def bottleneck(self, source):
        """The stage that holds it up; None: none does, or it is not known yet."""
        return (self.source(source)["bottleneck"] or {}).get("stage")

    def is_streaming(self, source):
        return self.source(source)["agent"]["connected"]

    def wait_streaming(self, source, seconds=30):
        return wait_for(lambda: self.is_streaming(source), seconds, "%s to stream" % source)

    def newest(self, source, seconds=20):
        """The newest consistent point, once there is one."""
        return wait_for(lambda: self.source(source)["newestPointInTime"], seconds, "a point")

    def wait_ready(self, source, seconds=60):
        return wait_for(lambda: self.source(source)["ready"], seconds, "Ready")


# ---- the agent ----

class AgentProcess:
    """holdfast-agent, enrolled. volumes: name -> path."""

    def __init__(self, rig, daemon, volumes, name=None, interval="200ms", options=(), env=None, prefix=(), enroll=True, server=None,
                 executable="holdfast-agent"):
        self.rig, self.daemon, self.volumes = rig, daemon, volumes
        self.name = name or rig.unique("agent")
        self.state_dir = rig.path(self.name + "-state")
        self.run_dir = rig.path(self.name + "-run")
        self.interval, self.options, self.prefix = interval, list(options), list(prefix)
        self.env = {"RUNTIME_DIRECTORY": self.run_dir, **(env or {})}
        self.executable = BUILD / executable
        self.program = None
        self.source = None
        if enroll:
            self.enroll(server=server)

    def enroll(self, token=None, server=None, *options):
        volumes = [word for name, path in self.volumes.items() for word in ("--volume", "%s=%s" % (name, path))]
        server = server or "%s:%d" % (self.daemon.host, self.daemon.enroll_port)
        done = run(*with_env(self.env), *self.prefix, self.executable, "enroll", "--server", server, "--token",
                   token or self.daemon.token(), *volumes, "--state", self.state_dir, "--json", *options)
        self.source = json.loads(done.stdout)["sourceServerID"]
        return self

    def command(self, *options):
        return [*self.prefix, self.executable, "run", "--state", self.state_dir, "--interval", self.interval, "--progress", "none",
                "--log-level", "debug", *self.options, *options]

    def start(self, *options):
        self.program = self.rig.program(self.name, self.command(*options), env=self.env)
        return self

    def once(self, seconds=60):
        """Fill what is to be filled, until one checkpoint after it is durable."""
        self.start("--once")
        code = self.program.process.wait(seconds * PATIENCE)
        assert code == 0, "holdfast-agent --once left with %d" % code
        return self

    def kill(self):
        """SIGKILL; the guard that thaws for it is waited for."""
        guards = self.program.children()
        self.program.kill()
        wait_for(lambda: not any(os.path.exists("/proc/%d/exe" % pid) for pid in guards), 30, "the agent's guard to leave")

    def stop(self):
        code = self.program.stop()
        assert code == 0, "holdfast-agent left with %d after SIGTERM" % code

    def restart(self, how="kill"):
        getattr(self, how)()
        return self.start()

    def status(self):
        """What it says of itself, or None while it does not listen."""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(10 * PATIENCE)
            try:
                s.connect(str(self.state_dir / "agent.sock"))
                parts = iter(lambda: s.recv(65536), b"")
                return json.loads(b"".join(parts))
            except (FileNotFoundError, ConnectionError, ValueError):
                return None

    def is_connected(self):
        status = self.status()
        return bool(status and status["connected"])

    def wait_connected(self, seconds=20):
        return wait_for(self.is_connected, seconds, "%s to be connected" % self.name)

    def go_through(self, port, host="127.0.0.1"):
        """Reach the server by another address from the next start on."""
        path = self.state_dir / "agent.json"
        state = json.loads(path.read_text())
        state["servers"] = ["%s:%d" % (host, port)]
        path.write_text(json.dumps(state))
        return self


def ready_agent(rig, daemon, volumes, **options):
    """An agent that runs, and whose source is Ready."""
    agent = rig.agent(daemon, volumes, **options).start()
    daemon.wait_ready(agent.source)
    return agent
