#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Run the crash tests, one program on each core. Prints their TAP as one, and last `N crash states, N violations`.

usage: run.py BUILD_DIR (short | full | soak STATES)

short: two minutes on two cores, for `make check`. full: every workload of up to three operations (of those of three that begin
with a half filled volume one in four), and more and longer lives: five minutes. soak: lives from a seed of chance until so many states
were tried. SEED=n instead of the usual ones, or of chance.
"""
import concurrent.futures
import os
import pathlib
import random
import re
import subprocess
import sys

TAP = re.compile(r"^(ok|not ok) \d+ - (.*)$")
SUM = re.compile(r"^(\d+) crash states, (\d+) violations$")


def workloads(parts, seed, *more):
    return [["test_workloads", "--seed", seed, "--shard", f"{i}/{parts}", *more] for i in range(parts)]


def lives(parts, seed, each, *more):
    return [["test_store_crash", "--seed", seed + i * each, "--seeds", each, *more] for i in range(parts)]


def commands(how, seed, states):
    cores = os.cpu_count() or 1
    if how == "short" and "-fsanitize" in os.environ.get("CFLAGS", ""):  # ten times as slow, and looking for something else
        return [*workloads(2, seed, "--length", 1), *lives(2, seed, 2), ["test_long_run", "--seed", seed, "--days", 6]]
    if how == "short":
        return [["test_long_run", "--seed", seed, "--days", 60], *workloads(4, seed, "--every", 12), *lives(4, seed, 3)]
    if how == "full":
        return [["test_long_run", "--seed", seed, "--days", 365], *workloads(4, seed, "--every", "1,4"), *lives(8, seed, 4, "--stride", 2)]
    return [["test_store_crash", "--seed", seed + i * 10**9, "--states", -(-states // cores), "--stride", 1, "--steps", 400]
            for i in range(cores)]


def run(command):
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                          check=False)
    return command, done.returncode, done.stdout.splitlines()


class Report:
    """TAP of several programs, numbered through."""

    def __init__(self):
        self.tests = self.failed = self.states = self.violations = 0

    def add(self, ok, name):
        self.tests += 1
        self.failed += not ok
        print(f"{'ok' if ok else 'not ok'} {self.tests} - {name}", flush=True)

    def read(self, command, code, lines):
        name = f"{pathlib.Path(command[0]).name} {' '.join(str(word) for word in command[1:])}"
        before = self.failed
        for line in lines:
            tap, total = TAP.match(line), SUM.match(line)
            if tap:
                self.add(tap.group(1) == "ok", tap.group(2))
            elif total:
                self.states += int(total.group(1))
                self.violations += int(total.group(2))
            elif not line.startswith("1.."):
                print(line)
        if code != 0 and self.failed == before:
            self.add(False, f"{name}: exit {code}")
            print("\n".join(f"# {line}" for line in lines[-10:]))


def main():
    build, how = pathlib.Path(sys.argv[1]), sys.argv[2]
    seed = int(os.environ.get("SEED", random.randrange(10**9) if how == "soak" else 1))
    programs = [[build / "crash" / name, *more] for name, *more in commands(how, seed, int(sys.argv[3]) if how == "soak" else 0)]
    report = Report()
    print(f"# SEED={seed}", flush=True)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for done in pool.map(run, programs):
            report.read(*done)
    print(f"1..{report.tests}")
    print(f"{report.states} crash states, {report.violations} violations")
    return 1 if report.failed or report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
