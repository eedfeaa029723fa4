# SPDX-License-Identifier: Apache-2.0
"""The Debian packages: built, looked at by lintian, and then a life of them in a root of their own: a copy of this machine's that
forgets what was done to it. Without systemd in it the service program is started as the unit says; then the same life under a
systemd of its own."""
import json
import pathlib
import re
import shutil

import pytest

import guest
from harness import IS_ROOT, MIB, ROOT, Rig, first_difference, free_port, patchwork, run, unmount, wait_for
from root import Root

NAMES = ["holdfast-server", "holdfast-client", "holdfast-agent", "holdfast-monitoring"]
CONFIG = "/etc/holdfast/holdfastd.conf"
DATA = "/var/lib/holdfast"

pytestmark = pytest.mark.skipif(not IS_ROOT, reason="a root of its own needs root")


@pytest.fixture(name="built", scope="module")
def built_fixture(tmp_path_factory):
    """The folder with the packages."""
    build = tmp_path_factory.mktemp("deb")
    run("make", "-C", ROOT, "--no-print-directory", "deb", "BUILD=%s" % build)
    yield build / "deb"
    shutil.rmtree(build)


def packages(folder):
    found = {path.name.split("_")[0]: path for path in folder.glob("*.deb")}
    return [found[name] for name in NAMES]


def next_version(folder, to):
    """The same packages, one version later."""
    to.mkdir()
    for package in packages(folder):
        tree = to / package.stem
        run("dpkg-deb", "--raw-extract", package, tree)
        control = tree / "DEBIAN/control"
        control.write_text(re.sub(r"(?m)^(Version: \S+?)$|(?<=holdfast-client \(= )([^)]+)",
                                  lambda m: m.group() + "+next", control.read_text()))
        run("dpkg-deb", "--build", tree, to)
        shutil.rmtree(tree)
    return packages(to)


class Packaged(Root):
    """A root that packages are put into."""

    def dpkg(self, *arguments):
        """Its output. Packages that this machine lacks to build with are none of our business, those to run with are."""
        done = self.run("env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "--force-unsafe-io", *arguments)
        return done.stdout + done.stderr

    def install(self, debs):
        inside = self.path("/var/tmp/debs")
        inside.mkdir(exist_ok=True)
        for deb in debs:
            shutil.copy(deb, inside)
        return self.dpkg("--install", *("/var/tmp/debs/%s" % deb.name for deb in debs))

    def unit(self, name):
        """key -> value of a unit that is installed; the last one of each key."""
        text = self.path("/lib/systemd/system/%s" % name).read_text()
        return dict(re.findall(r"(?m)^(\w+)=(.*)$", text))

    def start_service(self, port, enroll_port):
        """What systemd would do."""
        unit = self.unit("holdfastd.service")
        self.path("/etc/holdfast/conf.d/test.conf").write_text("[server]\nlisten = 127.0.0.1:%d\nenroll_listen = 127.0.0.1:%d\nworkers = 1\n"
                                                               "[storage]\nreserve = 16MiB\n" % (port, enroll_port))
        run_dir = self.path("/run/holdfast")
        run_dir.mkdir(mode=0o755, exist_ok=True)
        self.run("chown", "holdfast:", "/run/holdfast")
        env = ["STATE_DIRECTORY=%s" % DATA, "RUNTIME_DIRECTORY=/run/holdfast"]
        daemon = self.rig.program("holdfastd", ["chroot", self.dir, "setpriv", "--reuid", unit["User"], "--regid", unit["User"],
                                                "--init-groups", "env", *env, *unit["ExecStart"].split()])
        wait_for(lambda: self.ctl("status", check=False).returncode == 0 or not daemon.is_alive(), 30, "holdfastd")
        assert daemon.is_alive(), daemon.log.read_text()
        return daemon

    def ctl(self, *arguments, **options):
        return self.run("holdfastctl", *arguments, "--socket", "/run/holdfast", **options)

    def journal(self, unit):
        return self.run("journalctl", "--unit", unit, "--output", "cat").stdout

    def ctl_as(self, group, *arguments):
        """The exit code that a member of a group gets."""
        return self.run("setpriv", "--reuid", "nobody", "--regid", "nogroup", "--groups", group, "holdfastctl", *arguments,
                        check=False).returncode


def test_packages_are_clean(built, tmp_path):
    assert sorted(p.name.split("_")[0] for p in built.glob("*.deb") if "dbgsym" not in p.name) == sorted(NAMES)
    done = run("env", "TMPDIR=%s" % tmp_path, "lintian", "--allow-root", "--fail-on", "error,warning", *built.glob("*.changes"),
               check=False)  # it leaves files behind
    assert (done.returncode, done.stdout) == (0, "")


def test_every_man_page_is_in_one_package(built):
    pages = [line.split("/")[-1] for deb in packages(built) for line in run("dpkg-deb", "--contents", deb).stdout.splitlines()
             if "/man/" in line and not line.endswith("/")]
    assert sorted(pages) == sorted(page.stem + ".gz" for page in (ROOT / "docs/man").glob("*.scd"))


def test_units_start_nothing_that_a_machine_may_lack():
    """A reload by /bin/kill failed where there was no procps."""
    for unit in (ROOT / "deploy/systemd").glob("*.service"):
        programs = set(re.findall(r"(?m)^Exec\w+=(\S+)", unit.read_text()))
        assert any(program.startswith("/usr/sbin/holdfast") for program in programs)
        for program in (p for p in programs if not p.startswith("/usr/sbin/holdfast")):
            owner = run("dpkg", "--search", program).stdout.splitlines()[-1].split(":")[0]  # diversions come before
            assert run("dpkg-query", "--show", "--showformat=${Essential}", owner).stdout == "yes", program


def test_a_life(rig, built):
    root = Packaged(rig)
    ports = free_port(), free_port()

    # installed, and not started before it is configured
    root.install(packages(built))
    assert root.path(DATA).stat().st_mode & 0o777 == 0o700
    assert root.run("stat", "-c", "%U", DATA).stdout == "holdfast\n"
    assert root.unit("holdfastd.service")["ConditionPathExists"] == CONFIG and not root.path(CONFIG).exists()
    assert not root.path(root.unit("holdfast-agent.service")["ConditionPathExists"]).exists()

    # started
    root.run("cp", "/usr/share/doc/holdfast-server/examples/holdfastd.conf", "/etc/holdfast/")
    daemon = root.start_service(*ports)
    assert [root.ctl_as("holdfast-monitor", *words) for words in (["status"], ["token", "create"])] == [0, 5]
    assert root.ctl_as("holdfast-admin", "token", "create", "--address", "127.0.0.1") == 0
    assert root.ctl_as("nogroup", "status") == 5

    # used
    image = patchwork(rig.random, 2 * MIB + 4096)
    root.path("/var/tmp/disk").write_bytes(image)
    line = root.ctl("token", "create", "--address", "127.0.0.1:%d" % ports[1]).stdout.split()
    source = root.run(*line, "--volume", "root=/var/tmp/disk").stdout.split()[-1]
    assert root.path(root.unit("holdfast-agent.service")["ConditionPathExists"]).exists()
    replicate = ["holdfast-agent", "run", "--once", "--interval", "100ms", "--progress", "none"]
    root.run(*replicate)
    point = root.ctl("pit", "create", source, "--newest", "--name", "first").stdout.strip()
    assert root.run("/usr/lib/nagios/plugins/check_holdfast", check=False).returncode != 3
    # what an interactive shell does at the first Tab
    for name in ("holdfastctl", "holdfast-agent", "holdfastd"):
        script = ". /usr/share/bash-completion/completions/%s; complete -p %s" % (name, name)
        assert "_" + name in root.run("bash", "-c", script).stdout

    # upgraded: data, identity and configuration survive
    assert daemon.stop() == 0
    with open(root.path(CONFIG), "a", encoding="utf-8") as f:
        f.write("[tls]\ntoken_lifetime = 2h\n")
    before = root.path(CONFIG).read_text()
    root.install(next_version(built, rig.path("next")))
    assert root.run("dpkg-query", "-W", "-f", "${Version}", "holdfast-server").stdout.endswith("+next")
    assert root.path(CONFIG).read_text() == before
    daemon = root.start_service(*ports)
    assert "first" in root.ctl("pit", "list", source).stdout
    root.run(*replicate)
    assert daemon.stop() == 0

    # removed: programs go, nothing else does
    root.dpkg("--remove", "holdfast-server", "holdfast-agent", "holdfast-monitoring")
    assert not root.path("/usr/sbin/holdfastd").exists() and not root.path("/usr/sbin/holdfast-agent").exists()
    assert root.path(CONFIG).read_text() == before

    # purged: configuration and keys of the agent go, the copies of disks stay and are good
    said = root.dpkg("--purge", "holdfast-server", "holdfast-agent", "holdfast-monitoring")
    assert "%s stays" % DATA in said
    assert not root.path("/etc/holdfast").exists() and not root.path("/var/lib/holdfast-agent").exists()
    root.run("holdfastctl", "export", "file", source, "--volume", "root", "--at", point, "-o", "/var/tmp/out", "--data-dir", DATA,
             "--no-progress")
    assert first_difference(root.path("/var/tmp/disk"), root.path("/var/tmp/out")) is None


def test_an_area_without_sources_is_purged(rig, built):
    root = Packaged(rig)
    root.install(packages(built)[:2])
    root.path(CONFIG).write_text("")
    assert root.start_service(free_port(), free_port()).stop() == 0
    assert root.path(DATA + "/holdfast.db").exists()
    assert "stays" not in root.dpkg("--purge", "holdfast-server")
    assert not root.path(DATA).exists()


# ---- the same under systemd: one guest, and its tests are the days of its life ----

@pytest.fixture(name="machine", scope="module")
def machine_fixture(built):
    """A guest with the packages, and a disk with a file system at /srv. That is mounted outside, too: should the guest die with
    it frozen, somebody must be left who can thaw it."""
    with Rig("machine") as rig:
        root = Packaged(rig)
        root.mount, root.disk, _ = rig.file_system("srv", 16 * MIB)
        guest.boot(root)
        guest.add_device(root, root.disk)
        root.run("mount", root.disk, "/srv")
        root.install(packages(built))
        yield root


def unit_is(root, unit="holdfastd", **wanted):
    """Whether these properties of a unit are so."""
    said = root.run("systemctl", "show", unit, *("--property=%s" % name for name in wanted)).stdout.splitlines()
    return dict(line.split("=", 1) for line in said) == wanted


def main_pid(root, unit="holdfastd"):
    return root.run("systemctl", "show", "--property=MainPID", "--value", unit).stdout.strip()


def configure(root, text):
    root.write("/etc/holdfast/conf.d/test.conf", "[storage]\nreserve = 16MiB\n" + text)


def started_again(root, since):
    """It has been started by systemd once since, and is ready."""
    wait_for(lambda: unit_is(root, NRestarts="1", ActiveState="active"), 30, "a restart")
    assert main_pid(root) not in (since, "0")
    root.ctl("status")


def test_systemd_starts_nothing_that_is_not_configured(machine):
    for unit in ("holdfastd", "holdfast-agent"):
        assert machine.run("systemctl", "is-enabled", unit).stdout == "enabled\n"
        machine.run("systemctl", "start", unit)
        assert unit_is(machine, unit, ActiveState="inactive", ConditionResult="no", NRestarts="0")


def test_systemd_starts_the_service_and_hears_how_it_goes(machine):
    machine.run("cp", "/usr/share/doc/holdfast-server/examples/holdfastd.conf", "/etc/holdfast/")
    configure(machine, "")
    machine.run("systemctl", "start", "holdfastd")
    assert unit_is(machine, Type="notify", ActiveState="active", SubState="running", NRestarts="0")
    machine.ctl("status")  # READY was no lie: it answers at once
    assert 'Status: "Ready: no sources yet' in machine.run("systemctl", "status", "holdfastd").stdout


def test_a_reload_by_systemctl_is_all_or_nothing(machine):
    pid = main_pid(machine)
    configure(machine, "[server]\nlog_level = debug\n")
    machine.run("systemctl", "reload", "holdfastd")
    wait_for(lambda: 'event=reloaded level=notice changed="server.log_level"' in machine.journal("holdfastd"), 20, "the reload")
    configure(machine, "[server]\nlog_level = shout\n")
    refused = machine.run("systemctl", "reload", "holdfastd", check=False)
    assert refused.returncode == 1
    assert "log_level" in machine.journal("holdfastd")
    assert main_pid(machine) == pid and unit_is(machine, ActiveState="active", NRestarts="0")
    configure(machine, "")


def test_a_service_that_is_killed_is_started_again(machine):
    pid = main_pid(machine)
    machine.run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", "holdfastd")
    started_again(machine, pid)


def test_a_service_that_hangs_is_ended_by_its_watchdog_and_started_again(machine):
    machine.write("/etc/systemd/system/holdfastd.service.d/test.conf", "[Service]\nWatchdogSec=3\nLimitCORE=0\n")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", "holdfastd")
    pid = main_pid(machine)
    machine.run("systemctl", "kill", "--kill-whom=main", "--signal=STOP", "holdfastd")
    started_again(machine, pid)
    assert "Watchdog timeout" in machine.journal("holdfastd")
    machine.path("/etc/systemd/system/holdfastd.service.d/test.conf").unlink()
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", "holdfastd")


def test_the_agents_unit_reads_a_disk_and_freezes_what_is_on_it(machine):
    (machine.mount / "file").write_text("mine\n")
    line = machine.ctl("token", "create", "--address", "127.0.0.1").stdout.split()
    machine.source = machine.run(*line, "--volume", "srv=%s" % machine.disk).stdout.split()[-1]
    machine.write("/etc/default/holdfast-agent", 'HOLDFAST_AGENT_OPTIONS="--interval 200ms --freeze /srv --freeze-timeout 60s"\n')
    machine.run("systemctl", "start", "holdfast-agent")
    machine.ctl("wait", machine.source, "--for", "point", "--timeout", "120s")
    machine.point = machine.ctl("pit", "create", machine.source, "--name", "first", "--timeout", "120s").stdout.strip()
    points = json.loads(machine.ctl("pit", "list", machine.source, "--json").stdout)["items"]
    assert [p["consistency"] for p in points if p["pointInTimeID"] == machine.point] == ["filesystem"]
    assert unit_is(machine, "holdfast-agent", ActiveState="active", NRestarts="0")


def is_frozen(where):
    """Asked without changing anything: what is frozen cannot be frozen again."""
    done = run("fsfreeze", "--freeze", where, check=False)
    if done.returncode == 0:
        run("fsfreeze", "--unfreeze", where)
    return "busy" in done.stderr


def signal_all(root, number):
    root.run("systemctl", "kill", "--kill-whom=all", "--signal=%s" % number, "holdfast-agent")


def test_an_agent_that_is_killed_with_its_guard_leaves_nothing_frozen(machine):
    def stands_still():
        signal_all(machine, "STOP")  # so that none sees the other's end
        if is_frozen(machine.mount):
            return True
        signal_all(machine, "CONT")
        return False

    wait_for(stands_still, 60, "a moment within a freeze")
    assert "/srv\n" in machine.run("sh", "-c", "cat /run/holdfast-agent/frozen.*").stdout
    signal_all(machine, "KILL")
    run("timeout", "--signal=KILL", "60", "touch", machine.mount / "not-frozen-after-a-kill")
    wait_for(lambda: "/srv was left frozen; thawed" in machine.journal("holdfast-agent"), 30, "its words in the journal")
    machine.run("systemctl", "start", "holdfast-agent")  # sooner than it is started again
    machine.ctl("wait", machine.source, "--for", "point", "--timeout", "120s")


def test_an_upgrade_starts_anew_what_ran(machine, built):
    before = [main_pid(machine, unit) for unit in ("holdfastd", "holdfast-agent")]
    machine.install(next_version(built, machine.rig.path("next")))
    assert unit_is(machine, ActiveState="active", NRestarts="0") and unit_is(machine, "holdfast-agent", ActiveState="active")
    after = [main_pid(machine, unit) for unit in ("holdfastd", "holdfast-agent")]
    assert "0" not in before + after and not set(before) & set(after)
    machine.ctl("pit", "create", machine.source, "--name", "upgraded", "--timeout", "120s")


def test_systemd_stops_both_in_order(machine):
    machine.run("systemctl", "stop", "holdfast-agent", "holdfastd")
    run("timeout", "--signal=KILL", "60", "touch", machine.mount / "not-frozen")
    for unit in ("holdfastd", "holdfast-agent"):
        assert unit_is(machine, unit, ActiveState="inactive", Result="success", ExecMainStatus="0")


def test_what_is_purged_runs_no_more_and_the_copy_is_good(machine):
    machine.run("systemctl", "start", "holdfastd", "holdfast-agent")
    assert "%s stays" % DATA in machine.dpkg("--purge", "holdfast-server", "holdfast-agent", "holdfast-monitoring")
    for unit in ("holdfastd", "holdfast-agent"):
        assert unit_is(machine, unit, LoadState="not-found", ActiveState="inactive")
    assert machine.run("systemctl", "is-system-running", check=False).stdout == "running\n"
    machine.run("holdfastctl", "export", "file", machine.source, "--volume", "srv", "--at", machine.point, "-o", "/var/tmp/out",
                "--data-dir", DATA, "--no-progress")
    assert machine.run("debugfs", "-R", "cat /file", "/var/tmp/out").stdout == "mine\n"


# ---- the first boot of an instance ----

def instance(rig, built, *images):
    """A root with the packages in /root/holdfast and a disk for each image: its lsblk knows of no others."""
    root = Packaged(rig)
    run("mount", "-t", "sysfs", "sysfs", root.path("/sys"))
    rig.on_end(unmount, root.path("/sys"))
    rig.on_end(unmount, root.path(DATA))
    shutil.rmtree(root.path("/run/systemd"), ignore_errors=True)
    root.write("/etc/fstab", "")
    disks = [rig.loop(image) for image in images]
    root.write("/usr/local/bin/lsblk", "#!/bin/sh\ncase $* in *--nodeps*) printf '%%s disk 0\\n' %s ;; *) exec /usr/bin/lsblk \"$@\" ;; esac\n"
               % " ".join(disks), 0o755)
    inside = root.path("/root/holdfast")
    inside.mkdir(parents=True, exist_ok=True)  # this machine may have its clone there
    for deb in packages(built):
        shutil.copy(deb, inside)
    shutil.copy(ROOT / "deploy/first-boot/first-boot", inside)
    return root, disks


def first_boot(root, *arguments, **options):
    return root.run("env", "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "sh", "/root/holdfast/first-boot", "--packages", "/root/holdfast",
                    "--address", "hold1.example", *arguments, **options)


def test_a_first_boot_makes_a_server_and_the_next_changes_nothing(rig, built):
    root, (full, empty) = instance(rig, built, rig.file("full", b"\0" * (64 * MIB - 4096) + b"x" * 4096), rig.empty_file("empty", 400 * MIB))
    said = first_boot(root).stdout
    assert said.endswith("  holdfastctl token create --address hold1.example\n") and "making a file system on %s" % empty in said
    assert root.run("findmnt", "-n", "-o", "SOURCE,FSTYPE", DATA).stdout.split() == [empty, "xfs"]
    assert root.run("stat", "-c", "%U %a", DATA).stdout == "holdfast 700\n"
    daemon = root.start_service(free_port(), free_port())
    identity, table = root.path(DATA + "/IDENTITY").read_text(), root.path("/etc/fstab").read_text()
    assert daemon.stop() == 0

    root.write("/etc/holdfast/holdfastd.conf", "# mine\n")
    unmount(root.path(DATA))  # as after a boot that did not get far
    assert "making a file system" not in first_boot(root).stdout
    assert root.path(DATA + "/IDENTITY").read_text() == identity
    assert root.path("/etc/fstab").read_text() == table and table.count("\n") == 1
    assert root.path(CONFIG).read_text() == "# mine\n"
    assert pathlib.Path(full).read_bytes().endswith(b"x")


def test_a_disk_that_is_not_empty_is_never_formatted(rig, built):
    signed = rig.empty_file("signed", 64 * MIB)
    run("mkfs.ext4", "-q", "-F", signed)
    root, (signed, full) = instance(rig, built, signed, rig.file("full", b"x" + b"\0" * (64 * MIB - 1)))
    before = [run("sha256sum", disk).stdout for disk in (signed, full)]
    for words, said in (((), "there is no empty disk"), (("--disk", signed), "has something on it"), (("--disk", full), "has something on it"),
                        (("--disk", "/dev/null"), "is no disk")):
        done = first_boot(root, *words, check=False)
        assert done.returncode == 1 and said in done.stderr
    assert [run("sha256sum", disk).stdout for disk in (signed, full)] == before


def test_two_empty_disks_are_a_question(rig, built):
    root, disks = instance(rig, built, rig.empty_file("one", 400 * MIB), rig.empty_file("two", 400 * MIB))
    done = first_boot(root, check=False)
    assert done.returncode == 1 and all(disk in done.stderr for disk in disks)
    assert run("blkid", *disks, check=False).stdout == ""


def test_the_example_of_user_data_is_understood():
    yaml = pytest.importorskip("yaml")
    data = yaml.safe_load((ROOT / "deploy/first-boot/user-data.yaml").read_text())
    assert data["runcmd"][-1] == "sh /root/holdfast/first-boot --packages /root/holdfast"
