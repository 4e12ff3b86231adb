"""Ops whose result jumps: a value near a threshold that a device rounds to its other side is off by a whole step.

How far a sum of such results may be off does not follow from how far their inputs are: it has to be tried, with those
inputs moved by as much as they may be off.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass

import numpy as np

from harness.core.arrays import Array, OpIndex, TensorIndex
from harness.graph.model import AlignedBuffer, Graph, Model, Op, indices
from harness.graph.rebuild import Rebuild

_WHOLE_NUMBERS = frozenset(("ROUND", "FLOOR", "CEIL", "SIGN", "FLOOR_DIV", "FLOOR_MOD"))
_COMPARISONS = frozenset(("EQUAL", "NOT_EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL"))
EQUALITIES = frozenset(("EQUAL", "NOT_EQUAL"))
_EXTREMES = {"ARG_MAX": 1, "ARG_MIN": -1}
_CHOICES = frozenset(("TOPK_V2", "NON_MAX_SUPPRESSION_V4", "NON_MAX_SUPPRESSION_V5"))
# Ops whose results are in the order of scores, custom ones by their own names, and which of them the scores are.
_SORTING = {
    "TOPK_V2": 0,
    "NON_MAX_SUPPRESSION_V4": None,
    "NON_MAX_SUPPRESSION_V5": 1,
    "TFLite_Detection_PostProcess": 2,
}
# Ops that keep the order, and the place of the operand that is in it.
_PASSING = dict.fromkeys(("CAST", "RESHAPE", "SQUEEZE", "EXPAND_DIMS", "DEQUANTIZE"), 0) | {"GATHER": 1, "GATHER_ND": 1}
JUMPING = _WHOLE_NUMBERS | _COMPARISONS | _EXTREMES.keys() | _CHOICES


Operand = tuple[OpIndex, int]
"""(op, place among its inputs)."""


@dataclass(frozen=True)
class Jump:
    """An operand of such an op: its place among the inputs, and its tensor."""

    op: Op
    place: int
    tensor: TensorIndex

    @property
    def operand(self) -> Operand:
        """(op, place)."""
        return self.op.index, self.place


def jumps(graph: Graph) -> list[Jump]:
    """The float32 operands, computed or given at run time, of ops whose result jumps with them."""
    found = []
    for op in graph.ops:
        if op.index in graph.constant_ops or not (op.name in JUMPING or _counts(graph, op)):
            continue
        for place, t in enumerate(op.inputs):
            fixed = t < 0 or graph.tensors[t].constant or graph.producer.get(t) in graph.constant_ops
            if not fixed and graph.tensors[t].type == "FLOAT32":
                found.append(Jump(op, place, t))
    return found


@dataclass(frozen=True)
class Sorting:
    """An op whose results are in the order of scores, and which of its results a tensor is or is gathered by; `scores`
    is the one that holds the scores, if one does."""

    op: Op
    place: int | None
    scores: int | None

    def __str__(self) -> str:
        return f"{self.op.custom or self.op.name} #{self.op.index}"


def sorted_by(graph: Graph, tensor: TensorIndex) -> Sorting | None:
    """By what a tensor is sorted: shaped or cast anew, or gathered from another one, at most; None where it is not."""
    while (maker := graph.producer.get(tensor)) is not None:
        op = graph.ops[maker]
        title = op.custom or op.name
        if title in _SORTING:
            return Sorting(op, op.outputs.index(tensor), _SORTING[title])
        if op.name not in _PASSING:
            break
        tensor = op.inputs[_PASSING[op.name]]
    return None


def _counts(graph: Graph, op: Op) -> bool:
    """Whether an op makes whole numbers or flags of its operand."""
    return op.name == "CAST" and "FLOAT" not in graph.tensors[op.outputs[0]].type


def meet(values: Array, other: Array, size: Array) -> Array | None:
    """A move of an operand to another one that it is asked to be equal to, where that is within `size`; None where the
    other is the larger tensor."""
    if np.broadcast_shapes(other.shape, values.shape) != values.shape:
        return None
    apart = other - values
    return np.asarray(np.where(np.abs(apart) <= size, apart, 0), np.float32)


def push(model: Model, jump: Jump, values: Array, size: Array, direction: int, rng: np.random.Generator) -> Array:
    """A move of an operand by `size` each way, which takes values across the thresholds that they are near to.

    All up or all down (`direction` 1 or -1) for what rounds to whole numbers, the second operand of two the other way;
    the extreme away from the others for the place of an extreme; either way by chance where many are ranked.
    """
    if jump.op.name in _EXTREMES:
        sign = _EXTREMES[jump.op.name]
        axis = model.constant(jump.op.inputs[1])
        place = -1 if axis is None else int(axis.reshape(-1)[0])
        best = (sign * values).argmax(axis=place, keepdims=True)
        move = np.full_like(values, sign)
        np.put_along_axis(move, best, -sign, axis=place)
        return np.asarray(move * size)
    if jump.op.name in _CHOICES:
        return np.asarray(size * rng.choice(np.asarray([-1, 1], np.float32), values.shape))
    return np.asarray(size * np.float32(direction if jump.place == 0 else -direction))


def pushed(model: Model, moves: Mapping[Operand, Array]) -> Model:
    """The model with a move added to operands, by (op, place); other readers of the same tensor keep it as it is."""
    rebuild = Rebuild(model)
    for op in rebuild.graph.ops:
        inputs = list(op.inputs)
        for place, t in enumerate(inputs):
            if (op.index, place) in moves:
                inputs[place] = rebuild.binary("ADD", t, rebuild.constant(moves[op.index, place]))
        rebuild.like(op, inputs, outputs=op.outputs)
    return rebuild.finish()


def settled(model: Model, results: Mapping[TensorIndex, Array]) -> Model:
    """The model with all results of some ops as constants, by tensor; every tensor keeps its index."""
    root = copy(model.root)
    root.buffers, root.subgraphs = list(root.buffers), list(root.subgraphs)
    root.subgraphs[0] = sub = copy(root.subgraphs[0])
    sub.tensors = list(sub.tensors)
    sub.operators = [op for op in sub.operators if results.keys().isdisjoint(indices(op.outputs))]
    for t, values in results.items():
        root.buffers.append(AlignedBuffer(np.frombuffer(values.tobytes(), np.uint8)))
        sub.tensors[t] = table = copy(sub.tensors[t])
        table.buffer = len(root.buffers) - 1
    return Model(root)
