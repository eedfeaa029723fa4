# SPDX-License-Identifier: Apache-2.0
"""Points are read back: pit list says which, a restart does not forget it, and damage is found."""
from harness import BLOCK, MIB, random_bytes, ready_agent, wait_for


def point_of(daemon, source, pit):
    return next(p for p in daemon.points(source) if p["pointInTimeID"] == pit)


def wait_verified(daemon, source, pit):
    wait_for(lambda: point_of(daemon, source, pit)["verified"], 20, "%s to be read back" % pit)


def read_backs(daemon):
    return daemon.program.log.read_text().count("event=point_read_back")


def test_every_kept_point_is_read_back_soon(rig):
    daemon = rig.daemon()
    disk = rig.file("disk", random_bytes(rig.random, 4 * MIB))
    agent = ready_agent(rig, daemon, {"root": disk})
    for name in ("one", "two", "three"):  # within one interval of reading back
        with open(disk, "r+b") as f:
            f.write(rig.random.randbytes(BLOCK))
        wait_verified(daemon, agent.source, daemon.point(agent.source, name)["pointInTimeID"])
    rows = [row.split("\t") for row in daemon.ctl("pit", "list", agent.source, "-Hp", "-o", "name,verified").stdout.splitlines()]
    assert [row for row in rows if row[0]] == [["one", "yes"], ["two", "yes"], ["three", "yes"]]


def test_a_point_that_is_only_in_the_window_is_verified_too(rig):
    daemon = rig.daemon()
    agent = rig.agent(daemon, {"root": rig.file("disk", random_bytes(rig.random, MIB))}).once()
    newest = daemon.newest(agent.source)["pointInTimeID"]
    wait_verified(daemon, agent.source, newest)


def test_after_a_restart_it_is_ready_without_waiting_and_read_back_again(rig):
    daemon = rig.daemon()
    agent = ready_agent(rig, daemon, {"root": rig.file("disk", random_bytes(rig.random, 4 * MIB))})
    pit = daemon.point(agent.source, "kept")["pointInTimeID"]
    wait_verified(daemon, agent.source, pit)
    agent.stop()
    for how in ("stop", "kill"):
        wait_for(lambda: daemon.source(agent.source)["ready"], 20, "Ready")
        before = read_backs(daemon)
        daemon.restart(how)
        reasons = set()

        def is_ready():
            source = daemon.source(agent.source)
            reasons.update(r["code"] for r in source["reasons"])
            return source["ready"]
        wait_for(is_ready, 20, "Ready")
        assert reasons <= {"OPENING"}, how
        wait_verified(daemon, agent.source, pit)
        wait_for(lambda: read_backs(daemon) > before, 20, "the point to be read back again")


def test_damage_is_found_and_the_point_no_longer_counts(rig):
    daemon = rig.daemon()
    block = rig.random.randbytes(BLOCK)
    agent = rig.agent(daemon, {"root": rig.file("disk", block)}).once()
    kept = wait_for(lambda: [p for p in daemon.points(agent.source) if p["kept"] and p["verified"]], 20, "a verified point")[0]
    daemon.stop()
    flipped = 0
    for path in [*daemon.data.glob("sources/*/*.img"), *daemon.data.glob("sources/*/journal/*.seg")]:
        data = bytearray(path.read_bytes())
        at = data.find(block)
        if at >= 0:
            data[at] ^= 1
            path.write_bytes(data)
            flipped += 1
    assert flipped == 1
    daemon.start()
    wait_for(lambda: "INTEGRITY_ERROR" in [r["code"] for r in daemon.source(agent.source)["reasons"]], 20, "the damage to be found")
    wait_for(lambda: not point_of(daemon, agent.source, kept["pointInTimeID"])["verified"], 20, "the point to be marked")
    assert daemon.events("integrity_error")
    daemon.restart("kill")
    wait_for(lambda: "INTEGRITY_ERROR" in [r["code"] for r in daemon.source(agent.source)["reasons"]], 20, "the damage to be found")
