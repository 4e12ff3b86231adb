"""Real workers, and a peer that says what a test has it say."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import harness
from harness.devices.base import Device
from harness.devices.host.device import HostDevice, HostLauncher
from harness.devices.link import PROTOCOL, Link, LinkError, Message
from harness.graph.build import GraphBuilder
from harness.graph.model import Model

FACTS: dict[str, Any] = {"runtime": "9.9.9", "system": "scripted"}


@pytest.fixture(scope="module")
def host() -> Iterator[HostDevice]:
    device = HostDevice()
    yield device
    device.close()


@pytest.fixture(scope="session")
def plus_one() -> Model:
    """y = x + 1, of shape [1, 4]."""
    graph = GraphBuilder()
    graph.output(graph.binary("ADD", graph.input("x", (1, 4)), graph.constant([1.0])), "y")
    return graph.build()


class RawWorker:
    """A real worker on a bare link: requests may be as wrong as they like."""

    def __init__(self) -> None:
        self.launcher = HostLauncher(sys.executable, (Path(harness.__file__).parent.parent,))
        self.link = self.launcher.start()
        self.ident = 0

    def ask(self, kind: str, payloads: Any = (), **fields: Any) -> list[Message]:
        """The answers to one request, outputs first."""
        self.ident += 1
        self.link.send(kind, self.ident, time.monotonic() + 20, payloads, **fields)
        answers = [self.link.receive(time.monotonic() + 20)]
        while answers[-1].type == "output":
            answers.append(self.link.receive(time.monotonic() + 20))
        assert all(answer.id == self.ident for answer in answers)
        return answers

    def refusal(self, kind: str, payloads: Any = (), **fields: Any) -> str:
        """The reason of a request that must be refused."""
        (answer,) = self.ask(kind, payloads, **fields)
        assert (answer.type, answer.fields["kind"]) == ("failed", "rejected")
        return str(answer.fields["reason"])


@pytest.fixture(scope="module")
def raw_worker() -> Iterator[RawWorker]:
    worker = RawWorker()
    yield worker
    worker.link.close()
    worker.launcher.close()


Answer = Callable[[Link, Message], None]


class Peer:
    """A launcher whose process is a thread here: it answers each type of request as told, and refuses a request that it
    was told nothing about by ending the test with an error."""

    def __init__(self, **answers: Answer) -> None:
        self.answers = {"hello": say_hello, "has": say_present, **answers}
        self.requests: list[Message] = []
        self.unexpected: list[str] = []
        self.killed = 0
        self.died: tuple[str, str] | None = None
        self.words = ""
        self._thread: threading.Thread | None = None

    def start(self) -> Link:
        here, there = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, args=(Link(there),), daemon=True)
        self._thread.start()
        return Link(here)

    def _serve(self, link: Link) -> None:
        try:
            while (message := link.receive(time.monotonic() + 30)).type != "bye":
                self.requests.append(message)
                answer = self.answers.get(message.type)
                if answer is None:
                    self.unexpected.append(message.type)
                    break
                answer(link, message)
        except LinkError:
            pass
        finally:
            link.close()

    def death(self) -> tuple[str, str] | None:
        return self.died

    def lost(self, reason: str) -> str:
        return reason

    def kill(self) -> None:
        self.killed += 1
        if self._thread is not None:
            # The device closes its side right after or before: the thread ends then at the latest.
            self._thread.join(0.05)

    def log(self, mark: int) -> str:
        return self.words[mark:]

    def log_mark(self) -> int:
        return 0


def say_hello(link: Link, request: Message) -> None:
    link.send("hello", request.id, protocol=PROTOCOL, facts=FACTS)


def say_present(link: Link, request: Message) -> None:
    link.send("has", request.id, present=True)


@pytest.fixture
def scripted() -> Iterator[Callable[..., tuple[Device, Peer]]]:
    """Makes a device whose other side answers as told."""
    made: list[tuple[Device, Peer]] = []

    def make(**answers: Answer) -> tuple[Device, Peer]:
        peer = Peer(**answers)
        device = Device("scripted", "scripted", peer)
        made.append((device, peer))
        return device, peer

    yield make
    for device, peer in made:
        device.close()
        assert peer.unexpected == []
