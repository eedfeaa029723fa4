#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Run the tests and count them; the last line is `N passed, N failed, N skipped`.

usage: run.py --build DIR [--fuzz-build DIR] (all | layering | unit | crash | planted | fuzz | integration)...

Unit and crash tests are programs that print TAP (cmocka with CMOCKA_MESSAGE_OUTPUT=TAP, or `ok N - name` lines by themselves);
integration tests are pytest files. A program that dies counts as a failure; a skip has its reason printed.

Every program gets a directory of its own for what it makes (TMPDIR), and leaves it empty: a file, process, mount or loop device
that is still there at the end is a failure of its own. So does every file of integration tests. They mostly wait: two files run at
a time, and what only computes runs beside them.
"""
import argparse
import base64
import concurrent.futures
import contextlib
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/lib"))

import scratch  # noqa: E402

FUZZ_RUNS = 1_000_000
UNIT_JOBS = 2  # unit tests with disks and links wait more than they compute
INTEGRATION_JOBS = 2
SLOWEST = 15  # integration tests whose times are printed
# cmocka says "not ok N # SKIP name" of a skipped test.
TAP = re.compile(r"^(ok|not ok)\s+\d+(?:\s*-\s*|\s+(?=#)|$)(.*)$")
SKIP = re.compile(r"^# SKIP\s*(.*)$", re.IGNORECASE)


class Counts:
    """What was found so far; told as it comes, by several threads."""

    def __init__(self):
        self.passed = self.failed = 0
        self.skipped = []
        self.failures = []
        self.lock = threading.Lock()

    def add(self, passed, skipped=()):
        with self.lock:
            self.passed += passed
            self.skipped += skipped

    def fail(self, name, text=""):
        with self.lock:
            self.failed += 1
            self.failures.append(name)
            print(f"FAILED {name}\n{text}", flush=True)

    def say(self, text):
        with self.lock:
            print(text, flush=True)


# ---- a place of its own, empty afterwards ----

@contextlib.contextmanager
def scratch_for(counts, name):
    """The directory and environment one program of the tests runs with."""
    own = scratch.Scratch()
    own.dir.chmod(0o711)  # tests that become somebody else go through it
    try:
        yield own.dir, {"TMPDIR": str(own.dir), "HOLDFAST_SCRATCH": str(own.dir), "PYTHONDONTWRITEBYTECODE": "1"}
    finally:
        left = own.clear()
        if left:
            counts.fail(f"{name} left something behind", "\n".join(left))


def run(command, timeout, env):
    """Run a command in a session of its own; on timeout the whole of it is killed. Returns (code, output).
    Its output goes to a file: a process it leaves behind would hold a pipe open."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen([str(c) for c in command], stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                                   env={**os.environ, **env}, start_new_session=True, cwd=ROOT)
        try:
            code, note = process.wait(timeout), ""
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            code, note = process.wait(), f"\ntimed out after {timeout} s"
        log.seek(0)
        return code, log.read().decode(errors="replace") + note


# ---- programs that print TAP ----

def read_tap(program, output):
    """Names of what passed and what failed, and what was skipped with its reason: the last line before it that gives one."""
    passed, failed, skipped = [], [], []
    reason = "no reason given"
    for line in output.splitlines():
        m = TAP.match(line)
        if not m:
            said = re.match(r"^#?\s*skipped: (.*)", line)
            reason = said.group(1) if said else reason
            continue
        skip = SKIP.match(m.group(2))
        if skip:
            skipped.append(f"{program}: {skip.group(1)}: {reason}")
        else:
            (passed if m.group(1) == "ok" else failed).append(f"{program}: {m.group(2)}")
    return passed, failed, skipped


def run_tap(counts, program, timeout, arguments=(), prefix=()):
    began = time.monotonic()
    with scratch_for(counts, program.name) as (_, env):
        code, output = run([*prefix, program, *arguments], timeout, {**env, "CMOCKA_MESSAGE_OUTPUT": "TAP"})
    passed, failed, skipped = read_tap(program.name, output)
    counts.add(len(passed), skipped)
    for name in failed:
        counts.fail(name)
    if failed:
        counts.say(output[-6000:])
    elif code != 0:
        counts.fail(f"{program.name} (exit {code})", output[-6000:])
    elif not passed and not skipped:
        counts.fail(f"{program.name} ran no test", output[-2000:])
    counts.say(f"  {program.name:<28} {len(passed):4} ok {len(failed):3} failed  {time.monotonic() - began:6.1f} s")


def programs_in(counts, folder, pattern):
    programs = sorted(p for p in folder.glob(pattern) if os.access(p, os.X_OK) and p.suffix == "")
    if not programs:
        counts.fail(f"no programs in {folder}")
    return programs


def run_units(counts, build):
    with concurrent.futures.ThreadPoolExecutor(UNIT_JOBS) as pool:
        for done in [pool.submit(run_tap, counts, program, 900) for program in programs_in(counts, build / "unit", "test_*")]:
            done.result()


def run_crash(counts, build):
    run_tap(counts, ROOT / "tests/crash/run.py", 900, [build, "short"], prefix=["nice"])


def run_planted(counts, build):
    run_tap(counts, ROOT / "tests/crash/planted.py", 900, [build], prefix=["nice"])


# ---- fuzz targets, integration tests, layering ----

def found_inputs(folder):
    """What a fuzz target fell over, to be made a file of its corpus: `base64 -d`."""
    return "".join(f"{path.name}: {base64.b64encode(path.read_bytes()).decode()}\n" for path in folder.glob("*-*"))


def run_fuzz(counts, build, seed):
    counts.say(f"  fuzz targets: --fuzz-seed {seed}")
    for fuzzer in programs_in(counts, build / "fuzz", "fuzz_*"):
        began = time.monotonic()
        corpus = ROOT / "tests/fuzz/corpus" / fuzzer.name.removeprefix("fuzz_")
        with scratch_for(counts, fuzzer.name) as (_, env), tempfile.TemporaryDirectory() as found:
            code, output = run(["nice", fuzzer, f"-runs={FUZZ_RUNS}", f"-seed={seed}", f"-artifact_prefix={found}/", "-verbosity=0",
                                "-print_final_stats=1", found, corpus], 900, env)
            output += found_inputs(pathlib.Path(found))
        done = re.search(r"stat::number_of_executed_units:\s*(\d+)", output)
        executed = int(done.group(1)) if done else 0
        if code != 0 or executed < FUZZ_RUNS:
            counts.fail(f"{fuzzer.name} ({executed} executions, exit {code})", output[-4000:])
        else:
            counts.add(1)
        counts.say(f"  {fuzzer.name:<28} {executed} executions  {time.monotonic() - began:6.1f} s")


def run_pytest(counts, build, tests):
    """One file of tests; (seconds, name) of each."""
    began = time.monotonic()
    with scratch_for(counts, tests.name) as (_, env), tempfile.TemporaryDirectory() as own:
        report = pathlib.Path(own) / "report.xml"
        code, output = run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={own}/pytest",
                            f"--junit-xml={report}", tests], 1500, {**env, "HOLDFAST_BUILD": str(build.resolve())})
        times = read_report(counts, report) if report.exists() else []
    if code != 0 or not times:
        counts.say(output[-20000:])
    if not times:
        counts.fail(tests.name, f"exit {code}, no report")
    counts.say(f"  {tests.name:<28} {len(times):4} tests {time.monotonic() - began:20.1f} s")
    return times


def read_report(counts, report):
    times = []
    for case in xml.etree.ElementTree.parse(report).getroot().iter("testcase"):
        name = f"{case.get('classname')}.{case.get('name')}"
        times.append((float(case.get("time")), name))
        skip = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            counts.fail(name)
        elif skip is not None:
            counts.add(0, [f"{name}: {skip.get('message')}"])
        else:
            counts.add(1)
    return times


def run_integration(counts, build):
    """The largest files first: what is left for the end is short."""
    began = time.monotonic()
    files = sorted((ROOT / "tests/integration").glob("test_*.py"), key=lambda file: -file.stat().st_size)
    with concurrent.futures.ThreadPoolExecutor(INTEGRATION_JOBS) as pool:
        times = [one for done in pool.map(lambda file: run_pytest(counts, build, file), files) for one in done]
    for seconds, name in sorted(times, reverse=True)[:SLOWEST]:
        counts.say(f"  {seconds:6.1f} s  {name}")
    counts.say(f"  {'integration':<28} {len(times):4} tests {time.monotonic() - began:20.1f} s")


def run_layering(counts):
    code, output = run([sys.executable, "tests/lib/layering.py"], 60, {})
    if code == 0:
        counts.add(1)
    else:
        counts.fail("layering", output)


PARTS = {
    "layering": lambda counts, _: run_layering(counts),
    "unit": lambda counts, arguments: run_units(counts, arguments.build),
    "crash": lambda counts, arguments: run_crash(counts, arguments.build),
    "planted": lambda counts, arguments: run_planted(counts, arguments.build),
    "fuzz": lambda counts, arguments: run_fuzz(counts, arguments.fuzz_build or arguments.build, arguments.fuzz_seed),
    "integration": lambda counts, arguments: run_integration(counts, arguments.build),
}


def run_parts(counts, arguments, parts):
    for part in parts:
        try:
            PARTS[part](counts, arguments)
        except Exception as e:  # a fault of this file is not to pass for a part that ran
            counts.fail(part, repr(e))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--fuzz-build", type=pathlib.Path, help="where the fuzz targets are, if not in --build")
    parser.add_argument("--fuzz-seed", type=int, default=random.SystemRandom().randrange(1, 1 << 32),
                        help="where the fuzz targets begin; default: another place each time")
    parser.add_argument("what", nargs="+", choices=["all", *PARTS])
    arguments = parser.parse_args()
    parts = [part for part in PARTS if part in arguments.what or "all" in arguments.what]
    for left in scratch.sweep():
        print(f"cleared what a killed run left: {left}", flush=True)
    counts = Counts()
    waiting = threading.Thread(target=run_parts, args=(counts, arguments, [p for p in parts if p == "integration"]))
    waiting.start()
    run_parts(counts, arguments, [p for p in parts if p != "integration"])
    waiting.join()
    for skipped in counts.skipped:
        print(f"skipped {skipped}")
    for failure in counts.failures:
        print(f"failed {failure}")
    print(f"{counts.passed} passed, {counts.failed} failed, {len(counts.skipped)} skipped")
    return 1 if counts.failed else 0


if __name__ == "__main__":
    sys.exit(main())
