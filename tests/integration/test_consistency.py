# SPDX-License-Identifier: Apache-2.0
"""Points in time of several disks in use: the order of writes across disks is kept, or the point does not claim it.

A writer puts record n on file system 1, waits until it is on the disk, then puts it on file system 2, waits, and goes on with
n + 1, without pause. At no moment is disk 2 ahead of disk 1, so in no honest point is it.
"""
import errno
import fcntl
import json
import os
import re
import signal
import struct
import threading
import time

import pytest

from faulty_disk import FaultyDisk
from harness import BLOCK, BUILD, IS_ROOT, MIB, ROOT, is_mounted, run, wait_for

pytestmark = pytest.mark.skipif(not IS_ROOT, reason="mounting and freezing need root")
POINTS = 12
FIFREEZE, FITHAW = 0xC0045877, 0xC0045878


class Recorder:
    """The writer. The record of a disk is one block of a file, always in the same place of the disk: readable without mounting."""

    def __init__(self, mounts, devices):
        self.files = [m / "record" for m in mounts]
        self.number = 0
        self.stopping = threading.Event()
        for path in self.files:
            path.write_bytes(self.record(0))
        os.sync()
        self.places = [place_of(path, device) for path, device in zip(self.files, devices)]
        self.thread = threading.Thread(target=self._run, daemon=True)

    @staticmethod
    def record(number):
        return struct.pack("<Q", number) * (BLOCK // 8)

    def start(self):
        self.thread.start()
        return self

    def _run(self):
        fds = [os.open(path, os.O_WRONLY) for path in self.files]
        while not self.stopping.is_set():
            self.number += 1
            for fd in fds:
                os.pwrite(fd, self.record(self.number), 0)
                os.fsync(fd)
        for fd in fds:
            os.close(fd)

    def stop(self):
        self.stopping.set()
        if self.thread.is_alive():
            self.thread.join()

    def read(self, image, which):
        with open(image, "rb") as f:
            f.seek(self.places[which])
            block = f.read(BLOCK)
        number = struct.unpack_from("<Q", block)[0]
        assert block == self.record(number), "a torn record"
        return number


def place_of(path, device):
    """Where the file's only block is on the disk, found by its content."""
    extents = run("filefrag", "-v", "-b%d" % BLOCK, path).stdout
    line = next(line for line in extents.splitlines() if line.strip().startswith("0:"))
    return int(line.split(":")[2].split("..")[0]) * BLOCK


@pytest.fixture(name="two")
def two_fixture(rig):
    """Two mounted disks with a writer, and a daemon."""
    made = [rig.file_system("fs%d" % i, 24 * MIB, "ext4", "-b", BLOCK) for i in (1, 2)]
    rig.mounts = [m for m, _, _ in made]
    rig.devices = {"disk%d" % (i + 1): device for i, (_, device, _) in enumerate(made)}
    rig.recorder = Recorder(rig.mounts, rig.devices.values())
    rig.served = rig.daemon()
    rig.on_end(rig.recorder.stop)
    return rig


def wait_points(rig, agent, count, good):
    """At least `count` points that are as good(consistency)."""
    def points():
        found = [p for p in rig.served.points(agent.source) if good(p["consistency"])]
        return found if len(found) >= count else None
    return wait_for(points, 60, "%d points" % count)


def records_of(rig, agent, point):
    """What the two disks held in that point."""
    images = [rig.served.export(agent.source, "disk%d" % (i + 1), point["pointInTimeID"], rig.path("record.img"), force=True) and
              rig.recorder.read(rig.path("record.img"), i) for i in range(2)]
    return images


def test_frozen_points_keep_the_order_of_writes_across_disks(two):
    freeze = [word for m in two.mounts for word in ("--freeze", m)]
    agent = two.agent(two.served, two.devices, options=freeze).start()
    two.served.wait_ready(agent.source)
    seen = {p["pointInTimeID"] for p in two.served.points(agent.source)}  # the longer Ready took, the more of nothing but zeros
    two.recorder.start()
    assert two.served.point(agent.source, "named")["consistency"] == "filesystem"
    numbers = []

    def enough():
        for point in two.served.points(agent.source):
            if point["consistency"] == "fuzzy" or point["pointInTimeID"] in seen:
                continue
            seen.add(point["pointInTimeID"])
            first, second = records_of(two, agent, point)
            assert second <= first <= second + 1, "disk 2 is at %d, disk 1 at %d" % (second, first)
            numbers.append(first)
        return len(numbers) >= POINTS and len(set(numbers)) > POINTS // 2

    wait_for(enough, 60, "points between which the writer wrote")
    agent.stop()
    two.recorder.stop()


def test_with_the_rule_switched_off_the_order_is_lost_and_this_test_sees_it(two):
    agent = two.agent(two.served, two.devices, executable="test/holdfast-agent-that-lies").start()
    two.served.wait_ready(agent.source)
    two.recorder.start()
    mixed = set()

    def one_is_ahead():
        for point in two.served.points(agent.source):
            if point["consistency"] != "fuzzy" and point["pointInTimeID"] not in mixed:
                mixed.add(point["pointInTimeID"])
                first, second = records_of(two, agent, point)
                if second > first:
                    return True
        return False

    wait_for(one_is_ahead, 30, "a point in which disk 2 is ahead: without it the other test proves nothing")
    agent.stop()
    two.recorder.stop()


def test_without_a_freeze_disks_in_use_yield_only_fuzzy_points(two):
    two.recorder.start()
    agent = two.agent(two.served, two.devices).start()
    wait_points(two, agent, 5, lambda c: c == "fuzzy")
    assert not [p for p in two.served.points(agent.source) if p["consistency"] != "fuzzy"]
    source = two.served.source(agent.source)
    assert not source["ready"] and source["newestPointInTime"] is None
    assert "NO_CONSISTENT_POINT" in [r["code"] for r in source["reasons"]]
    assert two.served.ctl("ready", agent.source, check=6).stdout
    two.recorder.stop()
    two.served.wait_ready(agent.source)
    agent.stop()


def test_a_killed_agent_leaves_nothing_frozen(two):
    freeze = [word for m in two.mounts for word in ("--freeze", m)]
    agent = two.agent(two.served, two.devices, options=freeze, interval="0").start()
    two.served.wait_ready(agent.source)
    two.recorder.start()
    for _ in range(8):
        time.sleep(two.random.uniform(0, 0.5))
        agent.kill()
        before = two.recorder.number
        wait_for(lambda: two.recorder.number > before + 2, 6, "the file systems to be writable again")
        agent.start()
        agent.wait_connected()
    agent.stop()
    two.recorder.stop()


def is_frozen(where):
    """Asked without changing anything: what is frozen cannot be frozen again."""
    fd = os.open(where, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.ioctl(fd, FIFREEZE, 0)
        fcntl.ioctl(fd, FITHAW, 0)
        return False
    except OSError as e:
        assert e.errno == errno.EBUSY
        return True
    finally:
        os.close(fd)


def kill_group_within_a_freeze(agent, mounts):
    """Agent and guard, as systemd or the kernel kills a whole group. Both are stopped first, so that none sees the other's end."""
    def stands_still():
        guards = agent.program.children()
        pids = [agent.program.pid, *guards]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        if all(is_frozen(m) for m in mounts):
            return guards
        for pid in reversed(pids):
            os.kill(pid, signal.SIGCONT)
        return None

    guards = wait_for(stands_still, 60, "a moment within a freeze")
    for pid in [*guards, agent.program.pid]:
        os.kill(pid, signal.SIGKILL)
    agent.program.process.wait(30)
    wait_for(lambda: not any(os.path.exists("/proc/%d/exe" % pid) for pid in guards), 30, "the guard's end")
    assert all(is_frozen(m) for m in mounts)


def thaw_command(agent, *options):
    return run("env", "RUNTIME_DIRECTORY=%s" % agent.run_dir, BUILD / "holdfast-agent", "thaw", *options, check=False)


@pytest.fixture(name="killed")
def killed_fixture(rig):
    """An ext4 and an xfs that stand frozen, and an agent that was killed with its guard."""
    made = [rig.file_system(kind, size, kind) for kind, size in (("ext4", 24 * MIB), ("xfs", 320 * MIB))]
    rig.mounts = [m for m, _, _ in made]
    served = rig.daemon()
    freeze = [word for m in rig.mounts for word in ("--freeze", m)]
    rig.frozen_agent = rig.agent(served, {"root": made[0][1]}, options=[*freeze, "--freeze-timeout", "60s"], interval="0").start()
    served.wait_ready(rig.frozen_agent.source)
    kill_group_within_a_freeze(rig.frozen_agent, rig.mounts)
    return rig


def test_what_a_killed_group_left_frozen_is_thawed_by_a_command(killed):
    agent = killed.frozen_agent
    assert "".join(sorted(path.read_text() for path in agent.run_dir.iterdir())).count(str(killed.dir)) == 2
    done = thaw_command(agent, "--json")
    assert done.returncode == 0, done.stderr
    assert {item["path"]: item["result"] for item in json.loads(done.stdout)["items"]} == {str(m): "THAWED" for m in killed.mounts}
    for m in killed.mounts:
        run("timeout", "--signal=KILL", "60", "sh", "-c", 'echo new >"$1"/new; sync "$1"/new', "sh", m)
    assert list(agent.run_dir.iterdir()) == []
    assert thaw_command(agent).stdout == "Nothing was left frozen.\n"


def test_what_a_killed_group_left_frozen_is_thawed_by_the_next_agent(killed):
    agent = killed.frozen_agent
    agent.options = []
    agent.start().wait_connected()
    for m in killed.mounts:
        assert not is_frozen(m)
        assert 'event=thawed level=warning path="%s"' % m in agent.program.log.read_text()
    agent.stop()


def test_what_an_administrator_froze_stays_frozen(killed):
    ours, other = killed.mounts
    run("fsfreeze", "--unfreeze", ours)
    run("fsfreeze", "--unfreeze", other)
    assert {item["result"] for item in json.loads(thaw_command(killed.frozen_agent, "--json").stdout)["items"]} == {"NOT_FROZEN"}
    run("fsfreeze", "--freeze", other)
    done = thaw_command(killed.frozen_agent)
    assert (done.returncode, done.stdout) == (0, "Nothing was left frozen.\n")
    assert is_frozen(other)


def children(pid):
    with open("/proc/%d/task/%d/children" % (pid, pid), encoding="ascii") as f:
        return [int(child) for child in f.read().split()]


class Slow:
    """An agent that freezes a file system on a disk that can be made slow, and a volume elsewhere."""

    def __init__(self, rig):
        image = rig.empty_file("slow.img", 32 * MIB)
        run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", image)
        self.rig, self.disk = rig, FaultyDisk(rig, image)
        self.where = rig.mount(rig.loop(self.disk.path), "slow")
        (self.where / "there").mkdir()
        rig.on_end(self.disk.heal)
        self.served, self.volume, self.changed_at = rig.daemon(), rig.file("disk", bytes(MIB)), []
        self.agent = rig.agent(self.served, {"root": self.volume}, options=["--freeze", self.where, "--freeze-timeout", "500ms"]).start()
        self.served.wait_ready(self.agent.source)
        self.wait_frozen_point()
        self.guard = self.agent.program.children()[0]

    def newest(self):
        """The newest point. Without a change there would be no other and no freeze, and the one before may have come amid a pass: so
        for each point there is a change."""
        points = self.served.points(self.agent.source)
        if len(points) not in self.changed_at:
            self.changed_at.append(len(points))
            with open(self.volume, "r+b") as f:
                f.write(self.rig.random.randbytes(BLOCK))
        return points[-1] if points else None

    def wait_frozen_point(self):
        last = self.newest()
        wait_for(lambda: self.newest() and self.newest() != last and self.newest()["consistency"] == "filesystem", 60, "a freeze")

    def make_slow(self, dirty_bytes):
        """Between two freezes."""
        self.agent.program.signal(signal.SIGSTOP)
        self.wait_freezer_gone()
        run("sync", "--file-system", self.where)
        self.disk.delay("write", 1)
        if dirty_bytes:
            (self.where / "dirty").write_bytes(self.rig.random.randbytes(dirty_bytes))
        self.agent.program.signal(signal.SIGCONT)

    def freezers(self):
        return children(self.guard)

    def wait_freezer_gone(self):
        wait_for(lambda: not self.freezers(), 60, "the end of a freeze")

    def can_write(self):
        """Needs no disk, and waits while the file system stands still."""
        with pytest.raises(FileExistsError):
            os.mkdir(self.where / "there")


def test_who_writes_does_not_wait_until_a_slow_disk_has_what_was_written_before(rig):
    """The kernel would let all writers wait for it: it is written before the freeze, or there is none."""
    slow = Slow(rig)
    slow.make_slow(16 * MIB)
    wait_for(lambda: slow.newest() and slow.freezers() and "could not be within" in slow.agent.program.log.read_text(), 60, "a slow freeze")
    freezers = slow.freezers()
    slow.can_write()
    assert freezers and slow.freezers() == freezers
    slow.disk.heal()
    slow.wait_freezer_gone()
    slow.wait_frozen_point()
    slow.agent.stop()


def is_freezing(pid):
    """Whether it is within ioctl(fd, FIFREEZE)."""
    try:
        with open("/proc/%d/syscall" % pid, encoding="ascii") as f:
            return f.read().split()[2:3] == [hex(FIFREEZE)]
    except OSError:
        return False


def test_what_a_killed_freezer_froze_is_thawed_by_the_guard(rig):
    slow = Slow(rig)
    slow.make_slow(0)
    freezer = wait_for(lambda: slow.newest() and next(filter(is_freezing, slow.freezers()), None), 60, "a freeze that takes its time")
    slow.agent.program.signal(signal.SIGSTOP)  # no word from it: the guard does it by itself
    os.kill(freezer, signal.SIGKILL)
    slow.disk.heal()
    slow.wait_freezer_gone()
    wait_for(lambda: not is_frozen(slow.where), 20, "the guard to thaw it")
    wait_for(lambda: all(path.read_text() == "" for path in slow.agent.run_dir.iterdir()), 20, "the record to be struck out")
    slow.agent.program.signal(signal.SIGCONT)
    slow.agent.stop()


def test_a_file_system_that_holds_the_agents_own_state_is_not_frozen(two):
    agent = two.agent(two.served, two.devices)
    inside = two.mounts[0] / "state"
    run("cp", "-a", agent.state_dir, inside)
    done = run("env", "RUNTIME_DIRECTORY=%s" % agent.run_dir, BUILD / "holdfast-agent", "run", "--state", inside, "--freeze", two.mounts[0], "--once",
               check=False)
    assert done.returncode != 0 and "freeze" in done.stderr and str(two.mounts[0]) in done.stderr
    assert is_mounted(two.mounts[0])


@pytest.mark.parametrize("time_text", ["50ms", "601s", "300d", "soon"])
def test_no_freeze_is_meant_to_last_for_ever(time_text):
    """Of a month, the milliseconds are more than an int has, and nothing would have thawed."""
    done = run(BUILD / "holdfast-agent", "run", "--state", "/nonexistent", "--freeze-timeout", time_text, check=False)
    assert done.returncode == 2 and time_text in done.stderr


def run_with(two, agent, capabilities):
    """A run of the agent as a service that has these capabilities, and as little memory to lock as systemd 219 leaves one."""
    freeze = [word for m in two.mounts for word in ("--freeze", m)]
    return run("env", "RUNTIME_DIRECTORY=%s" % agent.run_dir, "prlimit", "--memlock=65536:65536",
               "setpriv", "--bounding-set", ",".join(["-all"] + ["+" + c for c in capabilities]),
               BUILD / "holdfast-agent", "run", "--state", agent.state_dir, "--once", "--interval", "100ms", "--progress", "none", *freeze, check=False)


def test_the_unit_leaves_the_agent_what_a_freeze_takes(two):
    unit = (ROOT / "deploy/systemd/holdfast-agent.service").read_text()
    capabilities = re.search(r"(?m)^CapabilityBoundingSet=(.*)$", unit).group(1).lower().replace("cap_", "").split()
    agent = two.agent(two.served, two.devices)
    refused = run_with(two, agent, [c for c in capabilities if c != "ipc_lock"])
    assert refused.returncode != 0 and "CAP_IPC_LOCK" in refused.stderr
    done = run_with(two, agent, capabilities)
    assert done.returncode == 0, done.stderr
    assert two.served.point(agent.source, "frozen", newest=True)["consistency"] == "filesystem"
