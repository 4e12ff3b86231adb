"""Between which bounds a tensor's values lie, as far as the graph by itself proves it.

A RELU gives nothing below 0, an ARG_MAX an index of its axis, a product of two tensors without negative values none
either. From there on bounds are carried from op to op. Of quantized tensors they are of the real numbers that the
integers stand for, and what each rounding to a grid may add is within them. Bounds of floats are exact in their sign
and up to rounding otherwise; NaN is within any.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from harness.core.arrays import TensorIndex
from harness.graph.model import NUMPY_TYPES, Graph, Model, Op

Bounds = tuple[float, float]
# Bounds of floats are up to rounding, which a whole number would not forgive: far more than any chain of ops makes.
_ROUNDINGS = 2.0**-12
ANYTHING: Bounds = (-math.inf, math.inf)

# Every value of the result is one of the first operand's, or between two of them.
_PASSING = frozenset((
    "RESHAPE", "TRANSPOSE", "SLICE", "STRIDED_SLICE", "SQUEEZE", "EXPAND_DIMS", "GATHER", "GATHER_ND", "TILE",
    "BROADCAST_TO", "REVERSE_V2", "SPACE_TO_DEPTH", "DEPTH_TO_SPACE", "BATCH_TO_SPACE_ND", "SPLIT_V", "UNPACK",
    "MIRROR_PAD", "MAX_POOL_2D", "AVERAGE_POOL_2D", "REDUCE_MAX", "REDUCE_MIN", "MEAN", "RESIZE_BILINEAR",
    "RESIZE_NEAREST_NEIGHBOR", "QUANTIZE", "DEQUANTIZE",
))  # fmt: skip
# Those, and zeros.
_PADDED = frozenset(("PAD", "SPACE_TO_BATCH_ND"))
# Where the operands lie in the op's list of which the result's values are.
_JOINED = {
    "CONCATENATION": slice(None),
    "PACK": slice(None),
    "SELECT": slice(1, 3),
    "SELECT_V2": slice(1, 3),
    "DYNAMIC_UPDATE_SLICE": slice(0, 2),
    "SPLIT": slice(1, 2),
    "EMBEDDING_LOOKUP": slice(1, 2),
    "ONE_HOT": slice(2, 4),
    "FILL": slice(1, 2),
}
# Whatever the operands are.
_FIXED: dict[str, Bounds] = {
    "LOGISTIC": (0.0, 1.0),
    "SOFTMAX": (0.0, 1.0),
    "TANH": (-1.0, 1.0),
    "SIN": (-1.0, 1.0),
    "COS": (-1.0, 1.0),
    "SIGN": (-1.0, 1.0),
    "EXP": (0.0, math.inf),
    "SQRT": (0.0, math.inf),
    "SQUARED_DIFFERENCE": (0.0, math.inf),
    "ZEROS_LIKE": (0.0, 0.0),
}
_CLAMPS: dict[str, Bounds] = {
    "RELU": (0.0, math.inf),
    "RELU6": (0.0, 6.0),
    "RELU_0_TO_1": (0.0, 1.0),
    "RELU_N1_TO_1": (-1.0, 1.0),
}
_FUSED: dict[int, Bounds] = {
    schema.ActivationFunctionType.RELU: _CLAMPS["RELU"],
    schema.ActivationFunctionType.RELU6: _CLAMPS["RELU6"],
    schema.ActivationFunctionType.RELU_N1_TO_1: _CLAMPS["RELU_N1_TO_1"],
    schema.ActivationFunctionType.TANH: (-1.0, 1.0),
}
# Above 0 they give nothing below it, and nothing above their operand; below 0 nothing under their least value.
_BENT = {"ELU": -1.0, "HARD_SWISH": -0.375, "GELU": -0.2}
_ROUNDED: dict[str, Callable[[float], float]] = {"FLOOR": math.floor, "CEIL": math.ceil, "ROUND": round}


class Ranges:
    """The bounds of the tensors of one graph. Constants are read only where a bound needs them."""

    def __init__(self, model: Model, graph: Graph) -> None:
        self._model, self._graph = model, graph
        self._known: dict[TensorIndex, Bounds] = {}
        for op in graph.ops:
            for place, t in enumerate(op.outputs):
                self._known[t] = self._made(op, place)

    def of(self, tensor: TensorIndex) -> Bounds:
        """(least, largest) of a tensor's values; infinite where nothing is known, the type's own ends for integers."""
        if tensor < 0:
            raise IndexError("an operand that is not there")
        if tensor not in self._known:
            self._known[tensor] = self._given(tensor)
        return self._known[tensor]

    def _given(self, t: TensorIndex) -> Bounds:
        tensor = self._graph.tensors[t]
        values = self._model.constant(t, self._graph.subgraph) if tensor.constant else None
        if values is None or not values.size or values.dtype.kind not in "fiub":
            return self._whole(t)
        if tensor.quantized and tensor.grid is None:
            return ANYTHING
        ends = np.stack([values.min(), values.max()])  # of the integers: a table of them as real numbers is larger
        held = ends if tensor.grid is None else tensor.grid.real(ends)
        least, largest = held[0].item(), held[1].item()
        return self._whole(t) if math.isnan(least) or math.isnan(largest) else (least, largest)

    def _whole(self, t: TensorIndex) -> Bounds:
        """What the type can hold."""
        tensor = self._graph.tensors[t]
        if tensor.grid is not None:
            return tensor.grid.range
        dtype = np.dtype(NUMPY_TYPES[tensor.type]) if tensor.type in NUMPY_TYPES else None
        if dtype is None or dtype.kind not in "iub" or tensor.quantized:
            return ANYTHING
        return (0, 1) if dtype.kind == "b" else (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))

    def _made(self, op: Op, place: int) -> Bounds:
        t = op.outputs[place]
        whole = self._whole(t)
        try:
            found = self._bounds(op, place)
        except (IndexError, ValueError, OverflowError):  # an op without its operands; infinity less infinity
            return whole
        if found is None or math.isnan(found[0]) or math.isnan(found[1]):
            found = ANYTHING
        fused = self._activation(op)
        if fused:
            found = _clamped(found if fused in _FUSED else ANYTHING, _FUSED.get(fused, ANYTHING))
        tensor = self._graph.tensors[t]
        if tensor.grid is not None:
            return _clamped(_rounded(found, tensor.grid.step), whole)  # a grid saturates
        if whole != ANYTHING:  # other integers wrap around
            return found if whole[0] <= found[0] and found[1] <= whole[1] else whole
        with np.errstate(over="ignore"):
            return float(np.float32(found[0])), float(np.float32(found[1]))

    def _bounds(self, op: Op, place: int) -> Bounds | None:
        name, feeds = op.name, op.inputs
        if name in _FIXED:
            return _FIXED[name]
        if name in _JOINED:
            return _joined([self.of(i) for i in feeds[_JOINED[name]]])
        if name in ("ARG_MAX", "ARG_MIN"):
            return 0, max(self._graph.tensors[feeds[0]].shape or (2**31,)) - 1
        if name == "SHAPE":
            return 0, 2**31 - 1
        if name in ("CAST", "TOPK_V2"):
            return self._cast(op) if name == "CAST" else self._largest(op, place)
        if not feeds or feeds[0] < 0:
            return None
        x = self.of(feeds[0])
        if name in _PASSING:
            return x
        if name in _PADDED:
            return _joined([x, (0.0, 0.0)])
        if name == "PADV2":
            return _joined([x, self.of(feeds[2])])
        if name in _CLAMPS:
            return _clamped(x, _CLAMPS[name])
        if len(feeds) > 1 and feeds[1] >= 0:
            return self._of_two(op, x, self.of(feeds[1])) if name in _OF_TWO else self._sum(op, x)
        return _of_one(name, x)

    def _of_two(self, op: Op, x: Bounds, y: Bounds) -> Bounds | None:
        if op.name == "MUL" and op.inputs[0] == op.inputs[1]:
            return _square(x)
        return _OF_TWO[op.name](x, y)

    def _sum(self, op: Op, x: Bounds) -> Bounds | None:
        shapes = [self._graph.tensors[t].shape for t in (op.inputs[0], op.outputs[0])]
        if op.name != "SUM" or None in shapes:
            return None
        terms = math.prod(shapes[0] or ()) // max(math.prod(shapes[1] or ()), 1)
        return (x[0] * terms, x[1] * terms) if terms else (0.0, 0.0)

    def _cast(self, op: Op) -> Bounds | None:
        x, kinds = self.of(op.inputs[0]), [self._graph.tensors[t].type for t in (op.inputs[0], op.outputs[0])]
        if kinds[1] == "BOOL":
            return None  # true is whatever is not zero, a fraction as well
        if kinds[0].startswith("FLOAT") and not kinds[1].startswith("FLOAT"):
            if math.inf in (-x[0], x[1]):
                return None
            return math.trunc(x[0] - abs(x[0]) * _ROUNDINGS), math.trunc(x[1] + abs(x[1]) * _ROUNDINGS)
        return x

    def _largest(self, op: Op, place: int) -> Bounds:
        if place == 0:
            return self.of(op.inputs[0])
        return 0, (self._graph.tensors[op.inputs[0]].shape or (2**31,))[-1] - 1

    def _activation(self, op: Op) -> int:
        options = self._model.root.subgraphs[self._graph.subgraph].operators[op.index].builtinOptions
        return int(getattr(options, "fusedActivationFunction", 0) or 0)


def _of_one(name: str, x: Bounds) -> Bounds | None:
    least, largest = x
    if name == "ABS":
        return (max(least, -largest, 0.0), max(-least, largest))
    if name == "NEG":
        return -largest, -least
    if name == "SQUARE":
        return _square(x)
    if name in _ROUNDED:
        keep = _ROUNDED[name]
        return (least if math.isinf(least) else keep(least)), (largest if math.isinf(largest) else keep(largest))
    if name in _BENT:
        return (0.0 if least >= 0 else _BENT[name]), max(largest, 0.0)
    if name == "LEAKY_RELU" and least >= 0:
        return x
    return (0.0, math.inf) if name == "RSQRT" and least > 0 else None  # of -0 it is -infinity


def _square(x: Bounds) -> Bounds:
    ends = [x[0] * x[0], x[1] * x[1]]
    return (0.0 if x[0] <= 0 <= x[1] else min(ends)), max(ends)


def _product(x: Bounds, y: Bounds) -> Bounds:
    """Zero times infinity is a bound of 0: no finite value is beyond it."""
    ends = [0.0 if 0 in (a, b) else a * b for a in x for b in y]
    return min(ends), max(ends)


def _quotient(x: Bounds, y: Bounds) -> Bounds | None:
    return (0.0, math.inf) if x[0] >= 0 and y[0] > 0 else None  # a zero may be -0


def _remainder(x: Bounds, y: Bounds) -> Bounds | None:
    """Of FLOOR_MOD, which has the divisor's sign."""
    return (0, y[1]) if y[0] > 0 else None


def _rounded(x: Bounds, step: float) -> Bounds:
    """With what rounding to a grid may add; zero is on each grid, so that no sign changes."""
    least, largest = x[0] - step, x[1] + step
    return (max(least, 0.0) if x[0] >= 0 else least), (min(largest, 0.0) if x[1] <= 0 else largest)


def _clamped(x: Bounds, to: Bounds) -> Bounds:
    return min(max(x[0], to[0]), to[1]), min(max(x[1], to[0]), to[1])


def _joined(several: list[Bounds]) -> Bounds:
    return min(least for least, _ in several), max(largest for _, largest in several)


_OF_TWO: dict[str, Callable[[Any, Any], Bounds | None]] = {
    "ADD": lambda x, y: (x[0] + y[0], x[1] + y[1]),
    "SUB": lambda x, y: (x[0] - y[1], x[1] - y[0]),
    "MUL": _product,
    "DIV": _quotient,
    "MAXIMUM": lambda x, y: (max(x[0], y[0]), max(x[1], y[1])),
    "MINIMUM": lambda x, y: (min(x[0], y[0]), min(x[1], y[1])),
    "FLOOR_MOD": _remainder,
}
