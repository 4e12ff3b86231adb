"""A phone with LiteRT's tool and no app, and ways to have the tool fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from harness.core.job import Job, Options
from harness.devices.android import recovery
from harness.devices.android.device import PhoneOptions
from harness.devices.android.no_app.device import ToolDevice
from harness.devices.android.no_app.folder import JOBS
from harness.devices.execute import make_job
from harness.devices.registry import open_device
from harness.graph.model import Model
from tests.standin.phone import Phone, make_tools

ONES = np.ones((1, 4), np.float32)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "RETURN_SECONDS", 30.0)


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tools(tmp_path_factory.mktemp("litert") / "android_arm64")


@pytest.fixture(scope="module")
def device(phone: Phone, tools: Path) -> Iterator[ToolDevice]:
    with open_device(phone.serial, phone=PhoneOptions(tools=tools)) as opened:
        assert isinstance(opened, ToolDevice)
        yield opened


@pytest.fixture
def quick(plus_one: Model) -> Job:
    return make_job(plus_one, {"x": ONES}, Options("cpu"), timeout=60)


@pytest.fixture
def fails(phone: Phone) -> Iterator[Callable[..., None]]:
    """Has the tool fail in some way."""
    yield lambda **how: phone.write("tool", how)
    (phone.state / "tool.json").unlink(missing_ok=True)


Fails = Callable[..., None]


def left(phone: Phone) -> list[str]:
    """What jobs left on the phone."""
    folder = phone.data.parent / JOBS.removeprefix("/")
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) if folder.exists() else []


def tool_runs(phone: Phone) -> bool:
    """Whether a job's tool runs on this phone, which all that its shells start has in its environment."""
    own = f"STANDIN={phone.state}".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                ours = own in (entry / "environ").read_bytes().split(b"\0")
                if ours and f"--graph={JOBS}".encode() in (entry / "cmdline").read_bytes():
                    return True
            except OSError:
                continue
    return False
