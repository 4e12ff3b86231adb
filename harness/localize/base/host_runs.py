"""What is exact for a model or a part of it, and what ideal devices make of the same; the host's runs that it takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np

from harness.core.arrays import Array, TensorIndex
from harness.devices.base import Device
from harness.devices.execute import completed, make_job
from harness.graph.model import Model
from harness.graph.ops.real import grids, real_inputs, real_outputs, rounded_inside, unpacked_weights, with_real_values
from harness.localize.base.case import REFERENCE, Case
from harness.localize.base.ideals import NEIGHBOURS, Ideals, difference, moved, neighbour
from harness.localize.base.jumped import Jumped, Runs, Values


@dataclass(frozen=True)
class HostRuns:
    """Host runs of a model on inputs, under a case's options. `beyond` are tensors of it that the device cannot hold,
    `as_they_are` inputs that it holds exactly."""

    case: Case
    host: Device
    model: Model
    inputs: Values
    beyond: frozenset[TensorIndex]
    doing: str
    as_they_are: frozenset[str] = frozenset()

    def of_whole(self) -> dict[str, Ideals]:
        """What ideal devices give. Of a quantized model: the reference, moved by what float16 does to the model in real
        numbers.

        By how much rounding to the grids moves an output is told by the reference's own distance from the model in real
        numbers; an output of a few elements may lie near by chance, so it is asked at neighbouring inputs too.
        """
        runs, smooth, shifts = self._ideal_runs, list(self._jumped.smooth), self._unpacking()
        if not grids(self.model.graph()):
            return {name: self._ideals(name, runs, smooth, shifts.get(name, ())) for name in runs[0]}
        rng = np.random.default_rng(self.case.seed)
        found = [(self._stored(self.inputs), self.unrounded)]
        for _ in range(NEIGHBOURS):
            near = neighbour(self.inputs, rng)
            found.append((self._stored(near), self._in_real_numbers(near)))
        reference, exact = found[0]

        def on_grids(runs: Iterable[Values]) -> list[Values]:
            return [{name: moved(reference[name], run[name], exact[name]) for name in reference} for run in runs]

        for stored, unrounded in found:
            for name in reference:
                shifts.setdefault(name, []).append(difference(stored[name], unrounded[name]))
        runs, smooth = on_grids(runs), on_grids(smooth)
        return {name: self._ideals(name, runs, smooth, shifts[name]) for name in reference}

    def of_part(self) -> tuple[Values, dict[str, Ideals]]:
        """What is exact, and what ideal devices give, in real numbers that no grid has rounded. What rounding on the
        way to an output makes of it is in `grid`."""
        exact, runs, shifts = self.unrounded, self._ideal_runs, self._unpacking()
        smooth = self._jumped.smooth
        if inside := rounded_inside(self.model.graph()):
            stored = self._stored(self.inputs)
            for name in inside:
                shifts.setdefault(name, []).append(difference(stored[name], exact[name]))
        return exact, {name: self._ideals(name, runs, smooth, shifts.get(name, ())) for name in exact}

    @cached_property
    def _real(self) -> Model:
        return with_real_values(self.model)

    @cached_property
    def _given(self) -> Values:
        """The inputs in real numbers."""
        return real_inputs(self.model, self.inputs)

    @cached_property
    def _held(self) -> tuple[Values, ...]:
        """The same as ideal devices hold them."""
        return self.case.ideal_inputs(self._given, self.as_they_are)

    @cached_property
    def unrounded(self) -> Values:
        """The model in real numbers."""
        return self._in_real_numbers(self.inputs)

    def _in_real_numbers(self, inputs: Values, *, unpacked: bool = False) -> Values:
        model = with_real_values(self.model, unpacked=True) if unpacked else self._real
        return self._run(model, real_inputs(self.model, inputs))

    def _stored(self, inputs: Values) -> Values:
        """The reference: integer kernels where the model has integers, their outputs in real numbers."""
        return real_outputs(self.model, self._run(self.model, inputs))

    def _unpacking(self) -> dict[str, list[Array]]:
        """By how much outputs move where a GPU unpacks integer weights in float16; empty where it does not."""
        if not self.case.options.half or not unpacked_weights(self.model.graph()):
            return {}
        found = self._in_real_numbers(self.inputs, unpacked=True)
        return {name: [difference(found[name], exact)] for name, exact in self.unrounded.items()}

    @cached_property
    def _jumped(self) -> Jumped:
        ideal = partial(self.case.ideal, beyond=self.beyond)
        case = self.case
        return Runs(self._real, self._given, self._held, self._run, ideal, case.roundoff, case.seed).jumped()

    def _ideals(self, name: str, runs: Sequence[Values], smooth: Sequence[Values], grid: Iterable[Array]) -> Ideals:
        jumped = self._jumped
        moved = [difference(run[name], self.unrounded[name]) for run in jumped.moved]
        # What the ideal devices take across a threshold, a right one may as well.
        ideal = zip(self._ideal_runs, jumped.smooth, strict=False)
        moved += [difference(run[name], smoothly[name]) for run, smoothly in ideal]
        # A CPU's own run behind them has no other form, and costs what it costs.
        smooth = (*smooth, *runs[len(smooth) :]) if smooth else ()
        return Ideals([run[name] for run in runs], grid, moved, [run[name] for run in smooth])

    @cached_property
    def _ideal_runs(self) -> list[Values]:
        """The model in real numbers on an ideal device, once for each of the inputs that it may hold. A CPU may compute
        as LiteRT's plain kernels do, which quantize activations at run time or have approximations for integers: so
        does an ideal one, and what that costs beyond rounding the result is its to spend."""
        case, real = self.case, self._real
        job = make_job(case.ideal(real, self.beyond), self._given, REFERENCE, timeout=case.timeout)
        runs = [completed(self.host, replace(job, inputs=each), self.doing).outputs for each in self._held]
        if real is not self.model and case.options.accelerator == "cpu":
            stored = self._run(self.model, self.inputs, as_stored=True)
            for port in self.model.graph().outputs:
                if (grid := self.model.graph().tensors[port.tensor].grid) is not None:
                    stored[port.name] = grid.unrounded(stored[port.name], runs[0][port.name])
            runs.append(stored)
        return runs

    def _run(self, model: Model, inputs: Values, *, as_stored: bool = False) -> Values:
        job = make_job(model, inputs, REFERENCE, timeout=self.case.timeout, as_stored=as_stored)
        return completed(self.host, job, self.doing).outputs


def run_ideal(
    case: Case,
    host: Device,
    model: Model,
    inputs: Values,
    beyond: frozenset[TensorIndex],
    doing: str,
    exact: frozenset[str] = frozenset(),
) -> dict[str, Ideals]:
    """A whole model's outputs on ideal devices, which hold the inputs in `exact` as they are."""
    return HostRuns(case, host, model, inputs, beyond, doing, exact).of_whole()


def run_open(
    case: Case, host: Device, model: Model, inputs: Values, beyond: frozenset[TensorIndex], doing: str
) -> tuple[Values, dict[str, Ideals]]:
    """The exact outputs of a part of a model, and those of ideal devices; real numbers where they are quantized."""
    return HostRuns(case, host, model, inputs, beyond, doing).of_part()


def run_exact(case: Case, host: Device, model: Model, inputs: Values, doing: str) -> Values:
    """The exact outputs of a part of a model alone."""
    return HostRuns(case, host, model, inputs, frozenset(), doing).unrounded
