# SPDX-License-Identifier: Apache-2.0
"""What 200 questions a second on the monitor socket cost ingest: section "monitoring" of `make bench`. With them and without them take
turns within a round, so that a noisy machine is noisy for both. The one who asks runs on the same cores, and is part of the cost."""
import contextlib
import json
import statistics
import subprocess
import sys
import time

from rig import Daemon, load

AGENTS, MIB, TURNS = 8, 128, 3
QUESTIONS_PER_SECOND = 200
IDLE_SECONDS = 3

VALUES = [  # name, unit, goal, better
    ("monitored_cost_percent", "%", 2, "lower"),
    ("monitored_cpu_cost_percent", "%", None, "lower"),
    ("monitored_idle_cpu_percent", "%", None, "lower"),
    ("monitored_answer_p99_ms", "ms", None, "lower"),
]

# Asks until its standard input ends, at a steady pace, over one connection; prints how it went.
ASKER = r"""
import json, select, socket, sys, time
path, rate, questions = sys.argv[1], float(sys.argv[2]), sys.argv[3:]
requests = [("GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % q).encode() for q in questions]
s = socket.socket(socket.AF_UNIX)
s.connect(path)
buffer, times, begun, n = bytearray(1 << 22), [], time.monotonic(), 0
while not select.select([sys.stdin], [], [], max(0, begun + n / rate - time.monotonic()))[0]:
    asked = time.monotonic()
    s.sendall(requests[n % len(requests)])
    have = end = 0
    while have == 0 or have < end:
        have += s.recv_into(memoryview(buffer)[have:])
        if end == 0 and (at := buffer.find(b"\r\n\r\n", 0, min(have, 1024))) >= 0:
            head = bytes(buffer[:at]).lower()
            assert head.startswith(b"http/1.1 200"), head
            end = at + 4 + int(head.split(b"content-length:")[1].split(b"\r\n")[0])
    times.append(time.monotonic() - asked)
    n += 1
times.sort()
print(json.dumps({"rate": n / (time.monotonic() - begun), "p99_ms": 1000 * times[int(len(times) * 0.99)]}))
"""


@contextlib.contextmanager
def asking(daemon, questions):
    """Gives a dictionary that is filled in at the end."""
    report = {}
    process = subprocess.Popen([sys.executable, "-c", ASKER, daemon.runtime / "monitor.sock", str(QUESTIONS_PER_SECOND), *questions],
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
    """In pairs, each in the other order than the one before: whatever drifts hits both."""
    rates, cpu = {True: [], False: []}, {True: [], False: []}
    for turn in range(TURNS):
        for monitored in (turn % 2 == 0, turn % 2 == 1):
            with asking(daemon, questions) if monitored else contextlib.nullcontext({}) as report:
                done = run_load(daemon, agents)
            rates[monitored].append(done["gib_per_second"])
            cpu[monitored].append(done["cpu_seconds_until_acked"])
            if monitored:
                figures.add("monitored_answer_p99_ms", report["p99_ms"])
    figures.add("monitored_cost_percent", 100 * (1 - statistics.median(rates[True]) / statistics.median(rates[False])))
    figures.add("monitored_cpu_cost_percent", 100 * (statistics.median(cpu[True]) / statistics.median(cpu[False]) - 1))


def measure_idle(daemon, questions, figures):
    with asking(daemon, questions):
        time.sleep(0.2)
        before, begun = daemon.cpu_seconds(), time.monotonic()
        time.sleep(IDLE_SECONDS)
        figures.add("monitored_idle_cpu_percent", 100 * (daemon.cpu_seconds() - before) / (time.monotonic() - begun))


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
    finally:
        daemon.stop()
