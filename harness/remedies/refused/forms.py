"""Ops that a delegate has no kernel for, or none for one of their options, as ops that it has. Each is a line of the
table of "the op as simpler ones"."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from harness.core.arrays import TensorIndex
from harness.graph.model import Op
from harness.graph.rebuild import CannotRewrite, Rebuild
from harness.remedies.piecewise import plain
from harness.remedies.rank_4 import parameter
from harness.remedies.refused.slices import by_plain_slices
from harness.remedies.split_sum import joined, part

# Under this a row is divided by it, as TensorFlow Lite's L2_NORMALIZATION does.
_LEAST_NORM = 1e-6


def in_another_shape(rebuild: Rebuild, op: Op) -> TensorIndex:
    """SQUEEZE or EXPAND_DIMS as RESHAPE."""
    return rebuild.reshape(rebuild.now(op.inputs[0]), rebuild.shape(op.outputs[0]))


def logarithm_of_softmax(rebuild: Rebuild, op: Op) -> TensorIndex:
    """d - log(sum(exp(d))), d the difference to the maximum, over the last axis."""
    x, last = op.inputs[0], len(rebuild.shape(op.inputs[0])) - 1
    below = rebuild.binary("SUB", x, rebuild.reduce("REDUCE_MAX", x, last))
    total = rebuild.reduce("SUM", rebuild.unary("EXP", below), last)
    return rebuild.binary("SUB", below, rebuild.unary("LOG", total))


def divided_by_length(rebuild: Rebuild, op: Op) -> TensorIndex:
    """L2_NORMALIZATION over the last axis as a product with the reciprocal of the root of the sum of squares."""
    x, last = rebuild.now(op.inputs[0]), len(rebuild.shape(op.inputs[0])) - 1
    length = rebuild.unary("SQRT", rebuild.reduce("SUM", rebuild.binary("MUL", x, x), last))
    least = rebuild.constant(np.asarray([_LEAST_NORM], np.float32))
    length = rebuild.op("MAXIMUM", [length, least], rebuild.shape(length), schema.MaximumMinimumOptionsT())
    return rebuild.binary("DIV", x, length)


def largest_of_negated(rebuild: Rebuild, op: Op) -> TensorIndex:
    """ARG_MIN as ARG_MAX of what is negated: of equals both take the first."""
    if rebuild.graph.tensors[op.inputs[0]].type != "FLOAT32":
        raise CannotRewrite("the negative of an integer may be none")
    options, was = schema.ArgMaxOptionsT(), rebuild.options(op)
    options.outputType = was.outputType
    feeds = [rebuild.unary("NEG", op.inputs[0]), op.inputs[1]]
    dtype = rebuild.graph.tensors[op.outputs[0]].dtype
    return rebuild.op("ARG_MAX", feeds, rebuild.shape(op.outputs[0]), options, dtype=dtype)


def bounded_by_one(rebuild: Rebuild, op: Op) -> TensorIndex:
    """RELU_0_TO_1 as MINIMUM(RELU(x), 1)."""
    one = rebuild.constant(np.ones(1, np.float32))
    above = rebuild.unary("RELU", op.inputs[0])
    return rebuild.op("MINIMUM", [above, one], rebuild.shape(above), schema.MaximumMinimumOptionsT())


def mirrored_by_gather(rebuild: Rebuild, op: Op) -> TensorIndex:
    """MIRROR_PAD of either mode as GATHERs at constant places, one for each axis that grows."""
    widths, x = parameter(rebuild, op.inputs[1]), rebuild.now(op.inputs[0])
    mode = "symmetric" if rebuild.options(op).mode == 1 else "reflect"
    for axis, (before, after) in enumerate(widths.tolist()):
        if before or after:
            places = np.pad(np.arange(rebuild.shape(x)[axis]), (before, after), mode=mode)  # type: ignore[call-overload]
            x = rebuild.on_grid_of(op.outputs[0], rebuild.gather(x, axis, places))
    return x


def exchanged(rebuild: Rebuild, op: Op) -> TensorIndex:
    """A BATCH_MATMUL with a constant left side, A·x, as the transpose of xᵀ·Aᵀ."""
    options, left = rebuild.options(op), parameter(rebuild, op.inputs[0])
    turned = left if options.adjX else np.swapaxes(left, -1, -2)
    right = rebuild.now(op.inputs[1])
    x = right if options.adjY else _turned(rebuild, right)
    return _turned(rebuild, rebuild.batch_matmul(x, rebuild.constant(np.ascontiguousarray(turned))))


def _turned(rebuild: Rebuild, x: TensorIndex) -> TensorIndex:
    rank = len(rebuild.shape(x))
    return rebuild.transpose(x, [*range(rank - 2), rank - 1, rank - 2])


def root_of_mean_square(rebuild: Rebuild, op: Op) -> TensorIndex:
    """L2_POOL_2D as the root of an AVERAGE_POOL_2D of squares: both leave out of a mean what is beyond the border."""
    x = op.inputs[0]
    squares = rebuild.binary("MUL", x, x)
    mean = rebuild.op("AVERAGE_POOL_2D", [squares], rebuild.shape(op.outputs[0]), plain(rebuild, op))
    return rebuild.unary("SQRT", mean)


def added_one_by_one(rebuild: Rebuild, op: Op) -> TensorIndex:
    """ADD_N as ADD of two at a time, from the left as TensorFlow Lite adds them."""
    total = rebuild.now(op.inputs[0])
    for t in op.inputs[1:]:
        total = rebuild.binary("ADD", total, t)
    return total


def one_hot_of_one_row(rebuild: Rebuild, op: Op) -> TensorIndex:
    """ONE_HOT of the places in one row, along the last axis, and a TRANSPOSE where the new axis is another."""
    options, shape = rebuild.options(op), rebuild.shape(op.inputs[0])
    depth, at = int(parameter(rebuild, op.inputs[1]).reshape(-1)[0]), options.axis % (len(shape) + 1)
    if len(shape) == 1 and options.axis == -1:
        raise CannotRewrite("it is of one row along the last axis already")
    places, row = rebuild.now(op.inputs[0]), (math.prod(shape),)
    options.axis = -1
    feeds = [places if shape == row else rebuild.reshape(places, row), *op.inputs[1:]]
    made = rebuild.like(op, feeds, shape=(*row, depth), options=options)
    made = made if shape == row else rebuild.reshape(made, (*shape, depth))
    axes = list(range(len(shape)))
    return made if at == len(shape) else rebuild.transpose(made, [*axes[:at], len(shape), *axes[at:]])


def slopes_written_out(rebuild: Rebuild, op: Op) -> TensorIndex:
    """PRELU with a slope for each channel, or for each place of one image, the batch stacked as its rows; RELU(x) -
    slope · RELU(-x) where the slopes come at run time."""
    slopes, shape = rebuild.values(op.inputs[1]), rebuild.shape(op.inputs[0])
    if slopes is None:
        below = rebuild.binary("MUL", rebuild.unary("RELU", rebuild.unary("NEG", op.inputs[0])), op.inputs[1])
        return rebuild.binary("SUB", rebuild.unary("RELU", op.inputs[0]), below)
    if not shape or rebuild.shape(op.outputs[0]) != shape:
        raise CannotRewrite("its input is a scalar, or broadcast")
    view: tuple[int, ...]
    if slopes.size in (1, shape[-1]) and slopes.shape[-1:] in ((), (slopes.size,)):
        view = shape if len(shape) > 1 else (1, *shape)
        held = np.broadcast_to(slopes.reshape(-1), shape[-1:])
    else:
        whole = (1,) * (3 - len(shape)) + shape
        view = (1, math.prod(whole[:-2]), *whole[-2:])
        held = np.broadcast_to(slopes, shape).reshape(view)
    if view == shape and slopes.ndim and held.size == slopes.size:
        raise CannotRewrite("its slopes are written out already")
    x = rebuild.now(op.inputs[0])
    feeds = [x if view == shape else rebuild.reshape(x, view), rebuild.instead_of(op.inputs[1], held.copy())]
    made = rebuild.like(op, feeds, shape=view)
    return made if view == shape else rebuild.reshape(made, shape)


def joined_around(rebuild: Rebuild, op: Op) -> TensorIndex:
    """DYNAMIC_UPDATE_SLICE at a constant place as CONCATENATIONs, one for each axis that the update does not fill: what
    is before it, the update, and what is behind it."""
    x, made = op.inputs[0], rebuild.now(op.inputs[1])
    shape, size = rebuild.shape(x), rebuild.shape(made)
    # As the op does it: an update that would go beyond the end is moved to where it fits.
    first = np.clip(parameter(rebuild, op.inputs[2]).reshape(-1), 0, np.subtract(shape, size)).tolist()
    for axis in reversed(range(len(shape))):
        if size[axis] == shape[axis]:
            continue
        beside, start, stop = rebuild.now(x), first[axis], first[axis] + size[axis]
        for before in range(axis):
            if size[before] < shape[before]:
                beside = part(rebuild, beside, before, first[before], first[before] + size[before])
        parts = [part(rebuild, beside, axis, 0, start)] if start else []
        parts += [made] + ([part(rebuild, beside, axis, stop, shape[axis])] if stop < shape[axis] else [])
        made = joined(rebuild, parts, axis)
    return made


# These move values as they are, so that quantized ones stay on their grid.
MOVES = frozenset(("SQUEEZE", "EXPAND_DIMS", "MIRROR_PAD", "STRIDED_SLICE"))
OTHER_KINDS: dict[str, Callable[[Rebuild, Op], TensorIndex]] = {
    "SQUEEZE": in_another_shape,
    "EXPAND_DIMS": in_another_shape,
    "LOG_SOFTMAX": logarithm_of_softmax,
    "L2_NORMALIZATION": divided_by_length,
    "ARG_MIN": largest_of_negated,
    "RELU_0_TO_1": bounded_by_one,
    "MIRROR_PAD": mirrored_by_gather,
    "STRIDED_SLICE": by_plain_slices,
    "L2_POOL_2D": root_of_mean_square,
    "ADD_N": added_one_by_one,
    "ONE_HOT": one_hot_of_one_row,
    "PRELU": slopes_written_out,
    "DYNAMIC_UPDATE_SLICE": joined_around,
}
