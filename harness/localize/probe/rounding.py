"""The exact model with some of its values rounded as the device stores them, all others exact: what does that cost?

This needs no device. A unit is an op with what is stored on its account: its result, and those constants and inputs of
the model that it reads first. Ops that only move elements store nothing anew. One unit after another is named, the most
harmful first, until (1) their rounding alone makes every useless output useless, and (2) with everything else rounded
and they exact, none is. To find the most harmful without asking for each, units are asked in blocks, and the worst
block is halved first; a block's harm is at least about that of its worst member, since independent errors add up in
squares. Cost: for one unit among n about 2·log2(n) runs of the model on the host.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from harness.core.arrays import Array, OpIndex, TensorIndex
from harness.devices.base import Device
from harness.devices.execute import completed, make_job
from harness.graph.model import Graph, Op
from harness.graph.ops.hybrid import with_real_weights
from harness.graph.surgery import MOVING_OPS
from harness.localize.base.case import REFERENCE, Case
from harness.numerics import fp16
from harness.numerics.usefulness import Yardstick

MOST_RUNS = 200
MOST_UNITS = 24


@dataclass(frozen=True)
class Unit:
    """An op, and the tensors that are stored on its account."""

    op: OpIndex
    tensors: frozenset[TensorIndex]


@dataclass(frozen=True)
class RoundingLoss:
    """Where the digits go: units in order of harm. `enough`: their rounding alone makes every output useless that is;
    `all_of_it`: without theirs, the rest of the rounding leaves every output of use; `together`: all units do what
    `enough` says."""

    units: tuple[Unit, ...]
    enough: bool
    all_of_it: bool
    together: bool


@dataclass
class Roundings:
    """Runs one case on the host with some tensors rounded. `beyond` lists tensors that float16 cannot hold, `useless`
    the yardsticks that each useless output fails."""

    host: Device
    case: Case
    beyond: frozenset[TensorIndex]
    useless: dict[str, tuple[Yardstick, ...]]
    runs: int = 0
    _known: dict[frozenset[TensorIndex], dict[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Weights that a CPU would quantize activations for are real ones, as in the reference."""
        self._model = with_real_weights(self.case.model)
        self._graph = self._model.graph()

    def outputs(self, tensors: Iterable[TensorIndex]) -> dict[str, Array]:
        """The model's outputs with these tensors rounded. Raises DeviceError."""
        chosen = frozenset(tensors) - self.case.never_stored
        exact = frozenset(range(len(self._graph.tensors))) - chosen
        inputs = self.case.inputs
        if self.case.options.half:
            model = fp16.oracle(self._model, exact | self.beyond, inside=False)
            ports = {port.name: port.tensor for port in self._graph.inputs}
            inputs = {name: fp16.rounded(v) if ports[name] in chosen else v for name, v in inputs.items()}
        else:
            model = self.case.ideal(self._model, exact | self.beyond)
        self.runs += 1
        job = make_job(model, inputs, REFERENCE, timeout=self.case.timeout)
        return completed(self.host, job, "rounding some of the results").outputs

    def harms(self, tensors: Iterable[TensorIndex]) -> dict[str, float]:
        """What that does to each useless output: its loss over the limit, by the worst yardstick."""
        key = frozenset(tensors)
        if key not in self._known:
            outputs = self.outputs(key)
            self._known[key] = {n: max(y.severity(outputs[n]) for y in ys) for n, ys in self.useless.items()}
        return self._known[key]

    def harm(self, tensors: Iterable[TensorIndex]) -> float:
        """The same for the output that it harms most."""
        return max(self.harms(tensors).values())

    def makes_useless(self, tensors: Iterable[TensorIndex]) -> bool:
        """Whether it makes all of the useless outputs so."""
        return min(self.harms(tensors).values()) > 1

    def leaves_of_use(self, tensors: Iterable[TensorIndex]) -> bool:
        """Whether it leaves all of them of use."""
        return self.harm(tensors) <= 1

    def search(self) -> RoundingLoss:
        """The units that cost the digits. Raises DeviceError."""
        everything = tuple(units(self.case.graph))
        if not everything:
            return RoundingLoss((), enough=False, all_of_it=False, together=False)
        stored = tensors_of(everything)
        blocks = [(-self.harm(stored), 0, everything)]
        found: list[Unit] = []
        enough = all_of_it = False
        while blocks and self.runs < MOST_RUNS and len(found) < MOST_UNITS and not (enough and all_of_it):
            harm, place, block = heapq.heappop(blocks)
            if len(block) > 1:
                middle = len(block) // 2
                for start, half in ((0, block[:middle]), (middle, block[middle:])):
                    its = tensors_of(half)
                    heapq.heappush(blocks, (-self.harm(its), place + start, half))
            elif harm < 0:
                found.append(block[0])
                its = tensors_of(found)
                enough = enough or self.makes_useless(its)
                all_of_it = enough and self.leaves_of_use(stored - its)
        return RoundingLoss(tuple(found), enough, all_of_it, self.makes_useless(stored))


def units(graph: Graph) -> list[Unit]:
    """The units of a model, in graph order."""
    owned: set[TensorIndex] = set()
    found = []
    for op in graph.ops:
        if op.index in graph.constant_ops or op.name in MOVING_OPS:
            continue
        read = [t for t in sources(graph, op.inputs) if t not in owned]
        mine = [t for t in (*read, *op.outputs) if graph.tensors[t].type == "FLOAT32"]
        owned.update(read)
        if mine:
            found.append(Unit(op.index, frozenset(mine)))
    return found


def sources(graph: Graph, tensors: Iterable[TensorIndex]) -> list[TensorIndex]:
    """Constants, what is folded from them, and inputs of the model that reach `tensors` through nothing or through ops
    that only move elements."""
    inputs = {port.tensor for port in graph.inputs}
    found: dict[TensorIndex, None] = {}
    stack, seen = [t for t in tensors if t >= 0], set()
    while stack:
        t = stack.pop()
        if t in seen:
            continue
        seen.add(t)
        maker = graph.producer.get(t)
        if t in inputs or maker is None or maker in graph.constant_ops:
            found[t] = None
        elif graph.ops[maker].name in MOVING_OPS:
            stack += [i for i in graph.ops[maker].inputs if i >= 0]
    return list(found)


def readers(graph: Graph, tensor: TensorIndex) -> tuple[list[Op], frozenset[OpIndex], frozenset[TensorIndex]]:
    """(ops that compute with a tensor, ops that only move its elements on the way to them, the tensors so made)."""
    computing: dict[OpIndex, Op] = {}
    moving: set[OpIndex] = set()
    same, stack = {tensor}, [tensor]
    while stack:
        for c in graph.consumers.get(stack.pop(), ()):
            op = graph.ops[c]
            if op.name not in MOVING_OPS:
                computing[c] = op
            elif c not in moving:
                moving.add(c)
                same.update(op.outputs)
                stack += op.outputs
    return [computing[c] for c in sorted(computing)], frozenset(moving), frozenset(same)


def tensors_of(chosen: Sequence[Unit]) -> frozenset[TensorIndex]:
    """All that is stored on the account of some units."""
    return frozenset().union(*(unit.tensors for unit in chosen)) if chosen else frozenset()
