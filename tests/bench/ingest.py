# SPDX-License-Identifier: Apache-2.0
"""What ingest costs beside the bare loop: section "ingest" of `make bench`."""
import json
import sys

from rig import Daemon, load, run

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


def floor(build, work):
    return json.loads(run(build / "bench" / "bench_floor", "--dir", work, "--mib", FLOOR_MIB))["cpu_per_gib"]


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


def measure(build, work, rounds, figures, note):
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
