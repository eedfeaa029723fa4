#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""make demo: the main job, end to end, on real disks, in a temporary directory; ends with what was proved, or not with 0.

    KEEP=1         leave it all running at the end, with commands to play with, until Ctrl-C
    DEMO_BREAK=1   flip one stored byte before an export: the demo must notice, and fail
    HOLDFAST_SCRATCH=DIR   work there instead of in /var/tmp (about 4 GiB)

How a private copy of a disk in use is taken: the agent freezes the file system for each point, and reads the disk while it
stands still. In that moment the demo halts the agent, makes sure that the file system is frozen (freezing it again says so) and that
nothing is being written, copies the disk, makes sure again, and lets the agent go on. The writer runs all the time, and waits in
the kernel for as long as the freeze lasts, as any program would.
"""
import fcntl
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import harness  # noqa: E402
from harness import BLOCK, BUILD, MIB, Rig, Trouble, first_difference, run, wait_for  # noqa: E402

WEB_BYTES = 512 * MIB
FILES_BYTES = 400 * MIB
FILE_MAX = 16 * MIB
RAW_BYTES = 128 * MIB
NEEDED_BYTES = 4 << 30
READ_LIMIT = "120MiB"
FIFREEZE, FITHAW = 0xC0045877, 0xC0045878
TERMINAL = sys.stdout.isatty()
POINTS = ("first", "second", "third")


# ---- saying things ----

began = time.monotonic()


def title(text):
    print("\n\033[1m== %s\033[0m" % text if TERMINAL else "\n== %s" % text, flush=True)


def say(text):
    print("   " + text.replace("\n", "\n   "), flush=True)


def mib(count):
    return "%.1f MiB" % (count / MIB)


class Failure(Exception):
    """The demo did not prove what it should."""


# ---- the disks ----

def real_files(top):
    for folder, folders, names in os.walk(top):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(folder, name)
            if os.path.isfile(path) and not os.path.islink(path) and os.access(path, os.R_OK) and os.path.getsize(path) < FILE_MAX:
                yield path


def copy_files(to, bytes_wanted):
    """Copy real files of this machine below a directory, as many times over as it takes. Returns (files, bytes)."""
    files = size = round_ = 0
    while True:
        round_ += 1
        for top in ("/usr/lib", "/usr/share", "/usr/bin", "/usr/include"):
            left = bytes_wanted // 3  # of each some
            for path in real_files(top):
                target = to / ("copy%d%s" % (round_, path))
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
                step = max(os.path.getsize(path), BLOCK)
                files, size, left = files + 1, size + step, left - step
                if size >= bytes_wanted:
                    return files, size
                if left <= 0:
                    break


class MountedDisk:
    """Root: an ext4 file system on a loop device, mounted, with a writer that never rests."""

    frozen = True

    def __init__(self, rig):
        self.rig, self.image = rig, rig.path("web.img")
        self.mount, self.path, _ = rig.file_system("web", WEB_BYTES, "ext4", "-b", BLOCK, "-m", "0")
        files, size = copy_files(self.mount, FILES_BYTES)
        os.sync()
        # The whole disk is read within each freeze (agent/frozen.c); on a busy machine 512 MiB can take longer than the usual 5 s.
        self.agent_options = ["--freeze", self.mount, "--freeze-timeout", "60s"]
        self.writes = 0
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._write, daemon=True)
        rig.on_end(self.stop)
        say("web: %s, ext4 on a mounted loop device of %s, with %d files (%s) of this machine" % (self.path, mib(WEB_BYTES), files, mib(size)))

    def start_writer(self):
        self.thread.start()
        say("a writer runs on it from now to the end: files written, synced, rewritten, removed")

    def _write(self):
        dice = self.rig.random
        folder = self.mount / "writer"
        folder.mkdir()
        while not self.stopping.wait(0.004):
            path = folder / ("file-%d" % dice.randrange(64))
            if dice.random() < 0.1:
                path.unlink(missing_ok=True)
                continue
            with open(path, "wb") as f:
                f.write(dice.randbytes(dice.randrange(1, 65536)))
                f.flush()
                os.fsync(f.fileno())
            self.writes += 1

    def stop(self):
        self.stopping.set()
        if self.thread.is_alive():
            self.thread.join(30)

    def change(self, step):
        """Beside the writer: what an administrator's day leaves on a disk."""
        victim = max((self.mount / "copy1/usr/share").iterdir(), key=lambda p: p.is_dir() and sum(1 for _ in p.rglob("*")))
        shutil.rmtree(victim)
        (self.mount / ("report-%d.txt" % step)).write_text("day %d\n" % step * 10000)
        return "%s removed, report-%d.txt written; %d writes of the writer so far" % (victim.relative_to(self.mount), step, self.writes)

    def point(self, demo, agent, name):
        """A frozen point and the private copy of that moment."""
        mirror = self.rig.path("web-%s.copy" % name)
        for _ in range(4):
            harness.copy_of(self.image, mirror)  # of no moment in particular: within the freeze only what has changed is copied
            with FreezeWatch(self, agent, mirror) as watch:
                point = demo.ctl_json("pit", "create", agent.source, "--name", name, "--timeout", "120s")
            if watch.is_of(point) and point["consistency"] == "filesystem":
                return point, mirror
            say("(the moment of the freeze was missed, or it took too long: once more)")
            demo.daemon.ctl("pit", "delete", point["pointInTimeID"], "--yes")
        raise Failure("no frozen point came about in four attempts")


class FreezeWatch:
    """While open: whenever the file system stands frozen, the agent is halted and the mirror is made equal to the disk."""

    def __init__(self, disk, agent, mirror):
        self.disk, self.agent, self.mirror = disk, agent, mirror
        self.moment = None  # (from, to): the mirror is of a freeze that lasted at least that long
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.counters = pathlib.Path("/sys/block") / os.path.basename(disk.path) / "stat"

    def __enter__(self):
        self.fd = os.open(self.disk.mount, os.O_RDONLY)
        self.thread.start()
        return self

    def __exit__(self, *exception):
        self.stopping.set()
        self.thread.join()
        os.close(self.fd)

    def _run(self):
        seen, since, looked = self.disk.writes, time.time(), False
        while not self.stopping.wait(0.005):
            if self.disk.writes != seen:
                seen, since, looked = self.disk.writes, time.time(), False
            elif not looked and time.time() - since > 0.08:  # the writer stands: is it frozen?
                looked = self._look(since)

    def _look(self, since):
        """Whether it is frozen; then the mirror has been made."""
        self.agent.program.signal(signal.SIGSTOP)
        try:
            frozen = self._is_frozen()
            if frozen:
                self._copy(since)
            return frozen
        finally:
            self.agent.program.signal(signal.SIGCONT)

    def _is_frozen(self):
        try:
            fcntl.ioctl(self.fd, FIFREEZE, 0)
        except OSError:
            return True  # EBUSY: somebody else has frozen it
        fcntl.ioctl(self.fd, FITHAW, 0)
        return False

    def _written(self):
        fields = self.counters.read_text().split()
        return fields[4], fields[6], fields[8]  # writes, sectors written, in flight

    def _at_rest(self):
        """What freezing writes out is written: the counters, once they stand."""
        last, since = self._written(), time.monotonic()
        while time.monotonic() - since < 0.1:
            time.sleep(0.01)
            if self._written() != last:
                last, since = self._written(), time.monotonic()
        return last

    def _copy(self, since):
        before = self._at_rest()
        began_copy = time.time()
        self.moment = None
        with open(self.disk.image, "rb") as disk, open(self.mirror, "r+b") as mirror:
            for at in range(0, WEB_BYTES, MIB):
                now = os.pread(disk.fileno(), MIB, at)
                if now != os.pread(mirror.fileno(), MIB, at):
                    os.pwrite(mirror.fileno(), now, at)
        if self._written() == before and self._is_frozen():
            self.moment = since - 0.1, began_copy

    def is_of(self, point):
        """Whether the mirror is of the freeze that the point is of."""
        return self.moment is not None and self.moment[0] <= harness.parse_time(point["timestamp"]) <= self.moment[1]


class ImageDisk:
    """Not root: the same file system in an image file. Nobody may mount it, so debugfs changes it, between passes."""

    frozen = False

    def __init__(self, rig):
        self.rig, self.image = rig, rig.path("web.img")
        self.path = self.image
        tree = rig.path("tree")
        files, size = copy_files(tree, FILES_BYTES)
        rig.empty_file("web.img", WEB_BYTES)
        run("mke2fs", "-q", "-F", "-t", "ext4", "-b", BLOCK, "-m", "0", "-d", tree, self.image)
        shutil.rmtree(tree)
        self.agent_options = []
        say("web: %s, ext4 in an image file of %s, with %d files (%s) of this machine" % (self.path, mib(WEB_BYTES), files, mib(size)))
        say("not root, so it cannot be mounted or frozen: debugfs changes it between passes, and points are crash-consistent")

    def start_writer(self):
        pass

    def change(self, step):
        report = self.rig.path("report-%d.txt" % step)
        report.write_text("day %d\n" % step * 100000)
        self._debugfs("write %s report-%d.txt\nmkdir day-%d\n" % (report, step, step))
        return "report-%d.txt and the folder day-%d written" % (step, step)

    def _debugfs(self, commands):
        script = self.rig.path("debugfs.commands")
        script.write_text(commands)
        run("debugfs", "-w", "-f", script, self.image)

    def point(self, demo, agent, name):
        point = demo.ctl_json("pit", "create", agent.source, "--name", name, "--timeout", "120s")
        if point["consistency"] != "crash":
            raise Failure("point %s is %s, although nothing was writing" % (name, point["consistency"]))
        return point, harness.copy_of(self.image, self.rig.path("web-%s.copy" % name))


class RawDisk:
    """A disk with a partition table: a file system, a swap space, and a raw database that this demo writes to."""

    LAYOUT = "label: gpt\nstart=2048, size=131072, name=boot\nsize=32768, name=swap\nname=database\n"

    def __init__(self, rig, as_loop):
        self.rig = rig
        self.image = rig.empty_file("raw.img", RAW_BYTES)
        subprocess.run(["sfdisk", "--quiet", self.image], input=self.LAYOUT, text=True, check=True, capture_output=True)
        folder = rig.path("boot")
        copy_files(folder, 30 * MIB)
        run("mke2fs", "-q", "-F", "-t", "ext4", "-d", folder, "-E", "offset=%d" % MIB, self.image, "64m")
        shutil.rmtree(folder)
        self.database = (2048 + 131072 + 32768) * 512
        self.path = rig.loop(self.image) if as_loop else self.image
        self.agent_options = []
        self.change(0)
        say("raw: %s, %s, GPT with a boot file system, swap, and a database without file system" % (self.path, mib(RAW_BYTES)))

    def change(self, step):
        """Rows of the database change, through the device if there is one."""
        fd = os.open(self.path, os.O_RDWR)
        for _ in range(2000):
            row = self.rig.random.randrange((RAW_BYTES - self.database - MIB) // BLOCK)
            os.pwrite(fd, self.rig.random.randbytes(BLOCK), self.database + row * BLOCK)
        os.fsync(fd)
        os.close(fd)
        return "2000 rows of the database rewritten"

    def point(self, demo, agent, name):
        point = demo.ctl_json("pit", "create", agent.source, "--name", name, "--timeout", "120s")
        if point["consistency"] != "crash":
            raise Failure("point %s is %s, although nothing was writing" % (name, point["consistency"]))
        return point, harness.copy_of(self.image, self.rig.path("raw-%s.copy" % name))


def can_mount(rig):
    """Root, and allowed to attach and mount: a container's root may not be."""
    if not harness.IS_ROOT:
        return False
    try:
        with Rig("probe") as probe:
            probe.file_system("probe", 16 * MIB)
        return True
    except Trouble as e:
        say("root, but without loop devices or mounts here (%s)" % str(e).splitlines()[0])
        return False


# ---- the story ----

class Demo:
    def __init__(self, rig):
        self.rig = rig
        self.daemon = None
        self.disks, self.agents, self.points = {}, {}, {}

    def ctl_json(self, *arguments):
        return harness.json.loads(self.daemon.ctl(*arguments, "--json").stdout)

    def show(self, *arguments):
        """A command as one would type it, and what it says."""
        say("$ holdfastctl " + " ".join(map(str, arguments)))
        say(self.daemon.ctl(*arguments, check=None).stdout.rstrip())

    # -- 1 --

    def make_disks(self):
        title("Two real disks")
        mounted = can_mount(self.rig)
        self.disks["web"] = (MountedDisk if mounted else ImageDisk)(self.rig)
        self.disks["raw"] = RawDisk(self.rig, mounted)

    # -- 2 --

    def start_server(self):
        title("A staging server")
        self.daemon = self.rig.daemon(name="holdfastd", server__log_level="info")
        say("holdfastd runs on %s, data directory %s" % (self.daemon.get("/v1/version")["listen"], self.daemon.data))
        say("its control sockets are in %s" % self.daemon.run_dir)

    # -- 3 --

    def enrol(self):
        title("Two agents, enrolled by token")
        for name, disk in self.disks.items():
            line = self.daemon.ctl("token", "create", "--address", "127.0.0.1:%d" % self.daemon.enroll_port).stdout.strip()
            say("$ holdfastctl token create\n%s" % line)
            token = line.split("--token ")[1].split()[0]
            agent = self.rig.agent(self.daemon, {"disk": disk.path}, name=name, interval="10s", enroll=False,
                                   options=[*disk.agent_options, "--read-limit", READ_LIMIT])
            agent.enroll(token=token)
            say("$ holdfast-agent enroll --server ... --token ... --volume disk=%s\n%s" % (disk.path, agent.source))
            self.agents[name] = agent

    # -- 4 --

    def synchronise(self):
        title("First copy, and kill -9 in the middle of it")
        say("(reading is held to %s/s per disk, so that there is something to see)" % READ_LIMIT)
        self.disks["web"].start_writer()
        for agent in self.agents.values():
            agent.start()
        web = self.agents["web"]
        wait_for(lambda: self.progress() and 30 <= self.done_percent(web) <= 70, 120, "the middle of the copy")
        self.daemon.kill()
        self.end_progress()
        say("kill -9 of holdfastd while the disk of web was %d %% copied" % self.done_percent(web))
        frontier = self.progress_bytes(web)
        self.daemon.start()
        self.wait_progress(lambda: all(self.daemon.is_streaming(a.source) for a in self.agents.values()), "the agents to be back")
        resumed = self.progress_bytes(web)
        say("started again: the agents came back by themselves; web went on at %s of %s" % (mib(resumed), mib(WEB_BYTES)))
        if resumed == 0 or resumed < frontier - 8 * MIB:
            raise Failure("the copy began anew")
        self.wait_progress(lambda: all(self.daemon.source(a.source)["ready"] for a in self.agents.values()), "Ready")
        for name, agent in self.agents.items():
            resent = agent.status()["resentBytes"]
            say("%s sent %s bytes again after the kill (at most %s may be in flight)" %
                (name, "{:,}".format(resent), self.daemon.settings["ingest.credit"]))
            if resent > harness.CREDIT:
                raise Failure("more was sent again than the credit allows")

    def done_percent(self, agent):
        return 100 * self.progress_bytes(agent) // WEB_BYTES

    last_bytes = 0

    def progress_bytes(self, agent):
        try:
            disks = self.daemon.source(agent.source)["dataReplicationInfo"]["replicatedDisks"]
            self.last_bytes = sum(d["replicatedStorageBytes"] for d in disks) or self.last_bytes
        except OSError:
            pass  # it was killed
        return self.last_bytes

    def progress(self):
        """One line of what the monitor socket says; rewritten in place on a terminal, at most once a second elsewhere."""
        now = time.monotonic()
        if now - getattr(self, "shown", 0) < (0.1 if TERMINAL else 1):
            return True
        self.shown = now
        parts = []
        for name, agent in self.agents.items():
            source = self.daemon.source(agent.source)
            disks = source["dataReplicationInfo"]["replicatedDisks"]
            total, done = sum(d["totalStorageBytes"] for d in disks), sum(d["replicatedStorageBytes"] for d in disks)
            bar = "#" * (20 * done // total if total else 0)
            parts.append("%s [%-20s] %3d %% %6.1f MiB/s %s" % (name, bar, 100 * done // total if total else 0,
                                                             source["rates"]["bytesPerSecond10s"] / MIB,
                                                             source["dataReplicationInfo"]["dataReplicationState"]))
        print(("\r\033[K   " if TERMINAL else "   ") + "   ".join(parts), end="" if TERMINAL else "\n", flush=True)
        return True

    def end_progress(self):
        if TERMINAL:
            print(flush=True)

    def wait_progress(self, condition, what):
        wait_for(lambda: self.progress() and condition(), 120, what)
        self.end_progress()

    # -- 5 --

    def make_points(self):
        title("Ready")
        self.show("status")
        for agent in self.agents.values():
            self.daemon.ctl("ready", agent.source)
        title("Three moments, a named point and a private copy of each disk at each")
        if self.disks["web"].frozen:
            say("web's file system is frozen by the agent for each point; its private copy is taken within that freeze (see demo.py)")
        for step, moment in enumerate(POINTS, 1):
            for name, disk in self.disks.items():
                changed = disk.change(step)
                point, copy = disk.point(self, self.agents[name], moment)
                self.points[name, moment] = point, copy
                say("%s %-6s  %s  %s  (%s)" % (name, moment, point["pointInTimeID"], point["consistency"], changed))
        for name, disk in self.disks.items():
            say("%s goes on changing: %s" % (name, disk.change(len(POINTS) + 1)))
        self.show("pit", "list", self.agents["web"].source)

    # -- 6 --

    def export(self):
        title("What the disks held at the three moments, from the staging server, against the private copies")
        if os.environ.get("DEMO_BREAK"):
            self.flip_a_byte()
        for (name, moment), (point, copy) in self.points.items():
            out = self.rig.path("export.img")
            done = self.daemon.ctl("export", "file", self.agents[name].source, "--volume", "disk", "--at", moment, "-o", out,
                                   "--no-progress", "--force", check=None)
            if done.returncode != 0:
                raise Failure("export of %s at %s: %s" % (name, moment, done.stderr.strip()))
            difference = first_difference(out, copy)
            if difference:
                raise Failure("%s at %s is not what the disk held: %s" % (name, moment, difference))
            say("cmp %s %-6s  %s bytes: the same   %s" % (name, moment, "{:,}".format(os.path.getsize(out)), self.check_file_system(name, out)))
            copy.unlink()
            out.unlink()

    def check_file_system(self, name, image):
        """e2fsck on the export (it is ours: the comparison is done)."""
        target = str(image) if name == "web" else "%s?offset=%d" % (image, MIB)
        first = run("e2fsck", "-fp", target, check=False)
        second = run("e2fsck", "-fn", target, check=False)
        if first.returncode not in (0, 1) or second.returncode != 0:
            raise Failure("e2fsck of %s: -fp %d, -fn %d\n%s" % (name, first.returncode, second.returncode, first.stdout + second.stdout))
        return "e2fsck -fp %d, then -fn %d" % (first.returncode, second.returncode)

    def flip_a_byte(self):
        """In the staging file of web, in a block that is the same in all three copies: every export reads it."""
        copies = [open(copy, "rb") for (name, _), (_, copy) in self.points.items() if name == "web"]
        staging = next(p for p in (self.daemon.data / "sources" / self.agents["web"].source).glob("vol-*.img"))
        with open(staging, "r+b") as f:
            for at in range(64 * MIB, WEB_BYTES, MIB):
                blocks = {os.pread(c.fileno(), BLOCK, at) for c in copies} | {os.pread(f.fileno(), BLOCK, at)}
                if len(blocks) == 1 and any(next(iter(blocks))):
                    block = bytearray(blocks.pop())
                    block[1234] ^= 1
                    os.pwrite(f.fileno(), block, at)
                    os.fsync(f.fileno())
                    say("DEMO_BREAK: flipped a bit of byte %d of %s" % (at + 1234, staging))
                    break
            else:
                raise Failure("DEMO_BREAK: found no block to break")
        for copy in copies:
            copy.close()

    # -- 7 --

    def ask(self):
        title("What monitoring sees")
        filter_ = ('.items[] | "\\(.sourceServerID)  \\(.dataReplicationInfo.dataReplicationState)  ready=\\(.ready)  '
                   'lag=\\(.dataReplicationInfo.lagDuration)  durable=\\(.lag.durableSeconds) s"')
        socket = self.daemon.run_dir / "monitor.sock"
        say("$ curl -s --unix-socket %s http://localhost/v1/source-servers | jq -r '...'" % socket)
        answer = run("curl", "-sS", "--fail", "--unix-socket", socket, "http://localhost/v1/source-servers")
        lines = subprocess.run(["jq", "-r", filter_], input=answer.stdout, capture_output=True, text=True, check=True).stdout
        say(lines.rstrip())
        if len(lines.splitlines()) != 2 or "ready=true" not in lines:
            raise Failure("the monitor socket does not tell of two sources")
        code = run("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--unix-socket", socket, "http://localhost/v1/health").stdout
        say("GET /v1/health: %s" % code)
        if code != "200":
            raise Failure("the daemon says it is not healthy")

    # -- 8 --

    def conclude(self):
        title("Proved, in %d seconds" % (time.monotonic() - began))
        web = self.disks["web"]
        how = "a mounted, frozen file system with a writer that did %d synced writes meanwhile" % web.writes if web.frozen else \
            "a file system in an image, changed by debugfs between passes"
        say("Two disks (%s,\nand a partitioned raw disk) were copied over mutual TLS by two agents that enrolled with one-time\n"
            "tokens. holdfastd was killed with -9 in the middle of the first copy; it went on where it was, and no more was\n"
            "sent again than was in flight. Of each disk, three points in time came back from the staging server byte for\n"
            "byte as the disk was at that moment, and their file systems are sound." % how)

    def keep(self):
        title("It goes on running; Ctrl-C ends it and removes everything")
        socket = self.daemon.run_dir
        say("export HOLDFAST_SOCKET=%s PATH=%s:$PATH" % (socket, BUILD))
        for command in ("holdfastctl status", "holdfastctl pit list", "holdfastctl events --follow",
                        "holdfastctl pit create %s --name mine" % self.agents["web"].source,
                        "holdfastctl export file %s --at mine -o /tmp/mine.img" % self.agents["web"].source,
                        "holdfast-agent status --state %s" % self.agents["web"].state_dir,
                        "curl -s --unix-socket %s/monitor.sock http://localhost/metrics" % socket):
            say(command)
        try:
            signal.pause()
        except KeyboardInterrupt:
            print()

    def run(self):
        self.make_disks()
        self.start_server()
        self.enrol()
        self.synchronise()
        self.make_points()
        self.export()
        self.ask()
        self.conclude()
        if os.environ.get("DEMO_BREAK"):
            raise Failure("a byte was flipped, and nobody noticed")
        if os.environ.get("KEEP"):
            self.keep()


def on_term(number, frame):
    raise KeyboardInterrupt


def main():
    signal.signal(signal.SIGTERM, on_term)
    missing = [p for p in ("holdfastd", "holdfastctl", "holdfast-agent") if not (BUILD / p).exists()]
    if missing:
        print("demo: %s is not built: type make" % ", ".join(missing), file=sys.stderr)
        return 1
    try:
        with Rig("demo") as rig:
            rig.tail_bytes = 1000
            space = os.statvfs(rig.dir)
            if space.f_bavail * space.f_frsize < NEEDED_BYTES:
                raise Failure("%s has less than %d GiB free; name another place with HOLDFAST_SCRATCH" % (rig.dir.parent, NEEDED_BYTES >> 30))
            Demo(rig).run()
    except (Failure, Trouble, harness.Refusal, OSError, subprocess.CalledProcessError) as e:
        print("\ndemo FAILED: %s" % e, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: interrupted; everything was removed", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
