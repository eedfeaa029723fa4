# SPDX-License-Identifier: Apache-2.0
"""An empty configuration file is enough, for root and for anybody else."""
import os
import pwd
import shutil
import stat

import pytest

from harness import BUILD, IS_ROOT, UnixConnection, own_mounts, run, wait_for
from root import Root

NOBODY = pwd.getpwnam("nobody")


def answers(program, run_dir):
    assert program.is_alive(), "holdfastd ended with exit %d" % program.process.returncode
    connection = UnixConnection(run_dir / "monitor.sock", 30)
    try:
        connection.request("GET", "/v1/version")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


def anybody(rig, name, data_dir_line=""):
    """holdfastd run by nobody (or by whoever runs the tests), with nothing but a home: (program, home)."""
    home = rig.path(name + "-home")
    home.mkdir(mode=0o700)
    config = rig.path(name + ".conf")
    config.write_text(data_dir_line)
    program, prefix = BUILD / "holdfastd", []
    if IS_ROOT:
        rig.dir.chmod(0o755)
        os.chown(home, NOBODY.pw_uid, NOBODY.pw_gid)
        program = shutil.copy(program, rig.path(name))
        # A network of its own: the default ports are free there. --pdeathsig again, for it is lost with the user id.
        prefix = ["unshare", "-n", "setpriv", "--reuid", str(NOBODY.pw_uid), "--regid", str(NOBODY.pw_gid), "--clear-groups",
                  "--pdeathsig", "KILL"]
    command = ["env", "-u", "XDG_STATE_HOME", "-u", "XDG_RUNTIME_DIR", "HOME=%s" % home, *prefix, program, "-c", config]
    return rig.program(name, command), home


def test_an_ordinary_user_has_a_server_of_his_own(rig):
    daemon, home = anybody(rig, "daemon")
    data = home / ".local/state/holdfast"
    wait_for(lambda: answers(daemon, data / "run"), 20, "holdfastd to answer")
    owner = NOBODY.pw_uid if IS_ROOT else os.getuid()
    assert mode_of(data) == 0o700 and data.stat().st_uid == owner
    for name in ("admin.sock", "monitor.sock"):
        assert mode_of(data / "run" / name) == 0o600 and (data / "run" / name).stat().st_uid == owner
    assert daemon.log.read_text().count("event=ordinary_user") == 1
    done = run("env", "-u", "XDG_STATE_HOME", "-u", "XDG_RUNTIME_DIR", "HOME=%s" % home, BUILD / "holdfastctl", "token", "create",
               "--socket", data / "run")
    assert done.stdout.startswith("holdfast-agent enroll --server ")
    assert daemon.stop() == 0


def test_his_holdfastctl_finds_it(rig):
    daemon, home = anybody(rig, "daemon")
    wait_for(lambda: answers(daemon, home / ".local/state/holdfast/run"), 20, "holdfastd to answer")
    ctl = shutil.copy(BUILD / "holdfastctl", rig.path("ctl"))
    who = ["setpriv", "--reuid", str(NOBODY.pw_uid), "--regid", str(NOBODY.pw_gid), "--clear-groups"] if IS_ROOT else []
    run("env", "-u", "XDG_STATE_HOME", "-u", "XDG_RUNTIME_DIR", "-u", "HOLDFAST_SOCKET", "HOME=%s" % home, *who, ctl, "status")


def test_an_ordinary_users_data_dir_that_was_set_is_not_made(rig):
    missing = rig.path("missing")
    daemon, _ = anybody(rig, "daemon", "[storage]\ndata_dir = %s\n" % missing)
    assert daemon.process.wait(20) == 1
    assert "mkdir -m 0700 %s" % missing in daemon.log.read_text()
    assert not missing.exists()


def rooted(rig, name, config_text=""):
    """holdfastd run by root, with /var/lib and /run of its own: (program, the two)."""
    var_lib, var_run = rig.path("var-lib"), rig.path("run")
    for path in (var_lib, var_run):
        path.mkdir(exist_ok=True)
    config = rig.path(name + ".conf")
    config.write_text(config_text)
    script = "mount --bind \"$1\" /var/lib && mount --bind \"$2\" /run && exec \"$3\" -c \"$4\""
    command = [*own_mounts(), "unshare", "-n", "sh", "-c", script, "sh", var_lib, var_run, BUILD / "holdfastd", config]
    return rig.program(name, command), var_lib, var_run


@pytest.mark.skipif(not IS_ROOT, reason="only root has a /var/lib of his own to try it in")
def test_root_needs_no_more_than_an_empty_file(rig):
    daemon, var_lib, var_run = rooted(rig, "daemon")
    wait_for(lambda: answers(daemon, var_run / "holdfast"), 20, "holdfastd to answer")
    assert mode_of(var_lib / "holdfast") == 0o700 and (var_lib / "holdfast/IDENTITY").exists()
    assert "event=ordinary_user" not in daemon.log.read_text()
    identity = (var_lib / "holdfast/IDENTITY").read_text()
    assert daemon.stop() == 0
    again, _, _ = rooted(rig, "again")
    wait_for(lambda: answers(again, var_run / "holdfast"), 20, "holdfastd to answer")
    assert (var_lib / "holdfast/IDENTITY").read_text() == identity
    assert again.stop() == 0


@pytest.mark.skipif(not IS_ROOT, reason="only root has a /var/lib of his own to try it in")
def test_even_the_default_path_is_not_made_when_it_was_set(rig):
    daemon, var_lib, _ = rooted(rig, "daemon", "[storage]\ndata_dir = /var/lib/holdfast\n")
    assert daemon.process.wait(20) == 1
    assert "does not exist" in daemon.log.read_text()
    assert os.listdir(var_lib) == []


@pytest.mark.skipif(not IS_ROOT, reason="a root of its own needs root")
def test_who_has_enrolled_is_told_to_start_the_unit_where_there_is_one(rig):
    daemon, root = rig.daemon(), Root(rig)
    root.path("/usr/sbin").mkdir(parents=True, exist_ok=True)
    shutil.copy(BUILD / "holdfast-agent", root.path("/usr/sbin/holdfast-agent"))
    root.write("/var/tmp/disk", "x" * 8192)
    shutil.rmtree(root.path("/run/systemd"), ignore_errors=True)

    def told(source=None, *options):
        done = root.run("/usr/sbin/holdfast-agent", "enroll", "--server", "127.0.0.1:%d" % daemon.enroll_port, "--token", daemon.token(source),
                        "--volume", "root=/var/tmp/disk", *options)
        return done.stdout.strip(), done.stderr.splitlines()[-1]

    root.write("/lib/systemd/system/holdfast-agent.service", "[Service]\n")
    source, by_hand = told()  # the unit alone: systemd does not run
    assert by_hand == "  holdfast-agent run"
    root.path("/run/systemd/system").mkdir(parents=True)
    assert told(source, "--force") == (source, "  systemctl enable --now holdfast-agent")
    assert told(None, "--state", "/other")[1] == "  holdfast-agent run --state /other"
    root.path("/lib/systemd/system/holdfast-agent.service").unlink()
    assert told(source, "--force")[1] == "  holdfast-agent run"
