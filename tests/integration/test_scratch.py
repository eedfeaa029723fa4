# SPDX-License-Identifier: Apache-2.0
"""What a killed run of the tests leaves is cleared by the next one, and nobody else's."""
import os
import pathlib
import subprocess
import sys

import harness
import pytest
import scratch
from harness import run

MAKER = """
import os, subprocess, sys
import scratch
made = scratch.Scratch()
image, where = made.dir / "image", made.dir / "mounted"
image.write_bytes(b"")
os.truncate(image, 16 << 20)
where.mkdir()
if os.geteuid() == 0:
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    device = subprocess.run(["losetup", "--find", "--show", image], check=True, capture_output=True, text=True).stdout.strip()
    subprocess.run(["mount", device, where], check=True)
left = subprocess.Popen(["sleep", "1000"], env={**os.environ, "TMPDIR": str(made.dir)}, stdout=subprocess.DEVNULL)
while str(made.dir).encode() not in open("/proc/%d/environ" % left.pid, "rb").read():
    pass  # its pipe ends a moment before it has its environment
print(made.dir, left.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture(name="maker")
def maker_fixture():
    """(process, its scratch directory, a process it started)"""
    maker = subprocess.Popen([sys.executable, "-c", MAKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                             env={**os.environ, "PYTHONPATH": str(pathlib.Path(scratch.__file__).parent)})
    where, pid = maker.stdout.readline().split()
    yield maker, pathlib.Path(where), int(pid)
    maker.kill()
    maker.wait()
    if pathlib.Path(where).exists():
        scratch.clear(pathlib.Path(where), 0)


def test_what_a_killed_run_left_is_cleared(maker):
    process, where, pid = maker
    inode = str((where / "image").stat().st_ino)
    process.kill()
    process.wait()
    left = "\n".join(scratch.sweep())
    assert not where.exists()
    assert f"process {pid}:" in left
    assert inode not in run("losetup", "--list", "--noheadings", "--output", "BACK-INO").stdout.split()
    assert str(where) not in pathlib.Path("/proc/self/mounts").read_text(encoding="utf-8")
    if harness.IS_ROOT:
        assert f"mount {where}/mounted" in left and "loop device /dev/loop" in left


def test_what_a_living_run_made_stays(maker):
    process, where, pid = maker
    scratch.sweep()
    assert (where / "image").exists() and process.poll() is None and os.path.exists(f"/proc/{pid}")


def test_a_directory_without_an_owner_is_somebody_elses(rig):
    other = scratch.BASE / (rig.dir.name + "-other")
    other.mkdir()
    rig.on_end(other.rmdir)
    scratch.sweep()
    assert other.exists()
