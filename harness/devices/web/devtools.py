"""The DevTools protocol: JSON messages, over a pair of pipes each ended by a zero byte.

Over pipes no port is open that another program on the machine could use, and the browser ends when they close. A
phone's browser has a WebSocket instead (`harness.devices.web.websocket`).
"""

from __future__ import annotations

import json
import os
import select
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from harness.core import safe_json

MOST_MESSAGE = 16 << 20
"""Bytes of one message from the browser: tensors do not travel this way."""
_CHUNK = 1 << 16

Event = Callable[[str, dict[str, Any]], None]


class DevToolsError(Exception):
    """The browser is gone, silent, refused a command or broke the protocol."""


class DevToolsClient(ABC):
    """Commands to a browser and events from it. `told` gets each event, by its method and parameters, in a thread of
    its own; `ended` is called there once, when the connection closes or the browser breaks the protocol."""

    way = "connection"
    """What it goes over, in a word."""

    def __init__(self, told: Event, ended: Callable[[], None]) -> None:
        self._told, self._ended = told, ended
        self._number = 0
        self._answers: dict[int, dict[str, Any]] = {}
        self._changed = threading.Condition()
        self._open = True
        self._reader = threading.Thread(target=self._read, name="devtools", daemon=True)
        self._reader.start()

    def call(self, method: str, seconds: float, session: str = "", **parameters: Any) -> dict[str, Any]:
        """The result of a command within so many seconds. Raises DevToolsError."""
        deadline = time.monotonic() + seconds
        with self._changed:
            self._number += 1
            number = self._number
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        self._send(json.dumps(message).encode(), deadline)
        with self._changed:
            while number not in self._answers:
                left = deadline - time.monotonic()
                if not self._open:
                    raise DevToolsError(f"the browser closed its DevTools {self.way}")
                if left <= 0:
                    raise DevToolsError(f"the browser gave no answer to {method} within {seconds:g} s")
                self._changed.wait(left)
            answer = self._answers.pop(number)
        if "error" in answer:
            error = answer["error"]
            said = error.get("message") if isinstance(error, dict) else error
            raise DevToolsError(f"the browser refused {method}: {str(said)[:200]}")
        result = answer.get("result")
        return result if isinstance(result, dict) else {}

    def close(self) -> None:
        """Close the connection and wait for the reader."""
        self._shut()
        if threading.current_thread() is not self._reader:
            self._reader.join(5)

    @abstractmethod
    def _send(self, message: bytes, deadline: float) -> None:
        """One message to the browser. Raises DevToolsError."""

    @abstractmethod
    def _messages(self) -> Iterator[bytes]:
        """The browser's messages, to the connection's end."""

    @abstractmethod
    def _shut(self) -> None:
        """End the connection."""

    def _read(self) -> None:
        try:
            for message in self._messages():
                self._take(message)
        finally:
            with self._changed:
                self._open = False
                self._changed.notify_all()
            self._ended()

    def _take(self, raw: bytes) -> None:
        try:
            message = safe_json.loads(raw)
        except ValueError:
            return
        if not isinstance(message, dict):
            return
        number, method, parameters = message.get("id"), message.get("method"), message.get("params")
        if isinstance(number, int):
            with self._changed:
                self._answers[number] = message
                self._changed.notify_all()
        elif isinstance(method, str):
            self._told(method, parameters if isinstance(parameters, dict) else {})


class DevTools(DevToolsClient):
    """Over a pair of pipes. To be closed once the browser has ended, or is to end by it."""

    way = "pipe"

    def __init__(self, commands: int, events: int, told: Event, ended: Callable[[], None]) -> None:
        self._commands, self._events = commands, events
        os.set_blocking(commands, False)
        super().__init__(told, ended)

    def _shut(self) -> None:
        with suppress(OSError):
            os.close(self._commands)

    def _send(self, message: bytes, deadline: float) -> None:
        view = memoryview(message + b"\0")
        while view:
            left = deadline - time.monotonic()
            poll = select.poll()
            poll.register(self._commands, select.POLLOUT)
            if left <= 0 or not poll.poll(1000 * left):
                raise DevToolsError("the browser reads no commands")
            try:
                view = view[os.write(self._commands, view) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise DevToolsError(f"the browser closed its DevTools pipe ({error.strerror})") from None

    def _messages(self) -> Iterator[bytes]:
        pending = bytearray()
        try:
            while chunk := os.read(self._events, _CHUNK):
                pending += chunk
                while (end := pending.find(0)) >= 0:
                    message = bytes(pending[:end])
                    del pending[: end + 1]
                    yield message
                if len(pending) > MOST_MESSAGE:
                    break
        except OSError:
            pass
        finally:
            with suppress(OSError):
                os.close(self._events)
