# SPDX-License-Identifier: Apache-2.0
"""Every command on a terminal of 80 columns: nothing runs over its edge, and what is listed can be told apart."""
import os

import pytest

import hfagent
from harness import BUILD, MIB, random_bytes, ready_agent, run
from screens import COLOUR, fits, on_terminal

LISTS = ["source list", "volume list", "pit list", "quota list", "throttle show", "scrub status"]
ASKING = ["status", *LISTS, "ready {0}", "ready {0} --max-lag 0s", "wait {0} --for ready", "wait {0} --for state=RESCAN --timeout 1s", "doctor",
          "source show {0}", "volume list {0}", "pit list {0}", "policy show {0}", "pit plan {0} --policy 1h/24h", "settings show", "throttle show {0}",
          "token list", "cert list", "ca show", "audit", "audit --verify", "events", "source show nobody", "pit delete pit-1", "fsck {1}",
          "--help", "pit --help", "export file --help", "sorce list", "source adopt {0}", "source delete {0}", "export file {0} --volume nothere -o {1}/x"]
CHANGING = ["source pause {0}", "pit create {0} --name now", "verify {0}", "source resume {0}", "retention freeze --all", "retention thaw --all",
            "scrub start --all", "scrub start {0} --wait", "verify {0} --wait", "export file {0} -o {1}/exported", "quota set {0} none --when-full default",
            "throttle set {0} 100 'Mon-Fri 08:00-18:00 20'", "throttle set {0} none",
            "policy set {0} 10m/60m 1h/24h 1d/7d --min-retention 1h", "settings set rpo-target=15m", "cert renew", "ca rotate", "ca retire --yes", "reload",
            "volume delete {0} nothere --yes"]


@pytest.fixture(name="agents", scope="module")
def agents_fixture(house):
    disks = [house.file("root%d" % n, random_bytes(house.random, MIB)) for n in range(2)]
    return [ready_agent(house, house.served, {"root": disk}) for disk in disks]


def shown(house, command, columns=80):
    env = {"HOLDFAST_SOCKET": str(house.served.run_dir)}
    text, code = on_terminal("holdfastctl " + command, columns, env)
    return COLOUR.sub("", text).replace("\x1b[K", ""), code


@pytest.mark.parametrize("command", ASKING + CHANGING)
def test_it_fits_a_narrow_terminal(house, agents, command):
    text, code = shown(house, command.format(agents[0].source, house.dir))
    assert code in (0, 1, 2, 4, 6) and text, "exit %d\n%s" % (code, text)
    fits(text, 80)


def test_lists_of_all_sources_tell_whose_a_line_is(house, agents):
    """By host name where there is no room for ids; both agents run here."""
    host = os.uname().nodename
    for command in ("cert list", "token list"):
        assert house.served.ctl(*command.split(), "-H", "-o", "host").stdout.splitlines().count(host) >= 2
    for command in ("volume list", "pit list"):
        text, _ = shown(house, command)
        head, *lines = text.splitlines()
        assert "HOST" in head and lines and all(host[:5] in line for line in lines), text
        assert house.served.ctl(*command.split(), "-H", "-o", "host").stdout.splitlines().count(host) >= 2
        text, _ = shown(house, "%s %s" % (command, agents[0].source), 200)
        assert "HOST" not in text


def test_an_unknown_volume_is_answered_with_where_they_are_listed(house, agents):
    done = house.served.ctl("export", "file", agents[0].source, "--volume", "nothere", "-o", house.path("nothere"), check=4)
    assert "holdfastctl volume list" in done.stderr


def test_a_sentence_is_one_line_for_scripts(house, agents):
    text = house.served.ctl("source", "pause", agents[0].source).stdout
    house.served.ctl("source", "resume", agents[0].source)
    assert len(text.splitlines()) == 1 and len(text) > 80


def test_where_there_is_no_source_lists_say_what_to_do(rig):
    daemon = rig.daemon()
    for command in ["status", *LISTS]:
        assert "holdfastctl token create" in daemon.ctl(*command.split()).stdout, command
        assert daemon.ctl(*command.split(), "-H").stdout == ""
    assert "env=prod" in daemon.ctl("status", "--tag", "env=prod").stdout


def test_of_many_that_are_not_well_the_first_are_told_and_how_to_see_the_others(rig):
    daemon = rig.daemon()
    for n in range(7):  # enrolled, and never heard of again
        hfagent.enroll(("127.0.0.1", daemon.enroll_port), daemon.token(), rig.path("agent%d" % n), hostname="web%d" % n)
    text = daemon.ctl("status").stdout
    assert text.count(" is INITIATING, for ") == 5 and "and 2 more: holdfastctl status -o name,state,reason\n" in text
    assert daemon.ctl("status", "-H", "-o", "name,state,reason").stdout.count("INITIATING") == 7
    assert "7 INITIATING\n" in text


def test_one_cause_is_told_once_however_many_sources_it_hits(rig):
    """holdfastd goes while all are changed one after the other; here its admin.sock is not there."""
    daemon = rig.daemon()
    for _ in range(3):
        rig.agent(daemon, {"root": rig.file(rig.unique("disk"), b"x" * 4096)})
    half = rig.path("half")
    half.mkdir()
    (half / "monitor.sock").symlink_to(daemon.run_dir / "monitor.sock")
    for command in (["retention", "freeze", "--all"], ["scrub", "start", "--all"]):
        done = run(BUILD / "holdfastctl", *command, "--socket", half, check=False)
        assert done.returncode == 3 and len(done.stderr.splitlines()) == 1, done.stderr
    assert daemon.ctl("scrub", "cancel", "--all", check=4).stderr == "holdfastctl: no scrub is under way\n"


def test_points_of_a_source_that_is_broken_do_not_hide_those_of_the_others(rig):
    daemon = rig.daemon()
    good, bad = (ready_agent(rig, daemon, {"root": rig.file(rig.unique("disk"), random_bytes(rig.random, MIB))}) for _ in range(2))
    for agent in (good, bad):
        agent.stop()
    daemon.stop()
    for file in (daemon.data / "sources" / bad.source).rglob("*"):
        if file.is_file():
            file.write_bytes(b"damaged" * 1000)
    daemon.start()
    daemon.wait_state(bad.source, "STALLED")
    done = daemon.ctl("pit", "list", "-H", "-o", "source", check=1)
    assert set(done.stdout.split()) == {good.source} and done.stderr.startswith("holdfastctl: %s: " % bad.source), done.stderr
    assert daemon.ctl("pit", "list", bad.source, check=1).stdout == ""
