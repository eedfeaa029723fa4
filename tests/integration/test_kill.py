# SPDX-License-Identifier: Apache-2.0
"""Server and agent are killed at any moment, thirty times each. Everything resumes, what was acknowledged is not sent again,
and every point in time that is listed is a state the disk once was in."""
import time

import pytest

from harness import CREDIT, MIB, Refusal, first_difference, random_bytes, wait_for
from history import History
from tcp_proxy import TcpProxy

FILL_KILLS, STEADY_KILLS = 10, 20


@pytest.fixture(name="daemon")
def daemon_fixture(rig):
    """Small segments and a short window: rolling, building and folding never rest."""
    return rig.daemon(storage__segment_size="1MiB", pit__journal_window="3s", server__heartbeat_interval="500ms")


def a_random_moment(rig, most):
    time.sleep(rig.random.uniform(0, most))


def kill_server(daemon, agent):
    """Kill it and let everything resume."""
    check_resent(agent)
    daemon.restart("kill")
    daemon.wait_streaming(agent.source)
    agent.wait_connected()


def kill_agent(daemon, agent):
    agent.restart("kill")
    agent.wait_connected()


def check_resent(agent):
    """Since this was asked last, and so by one kill of the server at most, no more than the credit was sent again."""
    resent, before = agent.status()["resentBytes"], getattr(agent, "resent_before", 0)
    assert resent - before <= CREDIT
    agent.resent_before = resent


KILLS = pytest.mark.parametrize("kill", [kill_server, kill_agent])


@KILLS
def test_a_first_fill_goes_on_after_every_kill(rig, daemon, kill):
    disk = rig.file("disk", random_bytes(rig.random, 40 * MIB))
    agent = rig.agent(daemon, {"root": disk}, options=["--read-limit", "8MiB"]).start()
    daemon.wait_streaming(agent.source)
    kills_while_filling = 0
    for _ in range(FILL_KILLS):
        a_random_moment(rig, 0.6)
        kills_while_filling += daemon.source(agent.source)["newestPointInTime"] is None
        kill(daemon, agent)
    assert kills_while_filling >= FILL_KILLS // 2, "the fill was over too soon to be killed in"
    if kill == kill_server:
        check_resent(agent)
    agent.options = []  # the rest at full speed
    agent.restart("stop")
    daemon.wait_ready(agent.source)
    assert first_difference(disk, daemon.export(agent.source, "root", "latest")) is None
    agent.stop()


def wait_rest(agent):
    """Until the agent has nothing to send, or may not."""
    seen = []

    def rests():
        seen.append(agent.status()["sentBytes"])
        return len(seen) > 20 and len(set(seen[-20:])) == 1
    wait_for(rests, 10, "the agent to rest")


def test_what_is_sent_again_is_what_was_not_acknowledged(rig, daemon):
    """The server hears nothing until the agent has used up its credit, and then dies."""
    proxy = TcpProxy(("127.0.0.1", daemon.port))
    rig.on_end(proxy.close)
    disk = rig.file("disk", random_bytes(rig.random, 40 * MIB))
    agent = rig.agent(daemon, {"root": disk}, options=["--read-limit", "16MiB"]).go_through(proxy.port).start()
    wait_for(lambda: daemon.source(agent.source)["counters"]["durableBytes"] > 4 * MIB, 20, "some of the fill")
    proxy.swallow()
    wait_rest(agent)
    daemon.kill()
    proxy.swallow(False)
    daemon.start()
    daemon.wait_ready(agent.source)
    resent = agent.status()["resentBytes"]
    assert CREDIT // 2 < resent <= CREDIT  # less by what does not make a whole frame
    assert first_difference(disk, daemon.export(agent.source, "root", "latest")) is None
    agent.stop()


@KILLS
def test_points_are_true_after_every_kill(rig, daemon, kill):
    history = History(rig.path("disk"), 1024, rig.random)
    agent = rig.agent(daemon, {"root": history.path}).start()
    daemon.wait_ready(agent.source)
    rig.on_end(history.stop)
    history.start()
    named = []
    for i in range(STEADY_KILLS):
        a_random_moment(rig, 1.2)
        kill(daemon, agent)
        if i % 3 == 0:
            named.append(name_a_point(daemon, agent, history, "after-%d" % i))
        if len(named) > 3:
            forget_before(daemon, agent, named.pop(0)[0])
    if kill == kill_server:
        check_resent(agent)
    history.stop()
    named.append(name_a_point(daemon, agent, history, "end"))
    for point, written in named:
        assert check_point(rig, daemon, agent, history, point) >= written, "the point is older than its request"
    check_all_points(rig, daemon, agent, history)
    assert int(daemon.source(agent.source)["counters"]["baseLSN"]) > 0, "nothing was folded under the kills"
    assert first_difference(history.path, daemon.export(agent.source, "root", "end")) is None
    agent.stop()


def name_a_point(daemon, agent, history, name):
    """(point, number of writes that must be in it)."""
    with history.lock:
        written = len(history.writes)

    def point():
        try:
            return daemon.point(agent.source, name)
        except Refusal as refusal:
            if refusal.problem["code"] != "ENOTCONN":
                raise
            return None  # it has just been started again

    return wait_for(point, 10, "the agent to take a request"), written


def forget_before(daemon, agent, limit):
    """Delete what is kept up to a point, so that the base can move: folding goes on under the kills."""
    for point in daemon.points(agent.source):
        if point["kept"] and int(point["lsn"]) <= int(limit["lsn"]):
            try:
                daemon.request("DELETE", "/v1/points-in-time/%s" % point["pointInTimeID"], admin=True)
            except Refusal as refusal:
                assert refusal.status in (404, 409), refusal


def check_point(rig, daemon, agent, history, point):
    """The number of writes the point holds."""
    return history.check(daemon.export(agent.source, "root", point["pointInTimeID"], rig.path("check.img"), force=True))


def check_all_points(rig, daemon, agent, history):
    """Fuzzy ones must be readable, the others must be states of the disk, in order."""
    numbers = []
    for point in daemon.points(agent.source):
        to = rig.path("%s.img" % point["pointInTimeID"])
        try:
            daemon.export(agent.source, "root", point["pointInTimeID"], to)
        except AssertionError:
            if point["kept"] or point["pointInTimeID"] in [p["pointInTimeID"] for p in daemon.points(agent.source)]:
                raise
            continue  # it has left the window meanwhile
        if point["consistency"] != "fuzzy":
            numbers.append(history.check(to))
        to.unlink()
    assert numbers == sorted(numbers) and len(numbers) >= 3
