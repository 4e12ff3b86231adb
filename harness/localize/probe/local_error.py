"""Local error: every op re-run on the host with the device's own inputs, in islands under a byte budget.

An op whose result differs from that re-run by more than an ideal device's would is a culprit, whatever reached it; an
op that merely passes on a wrong input is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from harness.core.arrays import Array, OpIndex, TensorIndex
from harness.core.beside import one_ahead
from harness.core.run_folder import TensorStore
from harness.devices.base import Device
from harness.graph import surgery
from harness.graph.model import Graph
from harness.graph.ops.real import real
from harness.localize.base.case import Case
from harness.localize.base.host_runs import run_exact, run_open
from harness.localize.base.ideals import Ideals
from harness.localize.base.op_record import OpRecord, OpVerdict
from harness.localize.base.reference import label_of, output_label
from harness.numerics.fp16 import LARGEST, SMALLEST_NORMAL
from harness.numerics.metrics import compare
from harness.numerics.tolerance import FACTOR, LOCAL_FACTOR, Judgement

DOING = "re-running ops"
ISLAND_BUDGET = 64 << 20
ISLAND_TENSORS = 2000  # the wire carries 4,096 payloads at most


@dataclass(frozen=True)
class Reading:
    """One value to judge: a tensor, the files that hold the device's value, the ops between it and the tensors that
    feed it, and the output it was read as, if it was not through a copy."""

    tensor: TensorIndex
    label: str
    ops: tuple[OpIndex, ...]
    feeds: tuple[TensorIndex, ...]
    from_output: str | None

    @property
    def op(self) -> OpIndex:
        """The op that makes the tensor."""
        return self.ops[-1]


def by_key(readings: Iterable[Reading]) -> dict[tuple[TensorIndex, bool], Reading]:
    """Readings by what `OpRecord.key` says of their records: the tensor, and whether a copy of it was read."""
    return {(reading.tensor, reading.from_output is None): reading for reading in readings}


def plan(graph: Graph, read: frozenset[TensorIndex]) -> list[Reading]:
    """What can be judged: every tensor read by a tap, and every own output of the model, in graph order.

    An own output that ops also read is judged twice: as the caller gets it, and as the graph sees it. Ops without a
    readable result are judged together with the next op that has one.
    """
    readings = []
    for t in read:
        ops, feeds = surgery.closure(graph, t, read)
        readings.append(Reading(t, label_of(graph, t), _own_ops(graph, ops), feeds, None))
    for port in graph.outputs:
        if port.tensor in graph.producer and graph.producer[port.tensor] not in graph.constant_ops:
            ops, feeds = surgery.closure(graph, port.tensor, read)
            readings.append(Reading(port.tensor, output_label(port.name), _own_ops(graph, ops), feeds, port.name))
    return sorted(readings, key=lambda r: (r.op, r.tensor, r.from_output or ""))


@dataclass(frozen=True)
class LocalError:
    """Re-runs ops of one case on the host. `beyond` lists the tensors whose exact values leave float16's range, `own`
    has the model's own outputs as the run gave them whose intermediates were read: values of one run belong together,
    and those of another compile may be rounded otherwise from the start."""

    host: Device
    case: Case
    store: TensorStore
    beyond: frozenset[TensorIndex]
    own: Mapping[str, Array] = field(default_factory=dict)

    def judge(
        self,
        readings: Sequence[Reading],
        advance: Callable[[float], None] = lambda done: None,
    ) -> Iterator[OpRecord]:
        """Judge readings, batch by batch.

        Two models run for each batch: the ops as they are on the device's inputs, which gives the exact results, and
        the ideal device's version on those inputs moved by less than a stored value's precision, which gives the error
        to expect. They run for the next batch while one is judged; peak memory is a small multiple of
        `ISLAND_BUDGET`. The host must not be asked anything else before the last record is here.
        """
        done = 0

        def truth(batch: list[Reading]) -> list[tuple[Array, Ideals]]:
            return self.truth(self.islands(batch), self.device_values(batch))

        for batch, found in one_ahead(truth, batches(self.case.graph, readings), self.host.stop):
            for reading, (exact, ideals) in zip(batch, found, strict=True):
                actual, grid = self.actual(reading), self.case.graph.tensors[reading.tensor].grid
                judgement = self.case.judge(actual, ideals, exact, factor=LOCAL_FACTOR, grid=grid)
                yield self._record(reading, actual, judgement)
            done += len(batch)
            advance(done / len(readings))

    def actual(self, reading: Reading) -> Array:
        """The device's value of a reading."""
        own = None if reading.from_output is None else self.own.get(reading.from_output)
        return self.store.get(reading.label, "device") if own is None else own

    def real(self, reading: Reading) -> Array:
        """The same in real numbers, where it is quantized."""
        return real(self.case.graph, reading.tensor, self.actual(reading))

    def error(self, reading: Reading) -> Array:
        """What the device made of a reading's own inputs, less what is exact for these: on the grid of a quantized
        result, in real units."""
        grid = self.case.graph.tensors[reading.tensor].grid
        parts = self.islands([reading])
        (exact,) = run_exact(self.case, self.host, parts.model, self.device_values([reading]), DOING).values()
        exact = _unclamped(exact)
        with np.errstate(invalid="ignore", over="ignore"):
            difference: Array = self.real(reading) - (exact if grid is None else grid.rounded(exact))
        return difference

    def truth(self, parts: surgery.Islands, feeds: dict[str, Array]) -> list[tuple[Array, Ideals]]:
        """The exact results of some readings' ops, in real numbers, and what ideal devices make of the same; `feeds` as
        :meth:`device_values` gives them."""
        beyond = frozenset(i for i, t in enumerate(parts.origin) if t in self.beyond)
        exact, ideals = run_open(self.case, self.host, parts.model, feeds, beyond, DOING)
        names = [port.name for port in parts.model.graph().outputs]
        return [(_unclamped(exact[n]), ideals[n].mapped(_unclamped)) for n in names]

    def islands(self, batch: Sequence[Reading]) -> surgery.Islands:
        """The readings' ops side by side in one model, outputs in their order."""
        return surgery.islands(self.case.model, [(r.tensor, frozenset(r.feeds)) for r in batch])

    def device_values(self, batch: Sequence[Reading]) -> dict[str, Array]:
        """What feeds the readings' ops, from the device, under the islands' port names."""
        ports = {port.tensor: port.name for port in self.case.graph.inputs}
        feeds: dict[str, Array] = {}
        for t in sorted({t for r in batch for t in r.feeds}):
            label = "" if t in ports else label_of(self.case.graph, t)
            feeds[surgery.port_name(t)] = self.store.get(label, "device") if label else self.case.inputs[ports[t]]
        return feeds

    def _record(self, reading: Reading, actual: Array, judgement: Judgement) -> OpRecord:
        graph = self.case.graph
        op, tensor = graph.ops[reading.op], graph.tensors[reading.tensor]
        against = compare(self.real(reading), real(graph, tensor.index, self.store.get(reading.label, "reference")))
        step = 0.0 if tensor.grid is None else tensor.grid.step
        explained = step + FACTOR * max(judgement.expected.max_abs - judgement.grid.max_abs, SMALLEST_NORMAL)
        verdict: OpVerdict = "fine"
        elsewhere = self.case.on_cpu.issuperset(reading.ops)  # no op of the accelerator under test
        if elsewhere:
            verdict = "unread"
        elif not judgement.ok and not self._driven_out_of_range(tensor.index, judgement):
            verdict = "culprit"
        elif against.nonfinite or against.max_abs > explained:
            verdict = "inherited"
        return OpRecord(
            index=op.index,
            op=op.custom or op.name,
            first=reading.ops[0],
            output=tensor.name,
            tensor=tensor.index,
            shape=tensor.shape or (),
            dtype=np.dtype(actual.dtype).name,
            verdict=verdict,
            local=None if elsewhere else judgement,
            reference_max_abs=against.max_abs,
            reference_cosine=against.cosine,
            reading="copy" if reading.from_output is None else "output",
            grid=tensor.grid,
        )

    def _driven_out_of_range(self, tensor: TensorIndex, judgement: Judgement) -> bool:
        """Wrong inputs took a result out of float16's range that right ones leave inside it."""
        peak = max(map(abs, judgement.actual.reference_range))
        return self.case.options.half and LARGEST < peak < float("inf") and tensor not in self.beyond


def _unclamped(values: Array) -> Array:
    """The host's arithmetic kernels clamp infinity to the largest float32, as part of a fused activation of none."""
    largest = np.finfo(np.float32).max
    if values.dtype != np.float32 or not (np.abs(values) >= largest).any():
        return values
    return np.where(np.abs(values) >= largest, np.copysign(np.float32(np.inf), values), values)


def _own_ops(graph: Graph, ops: tuple[OpIndex, ...]) -> tuple[OpIndex, ...]:
    return tuple(op for op in ops if op not in graph.constant_ops)


def batches(graph: Graph, readings: Sequence[Reading]) -> Iterator[list[Reading]]:
    """Readings in parts that fit one model of islands."""
    batch: list[Reading] = []
    tensors: set[TensorIndex] = set()
    for reading in readings:
        wanted = tensors | {reading.tensor, *reading.feeds}
        # A tensor read two ways has one place among a model's outputs.
        twice = any(other.tensor == reading.tensor for other in batch[-1:])
        size = sum(graph.tensors[t].nbytes for t in wanted)
        if batch and (twice or size > ISLAND_BUDGET or len(wanted) > ISLAND_TENSORS):
            yield batch
            batch, wanted = [], {reading.tensor, *reading.feeds}
        batch.append(reading)
        tensors = wanted
    if batch:
        yield batch
