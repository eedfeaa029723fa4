# SPDX-License-Identifier: Apache-2.0
"""Another machine, as far as the network goes."""
import os

from harness import run, wait_for


class Far:
    """A network name space behind a bridge, from which the path can be taken without anybody being told. Needs root.

    Held by a process of ours, not by name: `ip netns` mounts, which a root that is no mount point (chroot) does not allow."""

    count = 0

    def __init__(self, rig):
        name, net = "hf%d-%d" % (os.getpid(), Far.count), "10.%d.%d" % (213 + Far.count, os.getpid() % 200 + 20)
        Far.count += 1
        self.name, self.server_ip = name, net + ".1"
        self.ip("link", "add", name + "b", "type", "bridge", "forward_delay", "0")
        rig.on_end(self.ip, "link", "del", name + "b")
        self.ip("addr", "add", net + ".1/24", "dev", name + "b")
        self.ip("link", "set", name + "b", "up")
        self.holder = rig.program(name, ["unshare", "--net", "sleep", "infinity"])
        wait_for(lambda: os.readlink("/proc/%d/ns/net" % self.holder.pid) != os.readlink("/proc/self/ns/net"), 10, "a name space")
        self.ip("link", "add", name + "a", "type", "veth", "peer", "name", "eth0", "netns", self.holder.pid)
        rig.on_end(self.ip, "link", "del", name + "a")  # what TCP still has to deliver keeps the name space, and its end of this
        self.give_path()
        self.ip("link", "set", name + "a", "up")
        run(*self.prefix, "ip", "addr", "add", net + ".2/24", "dev", "eth0")
        run(*self.prefix, "ip", "link", "set", "eth0", "up")

    @staticmethod
    def ip(*arguments):
        run("ip", *arguments)

    def give_path(self):
        self.ip("link", "set", self.name + "a", "master", self.name + "b")

    def narrow(self, mbps):
        """What comes from there shares so much from now on, and a queue of a twentieth of a second."""
        run(*self.prefix, "tc", "qdisc", "replace", "dev", "eth0", "root", "tbf", "rate", "%dmbit" % mbps, "burst", "64kb", "latency", "50ms")

    def take_path(self):
        self.ip("link", "set", self.name + "a", "nomaster")

    @property
    def prefix(self):
        return ["nsenter", "--target", self.holder.pid, "--net"]
