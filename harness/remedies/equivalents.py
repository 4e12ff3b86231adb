"""One op as others that mean the same: another op, another form of its operands, another fusion.

Where a kernel is plainly wrong, the same thing asked differently often reaches another kernel that is not.
"""

from __future__ import annotations

import math

import numpy as np

from harness.core.arrays import TensorIndex
from harness.graph.model import Op
from harness.graph.rebuild import CannotRewrite, Rebuild
from harness.remedies.rank_4 import ELEMENTWISE, parameter
from harness.remedies.split_sum import joined, part

# A broadcast axis of up to this many copies is written out as a CONCATENATION.
MOST_COPIES = 64


def pad_by_concatenation(rebuild: Rebuild, op: Op) -> None:
    """A PAD or PADV2 as CONCATENATIONs with constants, one for each axis that grows."""
    if op.name not in ("PAD", "PADV2"):
        raise CannotRewrite("it is no PAD")
    tensor = rebuild.graph.tensors[op.outputs[0]]
    if tensor.quantized and tensor.grid is None:
        raise CannotRewrite("its values have scales by channel")
    widths, fill = parameter(rebuild, op.inputs[1]), 0 if tensor.grid is None else tensor.grid.zero
    if op.name == "PADV2":
        fill = parameter(rebuild, op.inputs[2]).reshape(-1)[0]
    x, dtype = rebuild.now(op.inputs[0]), tensor.dtype
    for axis, (before, after) in enumerate(widths.tolist()):
        shape = list(rebuild.shape(x))
        parts = [x]
        for count, at in ((before, 0), (after, len(shape))):
            if count:
                shape[axis] = count
                border = rebuild.constant(np.full(shape, fill, dtype))
                parts.insert(at, rebuild.on_grid_of(op.outputs[0], border))
        x = rebuild.on_grid_of(op.outputs[0], joined(rebuild, parts, axis)) if len(parts) > 1 else x
    rebuild.replace(op.outputs[0], x)


def without_broadcast(rebuild: Rebuild, op: Op) -> None:
    """An element-wise op whose operands all have the shape of the result, a SELECT_V2 whose values have it, or a
    BATCH_MATMUL whose operands have equal batches: what was broadcast is written out."""
    if op.name == "BATCH_MATMUL":
        _equal_batches(rebuild, op)
        return
    if op.name == "SELECT_V2":
        _equal_values(rebuild, op)
        return
    if op.name not in ELEMENTWISE or len(op.inputs) != 2:
        raise CannotRewrite("it broadcasts nothing")
    shape = rebuild.shape(op.outputs[0])
    if all(rebuild.shape(rebuild.now(t)) == shape for t in op.inputs):
        raise CannotRewrite("it broadcasts nothing")
    rebuild.replace(op.outputs[0], rebuild.like(op, [_expanded(rebuild, t, shape) for t in op.inputs], shape=shape))


def on_stacked_rows(rebuild: Rebuild, op: Op) -> None:
    """A BATCH_MATMUL of many batches by one, as one product over the rows of all batches; no operand is repeated."""
    if op.name != "BATCH_MATMUL":
        raise CannotRewrite("it is no BATCH_MATMUL")
    options, (x, y) = rebuild.options(op), map(rebuild.now, op.inputs)
    *batch, rows, terms = rebuild.shape(x)
    if options.adjX or math.prod(batch) == 1 or math.prod(rebuild.shape(y)[:-2]) != 1:
        raise CannotRewrite("its right side has batches of its own, or its left side is transposed or has one batch")
    many, last = math.prod(batch) * rows, rebuild.shape(y)[-2:]
    columns = last[0 if options.adjY else 1]
    values = rebuild.values(op.inputs[1])
    right = rebuild.reshape(y, (1, *last)) if values is None else rebuild.constant(values.reshape(1, *last))
    sides = [rebuild.reshape(x, (1, many, terms)), right]
    made = rebuild.like(op, sides, shape=(1, many, columns), options=options)
    rebuild.replace(op.outputs[0], rebuild.reshape(made, rebuild.shape(op.outputs[0])))


def _equal_batches(rebuild: Rebuild, op: Op) -> None:
    shapes = [rebuild.shape(rebuild.now(t)) for t in op.inputs]
    batch = np.broadcast_shapes(*(shape[:-2] for shape in shapes))
    if all(shape[:-2] == batch for shape in shapes):
        raise CannotRewrite("it broadcasts nothing")
    feeds = [_expanded(rebuild, t, (*batch, *s[-2:])) for t, s in zip(op.inputs, shapes, strict=True)]
    rebuild.replace(op.outputs[0], rebuild.like(op, feeds, shape=rebuild.shape(op.outputs[0])))


def _equal_values(rebuild: Rebuild, op: Op) -> None:
    """Single values stay so, and the condition stays as it is."""
    shape = rebuild.shape(op.outputs[0])
    fits = [rebuild.shape(t) in ((), (1,), shape) for t in op.inputs[1:]]
    if all(fits):
        raise CannotRewrite("its values are single ones, or of the result's shape")
    pairs = zip(op.inputs[1:], fits, strict=True)
    values = [t if fit else _expanded(rebuild, t, shape) for t, fit in pairs]
    rebuild.replace(op.outputs[0], rebuild.like(op, [op.inputs[0], *values], shape=shape))


def flattened(rebuild: Rebuild, op: Op) -> None:
    """A FULLY_CONNECTED that takes its rows from an input whose last dimension is not the weights', or of rank over 2,
    with a RESHAPE that makes these rows first. No value changes, so that it is the same for quantized ones."""
    if op.name != "FULLY_CONNECTED":
        raise CannotRewrite("it is no FULLY_CONNECTED")
    x, terms = rebuild.shape(op.inputs[0]), rebuild.shape(op.inputs[1])[-1]
    rows = math.prod(x) // terms
    if x == (rows, terms) or rows * terms != math.prod(x):
        raise CannotRewrite("it flattens nothing")
    flat = rebuild.reshape(rebuild.now(op.inputs[0]), (rows, terms))
    options = rebuild.options(op)
    options.keepNumDims = False
    shape = (rows, rebuild.shape(op.inputs[1])[0])
    if rebuild.shape(op.outputs[0]) == shape:
        rebuild.like(op, [flat, *op.inputs[1:]], outputs=op.outputs, options=options)
        return
    made = rebuild.like(op, [flat, *op.inputs[1:]], shape=shape, options=options)
    rebuild.replace(op.outputs[0], rebuild.reshape(made, rebuild.shape(op.outputs[0])))


def stride_before(rebuild: Rebuild, op: Op) -> None:
    """A CONV_2D with a 1x1 kernel and a stride, as one of stride 1 on every so many rows and columns of its input."""
    options = rebuild.options(op)
    if op.name != "CONV_2D" or rebuild.shape(op.inputs[1])[1:3] != (1, 1):
        raise CannotRewrite("it is no convolution by a 1x1 kernel")
    steps = (1, options.strideH, options.strideW, 1)
    if steps == (1, 1, 1, 1):
        raise CannotRewrite("it has no stride")
    options.strideH = options.strideW = 1
    taken = rebuild.every(rebuild.now(op.inputs[0]), steps)
    rebuild.like(op, [taken, *op.inputs[1:]], outputs=op.outputs, options=options)


def one_axis_at_a_time(rebuild: Rebuild, op: Op) -> None:
    """A reduction over several axes as one after another, the last axis first; the largest and smallest of quantized
    values stay on their grid."""
    if op.name not in ("SUM", "MEAN", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD"):
        raise CannotRewrite(f"{op.name} is no reduction")
    tensor = rebuild.graph.tensors[op.inputs[0]]
    rounds = tensor.quantized or (op.name == "MEAN" and tensor.type != "FLOAT32")
    if rounds and op.name not in ("REDUCE_MAX", "REDUCE_MIN"):
        raise CannotRewrite("it rounds to integers, and would at each axis")
    made, given = rebuild.now(op.inputs[0]), rebuild.shape(op.inputs[0])
    axes = {int(axis) % len(given) for axis in parameter(rebuild, op.inputs[1]).reshape(-1)}
    several = sorted((axis for axis in axes if given[axis] > 1), reverse=True)
    if len(several) < 2:
        raise CannotRewrite("it reduces one axis only")
    for axis in several:
        made = rebuild.on_grid_of(op.outputs[0], rebuild.reduce(op.name, made, axis))
    shape = rebuild.shape(op.outputs[0])
    rebuild.replace(op.outputs[0], made if rebuild.shape(made) == shape else rebuild.reshape(made, shape))


def insert_copies(rebuild: Rebuild, op: Op) -> None:
    """The op with its operands and its result behind copies that the compiler cannot fold away: each is joined from two
    halves. What is fused, or shares memory, then ends there; one tensor read twice becomes two."""
    feeds = []
    for t in op.inputs:
        feeds.append(_copied(rebuild, rebuild.now(t)) if _moves(rebuild, t) else t)
    if feeds == list(op.inputs):
        raise CannotRewrite("it reads no float tensor")
    made = rebuild.like(op, feeds, shape=rebuild.shape(op.outputs[0]))
    rebuild.replace(op.outputs[0], _copied(rebuild, made))


def separate_output(rebuild: Rebuild, op: Op) -> None:
    """An op whose result is an output and is read as well: what is read stays, what is given out is a copy."""
    read = [t for t in op.outputs if rebuild.graph.consumers.get(t)]
    both = [t for t in read if any(port.tensor == t for port in rebuild.graph.outputs)]
    if not both:
        raise CannotRewrite("its result is not both an output and read")
    rebuild.keep(op)
    for t in both:
        rebuild.give_out(t, _copied(rebuild, t))


def _moves(rebuild: Rebuild, t: TensorIndex) -> bool:
    """A float tensor that is no constant."""
    return t >= 0 and rebuild.graph.tensors[t].type == "FLOAT32" and not rebuild.graph.tensors[t].constant


def _copied(rebuild: Rebuild, x: TensorIndex) -> TensorIndex:
    shape = rebuild.shape(x)
    axis = next((i for i in reversed(range(len(shape))) if shape[i] > 1), None)
    if axis is None:
        raise CannotRewrite("one of its tensors has a single element")
    half = shape[axis] // 2
    return joined(rebuild, [part(rebuild, x, axis, 0, half), part(rebuild, x, axis, half, shape[axis])], axis)


def _expanded(rebuild: Rebuild, t: TensorIndex, shape: tuple[int, ...]) -> TensorIndex:
    values = rebuild.values(t)
    if values is not None:
        return rebuild.constant(np.broadcast_to(values, shape).copy())
    x = rebuild.now(t)
    have = rebuild.shape(x)
    if len(have) < len(shape):
        x = rebuild.reshape(x, (*[1] * (len(shape) - len(have)), *have))
    for axis, wanted in enumerate(shape):
        if rebuild.shape(x)[axis] != wanted:
            if wanted > MOST_COPIES:
                raise CannotRewrite(f"it repeats an operand {wanted} times")
            x = joined(rebuild, [x] * wanted, axis)
    return x
