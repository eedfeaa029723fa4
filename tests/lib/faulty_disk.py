# SPDX-License-Identifier: Apache-2.0
"""A disk that fails when it is told to: an image file served to the kernel over FUSE as one regular file, to lie under a loop
device. Root only; needs no library.

    disk = FaultyDisk(rig, image)           disk.path is the file; rig.loop(disk.path) makes a device of it
    disk.fail("fsync", after=3)             the third flush from now on fails with EIO, once
    disk.fail("fsync", after=1, sticky=True, lose=True)     and what was written since the last good one is lost
    disk.struck()                           how many requests failed so
    disk.heal()

What is written is kept in memory until a flush, as a disk's cache does; reads see it. What was not flushed is gone when the disk
ends. As a program: faulty_disk.py IMAGE MOUNT_POINT CONTROL.
"""
import ctypes
import json
import os
import pathlib
import struct
import sys
import time

EIO, ENOSYS = 5, 38
GETATTR, SETATTR, OPEN, READ, WRITE, STATFS, RELEASE, FSYNC, FLUSH, INIT, DESTROY = 3, 4, 14, 15, 16, 17, 18, 20, 25, 26, 38
FORGET, INTERRUPT, BATCH_FORGET = 2, 36, 42
NAMES = {READ: "read", WRITE: "write", FSYNC: "fsync"}
BIG_WRITES, MAX_PAGES = 1 << 5, 1 << 22
MAX_WRITE = 1 << 20
VALID_SECONDS = 1 << 30  # nobody else changes it


def mount_fuse(fd, where):
    libc = ctypes.CDLL(None, use_errno=True)
    options = "fd=%d,rootmode=100600,user_id=0,group_id=0,allow_other" % fd
    if libc.mount(b"faulty", os.fsencode(where), b"fuse", 0, options.encode()) < 0:
        raise OSError(ctypes.get_errno(), "mount of FUSE at %s" % where)


class Image:
    """The file, and what was written to it and not flushed."""

    def __init__(self, path):
        self.fd = os.open(path, os.O_RDWR)
        self.size = os.fstat(self.fd).st_size
        self.pending = []

    def read(self, offset, size):
        data = bytearray(os.pread(self.fd, size, offset))
        for at, piece in self.pending:
            begin, end = max(at, offset), min(at + len(piece), offset + len(data))
            if begin < end:
                data[begin - offset:end - offset] = piece[begin - at:end - at]
        return bytes(data)

    def write(self, offset, data):
        self.pending.append((offset, data))

    def flush(self):
        for at, piece in self.pending:
            os.pwrite(self.fd, piece, at)
        self.pending = []

    def lose(self):
        self.pending = []


class Control:
    """What is to fail, as the other side has written it last."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.stamp, self.orders, self.left = None, {}, {}
        self.struck = 0

    def strikes(self, name):
        """The order that this request fails by, or None."""
        stamp = self.path.stat().st_mtime_ns
        if stamp != self.stamp:
            self.stamp, self.orders = stamp, json.loads(self.path.read_text() or "{}")
            self.left = {key: order["after"] for key, order in self.orders.items()}
        order = self.orders.get(name)
        if order is None:
            return None
        self.left[name] -= 1
        if self.left[name] > 0 or (self.left[name] < 0 and not order["sticky"]):
            return None
        self.struck += 1
        self.path.with_suffix(".struck").write_text(str(self.struck))
        time.sleep(order.get("delay", 0))
        return order


class Server:
    def __init__(self, image, control):
        self.image, self.control = image, control

    def attributes(self):
        now = int(time.time())
        return struct.pack("<6Q10I", 1, self.image.size, self.image.size // 512, now, now, now, 0, 0, 0, 0o100600, 1, 0, 0, 0, 4096, 0)

    def answer(self, opcode, body):
        """(error, payload), or None when nothing is to be said."""
        if opcode in (FORGET, INTERRUPT, BATCH_FORGET):
            return None
        order = self.control.strikes(NAMES[opcode]) if opcode in NAMES else None
        if order is not None and order["error"]:
            if order["lose"]:
                self.image.lose()
            return EIO, b""
        if opcode == INIT:
            return 0, struct.pack("<4IHHIIHHI7I", 7, 31, MAX_WRITE, BIG_WRITES | MAX_PAGES, 16, 12, MAX_WRITE, 1,
                                  MAX_WRITE // 4096, 0, 0, *[0] * 7)
        if opcode in (GETATTR, SETATTR):
            return 0, struct.pack("<QII", VALID_SECONDS, 0, 0) + self.attributes()
        if opcode == OPEN:
            return 0, struct.pack("<QII", 1, 0, 0)
        if opcode == READ:
            _, offset, size = struct.unpack_from("<QQI", body)
            return 0, self.image.read(offset, size)
        if opcode == WRITE:
            _, offset, size = struct.unpack_from("<QQI", body)
            self.image.write(offset, bytes(body[40:40 + size]))
            return 0, struct.pack("<II", size, 0)
        if opcode == FSYNC:
            self.image.flush()
        if opcode == STATFS:
            return 0, struct.pack("<5Q10I", 0, 0, 0, 1, 0, 4096, 255, 4096, *[0] * 7)
        return (0 if opcode in (FSYNC, FLUSH, RELEASE, DESTROY) else ENOSYS), b""

    def serve(self, fd):
        while True:
            try:
                request = os.read(fd, MAX_WRITE + 65536)
            except OSError:  # unmounted
                return
            _, opcode, unique = struct.unpack_from("<IIQ", request)
            answer = self.answer(opcode, memoryview(request)[40:])
            if answer is not None:
                error, payload = answer
                os.write(fd, struct.pack("<IiQ", 16 + len(payload), -error, unique) + payload)
            if opcode == DESTROY:
                return


class FaultyDisk:
    """The other side: what a test has in its hands."""

    def __init__(self, rig, image):
        from harness import is_mounted, run, wait_for  # pylint: disable=import-outside-toplevel
        self.name = rig.unique("faulty")
        self.path = rig.path(self.name)
        self.path.touch()
        self.control = rig.path(self.name + ".control")
        self.heal()
        self.program = rig.program(self.name, [sys.executable, __file__, image, self.path, self.control])
        wait_for(lambda: is_mounted(self.path), 20, "the faulty disk")
        rig.on_end(lambda: is_mounted(self.path) and run("umount", "--lazy", self.path))

    def order(self, orders):
        aside = self.control.with_suffix(".tmp")
        aside.write_text(json.dumps(orders))
        aside.rename(self.control)

    def fail(self, what, after=1, sticky=False, lose=False):
        self.order({what: {"after": after, "sticky": sticky, "lose": lose, "error": True}})

    def delay(self, what, seconds):
        self.order({what: {"after": 1, "sticky": True, "lose": False, "error": False, "delay": seconds}})

    def heal(self):
        self.order({})

    def struck(self):
        path = self.control.with_suffix(".struck")
        return int(path.read_text() or 0) if path.exists() else 0


def main():
    image, where, control = sys.argv[1:]
    fd = os.open("/dev/fuse", os.O_RDWR)
    mount_fuse(fd, where)
    Server(Image(image), Control(control)).serve(fd)


if __name__ == "__main__":
    main()
