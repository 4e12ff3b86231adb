"""The DevTools protocol over a WebSocket, on a connection that is there already: a phone's browser has no pipes."""

from __future__ import annotations

import http.client
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from harness.core import safe_json
from harness.core.errors import UsageError, install_extra
from harness.devices.web.devtools import MOST_MESSAGE, DevToolsClient, DevToolsError, Event

MOST_LISTED = 4 << 20
"""Bytes of the list of a browser's tabs that are read."""
CLOSE_SECONDS = 2.0
_PATH = re.compile(r"wss?://[^/]{0,200}(/devtools/browser(?:/[\w-]{1,64})?)")


def told(connection: socket.socket, path: str, seconds: float) -> Any:
    """What a browser's DevTools answer on a path, `/json/version` or `/json/list`; the connection is used up.

    Raises:
        DevToolsError: no answer in time, or none in JSON.
    """
    connection.settimeout(seconds)
    asking = http.client.HTTPConnection("localhost", timeout=seconds)
    asking.sock = connection
    try:
        asking.request("GET", path)
        answer = asking.getresponse()
        content = answer.read(MOST_LISTED + 1)
        if answer.status != 200 or len(content) > MOST_LISTED:
            raise DevToolsError(f"it answers {path} with status {answer.status} and {len(content):,} bytes")
        return safe_json.loads(content)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise DevToolsError(f"it gives no answer to {path} ({str(error) or type(error).__name__})") from None
    finally:
        asking.close()


def browser_path(version: Any) -> str:
    """Where the browser itself is spoken to, of what it says of its version. Raises DevToolsError."""
    address = version.get("webSocketDebuggerUrl") if isinstance(version, dict) else None
    found = _PATH.fullmatch(address) if isinstance(address, str) else None
    if found is None:
        raise DevToolsError("it does not say where its DevTools are")
    return found[1]


def check_library() -> None:
    """Raises UsageError: the library for WebSockets is not installed."""
    try:
        import websockets  # noqa: F401
    except ImportError:
        raise UsageError(
            "Chrome on a phone is driven over a WebSocket, for which this Python lacks a library.",
            f"Run {install_extra('chrome')}.",
        ) from None


class SocketDevTools(DevToolsClient):
    """Commands and events over one WebSocket."""

    def __init__(
        self, connection: socket.socket, path: str, seconds: float, heard: Event, ended: Callable[[], None]
    ) -> None:
        """Raises DevToolsError: it is refused, or not made in time."""
        from websockets.client import ClientProtocol
        from websockets.exceptions import WebSocketException
        from websockets.sync.client import ClientConnection
        from websockets.uri import parse_uri

        protocol = ClientProtocol(parse_uri(f"ws://localhost{path}"), max_size=MOST_MESSAGE)
        connection.settimeout(None)
        try:
            made = ClientConnection(connection, protocol, ping_interval=None, close_timeout=CLOSE_SECONDS)
            self._socket = made.__enter__()  # without it newer releases warn of how they are to be opened
            self._socket.handshake(timeout=seconds)
        except (OSError, WebSocketException, EOFError) as error:
            connection.close()
            raise DevToolsError(f"it refuses a connection to its DevTools ({error})") from None
        self._sending = threading.Lock()
        super().__init__(heard, ended)

    def _send(self, message: bytes, deadline: float) -> None:
        from websockets.exceptions import ConnectionClosed

        # A command has a few hundred bytes: the connection takes it, or is stuck for good.
        if not self._sending.acquire(timeout=max(deadline - time.monotonic(), 0)):
            raise DevToolsError("the browser reads no commands")
        try:
            self._socket.send(message.decode())
        except (ConnectionClosed, OSError):
            raise DevToolsError("the browser closed its DevTools connection") from None
        finally:
            self._sending.release()

    def _messages(self) -> Iterator[bytes]:
        from websockets.exceptions import ConnectionClosed

        try:
            while True:
                message = self._socket.recv()
                yield message.encode() if isinstance(message, str) else message
        except (ConnectionClosed, OSError, UnicodeEncodeError):
            return

    def _shut(self) -> None:
        self._socket.close()
