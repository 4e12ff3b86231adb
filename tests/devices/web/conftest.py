"""A real browser whose LiteRT.js is a stand-in: a model's bytes are a word that says how it goes wrong."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.core.errors import DeviceError
from harness.core.job import Job, Options, OutputPort
from harness.devices.web.browser import browser_program
from harness.devices.web.device import WebDevice

STUB = Path(__file__).with_name("litert_stub.js")


def lacking(what: str) -> None:
    """Where a test's tool is missing, CI fails; elsewhere the summary says what to install."""
    if os.environ.get("CI"):
        pytest.fail(what, pytrace=False)
    pytest.skip(what)


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's program."""
    try:
        return browser_program()
    except DeviceError as error:
        lacking(str(error))
        raise


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `package_folder` gives it, with the stand-in in the place of the package."""
    folder = tmp_path_factory.mktemp("litertjs")
    files = {
        "core/package.json": '{"version": "2.5.3"}',
        "core/dist/index.js": STUB.read_text("utf-8"),
        "wasm-utils/dist/index.js": "export {};",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def stub(chromium: str, package: Path) -> Iterator[WebDevice]:
    """The device, with the stand-in for LiteRT.js."""
    with pytest.MonkeyPatch.context() as patch:
        device = opened_stub(patch, package)
        yield device
        device.close()


def opened_stub(patch: pytest.MonkeyPatch, package: Path) -> WebDevice:
    patch.setattr("harness.devices.web.device.package_folder", lambda *_: package)
    return WebDevice()


def asking(word: str, *, timeout: float = 60.0, wanted: bool = True, **more: Any) -> Job:
    """A job that the stand-in answers by what the word says: `y = x + 1` where it says nothing of a fault."""
    port = OutputPort("y", 0, np.dtype(np.float32), (1, 4))
    options = Options(**{"accelerator": "cpu"} | more.pop("options", {}))
    model = word.encode()
    given = {"x": np.arange(4, dtype=np.float32).reshape(1, 4)}
    digest = hashlib.sha256(model).hexdigest()
    return Job(model, digest, given, (port,) if wanted else (), options, timeout=timeout, **more)
