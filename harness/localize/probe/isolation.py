"""Ops run by themselves on the device, many in one compile, fed with the reference's values.

Nothing is tapped here and nothing that went wrong elsewhere gets in, so this is the third kind of evidence: it decides
about suspects whose taps are in doubt, and about ops that the rest of the graph fed with NaN or infinity, or with what
became of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from harness.core.arrays import Array, TensorIndex
from harness.core.job import Completed
from harness.core.progress import SILENT, Progress
from harness.core.run_folder import TensorStore
from harness.core.visible import counted
from harness.devices.base import Device
from harness.devices.execute import make_job
from harness.graph import surgery
from harness.graph.model import Graph
from harness.graph.short_ports import as_declared, with_short_ports
from harness.localize.base.case import Case
from harness.localize.base.comparison import TAP_SECONDS
from harness.localize.base.op_record import OpRecord
from harness.localize.base.reference import label_of, output_label
from harness.localize.probe.local_error import LocalError, Reading, batches
from harness.numerics import fp16
from harness.numerics.metrics import compare
from harness.numerics.tolerance import FACTOR, LOCAL_FACTOR, Judgement


def reference_values(case: Case, store: TensorStore, tensor: TensorIndex) -> Array | None:
    """The reference's value of a tensor as the device can hold it: what float16 flushes is no op's fault. None where
    the reference does not have it."""
    graph = case.graph
    ports = {port.tensor: port.name for port in graph.inputs}
    values: Array | None = None
    if tensor in ports:
        values = case.inputs[ports[tensor]]
    elif tensor in graph.producer and store.has(label_of(graph, tensor), "reference"):
        values = store.get(label_of(graph, tensor), "reference")
    else:
        for port in graph.outputs:
            if port.tensor == tensor and tensor in graph.producer:
                values = store.get(output_label(port.name), "reference")
    return fp16.rounded(values) if values is not None and case.options.half else values


def own_ports(graph: Graph) -> frozenset[str]:
    """How parts of the model name what is an input or an output of the whole."""
    return frozenset(surgery.port_name(port.tensor) for port in (*graph.inputs, *graph.outputs))


def reproduces_in_isolation(suspect: OpRecord, by_itself: Judgement) -> bool:
    """Whether an op by itself does what it is suspected of: goes over its limit, or, where it was named below the limit
    for the harm it does, loses values below float16's range or comes near the limit again."""
    if not by_itself.ok or suspect.local is None or not suspect.local.ok:
        return not by_itself.ok
    lost, near = suspect.local.actual.flushed, suspect.local.ratio > FACTOR
    return bool(lost and 2 * by_itself.actual.flushed >= lost) or (near and by_itself.ratio > FACTOR)


@dataclass
class Isolation:
    """Asks the device about readings of one case, each in isolation, and of none twice."""

    device: Device
    local: LocalError
    progress: Progress = SILENT
    answers: dict[Reading, Judgement] = field(default_factory=dict)
    _asked: set[Reading] = field(default_factory=set)

    def ask(self, readings: Mapping[OpRecord, Reading]) -> dict[OpRecord, Judgement]:
        """The answer for each record, where there is one."""
        fresh = [reading for reading in readings.values() if reading not in self._asked]
        if fresh:
            count = len(readings)
            what = f"{counted(count, 'op')} alone on {self.device.name}"
            self.progress.stage(what, 2 + count * TAP_SECONDS)
        self.answers |= self.judge(fresh)
        self._asked.update(fresh)
        return {record: self.answers[r] for record, r in readings.items() if r in self.answers}

    def judge(self, readings: Sequence[Reading]) -> dict[Reading, Judgement]:
        """Each reading's ops on the reference's values, judged as a single op is.

        What the device refuses or does not survive is asked in halves; a reading without an answer is left out.
        """
        found: dict[Reading, Judgement] = {}
        for batch in batches(self.local.case.graph, readings):
            pending = [batch]
            while pending:
                part = pending.pop(0)
                answers = self._run(part)
                if answers is not None:
                    found.update(zip(part, answers, strict=True))
                elif len(part) > 1:
                    half = (len(part) + 1) // 2
                    pending[:0] = [part[:half], part[half:]]
        self.local.host.stop()
        return found

    def _run(self, batch: Sequence[Reading]) -> list[Judgement] | None:
        local, case = self.local, self.local.case
        feeds: dict[str, Array] = {}
        for t in sorted({t for r in batch for t in r.feeds}):
            values = reference_values(case, local.store, t)
            if values is None:
                return None
            feeds[surgery.port_name(t)] = values
        parts = local.islands(batch)
        model = with_short_ports(parts.model, own_ports(case.graph))
        job = make_job(model, as_declared(model, feeds), case.part_options, timeout=case.timeout, final=True)
        outcome = self.device.run(job)
        self.device.stop()
        if not isinstance(outcome, Completed):
            return None
        ports = parts.model.graph().outputs
        return [
            case.judge(
                outcome.outputs[port.name].reshape(exact.shape),
                ideals,
                exact,
                factor=LOCAL_FACTOR,
                grid=case.graph.tensors[r.tensor].grid,
            )
            for port, r, (exact, ideals) in zip(ports, batch, local.truth(parts, feeds), strict=True)
        ]


def contaminated(
    case: Case, store: TensorStore, readings: Sequence[Reading], beyond: frozenset[TensorIndex]
) -> list[Reading]:
    """Readings of which nothing, or not all, can be told from the device's values: NaN or infinity came in where the
    reference is finite, or what became of it. MAXIMUM, for one, gives its other operand for NaN, and in that a fault
    may show nothing. Not those that work outside float16's range by right."""
    graph = case.graph
    feeds = {t for r in readings for t in r.feeds if t in graph.producer and t not in beyond}
    labels = {t: label_of(graph, t) for t in feeds}
    values = {t: label for t, label in labels.items() if store.has(label, "device") and store.has(label, "reference")}
    # Integers hold no NaN, and what becomes of one is judged as any wrong value is.
    values = {t: label for t, label in values.items() if graph.tensors[t].type.startswith("FLOAT")}
    spoilt = {t for t, label in values.items() if _has_new_nonfinite(store, label)}
    behind = _behind(graph, spoilt) & values.keys() if spoilt else set()
    hidden = spoilt | {t for t in behind - spoilt if _diverged(store, values[t], FACTOR * case.roundoff)}
    return [r for r in readings if hidden.intersection(r.feeds) and not beyond.intersection((*r.feeds, r.tensor))]


def _has_new_nonfinite(store: TensorStore, label: str) -> bool:
    device, reference = store.get(label, "device"), store.get(label, "reference")
    return device.dtype.kind == "f" and bool((np.isfinite(reference) & ~np.isfinite(device)).any())


def _diverged(store: TensorStore, label: str, share: float) -> bool:
    """Whether the device's values are off the reference's by more than a share of the largest."""
    compared = compare(store.get(label, "device"), store.get(label, "reference"))
    return compared.max_abs > share * max(map(abs, compared.reference_range))


def _behind(graph: Graph, tensors: set[TensorIndex]) -> set[TensorIndex]:
    """Tensors that are computed from these."""
    found = set(tensors)
    for op in graph.ops:
        if found.intersection(op.inputs):
            found.update(op.outputs)
    return found
