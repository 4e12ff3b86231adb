"""Experiments: a small model by itself, on the device under some options, judged as an op is.

Everything that comes after the culprits are known is made of these: causes, shrinking, remedies. What ends badly is an
observation too: a crash or a hang of a model that was cut out is just what was looked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from harness.core.arrays import Array, TensorIndex
from harness.core.errors import DeviceError, UsageError
from harness.core.job import Completed, Crashed, Options, Rejected, Sample, TimedOut
from harness.devices.base import Device
from harness.devices.execute import completed, make_job
from harness.graph import surgery
from harness.graph.grid import Grid
from harness.graph.model import Model
from harness.graph.ops.real import real_outputs
from harness.localize.base.case import REFERENCE, Case
from harness.localize.base.causes import kind_of_error
from harness.localize.base.host_runs import run_open
from harness.localize.base.ideals import Ideals
from harness.localize.probe.error_pattern import Signature, signature_of
from harness.localize.probe.excess import Excess, limit_exceeded, refused_beyond
from harness.numerics import fp16, fp32
from harness.numerics.tolerance import LOCAL_FACTOR, Judgement

# Runs of one compiled model that are held against each other where it is never the same.
UNSTEADY_RUNS = 4

Ending = Literal["right", "wrong", "crash", "hang", "refused", "impossible"]


@dataclass(frozen=True)
class Specimen:
    """A model that stands by itself, and its inputs by name."""

    model: Model
    inputs: dict[str, Array]


@dataclass(frozen=True)
class OutputComparison:
    """One output of a specimen: the device's value, the exact one, the judgement. Both values are real numbers where
    the output is quantized; `grid` has its integers then."""

    name: str
    actual: Array
    exact: Array
    judgement: Judgement
    grid: Grid | None = None

    @property
    def stored(self) -> Array:
        """The device's value in the type of the output."""
        return self.actual if self.grid is None else self.grid.nearest(self.actual)


@dataclass(frozen=True)
class Observation:
    """How a specimen ended under some options. `worst` is there when it ran; `repeatable` is False when further runs of
    the same compiled model gave other values, by more than rounding; `refused` and `impossible` say nothing about the
    numbers, except where a limit of the device was the reason. `said`: the runtime names a limit that was gone beyond,
    and `also` others. `runs`: in how many of how many runs it was wrong, where they differ."""

    ending: Ending
    reason: str = ""
    worst: OutputComparison | None = None
    outputs: tuple[OutputComparison, ...] = ()
    repeatable: bool = True
    samples: tuple[Sample, ...] = ()
    half: bool = True
    said: Excess | None = None
    runs: tuple[int, int] | None = None
    also: tuple[Excess, ...] = ()

    @property
    def fails(self) -> bool:
        """Wrong, the end of the process, or beyond a limit."""
        return self.ending in ("wrong", "crash", "hang") or self.beyond

    @property
    def beyond(self) -> bool:
        """Whether it was refused because it goes beyond a limit of the device."""
        return self.ending == "refused" and self.said is not None

    @property
    def ratio(self) -> float:
        """Error over expected error of the worst output; 0 when it did not run."""
        return self.worst.judgement.ratio if self.worst else 0.0

    def signature(self, operands: dict[str, Array], others: dict[str, Array]) -> Signature | None:
        """What the worst output looks like, beside the operands and other tensors of the graph."""
        return None if self.worst is None else signature_of(self.worst.actual, self.worst.exact, operands, others)

    def alike(self, other: Observation) -> bool:
        """Whether both fail in the same way: the same ending, and the same kind of error by values, or one limit."""
        if self.ending != other.ending or not self.fails or not other.fails:
            return False
        if self.worst is None or other.worst is None:
            limits = [seen.said.kind if seen.beyond and seen.said else "" for seen in (self, other)]
            return self.worst is other.worst and limits[0] == limits[1]
        mine = kind_of_error(self.worst.judgement, half=self.half)
        return mine == kind_of_error(other.worst.judgement, half=other.half)

    def words(self) -> str:
        """`wrong, 335x what the arithmetic explains`, `right`, or how it ended."""
        if self.ending in ("crash", "hang", "refused", "impossible"):
            return f"{_ENDINGS[self.ending]}: {self.reason}" if self.reason else _ENDINGS[self.ending]
        if self.ending == "right":
            return "right"
        if not np.isfinite(self.ratio):
            return "wrong, NaN or infinite"
        return f"wrong, {self.ratio:.3g}x what the arithmetic explains"


_ENDINGS = {"crash": "crashed", "hang": "hung", "refused": "refused", "impossible": "could not be asked"}


@dataclass
class Experiments:
    """Runs specimens on a device. `host` computes what is right; `questions` counts what the device was asked."""

    device: Device
    host: Device
    timeout: float
    seed: int = 0
    questions: int = 0
    _known: dict[tuple[str, int, bool, bool], tuple[dict[str, Array], dict[str, Ideals]]] = field(default_factory=dict)

    def observe(self, specimen: Specimen, options: Options, *, runs: int = 1, warmup: int = 0) -> Observation:
        """Ask the device once; with several `runs` also whether it answers the same each time.

        Raises:
            DeviceError: the device cannot be reached at all.
        """
        case = Case(specimen.model, specimen.inputs, options, self.timeout, self.seed)
        try:
            exact, ideals = self.truth(specimen, options)
            jobs = [make_job(case.model, case.inputs, options, timeout=self.timeout, warmup=warmup)]
        except (UsageError, DeviceError) as error:
            return Observation("impossible", error.message, half=options.half)
        jobs += [replace(jobs[0], warmup=0)] * (runs - 1)
        done: list[Completed] = []
        self.questions += 1
        for job in jobs:
            outcome = self.device.run(job)
            match outcome:
                case Completed():
                    done.append(outcome)
                case Crashed():
                    return Observation("crash", outcome.reason, half=options.half)
                case TimedOut():
                    return Observation("hang", outcome.reason, half=options.half)
                case Rejected():
                    named = refused_beyond(outcome.reason, outcome.log)
                    return Observation(
                        "refused", outcome.reason, half=options.half, said=next(iter(named), None), also=named[1:]
                    )
                case _:
                    raise DeviceError(
                        f"{self.device.name} was lost: {outcome.reason}.", "Run `harness doctor`.", outcome.log
                    )
        outputs = tuple(self._seen(case, name, done[0].outputs[name], exact[name], ideals[name]) for name in exact)
        worst = max(outputs, key=lambda seen: seen.judgement.ratio)
        same = all(_same(seen, again.outputs[seen.name], case.roundoff) for again in done[1:] for seen in outputs)
        samples = tuple(s for d in done for s in d.samples)
        ending: Ending = "right" if all(seen.judgement.ok for seen in outputs) else "wrong"
        reason = ""
        if ending == "right" and not all(seen.judgement.actual.finite for seen in outputs):
            ending, reason = "impossible", "the exact result is NaN or infinite throughout"
        said = next((excess for d in done if (excess := limit_exceeded(d.log))), None)
        counted = None if same else (sum(self._wrong(case, d, exact, ideals) for d in done), len(done))
        return Observation(ending, reason, worst, outputs, same, samples, options.half, said, counted)

    def truth(self, specimen: Specimen, options: Options) -> tuple[dict[str, Array], dict[str, Ideals]]:
        """(exact outputs, what ideal devices would give), in real numbers where they are quantized. Raises DeviceError
        or UsageError when there are none."""
        key = (specimen.model.sha256, _digest(specimen.inputs), options.half, options.accelerator == "cpu")
        if key not in self._known:
            case = Case(specimen.model, specimen.inputs, options, self.timeout, self.seed)
            beyond = self._beyond(specimen, half=options.half)
            found = run_open(case, self.host, case.model, case.inputs, beyond, "running a specimen")
            self._known.clear()  # the last one is asked for again, no other
            self._known[key] = found
        return self._known[key]

    def allowed(self, specimen: Specimen, options: Options) -> dict[str, tuple[float, float]]:
        """By output, the largest and the RMS error at which it would be called right, in steps where it is quantized.
        Raises as :meth:`truth`."""
        case = Case(specimen.model, specimen.inputs, options, self.timeout, self.seed)
        exact, ideals = self.truth(specimen, options)
        rounding = {name: case.judge(ideals[name][0], ideals[name], exact[name], factor=LOCAL_FACTOR) for name in exact}
        pairs = {name: judged.limits(LOCAL_FACTOR, case.roundoff) for name, judged in rounding.items()}
        grids = {name: case.grid_of(name) for name in pairs}
        steps = {
            n: p if (g := grids[n]) is None else (p[0] / g.step + 0.5, p[1] / g.step + 0.5) for n, p in pairs.items()
        }
        return {name: (float(f"{most:.4g}"), float(f"{rms:.4g}")) for name, (most, rms) in steps.items()}

    def values(self, specimen: Specimen, tensors: Sequence[TensorIndex]) -> dict[TensorIndex, Array]:
        """The exact values of some tensors of a specimen."""
        model, names = surgery.tap(specimen.model, tensors, "direct")
        job = make_job(model, specimen.inputs, REFERENCE, timeout=self.timeout, wanted=tuple(names.values()))
        outputs = completed(self.host, job, "running a specimen").outputs
        return {t: outputs[name] for t, name in names.items()}

    def exactly(self, specimen: Specimen) -> dict[str, Array]:
        """The exact outputs of a specimen, in real numbers where they are quantized."""
        job = make_job(specimen.model, specimen.inputs, REFERENCE, timeout=self.timeout)
        return real_outputs(specimen.model, completed(self.host, job, "running a specimen").outputs)

    def _beyond(self, specimen: Specimen, *, half: bool) -> frozenset[TensorIndex]:
        """Tensors whose exact values the device cannot hold."""
        tensors = surgery.tappable(specimen.model.graph())
        largest = fp16.LARGEST if half else fp32.LARGEST
        values = self.values(specimen, tensors) if tensors else {}
        floats = {t: v for t, v in values.items() if v.dtype.kind == "f"}
        beyond = {t for t, v in floats.items() if fp16.peak(v) > largest}
        if not half:  # as `comparison` has it: what is not finite cannot be rounded
            beyond |= {t for t, v in floats.items() if not np.isfinite(v).all()}
        return frozenset(beyond)

    def _wrong(self, case: Case, done: Completed, exact: dict[str, Array], ideals: dict[str, Ideals]) -> bool:
        return any(not self._seen(case, n, done.outputs[n], exact[n], ideals[n]).judgement.ok for n in exact)

    @staticmethod
    def _seen(case: Case, name: str, actual: Array, exact: Array, ideals: Ideals) -> OutputComparison:
        grid = case.grid_of(name)
        judgement = case.judge(actual, ideals, exact, factor=LOCAL_FACTOR, grid=grid)
        return OutputComparison(name, actual if grid is None else grid.real(actual), exact, judgement, grid)


def _same(seen: OutputComparison, again: Array, roundoff: float) -> bool:
    """Whether two runs gave the same, as far as their rounding may differ."""
    first = seen.stored
    if first.dtype.kind != "f" or not np.array_equal(np.isfinite(first), np.isfinite(again)):
        return bool(np.array_equal(first, again))
    allowed = max(seen.judgement.expected.max_abs, roundoff * seen.judgement.actual.reference_rms)
    known = np.isfinite(first)
    # Infinities are in the same places in both, and infinity minus infinity warns.
    return bool(np.max(np.abs(first[known] - again[known]), initial=0.0) <= 2 * allowed)


def _digest(inputs: dict[str, Array]) -> int:
    return hash(tuple((name, values.shape, values.tobytes()) for name, values in inputs.items()))
