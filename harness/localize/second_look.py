"""The second look at suspects: read another way, and taken apart where several ops were judged as one.

One compile exposes each suspect's result and operands as outputs themselves (a *direct* tap, which the runtime treats
differently from a copy), and reads through copies what lay hidden inside a suspect run of ops. A suspect is certified
when both readings of everything its verdict rests on agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.devices.base import Device
from harness.graph import surgery
from harness.job import Array
from harness.localize.baseline import Case, label_of, output_label
from harness.localize.local_error import LocalError, Reading, plan
from harness.localize.result import OpRecord
from harness.localize.taps import read_again
from harness.numerics.metrics import compare
from harness.results import TensorStore

# Two compiles may fuse differently, and then round differently: agreement is asked to this many roundings.
AGREEMENT = 16


@dataclass(frozen=True)
class SecondLook:
    """Records with suspect runs of ops taken apart; for each suspect that rests on a doubtful reading, which one."""

    records: list[OpRecord]
    doubts: dict[OpRecord, str]


def look_again(
    device: Device,
    local: LocalError,
    records: Sequence[OpRecord],
    readings: Sequence[Reading],
    read: frozenset[int],
) -> SecondLook:
    """Read suspects a second way and judge hidden ops on their own."""
    graph, store = local.case.graph, local.store
    by_key = {(r.tensor, r.from_output is None): r for r in readings}
    chosen = {s: by_key[s.tensor, s.reading == "copy"] for s in records if s.verdict == "culprit"}
    if not chosen:
        return SecondLook(list(records), {})
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
    seen = read_again(device, local.case, sorted(resting), sorted(hidden))
    device.rest()
    for t in hidden & set(seen):
        store.put(label_of(graph, t), "device", seen[t], graph.tensors[t].name)
    final = list(records)
    if hidden & set(seen):
        final, chosen = _taken_apart(local, final, chosen, read | (hidden & set(seen)))
    doubts = {}
    for suspect, reading in chosen.items():
        unsure = [
            graph.tensors[t].name
            for t in (*reading.feeds, reading.tensor)
            if t in resting and not (t in seen and _agree(local.case, store, t, seen[t], reading))
        ]
        if unsure:
            doubts[suspect] = f"A direct tap of {', '.join(unsure[:3])} reads differently from the copy tap."
    return SecondLook(final, doubts)


def _taken_apart(
    local: LocalError, records: list[OpRecord], chosen: dict[OpRecord, Reading], read: frozenset[int]
) -> tuple[list[OpRecord], dict[OpRecord, Reading]]:
    """Judge each op of the suspect runs alone, in place of the runs."""
    split = {s: r for s, r in chosen.items() if len(r.ops) > 1}
    concerned = {op for r in split.values() for op in r.ops}
    parts = [r for r in plan(local.case.graph, read) if r.op in concerned]
    fresh = list(local.judge(parts, read))
    kept = [r for r in records if r not in split]
    known = {(r.tensor, r.reading) for r in kept}
    fresh = [r for r in fresh if (r.tensor, r.reading) not in known]
    by_key = {(p.tensor, p.from_output is None): p for p in parts}
    remaining = {s: r for s, r in chosen.items() if s not in split}
    remaining |= {f: by_key[f.tensor, f.reading == "copy"] for f in fresh if f.verdict == "culprit"}
    return sorted([*kept, *fresh], key=lambda r: (r.index, r.tensor)), remaining


def _agree(case: Case, store: TensorStore, tensor: int, direct: Array, reading: Reading) -> bool:
    label = reading.label if tensor == reading.tensor else label_of(case.graph, tensor)
    if not store.has(label, "device"):  # an own output, read from the untouched model
        label = next(output_label(port.name) for port in case.graph.outputs if port.tensor == tensor)
    compared = compare(direct, store.get(label, "device"))
    allowed = AGREEMENT * case.roundoff * max(map(abs, compared.reference_range), default=0.0)
    return compared.nonfinite == 0 and compared.odd == 0 and compared.max_abs <= allowed
