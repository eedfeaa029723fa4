# SPDX-License-Identifier: Apache-2.0
"""holdfastctl completion, and that of the other programs: what real shells offer, with a daemon and without one."""
import re
import shutil
import tempfile

import pytest

from harness import BUILD, ROOT, ready_agent, run

SHELLS = {
    # What Tab would show after a command line, one candidate a line.
    "bash": """source <(PROGRAM completion bash)
read -ra COMP_WORDS <<<"$1"; [[ $1 != *' ' ]] || COMP_WORDS+=('')
COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _PROGRAM; printf '%s\\n' "${COMPREPLY[@]}" """,
    "zsh": """compdef() { :; }; _describe() { print -l -- "${found[@]%%:*}" }; _files() { }
source <(PROGRAM completion zsh)
words=(${(s: :)1}); [[ $1 != *' ' ]] || words+=(''); CURRENT=$#words; _PROGRAM""",
    "fish": """PROGRAM completion fish | source; complete -C "$argv[1]" | string replace -r '\\t.*' '' """,
}


@pytest.fixture(name="shell", params=list(SHELLS))
def shell_fixture(request):
    if shutil.which(request.param) is None:
        pytest.skip("%s is not installed" % request.param)
    return request.param


def offered(shell, line):
    script = SHELLS[shell].replace("PROGRAM", line.split()[0])
    words = ["fish", "--no-config", "-c", script] if shell == "fish" else [shell, "-c", script, shell]
    with tempfile.TemporaryDirectory() as home:  # fish makes folders there
        done = run("env", "PATH=%s:/usr/bin:/bin" % BUILD, "HOME=%s" % home, *words, line, cwd=ROOT / "tests", check=False)
    assert done.stderr == ""
    return set(done.stdout.split("\n")) - {""}


def files_are_meant(shell, line):
    """Nothing of ours is offered, not even an option where one is begun; then bash and zsh themselves offer files, and fish does it here."""
    return not offered(shell, line + "-") and offered(shell, line + "integr") == ({"integration/"} if shell == "fish" else set())


def commands():
    """(noun, verb or None) of all commands, as the help has them."""
    lines = run(BUILD / "holdfastctl", "--help").stdout.split("Commands:\n")[1].split("\n\n")[0].splitlines()
    words = [line[2:28].split("  ")[0].split() for line in lines if line[2] != " "]
    return [(w[0], w[1] if len(w) > 1 and w[1].isalpha() and w[1].islower() else None) for w in words]


def test_every_command_and_option_is_offered(shell):
    """All that --help lists, in a shell; the words come from the program itself, so a sample of options does."""
    table = commands()
    assert ("pit", "create") in table and ("events", None) in table
    assert offered(shell, "holdfastctl ") == {noun for noun, _ in table}
    assert offered(shell, "holdfastctl pit ") == {verb for noun, verb in table if noun == "pit"}
    assert offered(shell, "holdfastctl --socket /x pit c") == {"create"}
    assert offered(shell, "holdfastctl pit create x --n") == {"--name", "--newest"}
    assert offered(shell, "holdfastctl verify x --progress ") == {"auto", "bar", "plain", "lines", "none"}
    assert offered(shell, "holdfastctl completion ") == {"bash", "zsh", "fish"}


def test_every_command_and_option_of_the_agent_is_offered(shell):
    names = set(re.findall(r"^  ([a-z-]+) +[A-Z]", run(BUILD / "holdfast-agent", "--help").stdout, re.M))
    assert {"enroll", "run", "completion"} <= names
    assert offered(shell, "holdfast-agent ") == names
    assert offered(shell, "holdfast-agent --v") == {"--version"}
    for name in names:
        options = set(re.findall(r"^  (--[a-z-]+)", run(BUILD / "holdfast-agent", name, "--help").stdout, re.M))
        assert offered(shell, "holdfast-agent %s --" % name) == options
    assert offered(shell, "holdfast-agent run --once --compress ") == {"none", "lz4", "zstd"}
    assert offered(shell, "holdfast-agent run --log-level d") == {"debug"}
    assert offered(shell, "holdfast-agent completion ") == {"bash", "zsh", "fish"}
    assert files_are_meant(shell, "holdfast-agent run --state ")


def test_every_option_of_holdfastd_is_offered(shell):
    options = set(re.findall(r"^  (?:-[a-z], |    )(--[a-z-]+)", run(BUILD / "holdfastd", "--help").stdout, re.M))
    assert {"--config", "--check-config", "--help"} <= options
    assert offered(shell, "holdfastd -") == options
    assert offered(shell, "holdfastd --print-config --log-level n") == {"notice"}
    assert offered(shell, "holdfastd completion ") == {"bash", "zsh", "fish"}
    assert files_are_meant(shell, "holdfastd -c ") and files_are_meant(shell, "holdfastd --config ")
    assert not files_are_meant(shell, "holdfastd --check-config ")


def test_sources_points_and_volumes_are_offered_by_name(rig, shell):
    daemon = rig.daemon()
    source = ready_agent(rig, daemon, {"root": rig.file("disk", bytes(8192)), "data": rig.file("data", bytes(8192))}).source
    daemon.point(source, "before-upgrade", newest=True)
    line = "holdfastctl --socket %s " % daemon.run_dir
    name = daemon.source(source)["sourceProperties"]["identificationHints"]["hostname"]
    assert offered(shell, line + "ready ") == {name}
    assert offered(shell, line + "ready s-") == {source}
    assert "before-upgrade" in offered(shell, line + "pit hold ")
    assert offered(shell, line + "export file %s --at before" % name) == {"before-upgrade"}
    assert offered(shell, line + "verify %s --volume " % name) == {"root", "data"}


def test_files_are_offered_where_files_are_meant(shell):
    """And without a daemon nothing is offered, at once and silently."""
    assert files_are_meant(shell, "holdfastctl export file x -o ")
    assert offered(shell, "holdfastctl --socket /nonexistent ready s-") == set()
