"""A hostile adb server: phones are listed, looked for and run on, in time and with an answer or a sentence."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest

from harness.core.errors import HarnessError
from harness.core.job import Options
from harness.devices import registry
from harness.devices.android import adb, device, logcat, recovery
from harness.devices.android.adb import Server
from harness.devices.execute import make_job
from harness.devices.registry import attached_devices, open_device
from harness.graph.build import GraphBuilder
from tests.fuzz.adb_servers import KINDS, SERIAL, HostileAdbServer

# What each wait is cut to here, so that many servers can be tried.
SHORT = 0.3
WAITS = (
    (adb, "ADB_SECONDS"), (recovery, "RETURN_SECONDS"), (registry, "RECONNECT_SECONDS"), (registry, "PRODUCT_SECONDS"),
    (device, "APP_SECONDS"), (device, "PROCESS_SECONDS"), (device, "DEATH_SECONDS"), (logcat, "RECORD_SECONDS"),
)  # fmt: skip
# All of them one after another, and as many calls of adb as a start of the app takes, on a shared machine.
PATIENCE = 25.0


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in WAITS:
        monkeypatch.setattr(module, name, SHORT)


@pytest.fixture(params=range(len(KINDS)))
def server(request: pytest.FixtureRequest) -> Iterator[HostileAdbServer]:
    made = HostileAdbServer(request.param)
    made.kind = KINDS[request.param]
    yield made
    made.close()


@pytest.mark.parametrize("name", [SERIAL, "pixel8a"])
def test_a_hostile_adb_server_gives_an_answer_or_a_sentence_in_time(server: HostileAdbServer, name: str) -> None:
    graph = GraphBuilder()
    graph.output(graph.unary("RELU", graph.input("x", (2, 8))), "y")
    job = make_job(graph.build(), {"x": np.ones((2, 8), np.float32)}, Options(), timeout=SHORT)
    at = Server("127.0.0.1", server.port)
    began = time.monotonic()
    said = []
    for step in (lambda: attached_devices(at), lambda: open_device(f"{name}@127.0.0.1:{server.port}")):
        try:
            device = step()
        except HarnessError as error:
            said.append(error.message)
            continue
        if isinstance(device, list):
            continue
        with device:
            try:
                device.run(job)
            except HarnessError as error:
                said.append(error.message)
    assert time.monotonic() - began < PATIENCE
    assert all(said)
