"""The DevTools client against a peer on the other ends of its pipes."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from harness.devices.web import devtools
from harness.devices.web.devtools import DevTools, DevToolsError


class Peer:
    """The browser's ends."""

    def __init__(self) -> None:
        self.commands, self._theirs_out = os.pipe()
        self._theirs_in, self.events = os.pipe()
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.ended = threading.Event()
        self.tools = DevTools(self._theirs_out, self._theirs_in, lambda *event: self.told.append(event), self.ended.set)

    def reads(self) -> dict[str, Any]:
        raw = b""
        while not raw.endswith(b"\0"):
            raw += os.read(self.commands, 1)
        message: dict[str, Any] = json.loads(raw[:-1])
        return message

    def writes(self, raw: bytes) -> None:
        os.write(self.events, raw)

    def answers(self, **fields: Any) -> threading.Thread:
        """Answer the next command in a thread."""

        def answer() -> None:
            self.writes(json.dumps({"id": self.reads()["id"], **fields}).encode() + b"\0")

        thread = threading.Thread(target=answer)
        thread.start()
        return thread

    def close(self) -> None:
        for end in (self.events, self.commands):
            with suppress(OSError):
                os.close(end)
        self.tools.close()


@pytest.fixture
def peer() -> Iterator[Peer]:
    made = Peer()
    yield made
    made.close()


def test_a_command_gets_its_own_answer_and_events_go_elsewhere(peer: Peer) -> None:
    answering = peer.answers(result={"value": 7})
    peer.writes(b'{"method": "Log.entryAdded", "params": {"a": 1}}\0{"id": 999, "result": {}}\0not json\0[1]\0')
    assert peer.tools.call("Page.navigate", 5, "session", url="about:blank") == {"value": 7}
    answering.join()
    assert peer.told == [("Log.entryAdded", {"a": 1})]


def test_a_refused_command_says_why(peer: Peer) -> None:
    answering = peer.answers(error={"message": "no such target"})
    with pytest.raises(DevToolsError, match=r"refused Page\.enable: no such target"):
        peer.tools.call("Page.enable", 5)
    answering.join()


def test_silence_ends_with_the_time_given(peer: Peer) -> None:
    before = time.monotonic()
    with pytest.raises(DevToolsError, match=r"no answer to Page\.enable within 0\.2 s"):
        peer.tools.call("Page.enable", 0.2)
    assert time.monotonic() - before < 5


def test_a_peer_that_reads_nothing_is_not_waited_for(peer: Peer) -> None:
    with pytest.raises(DevToolsError, match="reads no commands"):
        peer.tools.call("Page.navigate", 0.2, url="x" * (1 << 20))


def test_the_end_of_the_pipe_is_told_and_ends_what_waits(peer: Peer) -> None:
    threading.Timer(0.1, os.close, [peer.events]).start()
    with pytest.raises(DevToolsError, match="closed its DevTools pipe"):
        peer.tools.call("Page.enable", 5)
    assert peer.ended.wait(5)
    os.close(peer.commands)
    with pytest.raises(DevToolsError, match="closed its DevTools pipe"):
        peer.tools.call("Page.enable", 5)


def test_a_message_without_an_end_is_not_kept(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devtools, "MOST_MESSAGE", 1000)
    peer.writes(b"x" * 2000)
    assert peer.ended.wait(5)
