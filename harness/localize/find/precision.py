"""A failure by precision: which ops lose the digits, in which way, and which have to keep them.

The device is not asked: it does what rounding explains. `rounding` finds the values whose storing costs the digits;
here they get a name. A stored value does harm by an op that magnifies its error: one that reads it and whose own
result may be rounded without such harm. Where that op adds, subtracts or sums, the digits cancel there, and it is
named. Else the op that made the value is: the angle of a sine has to be made small, or kept in float32, before the sine
sees it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.core.arrays import Array, OpIndex, TensorIndex
from harness.graph.model import Graph, Op
from harness.localize.base.case import Case
from harness.localize.base.comparison import ModelComparison, Workbench
from harness.localize.base.op_record import OpRecord
from harness.localize.base.reference import label_of, output_label
from harness.localize.base.result import Culprit, Impact, Status
from harness.localize.find.impact import unexplained
from harness.localize.probe.rounding import RoundingLoss, Roundings, Unit, readers, tensors_of
from harness.numerics import fp16
from harness.numerics.metrics import mask_iou
from harness.remedies.cause import Cause

# An op whose own result, once rounded, does less than this share of an operand's harm magnifies the operand's error.
PASSED_ON = 0.5

ANGLES = frozenset(("SIN", "COS"))
DIFFERENCES = frozenset(("ADD", "SUB", "SQUARED_DIFFERENCE"))
SUMS = DIFFERENCES | frozenset(
    ("ADD_N", "SUM", "MEAN", "CUMSUM", "BATCH_MATMUL", "FULLY_CONNECTED", "CONV_2D",
     "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "AVERAGE_POOL_2D")
)  # fmt: skip


@dataclass(frozen=True)
class LostDigits:
    """The ops that lose the digits, what their rounding together does to each output, whether it is all of it, and what
    else is to be said."""

    culprits: tuple[Culprit, ...]
    explained: tuple[Impact, ...]
    certified: bool
    notes: tuple[str, ...]

    @property
    def status(self) -> Status:
        """`culprits`, or `unresolved` where no op is named."""
        return "culprits" if self.culprits else "unresolved"


@dataclass(frozen=True)
class _Name:
    """An op and how it loses digits; `window`: the ops between which they would have to be kept."""

    op: OpIndex
    signature: str
    window: frozenset[OpIndex]


def find_lost_digits(bench: Workbench, case: Case, first: ModelComparison) -> LostDigits:
    """Explain outputs that are useless although rounding explains them. The reference's intermediates are in the run
    folder.

    Raises:
        DeviceError: the model does not run on the host with some of its values rounded.
    """
    store = bench.run.tensors
    useless = {}
    for output in first.outputs:
        if output.verdict == "precision":
            kinds = {(s.kind, s.input) for s in output.shortfalls}
            exact = store.get(output_label(output.name), "reference")
            useless[output.name] = tuple(y for y in case.yardsticks(output.name, exact) if (y.kind, y.input) in kinds)
    bench.progress.stage("which results lose the digits", 2 + len(case.graph.ops) / 10)
    roundings = Roundings(bench.host, case, first.beyond, useless)
    lost = roundings.search()
    names = _Names(bench, case, roundings)
    by_op: dict[OpIndex, list[tuple[Unit, _Name]]] = {}
    for unit in lost.units if lost.enough else ():
        name = names.of(unit)
        by_op.setdefault(name.op, []).append((unit, name))
    certified = lost.enough and lost.all_of_it
    culprits = [names.culprit(first, members, certified) for members in by_op.values()]
    explained = names.impacts(first, tensors_of(lost.units)) if culprits else ()
    bench.host.stop()
    return LostDigits(tuple(culprits), explained, certified, _notes(case, lost, tuple(useless)))


def _notes(case: Case, lost: RoundingLoss, useless: Sequence[str]) -> tuple[str, ...]:
    kind = "float16" if case.options.half else "float32"
    if lost.together and not lost.enough:
        count = len(lost.units)
        few = f"the {count} ops that lose most do not account" if count > 1 else "no op by itself accounts"
        return (
            f"The digits are lost little by little: {few} for it, all together do. No op is named for it; another "
            "--precision may be enough.",
        )
    if not lost.enough:
        named = ", ".join(f"'{name}'" for name in useless)
        return (
            f"Storing results in {kind} alone does not cost so much of {named}: it is what the device's own arithmetic "
            "adds to that, within the limit. No op is named for it; another --precision may be enough.",
        )
    if lost.all_of_it:
        return ()
    return (f"With these results exact, rounding the others to {kind} loses too much as well; the list may go on.",)


@dataclass(frozen=True)
class _Names:
    """Names units of one case."""

    bench: Workbench
    case: Case
    roundings: Roundings

    @property
    def graph(self) -> Graph:
        """The model's own, without what makes hybrid weights real."""
        return self.case.graph

    def of(self, unit: Unit) -> _Name:
        """Which op loses what is stored on a unit's account, and how."""
        op = self.graph.ops[unit.op]
        harm = self.roundings.harm(unit.tensors)
        made = unit.tensors.intersection(op.outputs)
        if made and self.roundings.harm(made) >= PASSED_ON * harm:
            return self._followed(op, harm)
        worst = max(unit.tensors.difference(op.outputs), key=lambda t: self.roundings.harm([t]))
        computing, moving, _ = readers(self.graph, worst)
        computing = [r for r in computing if r.index not in self.graph.constant_ops]
        harmful = [r for r in computing if self._harm_of_result(r) >= PASSED_ON * harm]
        if harmful:  # the others may read it rounded: it is there for both
            return self._followed(max(harmful, key=self._harm_of_result), harm)
        window = moving.union(r.index for r in (*computing, op)) - self.graph.constant_ops
        return self._magnified(None, worst, computing or [op], window)

    def _followed(self, op: Op, harm: float) -> _Name:
        """What becomes of an op's result, on through ops that pass its error on, to those that magnify it."""
        window, at = {op.index}, op
        while True:
            result = max(at.outputs, key=lambda t: self.graph.tensors[t].elements)
            computing, moving, same = readers(self.graph, result)
            window |= moving | {r.index for r in computing}
            if not computing or self._is_useless_output(same):
                return _Name(at.index, self._coarse(result, None), frozenset(window))
            harmful = [r for r in computing if self._harm_of_result(r) >= PASSED_ON * harm]
            if not harmful:
                return self._magnified(at, result, computing, frozenset(window))
            at = max(harmful, key=self._harm_of_result)

    def _harm_of_result(self, op: Op) -> float:
        made = [t for t in op.outputs if self.graph.tensors[t].type == "FLOAT32"]
        return self.roundings.harm(made) if made else 0.0

    def _is_useless_output(self, tensors: frozenset[TensorIndex]) -> bool:
        ports = {port.name: port.tensor for port in self.graph.outputs}
        return any(ports[name] in tensors for name in self.roundings.useless)

    def _magnified(
        self, maker: Op | None, t: TensorIndex, computing: Sequence[Op], window: frozenset[OpIndex]
    ) -> _Name:
        """By the readers of a tensor, none of which passes the error on as it is. No op makes a constant or an input of
        the model: then it is the reader's matter."""
        angles = [r for r in computing if r.name in ANGLES]
        summing = sorted((r for r in computing if r.name in SUMS), key=lambda r: r.name not in DIFFERENCES)
        if angles:
            return _Name((maker or angles[0]).index, self._large_angles(t), window)
        if summing:
            return _Name(summing[0].index, self._cancelling(t, summing[0]), window)
        return _Name((maker or computing[0]).index, self._coarse(t, computing[0] if maker else None), window)

    # How it is told.

    def _values(self, t: TensorIndex) -> Array | None:
        ports = {port.tensor: port.name for port in self.graph.inputs}
        if t in ports:
            return self.case.inputs[ports[t]]
        if t not in self.graph.producer:
            return self.case.model.constant(t, self.graph.subgraph)
        store, label = self.bench.run.tensors, label_of(self.graph, t)
        return store.get(label, "reference") if store.has(label, "reference") else None

    def _range(self, t: TensorIndex) -> str:
        """`values up to 3.99e+03 in steps of 2`, as they are stored."""
        values = self._values(t)
        peak = 0.0 if values is None or values.dtype.kind != "f" else fp16.peak(values)
        if not peak:
            return "values"
        return f"values up to {peak:.3g} in steps of {self._step(peak):.2g}"

    def _step(self, peak: float) -> float:
        if self.case.options.half and peak <= fp16.LARGEST:
            return float(np.spacing(np.float16(min(peak, 2.0**15))))  # of the largest there is no next one
        return float(2 * self.case.roundoff * 2.0 ** np.floor(np.log2(peak)))

    def _large_angles(self, t: TensorIndex) -> str:
        return f"large angles: {self._range(t)} rad"

    def _coarse(self, t: TensorIndex, reader: Op | None) -> str:
        by = "" if reader is None else f", magnified by {reader.name} #{reader.index}"
        return f"coarse steps: {self._range(t)}{by}"

    def _cancelling(self, t: TensorIndex, op: Op) -> str:
        values = self._values(op.outputs[0])
        left = "" if values is None else f", a tenth of the results at most {np.quantile(np.abs(values), 0.1):.2g}"
        return f"cancellation: {self._range(t)}{left}"

    # What it does.

    def culprit(self, first: ModelComparison, members: Sequence[tuple[Unit, _Name]], certified: bool) -> Culprit:
        """One op that is named for some units."""
        name = members[0][1]
        op = self.graph.ops[name.op]
        t = op.outputs[0]
        tensor = self.graph.tensors[t]
        dtype = "" if tensor.dtype is None else np.dtype(tensor.dtype).name
        record = OpRecord(
            op.index, op.custom or op.name, op.index, tensor.name, t, tensor.shape or (), dtype, "culprit"
        )
        window = frozenset().union(*(each.window for _, each in members))
        impact = self.impacts(first, tensors_of([unit for unit, _ in members]))
        signature = name.signature
        return Culprit(record, Cause.ROUNDING, signature, certified, impact=impact, window=tuple(sorted(window)))

    def impacts(self, first: ModelComparison, tensors: frozenset[TensorIndex]) -> tuple[Impact, ...]:
        """What rounding these tensors alone does to each output of the exact model."""
        found = []
        store = self.bench.run.tensors
        for name, values in self.roundings.outputs(tensors).items():
            exact = store.get(output_label(name), "reference")
            ideals = first.ideal[name]
            judgement = self.case.judge_output(name, values, ideals, exact)
            share, left = unexplained(store.get(output_label(name), "device"), values, exact, ideals)
            failing = any(y.severity(values) > 1 for y in self.roundings.useless.get(name, ()))
            found.append(Impact(name, judgement, mask_iou(values, exact), share, left, useless=failing))
        return tuple(found)
