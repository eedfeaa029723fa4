# SPDX-License-Identifier: Apache-2.0
"""A TCP connection with a hand on it: forwards to a target, and cuts, stops or slows on request.

    proxy = TcpProxy(("127.0.0.1", 1500))
    proxy.cut_after(1000)      # each new connection ends after 1000 bytes from the client
    proxy.hold()               # nothing is forwarded any more, and nothing is closed: a cut without FIN
    proxy.release()
    proxy.swallow()            # what clients send is taken, and not forwarded
    proxy.limit(1_000_000)     # bytes per second from the client
"""
import contextlib
import socket
import struct
import threading
import time

CHUNK = 16384


class TcpProxy:
    def __init__(self, target, host="127.0.0.1", source=None):
        self.target, self.source = target, source
        self.listener = socket.create_server((host, 0))
        self.port = self.listener.getsockname()[1]
        self.lock = threading.Condition()
        self.held = self.closed = self.reset = self.swallows = False
        self.cut_bytes = None
        self.rate = None
        self.connections = 0
        self.forwarded_bytes = 0  # from clients
        self.pairs = set()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self):
        return ("127.0.0.1", self.port)

    # -- the hand --

    def cut_after(self, count, reset=False):
        """None: never. What a client sends beyond is not forwarded; both sides are closed (reset: with RST)."""
        with self.lock:
            self.cut_bytes, self.reset = count, reset

    def hold(self):
        with self.lock:
            self.held = True

    def release(self):
        with self.lock:
            self.held = False
            self.lock.notify_all()

    def swallow(self, swallows=True):
        """False: what comes from now on is forwarded; a connection that lost bytes must not go on."""
        with self.lock:
            self.swallows = swallows

    def limit(self, bytes_per_second):
        with self.lock:
            self.rate = bytes_per_second

    def cut(self):
        """End all connections there are."""
        with self.lock:
            pairs = list(self.pairs)
        for pair in pairs:
            self._end(pair)

    def close(self):
        with self.lock:
            self.closed = True
            self.lock.notify_all()
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.release()
        self.cut()

    # -- inside --

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client):
        try:
            with self.lock:
                self.lock.wait_for(lambda: not self.held or self.closed)
            server = socket.create_connection(self.target, 10, source_address=(self.source, 0) if self.source else None)
            server.settimeout(None)
        except OSError:
            client.close()
            return
        pair = (client, server)
        for s in pair:
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self.lock:
            self.connections += 1
            self.pairs.add(pair)
            left = self.cut_bytes
        threading.Thread(target=self._forward, args=(pair, server, client, None), daemon=True).start()
        self._forward(pair, client, server, left)

    def _forward(self, pair, source, target, left):
        from_client = source is pair[0]
        due = time.monotonic()
        try:
            while left != 0:
                size = CHUNK if left is None else min(CHUNK, left)
                data = source.recv(size if self.rate is None or not from_client else min(size, max(512, self.rate // 100)))
                with self.lock:
                    self.lock.wait_for(lambda: not self.held)
                if not data:
                    break
                if from_client and self.swallows:
                    continue
                if from_client and self.rate:
                    due = max(due, time.monotonic() - 1) + len(data) / self.rate  # on average, on a busy machine too
                    time.sleep(max(0, due - time.monotonic()))  # this is the rate, not a wait for something
                target.sendall(data)
                if left is not None:
                    left -= len(data)
                if from_client:
                    with self.lock:
                        self.forwarded_bytes += len(data)
        except OSError:
            pass
        self._end(pair)

    def _end(self, pair):
        with self.lock:
            if pair not in self.pairs:
                return
            self.pairs.remove(pair)
            reset = self.reset
        for s in pair:
            with contextlib.suppress(OSError):
                if reset:
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                else:
                    s.shutdown(socket.SHUT_RDWR)
            s.close()
