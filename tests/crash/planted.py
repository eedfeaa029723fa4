#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Build the tests with bugs that can be switched on (-DPLANTS, storage/plant.h), switch each on, and expect it to be caught: by the
shortest workloads first, then by longer ones and by lives. Prints TAP.

usage: planted.py BUILD_DIR [NUMBER...]
"""
import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
PLANT = re.compile(r'X\((\d+),\s+"((?:[^"\\]|\\.|"\s*\\?\s*")+)"\)')
CRASH = [["crash/test_workloads", "--first", "--length", "2"], ["crash/test_workloads", "--first", "--every", "16"],
         ["crash/test_store_crash", "--first", "--seeds", "6", "--stride", "2"]]
# Looked at first: workloads of which it is known.
WORKLOAD = ["crash/test_workloads", "--first", "--replay"]
KEEPER = ["crash/test_store_crash", "--first", "--seed", "8", "--seeds", "1", "--stride", "2"]
LONG = ["crash/test_long_run", "--days", "6"]
SOONER = {19: [*WORKLOAD, "0", "vo"], 20: [*WORKLOAD, "0", "qo"], 24: [*WORKLOAD, "0", "vwo"], 30: LONG, 31: LONG, 40: KEEPER, 41: LONG,
          42: LONG, 46: KEEPER}
# Unit tests: the rules of history, what no cut shows but rot, a disk that fails, or somebody who comes between.
UNITS = {"pit": (22, 37), "recover": (25,), "mend": (34, 80, 81, 82), "fold": (35,), "merge": (43, 62), "store_merge": (47,),
         "retention": (48, 49, 50), "space": (51, 52, 53), "catalog": (54, 55, 64), "catalog_loss": (56, 57), "store": (58, 59),
         "faults": (60, 61), "discard": (63,), "scrub": (83, 84, 87), "store_scrub": (85, 86), "stream_end": (88, 89)}
SOONER.update({number: [f"unit/test_{name}"] for name, numbers in UNITS.items() for number in numbers})


def run(build, number, program, *more):
    return subprocess.run([str(build / program), *more], env={**os.environ, "PLANT": str(number)}, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="replace", timeout=600, check=False)


def caught_by(build, number):
    """The command that ends with violations (or dies on an assertion) with this bug; None: it is not seen."""
    sooner = [SOONER[number]] if number in SOONER else []
    for program, *more in sooner + CRASH:
        done = run(build, number, program, *more)
        if done.returncode != 0:
            said = re.search(r"VIOLATION[^:]*: (.*)", done.stdout)
            return " ".join([program, *more]) + (f": {said.group(1)}" if said else "")
    return None


def try_plant(build, plant):
    began = time.monotonic()
    return plant, caught_by(build, plant[0]), time.monotonic() - began


def main():
    build = pathlib.Path(sys.argv[1]) / "planted"
    programs = sorted({program for program, *_ in [*CRASH, *SOONER.values()]})
    subprocess.run(["make", "--no-print-directory", f"-j{os.cpu_count()}", f"BUILD={build}", "CFLAGS=-O2 -g -DPLANTS",
                    *(str(build / program) for program in programs)], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    wanted = {int(number) for number in sys.argv[2:]}
    plants = [(int(n), text) for n, text in PLANT.findall((ROOT / "storage/plant.h").read_text()) if not wanted or int(n) in wanted]
    missed = 0
    units = [program for program in programs if program.startswith("unit/")]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        alone = [name for name, done in zip(units, pool.map(lambda program: run(build, 0, program), units)) if done.returncode != 0]
        print(f"{'not ok' if alone else 'ok'} 1 - without a bug the tests pass {' '.join(alone)}", flush=True)
        for i, ((number, text), by, seconds) in enumerate(pool.map(lambda plant: try_plant(build, plant), plants), 2):
            missed += by is None
            print(f"{'ok' if by else 'not ok'} {i} - caught: {text} (PLANT={number})\n#   {seconds:.1f} s, {by or 'not caught'}", flush=True)
    print(f"1..{len(plants) + 1}")
    print(f"# {len(plants)} bugs planted, {missed} not caught")
    return 1 if missed or alone or not plants else 0


if __name__ == "__main__":
    sys.exit(main())
