"""A tap page that is served in this process, for the small model."""

from __future__ import annotations

import asyncio
import http.client
import json
import queue
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.types import ASGIApp

from harness.sam2.image_path.convert import make_missing
from harness.sam2.image_path.pipeline import Models
from harness.sam2.image_path.tap_page.app import make_app
from harness.sam2.image_path.tap_page.choices import BackEnd, DecoderChoice
from harness.sam2.image_path.tap_page.desk import Desk, Setup
from harness.sam2.image_path.tap_page.photos import Photos
from harness.sam2.image_path.tap_page.serving import serve
from tests.sam2.conftest import Once

Serve = Callable[[Setup], "Served"]


class Served:
    """A page's address, and requests to it as the page makes them, unless told otherwise."""

    def __init__(self, address: str, desk: Any) -> None:
        self.address, self.desk = address, desk
        parts = urllib.parse.urlparse(address)
        self.host, self.root = parts.netloc, parts.path
        self.origin = f"http://{self.host}"

    def ask(
        self, path: str, body: Any = None, *, root: str | None = None, method: str = "", **headers: str
    ) -> tuple[int, bytes]:
        """Status and body. A header of the empty word is left out."""
        connection = http.client.HTTPConnection(self.host, timeout=60)
        told = {"Host": self.host} | ({} if body is None else {"Origin": self.origin}) | headers
        told = {name.replace("_", "-"): value for name, value in told.items() if value}
        content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        connection.putrequest(method or ("GET" if body is None else "POST"), (root or self.root) + path, skip_host=True)
        if content is not None and "Content-Length" not in told:
            told["Content-Length"] = str(len(content))
        for name, value in told.items():
            connection.putheader(name, value)
        connection.endheaders(content)
        reply = connection.getresponse()
        said = reply.status, reply.read()
        connection.close()
        return said

    def json(self, path: str, body: Any = None) -> Any:
        """The document that is answered."""
        return json.loads(self.ask(path, body)[1])

    def lines(self, body: Any) -> list[dict[str, Any]]:
        """The answer to a tap, once what it needs is done."""
        while True:
            status, said = self.ask("tap", body)
            if status != 202:
                return [json.loads(line) for line in said.splitlines()]
            self.finished(json.loads(said)["work"])

    def finished(self, work: dict[str, Any]) -> Any:
        """The result of a piece of work."""
        deadline = time.monotonic() + 300
        while "result" not in work:
            assert "error" not in work, work
            assert time.monotonic() < deadline, work
            time.sleep(0.05)
            work = self.json(f"work/{work['id']}")
        return work["result"]


def served(setup: Setup) -> AbstractContextManager[Served]:
    """A photo's page, served."""
    desk = Desk(setup)
    return running(make_app(desk), desk.close, desk)


@contextmanager
def running(app: ASGIApp, close: Callable[[], None], desk: Any = None) -> Iterator[Served]:
    """A page, served by a thread of its own."""
    loop, stopping = asyncio.new_event_loop(), asyncio.Event()
    told: queue.Queue[str | BaseException] = queue.Queue()

    def work() -> None:
        try:
            loop.run_until_complete(serve(app, close, 0, told.put, stopping))
        except BaseException as error:  # noqa: BLE001 - it is the test's
            told.put(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        address = told.get(timeout=30)
        if isinstance(address, BaseException):
            raise address
        yield Served(address, desk)
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join(60)
        assert not thread.is_alive()
        loop.close()


@pytest.fixture(scope="session")
def tap_models(small_models: tuple[Models, Models], once: Once) -> tuple[Models, Models]:
    """The small models, the second one's decoder for a box or two points too."""
    once("small-tap-models", lambda: make_missing([small_models[1].decoder(3)]))
    return small_models


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of two photos."""
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(0)
    for name, size in (("noise.png", (90, 120, 3)), ("wide.png", (60, 160, 3))):
        Image.fromarray(random.integers(0, 256, size, np.uint8)).save(folder / name)
    return folder


@pytest.fixture
def setup(tap_models: tuple[Models, Models], photos: Path, tmp_path: Path) -> Setup:
    """Both photos, both decoders, and the host's CPU as the device."""
    first, second = tap_models
    choices = (DecoderChoice("v2", "second", second), DecoderChoice("v1", "first", first))
    ends = (BackEnd("host", "cpu"),)
    return Setup(Photos.of(photos), choices, ends, "v2", timeout=120, results=tmp_path / "results")


@pytest.fixture
def page(setup: Setup) -> Iterator[Served]:
    """That, served."""
    with served(setup) as running:
        yield running


def asked(**changes: Any) -> dict[str, Any]:
    """A request for one point on the first photo."""
    tap = {"positive": [[40, 50]], "negative": [], "box": None}
    plain = {"photo": "noise.png", "decoder": "v2", "back_end": "host/cpu", "tab": "t", "object": "1", "tap": tap}
    return plain | changes


def with_ends(setup: Setup, *ends: BackEnd) -> Setup:
    """The same with other back ends."""
    return replace(setup, back_ends=ends)
