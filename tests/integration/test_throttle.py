# SPDX-License-Identifier: Apache-2.0
"""A source is read no faster than it may be: at once, over restarts, and without cutting its session."""
import datetime
import json
import time

import pytest

from harness import MIB, Refusal, UnixConnection, random_bytes, wait_for

FRAME = MIB  # largest payload: what is counted when its last byte came
BURST = 256 * 1024
STALE = 0.5  # seconds by which the published counters may lag


def throttle(daemon, source):
    return daemon.source(source)["throttle"]


def metrics(daemon):
    connection = UnixConnection(daemon.run_dir / "monitor.sock", 20)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return text


def received(daemon, source):
    return daemon.source(source)["counters"]["receivedBytes"]


def check_rate(daemon, source, mbps, seconds):
    """Never more than that; how much less it is depends on how busy this machine is."""
    begun, before = time.monotonic(), received(daemon, source)
    wait_for(lambda: time.monotonic() - begun > seconds, seconds + 20, "the measured time to be over")
    bytes_read, elapsed = received(daemon, source) - before, time.monotonic() - begun
    assert bytes_read <= mbps * 125000 * (elapsed + STALE) + FRAME + BURST
    return bytes_read


def log_lines(daemon, event):
    return [line for line in daemon.program.log.read_text().splitlines() if "event=%s " % event in line]


def test_a_throttle_holds_at_once_without_cutting_the_session(rig):
    daemon = rig.daemon()
    agent = rig.agent(daemon, {"root": rig.file("disk", random_bytes(rig.random, 48 * MIB))})
    daemon.ctl("throttle", "set", agent.source, "40")
    agent.start()
    wait_for(lambda: received(daemon, agent.source) > 0, 20, "the first bytes")
    assert check_rate(daemon, agent.source, 40, 2) > 0
    daemon.ctl("throttle", "set", agent.source, "8")
    check_rate(daemon, agent.source, 8, 2)
    assert throttle(daemon, agent.source)["waitedSeconds"] > 0
    assert daemon.source(agent.source)["counters"]["receivedBytes"] < 48 * MIB
    daemon.ctl("throttle", "set", agent.source, "none")
    daemon.wait_ready(agent.source)
    waited = throttle(daemon, agent.source)["waitedSeconds"]
    assert throttle(daemon, agent.source) == {"bandwidthThrottling": 0, "windows": [], "bandwidthThrottlingNow": 0, "waitedSeconds": waited,
                                              "givesWay": False}
    assert len(log_lines(daemon, "session_welcome")) == 1
    assert [e["text"] for e in daemon.events("throttle_set")] == [
        "it is read at no more than 40 Mbps", "it is read at no more than 8 Mbps", "it is read as fast as it comes"]
    agent.stop()


def test_an_agent_that_was_sent_away_waits_for_no_throttle(rig):
    daemon = rig.daemon()
    agent = rig.agent(daemon, {"root": rig.file("disk", random_bytes(rig.random, 16 * MIB))})
    daemon.ctl("throttle", "set", agent.source, "8")
    agent.start()
    wait_for(lambda: throttle(daemon, agent.source)["waitedSeconds"] > 0, 20, "the throttle to be waited for")
    daemon.ctl("source", "stop", agent.source, "--yes")
    wait_for(lambda: not daemon.is_streaming(agent.source), 20, "the agent to be gone")
    waited, begun = throttle(daemon, agent.source)["waitedSeconds"], time.monotonic()
    wait_for(lambda: time.monotonic() - begun > 1, 20, "a second")
    assert throttle(daemon, agent.source)["waitedSeconds"] == waited


def throttle_of_today(daemon, source, today, other_days):
    """Mbps while one window has today, and another, before it, all other days."""
    while True:
        day = datetime.datetime.utcnow().date()
        others = ",".join((day + datetime.timedelta(n)).strftime("%a") for n in range(1, 7))
        daemon.ctl("throttle", "set", source, "50", "%s 00:00-24:00 %d" % (others, other_days), "Mon-Sun 00:00-24:00 %d" % today)
        now = throttle(daemon, source)["bandwidthThrottlingNow"]
        if datetime.datetime.utcnow().date() == day:
            return now


def test_a_throttle_and_its_windows_are_kept_and_shown(rig):
    daemon = rig.daemon()
    agent = rig.agent(daemon, {"root": rig.file("disk", b"x" * MIB)})
    windows = ["Mon-Fri 08:00-18:00 20", "Sat 22:00-06:00 0"]
    answer = daemon.ctl("throttle", "set", agent.source, "50", *windows).stdout
    assert "it is read at no more than 50 Mbps; but Mon-Fri 08:00-18:00 20; Sat 22:00-06:00 0" in answer
    daemon.restart()
    kept = throttle(daemon, agent.source)
    assert (kept["bandwidthThrottling"], kept["windows"]) == (50, windows)
    assert "see holdfastctl throttle show" in daemon.ctl("source", "show", agent.source).stdout
    table = daemon.ctl("throttle", "show").stdout
    assert agent.source in table and "50" in table and windows[0] in table
    shown = json.loads(daemon.ctl("throttle", "show", agent.source, "--json").stdout)["items"]
    assert [(item["sourceServerID"], item["throttle"]["windows"]) for item in shown] == [(agent.source, windows)]


def test_the_window_of_this_hour_holds_and_a_later_one_waits(rig):
    daemon = rig.daemon(env={"TZ": "UTC"})
    agent = rig.agent(daemon, {"root": rig.file("disk", b"x" * MIB)})
    day = (datetime.datetime.utcnow() + datetime.timedelta(days=3)).strftime("%a")
    daemon.ctl("throttle", "set", agent.source, "50", "%s 00:00-24:00 7" % day)
    assert throttle(daemon, agent.source)["bandwidthThrottlingNow"] == 50
    assert throttle_of_today(daemon, agent.source, 20, other_days=7) == 20
    assert 'holdfast_source_throttle_bytes_per_second{source="%s"} 2500000' % agent.source in metrics(daemon)
    daemon.ctl("throttle", "set", agent.source, "none")
    assert "holdfast_source_throttle_bytes_per_second{" not in metrics(daemon)


@pytest.mark.parametrize("body", [
    {}, {"bandwidthThrottling": -1}, {"bandwidthThrottling": 100001}, {"bandwidthThrottling": "8"},
    {"bandwidthThrottling": 8, "windows": "Mon 08:00-18:00 20"}, {"bandwidthThrottling": 8, "windows": ["Mon 8-18 20"]},
    {"bandwidthThrottling": 8, "windows": [20]}, {"bandwidthThrottling": 8, "windows": ["Mon 08:00-18:00 20"] * 17},
])
def test_what_is_no_throttle_is_refused_and_changes_nothing(house, body):
    if not house.served.sources():
        house.agent(house.served, {"root": house.file("disk", b"x" * MIB)})
    source = house.served.sources()[0]["sourceServerID"]
    with pytest.raises(Refusal) as refusal:
        house.served.request("POST", "/v1/source-servers/%s/throttle" % source, body, admin=True)
    assert refusal.value.status == 400
    assert throttle(house.served, source)["bandwidthThrottling"] == 0


def test_a_rate_that_is_none_is_a_mistake_of_usage(house):
    for rate in ("fast", "1.5", "8Mbps", ""):
        assert "whole number of Mbps" in house.served.ctl("throttle", "set", "s-1", rate, check=2).stderr
