# SPDX-License-Identifier: Apache-2.0
"""What holdfastctl says to type next works when it is typed."""
import re
import shlex

import pytest

from harness import BUILD, MIB, random_bytes, ready_agent, run


@pytest.fixture(name="source", scope="module")
def source_fixture(house):
    return ready_agent(house, house.served, {"root": house.file("root", random_bytes(house.random, MIB))}).source


def suggested(text, where="next:"):
    """The command behind a word, wherever the line was broken."""
    found = re.search(where + r"[^\n]*?(holdfastctl [a-z]+ [a-z]+ \S+)", text)
    assert found, "nothing to type in\n" + text
    return found.group(1).rstrip(",;)")


def type_in(house, command):
    program, *words = shlex.split(command)
    done = run(BUILD / program, *words, "--socket", house.served.run_dir, check=False)
    assert done.returncode == 0, "%s: exit %d\n%s" % (command, done.returncode, done.stderr)


@pytest.mark.parametrize("verb, state", [("pause", "PAUSED"), ("stop", "STOPPED")])
def test_who_was_paused_or_stopped_goes_on(house, source, verb, state):
    for shown_by in (["status"], ["source", "show", source]):
        house.served.ctl("source", verb, source, *(["--yes"] if verb == "stop" else []))
        house.served.wait_state(source, state)
        type_in(house, suggested(house.served.ctl(*shown_by).stdout, "next:" if shown_by == ["status"] else "cure "))
        house.served.wait_streaming(source)
        assert house.served.state(source) != state


def test_a_refusal_names_what_to_do_first(house, source):
    house.served.ctl("source", "pause", source)
    for words in (["pit", "create", source, "--name", "now"], ["verify", source]):
        assert "holdfastctl source resume %s" % source in house.served.ctl(*words, check=1).stderr
    type_in(house, "holdfastctl source resume %s" % source)
    assert "holdfastctl source stop %s" % source in house.served.ctl("source", "delete", source, "--yes", check=1).stderr


def test_points_expire_again(house, source):
    for shown_by in (["status"], ["source", "show", source], ["policy", "show", source]):
        house.served.ctl("retention", "freeze", source)
        type_in(house, suggested(house.served.ctl(*shown_by).stdout, {"status": "next:", "source": "to end it", "policy": "frozen since"}[shown_by[0]]))
        assert house.served.source(source)["retention"]["frozenSinceDateTime"] is None


def test_how_far_a_verification_is_can_be_asked(house, source):
    type_in(house, suggested(house.served.ctl("verify", source).stdout, "how far it is:"))
