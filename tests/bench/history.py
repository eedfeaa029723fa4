# SPDX-License-Identifier: Apache-2.0
"""What history costs: section "history" of `make bench`. See measure().

Sizes are chosen so that the whole takes about ten minutes and 20 GiB. Where a goal speaks of more than is made here, the sizes
made are printed beside the value.
"""
import http.client
import json
import os
import pathlib
import socket
import subprocess
import time

from rig import MIB, Daemon, Failed, load, run

EXTENT_MIB = 4096                     # of 4 KiB writes: one million extents
PACED_WRITES = 4000                   # per second: well below what a lone writer reaches, so that latency is latency
PACED_SECONDS = 12
RESTART_MIB, RESTARTS = (10, 1024, 8192), 3
MANY_EXTENTS = 100_000_000
DISK_MIB = 2048                       # of the real agent's disk, compared and scrubbed
MERGE_MIB = 2048
MERGES = (("", 64, 16), ("_scattered", 512, 1))  # MiB of disk, blocks a write: most of what merging meets is dead; much is alive
VOLUMES, LARGE_MIB, SMALL_MIB = 15, (16 << 20) - 1, 1024  # ext4 holds no file of 16 TiB: one MiB less

VALUES = [  # name, unit, goal, better
    ("ack_p99_ms_history_quiet", "ms", None, "lower"),
    ("ack_p99_ms_history_busy", "ms", None, "lower"),
    ("ack_p99_history_busy_vs_quiet", "ratio", 1.5, "lower"),
    ("fold_mib_per_second", "MiB/s", None, "higher"),
    ("fold_bytes_written_per_surviving_byte", "ratio", 1.05, "lower"),
    ("merge_bytes_copied_per_byte_freed", "ratio", 0.334, "lower"),
    ("merge_bytes_copied_per_byte_freed_scattered", "ratio", 0.334, "lower"),
    ("restart_seconds_10_mib", "s", 2, "lower"),
    ("restart_seconds_1_gib", "s", 2, "lower"),
    ("restart_seconds_8_gib", "s", 2, "lower"),
    ("memory_mib_1m_extents", "MiB", None, "lower"),
    ("memory_many_extents_vs_1m", "ratio", 1.2, "lower"),
    ("memory_15_volumes_16_tib_vs_1_gib", "ratio", 1.1, "lower"),
    ("compare_mib_per_second", "MiB/s", None, "higher"),
    ("compare_bytes_read_per_byte_source", "ratio", None, "lower"),
    ("compare_bytes_read_per_byte_server", "ratio", None, "lower"),
    ("scrub_mib_per_second", "MiB/s", None, "higher"),
    ("scrub_bytes_read_per_byte", "ratio", None, "lower"),
]


def wait_for(condition, seconds, what):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise Failed("waited %d s in vain for %s" % (seconds, what))
        time.sleep(0.05)
    return value


class Control:
    """holdfastd's admin socket."""

    def __init__(self, daemon):
        self.path = str(daemon.runtime / "admin.sock")

    def request(self, method, path, body=None):
        connection = http.client.HTTPConnection("localhost", timeout=120)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(120)
        connection.sock.connect(self.path)
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None)
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        if answer.status >= 400:
            raise Failed("%s %s: %d %s" % (method, path, answer.status, text))
        return json.loads(text)

    def source(self, source):
        return self.request("GET", "/v1/source-servers/%s" % source)

    def points(self, source):
        """The newest thousand."""
        return self.request("GET", "/v1/points-in-time?sourceServerID=%s" % source)["items"]

    def keep_newest(self, source, name):
        return self.request("POST", "/v1/points-in-time", {"sourceServerID": source, "name": name, "newest": True})

    def delete_point(self, point):
        return self.request("DELETE", "/v1/points-in-time/%s" % point)


def source_id(state):
    return json.loads((state / "agent.json").read_text())["sourceServerID"]


def counter(control, source, name):
    return int(control.source(source)["counters"][name])


def allocated(work, source):
    """Bytes of the staging files that are no holes."""
    return sum(p.stat().st_blocks * 512 for p in (work / "data" / "sources" / source).glob("*.img"))


def settle(daemon):
    daemon.settle(120)


# ---- latency while history is worked on ----

def fold_everything(control, source, number):
    """Keep the newest point, let go of what is older: everything up to it may be folded."""
    kept = control.keep_newest(source, "fold%d" % number)["pointInTimeID"]
    for point in control.points(source):
        if point["kept"] and point["pointInTimeID"] != kept:
            control.delete_point(point["pointInTimeID"])
    return kept


def base_lsn(control, source):
    return counter(control, source, "baseLSN")


def measure_fold(daemon, control, state, figures, number):
    """The fold of a million extents, alone: its rate, and how often it writes what survives."""
    source = source_id(state)
    before, image = base_lsn(control, source), allocated(daemon.work, source)
    written, began = daemon.written_bytes(), time.monotonic()
    fold_everything(control, source, number)
    wait_for(lambda: base_lsn(control, source) > before, 600, "the fold")
    seconds, written = time.monotonic() - began, daemon.written_bytes() - written
    surviving = allocated(daemon.work, source) - image
    if image == 0:  # the first: every block that is there now was written by this fold
        figures.add("fold_bytes_written_per_surviving_byte", written / surviving)
    figures.add("fold_mib_per_second", written / MIB / seconds)


def paced(daemon, state):
    return load(daemon, [state], "--mode", "data", "--blocks", 1, "--seconds", PACED_SECONDS, "--rate", PACED_WRITES,
                "--volume-mib", EXTENT_MIB, "--checkpoint-seconds", 1)["ack_p99_ms"]


def fill_journal(daemon, state, mib=EXTENT_MIB):
    load(daemon, [state], "--mode", "data", "--blocks", 1, "--mib", mib, "--volume-mib", EXTENT_MIB)


def measure_latency(daemon, figures, rounds):
    control, state = Control(daemon), daemon.enroll("history")
    source = source_id(state)
    for number in range(rounds):
        quiet = paced(daemon, state)
        fill_journal(daemon, state)
        settle(daemon)
        if number == 0:
            measure_fold(daemon, control, state, figures, number)
            fill_journal(daemon, state)
            settle(daemon)
        before = base_lsn(control, source)
        fold_everything(control, source, 100 + number)  # goes on while the paced writer writes
        busy = paced(daemon, state)
        wait_for(lambda: base_lsn(control, source) > before, 600, "the fold under load")
        figures.add("ack_p99_ms_history_quiet", quiet)
        figures.add("ack_p99_ms_history_busy", busy)
        figures.add("ack_p99_history_busy_vs_quiet", busy / quiet)


# ---- merging ----

def measure_merge(daemon, figures, note, name, volume_mib, blocks):
    control, state = Control(daemon), daemon.enroll("merged%s" % name)
    source = source_id(state)
    load(daemon, [state], "--mode", "data", "--blocks", blocks, "--mib", MERGE_MIB, "--volume-mib", volume_mib,
         "--checkpoint-seconds", 0.5)
    wait_for(lambda: counter(control, source, "mergeFreedBytes"), 120, "runs to be merged")
    settle(daemon)
    copied, freed = counter(control, source, "mergeCopiedBytes"), counter(control, source, "mergeFreedBytes")
    figures.add("merge_bytes_copied_per_byte_freed" + name, copied / freed)
    note("merge_bytes_copied_per_byte_freed" + name, "%d and %d MiB, of %d MiB written over a disk of %d, %d KiB at a time" %
         (copied // MIB, freed // MIB, MERGE_MIB, volume_mib, blocks * 4))


# ---- restart ----

def restart_seconds(daemon, state):
    """From exec after SIGKILL until a write of the agent's is acknowledged."""
    daemon.process.kill()
    daemon.process.wait()
    began = time.monotonic()
    daemon.start()
    load_until_acked(daemon, state)
    return time.monotonic() - began


def load_until_acked(daemon, state):
    deadline = time.monotonic() + 120
    while True:
        command = [daemon.build / "bench" / "bench_load", "--mode", "data", "--blocks", "1", "--mib", "1", "--volume-mib",
                   EXTENT_MIB, state]
        done = subprocess.run([str(c) for c in command], input="go\n", capture_output=True, text=True, timeout=120)
        if done.returncode == 0:
            return
        if time.monotonic() > deadline:
            raise Failed("bench_load: %s\n%s" % (done.stderr.strip()[-500:], daemon.log_tail()))
        time.sleep(0.02)


def measure_restart(daemon, figures):
    state, made = daemon.enroll("restart"), 0
    for mib, name in zip(RESTART_MIB, ("10_mib", "1_gib", "8_gib")):
        fill_journal(daemon, state, mib - made)
        made = mib
        for _ in range(RESTARTS):
            figures.add("restart_seconds_" + name, restart_seconds(daemon, state))


# ---- memory ----

def extents(daemon, state, count):
    load(daemon, [state], "--mode", "zeros", "--mib", count * 4096 // MIB, "--volume-mib", LARGE_MIB)
    settle(daemon)


def measure_memory_of_extents(build, work, figures, note):
    """Each in a daemon of its own, which has done nothing else."""
    values = []
    for count in (1_000_000, MANY_EXTENTS):
        with_daemon = Daemon(build, fresh(work, "extents-%d" % count))
        try:
            extents(with_daemon, with_daemon.enroll("extents"), count)
            values.append(with_daemon.memory_mib("VmRSS"))
        finally:
            with_daemon.stop()
    figures.add("memory_mib_1m_extents", values[0])
    figures.add("memory_many_extents_vs_1m", values[1] / values[0])
    note("memory_many_extents_vs_1m", "%d million extents kept against 1 million: %.1f and %.1f MiB" %
         (MANY_EXTENTS // 1_000_000, values[1], values[0]))


def measure_memory_of_volumes(build, work, figures, note):
    values = []
    for mib in (LARGE_MIB, SMALL_MIB):
        daemon = Daemon(build, fresh(work, "volumes-%d" % mib))
        try:
            states = [daemon.enroll("volume%d" % i) for i in range(VOLUMES)]
            load(daemon, states, "--mode", "data", "--blocks", 1, "--mib", 16, "--volume-mib", mib)
            settle(daemon)
            values.append(daemon.memory_mib("VmRSS"))
        finally:
            daemon.stop()
    figures.add("memory_15_volumes_16_tib_vs_1_gib", values[0] / values[1])
    note("memory_15_volumes_16_tib_vs_1_gib", "%d sources of one volume each, 4,096 blocks changed in each: %.1f and %.1f MiB" %
         (VOLUMES, values[0], values[1]))


def fresh(work, name):
    path = work / name
    path.mkdir()
    return path


# ---- comparing ----

def read_bytes(pid):
    for line in pathlib.Path("/proc/%d/io" % pid).read_text().splitlines():
        if line.startswith("read_bytes:"):
            return int(line.split()[1])
    raise Failed("no read_bytes in /proc/PID/io")


def timed(daemon, *command):
    """Seconds that a command of holdfastctl took, and the bytes that the server read meanwhile."""
    read, began = read_bytes(daemon.process.pid), time.monotonic()
    run(daemon.build / "holdfastctl", "--socket", daemon.runtime, *command, "--wait", "--no-progress", timeout=900)
    return time.monotonic() - began, read_bytes(daemon.process.pid) - read


def measure_compare(daemon, figures):
    control, disk = Control(daemon), daemon.work / "compared.img"
    with open(disk, "wb") as f:
        for _ in range(DISK_MIB):
            f.write(os.urandom(MIB))
    state = daemon.enroll("compared", disk)
    source = source_id(state)
    agent = subprocess.Popen([daemon.build / "holdfast-agent", "run", "--state", state, "--interval", "1h", "--progress", "none"],
                             stdin=subprocess.DEVNULL, stdout=daemon.log, stderr=daemon.log)
    try:
        wait_for(lambda: control.source(source)["ready"], 300, "the first copy")
        theirs = read_bytes(agent.pid)
        seconds, ours = timed(daemon, "verify", source)
        figures.add("compare_mib_per_second", DISK_MIB / seconds)
        figures.add("compare_bytes_read_per_byte_source", (read_bytes(agent.pid) - theirs) / (DISK_MIB * MIB))
        figures.add("compare_bytes_read_per_byte_server", ours / (DISK_MIB * MIB))
        seconds, ours = timed(daemon, "scrub", "start", source)
        figures.add("scrub_mib_per_second", DISK_MIB / seconds)
        figures.add("scrub_bytes_read_per_byte", ours / (DISK_MIB * MIB))
    finally:
        agent.terminate()
        agent.wait(30)


def measure(build, work, rounds, figures, note):
    daemon = Daemon(build, fresh(work, "history"), journal_window="1s")
    try:
        measure_compare(daemon, figures)
        measure_latency(daemon, figures, rounds)
        for name, volume_mib, blocks in MERGES:
            measure_merge(daemon, figures, note, name, volume_mib, blocks)
        measure_restart(daemon, figures)
    finally:
        daemon.stop()
    measure_memory_of_volumes(build, work, figures, note)
    measure_memory_of_extents(build, work, figures, note)
