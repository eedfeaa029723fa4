# SPDX-License-Identifier: Apache-2.0
"""A disk whose every state can be recognised: each block says which write it is of.

A writer numbers its writes 1, 2, 3, ... A block holds number and place of its newest write, and bytes that follow from them;
number 0 is the content at the beginning. So an image of the disk, read at whatever point in time, is either what the disk
held after its first K writes, for a K that can be read from it, or it is a mixture, and then check() says so.
"""
import struct
import threading

BLOCK = 4096


def block_of(number, place):
    """What write `number` puts at block `place`; some content at the beginning is zeros."""
    if number == 0 and place % 5 == 0:
        return bytes(BLOCK)
    pattern = struct.pack("<QQ", number * 0x9E3779B97F4A7C15 & (1 << 64) - 1, place)
    return struct.pack("<QQ", number, place) + pattern * (BLOCK // 16 - 1)


class Mixture(AssertionError):
    """The image is no state the disk ever was in."""


class History:
    """The disk in a file, and its writer. writes[n - 1] is the place of write n."""

    def __init__(self, path, blocks, dice):
        self.path, self.blocks, self.dice = path, blocks, dice
        self.writes = []
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self.thread = None
        with open(path, "wb") as f:
            for place in range(blocks):
                f.write(block_of(0, place))

    def write(self, count):
        """Do the next `count` writes, one after the other."""
        with self.lock, open(self.path, "r+b", buffering=0) as f:
            for _ in range(count):
                place = self.dice.randrange(self.blocks)
                self.writes.append(place)
                f.seek(place * BLOCK)
                f.write(block_of(len(self.writes), place))

    def start(self):
        """Write in bursts with rests between, in which a pass can find the disk at rest."""
        self.stopping.clear()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while not self.stopping.wait(self.dice.uniform(0.1, 0.8)):
            self.write(self.dice.randrange(1, 60))

    def stop(self):
        self.stopping.set()
        if self.thread:
            self.thread.join()
            self.thread = None

    def check(self, image):
        """The number of writes that image holds; raises Mixture."""
        with open(image, "rb") as f:
            data = f.read()
        if len(data) != self.blocks * BLOCK:
            raise Mixture("%d bytes instead of %d" % (len(data), self.blocks * BLOCK))
        numbers = [self._number(data, place) for place in range(self.blocks)]
        newest = max(numbers)
        expected = [0] * self.blocks
        for number, place in enumerate(self.writes[:newest], 1):
            expected[place] = number
        for place, (want, have) in enumerate(zip(expected, numbers)):
            if want != have:
                raise Mixture("block %d is of write %d, but write %d is there and so must be %d" % (place, have, newest, want))
        return newest

    def _number(self, data, place):
        block = data[place * BLOCK:(place + 1) * BLOCK]
        number = struct.unpack_from("<Q", block)[0]
        if block != block_of(number, place):
            raise Mixture("block %d holds what was never written there" % place)
        return number
