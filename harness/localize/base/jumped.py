"""What jumps make of a model's outputs: see `harness.graph.ops.jumps` and `harness.localize.base.ideals`.

An ideal device may happen to take no value across a threshold, and a right one takes others across than it. So the
results of ops that jump are held at the exact ones while arithmetic is looked at; and their operands are moved, up and
down, by as much as a right device may be off, to see what the jumps can do. Cost: five runs of the model on the host,
none where there are no such ops, and three where rounding moves none of their operands.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from harness.core.arrays import Array, OpIndex, TensorIndex
from harness.graph.model import Graph, Model
from harness.graph.ops.hybrid import MOST_BYTES
from harness.graph.ops.jumps import EQUALITIES, Jump, Operand, jumps, meet, push, pushed, settled
from harness.graph.surgery import tap
from harness.localize.base.ideals import may_be_off

Values = dict[str, Array]


@dataclass(frozen=True)
class Jumped:
    """Outputs on ideal devices that jump where the exact model does, and of the exact model with moved operands."""

    smooth: tuple[Values, ...] = ()
    moved: tuple[Values, ...] = ()


@dataclass(frozen=True)
class Runs:
    """A model in real numbers with inputs, and how it is run: `run` on plain kernels, `ideal` makes of a model what an
    ideal device runs; `held` are the inputs as ideal devices hold them, rounded ones first."""

    model: Model
    inputs: Values
    held: tuple[Values, ...]
    run: Callable[[Model, Values], Values]
    ideal: Callable[[Model], Model]
    roundoff: float
    seed: int

    def jumped(self) -> Jumped:
        """What jumps make of the outputs. Raises DeviceError."""
        graph = self.model.graph()
        found = _bounded(graph, jumps(graph))
        if not found:
            return Jumped()
        results = sorted({t for jump in found for t in jump.op.outputs})
        operands = sorted({jump.tensor for jump in found})
        tapped, names = tap(self.model, sorted({*results, *operands}), "direct")
        exact = self.run(tapped, self.inputs)
        held = settled(self.model, {t: exact[names[t]] for t in results})
        tapped, again = tap(held, operands, "direct")
        ideal = self.ideal(tapped)
        smooth = [self.run(ideal, each) for each in self.held]
        off = {t: may_be_off(smooth[0][again[t]], exact[names[t]], self.roundoff) for t in operands}
        moved = []
        if any(each.any() for each in off.values()):
            rng = np.random.default_rng(self.seed)
            values = {t: exact[name] for t, name in names.items()}
            for way in (1, -1):
                moves = {j.operand: push(self.model, j, values[j.tensor], off[j.tensor], way, rng) for j in found}
                if way > 0:
                    moves |= self._meetings(found, values, off)
                moved.append(self.run(pushed(self.model, moves), self.inputs))
        return Jumped(tuple(smooth), tuple(moved))

    def _meetings(
        self, found: list[Jump], values: dict[TensorIndex, Array], off: dict[TensorIndex, Array]
    ) -> dict[Operand, Array]:
        """Moves that make operands equal which are asked to be: the first known one, by what both may be off, and the
        other not at all."""
        met: dict[Operand, Array] = {}
        for jump in found:
            if jump.op.name not in EQUALITIES or jump.operand in met:
                continue
            t = jump.op.inputs[1 - jump.place]
            other = values.get(t, self.model.constant(t))
            size = off[jump.tensor] + (off[t].max(initial=0) if t in off else 0)
            move = None if other is None else meet(values[jump.tensor], other, size)
            if move is not None:
                met[jump.operand] = move
                if t in off:
                    met[jump.op.index, 1 - jump.place] = np.zeros_like(off[t])
        return met


def _bounded(graph: Graph, found: list[Jump]) -> list[Jump]:
    """Of some operands those whose moves can be held: `MOST_BYTES` in all, the smaller ones first; an op with all of
    its operands or not at all."""
    sizes: dict[OpIndex, int] = {}
    for jump in found:
        sizes[jump.op.index] = sizes.get(jump.op.index, 0) + graph.tensors[jump.tensor].nbytes
    left, held = MOST_BYTES, set()
    for op, size in sorted(sizes.items(), key=lambda pair: pair[1]):
        left -= size
        if left >= 0:
            held.add(op)
    return [jump for jump in found if jump.op.index in held]
