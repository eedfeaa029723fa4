# SPDX-License-Identifier: Apache-2.0
"""Journals on a disk of their own: a source lives on both, and without the right one nothing is started or made anew."""
import os

import pytest
from harness import BUILD, IS_ROOT, MIB, Daemon, first_difference, random_bytes, ready_agent, run, unmount, wait_for
from history import History


def start_refused(daemon):
    """What it says when it does not start."""
    daemon.launch()
    assert daemon.program.process.wait(60) == 1
    return daemon.program.log.read_text()


def journal_root(rig, name="journals"):
    root = rig.path(name)
    root.mkdir(mode=0o700)
    return root


def live(rig, daemon):
    history = History(rig.path("disk"), 256, rig.random)
    agent = ready_agent(rig, daemon, {"root": history.path})
    history.write(20)
    daemon.point(agent.source, "kept")
    return history, agent


def test_a_source_lives_on_both_disks(rig):
    root = journal_root(rig)
    daemon = rig.daemon(storage__journal_dir=root)
    history, agent = live(rig, daemon)
    assert list((root / agent.source).glob("*.seg")), "its journal is not there"
    link = daemon.data / "sources" / agent.source / "journal"
    assert link.is_symlink() and os.readlink(link) == str(root / agent.source)
    daemon.restart("kill")
    daemon.wait_streaming(agent.source)
    history.write(20)
    daemon.point(agent.source, "after")
    assert history.check(daemon.export(agent.source, "root", "kept")) == 20
    assert history.check(daemon.export(agent.source, "root", "after")) == 40
    agent.stop()
    daemon.stop()
    run(BUILD / "holdfastctl", "fsck", daemon.data, "--data")
    to = rig.path("offline.img")
    run(BUILD / "holdfastctl", "export", "file", agent.source, "--data-dir", daemon.data, "--volume", "root", "--at", "kept", "-o", to,
        "--no-progress")
    assert history.check(to) == 20


def test_a_root_that_moved_is_found_again(rig):
    root = journal_root(rig)
    daemon = rig.daemon(storage__journal_dir=root)
    history, agent = live(rig, daemon)
    daemon.stop()
    moved = rig.path("moved")
    os.rename(root, moved)
    told = run(BUILD / "holdfastctl", "fsck", daemon.data, check=False)
    assert told.returncode == 1 and "JOURNAL_ROOT" in told.stdout
    assert "mounted" in start_refused(daemon)
    daemon.settings["storage.journal_dir"] = moved
    daemon.start()
    daemon.wait_streaming(agent.source)
    assert history.check(daemon.export(agent.source, "root", "kept")) == 20
    agent.stop()


def test_a_deleted_source_leaves_nothing_there(rig):
    root = journal_root(rig)
    daemon = rig.daemon(storage__journal_dir=root)
    _, agent = live(rig, daemon)
    agent.stop()
    wait_for(lambda: not daemon.is_streaming(agent.source), 20, "the agent to be gone")
    daemon.ctl("source", "stop", agent.source, "--yes")
    daemon.ctl("source", "delete", agent.source, "--yes", "--wait", "--no-progress")
    wait_for(lambda: os.listdir(root) == ["IDENTITY"], 30, "the journal to go")


def test_older_sources_keep_their_journals_where_they_are(rig):
    daemon = rig.daemon()
    history, agent = live(rig, daemon)
    daemon.stop()
    daemon.settings["storage.journal_dir"] = journal_root(rig)
    daemon.start()
    other = rig.file("other", random_bytes(rig.random, MIB))
    newer = ready_agent(rig, daemon, {"root": other})
    assert not (daemon.data / "sources" / agent.source / "journal").is_symlink()
    assert (daemon.data / "sources" / newer.source / "journal").is_symlink()
    daemon.wait_streaming(agent.source)
    daemon.point(agent.source, "after")
    assert history.check(daemon.export(agent.source, "root", "after")) == 20
    for a in (agent, newer):
        a.stop()


@pytest.mark.skipif(not IS_ROOT, reason="mounts need root")
def test_without_its_disk_it_does_not_start_and_makes_nothing_anew(rig):
    root, device, _ = rig.file_system("journals", 64 * MIB)
    daemon = rig.daemon(storage__journal_dir=root)
    history, agent = live(rig, daemon)
    agent.stop()
    daemon.stop()
    unmount(root)
    assert "mounted" in start_refused(daemon)
    assert os.listdir(root) == []
    del daemon.settings["storage.journal_dir"]
    assert "mounted" in start_refused(daemon), "it forgot where its journals are"
    other, _, _ = rig.file_system("others", 64 * MIB)
    stranger = Daemon(rig, storage__journal_dir=other)
    stranger.stop()
    daemon.settings["storage.journal_dir"] = other
    assert "belongs to" in start_refused(daemon)
    run("mount", device, root)
    daemon.settings["storage.journal_dir"] = root
    daemon.start()
    assert history.check(daemon.export(agent.source, "root", "kept")) == 20
    assert first_difference(history.path, daemon.export(agent.source, "root", "latest")) is None
