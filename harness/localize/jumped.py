"""What jumps make of a model's outputs: see `harness.graph.jumps` and `harness.localize.ideals`.

An ideal device may happen to take no value across a threshold, and a right one takes others across than it. So the
results of ops that jump are held at the exact ones while arithmetic is looked at; and their operands are moved, up and
down, by as much as a right device may be off, to see what the jumps can do. Cost: five runs of the model on the host,
none where there are no such ops, and three where rounding moves none of their operands.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from harness.graph.hybrid import MOST_BYTES
from harness.graph.jumps import EQUALITIES, Jump, jumps, push, pushed, settled
from harness.graph.model import Graph, Model
from harness.graph.surgery import tap
from harness.job import Array
from harness.localize.ideals import may_be_off

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
                moves: dict[tuple[int, int], Array] = {}
                for jump in found:
                    other = self._other(jump, values)
                    if way > 0 and other is not None and (jump.op.index, 1 - jump.place) in moves:
                        continue  # one of the two has been moved to the other
                    size = off[jump.tensor]
                    if way > 0 and other is not None:  # it is moved by what both may be off
                        size = size + off.get(jump.op.inputs[1 - jump.place], np.zeros(1, np.float32)).max(initial=0)
                    moves[jump.operand] = push(self.model, jump, values[jump.tensor], size, way, rng, other)
                moved.append(self.run(pushed(self.model, moves), self.inputs))
        return Jumped(tuple(smooth), tuple(moved))

    def _other(self, jump: Jump, values: dict[int, Array]) -> Array | None:
        """The other operand of two that are asked to be equal, where it is known."""
        if jump.op.name not in EQUALITIES:
            return None
        t = jump.op.inputs[1 - jump.place]
        return values.get(t, self.model.constant(t))


def _bounded(graph: Graph, found: list[Jump]) -> list[Jump]:
    """Of some operands those whose moves can be held: `MOST_BYTES` in all, the smaller ones first; an op with all of
    its operands or not at all."""
    sizes: dict[int, int] = {}
    for jump in found:
        sizes[jump.op.index] = sizes.get(jump.op.index, 0) + graph.tensors[jump.tensor].nbytes
    left, held = MOST_BYTES, set()
    for op, size in sorted(sizes.items(), key=lambda pair: pair[1]):
        left -= size
        if left >= 0:
            held.add(op)
    return [jump for jump in found if jump.op.index in held]
