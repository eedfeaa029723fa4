# SPDX-License-Identifier: Apache-2.0
"""A root of one's own to install into: this machine's, with a layer above that forgets. Root only."""
import pytest

from harness import run, unmount


class Root:
    def __init__(self, rig):
        self.rig = rig
        for name in ("upper", "work", "root"):
            rig.path(name).mkdir()
        rig.path("upper").chmod(0o755)
        self.dir = rig.path("root")
        self.enter = ["chroot", self.dir]  # before a command that is to run in it
        layers = "lowerdir=/,upperdir=%s,workdir=%s" % (rig.path("upper"), rig.path("work"))
        if run("mount", "-t", "overlay", "overlay", "-o", layers, self.dir, check=False).returncode != 0:
            pytest.skip("there is no overlayfs above %s" % rig.dir)
        rig.on_end(unmount, self.dir)
        for kind, name in (("proc", "proc"), ("devtmpfs", "dev")):
            run("mount", "-t", kind, kind, self.dir / name)
            rig.on_end(unmount, self.dir / name)

    def path(self, name):
        """Where something in it is, seen from outside."""
        return self.dir / str(name).lstrip("/")

    def run(self, *command, **options):
        return run(*self.enter, *command, **options)

    def write(self, name, text, mode=0o644):
        self.path(name).parent.mkdir(parents=True, exist_ok=True)
        self.path(name).write_text(text)
        self.path(name).chmod(mode)
