"""Whether a rewritten model gives the values of the model itself, both on the host's plain CPU kernels.

Most rewrites move values and round nothing: their outputs are equal in every bit. What computes in other steps differs
by what float32 arithmetic costs, and is held to that: `FACTOR` times what rounding every result to float32 does to the
outputs (`harness.numerics.tolerance`). The ideal float32 device rounds to 20 bits for the sake of GPUs' functions, 2^4
times as coarsely as the CPU's 24, and errors are in proportion: the factor of 16 is in it already, so that no output
may be further off than that device's.

Where that does not do, a long sum may be why: the model's own kernels add one term after the other, which costs more
than rounding results does. How much more is measured, by the model itself with its sums taken pairwise, in real
arithmetic the same; `FACTOR` times that is allowed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from harness.api.fixing.result import CpuCheck, OutputCheck
from harness.core.arrays import Array
from harness.core.errors import HarnessError
from harness.core.job import Options
from harness.core.run_folder import RunFolder
from harness.devices.base import Device
from harness.devices.execute import completed, make_job
from harness.graph.grid import Grid
from harness.graph.model import Graph, Model
from harness.graph.rebuild import CannotRewrite
from harness.localize.base.case import REFERENCE, Case
from harness.localize.base.comparison import References, Workbench, references
from harness.localize.base.outputs import judge_run
from harness.numerics.metrics import compare, rms
from harness.numerics.tolerance import FACTOR
from harness.remedies.catalogue import SPLIT_SUM

# Of the error that an ideal float32 device shows: see above.
_AS_FAR_AS_THE_IDEAL = 1.0
# Bits behind the leading one.
_FLOAT32, _FLOAT16 = 23, 10

UNSEEN = "no output is another for other inputs of those drawn: give some that the model is made for with --inputs"

Values = dict[str, Array]


@dataclass(frozen=True)
class Draw:
    """Inputs of the model: `said` tells where they come from; `drawn`: they are random numbers."""

    said: str
    inputs: Values
    seed: int
    drawn: bool


class SameValues:
    """Runs rewritten models on the inputs of some draws and compares them with the model's own outputs. `folder` holds
    what the comparison needs meanwhile. `check` is what the last model that was the same came to."""

    def __init__(self, host: Device, model: Model, draws: Sequence[Draw], timeout: float, folder: Path) -> None:
        """Runs the model itself. Raises DeviceError where the host's kernels do not compute it."""
        self.check: CpuCheck | None = None
        self._graph = model.graph()
        self._truths = [_Truth(host, model, draw, timeout, folder) for draw in draws]
        self._seen = {port.name: self._shows(port.name) for port in self._graph.outputs}

    def why_not(self, model: Model) -> str:
        """Why a model is not the same, in a clause; empty where it is."""
        if not any(self._seen.values()):
            return UNSEEN
        worst = {name: OutputCheck(name, True, 0.0, 0.0, 0.0, seen) for name, seen in self._seen.items()}
        for truth in self._truths:
            try:
                outputs = truth.run(model)
                if why := truth.why_not(outputs):
                    return why
            except HarnessError as error:
                return f"the CPU does not compute what it becomes ({error.message.rstrip('.')})"
            for name, values in outputs.items():
                worst[name] = _worse(worst[name], _difference(values, truth.exact[name], _grid(self._graph, name)))
        self.check = CpuCheck(tuple(truth.draw.said for truth in self._truths), tuple(worst.values()))
        return ""

    def peaks(self, draw: Draw) -> dict[str, float]:
        """The largest magnitude of each tensor, by name, on the inputs of one of the draws. Raises HarnessError."""
        truth = next(truth for truth in self._truths if truth.draw is draw)
        return {self._graph.tensors[t].name: peak for t, peak in truth.references.peaks.finite.items()}

    def _shows(self, name: str) -> bool:
        """Whether an output has finite values, and others for other inputs."""
        values = [truth.exact[name] for truth in self._truths]
        finite = any(np.isfinite(each).any() for each in values if each.dtype.kind == "f" or each.size)
        alone = len(values) == 1
        return finite and (alone or any(not compare(each, values[0]).identical for each in values[1:]))


class _Truth:
    """What is exact for the inputs of one draw, and what float32 arithmetic explains, which is asked where needed."""

    def __init__(self, host: Device, model: Model, draw: Draw, timeout: float, folder: Path) -> None:
        self.draw, self._host, self._folder = draw, host, folder
        options = Options(precision="fp32")
        self._case = Case(model, draw.inputs, options, timeout, draw.seed, drawn=draw.drawn)
        self.exact = self.run(model)

    def run(self, model: Model) -> Values:
        """A model's outputs for these inputs. Raises DeviceError."""
        job = make_job(model, self.draw.inputs, REFERENCE, timeout=self._case.timeout)
        return completed(self._host, job, "running the model").outputs

    def why_not(self, outputs: Values) -> str:
        """Which output differs by more than float32 arithmetic explains, in a clause. Raises HarnessError."""
        if all(compare(values, self.exact[name]).identical for name, values in outputs.items()):
            return ""
        for verdict in judge_run(self._case, outputs, self.references.ideal, self._run_folder.tensors):
            if verdict.explained and verdict.judgement.ratio <= _AS_FAR_AS_THE_IDEAL:
                continue
            if not self._by_its_sums(verdict.name, outputs[verdict.name]):
                off = f"off by up to {verdict.judgement.actual.max_abs:.3g}"
                return f"output '{verdict.name}' would be another, {off}"
        return ""

    def _by_its_sums(self, name: str, values: Array) -> bool:
        """Whether the order of the model's own sums explains how far an output is off."""
        summed = self._summed
        if summed is None or self._case.grid_of(name) is not None:
            return False
        found, own = (compare(each[name], self.exact[name]) for each in ({name: values}, summed))
        if found.nonfinite or found.nonfinite_mismatch:
            return False
        return found.max_abs <= FACTOR * own.max_abs and found.rms <= FACTOR * own.rms

    @cached_property
    def references(self) -> References:
        """The model's own run with all tensors seen, and ideal float32 devices'. Raises HarnessError."""
        return references(Workbench(self._host, self._host, self._run_folder), self._case, keep=False)

    @cached_property
    def _run_folder(self) -> RunFolder:
        return RunFolder.create(self._folder, "compare", "model", f"seed-{self.draw.seed}")

    @cached_property
    def _summed(self) -> Values | None:
        """The model with each of its sums taken in pieces, added pairwise; None where it has none."""
        model = self._case.model
        try:
            return self.run(SPLIT_SUM.apply(model, frozenset(op.index for op in model.graph().ops), {}))
        except CannotRewrite:
            return None


def _grid(graph: Graph, name: str) -> Grid | None:
    return next(graph.tensors[port.tensor].grid for port in graph.outputs if port.name == name)


def _difference(values: Array, exact: Array, grid: Grid | None) -> OutputCheck:
    """Of one output, on one draw."""
    identical = compare(values, exact).identical
    if identical or not values.size:
        return OutputCheck("", identical, 0.0, 0.0, 0.0, seen=False)
    if grid is not None:
        values, exact = grid.real(values), grid.real(exact)
    one, other = values.astype(np.float64), exact.astype(np.float64)
    finite = np.isfinite(one) & np.isfinite(other)
    off = np.where(finite, np.abs(one - other), 0.0)
    other = np.where(finite, other, 0.0)
    size = np.maximum(np.abs(other), rms(other))
    steps = [float(np.max(off / _spacing(size, bits))) for bits in (_FLOAT32, _FLOAT16)]
    return OutputCheck("", identical, float(off.max()), steps[0], steps[1], seen=False)


def _spacing(size: Array, bits: int) -> Array:
    """One step of a binary floating point type at values of a size, as if it had no smallest one."""
    _, exponent = np.frexp(np.maximum(size, np.finfo(np.float32).tiny))
    return np.asarray(np.ldexp(1.0, exponent - 1 - bits))


def _worse(one: OutputCheck, other: OutputCheck) -> OutputCheck:
    return replace(
        one,
        identical=one.identical and other.identical,
        max_abs=max(one.max_abs, other.max_abs),
        float32_steps=max(one.float32_steps, other.float32_steps),
        float16_steps=max(one.float16_steps, other.float16_steps),
    )
