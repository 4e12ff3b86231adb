"""The page's server: its files, and the frames that go between it and the harness.

It listens on 127.0.0.1 alone, and answers only under a path with a token that is made for each start. Frames pass as
they are: the page fetches a request from `next` when it is ready for one, and posts its answers to `answer`.
"""

from __future__ import annotations

import secrets
import socket
import struct
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from harness.core import safe_json
from harness.devices.link import MAGIC, MAX_HEADER, ready

IDLE_SECONDS = 20.0
"""After so long without a request the page is told so, and asks again."""
LONGEST_WORD = 500
"""Bytes of the page's last words."""
TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript", ".wasm": "application/wasm"}
HEADERS = {
    # The page may share memory between threads only where it is isolated from other origins.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Nothing is fetched from anywhere else. The runtime makes functions of strings, and workers of blobs.
    "Content-Security-Policy": "default-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; img-src data:",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
}
_HEAD = struct.Struct(">4sI")
_CHUNK = 1 << 18


class PageServer:
    """Serves `files`, by their path below the token, and passes frames between the page and a socket."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self.files = files
        self.token = secrets.token_urlsafe(24)
        self.turn = threading.Lock()
        """Held by whoever reads a request: an earlier page may still be asking."""
        self.gone = ""
        """Why the page gave up, in its own words, where it did."""
        self.asked = False
        """Whether it has asked for a request since the last connection was made."""
        self.outside: int | None = None
        """The port by which another machine's browser reaches it, where one does."""
        self._peer: socket.socket | None = None
        page = self

        class Handler(_Handler):
            server_page = page

        self._http = _Server(("127.0.0.1", 0), Handler)
        self.port = int(self._http.server_address[1])
        threading.Thread(target=self._http.serve_forever, args=(0.1,), name="page", daemon=True).start()

    @property
    def address(self) -> str:
        """The page's, for the browser that is to show it."""
        return f"http://127.0.0.1:{self.outside or self.port}/{self.token}/page/index.html"

    def connect(self) -> socket.socket:
        """The harness's end of a fresh connection to the page; what was on an earlier one is dropped."""
        here, there = socket.socketpair()
        self.disconnect()
        self.gone, self.asked = "", False
        self._peer = there
        return here

    def disconnect(self) -> None:
        """End the connection: the harness's end reads its end."""
        peer, self._peer = self._peer, None
        if peer is not None:
            with suppress(OSError):
                peer.shutdown(socket.SHUT_RDWR)
            peer.close()

    def uncaught(self, said: str) -> None:
        """Give the page up that threw this before it asked for anything: its modules did not load."""
        if not self.asked:
            self.gone = f"its page did not load ({' '.join(said.split())[:LONGEST_WORD]})"
            self.disconnect()

    def close(self) -> None:
        """Serve no more."""
        self.disconnect()
        self._http.shutdown()
        self._http.server_close()

    @property
    def peer(self) -> socket.socket | None:
        """The page's end of the connection, while there is one."""
        return self._peer


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that ends breaks its connections off."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else a header waits 40 ms for the page to acknowledge it
    server_page: PageServer

    def do_GET(self) -> None:
        path = self._below_token()
        if path == "next":
            self._next()
        elif path is not None and (file := self.server_page.files.get(path)) is not None:
            try:
                content = file.read_bytes()
            except OSError:
                self._answer(404)
                return
            self._answer(200, content, TYPES.get(file.suffix, "application/octet-stream"))
        else:
            self._answer(404)

    def do_POST(self) -> None:
        path, peer = self._below_token(), self.server_page.peer
        length = self.headers.get("Content-Length", "")
        if path not in ("answer", "gone") or not length.isdecimal() or len(length) > 18 or peer is None:
            self.close_connection = True
            self._answer(410 if path in ("answer", "gone") and peer is None else 404)
            return
        left = int(length)
        if path == "gone":
            said = self.rfile.read(min(left, LONGEST_WORD)).decode("utf-8", "replace")
            self.server_page.gone = " ".join(said.split()) or "the page gave up"
            self.server_page.disconnect()
            self.close_connection = True
            self._answer(200)
            return
        try:
            while left and (piece := self.rfile.read(min(left, _CHUNK))):
                peer.sendall(piece)
                left -= len(piece)
        except OSError:
            self.close_connection = True
            self._answer(410)
            return
        self._answer(200)

    def _below_token(self) -> str | None:
        """The path behind the token; None for whoever lacks it, or came by another name of this machine."""
        known = {f"127.0.0.1:{port}" for port in (self.server_page.port, self.server_page.outside) if port}
        _, token, *rest = (*self.path.partition("?")[0].split("/", 2), "")
        token_is_right = secrets.compare_digest(token.encode(), self.server_page.token.encode())
        return rest[0] if token_is_right and self.headers.get("Host") in known else None

    def _next(self) -> None:
        self.server_page.asked = True
        with self.server_page.turn:
            peer = self.server_page.peer
            if peer is None:
                self._answer(410)
                return
            try:
                if not ready(peer, IDLE_SECONDS):
                    self._answer(204)
                    return
                head, left = _header_of(peer)
                self._begin(200, "application/octet-stream", len(head) + left)
                self.wfile.write(head)
                while left:
                    piece = peer.recv(min(left, _CHUNK))
                    if not piece:
                        raise ConnectionError
                    self.wfile.write(piece)
                    left -= len(piece)
            except (OSError, ValueError):
                self.close_connection = True
                with suppress(OSError):
                    self._answer(410)

    def _answer(self, status: int, content: bytes = b"", kind: str = "text/plain") -> None:
        self._begin(status, kind, len(content))
        self.wfile.write(content)

    def _begin(self, status: int, kind: str, length: int) -> None:
        self.send_response(status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        if status != 204:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: stderr is not the server's."""


def _header_of(peer: socket.socket) -> tuple[bytes, int]:
    """A frame's beginning as it came, and how many bytes of payload follow. Raises OSError at the connection's end,
    ValueError for no frame."""
    head = _exactly(peer, _HEAD.size)
    magic, length = _HEAD.unpack(head)
    if magic != MAGIC or length > MAX_HEADER:
        raise ValueError("no frame")
    raw = _exactly(peer, length)
    header = safe_json.loads(raw)
    return head + raw, sum(int(entry["bytes"]) for entry in header["payloads"])


def _exactly(peer: socket.socket, count: int) -> bytes:
    got = bytearray()
    while len(got) < count:
        piece = peer.recv(count - len(got))
        if not piece:
            raise ConnectionError
        got += piece
    return bytes(got)
