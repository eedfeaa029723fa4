# SPDX-License-Identifier: Apache-2.0
"""Staging areas that earlier versions left (tests/samples/): every point of every one comes back, and what was set. And what a
newer version left is refused, by name, and not touched."""
import hashlib
import json
import re
import sqlite3
import struct
import tarfile

import pytest
import xxhash

import hfagent
from harness import BUILD, ROOT, Daemon, pick, run, wait_for

SAMPLES = ROOT / "tests" / "samples"
VERSIONS = sorted(p.name.split(".")[0] for p in SAMPLES.glob("*.tar.xz"))
NEWEST = VERSIONS[-1]
CURE = re.compile("newer Holdfast|or a newer one")


class Sample:
    """One of them, unpacked."""

    def __init__(self, rig, version):
        self.rig = rig
        self.expected = json.loads((SAMPLES / (version + ".json")).read_text())
        with tarfile.open(SAMPLES / (version + ".tar.xz")) as archive:
            archive.extractall(rig.dir)
        self.area = rig.path("area")
        self.source = self.expected["sourceServerID"]
        self.folder = self.area / "sources" / self.source
        self.journal = self.folder / "journal"
        self.points = {p["pointInTimeID"]: p for p in self.expected["points"]}

    def export(self, volume, point, where):
        to = self.rig.path("%s-%s.img" % (volume, point))
        to.unlink(missing_ok=True)
        run(BUILD / "holdfastctl", "export", "file", self.source, "--volume", volume, "--at", point, "-o", to, "--no-progress", *where)
        return to

    def check_exports(self, *where, one_of=1):
        """Every point; or, because the whole takes long, every so many-th of them."""
        for point, p in [*self.points.items()][::one_of]:
            for volume, digest in p["sha256"].items():
                to = self.export(volume, point, where)
                assert to.stat().st_size == self.expected["sizes"][volume]
                with open(to, "rb") as f:
                    assert hashlib.file_digest(f, "sha256").hexdigest() == digest, (p, volume)
                to.unlink()

    def digests(self):
        """Of everything but LOCK, which every daemon that starts opens and locks."""
        return {str(p.relative_to(self.area)): hashlib.sha256(p.read_bytes()).hexdigest()
                for p in sorted(self.area.rglob("*")) if p.is_file() and p.name != "LOCK"}


@pytest.fixture(name="sample", params=VERSIONS)
def sample_fixture(rig, request):
    return Sample(rig, request.param)


def test_holdfastctl_reads_every_point_without_the_daemon(sample):
    before = sample.digests()
    listed = json.loads(run(BUILD / "holdfastctl", "pit", "list", "--data-dir", sample.area, "--json").stdout)["items"]
    by_id = {p["pointInTimeID"]: p for p in listed}
    for point, p in sample.points.items():
        for key in ("lsn", "timestamp", "consistency", "complete"):
            assert by_id[point][key] == p[key]
    sample.check_exports("--data-dir", sample.area)
    assert sample.digests() == before


def test_the_daemon_lists_every_point_and_exports_them(rig, sample):
    daemon = rig.daemon(data=sample.area)
    daemon.wait_ready(sample.source)
    listed = {p["pointInTimeID"]: p for p in daemon.points(sample.source)}
    assert set(listed) == set(sample.points)
    for point, p in sample.points.items():
        for key in ("lsn", "timestamp", "consistency", "complete", "name", "held", "kept"):
            assert listed[point][key] == p[key], key
    source = daemon.source(sample.source)
    assert {path: pick(source, path) for path in sample.expected.get("source", {})} == sample.expected.get("source", {})
    daemon.ctl("audit", "--verify")
    sample.check_exports("--socket", daemon.run_dir, one_of=5)


def test_an_agent_goes_on_where_the_earlier_version_stopped(rig, sample):
    """New records behind old ones: the source is enrolled anew, written to, and folded on; old points stay what they were."""
    daemon = rig.daemon(data=sample.area)
    daemon.wait_ready(sample.source)
    disks = daemon.source(sample.source)["dataReplicationInfo"]["replicatedDisks"]
    identity = hfagent.enroll(("127.0.0.1", daemon.enroll_port), daemon.token(source=sample.source), rig.path("state"))
    assert identity.source_id == sample.source
    agent = hfagent.Agent(identity, ("127.0.0.1", daemon.port))
    try:
        agent.open([hfagent.Volume(d["name"], d["identity"], d["totalStorageBytes"]) for d in disks])
        assert all(v.frontier == hfagent.block_count(v.size_bytes) for v in agent.volumes.values())
        before = rig.path("before.img")
        before.write_bytes(sample.export("root", max(sample.points, key=lambda p: int(sample.points[p]["lsn"])), ("--socket", daemon.run_dir)).read_bytes())
        assert agent.sync("root", before.read_bytes()) == 0, "the digests of what the earlier version kept are not those of its bytes"
        agent.write("root", 7, b"new" * 1000)
        agent.checkpoint("crash")
        agent.wait_ack()
    finally:
        agent.close()
    daemon.restart("kill")
    daemon.wait_ready(sample.source)
    newest = daemon.points(sample.source)[-1]
    assert newest["pointInTimeID"] not in sample.points
    with open(sample.export("root", newest["pointInTimeID"], ("--socket", daemon.run_dir)), "rb") as f:
        f.seek(7 * hfagent.BLOCK)
        assert f.read(3000) == b"new" * 1000
    sample.points = {point: p for point, p in sample.points.items() if p["kept"]}  # the window may have moved on
    sample.check_exports("--socket", daemon.run_dir, one_of=3)


# ---- newer versions ----

@pytest.fixture(name="newest")
def newest_fixture(rig):
    """The newest one, its databases converted to what they are today: what is refused below is refused before anything is written."""
    sample = Sample(rig, NEWEST)
    daemon = rig.daemon(data=sample.area)
    daemon.wait_ready(sample.source)
    daemon.stop()
    return sample


def refused(rig, sample, word):
    """holdfastd does not start, says why, and leaves everything as it is."""
    before = sample.digests()
    daemon = Daemon(rig, data=sample.area, start=False).launch()
    assert daemon.program.process.wait(20) == 1
    told = daemon.program.log.read_text()
    assert word in told and ("newer" in told), told
    assert sample.digests() == before
    return daemon


def test_a_newer_data_directory_is_refused(rig, newest):
    identity = newest.area / "IDENTITY"
    identity.write_text(identity.read_text().replace("\nformat 1\n", "\nformat 2\n"))
    refused(rig, newest, str(newest.area))


def raise_user_version(path, by):
    database = sqlite3.connect(path)
    version = database.execute("PRAGMA user_version").fetchone()[0]
    database.execute("PRAGMA user_version = %d" % (version + by))
    database.commit()
    database.close()  # takes the write-ahead log, if the daemon was killed over one, into the database


def test_a_newer_registry_is_refused(rig, newest):
    raise_user_version(newest.area / "holdfast.db", 50)
    daemon = refused(rig, newest, "holdfast.db")
    raise_user_version(newest.area / "holdfast.db", -50)
    daemon.start()
    daemon.wait_ready(newest.source)


def source_refused(rig, sample, name, broken, mended):
    """The daemon runs, but not this source: its event names the file; nothing of it is touched, and it comes back when the file is
    as it was."""
    broken()
    before = {k: v for k, v in sample.digests().items() if k.startswith("sources/")}
    daemon = rig.daemon(data=sample.area)
    event = wait_for(lambda: daemon.events("store_unusable"), 20, "the event")[-1]
    assert name in event["text"] and CURE.search(event["text"]), event
    assert event["sourceServerID"] == sample.source
    assert not daemon.source(sample.source)["ready"]
    daemon.stop()
    assert {k: v for k, v in sample.digests().items() if k.startswith("sources/")} == before
    return daemon, mended


def and_comes_back(sample, daemon, mended):
    mended()
    daemon.start()
    daemon.wait_ready(sample.source)
    sample.check_exports("--socket", daemon.run_dir, one_of=len(sample.points))


def refused_offline(sample, name):
    point = next(iter(sample.points))
    done = run(BUILD / "holdfastctl", "export", "file", sample.source, "--volume", "root", "--at", point, "-o", sample.rig.path("never.img"),
               "--no-progress", "--data-dir", sample.area, check=False)
    assert done.returncode == 1 and name in done.stderr and CURE.search(done.stderr), done.stderr


def test_a_newer_catalog_is_refused(rig, newest):
    path = newest.folder / "catalog.db"
    daemon, mended = source_refused(rig, newest, "catalog.db", lambda: raise_user_version(path, 1), lambda: raise_user_version(path, -1))
    and_comes_back(newest, daemon, mended)


def page_of(path, index=0):
    with open(path, "rb") as f:
        f.seek(index * 4096)
        return bytearray(f.read(4096))


def put_page(path, page):
    with open(path, "r+b") as f:
        f.write(page)


def checksum(page, at, seed):
    return struct.pack("<Q", xxhash.xxh3_64_intdigest(bytes(page[:at]), seed=seed))


def with_version(page, version, checksum_at, seed):
    """The header with another version, and a checksum that is right."""
    page = bytearray(page)
    page[8:12] = struct.pack("<I", version)
    page[checksum_at:checksum_at + 8] = checksum(page, checksum_at, seed)
    return page


def seed_of(page, at):
    return struct.unpack_from("<Q", page, at)[0]


HEADERS = {
    # file: (its path below the source, where the checksum of the header is, its seed)
    "segment": ("journal/*.seg", 4088, lambda page, number: 0),
    "run": ("journal/*.run", 4088, lambda page, number: seed_of(page, 40) ^ number << 32),
    "digests": ("vol-*.sum", 504, lambda page, number: seed_of(page, 64)),
}


@pytest.mark.parametrize("kind", HEADERS)
def test_a_newer_file_of_a_source_is_refused(rig, newest, kind):
    pattern, checksum_at, seed = HEADERS[kind]
    path = sorted(newest.folder.glob(pattern))[-1]
    number = int(path.stem) if path.stem.isdigit() else 0
    old = page_of(path)
    version = struct.unpack_from("<I", old, 8)[0]
    assert with_version(old, version, checksum_at, seed(old, number)) == old, "the test makes headers as the program does"
    newer = with_version(old, version + 50, checksum_at, seed(old, number))
    put_page(path, newer)
    refused_offline(newest, path.name)
    daemon, mended = source_refused(rig, newest, path.name, lambda: None, lambda: put_page(path, old))
    and_comes_back(newest, daemon, mended)
