# SPDX-License-Identifier: Apache-2.0
"""Every command on a terminal of 80 columns: nothing runs over its edge, and what is listed can be told apart."""
import os
import re

import pytest

import hfagent
from harness import BUILD, MIB, random_bytes, ready_agent, run, wait_for
from screens import COLOUR, fits, on_terminal

LISTS = ["source list", "volume list", "pit list", "quota list", "throttle show", "scrub status"]
ASKING = ["status", *LISTS, "ready {0}", "ready {0} --max-lag 0s", "wait {0} --for ready", "wait {0} --for state=RESCAN --timeout 1s", "doctor",
          "source show {0}", "volume list {0}", "pit list {0}", "policy show {0}", "pit plan {0} --policy 1h/24h", "settings show", "throttle show {0}",
          "token list", "cert list", "ca show", "audit", "audit --verify", "events", "source show nobody", "pit delete pit-1", "fsck {1}",
          "--help", "pit --help", "export file --help", "sorce list", "status -o bogus", "source adopt {0}", "source delete {0}", "export file {0} --volume nothere -o {1}/x"]
CHANGING = ["source pause {0}", "pit create {0} --name now", "verify {0}", "source resume {0}", "retention freeze --all", "retention thaw --all",
            "scrub start --all", "scrub start {0} --wait", "verify {0} --wait", "export file {0} -o {1}/exported", "quota set {0} none --when-full default",
            "throttle set {0} 100 'Mon-Fri 08:00-18:00 20'", "throttle set {0} none",
            "policy set {0} 10m/60m 1h/24h 1d/7d --min-retention 1h", "settings set rpo-target=15m", "cert renew", "ca rotate", "ca show", "ca retire --yes", "reload",
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


# What is typed wrongly, or at the wrong time: exit code, and what it says, wherever its lines are broken.
SERVER, TOKEN = "--server 127.0.0.1:{enroll}", "--token {token} --volume data={disk}"
AT_THE_SOURCE = [
    ("enroll " + SERVER, 2, "type 'holdfastctl token create' on the server"),
    ("enroll " + SERVER + " --token hf1.x", 2, "paste the whole line that 'holdfastctl token create' printed"),
    ("enroll " + SERVER + " --token {token}", 2, "Name them with --volume NAME=PATH"),
    ("enroll " + SERVER + " --token {token} --volume data=/nowhere", 1, "volume data: /nowhere: No such file or directory"),
    ("enroll " + SERVER + " --token {token} --volume data=/etc", 1, "/etc is neither a disk nor an image file"),
    ("enroll " + SERVER + " --token {expired} --volume data={disk}", 5, "expired at ... to cure it: holdfastctl token create"),
    ("enroll " + SERVER + " --token {foreign} --volume data={disk}", 3, "this server's CA is not the one the token names"),
    ("enroll --server 127.0.0.1:{data} " + TOKEN, 3, "this is the server's port for data; enrolment has another, usually 1501"),
    ("enroll --server 127.0.0.1:1 " + TOKEN, 3, "the token is still good; the last trouble was: connect: Connection refused"),
    ("enroll --server 127.0.0.1:1,nosuch.invalid " + TOKEN, 3, "connect: Connection refused (is holdfastd running there?) Asking nosuch.invalid:1501"),
    ("enrol", 2, "there is no command 'enrol'; try --help"),
    ("run --intreval", 2, "'--intreval' means nothing to this command; try --help"),
    ("run -xy", 2, "'-x' means nothing to this command; try --help"),
    ("run --interval", 2, "--interval wants a value; try --help"),
    ("run --progress loud", 2, "--progress is auto, bar, plain, lines or none, not 'loud'; try --help"),
    ("status", 3, "no agent is running on {state} (systemctl start holdfast-agent)"),
    ("list-disks", 0, "NO DISK"),
    ("list-disks >/dev/full", 1, "standard output: No space left on device"),
]


@pytest.mark.parametrize("command, code, says", AT_THE_SOURCE)
def test_the_agent_says_what_is_wrong_and_what_to_do(house, command, code, says):
    token = house.served.token()
    words = {"enroll": house.served.enroll_port, "data": house.served.port, "token": token, "foreign": token[:-64] + "0" * 64,
             "disk": house.file("typed", b"x" * 4096), "state": house.path("typed-state")}
    if "{expired}" in command:
        words["expired"] = house.served.token(lifetime="1s")
        wait_for(lambda: "EXPIRED" in house.served.ctl("token", "list").stdout, 10, "the token to expire")
    state = " --state {state}" if command.split()[0] in ("enroll", "status") else ""
    text, seen = on_terminal("holdfast-agent " + (command + state).format(**words), 80)
    fits(text, 80)
    assert seen == code, text
    assert all(part in " ".join(text.split()) for part in says.format(**words).split(" ... ")), text


def test_who_answers_nothing_is_answered_on_a_line_of_its_own(house, agents):
    """Ctrl-D behind the question."""
    enroll = "holdfast-agent enroll --server 127.0.0.1:%d --token %s --state %s" % (
        house.served.enroll_port, house.served.token(), house.path("silent"))
    for command, question in (("holdfastctl source stop %s" % agents[0].source, "Go on? [y/N]"), (enroll, "or numbers:")):
        text, code = on_terminal(command, 80, {"HOLDFAST_SOCKET": str(house.served.run_dir)}, typed="\x04")
        assert code == 2 and re.search(re.escape(question) + r" *\n(holdfastctl|holdfast-agent): nothing was", text), text


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


def test_settings_tell_whole_what_they_mean(house, agents):
    narrow, wide = (shown(house, "settings show", columns)[0] for columns in (80, 200))
    assert len(narrow.splitlines()) > len(wide.splitlines()) and "MEANING" in wide and "MEANING" not in narrow
    for line in wide.splitlines()[1:]:
        meaning = line[wide.index("MEANING"):]
        assert meaning in " ".join(narrow.split()), narrow


def test_windows_of_a_throttle_are_told_whole(house, agents):
    window = "Mon-Fri 08:00-18:00 20"
    house.served.ctl("throttle", "set", agents[0].source, "100", window, "Sat-Sun 00:00-24:00 0")
    narrow, _ = shown(house, "throttle show")
    house.served.ctl("throttle", "set", agents[0].source, "none")
    lines = narrow.splitlines()
    assert len(lines) == 4 and window in narrow and sum(line.startswith("    ") for line in lines) == 1, narrow


def test_what_was_stopped_is_apart_from_the_table(house, agents):
    house.served.ctl("retention", "freeze", "--all")
    text, _ = shown(house, "status")
    house.served.ctl("retention", "thaw", "--all")
    assert "holdfastctl retention thaw --all\n\nNAME " in text, text


def test_an_unknown_volume_is_answered_with_where_they_are_listed(house, agents):
    done = house.served.ctl("export", "file", agents[0].source, "--volume", "nothere", "-o", house.path("nothere"), check=4)
    assert "holdfastctl volume list" in done.stderr


def test_a_sentence_is_one_line_for_scripts(house, agents):
    text = house.served.ctl("source", "pause", agents[0].source).stdout
    house.served.ctl("source", "resume", agents[0].source)
    assert len(text.splitlines()) == 1 and len(text) > 80


def test_the_agent_says_why_a_disk_of_it_is_not_replicated(rig):
    daemon = rig.daemon()
    disk = rig.file("disk", random_bytes(rig.random, MIB))
    agent = ready_agent(rig, daemon, {"a-volume-with-quite-a-long-name": disk})
    rig.path("away").mkdir()
    disk.rename(rig.path("away") / "disk")  # beside its old place it would be found
    daemon.wait_state(agent.source, "STALLED")
    text, code = on_terminal("holdfast-agent status --state %s" % agent.state_dir, 80)
    fits(text, 80)
    assert code == 0 and "volume a-volume-with-quite-a-long-name: its disk was not found on the source" in " ".join(text.split()), text
    fits(on_terminal("holdfastctl source show %s" % agent.source, 80, {"HOLDFAST_SOCKET": str(daemon.run_dir), "NO_COLOR": "1"})[0], 80)
    assert "next: look at its disk on the source: holdfast-agent status" in " ".join(daemon.ctl("status").stdout.split())


def test_the_agent_says_since_when_it_is_without_its_server_and_why(rig):
    daemon = rig.daemon()
    agent = ready_agent(rig, daemon, {"root": rig.file("disk", random_bytes(rig.random, MIB))})
    daemon.stop()
    wait_for(lambda: not agent.is_connected() and "refused" in agent.status()["lastError"], 20, "the agent to ask in vain")
    since = agent.status()["disconnectedSince"]
    text, code = on_terminal("holdfast-agent status --state %s" % agent.state_dir, 80)
    fits(text, 80)
    assert code == 0 and "(not connected)" in text and re.search(r"^Since +%s$" % re.escape(since), text, re.MULTILINE), text
    assert re.search(r"^Trouble +connect: Connection refused \(is holdfastd running there\?\)$", text, re.MULTILINE), text
    daemon.start()
    wait_for(agent.is_connected, 40, "the agent to be back")
    assert agent.status()["disconnectedSince"] is None


def test_where_there_is_no_source_lists_say_what_to_do(rig):
    daemon = rig.daemon()
    for command in ["status", *LISTS]:
        assert "holdfastctl token create" in daemon.ctl(*command.split()).stdout, command
        assert daemon.ctl(*command.split(), "-H").stdout == ""
    assert "env=prod" in daemon.ctl("status", "--tag", "env=prod").stdout


def test_of_a_source_without_volumes_none_is_asked_for(rig):
    daemon = rig.daemon()
    hfagent.enroll(("127.0.0.1", daemon.enroll_port), daemon.token(), rig.path("agent"), hostname="web01")
    said = daemon.ctl("export", "file", "web01", "-o", rig.path("x"), check=4).stderr
    assert "no volume of this source is known now: " in said and "which volume" not in said, said


def test_machines_with_long_names_can_be_told_apart(rig):
    daemon = rig.daemon()
    for n in range(2):
        hfagent.enroll(("127.0.0.1", daemon.enroll_port), daemon.token(), rig.path("agent%d" % n), hostname="database-%d.example.com" % n)
    for command in ("status", "source list"):
        text = on_terminal("holdfastctl " + command, 80, {"HOLDFAST_SOCKET": str(daemon.run_dir), "NO_COLOR": "1"})[0]
        fits(text, 80)
        lines = [line for line in text.splitlines() if line.startswith("database-") and " is " not in line]
        assert sorted(line[:10] for line in lines) == ["database-0", "database-1"], text


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
