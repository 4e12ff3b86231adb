"""DevTools over a WebSocket: what a browser says of itself, and a peer that breaks off or answers nonsense."""

from __future__ import annotations

import builtins
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.sync.server import Server, ServerConnection, serve

from harness.core.errors import UsageError
from harness.devices.web import websocket
from harness.devices.web.devtools import DevToolsError
from harness.devices.web.websocket import SocketDevTools, browser_path, check_library, told


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("ws:///devtools/browser", "/devtools/browser"),  # Android's
        ("ws://localhost/devtools/browser/1b7a-4c", "/devtools/browser/1b7a-4c"),
        ("ws://127.0.0.1:9222/devtools/browser/1b7a-4c", "/devtools/browser/1b7a-4c"),
    ],
)
def test_the_browser_says_where_it_is_spoken_to(address: str, path: str) -> None:
    assert browser_path({"webSocketDebuggerUrl": address}) == path


@pytest.mark.parametrize(
    "version", [None, [], {}, {"webSocketDebuggerUrl": 7}, {"webSocketDebuggerUrl": "ws://x/devtools/page/1"},
                {"webSocketDebuggerUrl": "ws://x/devtools/browser/1 HTTP/1.1\r\nX: y"}],
)  # fmt: skip
def test_anything_else_is_no_place(version: Any) -> None:
    with pytest.raises(DevToolsError, match="does not say where"):
        browser_path(version)


def answered(raw: bytes) -> socket.socket:
    """A connection whose other end gives these bytes, whatever it is asked."""
    here, there = socket.socketpair()

    def answer() -> None:
        there.recv(4096)
        there.sendall(raw)
        there.close()

    threading.Thread(target=answer, daemon=True).start()
    return here


def test_what_is_told_is_json() -> None:
    body = json.dumps({"Browser": "Chrome/150"}).encode()
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: " + str(len(body)).encode() + b"\r\n\r\n" + body
    assert told(answered(raw), "/json/version", 5) == {"Browser": "Chrome/150"}


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "no answer to /json/version"),
        (b"nonsense\r\n\r\n", "no answer to /json/version"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nnot", "no answer to /json/version"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "answers /json/version with status 404"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"1" * 2000, "answers /json/version with status 200 and 1,001 bytes"),
    ],
)
def test_what_is_not_is_one_sentence(monkeypatch: pytest.MonkeyPatch, raw: bytes, words: str) -> None:
    monkeypatch.setattr(websocket, "MOST_LISTED", 1000)
    with pytest.raises(DevToolsError, match=words):
        told(answered(raw), "/json/version", 5)


def test_a_peer_that_says_nothing_is_not_waited_for() -> None:
    here, there = socket.socketpair()
    with there, pytest.raises(DevToolsError, match=r"no answer to /json/list \(timed out\)"):
        told(here, "/json/list", 0.2)


@pytest.fixture
def peer() -> Iterator[Server]:
    """Answers commands by their name."""

    def speak(connection: ServerConnection) -> None:
        for raw in connection:
            message = json.loads(raw)
            if message["method"] == "Leave":
                return
            if message["method"] == "Tell":
                connection.send(json.dumps({"method": "Log.entryAdded", "params": {"a": 1}}))
            if message["method"] != "Silence":
                connection.send(json.dumps({"id": message["id"], "result": {"value": 7}}))

    with serve(speak, "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def connected(peer: Server, heard: list[Any], ended: threading.Event) -> SocketDevTools:
    connection = socket.create_connection(peer.socket.getsockname())
    return SocketDevTools(connection, "/devtools/browser", 5, lambda *event: heard.append(event), ended.set)


def test_commands_are_answered_events_heard_and_the_end_is_told(peer: Server) -> None:
    heard: list[Any] = []
    ended = threading.Event()
    tools = connected(peer, heard, ended)
    assert tools.call("Tell", 5) == {"value": 7}
    assert heard == [("Log.entryAdded", {"a": 1})]
    with pytest.raises(DevToolsError, match="no answer to Silence within 0"):
        tools.call("Silence", 0.2)
    with pytest.raises(DevToolsError, match="closed its DevTools connection"):
        tools.call("Leave", 5)
    assert ended.wait(5)
    tools.close()


def test_what_speaks_no_websocket_is_refused() -> None:
    with pytest.raises(DevToolsError, match="refuses a connection"):
        SocketDevTools(answered(b"HTTP/1.1 403 Forbidden\r\n\r\n"), "/", 5, lambda *_: None, lambda: None)


def test_without_the_library_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def lacking(name: str, *rest: Any) -> Any:
        if name == "websockets":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", lacking)
    with pytest.raises(UsageError, match="lacks a library") as caught:
        check_library()
    assert "[chrome]" in caught.value.next_step
