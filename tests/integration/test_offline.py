# SPDX-License-Identifier: Apache-2.0
"""With holdfastd stopped, and without catalog and certificates, the data directory still gives back every point."""
import fcntl
import hashlib
import json
import os
import shutil
import signal

import pytest

from harness import BLOCK, IS_ROOT, MIB, BUILD, copy_of, first_difference, patchwork, random_bytes, ready_agent, run, wait_for
from screens import on_terminal

DONE, FAILED, USAGE, NOT_FOUND, INTERRUPTED = 0, 1, 2, 4, 130


def scribble(rig, disk, blocks=50):
    with open(disk, "r+b") as f:
        for _ in range(blocks):
            f.seek(rig.random.randrange(disk.stat().st_size // BLOCK) * BLOCK)
            f.write(rig.random.randbytes(BLOCK))


def ctl(*arguments, check=DONE, **options):
    """No socket, no daemon."""
    env = {**os.environ, "HOLDFAST_SOCKET": "/nonexistent"}
    done = run(BUILD / "holdfastctl", *arguments, check=False, env=env, **options)
    assert done.returncode == check, (arguments, done.returncode, done.stdout, done.stderr)
    return done


def export(area, source, volume, at, to, *options, check=DONE):
    return ctl("export", "file", source, "--volume", volume, "--at", at, "-o", to, "--data-dir", area, "--no-progress", *options,
               check=check)


def fingerprints(area):
    """Every file of the area: nothing of it may change."""
    return {str(path.relative_to(area)): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
            for path in sorted(area.rglob("*")) if path.is_file()}


@pytest.fixture(name="stopped", scope="module")
def stopped_fixture(house):
    """Two volumes, three points with private copies, the daemon killed; then all that is not data is deleted from a copy."""
    disks = {"root": house.file("root", patchwork(house.random, 9 * MIB + 123)), "data": house.file("data", random_bytes(house.random, 5 * MIB))}
    agent = ready_agent(house, house.served, disks)
    house.points = []
    for moment in ("one", "two", "three"):
        for disk in disks.values():
            scribble(house, disk)
        point = house.served.point(agent.source, moment)
        house.points.append((point, {name: copy_of(disk, house.path("%s-%s.copy" % (name, moment))) for name, disk in disks.items()}))
    agent.stop()
    house.source = agent.source
    house.listed = {p["pointInTimeID"]: p for p in house.served.points(agent.source)}
    house.served.kill()
    house.bare = house.path("bare")
    shutil.copytree(house.served.data, house.bare)
    shutil.rmtree(house.bare / "pki")
    for name in ("LOCK", "IDENTITY", "README"):
        (house.bare / name).unlink()
    for catalog in [*house.bare.glob("holdfast.db*"), *house.bare.glob("sources/*/catalog.db*")]:
        catalog.unlink()
    return house


@pytest.fixture(name="area", params=["whole", "bare"])
def area_fixture(stopped, request):
    return stopped.served.data if request.param == "whole" else stopped.bare


def test_every_point_comes_back_without_the_daemon(stopped, area):
    before = fingerprints(area)
    for i, (point, copies) in enumerate(stopped.points):
        for volume, copy in copies.items():
            to = stopped.path("%s-%s-%d.img" % (area.name, volume, i))
            export(area, stopped.source, volume, point["pointInTimeID"], to)
            assert first_difference(copy, to) is None, (i, volume)
    assert fingerprints(area) == before


def test_latest_and_times_mean_what_they_mean_with_the_daemon(stopped, area):
    for at, moment in (("latest", 2), (stopped.points[1][0]["timestamp"], 1)):
        to = stopped.path("%s-at-%d.img" % (area.name, moment))
        export(area, stopped.source, "root", at, to)
        assert first_difference(stopped.points[moment][1]["root"], to) is None, at


def test_points_are_listed_with_the_ids_they_always_had(stopped, area):
    listed = {p["pointInTimeID"]: p for p in json.loads(ctl("pit", "list", "--data-dir", area, "--json").stdout)["items"]}
    assert set(listed) >= set(stopped.listed)
    for pit, point in stopped.listed.items():
        for key in ("timestamp", "lsn", "consistency", "complete", "sourceServerID"):
            assert listed[pit][key] == point[key], key


def test_points_of_all_sources_tell_whose_they_are_by_id(stopped):
    """Host names are the daemon's to know."""
    narrow, _ = on_terminal("holdfastctl pit list --data-dir %s" % stopped.served.data, 80)
    head, *lines = narrow.splitlines()
    assert "SOURCE" in head and "HOST" not in head and lines and all(stopped.source in line for line in lines), narrow


def test_names_are_the_catalogs_if_it_can_be_read(stopped):
    columns = ["pit", "list", stopped.source[:6], "-Hp", "-o", "id,name,kept", "--data-dir"]
    rows = {row.split("\t")[0]: row.split("\t")[1:] for row in ctl(*columns, stopped.served.data).stdout.splitlines()}
    for point, _ in stopped.points:
        assert rows[point["pointInTimeID"]][0] == point["name"] and "hand" in rows[point["pointInTimeID"]][1]
    to = stopped.path("by-name.img")
    export(stopped.served.data, stopped.source, "data", "two", to)
    assert first_difference(stopped.points[1][1]["data"], to) is None
    done = ctl(*columns, stopped.bare)
    assert sorted(row.split("\t") for row in done.stdout.splitlines()) == sorted([pit, "", ""] for pit in rows)
    assert "points have no names" in done.stderr


def test_a_damaged_catalog_costs_the_names_alone(stopped):
    damaged = stopped.path("damaged")
    shutil.copytree(stopped.served.data, damaged)
    for catalog in damaged.glob("sources/*/catalog.db"):
        catalog.write_bytes(b"not a database" * 1000)
    to = stopped.path("damaged.img")
    assert "points have no names" in export(damaged, stopped.source, "root", stopped.points[0][0]["pointInTimeID"], to).stderr
    assert first_difference(stopped.points[0][1]["root"], to) is None


def test_volumes_are_found_by_id_and_named_when_they_are_not(stopped, area):
    volume = next(p for p in stopped.listed.values() if p["volumes"][0]["name"] == "root")["volumes"][0]["volumeID"]
    to = stopped.path(area.name + "-by-id.img")
    export(area, stopped.source, volume, "latest", to)
    assert first_difference(stopped.points[2][1]["root"], to) is None
    never = stopped.path("never.img")
    assert volume in export(area, stopped.source, "sdz", "latest", never, check=NOT_FOUND).stderr
    assert volume in ctl("export", "file", stopped.source, "-o", never, "--data-dir", area, check=USAGE).stderr
    assert not list(never.parent.glob("never.img*"))


def test_a_source_that_cannot_be_read_costs_the_others_nothing(stopped):
    area = stopped.path("one-of-two")
    shutil.copytree(stopped.bare, area)
    (area / "sources" / "s-00000000000000001").mkdir()
    done = run(BUILD / "holdfastctl", "pit", "list", "-H", "-o", "id", "--data-dir", area, check=False)
    assert done.returncode in (FAILED, NOT_FOUND) and "s-00000000000000001" in done.stderr
    assert set(done.stdout.split()) >= set(stopped.listed)


def test_what_is_not_there_is_said(stopped, area):
    never = stopped.path("never.img")
    assert stopped.source in export(area, "s-00000000000000000", "root", "latest", never, check=NOT_FOUND).stderr
    assert "pit list" in export(area, stopped.source, "root", "seventeen", never, check=NOT_FOUND).stderr
    assert "is not there" in export(never.parent / "nowhere", stopped.source, "root", "latest", never, check=FAILED).stderr
    assert "no staging area" in export(never.parent, stopped.source, "root", "latest", never, check=FAILED).stderr
    assert not list(never.parent.glob("never.img*"))


def test_a_rotten_block_is_named_and_never_exported(stopped):
    rotten = stopped.path("rotten")
    shutil.copytree(stopped.bare, rotten)
    copy = stopped.points[0][1]["root"].read_bytes()
    at = next(i for i in range(0, len(copy), BLOCK) if copy[i:i + BLOCK].count(0) < BLOCK and all(
        copy[i:i + BLOCK] == c["root"].read_bytes()[i:i + BLOCK] for _, c in stopped.points))
    volume = next(p for p in stopped.listed.values() if p["volumes"][0]["name"] == "root")["volumes"][0]["volumeID"]
    flipped = 0
    for path in [*rotten.glob("sources/*/*.img"), *rotten.glob("sources/*/journal/*.seg")]:
        data = bytearray(path.read_bytes())
        places = [i for i in range(0, len(data), BLOCK) if data[i:i + BLOCK] == copy[at:at + BLOCK]]
        for place in places:
            data[place] ^= 1
        flipped += len(places)
        path.write_bytes(data)
    assert flipped
    to = stopped.path("rotten.img")
    said = export(rotten, stopped.source, "root", "latest", to, check=FAILED).stderr
    assert "%s, offset %d" % (volume, at) in said and not to.exists()


def test_a_cut_export_goes_on_where_it_was(rig):
    daemon = rig.daemon()
    disk = rig.file("large", random_bytes(rig.random, 128 * MIB))
    agent = rig.agent(daemon, {"root": disk}).once()
    daemon.stop()
    to = rig.path("cut.img")
    partial = rig.path("cut.img.partial")
    command = ["export", "file", agent.source, "-o", to, "--data-dir", daemon.data, "--no-progress"]
    cut = rig.program("ctl", [BUILD / "holdfastctl", *command])
    wait_for(lambda: partial.exists() and os.stat(partial).st_blocks * 512 > 4 * MIB, 20, "a part of the export")
    cut.signal(signal.SIGINT)
    assert cut.process.wait(30) == INTERRUPTED
    assert "goes on from there" in cut.log.read_text() and not to.exists()
    assert "going on after" in ctl(*command).stderr
    assert first_difference(disk, to) is None


def test_a_running_daemon_keeps_the_directory_to_itself(rig):
    daemon = rig.daemon()
    agent = rig.agent(daemon, {"root": rig.file("disk", random_bytes(rig.random, 2 * MIB))}).once()
    to = rig.path("refused.img")
    said = export(daemon.data, agent.source, "root", "latest", to, check=FAILED).stderr
    assert "stop it, or ask it" in said and str(daemon.program.pid) in said
    assert not to.exists() and not rig.path("refused.img.partial").exists()
    daemon.stop()
    export(daemon.data, agent.source, "root", "latest", to)
    daemon.start()
    daemon.wait_ready(agent.source)


def test_no_daemon_takes_the_directory_while_it_is_read(rig):
    daemon = rig.daemon()
    daemon.stop()
    with open(daemon.data / "LOCK", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        daemon.launch()
        assert daemon.program.process.wait(30) == 1
        assert "holdfastctl --data-dir" in daemon.program.log.read_text()
    daemon.start()


@pytest.mark.skipif(not IS_ROOT, reason="only root can become somebody else")
def test_the_area_is_read_with_the_callers_rights_alone(stopped):
    stopped.dir.chmod(0o755)
    program = shutil.copy(BUILD / "holdfastctl", stopped.dir / "ctl")
    done = run(program, "pit", "list", "--data-dir", stopped.served.data, check=False, user="nobody", env={"PATH": "/usr/bin:/bin"})
    assert done.returncode == 5 and "become root" in done.stderr, done.stderr
