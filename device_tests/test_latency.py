"""Latency on the chosen device: kept with the run, told at the end of the session, and never asserted."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from device_tests.corpus import healthy_attention
from device_tests.without_app import compiles_each_time
from harness.api.on_device import OnDevice
from harness.core.errors import UsageError
from harness.latency.measure import Plan
from harness.latency.record import BenchResult

SHORT = Plan(samples=24, seconds=0.5, rounds=8, replications=1)


def test_a_healthy_models_latency_is_that_of_right_outputs_on_the_gpu(
    on_device: OnDevice, latency: Callable[..., BenchResult]
) -> None:
    model = on_device.out / "healthy_attention.tflite"
    model.parent.mkdir(parents=True, exist_ok=True)
    model.write_bytes(healthy_attention().to_bytes())
    if compiles_each_time(on_device):
        with pytest.raises(UsageError, match="gives no time of its own to each of several runs"):
            latency(model, plan=SHORT)
        return
    found = latency(model, plan=SHORT)
    assert found.resident
    assert found.right
    assert found.latency["total"].count >= SHORT.samples
    assert not {"fallback", "enqueue-only", "rebooted", "runtime-changed"} & {flaw.reason for flaw in found.invalid}
