# SPDX-License-Identifier: Apache-2.0
"""What the sections of `make bench` stand on: a holdfastd of their own, load for it, and the figures."""
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import time

MIB, GIB = 1 << 20, 1 << 30


class Failed(Exception):
    pass


def run(*command, timeout=60):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=timeout)
    if done.returncode != 0:
        raise Failed("%s: exit %d: %s" % (pathlib.Path(str(command[0])).name, done.returncode, done.stderr.strip()[-500:]))
    return done.stdout


class Daemon:
    """A holdfastd of our own, and the agents enrolled at it."""

    def __init__(self, build, work, journal_window="1h"):
        self.build, self.work, self.journal_window = build, work, journal_window
        self.runtime = work / "run"
        self.ports = None
        (work / "data").mkdir(mode=0o700)
        self.log = open(work / "log", "wb")
        self.start()
        self.wait_until_it_answers()
        self.ports = json.loads((self.runtime / "ports.json").read_text())

    def start(self):
        """Again on the same ports, if it ran before. Does not wait."""
        ports = self.ports or {"data": 0, "enroll": 0}
        (self.work / "holdfastd.conf").write_text(
            "[server]\nlisten = 127.0.0.1:%(data)d\nenroll_listen = 127.0.0.1:%(enroll)d\nlog_level = notice\n" % ports +
            "[storage]\ndata_dir = %s/data\n[admin]\nruntime_dir = %s\n[pit]\njournal_window = %s\n" %
            (self.work, self.runtime, self.journal_window))
        self.process = subprocess.Popen([self.build / "holdfastd", "-c", self.work / "holdfastd.conf"], stdin=subprocess.DEVNULL,
                                        stdout=self.log, stderr=self.log)

    def wait_until_it_answers(self, seconds=30):
        deadline = time.monotonic() + seconds
        while True:
            if self.process.poll() is not None:
                raise Failed("holdfastd ended:\n" + self.log_tail())
            try:
                return run(self.build / "holdfastctl", "--socket", self.runtime, "status")
            except Failed:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def log_tail(self):
        self.log.flush()
        return (self.work / "log").read_text(errors="replace")[-3000:]

    def enroll(self, name, disk=None):
        """A new source with one disk, made up unless given; returns its state directory."""
        state = self.work / name
        if disk is None:
            disk = self.work / (name + ".img")
            with open(disk, "wb") as f:
                f.truncate(1 << 20)
        token = json.loads(run(self.build / "holdfastctl", "--socket", self.runtime, "token", "create", "--json"))
        run(self.build / "holdfast-agent", "enroll", "--state", state, "--server", token["enrollListen"], "--token", token["token"],
            "--volume", "disk=%s" % disk, "--yes")
        return state

    def cpu_seconds(self):
        fields = pathlib.Path("/proc/%d/stat" % self.process.pid).read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def thread_ns(self):
        """CPU time of each thread: for what is too little to be seen in ticks."""
        times = {}
        for path in pathlib.Path("/proc/%d/task" % self.process.pid).glob("*/schedstat"):
            try:
                times[path.parent.name] = int(path.read_text().split()[0])
            except FileNotFoundError:
                pass  # a kernel thread of a ring that had nothing to do
        return times

    def written_bytes(self):
        return self._number("io", "write_bytes")

    def memory_mib(self, which):
        return self._number("status", which) / 1024

    def _number(self, file, key):
        for line in pathlib.Path("/proc/%d/%s" % (self.process.pid, file)).read_text().splitlines():
            name, _, value = line.partition(":")
            if name == key:
                return int(value.split()[0])
        raise Failed("no %s in /proc/PID/%s" % (key, file))

    def settle(self, seconds=10):
        """Until background work is done: hardly any CPU for half a second."""
        deadline = time.monotonic() + seconds
        while True:
            before = self.cpu_seconds()
            time.sleep(0.5)
            if self.cpu_seconds() - before <= 0.03 or time.monotonic() > deadline:
                return

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()


def idle_percent(daemon, seconds):
    before, began = daemon.thread_ns(), time.monotonic()
    time.sleep(seconds)
    spent = sum(ns - before.get(thread, 0) for thread, ns in daemon.thread_ns().items())
    return 100 * spent / 1e9 / (time.monotonic() - began)


def load(daemon, states, *arguments, idle_seconds=0):
    """Run bench_load; its report, with what the server spent on it, and if wanted on the same sessions before they did anything."""
    command = [str(daemon.build / "bench" / "bench_load"), *map(str, arguments), *map(str, states)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            if process.stdout.readline() != "ready\n":
                raise Failed("bench_load: " + process.stderr.read().strip()[-500:] + "\n" + daemon.log_tail())
            daemon.settle()
            idle = idle_percent(daemon, idle_seconds) if idle_seconds > 0 else None
            cpu, written = daemon.cpu_seconds(), daemon.written_bytes()
            process.stdin.write("go\n")
            process.stdin.flush()
            line = process.stdout.readline()
            if not line:
                raise Failed("bench_load: " + process.stderr.read().strip()[-500:] + "\n" + daemon.log_tail())
            report = json.loads(line)
            acked_cpu = daemon.cpu_seconds() - cpu
            daemon.settle()
            report["idle_cpu_percent"] = idle
            report["cpu_seconds"] = daemon.cpu_seconds() - cpu
            report["cpu_seconds_until_acked"] = acked_cpu
            report["written_bytes"] = daemon.written_bytes() - written
            if report["bytes"] > 0:  # zeros have none
                report["cpu_per_gib"] = report["cpu_seconds"] / (report["bytes"] / GIB)
                report["written_per_byte"] = report["written_bytes"] / report["bytes"]
        finally:
            process.stdin.close()
            if process.poll() is None and sys.exc_info()[0] is not None:
                process.kill()
        if process.wait(30) != 0:
            raise Failed("bench_load: exit %d" % process.returncode)
    return report


class Figures:
    def __init__(self):
        self.rounds, self.notes = {}, {}

    def note(self, name, text):
        self.notes[name] = text

    def add(self, name, value):
        self.rounds.setdefault(name, []).append(value)
        print("bench: %s %.4g" % (name, value), file=sys.stderr)

    def median(self, name):
        return statistics.median(self.rounds[name]) if self.rounds.get(name) else None
