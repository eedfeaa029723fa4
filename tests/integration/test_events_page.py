# SPDX-License-Identifier: Apache-2.0
"""holdfast-events(7) lists every stable name there is, and none that there is not."""
import re

from harness import ROOT

PAGE = ROOT / "docs" / "man" / "holdfast-events.7.scd"
NAME = re.compile(r'"([a-z][a-z0-9]*(?:_[a-z0-9]+)*)"')
COMMENT = re.compile(r"/\*.*?\*/", re.S)
LOG = re.compile(r"(?<![A-Za-z0-9_])log_(?:err|warning|notice|info|debug|line)\s*\(")

# Functions that take the name of an event that is kept, and which of their arguments it is.
KEEPERS = {"server_event": 2, "link_notice": 1, "link_add_notice": 1, "postpone": 1}
# Arguments that hand on a name which is a literal elsewhere, or an agent's own.
HANDED_ON = {"event", "m.event", "const char *event", "v->event"}
# Functions that name events in what they return, or put them into a record.
NAMERS = (re.compile(r"\nevent_of\(.*?\n}", re.S), re.compile(r"snprintf\(event\.event[^;]*;", re.S),
          re.compile(r"(?<=\"event\", )\"[a-z]+_[a-z_]+\""), re.compile(r"(?<=\.event = )\"[a-z]+_[a-z_]+\""))


def sources(*folders):
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.c")):
            yield path, COMMENT.sub("", path.read_text())


def arguments(text, at):
    """The arguments of the call whose parenthesis is open at `at`; parentheses in strings are in pairs, or our own fault."""
    out, depth, begin, quoted = [], 0, at, False
    for i in range(at, len(text)):
        c = text[i]
        if c == '"' and text[i - 1] != "\\":
            quoted = not quoted
        if quoted:
            continue
        if c in "([{":
            depth += 1
        elif c in ")]}":
            if depth == 0:
                return out + [text[begin:i].strip()]
            depth -= 1
        elif c == "," and depth == 0:
            out.append(text[begin:i].strip())
            begin = i + 1
    raise AssertionError("a call without an end")


def names_in(argument, where):
    found = NAME.findall(argument)
    assert found or argument in HANDED_ON or argument.startswith("event_of("), "%s: how is this event named: %s" % (where, argument)
    return set(found)


def logged(*folders):
    names = set()
    for path, text in sources(*folders):
        for call in LOG.finditer(text):
            names |= names_in(arguments(text, call.end())[1 if "line" in call.group() else 0], path.name)
    return names


def kept():
    names = set()
    for path, text in sources("server", "storage", "agent"):
        for function, at in KEEPERS.items():
            for call in re.finditer(r"(?<![A-Za-z0-9_])%s\s*\(" % function, text):
                names |= names_in(arguments(text, call.end())[at], path.name)
        for namer in NAMERS:
            for match in namer.finditer(text):
                names |= set(NAME.findall(match.group()))
    return names


def listed(section):
    """The names that one section of the page explains: paragraphs that begin with nothing but names."""
    text = PAGE.read_text().split("\n# %s\n" % section)[1].split("\n# ")[0]
    return {name for row in re.findall(r"^\*([a-z0-9_, *]+)\*$", text, re.M) for name in row.replace("*", "").split(", ")}


def difference(page, code):
    return {"missing in the page": sorted(code - page), "not in the code": sorted(page - code)}


NOTHING = {"missing in the page": [], "not in the code": []}


def test_every_event_that_is_kept_is_in_the_page():
    assert difference(listed("EVENTS"), kept()) == NOTHING


def test_every_line_of_holdfastd_is_in_the_page():
    assert difference(listed("LOG OF HOLDFASTD") | listed("EVENTS"), logged("server", "storage") | kept()) == NOTHING
    assert not listed("LOG OF HOLDFASTD") & kept() - logged("server", "storage")


def test_every_line_of_the_agent_is_in_the_page():
    assert difference(listed("LOG OF HOLDFAST-AGENT"), logged("agent")) == NOTHING


def test_the_test_sees_names():
    """It would pass for any page if it found nothing."""
    assert {"session_welcome", "disconnected", "connect_failed"} <= logged("server", "agent")
    assert {"ready", "not_ready", "volume_moved", "freeze_failed", "volume_shrunk", "source_enrolled", "enroll_refused"} <= kept()
