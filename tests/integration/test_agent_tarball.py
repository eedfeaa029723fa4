# SPDX-License-Identifier: Apache-2.0
"""The static agent: alone in a root that has nothing but it, on a kernel that answers like 3.10, and its installer."""
import json
import shutil
import sys

import pytest

from harness import BUILD, IS_ROOT, MIB, ROOT, SLOW, first_difference, patchwork, run, unmount
from root import Root

pytestmark = [pytest.mark.skipif(not IS_ROOT, reason="chroot needs root"),
              pytest.mark.skipif(SLOW != 1, reason="a sanitizer cannot be linked statically")]

# What Linux has learnt since 3.10.
NEWER = """sched_setattr sched_getattr renameat2 seccomp getrandom memfd_create kexec_file_load bpf execveat userfaultfd membarrier mlock2
copy_file_range preadv2 pwritev2 pkey_mprotect pkey_alloc pkey_free statx io_pgetevents rseq pidfd_send_signal io_uring_setup
io_uring_enter io_uring_register open_tree move_mount fsopen fsconfig fsmount fspick pidfd_open clone3 close_range openat2 pidfd_getfd
faccessat2 process_madvise epoll_pwait2 mount_setattr""".split()

# What uname() tells there: sysname, nodename, release.
UTSNAME = b"".join(text.ljust(65, b"\0") for text in (b"Linux", b"old", b"3.10.0"))

# A name server for one name, and a command that asks it, in a network of their own.
NAME_SERVER = """
import socket, subprocess, sys, threading
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 53))
def serve():
    while True:
        query, peer = server.recvfrom(512)
        end = query.index(b"\\0", 12) + 5
        known = query[12:end - 5] == b"\\7staging\\7example" and query[end - 3] == 1  # type A
        answer = query[12:end - 4] + b"\\0\\1\\0\\1\\0\\0\\0\\74\\0\\4\\177\\0\\0\\1" if known else b""
        server.sendto(query[:2] + b"\\x81\\x80" + query[4:6] + (b"\\0\\1" if known else b"\\0\\0") + b"\\0\\0\\0\\0" + query[12:end] + answer, peer)
threading.Thread(target=serve, daemon=True).start()
done = subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL)
sys.exit(done.returncode)
"""


@pytest.fixture(name="unpacked", scope="module")
def unpacked_fixture(tmp_path_factory):
    """The folder of the tarball."""
    where = tmp_path_factory.mktemp("tarball")
    made = run("make", "-C", ROOT, "--no-print-directory", "agent-tarball", "BUILD=%s" % BUILD).stdout.split()[-1]
    run("tar", "-C", where, "-xzf", made)
    yield next(where.iterdir())
    shutil.rmtree(where)


@pytest.fixture(name="alone")
def alone_fixture(rig, unpacked):
    """A root with the agent, /proc and /dev/null."""
    root = rig.path("alone")
    (root / "proc").mkdir(parents=True)
    shutil.copy(unpacked / "holdfast-agent", root)
    run("mount", "-t", "proc", "proc", root / "proc")
    rig.on_end(unmount, root / "proc")
    add_device(rig, root, "/dev/null")
    return root


def add_device(rig, root, device):
    inside = root / device.lstrip("/")
    inside.parent.mkdir(exist_ok=True)
    inside.touch()
    run("mount", "--bind", device, inside)
    rig.on_end(unmount, inside)


def replicate(daemon, root, disk, prefix=(), server=None):
    """Enrol the disk, copy it and make a point: (source, point)."""
    agent = [*prefix, "chroot", root, "/holdfast-agent"]
    server = server or "127.0.0.1"
    done = run(*agent, "enroll", "--server", "%s:%d" % (server, daemon.enroll_port), "--token", daemon.token(), "--volume", "root=%s" % disk,
               "--state", "/state", "--json")
    source = json.loads(done.stdout)["sourceServerID"]
    run(*agent, "run", "--state", "/state", "--once", "--interval", "100ms", "--progress", "none", "--compress", "zstd")
    return source, daemon.point(source, "there", newest=True)["pointInTimeID"]


def test_an_agent_alone_in_its_root_replicates_a_device(rig, alone):
    daemon = rig.daemon()
    device = rig.loop(rig.file("disk", patchwork(rig.random, 3 * MIB)))
    (alone / "sys").mkdir()
    run("mount", "-t", "sysfs", "sysfs", alone / "sys")  # where it finds out what the device is; a file needs only /proc
    rig.on_end(unmount, alone / "sys")
    add_device(rig, alone, device)
    source, point = replicate(daemon, alone, device)
    assert first_difference(device, daemon.export(source, "root", point)) is None


def test_a_kernel_of_3_10_is_enough(rig, alone):
    """Every system call that is newer is answered as that kernel would, and it has that name."""
    daemon = rig.daemon()
    (alone / "disk").write_bytes(patchwork(rig.random, MIB))
    for device in ("/dev/random", "/dev/urandom"):
        add_device(rig, alone, device)
    log = rig.path("strace.log")
    strace = ["strace", "-f", "-qq", "-A", "-o", log, "-e", "trace=uname,%s" % ",".join(NEWER),
              "-e", "inject=%s:error=ENOSYS" % ",".join(NEWER), "-e", "inject=uname:poke_exit=@arg1=" + UTSNAME.hex(), "--"]
    source, point = replicate(daemon, alone, "/disk", prefix=strace)
    assert first_difference(alone / "disk", daemon.export(source, "root", point)) is None
    said = log.read_text()
    assert "getrandom(" in said and "ENOSYS" in said and 'nodename="old"' in said
    assert "ABI: 3.2.0" in run("readelf", "--notes", alone / "holdfast-agent").stdout


def test_names_need_no_library(rig, alone):
    """From /etc/hosts and from a name server; and what else nsswitch.conf names is not loaded, for it is of another C library."""
    daemon = rig.daemon()
    (alone / "etc").mkdir()
    (alone / "etc/hosts").write_text("127.0.0.1 hosts.example\n")
    (alone / "etc/resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    (alone / "etc/nsswitch.conf").write_text("hosts: files dns myhostname\n")
    (alone / "disk").write_bytes(patchwork(rig.random, MIB))
    source, point = replicate(daemon, alone, "/disk", server="hosts.example")
    assert first_difference(alone / "disk", daemon.export(source, "root", point)) is None

    log = rig.path("strace.log")
    for name, answer in (("staging.example", "refused"), ("nowhere.example", "nowhere.example: ")):
        done = run("unshare", "--net", "strace", "-f", "-qq", "-A", "-o", log, "-e", "trace=open,openat", "--", sys.executable, "-c", NAME_SERVER,
                   "chroot", alone, "/holdfast-agent", "enroll", "--server", name, "--token", daemon.token(), "--volume", "root=/disk", "--state",
                   "/other", check=False)
        assert done.returncode != 0 and answer in done.stderr, done.stderr
    assert "/etc/resolv.conf" in log.read_text() and "libnss" not in log.read_text().split("/etc/resolv.conf", 1)[1]


def add_systemd(root, version):
    root.write("/usr/bin/systemctl", "#!/bin/sh\necho \"$@\" >>/var/tmp/asked\necho systemd %d\n" % version, 0o755)
    root.path("/run/systemd/system").mkdir(parents=True, exist_ok=True)


@pytest.mark.parametrize("version,filtered", [(252, True), (219, False)])
def test_the_installer_knows_the_systemd_it_meets(rig, unpacked, version, filtered):
    root = Root(rig)
    add_systemd(root, version)
    shutil.copytree(unpacked, root.path("/var/tmp/unpacked"))
    unit = root.path("/etc/systemd/system/holdfast-agent.service")
    assert "systemctl start holdfast-agent" in root.run("sh", "/var/tmp/unpacked/install.sh").stdout
    assert "ExecStart=/usr/local/sbin/holdfast-agent run" in unit.read_text()
    assert ("SystemCallFilter" in unit.read_text()) == filtered
    assert "enable holdfast-agent\n" in root.path("/var/tmp/asked").read_text()
    assert root.run("/usr/local/sbin/holdfast-agent", "--version").stdout.startswith("holdfast-agent ")
    root.path("/var/lib/holdfast-agent").mkdir(parents=True, exist_ok=True)
    assert "/var/lib/holdfast-agent stays" in root.run("sh", "/var/tmp/unpacked/install.sh", "--uninstall").stdout
    assert not unit.exists() and not root.path("/usr/local/sbin/holdfast-agent").exists()


def test_the_installer_without_systemd_says_how_to_run(rig, unpacked):
    root = Root(rig)
    shutil.rmtree(root.path("/run/systemd"), ignore_errors=True)
    shutil.copytree(unpacked, root.path("/var/tmp/unpacked"))
    assert "/opt/hf/sbin/holdfast-agent run" in root.run("sh", "/var/tmp/unpacked/install.sh", "--prefix", "/opt/hf").stdout
    assert not root.path("/etc/systemd/system/holdfast-agent.service").exists()


def test_the_installer_gives_pages_and_completion_below_its_prefix_alone(rig, unpacked):
    """And takes only those away: what is in /usr/share is a package's."""
    root = Root(rig)
    shutil.rmtree(root.path("/run/systemd"), ignore_errors=True)
    shutil.copytree(unpacked, root.path("/var/tmp/unpacked"))
    completions = {"bash": "bash-completion/completions/holdfast-agent", "zsh": "zsh/site-functions/_holdfast-agent",
                   "fish": "fish/vendor_completions.d/holdfast-agent.fish"}
    for file in completions.values():
        root.write("/usr/share/" + file, "a package's")
    root.run("sh", "-c", "umask 077; exec sh /var/tmp/unpacked/install.sh")
    for shell, file in completions.items():
        made = root.run("/usr/local/sbin/holdfast-agent", "completion", shell).stdout
        assert root.run("runuser", "-u", "nobody", "--", "cat", "/usr/local/share/" + file).stdout == made
    page = root.path("/usr/local/share/man/man8/holdfast-agent.8")
    assert page.read_text() == (unpacked / "holdfast-agent.8").read_text()
    root.run("sh", "/var/tmp/unpacked/install.sh", "--uninstall")
    assert not page.exists() and not any(root.path("/usr/local/share/" + file).exists() for file in completions.values())
    assert {root.path("/usr/share/" + file).read_text() for file in completions.values()} == {"a package's"}


def test_the_installer_goes_on_where_pages_and_completion_cannot_be_written(rig, unpacked):
    root = Root(rig)
    add_systemd(root, 252)
    shutil.copytree(unpacked, root.path("/var/tmp/unpacked"))
    for share in ("/usr/share", "/usr/local/share"):
        run("mount", "-t", "tmpfs", "-o", "ro", "tmpfs", root.path(share))
        rig.on_end(unmount, root.path(share))
    done = root.run("sh", "/var/tmp/unpacked/install.sh")
    assert done.stderr.count("goes on without /usr/local/share/") == 4 and "token create" in done.stdout
    assert root.run("/usr/local/sbin/holdfast-agent", "--version").stdout.startswith("holdfast-agent ")
    assert root.path("/etc/systemd/system/holdfast-agent.service").exists()
    assert "enable holdfast-agent\n" in root.path("/var/tmp/asked").read_text()
    root.run("sh", "/var/tmp/unpacked/install.sh", "--uninstall")
    assert not root.path("/etc/systemd/system/holdfast-agent.service").exists()


def test_the_installer_does_not_send_one_who_upgrades_to_enrol(rig, unpacked):
    root = Root(rig)
    shutil.rmtree(root.path("/run/systemd"), ignore_errors=True)
    shutil.copytree(unpacked, root.path("/var/tmp/unpacked"))
    assert "token create" in root.run("sh", "/var/tmp/unpacked/install.sh").stdout
    root.write("/var/lib/holdfast-agent/agent.json", "{}")
    said = root.run("sh", "/var/tmp/unpacked/install.sh").stdout
    assert "enrolled" in said and "/usr/local/sbin/holdfast-agent run" in said and "token create" not in said
