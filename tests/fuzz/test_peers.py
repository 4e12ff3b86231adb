"""A device that means no good: whatever it sends, a job comes to an outcome within its time, and to little memory."""

from __future__ import annotations

import resource
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.errors import DeviceError
from harness.core.job import Completed, Job, Options
from harness.devices import base
from harness.devices.base import Device
from harness.devices.execute import failure, make_job
from harness.graph.build import GraphBuilder
from tests.fuzz.peers import HostilePeer
from tests.fuzz.test_fuzz import bounded

# Of one job; a peer that hangs or drips costs it whole.
SECONDS = 0.4
# A shared machine may be slow.
PATIENCE = 5.0
MEGABYTES = 100


def job() -> Job:
    graph = GraphBuilder()
    x = graph.input("x", (2, 8))
    graph.output(graph.unary("RELU", x), "a")
    graph.output(graph.unary("ABS", x), "b")
    return make_job(graph.build(), {"x": np.ones((2, 8), np.float32)}, Options(), timeout=SECONDS)


JOB = job()
OUTPUTS: dict[str, Any] = {name: np.zeros((2, 8), np.float32) for name in ("a", "b")}


@pytest.fixture(scope="module", autouse=True)
def _short_hello() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base, "START_SECONDS", SECONDS)
        yield


@bounded
@given(st.integers(0, 2**32))
def test_a_job_on_a_hostile_device_ends_in_time_with_an_outcome(seed: int) -> None:
    peer = HostilePeer(seed, OUTPUTS)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    with Device("hostile", "scripted", peer) as device:
        for _ in range(2):
            try:
                outcome = device.run(JOB)
            except DeviceError as error:
                assert error.message
                break
            if not isinstance(outcome, Completed):
                assert failure(device.name, outcome, "running").message
    assert time.monotonic() - began < 4 * SECONDS + PATIENCE
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEGABYTES << 10
