# SPDX-License-Identifier: Apache-2.0
"""A data directory that was put back from an older copy: the agents know better, and everything is compared."""
import os

from harness import first_difference, ready_agent, run, wait_for
from history import History

BLOCKS = 1024
READ_LIMIT = "2MiB"  # so that comparing takes two seconds: long enough to look at


def copy_data(daemon, to):
    """The data directory as it is, with the daemon stopped."""
    run("cp", "-a", "--sparse=always", daemon.data, to)
    return to


def put_back(daemon, saved, aside):
    os.rename(daemon.data, aside)
    os.rename(saved, daemon.data)


def error_of(daemon, source):
    return (daemon.source(source)["dataReplicationInfo"]["dataReplicationError"] or {}).get("code")


def ids_of(daemon, source):
    return {p["pointInTimeID"] for p in daemon.points(source)}


def live_until_copied(rig):
    """A source with a point, and a copy of the data directory of then: (daemon, history, agent, copy, its points)."""
    daemon = rig.daemon()
    history = History(rig.path("disk"), BLOCKS, rig.random)
    agent = ready_agent(rig, daemon, {"root": history.path}, options=["--read-limit", READ_LIMIT])
    history.write(30)
    daemon.point(agent.source, "kept")
    agent.program.signal(19)  # SIGSTOP: what the copy holds is what is listed now
    points = ids_of(daemon, agent.source)
    daemon.stop()
    saved = copy_data(daemon, rig.path("saved"))
    daemon.start()
    agent.program.signal(18)
    daemon.wait_streaming(agent.source)
    return daemon, history, agent, saved, points


def check_compared(daemon, history, agent, before):
    """It is told, no point is made before all was compared, and then it goes on."""
    wait_for(lambda: daemon.events("staging_went_back"), 30, "the event")
    wait_for(lambda: error_of(daemon, agent.source) == "STAGING_WENT_BACK", 30, "the error")
    points = ids_of(daemon, agent.source)
    now = daemon.source(agent.source)["dataReplicationInfo"]
    if (now["dataReplicationError"] or {}).get("code") == "STAGING_WENT_BACK":  # still
        assert now["dataReplicationState"] == "RESCAN" and points <= before
    daemon.wait_state(agent.source, "CONTINUOUS", seconds=60)
    assert error_of(daemon, agent.source) is None
    history.write(10)
    daemon.point(agent.source, "after")
    assert first_difference(history.path, daemon.export(agent.source, "root", "after")) is None
    assert history.check(daemon.export(agent.source, "root", "kept")) == 30
    names = {p.get("name") for p in daemon.points(agent.source)}
    assert "lost" not in names
    assert len(daemon.events("staging_went_back")) == 1


def test_an_agent_that_goes_on_compares_everything_before_there_is_a_new_point(rig):
    daemon, history, agent, saved, before = live_until_copied(rig)
    history.write(40)
    daemon.point(agent.source, "lost")
    daemon.stop()
    put_back(daemon, saved, rig.path("advanced"))
    daemon.start()
    check_compared(daemon, history, agent, before)
    agent.stop()


def test_an_agent_that_was_started_again_since_knows_it_too(rig):
    daemon, history, agent, saved, before = live_until_copied(rig)
    agent.restart("stop").wait_connected()
    history.write(40)
    daemon.point(agent.source, "lost")
    agent.stop()
    daemon.stop()
    put_back(daemon, saved, rig.path("advanced"))
    daemon.start()
    agent.start()
    check_compared(daemon, history, agent, before)
    agent.stop()


def test_a_directory_older_than_the_first_frame_is_noticed(rig):
    daemon = rig.daemon()
    history = History(rig.path("disk"), BLOCKS, rig.random)
    agent = rig.agent(daemon, {"root": history.path})
    daemon.stop()
    saved = copy_data(daemon, rig.path("saved"))
    daemon.start()
    agent.start()
    daemon.wait_ready(agent.source)
    daemon.stop()
    put_back(daemon, saved, rig.path("advanced"))
    daemon.start()
    wait_for(lambda: daemon.events("staging_went_back"), 30, "the event")
    daemon.wait_ready(agent.source)
    daemon.point(agent.source, "after")
    assert first_difference(history.path, daemon.export(agent.source, "root", "after")) is None
    agent.stop()


def test_kills_and_restarts_are_not_taken_for_it(rig):
    daemon = rig.daemon()
    history = History(rig.path("disk"), 256, rig.random)
    agent = ready_agent(rig, daemon, {"root": history.path})
    for how in ("kill", "stop", "kill"):
        history.write(5)
        agent.restart(how).wait_connected()
        daemon.point(agent.source, "p")
        daemon.restart(how)
        agent.wait_connected()
        daemon.wait_streaming(agent.source)
    daemon.point(agent.source, "after")
    assert first_difference(history.path, daemon.export(agent.source, "root", "after")) is None
    assert not daemon.events("staging_went_back")
    agent.stop()
