"""The second look at suspects: read another way, and taken apart where several ops were judged as one.

One compile, or as many as the byte budget asks for, exposes each suspect's result and operands as outputs themselves (a
*direct* tap, which the runtime treats differently from a copy), and reads through copies what lay hidden inside a
suspect run of ops. A suspect is certified when both readings of everything its verdict rests on agree. Releases whose
delegate forgets that what it fuses is an output too are asked through a NEG instead, which is exact, or a DEQUANTIZE.

Two compiles may fuse otherwise, and so round otherwise from the first op on. A sum that loses digits makes much of
that, and what comes behind it differs by more than rounding. All values of one run belong together, though: where the
readings lie closer to each other than to the reference, and the op's error on the second run's own values is the same
error again, the two readings agree on the op.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from packaging.version import InvalidVersion, Version

from harness.core.arrays import Array, TensorIndex
from harness.core.job import Completed
from harness.core.run_folder import Side, TensorStore
from harness.devices.base import Device
from harness.devices.execute import failure, make_job
from harness.graph import fold, surgery
from harness.graph.ops.real import real
from harness.graph.short_ports import without_large_outputs
from harness.graph.surgery import TapKind
from harness.localize.base.case import Case
from harness.localize.base.op_record import OpRecord
from harness.localize.base.reference import budgeted, label_of, output_label
from harness.localize.probe.local_error import LocalError, Reading, by_key, plan
from harness.localize.probe.taps import TAP_BUDGET
from harness.numerics.metrics import compare, one_error

# Two compiles may fuse differently, and then round differently: agreement is asked to this many roundings.
AGREEMENT = 16
# Since this release the delegate asks, before it fuses an op with what reads it, whether its result is an output
# (google-ai-edge/LiteRT #8599). Before it, an output of its own may come back unwritten.
OUTPUTS_KEPT = Version("2.1.6")


def second_kind(runtime: str) -> TapKind:
    """The kind of tap that is held against copies on a release of the runtime, `2.3.0`."""
    try:
        return "direct" if Version(runtime) >= OUTPUTS_KEPT else "negated"
    except InvalidVersion:
        return "direct"


@dataclass(frozen=True)
class Recheck:
    """Records with suspect runs of ops taken apart; for each suspect that rests on a doubtful reading, which one; and
    the tensors that can be judged by now."""

    records: list[OpRecord]
    doubts: dict[OpRecord, str]
    read: frozenset[TensorIndex]


def recheck_suspects(
    device: Device,
    local: LocalError,
    records: Sequence[OpRecord],
    suspects: Sequence[OpRecord],
    readings: Sequence[Reading],
    read: frozenset[TensorIndex],
    budget: int = TAP_BUDGET,
    warmup: int = 0,
    kind: TapKind = "direct",
) -> Recheck:
    """Read suspects, which are some of the records, a second way, after `warmup` runs of each compiled model, and judge
    hidden ops on their own."""
    graph = local.case.graph
    known = by_key(readings)
    chosen = {s: known[s.key] for s in suspects}
    if not chosen:
        return Recheck(list(records), {}, read)
    ports = {port.tensor for port in graph.inputs}
    # What is an output already, and too large for one, is known from the untouched model alone.
    ports |= {port.tensor for port in graph.outputs if fold.too_large(graph.tensors[port.tensor].shape)}
    resting = {t for r in chosen.values() for t in (*r.feeds, r.tensor) if t not in ports}
    tappable = set(surgery.tappable(graph))
    hidden = {
        t
        for r in chosen.values()
        for op in r.ops[:-1]
        for t in graph.ops[op].outputs
        if t in tappable and t not in read
    }
    second = _Second(device, local, {r.tensor: r for r in chosen.values()}, warmup, kind)
    for direct, copies in _parts(local.case, sorted(resting), sorted(hidden), budget):
        second.read(direct, copies)
    final = list(records)
    found = hidden & second.copied
    if found:
        final, chosen = _taken_apart(second.own_values, final, chosen, read | found)
    doubts = {}
    for suspect, reading in chosen.items():
        rests_on = [t for t in (*reading.feeds, reading.tensor) if t in resting]
        doubt = second.doubt(rests_on)
        if doubt and not second.shows_the_same_fault(reading):
            doubts[suspect] = doubt
    return Recheck(final, doubts, read | found)


def _parts(
    case: Case, direct: list[TensorIndex], copies: list[TensorIndex], budget: int
) -> Iterator[tuple[list[TensorIndex], list[TensorIndex]]]:
    """What each compile reads as it is and through copies: an own output of the model may be asked for as both."""
    wanted, hidden = set(direct), set(copies)
    for part in budgeted(case.graph, [*direct, *(t for t in copies if t not in wanted)], budget):
        yield [t for t in part if t in wanted], [t for t in part if t in hidden]


class _Second:
    """Second readings held against the first ones as they arrive, and kept beside them for a while."""

    def __init__(
        self, device: Device, local: LocalError, readings: Mapping[TensorIndex, Reading], warmup: int, kind: TapKind
    ) -> None:
        self._device, self._local, self._readings, self._warmup, self._kind = device, local, readings, warmup, kind
        self._case, self._store = local.case, local.store
        self._agrees: dict[TensorIndex, bool] = {}
        self._compile: dict[TensorIndex, int] = {}
        self._own: dict[str, Array] = {}
        self._failed: dict[TensorIndex, str] = {}
        self._drifted: set[TensorIndex] = set()
        self.copied: set[TensorIndex] = set()

    def read(self, direct: Sequence[TensorIndex], copies: Sequence[TensorIndex]) -> None:
        """One compile: some tensors read a second way, some through copies. One that fails gives nothing: there is no
        second opinion then."""
        case, graph = self._case, self._case.graph
        outputs = {port.tensor for port in graph.outputs}
        # A tensor that no output can hold is no output by itself, whatever else it is.
        aside = [t for t in direct if t not in outputs and fold.too_large(graph.tensors[t].shape)]
        other = [t for t in direct if t not in outputs and t not in aside]
        negated = other if self._kind == "negated" else []
        model, copied = surgery.tap(case.model, copies, "copy")
        grids = {t: grid for t in negated if (grid := graph.tensors[t].grid) is not None}
        model, plain = surgery.tap(model, list(grids), "dequantized")  # a grid may not hold the negated values
        model, turned = surgery.tap(model, [t for t in negated if t not in grids], "negated")
        model, folded = surgery.tap(model, aside, "turned")
        model, exposed = surgery.tap(model, [t for t in direct if t not in negated and t not in folded], "direct")
        model = without_large_outputs(model)
        exposed |= turned | plain | folded
        copies_by_name = {name: t for t, name in copied.items()}
        by_name = {name: t for t, name in exposed.items()} | copies_by_name
        own = {port.name for port in graph.outputs}
        number = 1 + max(self._compile.values(), default=0)

        def sink(name: str, values: Array) -> None:
            t = by_name[name]
            values = values.reshape(graph.tensors[t].shape or ())
            self._compile[t] = number
            label = label_of(graph, t)
            if name in copies_by_name:
                self._store.put(label, "device", values, graph.tensors[t].name)
                self.copied.add(t)
                return
            if t in turned:
                values = -values
            elif t in grids:
                values = grids[t].nearest(values)
            self._agrees[t] = self._agree(t, values)
            if not self._agrees[t] and t not in self._drifted:
                return  # one of the two readings lies, and nothing is to rest on this one
            if t not in copied:  # else the copy is what the graph sees
                self._store.put(_SecondRun.label(label), "device", values, graph.tensors[t].name)
            if name in own:
                self._own[name] = values

        job = make_job(
            model,
            case.inputs,
            case.options,
            timeout=case.timeout,
            wanted=tuple(by_name),
            warmup=self._warmup,
            final=True,
        )
        outcome = self._device.run(job, sink)
        self._device.stop()
        if isinstance(outcome, Completed) and not case.kept_by(model, outcome):
            moved = "The runtime put ops elsewhere in the model that was read a second way."
            self._failed.update(dict.fromkeys(direct, moved))
            self._agrees = {t: agrees for t, agrees in self._agrees.items() if t not in direct}
        if not isinstance(outcome, Completed):
            why = failure(self._device.name, outcome, "reading a second way").message
            self._failed.update(dict.fromkeys(direct, why))

    def doubt(self, tensors: Sequence[TensorIndex]) -> str:
        """Why a verdict that rests on these is not certified; empty when it is."""
        name = {t: self._case.graph.tensors[t].name for t in tensors}
        unlike = [name[t] for t in tensors if self._agrees.get(t) is False]
        if unlike:
            return f"A {self._kind} tap of {', '.join(unlike[:3])} reads differently from the copy tap."
        missing = [t for t in tensors if t not in self._agrees]
        if missing:
            why = self._failed.get(missing[0], "The device did not give it.")
            return f"{', '.join(name[t] for t in missing[:3])} could not be read a second way: {why}"
        return ""

    @property
    def own_values(self) -> LocalError:
        """Judges by what the second run gave, so far as it did."""
        local = self._local
        return LocalError(local.host, self._case, _SecondRun(self._store.folder), local.beyond, self._own)

    def shows_the_same_fault(self, reading: Reading) -> bool:
        """Whether the reading's ops make, of the second run's own values, the error that they made of the first's."""
        ports = {port.tensor for port in self._case.graph.inputs}
        needed = [t for t in (*reading.feeds, reading.tensor) if t not in ports]
        compiles = {self._compile.get(t) for t in needed}
        if reading.tensor not in self._readings or len(compiles) != 1 or None in compiles:
            return False
        if not self._failed.keys().isdisjoint(needed):
            return False  # what arrived is of a run that gave no second opinion
        if any(self._agrees.get(t) is False and t not in self._drifted for t in needed):
            return False
        first = self._local.error(self._readings[reading.tensor])
        return one_error(first, self.own_values.error(reading))

    def _agree(self, tensor: TensorIndex, second: Array) -> bool:
        graph, store = self._case.graph, self._store
        label = label_of(graph, tensor)
        if tensor in self._readings:
            before = self._local.actual(self._readings[tensor])
        elif store.has(label, "device"):
            before = store.get(label, "device")
        else:  # an own output, read from the untouched model
            label = next(output_label(port.name) for port in graph.outputs if port.tensor == tensor)
            before = store.get(label, "device")
        before, second = (real(graph, tensor, values) for values in (before, second))
        compared = compare(second, before)
        allowed = AGREEMENT * self._case.roundoff * max(map(abs, compared.reference_range), default=0.0)
        if (grid := graph.tensors[tensor].grid) is not None:
            # A value near the middle of a step may be rounded to either side, and what follows makes more of that.
            allowed += grid.step
            if one_error(before, second):
                self._drifted.add(tensor)
        if store.has(label, "reference"):
            exact = real(graph, tensor, store.get(label, "reference"))
            with np.errstate(invalid="ignore", over="ignore"):
                if one_error(before - exact, second - exact):
                    self._drifted.add(tensor)
        return compared.nonfinite == 0 and compared.nonfinite_mismatch == 0 and compared.max_abs <= allowed


class _SecondRun(TensorStore):
    """The store as the second run has it: direct readings take the place of the first run's copies."""

    @staticmethod
    def label(label: str) -> str:
        """Where a direct reading is put."""
        return f"{label}.direct"

    def get(self, label: str, side: Side) -> Array:
        """The second run's value, else the first's."""
        second = self.label(label)
        return super().get(second if side == "device" and self.has(second, side) else label, side)


def _taken_apart(
    local: LocalError, records: list[OpRecord], chosen: dict[OpRecord, Reading], read: frozenset[TensorIndex]
) -> tuple[list[OpRecord], dict[OpRecord, Reading]]:
    """Judge each op of the suspect runs alone, in place of the runs: of both readings where a run's result is an own
    output that is read too."""
    split = {s: r for s, r in chosen.items() if len(r.ops) > 1}
    concerned = {op for r in split.values() for op in r.ops}
    parts = [r for r in plan(local.case.graph, read) if r.op in concerned]
    fresh = list(local.judge(parts))
    apart = {s.tensor for s in split}
    kept = [r for r in records if r.tensor not in apart]
    known = {(r.tensor, r.reading) for r in kept}
    fresh = [r for r in fresh if (r.tensor, r.reading) not in known]
    alone = by_key(parts)
    remaining = {s: r for s, r in chosen.items() if s not in split}
    remaining |= {f: alone[f.key] for f in fresh if f.verdict == "culprit"}
    return sorted([*kept, *fresh], key=lambda r: (r.index, r.tensor)), remaining
