# SPDX-License-Identifier: Apache-2.0
"""holdfastctl fsck: a staging area at rest is checked, nothing is changed, and each kind of damage has its finding."""
import json
import os
import shutil
import sqlite3

import pytest
from harness import BUILD, MIB, random_bytes, ready_agent, run
from history import History


def fsck(data, *options, check=None):
    """(exit code, the document)."""
    done = run(BUILD / "holdfastctl", "fsck", data, "--json", *options, check=False)
    if check is not None:
        assert done.returncode == check, done.stdout + done.stderr
    return done.returncode, json.loads(done.stdout) if done.stdout else None


def codes(document):
    return {f["code"] for f in document["findings"]}


def everything_in(data):
    """Names, sizes, times and content of all files."""
    found = {}
    for folder, _, names in os.walk(data):
        for name in names:
            path = os.path.join(folder, name)
            with open(path, "rb") as f:
                found[path] = (os.stat(path).st_mtime_ns, os.stat(path).st_size, hash(f.read()))
    return found


@pytest.fixture(name="area", scope="module")
def area_fixture(house):
    """A stopped staging area with history: (data directory, source)."""
    daemon = house.served
    history = History(house.path("disk"), 512, house.random)
    agent = ready_agent(house, daemon, {"root": history.path})
    for n in range(3):
        history.write(30)
        daemon.point(agent.source, "p%d" % n)
    agent.stop()
    daemon.stop()
    return daemon.data, agent.source


@pytest.fixture(name="damaged")
def damaged_fixture(rig, area):
    """A copy of it, to be damaged: (data directory, folder of the source)."""
    data = rig.path("data")
    run("cp", "-a", "--sparse=always", area[0], data)
    return data, data / "sources" / area[1]


def test_a_whole_one_is_clean_and_nothing_is_changed(area):
    data, source = area
    before = everything_in(data)
    code, document = fsck(data, "--data", check=0)
    assert code == 0 and document["findings"] == [] and document["complete"]
    checked = document["sources"][0]
    assert checked["sourceServerID"] == source and checked["points"] >= 3 and checked["blocks"] > 0
    assert everything_in(data) == before
    text = run(BUILD / "holdfastctl", "fsck", data, source[:6]).stdout
    assert "1 source checked, 0 findings" in text


def flip(path, at):
    with open(path, "r+b") as f:
        f.seek(at)
        byte = f.read(1)[0]
        f.seek(at)
        f.write(bytes([byte ^ 8]))


def first(folder, pattern):
    return sorted(folder.glob(pattern))[0]


def forget_source(data):
    with sqlite3.connect(data / "holdfast.db") as db:
        db.execute("UPDATE setting SET value = 'other' WHERE key = 'data_uuid'")


DAMAGES = {
    "IDENTITY": lambda data, folder: (data / "IDENTITY").unlink(),
    "JOURNAL_ROOT": lambda data, folder: (data / "IDENTITY").write_bytes((data / "IDENTITY").read_bytes() + b"journal /mnt/\xff\n"),
    "KEYS_MISSING": lambda data, folder: (data / "pki" / "ca.key").unlink(),
    "REGISTRY": lambda data, folder: flip(data / "holdfast.db", 3),
    "SOURCE_MISSING": lambda data, folder: shutil.rmtree(folder),
    "CATALOG_MISSING": lambda data, folder: (folder / "catalog.db").unlink(),
    "CATALOG_DAMAGED": lambda data, folder: flip(folder / "catalog.db", 3),
    "COPY_DAMAGED": lambda data, folder: flip(folder / "catalog.db.bak", 3),
    "POINT_LOST": lambda data, folder: [path.unlink() for path in folder.glob("journal/*")],
    "JOURNAL": lambda data, folder: flip(first(folder, "journal/*.seg"), 4096 + 100),
    "SEGMENT_GROUPS": lambda data, folder: flip(first(folder, "journal/*.seg"), 4096 + 100),
    "STAGING_MISSING": lambda data, folder: first(folder, "*.img").unlink(),
    "STAGING_SIZE": lambda data, folder: os.truncate(first(folder, "*.img"), MIB),
    "DIGEST_HEADER": lambda data, folder: flip(first(folder, "*.sum"), 90),
    "BLOCK_ROTTEN": lambda data, folder: [flip(first(folder, "*.img"), block * 4096 + 7) for block in range(500)],
}


@pytest.mark.parametrize("code", sorted(DAMAGES))
def test_damage_has_its_finding(damaged, code):
    data, folder = damaged
    DAMAGES[code](data, folder)
    _, document = fsck(data, "--data", check=1)
    found = next((f for f in document["findings"] if f["code"] == code), None)
    assert found, document["findings"]
    assert found["where"] and found["what"] and found["means"] and found["do"]


def test_a_registry_of_another_directory_is_found(damaged):
    forget_source(damaged[0])
    assert "REGISTRY" in codes(fsck(damaged[0], check=1)[1])


def test_what_cannot_be_checked_is_told_apart(rig, damaged):
    data, folder = damaged
    assert fsck(rig.path("nowhere"))[0] == 2
    assert fsck(data, "s-00000000000000000")[0] == 2
    daemon = rig.daemon()
    disk = rig.file("other", random_bytes(rig.random, MIB))
    agent = ready_agent(rig, daemon, {"root": disk})
    assert fsck(daemon.data)[0] == 2, "it read under the daemon's hands"
    agent.stop()
    identity = data / "IDENTITY"
    identity.write_text(identity.read_text().replace("format 1", "format 99"))
    code, document = fsck(data)
    assert code == 2 and not document["complete"]
