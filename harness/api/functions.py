"""`harness.compare`, `localize`, `audit`, `bench` and `fix`: the commands as functions, for scripts and notebooks.

Each takes a .tflite by its path, or a `Model`, and inputs by name (random ones of seed 0 where none are given). Run
folders are kept under `out`. Errors are `harness.core.errors.HarnessError`: one sentence with the offending value, and
a next step.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Unpack

from harness.api.audit import audit_command
from harness.api.fixing.result import Fixed
from harness.api.on_device import Choices, Judging, Localizing, OnDevice, Shapes
from harness.core.arrays import Array
from harness.core.errors import UsageError
from harness.graph.model import Model
from harness.graph.ops.audit import Audit
from harness.latency.bench import Benched
from harness.latency.measure import QUICK, Plan
from harness.localize.base.comparison import ModelComparison
from harness.localize.base.result import Localization

TIMEOUT_SECONDS = 600.0
"""Until a job on a device is ended."""


def compare(
    model: Model | Path | str,
    inputs: Mapping[str, Array] | None = None,
    *,
    device: str = "host",
    out: Path | str = "results",
    timeout: float = TIMEOUT_SECONDS,
    **choices: Unpack[Judging],
) -> ModelComparison:
    """The model's outputs on a device's GPU against the host CPU's.

    Raises:
        UsageError: an argument, the model or its inputs do not do. DeviceError: the device does not complete.
    """
    return _on(device, out, timeout).compare(model, inputs, **choices)


def localize(
    model: Model | Path | str,
    inputs: Mapping[str, Array] | None = None,
    *,
    device: str = "host",
    out: Path | str = "results",
    timeout: float = TIMEOUT_SECONDS,
    **choices: Unpack[Localizing],
) -> Localization:
    """The ops that make the model wrong on a device; with `explain` also why, a reproducer, and remedies that were
    tried. Raises as `compare`."""
    return _on(device, out, timeout).localize(model, inputs, **choices)


def audit(
    model: Model | Path | str,
    *,
    device: str | None = None,
    timeout: float = TIMEOUT_SECONDS,
    shapes: Shapes | None = None,
) -> Audit:
    """What is in a model, and what a GPU refuses of it: from the file alone, or, with a `device`, from its delegate.
    Raises as `compare`."""
    if isinstance(model, Model):
        raise UsageError("harness.audit takes a path.", "Save the model first: Path('m.tflite').write_bytes(...).")
    return audit_command(Path(model), None, device, timeout, shapes=shapes)


def bench(
    model: Model | Path | str,
    inputs: Mapping[str, Array] | None = None,
    *,
    device: str = "host",
    out: Path | str = "results",
    timeout: float = TIMEOUT_SECONDS,
    plan: Plan = QUICK,
    **choices: Unpack[Choices],
) -> Benched:
    """The model's latency on a device, with an interval, and whether the measurement counts. Raises as `compare`."""
    return _on(device, out, timeout).bench(model, inputs, plan=plan, **choices)


def fix(
    model: Model | Path | str,
    inputs: Mapping[str, Array] | None = None,
    *,
    target: str = "host",
    device: str | None = None,
    to: Path | str | None = None,
    out: Path | str = "results",
    timeout: float = TIMEOUT_SECONDS,
) -> Fixed:
    """The model with what `harness lint` finds in it for a target written anew, as far as that keeps its values:
    checked on the host's CPU and, with a `device`, there. It is written to `to`, else under `out`. Raises as
    `compare`."""
    place = None if to is None else Path(os.fspath(to))
    asked = _on(device or "host", out, timeout)
    return asked.fix(model, inputs, target=target, to=place, compare=device is not None)


def _on(device: str, out: Path | str, timeout: float) -> OnDevice:
    if not timeout > 0:
        raise UsageError(f"timeout={timeout:g} is no time.", "Give the seconds after which a job is ended.")
    return OnDevice(device, Path(os.fspath(out)), timeout)
