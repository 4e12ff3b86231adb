"""BROADCAST_TO as a product with ones, or as copies side by side.

A product broadcasts as BROADCAST_TO does, and every GPU has it: times a constant of ones that is long only where the
operand is repeated. Times 1 nothing is rounded, but LiteRT's own MUL clamps, and makes the largest number of an
infinity. What is no float32 or int32 is joined from copies. Both in rank 4 and with neighbouring axes in one:
grouped-query attention repeats heads in rank 5, which no GPU takes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from harness.core.arrays import TensorIndex
from harness.graph.model import Op
from harness.graph.rebuild import CannotRewrite, Rebuild
from harness.remedies.rank_4 import wide
from harness.remedies.split_sum import joined

# Copies along one axis.
MOST_COPIES = 64
_MULTIPLIED = ("FLOAT32", "INT32")


def broadcast_by_product(rebuild: Rebuild, op: Op) -> None:
    """A BROADCAST_TO, or a TILE of axes of length 1. Raises CannotRewrite."""
    given, wanted = _shapes(rebuild, op)
    if rebuild.graph.tensors[op.outputs[0]].type not in _MULTIPLIED or rebuild.graph.tensors[op.outputs[0]].quantized:
        raise CannotRewrite("it repeats neither float32 nor int32")
    short, long = _merged(given, wanted)
    ones = np.ones([b if a != b else 1 for a, b in zip(short, long, strict=True)], _dtype(rebuild, op))
    made = rebuild.binary("MUL", _seen_as(rebuild, rebuild.now(op.inputs[0]), short), rebuild.constant(ones))
    _give(rebuild, op, made)


def broadcast_by_copies(rebuild: Rebuild, op: Op) -> None:
    """The same by CONCATENATION of up to 64 copies along each axis; quantized values stay on their grid. Raises
    CannotRewrite."""
    given, wanted = _shapes(rebuild, op)
    short, long = _merged(given, wanted)
    made = _seen_as(rebuild, rebuild.now(op.inputs[0]), short)
    for axis, (have, count) in enumerate(zip(short, long, strict=True)):
        if have != count:
            if count > MOST_COPIES:
                raise CannotRewrite(f"it repeats its operand {count} times")
            made = rebuild.on_grid_of(op.outputs[0], joined(rebuild, [made] * count, axis))
    _give(rebuild, op, made)


def _shapes(rebuild: Rebuild, op: Op) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The operand's shape with ones in front, and the result's."""
    if op.name not in ("BROADCAST_TO", "TILE"):
        raise CannotRewrite("it is no BROADCAST_TO")
    wanted, given = rebuild.shape(op.outputs[0]), rebuild.shape(op.inputs[0])
    if rebuild.graph.tensors[op.outputs[0]].shape is None or 0 in wanted:
        raise CannotRewrite("its result has no static shape, or no elements")
    given = (*[1] * (len(wanted) - len(given)), *given)
    if given == wanted:
        raise CannotRewrite("it repeats nothing")
    if any(a not in (1, b) for a, b in zip(given, wanted, strict=True)):
        raise CannotRewrite("it repeats axes that are longer than 1")
    return given, wanted


def _merged(given: Sequence[int], wanted: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Both shapes in rank 4: neighbouring axes that are both repeated, or both not, are one. Raises CannotRewrite."""
    groups: list[tuple[bool, list[int]]] = []
    for have, count in zip(given, wanted, strict=True):
        if count == 1:
            continue
        if groups and groups[-1][0] is (have != count):
            groups[-1][1].append(count)
        else:
            groups.append((have != count, [count]))
    long = [math.prod(sizes) for _, sizes in groups]
    if len(long) > 4:
        raise CannotRewrite("it repeats axes in more than four places")
    short = [1 if repeated else size for (repeated, _), size in zip(groups, long, strict=True)]
    return wide(short), wide(long)


def _dtype(rebuild: Rebuild, op: Op) -> np.dtype[np.generic]:
    dtype = rebuild.graph.tensors[op.outputs[0]].dtype
    if dtype is None:
        raise CannotRewrite("its values are of a type that numpy has not")
    return np.dtype(dtype)


def _give(rebuild: Rebuild, op: Op, made: TensorIndex) -> None:
    rebuild.replace(op.outputs[0], _seen_as(rebuild, made, rebuild.shape(op.outputs[0])))


def _seen_as(rebuild: Rebuild, x: TensorIndex, shape: tuple[int, ...]) -> TensorIndex:
    return x if rebuild.shape(x) == shape else rebuild.reshape(x, shape)
