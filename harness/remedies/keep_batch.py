"""Whole chains in rank 4, and above all constants with the batch dimension kept: where a constant below rank 4 meets a
tensor, both get ones in front.

LiteRT's GPU delegates lay a tensor [a, b] out with a as the batch, and a constant [a, b] with a as the width; the
constant is then broadcast over the batch, and every row gets its row 0 (docs/delegate.md). In rank 4 both are laid out
alike.

One op by itself costs a RESHAPE before and after. So the whole chain around it goes along: all ops that mean the same
with ones in front, up to those that reshape anyway, the model's inputs and outputs, and ops that need their rank.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.core.arrays import OpIndex, TensorIndex
from harness.graph.model import Model, Op
from harness.graph.rebuild import CannotRewrite, Rebuild
from harness.remedies import rank_4

# Ops that give the same values another shape: a chain ends there at no cost.
_RESHAPES = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS")


def keep_batch(model: Model, ops: frozenset[OpIndex], peaks: Mapping[TensorIndex, float]) -> Model:
    """The model with the chains around `ops` in rank 4. `peaks` is not used.

    Raises:
        CannotRewrite: one of `ops` reads no constant that is laid out otherwise than the tensor that it meets.
    """
    rebuild = Rebuild(model)
    for o in sorted(ops):
        if not meets_constant(rebuild, rebuild.graph.ops[o]):
            raise CannotRewrite("it reads no constant of its own rank, below 4, with a leading dimension over 1")
    return _lifted(rebuild, ops)


def chain_in_rank_4(model: Model, ops: frozenset[OpIndex], peaks: Mapping[TensorIndex, float]) -> Model:
    """The same around any ops below rank 4, whatever they read: from RESHAPE to RESHAPE nothing has its own rank.
    `peaks` is not used.

    Raises:
        CannotRewrite: one of `ops` has rank 4 already, or needs the rank that it has.
    """
    rebuild = Rebuild(model)
    for o in sorted(ops):
        op = rebuild.graph.ops[o]
        rank_4.check(rebuild, op)
        if not _goes_along(rebuild, op):
            raise CannotRewrite("it has rank 4 already, drops axes, or gives neither floats nor quantized values")
    return _lifted(rebuild, ops)


def _lifted(rebuild: Rebuild, ops: frozenset[OpIndex]) -> Model:
    chain = _Chain(rebuild, _around(rebuild, ops))
    for op in rebuild.graph.ops:
        chain.pass_on(op)
    for port in rebuild.graph.outputs:
        chain.lower(port.tensor)
    return rebuild.finish()


def meets_constant(rebuild: Rebuild, op: Op) -> bool:
    """Whether a delegate would lay a constant that the op reads otherwise than the tensor that it meets."""
    if op.name not in rank_4.ELEMENTWISE or rank_4.is_rank_4(rebuild, op):
        return False
    constants = [t for t in op.inputs if t >= 0 and rebuild.values(t) is not None]
    rank = max((len(rebuild.shape(t)) for t in op.inputs if t not in constants), default=4)
    shapes = [rebuild.shape(t) for t in constants]
    return any(len(s) > rank or (len(s) == rank and s[0] > 1) for s in shapes)


def _around(rebuild: Rebuild, ops: frozenset[OpIndex]) -> frozenset[OpIndex]:
    """The ops and those that they reach, over tensors that are computed, through ops that can go along."""
    graph, found, edge = rebuild.graph, set(ops), list(ops)
    while edge:
        op = graph.ops[edge.pop()]
        near = {graph.producer[t] for t in op.inputs if t in graph.producer}
        near |= {c for t in op.outputs for c in graph.consumers.get(t, ())}
        for o in near - found:
            if _goes_along(rebuild, graph.ops[o]):
                found.add(o)
                edge.append(o)
    return frozenset(found)


def _goes_along(rebuild: Rebuild, op: Op) -> bool:
    numbers = all(rebuild.graph.tensors[t].type == "FLOAT32" or rebuild.graph.tensors[t].grid for t in op.outputs)
    if op.index in rebuild.graph.constant_ops or len(op.outputs) != 1 or not numbers:
        return False
    try:
        rank_4.check(rebuild, op)
    except CannotRewrite:
        return False
    return rank_4.keeps_axes(rebuild, op) and not rank_4.is_rank_4(rebuild, op)


@dataclass
class _Chain:
    """Tensor t of the model is held in rank 4 as `lifted[t]` once an op of the chain has made or read it; those in
    `only_lifted` are not held in their own rank."""

    rebuild: Rebuild
    ops: frozenset[OpIndex]
    lifted: dict[TensorIndex, TensorIndex] = field(default_factory=dict)
    only_lifted: set[TensorIndex] = field(default_factory=set)

    def pass_on(self, op: Op) -> None:
        """Copy one op, in rank 4 where it is of the chain."""
        rebuild = self.rebuild
        if op.index in self.ops:
            self._hold(op.outputs[0], rank_4.emit(rebuild, op, self._at))
        elif op.name in _RESHAPES and (op.inputs[0] in self.lifted or self._wanted(op.outputs[0])):
            given, made = op.inputs[0], op.outputs[0]
            source = self.lifted.get(given, given)
            if self._wanted(made):
                self._hold(made, rebuild.reshape(rebuild.now(source), rank_4.wide(rebuild.shape(made))))
            else:
                rebuild.replace(made, rebuild.reshape(rebuild.now(source), rebuild.shape(made)))
        else:
            for t in op.inputs:
                self.lower(t)
            rebuild.keep(op)

    def lower(self, t: TensorIndex) -> None:
        """From here on the tensor is there in its own rank too."""
        if t in self.only_lifted:
            self.only_lifted.remove(t)
            self.rebuild.replace(t, self.rebuild.reshape(self.lifted[t], self.rebuild.shape(t)))

    def _hold(self, t: TensorIndex, made: TensorIndex) -> None:
        if len(self.rebuild.shape(t)) == 4:
            self.rebuild.replace(t, made)
        else:
            self.lifted[t] = made
            self.only_lifted.add(t)

    def _wanted(self, t: TensorIndex) -> bool:
        return any(c in self.ops for c in self.rebuild.graph.consumers.get(t, ()))

    def _at(self, t: TensorIndex) -> TensorIndex:
        """The tensor in rank 4. Constants of rank 1 broadcast alike in every rank, and stay."""
        constant = self.rebuild.values(t) is not None
        if constant and len(self.rebuild.shape(t)) < 2:
            return t
        if constant or t not in self.lifted:
            self.lifted[t] = rank_4.view(self.rebuild, t)
        return self.lifted[t]
