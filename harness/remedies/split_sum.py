"""A long sum as short ones, their results added pairwise in a tree.

A float16 accumulator stagnates once it is large against the next term: over n equal terms of a sum that is kept in
float16, the relative error grows like n·2^-11 (Higham, *Accuracy and Stability of Numerical Algorithms*, 4.2); summed
pairwise it grows like log2(n)·2^-11. So K terms become pieces of about √K, and these are added in a tree. Equal to the
whole sum in real arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from harness.core.arrays import TensorIndex
from harness.graph.model import Op
from harness.graph.rebuild import CannotRewrite, Rebuild

# Shorter sums lose too little for a split to help.
SHORT = 16


def pieces(count: int, least: int = 4) -> tuple[int, int, int]:
    """(number of pieces, terms in each, zeros appended) for a sum over `count` terms.

    The pieces have the power of two nearest to the root from below, else the divisor nearest to it within a factor of
    4, else zeros fill the last one up.
    """
    root = 1
    while 4 * root * root <= count:
        root *= 2
    root = max(root, least)
    divisors = [d for d in range(max(root // 4, 2), root * 4 + 1) if count % d == 0]
    piece = min(divisors, key=lambda d: abs(math.log(d / root)), default=root)
    number = -(-count // piece)
    return number, piece, number * piece - count


def split_sum(rebuild: Rebuild, op: Op) -> None:
    """Replace a BATCH_MATMUL, FULLY_CONNECTED, CONV_2D, SUM or MEAN. Raises CannotRewrite."""
    how = {
        "BATCH_MATMUL": _batch_matmul,
        "FULLY_CONNECTED": _fully_connected,
        "CONV_2D": _conv,
        "SUM": _reduction,
        "MEAN": _reduction,
    }.get(op.name)
    if how is None:
        raise CannotRewrite(f"{op.name} is no sum that can be split")
    if any(t >= 0 and rebuild.graph.tensors[t].type not in ("FLOAT32", "INT32", "FLOAT16") for t in op.inputs):
        raise CannotRewrite("only float32 sums are split")
    rebuild.replace(op.outputs[0], how(rebuild, op))


def add_pairwise(rebuild: Rebuild, terms: TensorIndex, axis: int) -> TensorIndex:
    """The sum over an axis, which is kept with size 1: halves are added until one is left; an odd one joins later."""
    while (count := rebuild.shape(terms)[axis]) > 1:
        half = count // 2
        added = rebuild.binary("ADD", part(rebuild, terms, axis, 0, half), part(rebuild, terms, axis, half, 2 * half))
        terms = joined(rebuild, [added, part(rebuild, terms, axis, 2 * half, count)], axis) if count % 2 else added
    return terms


def part(rebuild: Rebuild, x: TensorIndex, axis: int, start: int, stop: int) -> TensorIndex:
    """Elements `start` … `stop`-1 along an axis, by SLICE."""
    shape = list(rebuild.shape(x))
    begin = [0] * len(shape)
    begin[axis], shape[axis] = start, stop - start
    feeds = [x, rebuild.constant(np.asarray(begin, np.int32)), rebuild.constant(np.asarray(shape, np.int32))]
    return rebuild.op("SLICE", feeds, shape, schema.SliceOptionsT())


def joined(rebuild: Rebuild, parts: Sequence[TensorIndex], axis: int) -> TensorIndex:
    """CONCATENATION along an axis."""
    shape = list(rebuild.shape(parts[0]))
    shape[axis] = sum(rebuild.shape(p)[axis] for p in parts)
    options = schema.ConcatenationOptionsT()
    options.axis = axis
    return rebuild.op("CONCATENATION", list(parts), shape, options)


def _batch_matmul(rebuild: Rebuild, op: Op) -> TensorIndex:
    options = rebuild.options(op)
    a, b = (rebuild.now(t) for t in op.inputs)
    if options.adjX:
        a = rebuild.transpose(a, [*range(len(rebuild.shape(a)) - 2), *_last_two(rebuild, a)])
    *batch, rows, terms = rebuild.shape(a)
    if list(rebuild.shape(b)[:-2]) != batch:
        raise CannotRewrite("its operands have different batches")
    columns = rebuild.shape(b)[-2 if options.adjY else -1]
    _long_enough(terms)
    number, piece, lacking = pieces(terms)
    a, b = _filled(rebuild, a, -1, lacking), _filled(rebuild, b, -1 if options.adjY else -2, lacking)
    many = math.prod(batch)
    a = rebuild.transpose(rebuild.reshape(a, (many, rows, number, piece)), (0, 2, 1, 3))
    if options.adjY:
        b = rebuild.transpose(rebuild.reshape(b, (many, columns, number, piece)), (0, 2, 1, 3))
    else:
        b = rebuild.reshape(b, (many, number, piece, columns))
    partial = rebuild.batch_matmul(a, b, adj_y=bool(options.adjY))
    return rebuild.reshape(add_pairwise(rebuild, partial, 1), (*batch, rows, columns))


def _fully_connected(rebuild: Rebuild, op: Op) -> TensorIndex:
    options, x = rebuild.options(op), rebuild.now(op.inputs[0])
    weights = rebuild.values(op.inputs[1])
    if weights is None or weights.ndim != 2 or weights.dtype != np.float32:
        raise CannotRewrite("its weights are no float constant")
    columns, terms = weights.shape
    _long_enough(terms)
    rows = math.prod(rebuild.shape(x)) // terms
    number, piece, lacking = pieces(terms)
    filled = np.pad(weights, ((0, 0), (0, lacking)))
    blocks = filled.T.reshape(1, number, piece, columns)
    x = _filled(rebuild, rebuild.reshape(x, (1, 1, rows, terms)), -1, lacking)
    x = rebuild.transpose(rebuild.reshape(x, (1, rows, number, piece)), (0, 2, 1, 3))
    partial = rebuild.batch_matmul(x, rebuild.constant(np.ascontiguousarray(blocks)))
    result = rebuild.reshape(add_pairwise(rebuild, partial, 1), rebuild.shape(op.outputs[0]))
    if len(op.inputs) > 2 and op.inputs[2] >= 0:
        result = rebuild.binary("ADD", result, op.inputs[2])
    return rebuild.activated(result, options)


def _conv(rebuild: Rebuild, op: Op) -> TensorIndex:
    options, x = rebuild.options(op), rebuild.now(op.inputs[0])
    weights = rebuild.values(op.inputs[1])
    if weights is None or weights.ndim != 4 or weights.dtype != np.float32:
        raise CannotRewrite("its weights are no float constant")
    channels = weights.shape[3]
    if channels != rebuild.shape(x)[-1]:
        raise CannotRewrite("it is a grouped convolution")
    _long_enough(channels)
    _, piece, _ = pieces(channels)
    nothing = rebuild.constant(np.zeros(weights.shape[0], np.float32))
    alone = rebuild.options(op)
    alone.fusedActivationFunction = schema.ActivationFunctionType.NONE
    shape = rebuild.shape(op.outputs[0])
    partial = []
    for start in range(0, channels, piece):
        stop = min(start + piece, channels)
        kernel = rebuild.constant(np.ascontiguousarray(weights[..., start:stop]))
        feeds = [part(rebuild, x, 3, start, stop), kernel, nothing]
        partial.append(rebuild.like(op, feeds, shape=shape, options=alone))
    while len(partial) > 1:
        paired = [rebuild.binary("ADD", *two) for two in zip(partial[::2], partial[1::2], strict=False)]
        partial = paired + partial[2 * len(paired) :]
    result = partial[0]
    if len(op.inputs) > 2 and op.inputs[2] >= 0:
        result = rebuild.binary("ADD", result, op.inputs[2])
    return rebuild.activated(result, options)


def _reduction(rebuild: Rebuild, op: Op) -> TensorIndex:
    x, axes = rebuild.now(op.inputs[0]), rebuild.values(op.inputs[1])
    if axes is None:
        raise CannotRewrite("its axes are no constant")
    shape = rebuild.shape(x)
    summed = sorted({int(axis) % len(shape) for axis in axes.reshape(-1)})
    if not summed or summed != list(range(summed[0], summed[-1] + 1)):
        raise CannotRewrite("its axes are not neighbours")
    outer, inner = math.prod(shape[: summed[0]]), math.prod(shape[summed[-1] + 1 :])
    terms = math.prod(shape) // (outer * inner)
    _long_enough(terms)
    number, piece, lacking = pieces(terms)
    x = _filled(rebuild, rebuild.reshape(x, (1, outer, terms, inner)), 2, lacking)
    # A mean of means, all of one size, is the mean; it needs no value larger than its terms.
    mean = op.name == "MEAN"
    halves = _halved if mean else add_pairwise
    x = halves(rebuild, rebuild.reshape(x, (outer, number, piece, inner)), 2)
    x = halves(rebuild, x, 1)
    if mean and (rest := _power_below(number) * _power_below(piece) / terms) != 1:
        x = rebuild.binary("MUL", x, rebuild.constant(np.asarray([rest], np.float32)))
    return rebuild.reshape(x, rebuild.shape(op.outputs[0]))


def _halved(rebuild: Rebuild, terms: TensorIndex, axis: int) -> TensorIndex:
    """The pairwise sum, divided by the largest power of two in it from the start, so that it never grows."""
    share = 1.0 / _power_below(rebuild.shape(terms)[axis])
    if share == 1.0:
        return add_pairwise(rebuild, terms, axis)
    return add_pairwise(rebuild, rebuild.binary("MUL", terms, rebuild.constant(np.asarray([share], np.float32))), axis)


def _power_below(count: int) -> int:
    return 1 << (count.bit_length() - 1)


def _last_two(rebuild: Rebuild, x: TensorIndex) -> tuple[int, int]:
    rank = len(rebuild.shape(x))
    return rank - 1, rank - 2


def _filled(rebuild: Rebuild, x: TensorIndex, axis: int, zeros: int) -> TensorIndex:
    if not zeros:
        return x
    shape = list(rebuild.shape(x))
    axis %= len(shape)
    shape[axis] = zeros
    return joined(rebuild, [x, rebuild.constant(np.zeros(shape, np.float32))], axis)


def _long_enough(terms: int) -> None:
    if terms < SHORT:
        raise CannotRewrite(f"it sums over {terms} terms only")
