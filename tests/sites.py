"""A server that sends one file, as it is or otherwise."""

from __future__ import annotations

import http.server
import threading
from contextlib import suppress
from typing import Any


class Site(http.server.ThreadingHTTPServer):
    """Sends `sent`, announced as it is or as `length`, and without a length where that is negative, and counts. With
    `ranges`, it sends the rest where that is asked for; the first bytes of what was asked are in `begun`, the paths in
    `paths`."""

    def __init__(self, sent: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.sent, self.length, self.code, self.asked = sent, 0, 200, 0
        self.ranges, self.begun, self.paths = False, list[int](), list[str]()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def __exit__(self, *error: Any) -> None:
        """A server that is closed while it serves looks at a socket that is none for ever, with half a core."""
        self.shutdown()
        super().__exit__(*error)

    def address(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{name}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        self.server.asked += 1
        self.server.paths.append(self.path)
        start = int((self.headers["Range"] or "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        self.server.begun.append(start)
        start, whole = start if self.server.ranges else 0, self.server.length or len(self.server.sent)
        if start and start >= len(self.server.sent):
            self.send_error(416)
            return
        self.send_response(206 if start else self.server.code)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
        if whole >= 0:
            self.send_header("Content-Length", str(whole - start))
        self.end_headers()
        with suppress(ConnectionError):  # who asked has enough
            self.wfile.write(self.server.sent[start:])

    def log_message(self, format: str, *arguments: Any) -> None:
        pass
