"""Ops on parts of their operands, or on operands that were cut, repeated or filled up before: an op of the same kind
then has nothing to do that its kernel does not know."""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from harness.core.arrays import TensorIndex
from harness.graph.model import Op
from harness.graph.rebuild import CannotRewrite, Rebuild
from harness.remedies.rank_4 import parameter
from harness.remedies.split_sum import joined, part

# Groups or images that are computed one by one.
MOST_PARTS = 64


def plain(rebuild: Rebuild, op: Op) -> Any:
    """The op's options without a fused activation."""
    options = rebuild.options(op)
    if hasattr(options, "fusedActivationFunction"):
        options.fusedActivationFunction = schema.ActivationFunctionType.NONE
    return options


def convolved_by_group(rebuild: Rebuild, op: Op) -> TensorIndex:
    """A CONV_2D in groups, each as a convolution of its own; without its activation."""
    x, kernel = rebuild.now(op.inputs[0]), parameter(rebuild, op.inputs[1])
    bias = parameter(rebuild, op.inputs[2]) if len(op.inputs) > 2 and op.inputs[2] >= 0 else None
    out, depth = kernel.shape[0], kernel.shape[3]
    groups = rebuild.shape(x)[3] // depth
    _several(groups, "group")
    each = out // groups
    shape = (*rebuild.shape(op.outputs[0])[:3], each)
    made = []
    for g in range(groups):
        mine = slice(g * each, (g + 1) * each)
        feeds = [part(rebuild, x, 3, g * depth, (g + 1) * depth), rebuild.constant(kernel[mine])]
        if bias is not None:
            feeds.append(rebuild.constant(bias[mine]))
        made.append(rebuild.like(op, feeds, shape=shape, options=plain(rebuild, op)))
    return joined(rebuild, made, 3)


def repeated_before(rebuild: Rebuild, op: Op) -> TensorIndex:
    """A DEPTHWISE_CONV_2D with a multiplier as one without, on channels repeated before; without its activation."""
    x, options = rebuild.now(op.inputs[0]), plain(rebuild, op)
    channels, out = rebuild.shape(x)[3], rebuild.shape(op.outputs[0])[3]
    if out == channels:
        raise CannotRewrite("its multiplier is 1")
    options.depthMultiplier = 1
    wide = rebuild.gather(x, 3, np.repeat(np.arange(channels), out // channels))
    return rebuild.like(op, [wide, *op.inputs[1:]], shape=rebuild.shape(op.outputs[0]), options=options)


def sliced_from_whole(rebuild: Rebuild, op: Op) -> TensorIndex:
    """A TRANSPOSE_CONV with SAME padding as one with VALID, whose border is cut off; without its activation.

    The whole result has (in - 1) · stride + kernel rows; of those that are too many, the smaller half comes before, as
    the operation is the gradient of a convolution with that padding.
    """
    options, x, kernel = plain(rebuild, op), rebuild.now(op.inputs[2]), rebuild.shape(op.inputs[1])
    if options.padding != schema.Padding.SAME:
        raise CannotRewrite("its padding is VALID already")
    options.padding = schema.Padding.VALID
    n, *size, channels = rebuild.shape(op.outputs[0])
    strides = (options.strideH, options.strideW)
    whole = [(d - 1) * s + k for d, s, k in zip(rebuild.shape(x)[1:3], strides, kernel[1:3], strict=True)]
    spare = [w - d for w, d in zip(whole, size, strict=True)]
    if min(spare) < 0 or max(spare) == 0:
        raise CannotRewrite("there is nothing to cut off")
    feeds = [rebuild.constant(np.asarray([n, *whole, channels], np.int32)), *op.inputs[1:]]
    made = rebuild.like(op, feeds, shape=(n, *whole, channels), options=options)
    for axis, (more, wanted) in enumerate(zip(spare, size, strict=True), 1):
        made = part(rebuild, made, axis, more // 2, more // 2 + wanted) if more else made
    return made


def gathered_backwards(rebuild: Rebuild, op: Op) -> TensorIndex:
    """A REVERSE_V2 as a GATHER with constant places for each axis."""
    x = rebuild.now(op.inputs[0])
    shape = rebuild.shape(x)
    for axis in parameter(rebuild, op.inputs[1]).reshape(-1) % len(shape):
        x = rebuild.gather(x, int(axis), np.arange(shape[axis])[::-1])
    return x


def image_by_image(rebuild: Rebuild, op: Op) -> TensorIndex:
    """An op on the images of a batch one at a time."""
    x, (batch, *rest) = rebuild.now(op.inputs[0]), rebuild.shape(op.outputs[0])
    _several(batch, "image")
    images = [part(rebuild, x, 0, i, i + 1) for i in range(batch)]
    return joined(rebuild, [rebuild.like(op, [image], shape=(1, *rest)) for image in images], 0)


def largest_of_fours(rebuild: Rebuild, op: Op) -> TensorIndex:
    """A TOPK_V2 over a multiple of four values: the smallest value of each row fills it up, and comes behind its
    equals, of which the first is taken."""
    x = rebuild.now(op.inputs[0])
    last = len(rebuild.shape(x)) - 1
    lacking = -rebuild.shape(x)[last] % 4
    if not lacking:
        raise CannotRewrite("it chooses among a multiple of four values")
    smallest = rebuild.reduce("REDUCE_MIN", x, last)
    return rebuild.like(op, [joined(rebuild, [x, *[smallest] * lacking], last), op.inputs[1]], outputs=op.outputs)


def repeated_elements(rebuild: Rebuild, op: Op) -> TensorIndex:
    """A RESIZE_NEAREST_NEIGHBOR by whole factors: each column, then each row, joined with itself as often."""
    options, made = rebuild.options(op), rebuild.now(op.inputs[0])
    n, *held, channels = rebuild.shape(made)
    wanted = rebuild.shape(op.outputs[0])[1:3]
    if options.alignCorners or any(w % h for w, h in zip(wanted, held, strict=True)):
        raise CannotRewrite("it does not enlarge by whole factors, each element alike")
    (rows, columns), (high, wide) = held, wanted
    _several(high * wide // (rows * columns), "copy of each element", "copies of each element")
    if wide > columns:
        across = rebuild.reshape(made, (n * rows, columns, 1, channels))
        made = rebuild.reshape(joined(rebuild, [across] * (wide // columns), 2), (n, rows, wide, channels))
    if high > rows:
        down = rebuild.reshape(made, (n * rows, 1, wide, channels))
        made = rebuild.reshape(joined(rebuild, [down] * (high // rows), 1), (n, high, wide, channels))
    return made


def _several(count: int, what: str, many: str = "") -> None:
    if count < 2:
        raise CannotRewrite(f"it has one {what} only")
    if count > MOST_PARTS:
        raise CannotRewrite(f"it has {count} {many or what + 's'}")
