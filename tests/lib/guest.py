# SPDX-License-Identifier: Apache-2.0
"""A root booted: systemd as the first process of namespaces of its own, on the machine's kernel. Root only.

It is a container as systemd understands one: of its kernel it sees what it must (/sys and /proc/sys cannot be written, there are
no modules to load and no clock to set), it has a network of its own with nothing in it but lo, and a /dev with what every machine
has. Its control groups are a branch of the machine's unified hierarchy, which every kernel has beside the old ones; so devices
are allowed and denied as on a machine of today, and limits (memory, tasks) are not kept. It dies with its first process, and
that with the test.
"""
import contextlib
import os
import pathlib
import stat

import pytest

from harness import own_mounts, run, unmount, wait_for

SYSTEMD = "/lib/systemd/systemd"
NAMESPACES = ["--mount", "--cgroup", "--pid", "--net", "--uts", "--ipc"]

# $1 is the control group, $2 the root.
JOIN = 'echo $$ > "$1/cgroup.procs"; shift; exec "$@"'
BOOT = """set -e
cd "$1"
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs dev
for name in null zero full random urandom tty; do cp -a /dev/$name dev/; done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs tmpfs tmp
pivot_root . mnt
umount --lazy mnt
exec setpriv --bounding-set -sys_module,-sys_time env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin """ + SYSTEMD + "\n"


def forget_services(root):
    """What this machine starts when it boots is none of the guest's business, and neither are its disks."""
    run("sh", "-c", 'rm -rf "$1"/etc/systemd/system/* "$1"/etc/rc?.d/* "$1"/etc/fstab "$1"/usr/sbin/policy-rc.d', "sh", root.dir)


def leave_group(group):
    """No process, and then no group. The first process has been killed by now; the others die with it."""
    wait_for(lambda: "populated 0" in (group / "cgroup.events").read_text(), 30, "the end of %s" % group)
    for folder, _, _ in os.walk(group, topdown=False):
        os.rmdir(folder)


def control_group(rig):
    """A new one below our own."""
    top = rig.path("cgroup")
    top.mkdir()
    if run("mount", "-t", "cgroup2", "cgroup2", top, check=False).returncode != 0:
        pytest.skip("this kernel has no unified hierarchy of control groups")
    rig.on_end(unmount, top)
    own = next(line[3:] for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
    group = top / own.lstrip("/") / rig.dir.name
    group.mkdir()
    rig.on_end(leave_group, group)
    return group


def first_process(program):
    """Its pid once systemd is what it runs; None: not yet."""
    assert program.is_alive(), program.log.read_text()
    for pid in program.children():
        with contextlib.suppress(OSError):
            if pathlib.Path("/proc/%d/comm" % pid).read_text() == "systemd\n":
                return pid
    return None


def boot(root):
    """Returns when its system is up; from then on root.run() runs in it, and what its journal says is among the rig's logs.
    /run, /tmp and /dev are the guest's alone: root.path() does not see them."""
    if not pathlib.Path(SYSTEMD).exists():
        pytest.skip("there is no %s" % SYSTEMD)
    tried = run(*own_mounts(), "unshare", *NAMESPACES, "--fork", "true", check=False)
    if tried.returncode != 0:
        pytest.skip("no namespaces: %s" % tried.stderr.strip())
    forget_services(root)
    group = control_group(root.rig)
    program = root.rig.program("guest", ["sh", "-c", JOIN, "sh", group, *own_mounts(), "unshare", *NAMESPACES, "--fork", "--kill-child",
                                         "sh", "-c", BOOT, "sh", root.dir])
    pid = wait_for(lambda: first_process(program), 20, "systemd")
    root.enter = ["nsenter", "--target", pid, "--mount", "--cgroup", "--pid", "--net", "--uts", "--ipc", "--root", "--wd"]
    wait_for(lambda: root.run("systemctl", "is-system-running", check=False).stdout.strip() in ("running", "degraded"), 60, "the guest's boot")
    root.rig.program("journal", [*root.enter, "journalctl", "--follow", "--no-tail", "--output", "short-precise"])


def add_device(root, device):
    """One of this machine's block devices, seen by the guest."""
    number = os.stat(device).st_rdev
    assert stat.S_ISBLK(os.stat(device).st_mode)
    root.run("mknod", device, "b", os.major(number), os.minor(number))
