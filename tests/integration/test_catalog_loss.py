# SPDX-License-Identifier: Apache-2.0
"""A source's catalog, or the registry, is damaged or gone: its points are still there, and no other source notices."""
import os

from harness import BUILD, MIB, first_difference, random_bytes, ready_agent, run, wait_for
from history import History


def catalog_of(daemon, source):
    return daemon.data / "sources" / source / "catalog.db"


def ruin(path):
    with open(path, "r+b") as f:
        f.write(b"\xa5" * 4096)


def names_of(daemon, source):
    return {p.get("name") for p in daemon.points(source)}


def two_sources(rig, daemon):
    """One whose catalog will be damaged, with its history, and another."""
    history = History(rig.path("disk"), 256, rig.random)
    agent = ready_agent(rig, daemon, {"root": history.path})
    other = ready_agent(rig, daemon, {"root": rig.file("other", random_bytes(rig.random, MIB))})
    history.write(20)
    daemon.point(agent.source, "kept")
    history.write(20)
    return history, agent, other


def check_goes_on(daemon, history, agent, other):
    for a in (agent, other):
        daemon.wait_streaming(a.source)
    history.write(20)
    daemon.point(agent.source, "after")
    assert history.check(daemon.export(agent.source, "root", "after")) == 60
    daemon.point(other.source, "unharmed")
    assert {e["sourceServerID"] for e in daemon.events() if e["event"].startswith("catalog_")} == {agent.source}
    for a in (agent, other):
        a.stop()


def test_a_damaged_catalog_is_replaced_by_its_copy(rig):
    daemon = rig.daemon()
    history, agent, other = two_sources(rig, daemon)
    daemon.stop()
    assert (catalog_of(daemon, agent.source).parent / "catalog.db.bak").exists()
    ruin(catalog_of(daemon, agent.source))
    daemon.start()
    event = wait_for(lambda: daemon.events("catalog_from_copy"), 20, "the event")[0]
    assert "damaged" in event["text"]
    assert list(catalog_of(daemon, agent.source).parent.glob("catalog.db.damaged-*"))
    assert history.check(daemon.export(agent.source, "root", "kept")) == 20
    repair = wait_for(lambda: daemon.source(agent.source)["catalogRepair"], 20, "the source to say so")
    assert repair["how"] == "COPY" and repair["text"] == event["text"]
    assert "catalog" in daemon.ctl("source", "show", agent.source).stdout
    assert daemon.source(other.source)["catalogRepair"] is None
    check_goes_on(daemon, history, agent, other)


def test_without_a_copy_it_is_made_anew(rig):
    daemon = rig.daemon()
    history, agent, other = two_sources(rig, daemon)
    daemon.stop()
    catalog_of(daemon, agent.source).unlink()
    (catalog_of(daemon, agent.source).parent / "catalog.db.bak").unlink()
    daemon.start()
    wait_for(lambda: daemon.events("catalog_rebuilt"), 20, "the event")
    assert "kept" not in names_of(daemon, agent.source)
    held = []
    for p in daemon.points(agent.source):
        if p["complete"] and p["consistency"] != "fuzzy":
            held.append(history.check(daemon.export(agent.source, "root", p["pointInTimeID"])))
    assert 20 in held, "the point that had a name is no point any more"
    check_goes_on(daemon, history, agent, other)


def test_a_damaged_registry_is_replaced_by_its_copy(rig):
    daemon = rig.daemon()
    history, agent, other = two_sources(rig, daemon)
    daemon.stop()
    ruin(daemon.data / "holdfast.db")
    daemon.start()
    wait_for(lambda: daemon.events("registry_from_copy"), 20, "the event")
    check_goes_on_unharmed(daemon, history, agent, other)


def check_goes_on_unharmed(daemon, history, agent, other):
    for a in (agent, other):
        daemon.wait_streaming(a.source)
        daemon.point(a.source, "after")
        a.stop()
    assert history.check(daemon.export(agent.source, "root", "after")) == 40


def test_without_registry_and_copy_it_says_what_to_do_and_changes_nothing(rig):
    daemon = rig.daemon()
    disk = rig.file("disk", random_bytes(rig.random, MIB))
    agent = ready_agent(rig, daemon, {"root": disk})
    daemon.point(agent.source, "kept")
    agent.stop()
    daemon.stop()
    (daemon.data / "holdfast.db.bak").unlink()
    ruin(daemon.data / "holdfast.db")
    names = sorted(os.listdir(daemon.data))
    daemon.launch()
    assert daemon.program.process.wait(60) == 1
    assert "backup" in daemon.program.log.read_text()
    assert sorted(os.listdir(daemon.data)) == names
    to = rig.path("offline.img")
    run(BUILD / "holdfastctl", "export", "file", agent.source, "--data-dir", daemon.data, "--volume",
        "root", "--at", "kept", "-o", to, "--no-progress")
    assert first_difference(disk, to) is None
