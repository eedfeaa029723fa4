# SPDX-License-Identifier: Apache-2.0
"""deploy/install-deps: what it asks for, for what, on a machine that has what this test says it has. That it is enough is seen in a
root that has nothing else, by hand."""
import os
import re

import pytest

from harness import ROOT, run

THINGS = ["build", "packages", "demo", "tests"]

# What a machine that is asked answers: the packages it has are lines of a file beside this program.
DPKG_QUERY = """#!/bin/sh
for package; do :; done
grep -qx -- "$package" "${0%/*}/has" && printf 'install ok installed'
"""


@pytest.fixture(name="machine")
def machine_fixture(tmp_path):
    """A folder of programs for a user without sudo."""
    for name in ("grep", "sort"):
        (tmp_path / name).symlink_to("/usr/bin/" + name)
    for name, text in (("dpkg-query", DPKG_QUERY), ("id", "#!/bin/sh\necho 1000\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "has").write_text("")
    return tmp_path


def missing(machine, thing):
    """The packages it says are missing; it must say nothing else."""
    done = run("/bin/sh", ROOT / "deploy/install-deps", thing, env={**os.environ, "PATH": str(machine)}, check=False)
    if done.returncode == 0:
        assert done.stdout + done.stderr == ""
        return set()
    assert done.returncode == 2
    return set(re.search(r"(?m)^  apt-get update && apt-get install -y --no-install-recommends (.*)$", done.stderr).group(1).split())


def test_each_thing_takes_what_it_is_for_and_no_more(machine):
    wanted = {thing: missing(machine, thing) for thing in THINGS}
    assert "gcc" in wanted["build"]
    assert all(wanted["build"] < wanted[thing] for thing in THINGS[1:])
    assert wanted["packages"] | wanted["demo"] < wanted["tests"]
    for thing in THINGS[:3]:
        assert not [package for package in wanted[thing] if re.match("clang|prometheus|zsh|fish|python3-|lintian", package)]


def test_what_is_there_is_not_asked_for(machine):
    wanted = sorted(missing(machine, "tests"))
    (machine / "has").write_text("\n".join(wanted[1:]) + "\n")
    assert missing(machine, "tests") == {wanted[0]}
    (machine / "has").write_text("\n".join(wanted) + "\n")
    assert missing(machine, "tests") == set()


def test_what_the_packages_are_built_with_is_installed_for_them(machine):
    control = (ROOT / "deploy/debian/control").read_text()
    names = re.findall(r"(?m)^ ([a-z0-9-]+)", control.split("Build-Depends:")[1].split("\n\n")[0])
    provided = {"debhelper-compat": "debhelper", "dh-sequence-installsysusers": "debhelper"}
    assert {provided.get(name, name) for name in names} <= missing(machine, "packages")


def test_every_target_asks_for_its_own():
    asks = dict(re.findall(r"(?m)^([a-z-]+): deps-([a-z]+) ##", (ROOT / "Makefile").read_text()))
    assert set(asks.values()) == set(THINGS)
    assert {"all": "build", "deb": "packages", "demo": "demo", "check": "tests"}.items() <= asks.items()


def test_a_thing_it_does_not_know_is_refused(machine):
    done = run("/bin/sh", ROOT / "deploy/install-deps", "everything", env={**os.environ, "PATH": str(machine)}, check=False)
    assert done.returncode == 2 and done.stderr.startswith("Usage: ") and done.stdout == ""
