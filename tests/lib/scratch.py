# SPDX-License-Identifier: Apache-2.0
"""Directories of the tests' own, and what was left in them.

One whose maker was killed stays, and so may its processes, mounts and loop devices: `mkfs.btrfs`, which asks every loop device of
the machine what it is made of, then fails in each later run. So a directory tells whether its maker lives, by a lock that ends with
it, and the next run clears what is left.
"""
import contextlib
import fcntl
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

BASE = pathlib.Path(os.environ.get("HOLDFAST_SCRATCH", "/var/tmp"))  # no tmpfs: that does no O_DIRECT
PREFIX = "hf-"
OWNER = ".owner"  # locked as long as the maker lives; it comes into the directory locked


class Scratch:
    """A new directory; its path is short, for sockets are in it."""

    def __init__(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix=PREFIX, dir=BASE))
        unlocked = self.dir / "owner"
        self.lock = os.open(unlocked, os.O_CREAT | os.O_RDWR)
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        unlocked.rename(self.dir / OWNER)

    def disown(self):
        """It is anybody's from now on: no sweep takes it away."""
        with contextlib.suppress(FileNotFoundError):
            (self.dir / OWNER).unlink()
        os.close(self.lock)

    def clear(self):
        """Take it away with all that is in it; a line for each thing that was."""
        left = clear(self.dir)
        self.disown()
        return left


def processes_of(scratch):
    """(pid, command) of what was started with this scratch directory in its environment and still lives."""
    mark = f"TMPDIR={scratch}".encode()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if mark in pathlib.Path("/proc", pid, "environ").read_bytes().split(b"\0"):
                yield int(pid), pathlib.Path("/proc", pid, "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")


def mounts_in(scratch):
    lines = pathlib.Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    return [where for where in (line.split()[1] for line in lines) if where.startswith(f"{scratch}/")]


def loops_in(scratch):
    for backing in pathlib.Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            if backing.read_text(encoding="utf-8").startswith(f"{scratch}/"):
                yield f"/dev/{backing.parts[3]}"


def clear(scratch, patience=5):
    """Within so many seconds processes that end with their parent, as they have begun to, are not said to be left."""
    left = []
    deadline = time.monotonic() + patience
    while any(processes_of(scratch)) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid, command in processes_of(scratch):
        left.append(f"process {pid}: {command}")
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    for device in list(loops_in(scratch)):  # first: once unmounted, nobody can tell where its file was; it goes when its mount does
        left.append(f"loop device {device}")
        subprocess.run(["losetup", "--detach", device], check=False)
    for where in reversed(mounts_in(scratch)):
        left.append(f"mount {where}")
        subprocess.run(["umount", "--lazy", where], check=False)
    left += [f"file {entry}" for entry in sorted(scratch.iterdir()) if entry.name != OWNER]
    shutil.rmtree(scratch, ignore_errors=True)
    return left


def abandoned(scratch):
    """Whether its maker is gone. One that never had an owner is somebody else's."""
    with contextlib.suppress(OSError), open(scratch / OWNER, encoding="utf-8") as owner:
        fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def sweep():
    """Clear what killed runs left; a line for each thing."""
    return [left for scratch in sorted(BASE.glob(PREFIX + "*")) if abandoned(scratch) for left in clear(scratch, 0)]
