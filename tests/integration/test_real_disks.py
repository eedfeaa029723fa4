# SPDX-License-Identifier: Apache-2.0
"""The staging area on real file systems that fail: shut down under load, with flushes that fail below them, full, or with the
daemon killed at a system call. Whatever happens, every point that was taken is there afterwards and right, and replication goes on."""
import contextlib
import http.client
import os
import pathlib
import shutil
import threading

import pytest

import hfagent
from faulty_disk import FaultyDisk
from harness import BLOCK, IS_ROOT, MIB, Refusal, Trouble, copy_of, first_difference, run, unmount, wait_for

pytestmark = pytest.mark.skipif(not IS_ROOT, reason="loop devices and mounts need root")

KINDS = ("ext4", "xfs", "btrfs")
DISK_BYTES = 3 * MIB + 777
BUSY_BYTES = 4 * MIB
AREA_BYTES = 400 * MIB
GONE = (Refusal, Trouble, OSError, http.client.HTTPException, ValueError)  # what a daemon that refuses or dies leaves its caller with


def needs(*programs):
    missing = [p for p in programs if shutil.which(p) is None]
    if missing:
        pytest.skip("%s is not installed" % ", ".join(missing))


def knows(kind):
    """Whether this kernel has the file system: it may have to be loaded as a module, which mount does."""
    with open("/proc/filesystems", encoding="ascii") as f:
        return kind in f.read().split()


def remount(device, where):
    """Afresh: one that was shut down stays so for as long as a mount namespace, perhaps of another test, still holds it."""
    def is_fresh():
        unmount(where)
        run("mount", device, where)
        try:
            (where / "probe").touch()
            (where / "probe").unlink()
        except OSError:
            return False
        return True
    wait_for(is_fresh, 60, "%s to be let go of" % where)


class Scribbler:
    """Writes random blocks of a disk for as long as it lives."""

    def __init__(self, rig, path):
        self.path, self.random = path, rig.random
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.scribble)
        self.thread.start()
        rig.on_end(self.end)

    def scribble(self):
        with open(self.path, "r+b", buffering=0) as f:
            while not self.ended.wait(0.005):
                f.seek(self.random.randrange(BUSY_BYTES // BLOCK) * BLOCK)
                f.write(self.random.randbytes(BLOCK))

    def end(self):
        self.ended.set()
        self.thread.join()


class Area:
    """A file system with a data directory on it, a daemon, one source whose points are compared, and one that writes all the time."""

    def __init__(self, rig, kind, options=(), faulty=False, busy=True):
        needs("mkfs." + kind)
        self.rig, self.kind = rig, kind
        self.image = rig.empty_file("area.img", AREA_BYTES)
        quiet = ("-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0") if kind == "ext4" else ("-q", "-f")
        run("mkfs." + kind, *quiet, *options, self.image)
        self.disk = FaultyDisk(rig, self.image) if faulty else None
        self.device = rig.loop(self.disk.path if faulty else self.image)
        try:
            self.where = rig.mount(self.device, "area")
        except Trouble:
            if knows(kind):
                raise
            pytest.skip("this kernel does not know %s" % kind)
        (self.where / "data").mkdir()
        self.daemon = rig.daemon(data=self.where / "data", storage__segment_size="1MiB", pit__journal_window="10s")
        self.one = rig.file("one.disk", rig.random.randbytes(DISK_BYTES))
        self.agent = rig.agent(self.daemon, {"root": self.one}).start()
        self.busy = self.scribbler = None
        if busy:
            two = rig.file("two.disk", rig.random.randbytes(BUSY_BYTES))
            self.busy = rig.agent(self.daemon, {"root": two}).start()
            self.scribbler = Scribbler(rig, two)
        self.daemon.wait_ready(self.agent.source)
        self.points = {}  # id -> what the disk held

    def write(self):
        with open(self.one, "r+b") as f:
            for _ in range(20):
                f.seek(self.rig.random.randrange(DISK_BYTES // BLOCK) * BLOCK)
                f.write(self.rig.random.randbytes(BLOCK))

    def point(self, seconds=60):
        """What the daemon has said is a point counts; what it has not said may be one."""
        self.write()
        point = self.daemon.point(self.agent.source, "p%d" % len(self.points), seconds=seconds)
        self.points[point["pointInTimeID"]] = copy_of(self.one, self.rig.path("copy%d" % len(self.points)))

    def takes_a_point(self):
        """Not while the agent reconnects, to begin a new stream."""
        try:
            self.point()
        except Refusal as refusal:
            if refusal.status != 409:
                raise
            return False
        return True

    def points_until(self, ended):
        """In another thread, until the daemon refuses or is gone: it is about to meet its fault."""
        def take():
            with contextlib.suppress(*GONE):
                while not ended.is_set():
                    self.point(seconds=5)
        thread = threading.Thread(target=take)
        thread.start()
        return thread

    def check(self):
        listed = {p["pointInTimeID"] for p in self.daemon.points(self.agent.source)}
        assert set(self.points) <= listed
        for point, copy in self.points.items():
            to = self.daemon.export(self.agent.source, "root", point)
            assert first_difference(to, copy) is None, (point, first_difference(to, copy))
            to.unlink()

    def log_since(self, mark):
        return self.daemon.program.log.read_text(errors="replace")[mark:]

    def remount(self):
        remount(self.device, self.where)

    def goes_on(self):
        """Everything that was promised is there, and it takes new points."""
        self.daemon.wait_ready(self.agent.source, 90)
        self.check()
        wait_for(self.takes_a_point, 90, "a point to be taken")
        if self.busy:
            self.daemon.wait_streaming(self.busy.source, 90)
        self.check()


# ---- forced shutdown ----

@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_after_a_forced_shutdown_under_load_every_point_is_right(rig, kind):
    needs("xfs_io")
    area = Area(rig, kind)
    for _ in range(2):
        for _ in range(3):
            area.point()
        ended = threading.Event()
        taker = area.points_until(ended)
        mark = len(area.log_since(0))
        run("xfs_io", "-x", "-c", "shutdown", area.where)
        wait_for(lambda: "event=store_failed" in area.log_since(mark), 30, "the daemon to notice")  # its registry is gone too
        ended.set()
        taker.join()
        assert area.daemon.program.is_alive(), "it says what is wrong, and does not fall over it"
        area.daemon.kill()
        area.remount()
        area.daemon.start()
        area.goes_on()


# ---- flushes that fail ----

@pytest.mark.parametrize("kind, options", [("ext4", ()), ("ext4", ("-O", "^has_journal")), ("xfs", ()), ("btrfs", ())])
def test_a_flush_that_fails_is_never_acknowledged(rig, kind, options):
    """Without a journal of its own ext4 hands the error to whoever synced, and goes on; the others may shut down."""
    area = Area(rig, kind, options, faulty=True)
    area.point()
    journaled = not options
    for after in (1, 4, 9):
        struck = area.disk.struck()
        area.disk.fail("fsync", after=after, lose=journaled)
        ended = threading.Event()
        taker = area.points_until(ended)
        wait_for(lambda: area.disk.struck() > struck, 60, "a flush to fail")  # pylint: disable=cell-var-from-loop
        ended.set()
        taker.join()
        area.disk.heal()
        assert area.daemon.program.is_alive()
        if journaled:
            area.daemon.kill()
            area.remount()
            area.daemon.start()
        area.goes_on()


def test_flushes_that_go_on_failing_stop_replication_until_they_work_again(rig):
    area = Area(rig, "ext4", ("-O", "^has_journal"), faulty=True)
    area.point()
    area.disk.fail("fsync", sticky=True)
    ended = threading.Event()
    taker = area.points_until(ended)
    wait_for(lambda: area.daemon.source(area.agent.source)["dataReplicationInfo"]["dataReplicationState"] == "STALLED", 60, "it to stall")
    known = dict(area.points)
    ended.set()
    taker.join()
    assert area.points == known, "nothing was acknowledged that a failed flush covered"
    area.disk.heal()
    area.goes_on()


# ---- reads that fail ----

def fails(area, agent):
    """Past what the kernel has in memory of the file under the loop device."""
    fd = os.open(area.disk.path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)
    try:
        agent.compare("root", 0, 0, 20)
    except RuntimeError:
        return True
    return False


def test_digests_that_cannot_be_read_are_told_once_until_the_agent_came_through(rig):
    area = Area(rig, "ext4", ("-O", "^has_journal"), faulty=True, busy=False)
    area.agent.stop()
    daemon = area.daemon
    agent = hfagent.Agent(hfagent.enroll(("127.0.0.1", daemon.enroll_port), daemon.token(), rig.path("py-agent")))
    rig.on_end(agent.cut)
    disk = rig.random.randbytes(20 * BLOCK)
    agent.open([hfagent.Volume("root", "serial:compared", len(disk))])
    agent.fill("root", disk)
    for times in (1, 2):
        agent.write("root", 7, rig.random.randbytes(BLOCK))
        agent.checkpoint("crash")
        agent.wait_ack()
        area.disk.fail("read", sticky=True)
        for _ in range(3):
            wait_for(lambda: fails(area, agent), 20, "a compare to fail")
        area.disk.heal()
        wait_for(lambda: len(daemon.events("compare_failed")) >= times, 20, "it to be told")  # pylint: disable=cell-var-from-loop
        assert len(daemon.events("compare_failed")) == times


def test_an_agent_that_a_failed_disk_keeps_out_is_not_called_absent(rig):
    needs("xfs_io")
    area = Area(rig, "ext4", busy=False)
    area.point()
    area.agent.kill()
    run("xfs_io", "-x", "-c", "shutdown", area.where)
    area.agent.start()
    error = wait_for(lambda: (e := area.daemon.source(area.agent.source)["dataReplicationInfo"]["dataReplicationError"])
                     and e["code"] in ("AGENT_REFUSED", "STAGING_IO_ERROR") and e, 30, "it to be told")
    assert "staging disk" in error["cure"] and error["rawError"]


# ---- a slow disk ----

def test_a_slow_disk_slows_and_breaks_nothing(rig):
    area = Area(rig, "ext4", faulty=True)
    area.point()
    area.disk.delay("fsync", 1)
    area.point(seconds=120)
    wait_for(lambda: area.daemon.bottleneck(area.busy.source) == "SYNC", 60, "syncs to be what holds the busy source up")
    area.disk.delay("write", 0.3)
    wait_for(lambda: area.daemon.bottleneck(area.busy.source) == "WRITE", 60, "writes to be that")
    assert area.daemon.is_streaming(area.agent.source)
    area.disk.heal()
    area.goes_on()


def test_a_disk_that_does_not_answer_is_told_until_it_does(rig):
    needs("fsfreeze")
    area = Area(rig, "ext4")
    area.point()
    run("fsfreeze", "--freeze", area.where)  # every write waits, and none fails
    try:
        area.daemon.wait_state(area.busy.source, "STALLED", seconds=60)
        source = area.daemon.source(area.busy.source)
        assert source["dataReplicationInfo"]["dataReplicationError"]["code"] == "STAGING_IO_ERROR"
        assert "does not answer" in source["dataReplicationInfo"]["stateReason"]
    finally:
        run("fsfreeze", "--unfreeze", area.where)
    wait_for(lambda: area.daemon.state(area.busy.source) != "STALLED", 30, "it to go on")
    area.goes_on()


def test_a_server_that_takes_long_to_stop_says_nothing_untrue_of_its_sources(rig):
    area = Area(rig, "ext4", busy=False, faulty=True)
    area.point()
    area.disk.delay("fsync", 0.2)
    area.daemon.stop()
    last_words = area.daemon.program.log.read_text().split("event=stopping")[-1]
    assert "event=stopped" in last_words
    assert "event=state" not in last_words and "event=not_ready" not in last_words


# ---- a full disk ----

@pytest.mark.parametrize("kind", KINDS)
def test_a_full_disk_stalls_and_goes_on_when_there_is_room(rig, kind):
    area = Area(rig, kind)
    area.point()
    ballast = area.where / "ballast"
    free = shutil.disk_usage(area.where).free
    run("dd", "if=/dev/zero", "of=%s" % ballast, "bs=1M", "count=%d" % (free // MIB - 6), "conv=fsync", check=False)  # less than the reserve is left
    wait_for(lambda: area.daemon.state(area.busy.source) == "STALLED", 60, "the busy source to stall")
    area.check()
    ballast.unlink()
    area.goes_on()


# ---- one source's files ----

def test_a_fault_of_one_sources_files_leaves_the_others_untouched(rig):
    needs("mkfs.ext4", "xfs_io")
    area = Area(rig, "ext4", busy=False)
    other = rig.file("other.disk", rig.random.randbytes(BUSY_BYTES))
    agent = rig.agent(area.daemon, {"root": other}).start()
    area.daemon.wait_ready(agent.source)
    area.daemon.stop()
    folder = area.where / "data" / "sources" / agent.source
    inner, device, _ = rig.file_system("inner", 200 * MIB)
    shutil.copytree(folder, inner, dirs_exist_ok=True)
    unmount(inner)
    run("mount", device, folder)
    rig.on_end(unmount, folder)
    area.daemon.start()
    area.daemon.wait_ready(agent.source)
    area.daemon.wait_streaming(area.agent.source)
    run("xfs_io", "-x", "-c", "shutdown", folder)
    scribbler = Scribbler(rig, other)
    wait_for(lambda: area.daemon.events("store_failed"), 60, "the daemon to notice")
    scribbler.end()
    area.daemon.wait_state(agent.source, "STALLED")
    known = area.daemon.source(agent.source)
    assert None not in known["lag"].values(), "what cannot be looked at is not unknown, it grows older"
    assert not known["ready"] and len(known["pitPolicy"]) == 3 and len(known["dataReplicationInfo"]["replicatedDisks"]) == 1
    for _ in range(3):
        area.point()
    area.check()
    remount(device, folder)
    area.daemon.wait_ready(agent.source, 120)
    area.goes_on()


# ---- submissions that are refused ----

@pytest.mark.parametrize("error", ["EAGAIN", "EBUSY", "EINTR"])
def test_what_the_kernel_refuses_for_now_is_submitted_again(rig, error):
    needs("strace")
    area = Area(rig, "ext4", busy=False)
    tracer = trace(area, "io_uring_enter", "error=%s:when=2+3" % error)
    for _ in range(2):
        area.point()
    area.check()
    tracer.stop()
    area.goes_on()


# ---- killed at a system call ----

CALLS = {"io_uring_enter": (2, 40, 200), "fallocate": (1,), "pwrite64": (1, 8), "fdatasync": (1,), "fsync": (1,), "unlink": (1,), "rename": (1,)}


def kill_at(area, call, number):
    """Take points until the daemon dies at that call of its, or enough of them were taken."""
    tracer = trace(area, call, "signal=KILL:when=%d" % number)
    enough = len(area.points) + 8

    def is_over():
        with contextlib.suppress(*GONE):
            area.takes_a_point()
        return not area.daemon.program.is_alive() or len(area.points) >= enough
    wait_for(is_over, 60, "the daemon to die, or to take its points")
    died = not area.daemon.program.is_alive()
    area.daemon.kill()
    tracer.kill()
    return died


def trace(area, call, injection):
    """From here on the daemon's calls of that name meet what is injected."""
    pid = area.daemon.program.pid
    tracer = area.rig.program(area.rig.unique("strace"), ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=" + call, "-e",
                                                          "inject=%s:%s" % (call, injection), "-p", str(pid)])
    wait_for(lambda: tracer_of(pid) or not area.daemon.program.is_alive(), 20, "strace to trace")
    return tracer


def tracer_of(pid):
    with contextlib.suppress(OSError):
        status = pathlib.Path("/proc/%d/status" % pid).read_text(encoding="ascii")
        return int(status.split("TracerPid:")[1].split()[0])
    return 0


def test_killed_at_a_system_call_it_comes_back_with_every_point(rig):
    needs("strace")
    area = Area(rig, "ext4")
    area.point()
    died = set()
    for call, numbers in CALLS.items():
        for number in numbers:
            if kill_at(area, call, number):
                died.add(call)
            area.daemon.start()
            area.daemon.wait_ready(area.agent.source, 90)
            area.daemon.wait_streaming(area.agent.source, 90)
            area.check()
    assert {"io_uring_enter", "pwrite64"} < died, "a kill that never comes shows nothing"
    area.goes_on()
