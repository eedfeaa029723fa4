#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Run the tests and count them; the last line is `N passed, N failed, N skipped`.

usage: run.py --build DIR (all | layering | unit | crash | planted | fuzz | integration)...

Unit and crash tests are programs that print TAP (cmocka with CMOCKA_MESSAGE_OUTPUT=TAP, or `ok N - name` lines by themselves);
integration tests are pytest files. A program that dies counts as a failure; a skip has its reason printed.
"""
import argparse
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

ROOT = pathlib.Path(__file__).resolve().parents[1]
FUZZ_RUNS = 1_000_000
TAP = re.compile(r"^(ok|not ok)\s+\d+(?:\s*-\s*(.*))?$")


class Counts:
    def __init__(self):
        self.passed = self.failed = 0
        self.skipped = []
        self.failures = []

    def fail(self, name, text=""):
        self.failed += 1
        self.failures.append(name)
        print(f"FAILED {name}\n{text}", flush=True)


def run(command, timeout, env=None):
    """Run a command in a session of its own; on timeout the whole of it is killed. Returns (code, output)."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True,
                               errors="replace", env={**os.environ, **(env or {})}, start_new_session=True, cwd=ROOT)
    try:
        output, _ = process.communicate(timeout=timeout)
        return process.returncode, output
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        return -1, output + f"\ntimed out after {timeout} s"


def run_tap(counts, program, timeout, arguments=()):
    began = time.monotonic()
    code, output = run([str(program), *arguments], timeout, {"CMOCKA_MESSAGE_OUTPUT": "TAP"})
    ok = bad = 0
    for line in output.splitlines():
        m = TAP.match(line)
        if not m:
            continue
        name = f"{program.name}: {m.group(2) or ''}"
        if m.group(1) == "not ok":
            bad += 1
            counts.fail(name)
        elif "# SKIP" in line.upper():
            counts.skipped.append(name)
        else:
            ok += 1
    counts.passed += ok
    if code == 77 and ok == 0 and bad == 0:
        counts.skipped.append(f"{program.name}: {output.strip().splitlines()[-1] if output.strip() else 'no reason given'}")
    elif code != 0 and bad == 0:
        counts.fail(f"{program.name} (exit {code})", output[-6000:])
    elif bad:
        print(output[-6000:], flush=True)
    elif ok == 0:
        counts.fail(f"{program.name} ran no test", output[-2000:])
    print(f"  {program.name:<28} {ok:4} ok {bad:3} failed  {time.monotonic() - began:6.1f} s", flush=True)


def run_programs(counts, folder, timeout):
    programs = sorted(p for p in folder.glob("test_*") if os.access(p, os.X_OK) and p.suffix == "")
    if not programs:
        counts.fail(f"no programs in {folder}")
    for program in programs:
        run_tap(counts, program, timeout)


def run_fuzz(counts, build):
    fuzzers = sorted(p for p in (build / "fuzz").glob("fuzz_*") if os.access(p, os.X_OK) and p.suffix == "")
    if not fuzzers:
        counts.fail("no fuzz targets")
    for fuzzer in fuzzers:
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as scratch:
            corpus = ROOT / "tests/fuzz/corpus" / fuzzer.name.removeprefix("fuzz_")
            code, output = run([str(fuzzer), f"-runs={FUZZ_RUNS}", f"-artifact_prefix={scratch}/", "-verbosity=0",
                                "-print_final_stats=1", scratch, str(corpus)], 900)
            done = re.search(r"stat::number_of_executed_units:\s*(\d+)", output)
            executed = int(done.group(1)) if done else 0
            if code != 0 or executed < FUZZ_RUNS:
                counts.fail(f"{fuzzer.name} ({executed} executions, exit {code})", output[-4000:])
            else:
                counts.passed += 1
            print(f"  {fuzzer.name:<28} {executed} executions  {time.monotonic() - began:6.1f} s", flush=True)


def run_pytest(counts, build):
    with tempfile.TemporaryDirectory() as scratch:
        report = pathlib.Path(scratch) / "report.xml"
        code, output = run([sys.executable, "-m", "pytest", "-q", "-x" if os.environ.get("FIRST") else "-q", "-p", "no:cacheprovider",
                            "--durations=15", f"--junit-xml={report}", "tests/integration"], 1500,
                           {"HOLDFAST_BUILD": str(build.resolve()), "PYTHONDONTWRITEBYTECODE": "1"})
        print(output[-20000:], flush=True)
        if not report.exists():
            counts.fail("pytest", f"exit {code}, no report")
            return
        for suite in xml.etree.ElementTree.parse(report).getroot().iter("testsuite"):
            failed = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
            counts.failed += failed
            counts.passed += int(suite.get("tests", 0)) - failed - int(suite.get("skipped", 0))
            for case in suite.iter("testcase"):
                name = f"{case.get('classname')}.{case.get('name')}"
                if case.find("failure") is not None or case.find("error") is not None:
                    counts.failures.append(name)
                skip = case.find("skipped")
                if skip is not None:
                    counts.skipped.append(f"{name}: {skip.get('message')}")


def run_layering(counts):
    code, output = run([sys.executable, "tests/lib/layering.py"], 60)
    if code == 0:
        counts.passed += 1
    else:
        counts.fail("layering", output)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("what", nargs="+", choices=["all", "unit", "crash", "fuzz", "integration", "layering", "planted"])
    arguments = parser.parse_args()
    what = set(arguments.what)
    if "all" in what:
        what = {"unit", "crash", "fuzz", "integration", "layering", "planted"}
    counts = Counts()
    if "layering" in what:
        run_layering(counts)
    if "unit" in what:
        run_programs(counts, arguments.build / "unit", 180)
    if "crash" in what:
        run_programs(counts, arguments.build / "crash", 600)
    if "planted" in what:
        run_tap(counts, ROOT / "tests/crash/planted.py", 900, [str(arguments.build)])
    if "fuzz" in what:
        run_fuzz(counts, arguments.build)
    if "integration" in what:
        run_pytest(counts, arguments.build)
    for skipped in counts.skipped:
        print(f"skipped {skipped}")
    for failure in counts.failures:
        print(f"failed {failure}")
    print(f"{counts.passed} passed, {counts.failed} failed, {len(counts.skipped)} skipped")
    return 1 if counts.failed else 0


if __name__ == "__main__":
    sys.exit(main())
