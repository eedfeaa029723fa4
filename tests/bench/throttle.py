# SPDX-License-Identifier: Apache-2.0
"""How exactly a throttle is kept over ten seconds: section "throttle" of `make bench`."""
import json

from rig import Daemon, MIB, load, run

RATES = (8, 50, 400)  # Mbps
SECONDS = 10

VALUES = [("throttle_%d_mbps_off_by" % rate, "%", 5, "lower") for rate in RATES]


def off_by(daemon, state, rate):
    """Percent by which the bytes that became durable differ from what the throttle lets through in that time."""
    report = load(daemon, [state], "--mode", "data", "--mib", round(rate * 125000 * SECONDS / MIB))
    return 100 * abs(report["bytes"] / report["seconds"] / (rate * 125000) - 1)


def measure(build, work, rounds, figures, note):
    daemon = Daemon(build, work)
    try:
        for rate in RATES:
            state = daemon.enroll("at%d" % rate)
            source = json.loads((state / "agent.json").read_text())["sourceServerID"]
            run(daemon.build / "holdfastctl", "--socket", daemon.runtime, "throttle", "set", source, rate)
            figures.add("throttle_%d_mbps_off_by" % rate, off_by(daemon, state, rate))
            run(daemon.build / "holdfastctl", "--socket", daemon.runtime, "throttle", "set", source, "none")
    finally:
        daemon.stop()
