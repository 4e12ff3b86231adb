"""A slow link: a TCP proxy that lets so many bytes a second through, each way."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress

# What passes at once takes a hundredth of a second of a fast line, and 4 KB of a slow one.
_SMALLEST, _LARGEST, _SHARE = 4096, 1 << 18, 100


class Throttle:
    """Listens on `port` and passes what comes on to `target`, a port of this machine; close it to cut every line.
    `passed` counts the bytes, there and back together."""

    def __init__(self, target: int, bytes_per_second: float) -> None:
        self._target = target
        self.bytes_per_second = bytes_per_second
        self.passed, self._counting = 0, threading.Lock()
        self._piece = min(max(_SMALLEST, int(bytes_per_second / _SHARE)), _LARGEST)
        self._lines: list[socket.socket] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Listen no more, and cut what is connected."""
        for sock in (self._server, *self._lines):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._server.accept()
                near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._piece)
                try:
                    far = socket.create_connection(("127.0.0.1", self._target))
                except OSError:
                    near.close()
                    continue
                self._lines += [near, far]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._pass, args=(source, sink), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        free = time.monotonic()  # when the line has sent what it was given
        with suppress(OSError):
            while data := source.recv(self._piece):
                sink.sendall(data)
                with self._counting:
                    self.passed += len(data)
                free = max(free, time.monotonic() - 1 / _SHARE) + len(data) / self.bytes_per_second
                time.sleep(max(0.0, free - time.monotonic()))
        for sock in (source, sink):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
