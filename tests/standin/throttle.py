"""A slow link: a TCP proxy that lets so many bytes a second through, each way."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress

_PIECE = 4096


class Throttle:
    """Listens on `port` and passes what comes on to `target`, a port of this machine; close it to cut every line."""

    def __init__(self, target: int, bytes_per_second: float) -> None:
        self._target = target
        self.bytes_per_second = bytes_per_second
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
                near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _PIECE)
                try:
                    far = socket.create_connection(("127.0.0.1", self._target))
                except OSError:
                    near.close()
                    continue
                self._lines += [near, far]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._pass, args=(source, sink), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(_PIECE):
                sink.sendall(data)
                time.sleep(len(data) / self.bytes_per_second)
        for sock in (source, sink):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
