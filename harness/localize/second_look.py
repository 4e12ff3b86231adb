"""The second look at suspects: read another way, and taken apart where several ops were judged as one.

One compile, or as many as the byte budget asks for, exposes each suspect's result and operands as outputs themselves (a
*direct* tap, which the runtime treats differently from a copy), and reads through copies what lay hidden inside a
suspect run of ops. A suspect is certified when both readings of everything its verdict rests on agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.devices.base import Device
from harness.devices.execute import failure, make_job
from harness.graph import surgery
from harness.job import Array, Completed
from harness.localize.baseline import Case, budgeted, label_of, output_label
from harness.localize.local_error import LocalError, Reading, plan
from harness.localize.result import OpRecord
from harness.localize.taps import TAP_BUDGET
from harness.numerics.metrics import compare
from harness.results import TensorStore

# Two compiles may fuse differently, and then round differently: agreement is asked to this many roundings.
AGREEMENT = 16


@dataclass(frozen=True)
class SecondLook:
    """Records with suspect runs of ops taken apart; for each suspect that rests on a doubtful reading, which one; and
    the tensors that can be judged by now."""

    records: list[OpRecord]
    doubts: dict[OpRecord, str]
    read: frozenset[int]


def look_again(
    device: Device,
    local: LocalError,
    records: Sequence[OpRecord],
    suspects: Sequence[OpRecord],
    readings: Sequence[Reading],
    read: frozenset[int],
    budget: int = TAP_BUDGET,
) -> SecondLook:
    """Read suspects, which are some of the records, a second way, and judge hidden ops on their own."""
    graph, store = local.case.graph, local.store
    by_key = {(r.tensor, r.from_output is None): r for r in readings}
    chosen = {s: by_key[s.tensor, s.reading == "copy"] for s in suspects}
    if not chosen:
        return SecondLook(list(records), {}, read)
    ports = {port.tensor for port in graph.inputs}
    resting = {t for r in chosen.values() for t in (*r.feeds, r.tensor) if t not in ports}
    tappable = set(surgery.tappable(graph))
    hidden = {
        t
        for r in chosen.values()
        for op in r.ops[:-1]
        for t in graph.ops[op].outputs
        if t in tappable and t not in read
    }
    second = _Second(device, local.case, store, {r.tensor: r.label for r in chosen.values()})
    for direct, copies in _parts(local.case, sorted(resting), sorted(hidden), budget):
        second.read(direct, copies)
    final = list(records)
    found = hidden & second.copied
    if found:
        final, chosen = _taken_apart(local, final, chosen, read | found)
    doubts = {}
    for suspect, reading in chosen.items():
        rests_on = [t for t in (*reading.feeds, reading.tensor) if t in resting]
        doubt = second.doubt(rests_on)
        if doubt:
            doubts[suspect] = doubt
    return SecondLook(final, doubts, read | found)


def _parts(case: Case, direct: list[int], copies: list[int], budget: int) -> Iterator[tuple[list[int], list[int]]]:
    wanted = set(direct)
    for part in budgeted(case.graph, [*direct, *(t for t in copies if t not in wanted)], budget):
        yield [t for t in part if t in wanted], [t for t in part if t not in wanted]


class _Second:
    """Direct readings held against the first ones as they arrive; none is kept."""

    def __init__(self, device: Device, case: Case, store: TensorStore, labels: dict[int, str]) -> None:
        self._device, self._case, self._store, self._labels = device, case, store, labels
        self._agrees: dict[int, bool] = {}
        self._failed: dict[int, str] = {}
        self.copied: set[int] = set()

    def read(self, direct: Sequence[int], copies: Sequence[int]) -> None:
        """One compile: some tensors as outputs themselves, some through copies. One that fails gives nothing: there is
        no second opinion then."""
        case, graph = self._case, self._case.graph
        model, copied = surgery.tap(case.model, copies, "copy")
        model, exposed = surgery.tap(model, direct, "direct")
        by_name = {name: t for t, name in (copied | exposed).items()}

        def sink(name: str, values: Array) -> None:
            t = by_name[name]
            if t in copied:
                self._store.put(label_of(graph, t), "device", values, graph.tensors[t].name)
                self.copied.add(t)
            else:
                self._agrees[t] = self._agree(t, values)

        job = make_job(model, case.inputs, case.options, timeout=case.timeout, wanted=tuple(by_name), final=True)
        outcome = self._device.run(job, sink)
        self._device.rest()
        if not isinstance(outcome, Completed):
            why = failure(self._device.name, outcome, "reading a second way").message
            self._failed.update(dict.fromkeys(direct, why))

    def doubt(self, tensors: Sequence[int]) -> str:
        """Why a verdict that rests on these is not certified; empty when it is."""
        name = {t: self._case.graph.tensors[t].name for t in tensors}
        unlike = [name[t] for t in tensors if self._agrees.get(t) is False]
        if unlike:
            return f"A direct tap of {', '.join(unlike[:3])} reads differently from the copy tap."
        missing = [t for t in tensors if t not in self._agrees]
        if missing:
            why = self._failed.get(missing[0], "The device did not give it.")
            return f"{', '.join(name[t] for t in missing[:3])} could not be read a second way: {why}"
        return ""

    def _agree(self, tensor: int, direct: Array) -> bool:
        graph, store = self._case.graph, self._store
        label = self._labels.get(tensor) or label_of(graph, tensor)
        if not store.has(label, "device"):  # an own output, read from the untouched model
            label = next(output_label(port.name) for port in graph.outputs if port.tensor == tensor)
        compared = compare(direct, store.get(label, "device"))
        allowed = AGREEMENT * self._case.roundoff * max(map(abs, compared.reference_range), default=0.0)
        return compared.nonfinite == 0 and compared.odd == 0 and compared.max_abs <= allowed


def _taken_apart(
    local: LocalError, records: list[OpRecord], chosen: dict[OpRecord, Reading], read: frozenset[int]
) -> tuple[list[OpRecord], dict[OpRecord, Reading]]:
    """Judge each op of the suspect runs alone, in place of the runs."""
    split = {s: r for s, r in chosen.items() if len(r.ops) > 1}
    concerned = {op for r in split.values() for op in r.ops}
    parts = [r for r in plan(local.case.graph, read) if r.op in concerned]
    fresh = list(local.judge(parts))
    kept = [r for r in records if r not in split]
    known = {(r.tensor, r.reading) for r in kept}
    fresh = [r for r in fresh if (r.tensor, r.reading) not in known]
    by_key = {(p.tensor, p.from_output is None): p for p in parts}
    remaining = {s: r for s, r in chosen.items() if s not in split}
    remaining |= {f: by_key[f.tensor, f.reading == "copy"] for f in fresh if f.verdict == "culprit"}
    return sorted([*kept, *fresh], key=lambda r: (r.index, r.tensor)), remaining
