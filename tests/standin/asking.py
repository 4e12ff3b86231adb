"""Two ways to talk to the running app: requests on a bare link, and the host's own `Device`."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from harness.devices.base import Device
from harness.devices.link import Link, Message
from harness.graph.model import Model
from tests.standin.app import App

ONES = np.ones((1, 4), np.float32)
SECONDS = 60.0


class Asker:
    """Requests on a bare link: they may be as wrong as they like."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.ident = 0

    def ask(self, kind: str, payloads: Any = (), **fields: Any) -> list[Message]:
        """The answers to one request, outputs first."""
        self.ident += 1
        self.link.send(kind, self.ident, time.monotonic() + SECONDS, payloads, **fields)
        answers = [self.link.receive(time.monotonic() + SECONDS)]
        while answers[-1].type == "output":
            answers.append(self.link.receive(time.monotonic() + SECONDS))
        assert all(answer.id == self.ident for answer in answers)
        return answers

    def refusal(self, kind: str, payloads: Any = (), **fields: Any) -> str:
        (answer,) = self.ask(kind, payloads, **fields)
        assert (answer.type, answer.fields["kind"]) == ("failed", "rejected")
        return str(answer.fields["reason"])

    def put(self, model: Model) -> None:
        data = np.frombuffer(model.to_bytes(), np.uint8)
        assert self.ask("put", [("model", data)], sha256=model.sha256)[0].type == "put"


class Launched:
    """A launcher for an app that runs already, as `Device` wants it."""

    def __init__(self, app: App) -> None:
        self._app = app

    def start(self) -> Link:
        return self._app.connect()

    def death(self) -> tuple[str, str] | None:
        return None if self._app.process.poll() is None else ("the app ended", "")

    def lost(self, reason: str) -> str:
        return reason

    def kill(self) -> None: ...

    def log_mark(self) -> int:
        return self._app.logcat.stat().st_size

    def log(self, mark: int) -> str:
        return self._app.logcat.read_bytes()[mark:].decode("utf-8", "replace")


class Direct(Device):
    """The app as a device, without adb; its process stays when the device rests."""

    def __init__(self, app: App) -> None:
        super().__init__("standin", "standin", Launched(app))

    def stop(self) -> None:
        if self._link is not None:
            self._link.close()
        self._link = None


def request_for(model: Model, accelerator: str = "cpu", **changes: Any) -> dict[str, Any]:
    options = {"accelerator": accelerator, "precision": "default", "threads": 0}
    whole = {"sha256": model.sha256, "options": options, "outputs": ["y"], "positions": [0]}
    return whole | {"warmup": 0, "iterations": 1, "final": False} | changes


def wait_for(app: App, words: str, mark: int = 0) -> None:
    deadline = time.monotonic() + SECONDS
    while words not in app.logcat.read_bytes()[mark:].decode("utf-8", "replace"):
        assert time.monotonic() < deadline, app.log()[-2000:]
        time.sleep(0.01)
