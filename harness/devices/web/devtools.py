"""The DevTools protocol over a pair of pipes: JSON messages, each ended by a zero byte.

Over pipes no port is open that another program on the machine could use, and the browser ends when they close.
"""

from __future__ import annotations

import json
import os
import select
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from harness.core import safe_json

MOST_MESSAGE = 16 << 20
"""Bytes of one message from the browser: tensors do not travel this way."""
_CHUNK = 1 << 16

Event = Callable[[str, dict[str, Any]], None]


class DevToolsError(Exception):
    """The browser is gone, silent, refused a command or broke the protocol."""


class DevTools:
    """Commands to a browser and events from it. `told` gets each event, by its method and parameters, in a thread of
    its own; `ended` is called there once, when the pipe closes or the browser breaks the protocol."""

    def __init__(self, commands: int, events: int, told: Event, ended: Callable[[], None]) -> None:
        self._commands, self._events = commands, events
        self._told, self._ended = told, ended
        self._number = 0
        self._answers: dict[int, dict[str, Any]] = {}
        self._changed = threading.Condition()
        self._open = True
        os.set_blocking(commands, False)
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
        self._write(json.dumps(message).encode() + b"\0", deadline)
        with self._changed:
            while number not in self._answers:
                left = deadline - time.monotonic()
                if not self._open:
                    raise DevToolsError("the browser closed its DevTools pipe")
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
        """Close both pipes and wait for the reader. To be called once the browser has ended, or is to end by it."""
        with suppress(OSError):
            os.close(self._commands)
        if threading.current_thread() is not self._reader:
            self._reader.join(5)

    def _write(self, data: bytes, deadline: float) -> None:
        view = memoryview(data)
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

    def _read(self) -> None:
        pending = bytearray()
        try:
            while chunk := os.read(self._events, _CHUNK):
                pending += chunk
                while (end := pending.find(0)) >= 0:
                    message = bytes(pending[:end])
                    del pending[: end + 1]
                    self._take(message)
                if len(pending) > MOST_MESSAGE:
                    break
        except OSError:
            pass
        finally:
            with suppress(OSError):
                os.close(self._events)
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
