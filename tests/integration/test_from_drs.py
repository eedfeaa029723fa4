# SPDX-License-Identifier: Apache-2.0
"""docs/from-drs.md: one goes through all its steps, in its order, and sees what it shows."""
import os
import pathlib
import re
import shlex

import pytest

from harness import IS_ROOT, MIB, first_difference, own_mounts, random_bytes, wait_for
from screens import Page, look

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "from-drs.md"
ADDRESS = "192.0.2.10"
# One machine plays both: the source has a name and a disk of its own.
SOURCE = 'hostname db01; mount -t tmpfs none /srv; touch /srv/data.disk; mount --bind %s /srv/data.disk; exec "$@"'


class Walk:
    def __init__(self, rig):
        self.rig, self.daemon = rig, rig.daemon()
        self.disk = rig.file("data.disk", random_bytes(rig.random, 8 * MIB))
        self.prefix = [*own_mounts(), "unshare", "--uts", "sh", "-c", SOURCE % self.disk, "sh"]
        self.agent = rig.agent(self.daemon, {}, enroll=False, prefix=self.prefix, interval="10s")
        self.token = None
        self.swap = [(ADDRESS + " --token", "%s:%d --token" % (self.daemon.host, self.daemon.enroll_port)),
                     ("--address " + ADDRESS, "--address %s:%d" % (self.daemon.host, self.daemon.enroll_port)),
                     ("%s:1501" % ADDRESS, "%s:%d" % (self.daemon.host, self.daemon.enroll_port)),
                     ("6.1.0-40-amd64", os.uname().release), ("/tmp/data.img", str(rig.path("data.img")))]

    def see(self, name, columns, **options):
        prepare = getattr(self, "before_" + name.replace("-", "_"), None)
        if prepare:
            prepare()
        text = look(PAGE, name, columns, self.daemon, swap=self.swap, **options)
        finish = getattr(self, "after_" + name.replace("-", "_"), None)
        if finish:
            finish(text)

    def after_token(self, text):
        self.token = re.search(r"--token (\S+)", text)[1]
        self.swap += [(" hf1...", " " + self.token)]

    def before_enroll(self):
        state = " --state %s" % self.agent.state_dir
        self.swap += [("holdfast-agent enroll", shlex.join(self.prefix) + " holdfast-agent enroll" + state), ("agent run", "agent run" + state)]

    def after_enroll(self, text):
        self.agent.source = re.search(r"^s-[0-9a-f]{17}$", text, re.MULTILINE)[0]
        self.agent.start()
        self.daemon.wait_ready(self.agent.source)

    def before_status(self):
        self.daemon.wait_state(self.agent.source, "CONTINUOUS")

    def before_source(self):
        wait_for(lambda: self.daemon.source(self.agent.source)["agent"]["activity"] == "IDLE", 30, "the agent to rest")

    def before_verify(self):
        self.daemon.wait_state(self.agent.source, "CONTINUOUS")

    def after_stop(self, text):
        self.daemon.wait_state(self.agent.source, "STOPPED")

    def after_start(self, text):
        self.daemon.wait_streaming(self.agent.source)

    def after_export(self, text):
        assert first_difference(self.disk, self.rig.path("data.img")) is None


@pytest.mark.skipif(not IS_ROOT, reason="a host name of its own needs root")
def test_every_step_shows_what_the_page_says(rig):
    walk = Walk(rig)
    for name, columns in Page(PAGE).shown:
        walk.see(name, columns)
    walk.agent.stop()
