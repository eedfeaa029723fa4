# SPDX-License-Identifier: Apache-2.0
"""Each manual page has every command, option, key, route and exit status of its program, and none that it has not. (Events:
test_events_page.py; metrics: test_metrics.py.)"""
import re

import pytest

from harness import BUILD, ROOT, run

PAGES = ROOT / "docs/man"
OPTION = re.compile(r"(?<![\w-])(--[a-z][a-z-]*|-[A-Za-z])(?![\w-])")
NOTHING = {"missing in the page": [], "not in the program": []}


def difference(page, program):
    assert program, "the test sees nothing of the program"
    return {"missing in the page": sorted(program - page), "not in the program": sorted(page - program)}


def section(page, name):
    return (PAGES / page).read_text().split("\n# %s\n" % name)[1].split("\n# ")[0]


def entries(text):
    """The lines that begin an entry, without the values of options: those are in bold, too, where there is a choice."""
    return [re.sub(r"\*[a-z0-9]+\*", "", line) if line.startswith("*-") else line for line in re.findall(r"(?m)^\*.*", text)]


def page_options(text):
    return {option for line in entries(text) if line.startswith("*-") for option in OPTION.findall(line)}


def help_of(program, *words):
    return run(BUILD / program, *words, "--help").stdout


def help_options(text):
    """In the columns on the left."""
    return {option for line in re.findall(r"(?m)^ {2,6}(-.*?)(?:  |$)", text) for option in OPTION.findall(line)}


def help_commands(program):
    """The commands of an overview: words in small letters at the beginning of its lines."""
    lines = help_of(program).split("Commands:\n")[1].split("\n\n")[0].splitlines()
    return {" ".join(w for w in re.match(r"  ((?:[a-z-]+ )*)", line).group(1).split()) for line in lines if line[2] != " "}


def exit_codes(path, pattern=r"\b(?:EXIT|CHECK)_[A-Z_]+ = (\d+)"):
    return {"0"} | set(re.findall(pattern, (ROOT / path).read_text()))


# ---- all pages ----

@pytest.mark.parametrize("page", sorted(page.stem for page in PAGES.glob("*.scd")))
def test_a_page_is_clean(page):
    done = run("mandoc", "-Tlint", BUILD / "man" / page, check=False)
    assert (done.returncode, done.stdout) == (0, "")


# ---- programs ----

@pytest.mark.parametrize("program,page", [("holdfastd", "holdfastd.8.scd"), ("check_holdfast", "check_holdfast.8.scd")])
def test_every_option_is_in_the_page(program, page):
    assert difference(page_options(section(page, "OPTIONS")), help_options(help_of(program))) == NOTHING


def test_every_command_of_holdfastctl_is_in_the_page():
    page = {words for line in entries(section("holdfastctl.1.scd", "COMMANDS")) for words in re.findall(r"\*([a-z]+(?: [a-z]+)?)\*", line)}
    commands = help_commands("holdfastctl")
    nouns = {command.split()[0] for command in commands}
    assert difference({words for words in page if words.split()[0] in nouns and (" " in words or words in commands)}, commands) == NOTHING
    first_words = {re.match(r"\*([a-z]+)", line).group(1) for line in entries(section("holdfastctl.1.scd", "COMMANDS"))}
    assert difference(first_words, nouns) == NOTHING


def test_every_option_of_holdfastctl_is_in_the_page():
    options = help_options(help_of("holdfastctl"))
    for command in help_commands("holdfastctl"):
        options |= help_options(help_of("holdfastctl", *command.split()))
    assert difference(page_options(section("holdfastctl.1.scd", "OPTIONS")), options) == NOTHING
    named = {option for line in re.findall(r"(?m)^\*[^-].*", section("holdfastctl.1.scd", "COMMANDS")) for option in re.findall(r"\*(--?[a-z-]+)\*", line)}
    assert named - {"--"} <= options


@pytest.mark.parametrize("words", [[], ["enroll"], ["run"], ["status"], ["list-disks"], ["thaw"]])
def test_the_help_of_the_agent_fits_a_terminal(words):
    assert max(len(line) for line in help_of("holdfast-agent", *words).splitlines()) <= 80


@pytest.mark.parametrize("command", ["enroll", "run", "status", "list-disks", "thaw"])
def test_every_option_of_the_agent_is_in_the_page(command):
    """Beneath the command, or beneath those that share them."""
    assert command in help_commands("holdfast-agent")
    options = help_options(help_of("holdfast-agent", command)) - {"--help"}
    parts = re.split(r"\n## (.*)\n", section("holdfast-agent.8.scd", "OPTIONS"))
    own = {name: page_options(text) for name, text in zip(parts[1::2], parts[2::2])}
    everywhere = set().union(*own.values())
    assert options <= everywhere
    assert own.get(command, set()) <= options


def test_the_agent_has_no_more_commands():
    page = {re.match(r"\*([a-z-]+)\*", line).group(1) for line in entries(section("holdfast-agent.8.scd", "COMMANDS"))}
    assert difference(page, help_commands("holdfast-agent")) == NOTHING


@pytest.mark.parametrize("page,path", [("holdfastctl.1.scd", "server/ctl/ctl.h"), ("holdfastd.8.scd", "server/arguments.h"),
                                       ("holdfast-agent.8.scd", "agent/options.h"), ("check_holdfast.8.scd", "server/check/check.h")])
def test_every_exit_status_is_in_the_page(page, path):
    assert difference(set(re.findall(r"(?m)^(?:\[\[|\|  )? ?\*(\d+)\*$", section(page, "EXIT STATUS"))), exit_codes(path)) == NOTHING


# ---- configuration and routes ----

def test_every_key_is_in_the_page():
    """In its section."""
    def keys(text, head, key):
        return {"%s.%s" % (name, word) for name, part in re.findall(r"(?ms)^%s\[(\w+)\]$(.*?)(?=^#|^\[|\Z)" % head, text) for word in re.findall(key, part)}

    empty = run(BUILD / "holdfastd", "-c", "/dev/null", "--print-config").stdout
    assert difference(keys((PAGES / "holdfastd.conf.5.scd").read_text(), "# SECTION ", r"(?m)^\*(\w+)\* ="), keys(empty, "", r"(?m)^(\w+) =")) == NOTHING


def test_every_route_is_in_the_page():
    code = {"%s %s" % route for route in re.findall(r"\{HTTP_(\w+), \"([^\"]+)\"", (ROOT / "server/api.c").read_text())}
    text = "\n".join(entries((PAGES / "holdfast-api.7.scd").read_text()))
    page = {"%s %s" % (method, re.sub(r"\{\w+\}", "*", path)) for method, path in re.findall(r"\*(GET|POST|PUT|PATCH|DELETE) (/[^*]+)\*", text)}
    assert difference(page, code) == NOTHING
