"""Before a model is blamed: does the device run a model of one op, and is the result right?

A driver or a runtime that is broken as a whole crashes, hangs, refuses or is wrong whatever it is given. An answer that
blames an op of a healthy model for that would send its reader after the wrong thing, with a reproducer that fails, too.
The control costs one compile of a model of one RELU, whose result every precision holds; counts of compiles
leave it out.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np

from harness.core.errors import DeviceError, DeviceSilent
from harness.core.job import Completed, Crashed, Options, Rejected, TimedOut
from harness.devices.base import Device
from harness.devices.execute import failure, make_job
from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from harness.localize.base.result import Localization
from harness.numerics.fp16 import FLOAT32_ROUNDOFF, UNIT_ROUNDOFF
from harness.numerics.metrics import compare
from harness.numerics.tolerance import LOCAL_FACTOR, judge

# A model this small takes no longer, or the device is not fit to be asked.
SECONDS = 60.0
_SHAPE = (1, 4, 4, 8)
_VERBS = {Rejected: "refuses", Crashed: "crashes on", TimedOut: "hangs on"}
_INPUT, _OUTPUT = "control_in", "control_out"


class DeviceBroken(DeviceError):
    """A device that fails on the control as well."""


@cache
def model() -> Model:
    """y = max(x, 0)."""
    graph = GraphBuilder()
    graph.output(graph.unary("RELU", graph.input(_INPUT, _SHAPE), name=_OUTPUT))
    return graph.build()


def check(device: Device, options: Options, timeout: float, *, compiled: bool = False) -> None:
    """Run the control as the model was run; only compile it, as that was, where `compiled`.

    Raises:
        DeviceBroken: it does not complete, or its result is wrong. DeviceError: the device is lost, or too slow to say.
    """
    values = np.arange(-64, 64, dtype=np.float32).reshape(_SHAPE)
    options = replace(options, fallback="none")
    given, wanted = ({}, ()) if compiled else ({_INPUT: values}, None)
    most = min(timeout, SECONDS)
    job = make_job(model(), given, options, timeout=most, wanted=wanted, iterations=0 if compiled else 1)
    outcome = device.run(job)
    if not isinstance(outcome, Completed):
        error = failure(device.name, outcome, "running a model of one RELU")
        verb = _VERBS.get(type(outcome))
        if verb is None or (isinstance(outcome, Rejected) and isinstance(error, DeviceSilent)):
            raise error
        raise _broken(f"{device.name} {verb} a model of one RELU as well: {outcome.reason.rstrip('.')}.", outcome.log)
    if compiled:
        return
    exact, actual = np.maximum(values, 0), outcome.outputs[_OUTPUT]
    roundoff = UNIT_ROUNDOFF if options.half else FLOAT32_ROUNDOFF
    judgement = judge(compare(actual, exact), compare(exact, exact), roundoff=roundoff, factor=LOCAL_FACTOR)
    if not judgement.ok:
        off = f"is off by up to {judgement.actual.max_abs:.3g} in values up to {np.max(values):g}"
        if judgement.actual.nonfinite:
            off = f"gives {judgement.actual.nonfinite} of {values.size} values as NaN or infinity"
        raise _broken(f"{device.name} {off} for a model of one RELU as well.", outcome.log)


def confirmed(answer: Localization, device: Device, options: Options, timeout: float) -> Localization:
    """An answer that the control does not belie; where it names no op, it says what the control gave.

    Raises:
        DeviceBroken: it blames an op, and the device fails on everything. DeviceError: as :func:`check`.
    """
    if answer.status == "pass" or answer.by_precision:
        return answer
    try:
        check(device, options, timeout)
    except DeviceBroken as broken:
        if answer.culprits:
            raise
        return replace(answer, notes=(*answer.notes, broken.message))
    return answer


def _broken(said: str, log: str) -> DeviceBroken:
    return DeviceBroken(
        f"{said} So its answers say nothing of this model.",
        "Mend the driver or the runtime first; `harness doctor` looks at both.",
        log,
    )
