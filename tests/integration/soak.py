#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""make soak: a daemon among agents that come and go and clients that ask for anything, for MINUTES=10.

Eight clients take every method and every route of server/api.c, on both sockets, with what fits, with what does not, with too much,
cut off or never read. Meanwhile agents write, are killed, stopped, deleted and enrolled again; the configuration changes and is
read again; CAs and certificates are renewed. In the end all that can be undone is undone, and then it must hold that

    every answer was one that the API knows, and each came
    memory, descriptors and threads are no more than after the first third
    every source is Ready again, and gives its disk back, to the byte
    `audit --verify`, a scrub and `fsck --data` find nothing, and SIGTERM ends it with 0

With a sanitizer's build (BUILD=...) its words in any log are a failure, too; only memory is then not compared. SEED repeats the dice.
"""
import collections
import contextlib
import http.client
import json
import os
import pathlib
import random
import re
import signal
import socket
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import harness  # noqa: E402
from harness import MIB, SLOW, Refusal, Rig, Trouble, UnixConnection, first_difference, random_bytes, run, wait_for  # noqa: E402

AGENTS, CLIENTS = 8, 8
DISK_BYTES = 2 * MIB
METHODS = ("GET", "POST", "PATCH", "DELETE", "HEAD", "PUT", "BREW")
# 503: unhealthy, or too much at once; 504: no point came in time; 507: no room.
KNOWN = {200, 201, 202, 400, 403, 404, 405, 408, 409, 411, 412, 413, 414, 415, 429, 431, 501, 503, 504, 507}
ROUTES = re.findall(r"\{HTTP_(\w+), \"([^\"]+)\"", (harness.ROOT / "server/api.c").read_text())
RULES = [{"units": "MINUTE", "interval": 1, "retentionDuration": 5}, {"units": "HOUR", "interval": 1, "retentionDuration": 24},
         {"ruleID": 7, "units": "DAY", "interval": 1, "retentionDuration": 7, "enabled": False}]


# ---- what is asked ----

def settings_body(dice):
    return {"rpoTargetSeconds": dice.choice([None, 60, 0.5]), "autoReplicateNewDisks": dice.random() < 0.5,
            "tags": {dice.choice("abc"): dice.choice(["x", "", None, "\u00e9" * 20])}}


BODIES = {
    "/v1/tokens": lambda dice, source: {"lifetime": dice.choice(["1h", "30s", 60])},
    "/v1/points-in-time": lambda dice, source: {"sourceServerID": source, "name": "p%d" % dice.randrange(1000),
                                                "newest": dice.random() < 0.5, "timeoutSeconds": dice.randrange(1, 10)},
    "/v1/ca/retire": lambda dice, source: {},
    "/v1/settings": lambda dice, source: {**settings_body(dice), "bandwidthThrottling": dice.choice([0, 100]), "pitPolicy": RULES},
    "/v1/source-servers/*/settings": lambda dice, source: settings_body(dice),
    "/v1/source-servers/*/policy": lambda dice, source: {"pitPolicy": RULES[:dice.randrange(4)],
                                                         "journalWindowSeconds": dice.choice([0, 60, 3600])},
    "/v1/source-servers/*/quota": lambda dice, source: {"quotaBytes": dice.choice([None, 1 << 30, 1]),
                                                        "whenFull": dice.choice(["stall", "thin", "default"])},
    "/v1/source-servers/*/throttle": lambda dice, source: {
        "bandwidthThrottling": dice.choice([0, 5, 1000]),
        "windows": dice.choice([[], ["Mon-Fri 08:00-18:00 20"], ["Sat,Sun 00:00-24:00 1", "Fri-Mon 23:59-00:00 0"]])},
    "/v1/source-servers/*/verify": lambda dice, source: {},
}
PARAMETERS = ("sourceServerID", "limit", "cursor", "follow", "after", "since", "policy", "tail", "withPoints", "from", "salvage", "x")


def nonsense(dice, depth=0):
    """Any JSON value."""
    if depth > 2 or dice.random() < 0.6:
        return dice.choice([None, True, False, 0, -1, 1 << 63, -(1 << 63), 10 ** 400, 1.5, -0.0, 1e308, "", "x" * dice.randrange(300),
                            "\x00\x1b[31m", "\ud7ff\u202e", "none", "Mon-Sun 0:0-24:00 999999"])
    if dice.random() < 0.5:
        return [nonsense(dice, depth + 1) for _ in range(dice.randrange(20))]
    return {str(nonsense(dice, depth + 2)): nonsense(dice, depth + 1) for _ in range(dice.randrange(5))}


def spoil(dice, body):
    """A body with one thing wrong in it."""
    body = dict(body)
    if body and dice.random() < 0.7:
        body[dice.choice(list(body))] = nonsense(dice)
    else:
        body[dice.choice(["forced", "settings", "pitPolicy", "name", "quotaBytes"])] = nonsense(dice)
    return body


def body_bytes(dice, path, source):
    good = BODIES.get(path, lambda dice, source: {})(dice, source)
    kind = dice.random()
    if kind < 0.55:
        return json.dumps(good).encode()
    if kind < 0.8:
        return json.dumps(spoil(dice, good)).encode()
    if kind < 0.85:
        return dice.randbytes(dice.randrange(2000))
    if kind < 0.9:
        return b"[" * dice.choice([10, 3000, 60000])
    if kind < 0.95:
        return b" " * dice.choice([65535, 65536, 65537, 300000])
    return json.dumps(good).encode()[:-1]


def request(method, path, length):
    return ("%s %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (method, path, length)).encode()


class Client:
    """One that asks, on and on."""

    def __init__(self, soak, number):
        self.soak, self.dice = soak, random.Random("%d client %d" % (harness.SEED, number))
        self.held = []
        self.thread = threading.Thread(target=soak.guarded, args=(self.one,), daemon=True)

    def word(self, what):
        """What stands for an asterisk, of the kind that fits."""
        if self.dice.random() < 0.1:
            return self.dice.choice(["..", "%00", "s-" + "0" * 17, "x" * 3000, "%2e%2e%2f", "root", "\u00e9"])
        return self.dice.choice(self.soak.known[what] or ["s-0123456789abcdef0"])

    def fill(self, route):
        kinds = {"source-servers": "sources", "points-in-time": "points", "volumes": "volumes", "tokens": "tokens"}
        words = route.split("/")
        for i, word in enumerate(words):
            if word == "*":
                words[i] = self.word(kinds.get(words[i - 1], "sources"))
        path = "/".join(words)
        if self.dice.random() < 0.4:
            path += "?" + "&".join("%s=%s" % (self.dice.choice(PARAMETERS), self.dice.choice(
                ["1", "0", "-1", "99999999999999999999", "", "%zz", self.word("sources"), "10m/60m"])) for _ in range(self.dice.randrange(1, 4)))
        return path.replace(" ", "%20")

    def one(self):
        method, route = self.dice.choice(ROUTES)
        if route == "/v1/source-servers/*" and method == "DELETE" and self.dice.random() < 0.9:
            return
        if route.endswith(("/stop", "/pause")) and self.dice.random() < 0.7 or route.endswith("/revoke") and self.dice.random() < 0.95:
            return
        if self.dice.random() < 0.1:
            method = self.dice.choice(METHODS)
        body = body_bytes(self.dice, route, self.word("sources")) if method != "GET" or self.dice.random() < 0.05 else b""
        self.ask(method, route, self.fill(route), body)

    def ask(self, method, route, path, body):
        admin = self.dice.random() < 0.7
        connection = UnixConnection(self.soak.daemon.run_dir / ("admin.sock" if admin else "monitor.sock"), 120 * SLOW)
        manner = self.dice.random()
        try:
            connection.connect()
            if manner < 0.08:
                return self.be_rude(connection, method, path, body)
            connection.sock.sendall(request(method, path, len(body)) + body)
            answer = http.client.HTTPResponse(connection.sock, method=method)
            answer.begin()
            if "follow=1" in path or manner < 0.15:
                answer.read(self.dice.randrange(5000))
            else:
                answer.read()
            self.soak.answered(method, route, path, body, answer.status)
        except (ConnectionError, http.client.HTTPException) as e:
            self.soak.answered(method, route, path, body, type(e).__name__)
        finally:
            connection.close()

    def be_rude(self, connection, method, path, body):
        """Promise more than comes; or ask, and never listen."""
        text = request(method, path, len(body) + self.dice.choice([0, 0, 1, 5000])) + body
        connection.sock.sendall(text[:self.dice.choice([10, 60, 100000])])
        self.held.append(connection.sock.dup())
        if len(self.held) > 3:
            self.held.pop(0).close()


# ---- those who come and go ----

class Guest:
    """An agent with a disk."""

    def __init__(self, soak, number):
        self.soak, self.number, self.lives = soak, number, 0
        self.disk = soak.rig.file("disk-%d" % number, random_bytes(soak.dice, DISK_BYTES))
        self.agent = None

    def enroll(self):
        """As a machine that was never here; its old self is deleted."""
        if self.agent is not None:
            self.agent.kill()
            with contextlib.suppress(Refusal):
                self.soak.daemon.request("DELETE", "/v1/source-servers/%s" % self.agent.source, admin=True)
        self.lives += 1
        self.agent = self.soak.rig.agent(self.soak.daemon, {"root": self.disk}, name="agent-%d-%d" % (self.number, self.lives))
        self.agent.start()

    def write(self, dice):
        with open(self.disk, "r+b") as f:
            for _ in range(dice.randrange(1, 20)):
                f.seek(dice.randrange(DISK_BYTES // 4096) * 4096)
                f.write(dice.randbytes(4096))

    def is_known(self):
        try:
            return self.soak.daemon.source(self.agent.source)
        except Refusal:
            return None

    def turn(self, dice):
        self.write(dice)
        what = dice.random()
        if not self.is_known() or what < 0.02:
            self.enroll()
        elif not self.agent.program.is_alive():
            self.agent.start()
        elif what < 0.10:
            self.agent.program.signal(signal.SIGKILL)
        elif what < 0.18:
            self.agent.program.signal(signal.SIGTERM)


# ---- all of it ----

class Soak:
    def __init__(self, rig):
        self.rig, self.dice = rig, rig.random
        self.daemon = rig.daemon(server__heartbeat_interval="1s", storage__segment_size="1MiB", server__log_level="info",
                                 pit__policy="1m/10m 1h/24h")
        self.over = threading.Event()
        self.lock = threading.Lock()
        self.counts, self.odd, self.broken = collections.Counter(), [], []
        self.known = collections.defaultdict(list)
        self.guests = [Guest(self, n) for n in range(AGENTS)]

    def guarded(self, step):
        """A thread's life; what breaks it ends all."""
        while not self.over.is_set():
            try:
                step()
            except Exception as e:  # it is told at the end
                if not self.over.is_set():
                    self.broken.append(repr(e))
                    self.over.set()

    def answered(self, method, route, path, body, status):
        with self.lock:
            self.counts[status] += 1
            if isinstance(status, int) and status not in KNOWN:
                self.odd.append((status, method, path[:200], body[:200]))
            if status not in (200, 201, 202) or method == "GET":
                return
            self.counts["%s %s" % (method, route)] += 1

    def learn(self):
        """What clients may name."""
        daemon = self.daemon
        sources = [s["sourceServerID"] for s in daemon.sources()]
        self.known["sources"] = sources + [self.dice.choice(["", "s-zz"])]
        self.known["points"] = [p["pointInTimeID"] for s in sources[:3] for p in self.points(s)][-40:]
        self.known["volumes"] = ["root", "root", "root", "other"]
        self.known["tokens"] = [t["tokenID"] for t in daemon.get("/v1/tokens")["items"]][-5:]

    def points(self, source):
        try:
            return self.daemon.get("/v1/points-in-time?sourceServerID=%s&limit=20" % source)["items"]
        except Refusal:
            return []

    def reload(self):
        dice = self.dice
        self.daemon.settings.update({"server.heartbeat_interval": dice.choice(["1s", "2s", "nonsense"]),
                                     "server.sessions_max": dice.choice(["10000", "4"]),
                                     "tls.certificate_lifetime": dice.choice(["90d", "1h"]),
                                     "storage.when_full": dice.choice(["stall", "thin"]),
                                     "server.log_level": dice.choice(["info", "debug"])})
        self.daemon.write_config()
        self.daemon.program.signal(signal.SIGHUP)

    def chaos(self):
        for guest in self.dice.sample(self.guests, 3):
            with contextlib.suppress(Trouble):  # it may not get in just now: its token is revoked, say
                guest.turn(self.dice)
        self.learn()
        self.reload()
        if self.dice.random() < 0.1:
            self.ctl_round()
        self.over.wait(1)

    def ctl_round(self):
        backup = self.rig.path("identity.backup")
        (self.rig.path("pass")).write_text("passphrase\n")
        for words in (["identity", "backup", backup, "--force", "--passphrase-file", self.rig.path("pass")], ["ca", "rotate"],
                      ["cert", "renew"], ["doctor"], ["status"]):
            self.daemon.ctl(*words, check=None)

    def measure(self):
        """Of the daemon. Neither files of the staging area are counted, nor the kernel's threads of its rings: they come and go."""
        pid = self.daemon.program.pid
        with open("/proc/%d/status" % pid, encoding="ascii") as f:
            status = dict(line.split(":", 1) for line in f)
        descriptors = threads = 0
        for fd in os.listdir("/proc/%d/fd" % pid):
            with contextlib.suppress(FileNotFoundError):
                descriptors += not os.readlink("/proc/%d/fd/%s" % (pid, fd)).startswith(str(self.daemon.data))
        for task in pathlib.Path("/proc/%d/task" % pid).iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                threads += not (task / "comm").read_text().startswith("iou-")
        return {"MiB": int(status["VmRSS"].split()[0]) // 1024, "threads": threads, "descriptors": descriptors}

    def run(self, seconds):
        for guest in self.guests:
            guest.enroll()
        self.learn()
        clients = [Client(self, n) for n in range(CLIENTS)]
        threads = [c.thread for c in clients] + [threading.Thread(target=self.guarded, args=(self.chaos,), daemon=True)]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        first = None
        while not self.over.wait(min(30, seconds / 6)) and time.monotonic() - began < seconds:
            now = self.measure()
            asked = sum(n for status, n in self.counts.items() if not str(status).startswith(("POST", "DELETE")))
            print("%4d s  %s  %d asked" % (time.monotonic() - began, now, asked), flush=True)
            if first is None and time.monotonic() - began > seconds / 3:
                first = now
        self.over.set()
        for thread in threads:
            thread.join()
        for client in clients:
            for held in client.held:
                held.close()
        assert not self.broken, self.broken
        return first

    # -- the end --

    def admin(self, method, path, body=None):
        with contextlib.suppress(Refusal):
            return self.daemon.request(method, path, body, admin=True)

    def calm(self):
        self.daemon.settings.update({"server.heartbeat_interval": "1s", "server.sessions_max": "10000", "tls.certificate_lifetime": "90d"})
        self.daemon.write_config()
        self.daemon.ctl("reload")
        for guest in self.guests:
            path = "/v1/source-servers/%s" % guest.agent.source
            for verb, body in (("start", None), ("resume", None), ("throttle", {"bandwidthThrottling": 0}), ("adopt", None),
                               ("quota", {"quotaBytes": None, "whenFull": "default"})):
                self.admin("POST", "%s/%s" % (path, verb), body)

    def is_gone(self, guest):
        """Deleted or revoked: only a new enrolment helps."""
        certificates = self.daemon.get("/v1/certificates")["items"]
        return not guest.is_known() or not any(
            c["sourceServerID"] == guest.agent.source and c["state"] in ("VALID", "EXPIRING") for c in certificates)

    def is_settled(self, guest):
        return self.is_gone(guest) or (guest.agent.program.is_alive() and guest.agent.is_connected())

    def recover(self):
        self.calm()
        for guest in self.guests:
            if not guest.agent.program.is_alive():
                guest.agent.start()
        wait_for(lambda: all(map(self.is_settled, self.guests)), 120, "all agents that may to be back")
        gone = list(filter(self.is_gone, self.guests))
        for guest in gone:
            guest.enroll()
        self.calm()
        for guest in self.guests:
            self.daemon.wait_ready(guest.agent.source, 120)
        return len(gone)

    def check(self):
        for guest in self.guests:
            self.daemon.point(guest.agent.source, "end", seconds=120)
            copy = self.daemon.export(guest.agent.source, "root", "end", self.rig.path("copy"), force=True)
            assert first_difference(guest.disk, copy) is None
            self.daemon.ctl("scrub", "start", guest.agent.source)
        self.daemon.ctl("audit", "--verify")
        for guest in self.guests:
            guest.agent.stop()
        self.daemon.stop()
        run(harness.BUILD / "holdfastctl", "fsck", self.daemon.data, "--data")


def report(soak, first, last, gone):
    print("answers: %s" % {k: n for k, n in sorted(soak.counts.items(), key=str)})
    print("%d of %d agents were deleted or revoked in the end" % (gone, AGENTS))
    print("after a third: %s\nat the end:    %s" % (first, last))
    missing = ["%s %s" % route for route in ROUTES if route[0] != "GET" and not soak.counts["%s %s" % route]]
    print("changes that never succeeded: %s" % (", ".join(missing) or "none"))
    for odd in soak.odd[:20]:
        print("ODD %s" % (odd,))


def main():
    seconds = float(os.environ.get("MINUTES", "10")) * 60
    print("programs: %s, SEED=%d, %d routes" % (harness.BUILD, harness.SEED, len(ROUTES)), flush=True)
    with Rig("soak") as rig:
        soak = Soak(rig)
        first = soak.run(seconds)
        gone = soak.recover()
        wait_for(lambda: first is None or soak.measure()["descriptors"] <= first["descriptors"] + 8, 60, "descriptors to be closed")
        last = soak.measure()
        report(soak, first, last, gone)
        soak.check()
        assert not soak.odd, "%d answers that nobody knows" % len(soak.odd)
        if first is not None:
            assert last["threads"] <= first["threads"] + 2
            assert SLOW > 1 or last["MiB"] < first["MiB"] + 32
    print("soak: all held")


if __name__ == "__main__":
    main()
