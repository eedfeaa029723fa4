# SPDX-License-Identifier: Apache-2.0
"""What is said of lag, clocks and rates is true."""
import datetime
import glob
import re
import signal
import statistics
import subprocess
import time

import pytest

from faulty_disk import FaultyDisk
from harness import BUILD, IS_ROOT, MIB, SANITIZER, SLOW, first_difference, pick, random_bytes, ready_agent, wait_for
from tcp_proxy import TcpProxy

LAGS = ("receivedSeconds", "durableSeconds", "consistentSeconds")


def lags(daemon, source):
    lag = daemon.source(source)["lag"]
    return [lag[name] for name in LAGS]


def seconds_ago(timestamp):
    then = datetime.datetime.fromisoformat(timestamp.replace("Z", "+00:00"))
    return (datetime.datetime.now(datetime.timezone.utc) - then).total_seconds()


def test_an_agent_stopped_for_five_seconds_raises_all_lags_by_five(house):
    daemon = house.served
    disk = house.file("disk", random_bytes(house.random, 4 * MIB))
    agent = ready_agent(house, daemon, {"root": disk})
    wait_for(lambda: max(lags(daemon, agent.source)) < 3, 20, "the lags to be small")
    agent.program.signal(signal.SIGSTOP)
    before, stopped = lags(daemon, agent.source), time.monotonic()
    while time.monotonic() < stopped + 5:  # the five seconds are what is measured
        time.sleep(0.05)
    after, passed = lags(daemon, agent.source), time.monotonic() - stopped
    agent.program.signal(signal.SIGCONT)
    for name, x, y in zip(LAGS, before, after):
        assert abs(y - x - passed) <= 1, "%s went from %g to %g in %g s" % (name, x, y, passed)
    wait_for(lambda: max(lags(daemon, agent.source)) < 3 * SLOW, 20, "the lags to fall again")
    agent.stop()


def test_when_an_agent_was_seen_and_began_is_known_after_a_restart(rig):
    daemon = rig.daemon()
    agent = ready_agent(rig, daemon, {"root": rig.file("disk", random_bytes(rig.random, MIB))})
    connected = time.monotonic()
    wait_for(lambda: time.monotonic() - connected > 2, 20, "the agent to be seen for two seconds")
    agent.kill()
    daemon.wait_state(agent.source, "DISCONNECTED")
    before = daemon.source(agent.source)["lifeCycle"]
    daemon.restart("stop")
    daemon.wait_state(agent.source, "DISCONNECTED")
    source = daemon.source(agent.source)
    after, info = source["lifeCycle"], source["dataReplicationInfo"]
    assert before["firstByteDateTime"] is not None
    assert (after["firstByteDateTime"], after["lastSeenByServiceDateTime"]) == (before["firstByteDateTime"], before["lastSeenByServiceDateTime"])
    assert info["stateSinceDateTime"] == before["lastSeenByServiceDateTime"]
    assert info["dataReplicationInitiation"]["steps"][-1] == {"name": "START_DATA_TRANSFER", "status": "SUCCEEDED"}


def test_of_a_source_whose_data_cannot_be_opened_the_newest_point_is_unknown_and_not_never(rig):
    daemon = rig.daemon()
    agent = ready_agent(rig, daemon, {"root": rig.file("disk", random_bytes(rig.random, MIB))})
    agent.stop()
    daemon.stop()
    journal = daemon.data / "sources" / agent.source / "journal"
    journal.rename(journal.with_name("aside"))
    daemon.start()
    daemon.wait_state(agent.source, "STALLED")
    assert re.search(r"^newest point +unknown", daemon.ctl("source", "show", agent.source).stdout.replace("\n  ", "\n"), re.M)
    assert "never" not in daemon.ctl("status").stdout
    journal.with_name("aside").rename(journal)
    wait_for(lambda: "unknown" not in daemon.ctl("status").stdout, 90, "it to be opened")


def test_a_source_that_never_came_is_awaited_since_it_was_enrolled(rig):
    daemon = rig.daemon()
    agent = rig.agent(daemon, {"root": rig.file("disk", b"x" * MIB)})
    daemon.restart("stop")
    daemon.wait_state(agent.source, "INITIATING")
    source = daemon.source(agent.source)
    assert source["dataReplicationInfo"]["stateSinceDateTime"] == source["lifeCycle"]["addedToServiceDateTime"]


def test_the_lag_of_an_agent_that_is_gone_grows_with_the_clock(house):
    daemon = house.served
    disk = house.file("gone", random_bytes(house.random, MIB))
    agent = ready_agent(house, daemon, {"root": disk})
    agent.kill()
    killed, first = time.monotonic(), lags(daemon, agent.source)
    daemon.wait_state(agent.source, "DISCONNECTED")
    passed, now = time.monotonic() - killed, lags(daemon, agent.source)
    for x, y in zip(first, now):
        assert abs((y - x) - passed) < 1
    source = daemon.source(agent.source)
    assert source["ready"], "what it had can still be recovered"
    assert source["dataReplicationInfo"]["dataReplicationError"]["code"] == "AGENT_NOT_SEEN"
    daemon.ctl("ready", agent.source)
    daemon.ctl("ready", agent.source, "--max-lag", "1s", check=6)


def faketime(*offset):
    """What to put before a command whose wall clock is to be off (by FAKETIME=..., or as a file says at any time), and the monotonic one is
    not. (Not an environment for all: a program without the sanitizers hangs under their library and this one together.)"""
    library = next(iter(glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")), None)
    if library is None:
        pytest.skip("libfaketime is not installed")
    preload = [library]
    if SANITIZER:
        preload.insert(0, subprocess.run(["gcc", "-print-file-name=%s" % SANITIZER], capture_output=True, text=True, check=True).stdout.strip())
    return ["env", "LD_PRELOAD=" + ":".join(preload), *offset, "FAKETIME_DONT_FAKE_MONOTONIC=1", "DONT_FAKE_MONOTONIC=1"]


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_source_clock_that_is_an_hour_off_changes_nothing(house, hours):
    daemon = house.served
    disk = house.file("clock%d" % hours, random_bytes(house.random, 2 * MIB))
    agent = ready_agent(house, daemon, {"root": disk}, prefix=faketime("FAKETIME=%+dh" % hours))
    source = wait_for(lambda: (s := daemon.source(agent.source))["agent"]["clockOffsetSeconds"] and s, 10, "the offset to be measured")
    assert abs(source["agent"]["clockOffsetSeconds"] - 3600 * hours) < 2
    shown = re.search(r"clock +(\S+) (ahead of|behind) ours", daemon.ctl("source", "show", agent.source).stdout)
    assert shown[2] == ("ahead of" if hours > 0 else "behind") and re.match("1h00m|59m5[89]", shown[1])
    assert source["dataReplicationInfo"]["dataReplicationState"] == "CONTINUOUS"
    assert max(lags(daemon, agent.source)) < 3 * SLOW
    point = daemon.point(agent.source, "off-by-an-hour")
    assert abs(seconds_ago(point["timestamp"])) < 5 * SLOW
    assert first_difference(disk, daemon.export(agent.source, "root", "off-by-an-hour")) is None
    agent.stop()


@pytest.mark.parametrize("whose", ["source", "server"])
def test_a_clock_that_is_set_while_an_idle_source_replicates_changes_no_lag(rig, whose):
    """And when its agent then falls silent, the lag does not wait until the moment of its newest point has come."""
    clock = rig.path("clock")
    clock.write_text("+0")
    faked = faketime("FAKETIME_TIMESTAMP_FILE=%s" % clock, "FAKETIME_CACHE_DURATION=1")
    daemon = rig.daemon(prefix=faked if whose == "server" else ())
    agent = ready_agent(rig, daemon, {"root": rig.file("disk", random_bytes(rig.random, MIB))}, prefix=faked if whose == "source" else ())
    for jump, hours in ("+2h", 2), ("-1h", -1):
        clock.write_text(jump)
        offset = 3600 * (hours if whose == "source" else -hours)
        wait_for(lambda: abs(daemon.source(agent.source)["agent"]["clockOffsetSeconds"] - offset) < 2, 20, "the new offset")  # pylint: disable=cell-var-from-loop
        wait_for(lambda: max(lags(daemon, agent.source)) < 3, 10, "the lags to be small")
    agent.program.signal(signal.SIGSTOP)
    wait_for(lambda: min(lags(daemon, agent.source)) > 4, 20, "the lags to grow")
    daemon.wait_state(agent.source, "DISCONNECTED")
    wait_for(lambda: min(lags(daemon, agent.source)) > 10, 20, "the lags to grow further")
    agent.kill()


def test_a_server_that_slept_for_months_has_a_certificate_that_holds_when_it_wakes(rig):
    clock = rig.path("clock")
    clock.write_text("+0")
    daemon = rig.daemon(prefix=faketime("FAKETIME_TIMESTAMP_FILE=%s" % clock, "FAKETIME_CACHE_DURATION=1"))
    clock.write_text("+95d")
    wait_for(lambda: daemon.events("server_certificate_renewed"), 20, "a new certificate")


def test_a_server_that_stood_still_does_not_say_that_its_disk_did(rig):
    """All its clocks go ahead, as when it was stopped for so long."""
    clock = rig.path("clock")
    clock.write_text("+0")
    both_clocks = [word for word in faketime("FAKETIME_TIMESTAMP_FILE=%s" % clock, "FAKETIME_NO_CACHE=1") if "MONOTONIC" not in word]
    daemon = rig.daemon(prefix=both_clocks, server__heartbeat_interval="100ms")
    agent = ready_agent(rig, daemon, {"root": rig.file("disk", random_bytes(rig.random, MIB))})
    for times in range(1, 11):
        rig.path("ahead").write_text("+%d" % (40 * times))
        rig.path("ahead").rename(clock)
        wait_for(lambda: len(daemon.events("server_stood_still")) == times, 20, "it to be noticed")  # pylint: disable=cell-var-from-loop
    assert "state=STALLED" not in daemon.program.log.read_text()
    agent.kill()


def test_no_state_begins_in_the_future(rig):
    clock = rig.path("clock")
    clock.write_text("+2h")
    daemon = rig.daemon(prefix=faketime("FAKETIME_TIMESTAMP_FILE=%s" % clock, "FAKETIME_CACHE_DURATION=1"))
    agent = ready_agent(rig, daemon, {"root": rig.file("disk", random_bytes(rig.random, MIB))})

    def since():
        return seconds_ago(daemon.source(agent.source)["dataReplicationInfo"]["stateSinceDateTime"])

    assert since() < -3600
    clock.write_text("+0")
    wait_for(lambda: since() >= 0, 20, "it to have begun")
    wait_for(lambda: since() > 2, 20, "it to go on")


def test_when_an_agent_was_seen_is_the_last_time_anything_came_of_it(house):
    daemon = house.served
    agent = ready_agent(house, daemon, {"root": house.file("seen", random_bytes(house.random, MIB))})
    agent.program.signal(signal.SIGSTOP)
    wait_for(lambda: seconds_ago(daemon.source(agent.source)["lifeCycle"]["lastSeenByServiceDateTime"]) > 3, 20, "it to be old")
    assert daemon.source(agent.source)["dataReplicationInfo"]["dataReplicationState"] != "DISCONNECTED"
    agent.kill()


def test_a_server_clock_that_jumps_stops_expiry_until_it_is_right_again(rig):
    clock = rig.path("clock")
    clock.write_text("+0")
    daemon = rig.daemon(prefix=faketime("FAKETIME_TIMESTAMP_FILE=%s" % clock, "FAKETIME_CACHE_DURATION=1"))
    agent = ready_agent(rig, daemon, {"root": rig.file("disk", random_bytes(rig.random, MIB))})
    for jump, way in ("+1h", "ahead"), ("-1h", "back"):
        told = [len(daemon.events(name)) for name in ("retention_stopped", "retention_resumed")]
        clock.write_text(jump)
        wait_for(lambda: len(daemon.events("retention_stopped")) > told[0], 20, "its event")  # pylint: disable=cell-var-from-loop
        assert "gone %s by" % way in daemon.events("retention_stopped")[-1]["text"]
        wait_for(lambda: (now := daemon.source(agent.source)["retention"])["stopped"] and now["clocksDisagree"], 20, "it to be shown")
        assert "the clock of the server jumped" in daemon.ctl("status").stdout
        assert len(daemon.events("retention_resumed")) == told[1]
        clock.write_text("+0")
        wait_for(lambda: len(daemon.events("retention_resumed")) > told[1], 20, "its event")  # pylint: disable=cell-var-from-loop
        wait_for(lambda: not daemon.source(agent.source)["retention"]["stopped"], 20, "it to be shown no more")
        assert len(daemon.events("retention_stopped")) == told[0] + 1
    agent.stop()


def link_rate(passed, at):
    """Bytes per second that the link let through in the ten seconds before."""
    (t0, b0), (t1, b1) = [[p for p in passed if p[0] <= moment][-1] for moment in (at - 10, at)]
    return (b1 - b0) / (t1 - t0)


def test_a_link_of_one_megabyte_a_second_shows_that_rate(house):
    daemon = house.served
    disk = house.file("slow", random_bytes(house.random, 20 * MIB))
    proxy = TcpProxy(("127.0.0.1", daemon.port))
    house.on_end(proxy.close)
    proxy.limit(1_000_000)
    agent = house.agent(daemon, {"root": disk}).go_through(proxy.port).start()
    wait_for(lambda: proxy.forwarded_bytes > 1_000_000, 30, "the fill to begin")
    passed, shown = [], []  # (when, bytes that had passed by then); (when, the rate that was shown)

    def sample():
        passed.append((time.monotonic(), proxy.forwarded_bytes))
        shown.append((time.monotonic(), daemon.source(agent.source)["rates"]["bytesPerSecond10s"]))
        return proxy.forwarded_bytes > 16_000_000

    wait_for(sample, 40, "15 MB to have passed")
    rates = [(rate, link_rate(passed, at)) for at, rate in shown if at >= passed[0][0] + 10]
    off = statistics.median(abs(rate - true) / true for rate, true in rates)
    assert off < 0.1, rates
    source = daemon.source(agent.source)
    assert source["dataReplicationInfo"]["dataReplicationState"] == "INITIAL_SYNC" and not source["ready"]
    assert source["backlogBytes"] == pick(source, "dataReplicationInfo.replicatedDisks.0.backloggedStorageBytes") > 0
    wait_for(lambda: daemon.bottleneck(agent.source) == "NETWORK", 10, "the network to be named")
    assert re.search(r"held up by +NETWORK, \d+ % of the time", daemon.ctl("source", "show", agent.source).stdout)
    proxy.limit(None)
    daemon.wait_ready(agent.source)
    agent.stop()


def test_what_holds_a_source_up_is_named_and_nothing_when_nothing_does(house):
    daemon = house.served
    names = ("slow-disk", "throttled", "quick")
    slow, throttled, quick = (house.agent(daemon, {"root": house.file(name, random_bytes(house.random, 24 * MIB))}) for name in names)
    daemon.ctl("throttle", "set", throttled.source, "8")
    slow.start("--read-limit", "1MiB")
    throttled.start()
    quick.start()
    wait_for(lambda: daemon.bottleneck(slow.source) == "SOURCE_READ", 20, "the source's disk to be named")
    wait_for(lambda: daemon.bottleneck(throttled.source) == "THROTTLE", 20, "the throttle to be named")
    daemon.wait_ready(quick.source)
    wait_for(lambda: daemon.source(quick.source)["bottleneck"] and daemon.bottleneck(quick.source) is None, 30, "nothing to be named")
    for agent in slow, throttled, quick:
        agent.stop()
    wait_for(lambda: daemon.source(quick.source)["bottleneck"] is None, 10, "nothing to be measured any more")


@pytest.mark.skipif(not IS_ROOT, reason="loop devices need root")
def test_a_disk_of_the_source_that_hangs_is_named_while_it_does(rig):
    daemon = rig.daemon()
    disk = FaultyDisk(rig, rig.file("disk", random_bytes(rig.random, 64 * MIB)))
    agent = ready_agent(rig, daemon, {"root": rig.loop(disk.path)}, options=["--read-limit", "16MiB"])  # it reads nearly always
    disk.delay("read", 12)
    wait_for(lambda: daemon.bottleneck(agent.source) == "SOURCE_READ", 12, "its disk to be named")
    disk.heal()
    agent.kill()
