#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Measure holdfastd, in one run: beside the bare loop, what history costs (history.py), how exactly a throttle is
kept (throttle.py), and what monitoring costs (monitoring.py); write BUILD/bench.json and print a table.

usage: run.py --build DIR [--section ingest|history|throttle|monitoring] [--rounds N] [--keep]

A private holdfastd with a data directory of its own (under BUILD: the disk matters) is loaded by bench_load, between runs of
bench_floor, a round of everything after the other, so that a noisy machine is noisy for all. The server's CPU is that of its
process, kernel threads of its rings included, from before the load until the background work it caused is done; its writes are
what the kernel says it wrote. Every value is the median over the rounds. A value that could not be measured fails the run; a
goal that was missed is only shown.
"""
import argparse
import json
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

import history
import ingest
import monitoring
import throttle
from rig import Failed, Figures

SECTIONS = {"ingest": ingest, "history": history, "throttle": throttle, "monitoring": monitoring}


def measure(build, work, rounds, sections):
    """The figures, and the values that they are of."""
    figures, values = Figures(), []
    for name in sections:
        (work / name).mkdir()
        SECTIONS[name].measure(build, work / name, rounds, figures, figures.note)
        values += SECTIONS[name].VALUES
    return figures, values


def results_of(figures, values):
    return [{"name": name, "value": figures.median(name), "unit": unit, "goal": goal, "better": better,
             **({"note": figures.notes[name]} if name in figures.notes else {})} for name, unit, goal, better in values]


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
                                               "" if r["goal"] is None else "%g" % r["goal"], verdict(r), r.get("note", spread)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--section", choices=list(SECTIONS), action="append", help="this one alone")
    parser.add_argument("--keep", action="store_true", help="keep the data directory and the daemon's log")
    options = parser.parse_args()
    build = options.build.resolve()
    (build / "bench.json").unlink(missing_ok=True)  # no run, no figures
    work = pathlib.Path(tempfile.mkdtemp(prefix="bench-run-", dir=build))
    try:
        figures, values = measure(build, work, options.rounds, options.section or list(SECTIONS))
    except (Failed, OSError, subprocess.TimeoutExpired) as e:
        sys.exit("bench: %s" % e)
    finally:
        if not options.keep:
            shutil.rmtree(work, ignore_errors=True)
    results = results_of(figures, values)
    (build / "bench.json").write_text(json.dumps(results, indent=1) + "\n")
    print_table(results, figures)
    missing = [r["name"] for r in results if r["value"] is None]
    if missing:
        sys.exit("bench: not measured: " + ", ".join(missing))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench: ended"))
    main()
