#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Make the kept sample of a format version: a staging area as the real daemon and agent leave it, and what is in it.

    tests/samples/make.py v2      makes tests/samples/v2.tar.xz and v2.json, with the programs of HOLDFAST_BUILD (build/)

Run it when an on-disk format gets a new version, from the commit that brings it; samples already there stay as they are:
tests/integration/test_samples.py opens every one of them, and its points must come back as this script saw them.

What is in it: one source with two volumes, one of an odd size and one that is mostly a hole and longer than a zone of digests (256 MiB),
and what is left of a third, which was deleted; points kept by policy, by hand and by hold, and some that only the journal window
keeps; sealed segments with their runs, one folded away, others merged and packed; a policy, a quota, settings, tags, a throttle, a scrub and a verification; and a
tail that was never sealed, because the daemon was killed over it. Contents compress well, so the sample is small.
"""
import hashlib
import json
import os
import pathlib
import struct
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from harness import BLOCK, MIB, Rig, pick, wait_for, write_sparse  # noqa: E402
from history import block_of  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
ROOT_BYTES = 600 * 1024 + 123
DATA_BYTES = 257 * MIB
ZONE = 256 * MIB
SHARED = range(1000, 1400)  # blocks of data: more than a segment
REMEMBERED = ("pitPolicy", "journalWindowSeconds", "space.quotaBytes", "space.whenFull", "dataReplicationInfo.replicatedDisks.0.provedEqualDateTime",
              "dataReplicationInfo.replicatedDisks.1.provedEqualDateTime", "tags", "rpoTargetSeconds", "throttle.bandwidthThrottling",
              "throttle.windows")


def sha256(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


class Maker:
    def __init__(self, rig):
        self.rig, self.writes = rig, 0
        self.disks = {name: rig.path(name + ".disk") for name in ("root", "data", "gone")}
        self.daemon = rig.daemon(storage__segment_size="1MiB", pit__journal_window="2s")
        self.moments = []  # (points that appeared, digests of the disks then)
        self.seen = set()

    # -- what the disks hold --

    def first_content(self):
        write_sparse(self.disks["root"], b"".join(block_of(0, i) for i in range(ROOT_BYTES // BLOCK + 1))[:ROOT_BYTES])
        with open(self.disks["data"], "wb") as f:
            for place in (*range(40), *range(ZONE // BLOCK - 20, ZONE // BLOCK + 20)):
                f.seek(place * BLOCK)
                f.write(block_of(0, place))
            f.truncate(DATA_BYTES)
        write_sparse(self.disks["gone"], block_of(1, 1) * 8)

    def write(self, disk, places):
        with open(self.disks[disk], "r+b") as f:
            for place in places:
                self.writes += 1
                f.seek(place * BLOCK)
                f.write(block_of(self.writes, place)[:self.disks[disk].stat().st_size - place * BLOCK])

    def zero(self, disk, first, count):
        with open(self.disks[disk], "r+b") as f:
            f.seek(first * BLOCK)
            f.write(bytes(count * BLOCK))

    # -- moments: while the agent runs the disks rest, so every point that appears holds what they hold --

    def points(self):
        return {p["pointInTimeID"]: p for p in self.daemon.points(self.agent.source)}

    def moment(self, name=None, hold=False, verify=False):
        newest = max((int(p["lsn"]) for p in self.points().values()), default=0)
        self.agent.start()
        self.daemon.wait_streaming(self.agent.source)
        if name:
            point = self.daemon.point(self.agent.source, name)["pointInTimeID"]
            if hold:
                self.daemon.ctl("pit", "hold", point)
        if verify:
            self.daemon.ctl("verify", self.agent.source, "--wait", "--no-progress")
        wait_for(lambda: any(int(p["lsn"]) > newest and p["consistency"] == "crash" for p in self.points().values()), 30, "a point")
        self.agent.stop()
        self.daemon.wait_state(self.agent.source, "DISCONNECTED")
        new = set(self.points()) - self.seen
        self.seen |= new
        self.moments.append((new, {name: sha256(disk) for name, disk in self.disks.items()}))

    def delete(self, keep):
        for point in self.points().values():
            if point["kept"] and point["name"] not in keep:
                self.daemon.ctl("pit", "delete", point["pointInTimeID"], "--yes")

    def lose_a_disk(self):
        """The agent has it no longer; its volume lives on in the points there are."""
        del self.disks["gone"]
        self.agent.volumes = self.disks
        self.agent.enroll(self.daemon.token(self.agent.source), None, "--force")

    def base_lsn(self):
        return int(self.daemon.source(self.agent.source)["counters"]["baseLSN"])

    # -- the story --

    def tell(self):
        """What the points are at the end, when the daemon has been killed."""
        self.first_content()
        self.agent = self.rig.agent(self.daemon, self.disks)
        self.moment()
        self.lose_a_disk()
        self.write("root", range(0, 60, 3))
        self.moment("early")
        self.daemon.restart("stop")  # the first segment holds nothing that will be kept
        self.write("root", range(50, 151, 2))
        self.write("data", [0, ZONE // BLOCK])
        self.moment("alpha")
        self.daemon.restart("stop")
        self.write("data", range(5, 30))
        self.zero("data", 0, 5)
        self.zero("root", 100, 10)
        self.moment("beta", hold=True)
        self.write("data", SHARED)  # the next segment begins by itself
        self.moment()
        self.daemon.restart("stop")
        self.write("data", [place for place in SHARED if place % 10])  # too little is left of that segment, and holes would be too small
        self.moment()
        self.daemon.restart("stop")
        self.write("root", [7])
        self.moment("delta")
        self.daemon.restart("stop")
        self.delete(keep=("alpha", "beta", "delta"))
        self.daemon.ctl("volume", "delete", self.agent.source, "gone", "--with-points", "--yes")
        self.zero("data", SHARED.start, len(SHARED))  # one long extent of zeros
        self.write("root", [0, 150])
        self.moment("gamma")
        self.daemon.ctl("policy", "set", self.agent.source, "1m/60m", "1d/30d")
        self.daemon.ctl("quota", "set", self.agent.source, "200GiB", "--when-full", "thin")
        self.daemon.ctl("source", "set", self.agent.source, "rpo-target=20m")
        self.daemon.ctl("source", "tag", self.agent.source, "role=db", "site=north")
        self.daemon.ctl("throttle", "set", self.agent.source, "500", "Mon-Fri 08:00-18:00 400")
        self.daemon.ctl("scrub", "start", self.agent.source, "--wait", "--no-progress")
        self.moment(verify=True)
        wait_for(self.is_old_after_a_while, 120, "a fold, a merge and a point of the policy")
        # How long the agent was there between two points is forgotten by a restart, and counted as all of the time: within this window.
        self.daemon.ctl("policy", "set", self.agent.source, "--journal-window", "10m")
        self.daemon.restart("stop")  # so that checkpoints that had left the window and are there still are points again
        self.write("root", range(20, 40))
        self.moment()
        self.write("data", [2, 7, 1200, DATA_BYTES // BLOCK - 1])
        self.moment()
        points, self.source = self.points(), self.daemon.source(self.agent.source)
        self.daemon.kill()
        return points

    def is_old_after_a_while(self):
        """The window ends at the newest point: it moves when there is one."""
        self.write("root", [self.writes % 150])
        self.moment()
        by_policy = [p for p in self.points().values() if p["kept"] and not p["name"]]
        return by_policy and self.base_lsn() > 0 and packed_segments(self.daemon.data)

    def expected(self, points):
        listed = []
        for point, p in points.items():
            digests = next(digests for new, digests in self.moments if point in new)
            listed.append({"pointInTimeID": point, **{key: p[key] for key in ("lsn", "timestamp", "consistency", "complete", "name", "held", "kept")},
                           "sha256": digests})
        return {"sourceServerID": self.agent.source, "sizes": {"root": ROOT_BYTES, "data": DATA_BYTES}, "points": listed,
                "source": {path: pick(self.source, path) for path in REMEMBERED}}


def files_of_kind(area, pattern, magic, at, value):
    """Files of the journal with this magic, and this number at an offset of their first page."""
    for path in area.glob("sources/*/journal/" + pattern):
        page = path.read_bytes()[:BLOCK]
        if page[:8] == magic and struct.unpack_from("<I", page, at)[0] == value:
            yield path


def packed_segments(area):
    return [*files_of_kind(area, "*.seg", b"HFPAK001", 8, 1)]


def check(area, points):
    """Is everything in it that it is for?"""
    journal = next(area.glob("sources/*/journal"))
    segments, runs = sorted(p.stem for p in journal.glob("*.seg")), sorted(p.stem for p in journal.glob("*.run"))
    assert runs and "00000001" not in segments, "no run, or nothing was folded: %s %s" % (segments, runs)
    assert segments[-1] not in runs, "the tail is sealed"
    assert packed_segments(area) and [*files_of_kind(area, "*.run", b"HFRUN001", 168, 1)], "nothing was merged and packed"
    kinds = [(p["kept"], p["name"], p["held"]) for p in points.values()]
    assert (True, "beta", True) in kinds and any(name == "alpha" for _, name, _ in kinds), kinds
    assert any(not kept for kept, _, _ in kinds), "no point of the window"
    assert any(kept and not name for kept, name, _ in kinds), "no point of the policy"


def main():
    version = sys.argv[1]
    with Rig("sample") as rig:
        maker = Maker(rig)
        points = maker.tell()
        area = maker.daemon.data
        check(area, points)
        archive = HERE / (version + ".tar.xz")
        subprocess.run(["tar", "-C", area.parent, "--sparse", "--sort=name", "--owner=0", "--group=0", "--numeric-owner",
                        "--transform=s/^%s/area/" % area.name, "-cJf", archive, area.name], check=True)
        (HERE / (version + ".json")).write_text(json.dumps(maker.expected(points), indent=1) + "\n")
        print("%s: %d KiB, %d points" % (archive, archive.stat().st_size // 1024, len(points)))


if __name__ == "__main__":
    main()
