"""Fixes tried on the whole model: run on the device, judged against the host's run of the original, timed, ranked.

A remedy is *ok* when every output passes, in the first run of the compiled model and in the last timed one. Ranking:
those that are ok first; among them the faster one, where run times differ by more than a quarter of the fastest, else
the more accurate one.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from harness.core.arrays import Array, OpIndex, TensorIndex
from harness.core.errors import DeviceError, UsageError
from harness.core.job import Completed, Options, Sample
from harness.core.run_folder import writing
from harness.devices.execute import completed, failure, make_job
from harness.graph.model import Model
from harness.graph.rebuild import CannotRewrite
from harness.graph.short_ports import as_declared
from harness.localize.base.case import REFERENCE, Case
from harness.localize.base.comparison import Workbench
from harness.localize.base.ideals import Ideals
from harness.localize.base.reference import output_label
from harness.localize.base.result import Remedy
from harness.numerics.metrics import mask_iou
from harness.numerics.tolerance import Judgement
from harness.remedies.catalogue import Rewrite
from harness.remedies.cost import cost_of
from harness.remedies.on_cpu import Chain, split_off
from harness.remedies.options import OtherOptions
from harness.remedies.rescale import holds

# Timed runs: many of a fast model, few of one that takes seconds.
RUNS, SLOW_RUNS, SLOW_NS = 5, 2, 1e9
# Run times within this factor are taken as equal.
ALIKE = 1.25

ON_CPU = "these ops on the CPU, between GPU parts"
ALL_ON_CPU = "all ops like these on the CPU, between GPU parts"


@dataclass(frozen=True)
class Truth:
    """The original's exact outputs, an ideal device's, and the largest magnitude of each tensor in the exact run."""

    exact: dict[str, Array]
    ideal: dict[str, Ideals]
    peaks: Mapping[TensorIndex, float]


@dataclass(frozen=True)
class TrialPlan:
    """A rewrite for each set of culprits, by tensor that they make."""

    steps: tuple[tuple[Rewrite, tuple[TensorIndex, ...]], ...]

    @property
    def name(self) -> str:
        """The rewrites' names, each once."""
        return "; ".join(dict.fromkeys(rewrite.name for rewrite, _ in self.steps))


@dataclass(frozen=True)
class _Timed:
    """The outputs of the first run behind the warm-up and of the last timed one, and the median of these, in ms."""

    outputs: tuple[dict[str, Array], dict[str, Array]]
    run_ms: float


class Whole:
    """Tries fixes on the whole model of a case."""

    def __init__(self, bench: Workbench, case: Case, truth: Truth, excused: frozenset[str] = frozenset()) -> None:
        """`excused`: outputs of no use for their precision, in a model that has another fault to be mended."""
        self._bench, self._case, self._truth, self._excused = bench, case, truth, excused
        self._folder = bench.run.path / "remedies"
        self._tried: set[str] = set()

    def untouched(self) -> float | None:
        """Median run of the model as it is, in ms; None when it does not complete."""
        found = self._timed(self._case.model, self._case.inputs, self._case.options)
        return found.run_ms if isinstance(found, _Timed) else None

    def rewritten(self, plan: TrialPlan) -> Remedy | None:
        """The model with ops written anew; None where that is a model that was tried already. Each rewrite is checked
        on the host first, with those before it; one that cannot be written, or changes what the model means, is left
        out, and the note says so."""
        kept, why_not = TrialPlan(()), {}
        model = self._case.model
        for step in plan.steps:
            candidate = TrialPlan((*kept.steps, step))
            written = self._written(candidate)
            if isinstance(written, str):
                why_not[step] = written
            else:
                kept, model = candidate, written
        left_out = [f"Without '{rewrite.name}': {why}" for (rewrite, _), why in why_not.items()]
        if not kept.steps:
            return _failed(plan.name, " ".join(left_out if len(left_out) > 1 else why_not.values()))
        if model.sha256 in self._tried:
            return None
        self._tried.add(model.sha256)
        found = self._timed(model, as_declared(model, self._case.inputs), self._case.options)
        if not isinstance(found, _Timed):
            return _failed(kept.name, " ".join((found, *left_out)))
        remedy = self._remedy(kept.name, found.outputs, found.run_ms)
        if not remedy.ok:
            return replace(remedy, note=" ".join(left_out))
        path = self._folder / f"{_slug(kept.name)}.tflite"
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(model.to_bytes())
        declares = other_shapes(self._case.model, model)
        cost = cost_of(self._case.model, model).words
        note = " ".join(("Takes the place of the model.", cost, *declares, *left_out))
        return replace(remedy, path=str(path), note=note, declares=declares)

    def _written(self, plan: TrialPlan) -> Model | str:
        """The rewritten model where the host's run of it gives the original's outputs; else why not."""
        try:
            model = self._apply(plan)
        except CannotRewrite as error:
            return f"It cannot be written so: {error}."
        try:
            inputs = as_declared(model, self._case.inputs)
            job = make_job(model, inputs, REFERENCE, timeout=self._case.timeout)
            outputs = self._in_own_shapes(completed(self._bench.host, job, "running the rewritten model").outputs)
        except (DeviceError, UsageError) as error:
            return error.message
        # The host computes in float32: well within what float16 explains, or within what float32 does.
        other = any(not j.ok or (self._case.options.half and j.ratio > 1) for j in self._judged(outputs))
        if other or self._useless(outputs):
            return "Written so, the model means something else."
        return model

    def with_options(self, other: OtherOptions) -> Remedy:
        """The model as it is, run in another way."""
        found = self._timed(self._case.model, self._case.inputs, other.how(self._case.options))
        if not isinstance(found, _Timed):
            return _failed(other.name, found)
        return replace(self._remedy(other.name, found.outputs, found.run_ms), note=other.note)

    def on_cpu(self, ops: frozenset[OpIndex], name: str = ON_CPU) -> Remedy:
        """The ops on the device's CPU, the rest on its GPU, as models that run one after another."""
        try:
            chain = split_off(self._case.model, held_back(self._case, ops, self._truth.peaks))
        except CannotRewrite as error:
            return _failed(name, f"It cannot be split so: {error}.")
        first = {inside: self._case.inputs[name] for name, inside in chain.inputs.items()}
        again = dict(first)
        run_ms = 0.0
        for part in chain.parts:
            names = [port.name for port in part.model.graph().inputs]
            feeds = [{name: values[name] for name in names} for values in (first, again)]
            options = self._case.options if part.on == "gpu" else Options(accelerator="cpu")
            found = self._timed(part.model, feeds[0], options, again=feeds[1])
            if not isinstance(found, _Timed):
                return _failed(name, found)
            first |= found.outputs[0]
            again |= found.outputs[1]
            run_ms += found.run_ms
        outputs = [{name: values[inside] for name, inside in chain.outputs.items()} for values in (first, again)]
        remedy = self._remedy(name, outputs, run_ms)
        if not remedy.ok:
            return remedy
        folder = self._folder / _slug(name)
        _write_chain(folder, chain)
        return replace(remedy, path=str(folder), note=f"{len(chain.parts)} models; chain.py there runs them in turn.")

    def _apply(self, plan: TrialPlan) -> Model:
        """Rewrites one after another; ops are found again by the names of their results."""
        graph = self._case.graph
        names = {t: graph.tensors[t].name for t in self._truth.peaks}
        peaks_by_name = {name: self._truth.peaks[t] for t, name in names.items()}
        model = self._case.model
        for rewrite, tensors in plan.steps:
            now = model.graph()
            places: dict[str, list[OpIndex]] = {}
            for op in now.ops:
                for t in op.outputs:
                    places.setdefault(now.tensors[t].name, []).append(op.index)
            found = [places.get(graph.tensors[t].name, []) for t in tensors]
            if any(len(at) != 1 for at in found):
                raise CannotRewrite("its result shares its name with another")
            peaks = {t.index: peaks_by_name[t.name] for t in now.tensors if t.name in peaks_by_name}
            model = rewrite.apply(model, frozenset(at[0] for at in found), peaks)
        return model

    def _judged(self, outputs: dict[str, Array]) -> list[Judgement]:
        return [
            self._case.judge_output(name, outputs[name], self._truth.ideal[name], exact)
            for name, exact in self._truth.exact.items()
        ]

    def _in_own_shapes(self, outputs: dict[str, Array]) -> dict[str, Array]:
        return {name: values.reshape(self._truth.exact[name].shape) for name, values in outputs.items()}

    def _useless(self, outputs: dict[str, Array]) -> bool:
        """Whether an output is of no use, explained by rounding or not."""
        truth = self._truth
        asked = [name for name in outputs if name not in self._excused]
        return any(self._case.shortfalls(name, outputs[name], truth.ideal[name], truth.exact[name]) for name in asked)

    def _remedy(self, name: str, runs: Sequence[dict[str, Array]], run_ms: float) -> Remedy:
        runs = [self._in_own_shapes(outputs) for outputs in runs]
        for output, values in runs[0].items():
            self._bench.run.tensors.put(remedy_label(name, output), "device", values, output)
        judged = [judgement for outputs in runs for judgement in self._judged(outputs)]
        seen = [judgement.actual for judgement in judged]
        iou = min(mask_iou(outputs[n], exact) for outputs in runs for n, exact in self._truth.exact.items())
        ok = all(j.ok and j.actual.nonfinite_mismatch == 0 and j.actual.finite > 0 for j in judged)
        ok = ok and not any(map(self._useless, runs))
        cosine, most = min(each.cosine for each in seen), max(each.max_abs for each in seen)
        return Remedy(name, cosine, most, max(judgement.ratio for judgement in judged), iou, run_ms, ok)

    def _timed(
        self, model: Model, inputs: dict[str, Array], options: Options, *, again: dict[str, Array] | None = None
    ) -> _Timed | str:
        """A warm-up and some timed runs, those on inputs of their own if they are given; or why there are none."""
        device = self._bench.device
        try:
            first = device.run(make_job(model, inputs, options, timeout=self._case.timeout, warmup=1))
        except UsageError as error:
            return error.message
        if not isinstance(first, Completed):
            return failure(device.name, first, "trying a remedy").message
        runs = SLOW_RUNS if _nanoseconds(first.samples[0]) > SLOW_NS else RUNS
        runs = runs if device.times_each else 1
        job = make_job(model, again or inputs, options, timeout=self._case.timeout, iterations=runs)
        timed = device.run(job)
        if not isinstance(timed, Completed):
            return failure(device.name, timed, "timing a remedy").message
        return _Timed((first.outputs, timed.outputs), _median_ms(timed.samples))


def other_shapes(before: Model, after: Model) -> tuple[str, ...]:
    """A sentence for each input and output that a rewrite declares in another shape."""
    said = []
    old, new = before.graph(), after.graph()
    for kind, was, now in (("input", old.inputs, new.inputs), ("output", old.outputs, new.outputs)):
        for port, again in zip(was, now, strict=True):
            shapes = [list(g.tensors[p.tensor].shape or ()) for g, p in ((old, port), (new, again))]
            if shapes[0] != shapes[1]:
                said.append(
                    f"Its {kind} '{port.name}' is declared {shapes[1]}, not {shapes[0]}: the same values in the same "
                    "order."
                )
    return tuple(said)


def held_back(case: Case, ops: frozenset[OpIndex], peaks: Mapping[TensorIndex, float]) -> frozenset[OpIndex]:
    """The ops and those behind them, up to where what goes back to the device is of a size that float16 holds."""
    chosen, edge = set(ops), set(ops)
    graph = case.graph
    while edge and case.options.half:
        unheld = {t for o in edge for t in graph.ops[o].outputs if not holds(peaks.get(t, 1.0))}
        edge = {c for t in unheld for c in graph.consumers.get(t, ())} - chosen
        chosen |= edge
    return frozenset(chosen)


def remedy_label(remedy: str, output: str) -> str:
    """The name of the files that hold what an output came to under a remedy."""
    return f"remedy-{_slug(remedy)}-{output_label(output)}"


def ranked(remedies: Iterable[Remedy]) -> tuple[Remedy, ...]:
    """The best first. Run times count in steps of `ALIKE` from the fastest remedy that is ok."""
    found = tuple(remedies)
    fastest = min((r.run_ms for r in found if r.ok and r.run_ms), default=1.0)
    return tuple(sorted(found, key=lambda remedy: _rank(remedy, fastest)))


def _rank(remedy: Remedy, fastest: float) -> tuple[bool, float, bool, float]:
    """Right ones first; then by steps of run time; one model before a chain of several; then by accuracy."""
    ratio = remedy.ratio if math.isfinite(remedy.ratio) else math.inf
    if not remedy.ok or not remedy.run_ms:
        return True, 0.0, False, ratio
    return False, math.floor(math.log(remedy.run_ms / fastest, ALIKE)), remedy.name == ON_CPU, ratio


def _failed(name: str, why: str) -> Remedy:
    return Remedy(name, math.nan, math.nan, math.inf, math.nan, None, False, note=why)


def _write_chain(folder: Path, chain: Chain) -> None:
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        listed = []
        for i, part in enumerate(chain.parts):
            name = f"part-{i}-{part.on}.tflite"
            (folder / name).write_bytes(part.model.to_bytes())
            listed.append({"model": name, "on": part.on})
        plan = {"inputs": chain.inputs, "outputs": chain.outputs, "parts": listed}
        (folder / "chain.json").write_text(json.dumps(plan, indent=1) + "\n", encoding="utf-8")
        script = Path(__file__).parent / "templates" / "chain.py.txt"
        (folder / "chain.py").write_text(script.read_text(encoding="utf-8"), encoding="utf-8")


def _nanoseconds(sample: Sample) -> int:
    return sample.write_ns + sample.run_ns + sample.read_ns


def _median_ms(samples: Sequence[Sample]) -> float:
    return float(np.median([_nanoseconds(s) for s in samples])) / 1e6


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60]
