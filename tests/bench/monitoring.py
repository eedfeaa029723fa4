# SPDX-License-Identifier: Apache-2.0
"""What 200 questions a second on the monitor socket cost ingest, and ten a second for the points of a source with thousands: section
"monitoring" of `make bench`. With them and without them take turns within a round, so that a noisy machine is noisy for both. The one
who asks runs on the same cores, and is part of the cost."""
import contextlib
import json
import statistics
import subprocess
import sys
import time

from rig import Daemon, load, run

AGENTS, MIB, TURNS = 8, 256, 6
QUESTIONS_PER_SECOND = 200
POINTS, LISTS_PER_SECOND, LISTED_SECONDS = 3600, 10, 5
IDLE_SECONDS = 3

VALUES = [  # name, unit, goal, better
    ("monitored_cost_percent", "%", 2, "lower"),
    ("monitored_cpu_cost_percent", "%", None, "lower"),
    ("monitored_idle_cpu_percent", "%", None, "lower"),
    ("monitored_answer_p99_ms", "ms", None, "lower"),
    ("listed_owner_ms", "ms", 0.1, "lower"),
    ("listed_ack_p99_ms", "ms", None, "lower"),
    ("unlisted_ack_p99_ms", "ms", None, "lower"),
    ("listed_answer_p99_ms", "ms", None, "lower"),
]


@contextlib.contextmanager
def asking(daemon, questions, per_second=QUESTIONS_PER_SECOND):
    """Gives a dictionary that is filled in at the end."""
    report = {}
    process = subprocess.Popen([daemon.build / "bench/bench_ask", daemon.runtime / "monitor.sock", str(per_second), *questions],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield report
        out, _ = process.communicate(timeout=30)
        report.update(json.loads(out))
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def run_load(daemon, agents):
    return load(daemon, agents, "--mode", "data", "--mib", MIB)


def measure_round(daemon, agents, questions, figures):
    """In pairs, each in the other order than the one before, and the median of the pairs: whatever drifts hits both of one."""
    slower, dearer = [], []
    for turn in range(TURNS):
        done = {}
        for monitored in (turn % 2 == 0, turn % 2 == 1):
            with asking(daemon, questions) if monitored else contextlib.nullcontext({}) as report:
                done[monitored] = run_load(daemon, agents)
            if monitored:
                figures.add("monitored_answer_p99_ms", report["p99_ms"])
        slower.append(1 - done[True]["gib_per_second"] / done[False]["gib_per_second"])
        dearer.append(done[True]["cpu_seconds_until_acked"] / done[False]["cpu_seconds_until_acked"] - 1)
    figures.add("monitored_cost_percent", 100 * statistics.median(slower))
    figures.add("monitored_cpu_cost_percent", 100 * statistics.median(dearer))


def measure_idle(daemon, questions, figures):
    with asking(daemon, questions):
        time.sleep(0.2)
        before, begun = daemon.cpu_seconds(), time.monotonic()
        time.sleep(IDLE_SECONDS)
        figures.add("monitored_idle_cpu_percent", 100 * (daemon.cpu_seconds() - before) / (time.monotonic() - begun))


def run_paced(daemon, agent, seconds, *arguments):
    return load(daemon, [agent], "--mode", "data", "--blocks", 1, "--rate", 500, "--seconds", seconds, *arguments)


def count_points(daemon, source):
    return len(json.loads(run(daemon.build / "holdfastctl", "--socket", daemon.runtime, "pit", "list", source, "--json"))["items"])


def make_points(daemon, agent, source):
    """A checkpoint in every turn: each is a point, as long as the journal window holds it."""
    while count_points(daemon, source) < POINTS:
        run_paced(daemon, agent, 3, "--checkpoint-seconds", 0.001)


def others_ns(daemon):
    """CPU time of all threads but that of the control sockets, which is the main one."""
    return sum(ns for thread, ns in daemon.thread_ns().items() if int(thread) != daemon.process.pid)


def measure_owner(daemon, list_of_points, figures):
    """What a list costs those who have other things to do."""
    daemon.settle()
    idle = others_ns(daemon)
    time.sleep(IDLE_SECONDS)
    before = others_ns(daemon)
    with asking(daemon, [list_of_points], LISTS_PER_SECOND):
        time.sleep(IDLE_SECONDS)
        after = others_ns(daemon)
    figures.add("listed_owner_ms", ((after - before) - (before - idle)) / 1e6 / (IDLE_SECONDS * LISTS_PER_SECOND))


def measure_listed(daemon, agent, list_of_points, figures):
    for turn in range(TURNS):
        for listed in (turn % 2 == 0, turn % 2 == 1):
            with asking(daemon, [list_of_points], LISTS_PER_SECOND) if listed else contextlib.nullcontext({}) as report:
                done = run_paced(daemon, agent, LISTED_SECONDS)
            figures.add("listed_ack_p99_ms" if listed else "unlisted_ack_p99_ms", done["ack_p99_ms"])
            if listed:
                figures.add("listed_answer_p99_ms", report["p99_ms"])


def measure(build, work, rounds, figures, note):
    daemon = Daemon(build, work)
    try:
        agents = [daemon.enroll("agent%d" % i) for i in range(AGENTS)]
        source = json.loads((agents[0] / "agent.json").read_text())["sourceServerID"]
        questions = ["/v1/source-servers", "/v1/source-servers/" + source, "/v1/health", "/metrics"]
        run_load(daemon, agents)  # what is made once is made
        for number in range(rounds):
            measure_round(daemon, agents, questions, figures)
            print("bench: round %d of %d" % (number + 1, rounds), file=sys.stderr)
        measure_idle(daemon, questions, figures)
        make_points(daemon, agents[0], source)
        list_of_points = "/v1/points-in-time?sourceServerID=" + source
        measure_owner(daemon, list_of_points, figures)
        measure_listed(daemon, agents[0], list_of_points, figures)
    finally:
        daemon.stop()
