"""Shapes of results from shapes of operands, for the ops that reproducers are made of most."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.core.arrays import Array

Shape = tuple[int, ...]

_LIKE_FIRST = frozenset(
    ("RELU", "RELU6", "RELU_N1_TO_1", "TANH", "LOGISTIC", "GELU", "EXP", "LOG", "SQRT", "RSQRT", "ABS", "NEG", "SQUARE",
     "ELU", "HARD_SWISH", "LEAKY_RELU", "SIN", "COS", "FLOOR", "CEIL", "ROUND", "SOFTMAX", "LOG_SOFTMAX", "CAST",
     "DEQUANTIZE", "CUMSUM", "L2_NORMALIZATION"),
)  # fmt: skip
_BROADCAST = frozenset(
    ("ADD", "SUB", "MUL", "DIV", "POW", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE", "FLOOR_DIV", "PRELU", "EQUAL",
     "NOT_EQUAL", "LESS", "GREATER", "LESS_EQUAL", "GREATER_EQUAL", "LOGICAL_AND", "LOGICAL_OR", "SELECT_V2"),
)  # fmt: skip
_REDUCES = frozenset(("SUM", "MEAN", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD"))


def result_shape(name: str, shapes: Sequence[Shape], constants: Sequence[Array | None], options: Any) -> Shape | None:
    """The shape of an op's (first) result; None for an op that is not known here.

    `constants` has the values of each operand that is one.

    Raises:
        ValueError: the operands do not go together.
    """
    if name in _LIKE_FIRST:
        return shapes[0]
    if name in _BROADCAST:
        return tuple(np.broadcast_shapes(*shapes))
    if name == "BATCH_MATMUL":
        a, b = (list(s) for s in shapes[:2])
        rows, terms = (a[-1], a[-2]) if options.adjX else (a[-2], a[-1])
        others, columns = (b[-1], b[-2]) if options.adjY else (b[-2], b[-1])
        if terms != others:
            raise ValueError(f"{terms} terms cannot be summed with {others}")
        return (*np.broadcast_shapes(tuple(a[:-2]), tuple(b[:-2])), rows, columns)
    if name == "FULLY_CONNECTED" and options.keepNumDims:
        if shapes[0][-1] != shapes[1][1]:
            raise ValueError(f"{shapes[0][-1]} terms cannot be summed with {shapes[1][1]}")
        return (*shapes[0][:-1], shapes[1][0])
    if name == "CONCATENATION":
        axis = options.axis % len(shapes[0])
        rests = {(*s[:axis], *s[axis + 1 :]) for s in shapes}
        if len(rests) != 1:
            raise ValueError(f"{shapes} cannot be joined")
        return (*shapes[0][:axis], sum(s[axis] for s in shapes), *shapes[0][axis + 1 :])
    if any(values is None for values in constants[1:]):
        return None
    return _with_parameters(name, shapes[0], [v for v in constants[1:] if v is not None], options)


def _with_parameters(name: str, shape: Shape, parameters: list[Array], options: Any) -> Shape | None:
    """Ops whose other operands are constants that say what to do."""
    if name in ("PAD", "PADV2", "MIRROR_PAD"):
        return tuple(d + int(w.sum()) for d, w in zip(shape, parameters[0], strict=True))
    if name == "RESHAPE" and parameters:
        target = tuple(int(d) for d in parameters[0].reshape(-1))
        if min(target, default=1) < 0 or math.prod(target) != math.prod(shape):
            raise ValueError(f"{shape} cannot become {target}")
        return target
    if name == "TRANSPOSE":
        return tuple(shape[int(axis)] for axis in parameters[0])
    if name == "SLICE":
        begin, size = (p.reshape(-1).tolist() for p in parameters[:2])
        if any(s < 0 or b + s > d for b, s, d in zip(begin, size, shape, strict=True)):
            raise ValueError(f"{begin}, {size} is no part of {shape}")
        return tuple(int(s) for s in size)
    if name in _REDUCES:
        axes = {int(axis) % len(shape) for axis in parameters[0].reshape(-1)}
        if options.keepDims:
            return tuple(1 if i in axes else d for i, d in enumerate(shape))
        return tuple(d for i, d in enumerate(shape) if i not in axes)
    return None
