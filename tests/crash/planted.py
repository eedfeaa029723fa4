#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Build the store's crash test with bugs that can be switched on (-DPLANTS), switch each on, and expect it to be caught. Prints TAP.

usage: planted.py BUILD_DIR
"""
import os
import pathlib
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

ROOT = pathlib.Path(__file__).resolve().parents[2]
PLANT = re.compile(r'X\((\d+), "([^"]+)"\)')


def caught(program, number):
    """True when the run with this bug ends with violations (or dies on an assertion)."""
    for seed in (1, 2, 3, 4, 5, 6):
        done = subprocess.run([str(program), str(seed)], env={**os.environ, "PLANT": str(number)}, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, errors="replace", timeout=600)
        if done.returncode != 0:
            return True
    return False


def main():
    build = pathlib.Path(sys.argv[1]) / "planted"
    cflags = os.environ.get("CFLAGS", "-O2 -g") + " -DPLANTS"
    subprocess.run(["make", "--no-print-directory", "-j2", f"BUILD={build}", f"CFLAGS={cflags}", str(build / "crash/test_store_crash")],
                   check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    program = build / "crash/test_store_crash"
    plants = [(int(n), text) for n, text in PLANT.findall((ROOT / "storage/plant.h").read_text())]
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda plant: caught(program, plant[0]), plants))
    for i, ((number, text), ok) in enumerate(zip(plants, results), 1):
        print(f"{'ok' if ok else 'not ok'} {i} - caught: {text} (PLANT={number})")
    print(f"1..{len(plants)}")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
