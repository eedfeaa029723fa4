#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Measure holdfastd beside the bare loop, in one run; write BUILD/bench.json and print a table.

usage: run.py --build DIR [--rounds N] [--keep]

A private holdfastd with a data directory of its own (under BUILD: the disk matters) is loaded by bench_load, between runs of
bench_floor, a round of everything after the other, so that a noisy machine is noisy for all. The server's CPU is that of its
process, kernel threads of its rings included, from before the load until the background work it caused is done; its writes are
what the kernel says it wrote. Every value is the median over the rounds. A value that could not be measured fails the run; a
goal that was missed is only shown.
"""
import argparse
import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

GIB = 1 << 30
BULK_AGENTS, BULK_MIB = 8, 64          # first fill, and scattered blocks in full frames: 512 MiB a round each
WRITERS, WRITER_VOLUME_MIB = 64, 64    # 4 KiB writes, one a frame
WRITE_SECONDS = 2
FLOOR_MIB = 512

VALUES = [  # name, unit, goal, better
    ("cpu_per_gib_floor", "s/GiB", None, "lower"),
    ("cpu_per_gib_fill", "s/GiB", None, "lower"),
    ("cpu_per_gib_data", "s/GiB", None, "lower"),
    ("cpu_per_gib_fill_vs_floor", "ratio", 1.5, "lower"),
    ("cpu_per_gib_data_vs_floor", "ratio", 1.5, "lower"),
    ("cpu_per_gib_4k_vs_floor", "ratio", None, "lower"),
    ("fill_mib_per_second", "MiB/s", None, "higher"),
    ("durable_4k_writes_per_second", "1/s", None, "higher"),
    ("durable_4k_writes_per_cpu_second", "1/s", None, "higher"),
    ("ack_p99_ms_full_load", "ms", None, "lower"),
    ("ack_p50_ms_80_percent_load", "ms", None, "lower"),
    ("ack_p99_ms_80_percent_load", "ms", None, "lower"),
    ("bytes_written_per_byte_fill", "ratio", 1.02, "lower"),
    ("bytes_written_per_byte_data", "ratio", 1.05, "lower"),
    ("bytes_written_per_byte_4k", "ratio", 1.05, "lower"),
    ("idle_cpu_percent_64_sessions", "%", None, "lower"),
    ("memory_idle_mib", "MiB", None, "lower"),
    ("memory_peak_mib", "MiB", None, "lower"),
]


class Failed(Exception):
    pass


def run(*command, timeout=60):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=timeout)
    if done.returncode != 0:
        raise Failed("%s: exit %d: %s" % (pathlib.Path(str(command[0])).name, done.returncode, done.stderr.strip()[-500:]))
    return done.stdout


class Daemon:
    """A holdfastd of our own, and the agents enrolled at it."""

    def __init__(self, build, work):
        self.build, self.work = build, work
        self.runtime = work / "run"
        (work / "data").mkdir(mode=0o700)
        (work / "holdfastd.conf").write_text(
            "[server]\nlisten = 127.0.0.1:0\nenroll_listen = 127.0.0.1:0\nlog_level = notice\n"
            "[storage]\ndata_dir = %s/data\n[admin]\nruntime_dir = %s\n" % (work, self.runtime))
        self.log = open(work / "log", "wb")
        self.process = subprocess.Popen([build / "holdfastd", "-c", work / "holdfastd.conf"], stdin=subprocess.DEVNULL,
                                        stdout=self.log, stderr=self.log)
        self.wait_until_it_answers()

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

    def enroll(self, name):
        """A new source with one made-up disk; returns its state directory."""
        disk, state = self.work / (name + ".img"), self.work / name
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


def floor(build, work):
    return json.loads(run(build / "bench" / "bench_floor", "--dir", work, "--mib", FLOOR_MIB))["cpu_per_gib"]


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
        self.rounds = {}

    def add(self, name, value):
        self.rounds.setdefault(name, []).append(value)

    def median(self, name):
        return statistics.median(self.rounds[name]) if self.rounds.get(name) else None


def measure_round(daemon, bulk, writers, figures):
    bare = floor(daemon.build, daemon.work)
    fill = load(daemon, bulk, "--mode", "fill", "--mib", BULK_MIB)
    data = load(daemon, bulk, "--mode", "data", "--mib", BULK_MIB)
    bare = (bare + floor(daemon.build, daemon.work)) / 2
    writes = load(daemon, writers, "--mode", "data", "--blocks", 1, "--seconds", WRITE_SECONDS, "--volume-mib", WRITER_VOLUME_MIB)

    figures.add("cpu_per_gib_floor", bare)
    figures.add("cpu_per_gib_fill", fill["cpu_per_gib"])
    figures.add("cpu_per_gib_data", data["cpu_per_gib"])
    figures.add("cpu_per_gib_fill_vs_floor", fill["cpu_per_gib"] / bare)
    figures.add("cpu_per_gib_data_vs_floor", data["cpu_per_gib"] / bare)
    figures.add("cpu_per_gib_4k_vs_floor", writes["cpu_per_gib"] / bare)
    figures.add("fill_mib_per_second", fill["gib_per_second"] * 1024)
    figures.add("durable_4k_writes_per_second", writes["writes_per_second"])
    figures.add("durable_4k_writes_per_cpu_second", writes["writes"] / writes["cpu_seconds"])
    figures.add("ack_p99_ms_full_load", writes["ack_p99_ms"])
    figures.add("bytes_written_per_byte_fill", fill["written_per_byte"])
    figures.add("bytes_written_per_byte_data", data["written_per_byte"])
    figures.add("bytes_written_per_byte_4k", writes["written_per_byte"])


def measure_latency(daemon, writers, figures):
    rate = 0.8 * figures.median("durable_4k_writes_per_second")
    paced = load(daemon, writers, "--mode", "data", "--blocks", 1, "--seconds", WRITE_SECONDS, "--rate", round(rate),
                 "--volume-mib", WRITER_VOLUME_MIB, idle_seconds=2)
    figures.add("idle_cpu_percent_64_sessions", paced["idle_cpu_percent"])
    figures.add("ack_p50_ms_80_percent_load", paced["ack_p50_ms"])
    figures.add("ack_p99_ms_80_percent_load", paced["ack_p99_ms"])


def measure(build, work, rounds):
    figures = Figures()
    daemon = Daemon(build, work)
    try:
        figures.add("memory_idle_mib", daemon.memory_mib("VmRSS"))
        bulk = [daemon.enroll("bulk%d" % i) for i in range(BULK_AGENTS)]
        writers = [daemon.enroll("writer%d" % i) for i in range(WRITERS)]
        for number in range(rounds):
            measure_round(daemon, bulk, writers, figures)
            print("bench: round %d of %d" % (number + 1, rounds), file=sys.stderr)
        measure_latency(daemon, writers, figures)
        figures.add("memory_peak_mib", daemon.memory_mib("VmHWM"))
    finally:
        daemon.stop()
    return figures


def results_of(figures):
    return [{"name": name, "value": figures.median(name), "unit": unit, "goal": goal, "better": better}
            for name, unit, goal, better in VALUES]


def verdict(result):
    if result["goal"] is None or result["value"] is None:
        return ""
    good = result["value"] <= result["goal"] if result["better"] == "lower" else result["value"] >= result["goal"]
    return "met" if good else "MISSED"


def number(value):
    if value is None:
        return "not measured"
    return "%.0f" % value if abs(value) >= 1000 else "%.3g" % value if abs(value) >= 10 else "%.3f" % value


def print_table(results, figures):
    print("%-36s %12s %-6s %6s %-7s rounds" % ("", "value", "unit", "goal", ""))
    for r in results:
        spread = " ".join(number(v) for v in figures.rounds.get(r["name"], []))
        print("%-36s %12s %-6s %6s %-7s %s" % (r["name"], number(r["value"]), r["unit"],
                                               "" if r["goal"] is None else "%g" % r["goal"], verdict(r), spread))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keep", action="store_true", help="keep the data directory and the daemon's log")
    options = parser.parse_args()
    build = options.build.resolve()
    (build / "bench.json").unlink(missing_ok=True)  # no run, no figures
    work = pathlib.Path(tempfile.mkdtemp(prefix="bench-run-", dir=build))
    try:
        figures = measure(build, work, options.rounds)
    except (Failed, OSError, subprocess.TimeoutExpired) as e:
        sys.exit("bench: %s" % e)
    finally:
        if not options.keep:
            shutil.rmtree(work, ignore_errors=True)
    results = results_of(figures)
    (build / "bench.json").write_text(json.dumps(results, indent=1) + "\n")
    print_table(results, figures)
    missing = [r["name"] for r in results if r["value"] is None]
    if missing:
        sys.exit("bench: not measured: " + ", ".join(missing))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench: ended"))
    main()
