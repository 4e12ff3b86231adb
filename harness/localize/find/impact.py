"""Does the local error matter? Added to the exact model on the host, what does it do to the outputs?

This needs no device: the culprits' local errors alone, injected into the reference, either give outputs as wrong as the
device's or they do not. It also clears ops that leave float16's range harmlessly, such as an attention mask of -1e9
that becomes -infinity before a softmax.

An error may do harm by taking what follows out of float16's range: a divisor that came out as 0.003 in place of 6 is
mended by the next normalization in the exact model, and on the device the squares in between overflow. Where the exact
model feels nothing, an ideal device, which has that range, is asked before an op is cleared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.core.arrays import Array, TensorIndex
from harness.devices.execute import completed, make_job
from harness.graph import surgery
from harness.graph.ops.real import real
from harness.localize.base.case import REFERENCE
from harness.localize.base.ideals import Ideals, granted
from harness.localize.base.reference import output_label
from harness.localize.base.result import Impact, OutputVerdict
from harness.localize.find.findings import accounts_for
from harness.localize.probe.local_error import LocalError, Reading
from harness.numerics.metrics import mask_iou
from harness.numerics.tolerance import FACTOR

# Culprits of which each is left out in turn to see whether the others explain the outputs; one host run each.
MOST_LEFT_OUT = 8
# Left over without one of them, over what all of them leave: a culprit that removes less than a fifth is redundant.
REDUNDANT = 1.25


@dataclass(frozen=True)
class ImpactProbe:
    """Injects local errors of one case."""

    local: LocalError
    ideal: dict[str, Ideals]

    def impact_on_outputs(
        self, readings: Sequence[Reading], outputs: Sequence[OutputVerdict], known: tuple[Impact, ...] = ()
    ) -> tuple[Impact, ...]:
        """As :meth:`of`; on an ideal device where the local errors make all wrong outputs fail there and not in the
        exact model. `known` is what :meth:`of_one` has said of these readings; an ideal device's word stands."""
        exact = known or self.of(readings)
        if accounts_for(exact, outputs) or any(impact.held for impact in exact):
            return exact
        held = self.of(readings, held=True)
        return held if accounts_for(held, outputs) else exact

    def of_one(self, reading: Reading, *, spreads: bool) -> tuple[Impact, ...]:
        """What one local error does. One that `spreads`, by NaN, infinity or values beyond float16, is tried on an
        ideal device too before it passes for harmless."""
        exact = self.of([reading])
        return self.of([reading], held=True) if spreads and all(i.judgement.ok for i in exact) else exact

    def of(self, readings: Sequence[Reading], *, held: bool = False) -> tuple[Impact, ...]:
        """What the local errors of these readings, together, do to each output of the exact model; with `held`, to
        those of an ideal device, which stores values as the device does and so has its range."""
        case, store = self.local.case, self.local.store
        errors: dict[TensorIndex, Array] = {}
        own: dict[str, Array] = {}
        for reading in readings:
            actual = self.local.actual(reading)
            grid = case.graph.tensors[reading.tensor].grid
            if actual.dtype.kind != "f" and grid is None:
                if reading.from_output is not None:
                    own[reading.from_output] = actual
                continue
            error = self.local.error(reading)
            # An own output that is wrong as the caller gets it leaves what the graph sees alone.
            if reading.from_output is None:
                errors[reading.tensor] = error
            else:
                reference = real(case.graph, reading.tensor, store.get(reading.label, "reference"))
                own[reading.from_output] = reference + error if grid is None else grid.nearest(reference + error)
        model = case.ideal(case.model, self.local.beyond | case.never_stored) if held else case.model
        inputs = case.ideal_inputs(case.inputs)[0] if held else case.inputs
        model = surgery.inject(model, errors) if errors else model
        job = make_job(model, inputs, REFERENCE, timeout=case.timeout)
        values = completed(self.local.host, job, "injecting local errors").outputs
        impacts = []
        for name, computed in values.items():
            exact = store.get(output_label(name), "reference")
            actual = own.get(name, computed)
            judgement = case.judge_output(name, actual, self.ideal[name], exact)
            shown = [store.get(output_label(name), "device"), actual, exact]
            if (grid := case.grid_of(name)) is not None:
                shown = [grid.real(values) for values in shown]
            share, left = unexplained(shown[0], shown[1], shown[2], self.ideal[name])
            impacts.append(Impact(name, judgement, mask_iou(actual, exact), share, left, held))
        return tuple(impacts)

    def has_redundant_culprit(self, readings: Sequence[Reading], explained: Sequence[Impact]) -> bool:
        """Whether the outputs are `explained` as well without one of the readings."""
        if not 2 <= len(readings) <= MOST_LEFT_OUT or any(impact.unexplained for impact in explained):
            return False
        rests = [[r for r in readings if r is not left] for left in readings]
        least = {impact.output: impact.left for impact in explained}
        held = any(impact.held for impact in explained)
        return any(all(i.left <= REDUNDANT * least[i.output] for i in self.of(rest, held=held)) for rest in rests)


def unexplained(device: Array, injected: Array, exact: Array, ideals: Sequence[Array]) -> tuple[float, float]:
    """The share of an output's error that is not that of the injection: RMS of their difference over RMS of the error,
    over elements finite in all; 0 where rounding explains that difference. And the RMS of that difference.

    Where the device is finite and the injection is not, the injection is another fault than the device's: the share is
    at least that of such elements among the device's finite ones.
    """
    finite = np.isfinite(device) & np.isfinite(exact)
    known = finite & np.isfinite(injected)
    denied = 1.0 - int(known.sum()) / int(finite.sum()) if finite.any() else 0.0
    if not known.any():
        return denied, 0.0

    def rms(a: Array, b: Array) -> float:
        return float(np.sqrt(np.mean(np.square(a[known].astype(np.float64) - b[known]))))

    left = rms(device, injected)
    with np.errstate(invalid="ignore"):
        rounding = max(rms(ideal, exact) for ideal in ideals)
    if left <= FACTOR * rounding + granted(ideals, None, unrounded=False).rms:
        return denied, left
    error = rms(device, exact)
    return max(denied, left / error if error else math.inf), left
