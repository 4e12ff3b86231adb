"""A server that sends one file, as it is or otherwise."""

from __future__ import annotations

import http.server
import threading
from contextlib import suppress
from typing import Any


class Site(http.server.ThreadingHTTPServer):
    """Sends `sent`, announced as it is or as `length`, and counts."""

    def __init__(self, sent: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.sent, self.length, self.code, self.asked = sent, 0, 200, 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def address(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{name}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        self.server.asked += 1
        self.send_response(self.server.code)
        self.send_header("Content-Length", str(self.server.length or len(self.server.sent)))
        self.end_headers()
        with suppress(ConnectionError):  # who asked has enough
            self.wfile.write(self.server.sent)

    def log_message(self, format: str, *arguments: Any) -> None:
        pass
