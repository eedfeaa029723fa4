# SPDX-License-Identifier: Apache-2.0
"""What an operator sees when something is wrong, or nothing is: the screens of docs/admin.md, on a terminal, with and without colour."""
import os
import pathlib
import threading

import pytest

import hfagent
from harness import BLOCK, IS_ROOT, MIB, random_bytes, ready_agent, wait_for
from hfagent import Volume
from screens import Page, fits, look, same_in_colour

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "admin.md"
NOBODY = 65534
IDENTITY_MISSING = 2


def protected(rig, daemon, name, size=64 * BLOCK, filled=1.0):
    """A source of one disk, so much of it here; the agent goes on to say that it is there."""
    identity = hfagent.enroll(("127.0.0.1", daemon.enroll_port), daemon.token(), rig.path("agent-" + name), hostname=name)
    agent = hfagent.Agent(identity)
    rig.on_end(agent.cut)
    data = random_bytes(rig.random, size)
    agent.open([Volume("root", "serial:" + name, size, device_name="/dev/sda", boot_disk=True)])
    agent.fill("root", data, blocks=int(size / BLOCK * filled))
    if filled == 1.0:
        agent.checkpoint("filesystem")
    agent.wait_ack()
    return agent


def keep_up(rig, agent):
    """Checkpoints follow one another, as long as the test lasts."""
    ending = threading.Event()

    def go_on():
        try:
            while not ending.wait(0.3):
                agent.checkpoint("filesystem")
        except hfagent.Closed:  # the test cut it
            pass

    thread = threading.Thread(target=go_on)
    thread.start()
    rig.on_end(thread.join)
    rig.on_end(ending.set)


def see(daemon, name, broken=False, **options):
    """Every screen of that name in the page is what the terminal shows, in colour too, and as wide as that; a line of
    check_holdfast is for a program, and as long as it is."""
    shown = Page(PAGE).shown
    widths = [columns for screen, columns in shown if screen == name]
    assert widths, "%s has no screen %s" % (PAGE, name)
    for columns in widths:
        command = shown[name, columns][0]
        text = look(PAGE, name, columns, daemon, **options)
        if command.startswith("check_holdfast"):
            continue
        fits(text, columns)
        if not broken:
            same_in_colour(daemon, command, columns, text)


def test_nothing_protected_yet(rig):
    daemon = rig.daemon()
    see(daemon, "nothing-yet")
    see(daemon, "nothing-yet-points")


def test_a_first_copy_under_way(rig):
    daemon = rig.daemon()
    agent = protected(rig, daemon, "db01", 2000 * BLOCK, filled=0.4)
    source = agent.identity.source_id
    wait_for(lambda: daemon.state(source) == "INITIAL_SYNC", 20, "INITIAL_SYNC")
    wait_for(lambda: daemon.source(source)["dataReplicationInfo"]["replicatedDisks"][0]["replicatedStorageBytes"] == 800 * BLOCK, 20, "what is acknowledged to be shown")
    assert "at 40 %" in daemon.ctl("status").stdout
    see(daemon, "first-copy")
    see(daemon, "first-copy-ready", exit_code=6)


def test_all_is_well(rig):
    daemon = rig.daemon()
    keep_up(rig, protected(rig, daemon, "db01"))
    idle = protected(rig, daemon, "web01").identity.source_id
    for source in daemon.sources():
        daemon.wait_ready(source["sourceServerID"])
        daemon.wait_state(source["sourceServerID"], "CONTINUOUS")
    wait_for(lambda: daemon.source(idle)["lag"]["consistentSeconds"] > 2, 10, "it to be the worst")
    see(daemon, "healthy")


def test_what_is_stopped_is_not_the_furthest_behind(rig):
    daemon = rig.daemon()
    for name in ("old", "new"):
        source = protected(rig, daemon, name).identity.source_id
        daemon.wait_ready(source)
        if name == "old":
            daemon.ctl("source", "stop", source, "--yes")
            daemon.wait_state(source, "STOPPED")
    assert ", of new\n" in daemon.ctl("status").stdout


def test_what_somebody_did_is_told_with_its_end(rig):
    daemon = rig.daemon()
    source = protected(rig, daemon, "db01").identity.source_id
    daemon.wait_ready(source)
    daemon.ctl("retention", "freeze", source)
    daemon.ctl("source", "pause", source)
    daemon.wait_state(source, "PAUSED")
    see(daemon, "paused-and-frozen")


def test_one_of_twenty_is_gone(rig):
    daemon = rig.daemon()
    agents = [protected(rig, daemon, "web%02d" % (n + 1)) for n in range(20)]
    for agent in agents:
        daemon.wait_ready(agent.identity.source_id)
        keep_up(rig, agent)
    gone = agents[6]
    gone.cut()
    daemon.wait_state(gone.identity.source_id, "DISCONNECTED")
    for agent in agents:
        if agent is not gone:
            daemon.wait_state(agent.identity.source_id, "CONTINUOUS")
    see(daemon, "one-gone")
    see(daemon, "one-gone-check", exit_code=1)


def test_a_disk_of_a_source_is_gone(rig):
    daemon = rig.daemon()
    agent = protected(rig, daemon, "db01")
    daemon.wait_ready(agent.identity.source_id)
    agent.volumes["root"].state = IDENTITY_MISSING
    agent.declare(list(agent.volumes.values()))
    daemon.wait_state(agent.identity.source_id, "STALLED")
    see(daemon, "source-disk-gone")


def test_what_an_agent_says_of_its_disk_and_its_server(rig):
    daemon = rig.daemon()
    disk = rig.file("disk", random_bytes(rig.random, MIB))
    agent = ready_agent(rig, daemon, {"sda": disk})
    swap = [("holdfast-agent status", "holdfast-agent status --state %s" % agent.state_dir), ("/dev/sda", str(disk)),
            ("192.0.2.10:1500", "127.0.0.1:%d" % daemon.port)]
    rig.path("away").mkdir()
    disk.rename(rig.path("away") / "disk")  # beside its old place it would be found
    daemon.wait_state(agent.source, "STALLED")
    see(daemon, "source-disk-gone-agent", broken=True, swap=swap)
    (rig.path("away") / "disk").rename(disk)
    daemon.wait_state(agent.source, "CONTINUOUS")
    daemon.stop()
    wait_for(lambda: "refused" in (agent.status()["lastError"] or "") and agent.status()["activity"] == "PASS", 20, "the agent to ask in vain")
    see(daemon, "daemon-down-agent", broken=True, swap=swap)


@pytest.mark.skipif(not IS_ROOT, reason="a file system of its own needs root")
def test_the_disk_is_full(rig):
    where, _, _ = rig.file_system("staging", 160 * MIB)
    (where / "data").mkdir()
    daemon = rig.daemon(data=where / "data", storage__segment_size="4MiB")
    agent = protected(rig, daemon, "db01", 4096 * BLOCK)
    source = agent.identity.source_id
    daemon.wait_ready(source)
    with open(where / "filler", "wb") as f:
        space = os.statvfs(where)
        os.posix_fallocate(f.fileno(), 0, space.f_bavail * space.f_frsize)
    rewriting = threading.Thread(target=rewrite, args=(rig, agent))
    rewriting.start()
    rig.on_end(rewriting.join)
    daemon.wait_state(source, "STALLED")
    wait_for(lambda: daemon.get("/v1/version")["stagingArea"]["state"] == "FULL", 60, "the staging area to be measured")
    see(daemon, "disk-full")
    agent.cut()


def rewrite(rig, agent):
    try:
        for block in range(0, 4096, 64):
            agent.write("root", block, random_bytes(rig.random, 64 * BLOCK))
        agent.wait_ack()
    except (hfagent.Closed, TimeoutError):  # there is no room, and then the test ends
        pass


def test_the_daemon_is_down(rig):
    daemon = rig.daemon(start=False)
    see(daemon, "daemon-down", broken=True, exit_code=3)
    see(daemon, "daemon-down-check", exit_code=2)


@pytest.mark.skipif(not IS_ROOT, reason="becoming somebody else needs root")
def test_no_permission(rig):
    daemon = rig.daemon()
    os.chmod(rig.path("."), 0o755)
    os.chmod(daemon.run_dir, 0o755)
    nobody = "setpriv --reuid=%d --regid=%d --clear-groups " % (NOBODY, NOBODY)
    see(daemon, "no-permission", broken=True, exit_code=5, prefix=nobody)
    see(daemon, "no-permission-check", exit_code=3, prefix=nobody)
