"""One op as simpler ones, or as plainer ones of its own kind, equal in real arithmetic.

Where a kernel reads an attribute wrongly or not at all, the same thing asked without that attribute is right: a bias is
added, a slope multiplied, a group of channels convolved by itself. docs/delegate.md says which those are.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from harness.core.arrays import TensorIndex
from harness.graph.model import Op
from harness.graph.rebuild import CannotRewrite, Rebuild
from harness.remedies.piecewise import (
    convolved_by_group,
    gathered_backwards,
    image_by_image,
    largest_of_fours,
    plain,
    repeated_before,
    repeated_elements,
    sliced_from_whole,
)
from harness.remedies.rank_4 import parameter
from harness.remedies.refused.forms import MOVES, OTHER_KINDS, exchanged

# The longest axis that is summed by a product with a triangle of that many rows and columns: 4 MB in float32.
MOST_SUMMED = 1024
# The largest whole exponent that is multiplied out, in up to six products.
MOST_FACTORS = 16
# What a maximum is divided by on the way: any float16 is then above -10000, where ML Drift's maximum starts.
SHARE = 2.0**-4

_MIRRORED = {"LESS": "GREATER", "GREATER": "LESS", "LESS_EQUAL": "GREATER_EQUAL", "GREATER_EQUAL": "LESS_EQUAL"}


def by_simpler_ops(rebuild: Rebuild, op: Op) -> None:
    """An op as those of `FORMS`, its fused activation behind them; or any op without its fused activation.

    Raises:
        CannotRewrite: it has no simpler form, or is not of the kind that has one.
    """
    options = rebuild.options(op)
    try:
        if op.name not in FORMS:
            raise CannotRewrite(f"{op.name} has no simpler form")
        quantized = any(t >= 0 and rebuild.graph.tensors[t].quantized for t in (*op.inputs, *op.outputs))
        if quantized and op.name not in MOVES:
            raise CannotRewrite("its values are quantized")
        made = FORMS[op.name](rebuild, op)
    except CannotRewrite:
        if getattr(options, "fusedActivationFunction", schema.ActivationFunctionType.NONE) == 0:
            raise
        made = rebuild.like(op, op.inputs, shape=rebuild.shape(op.outputs[0]), options=plain(rebuild, op))
    rebuild.replace(op.outputs[0], rebuild.activated(made, options))


def _difference(rebuild: Rebuild, op: Op) -> TensorIndex:
    """a - b = -b + a: a constant does not come first."""
    minus = rebuild.constant(np.asarray([-1], rebuild.graph.tensors[op.outputs[0]].dtype))
    return rebuild.binary("ADD", rebuild.binary("MUL", op.inputs[1], minus), op.inputs[0])


def _mirrored(rebuild: Rebuild, op: Op) -> TensorIndex:
    """a < b as b > a."""
    a, b = op.inputs
    kind = _MIRRORED[op.name]
    options = getattr(schema, "".join(map(str.title, kind.split("_"))) + "OptionsT")()
    return rebuild.op(kind, [b, a], rebuild.shape(op.outputs[0]), options, dtype=np.bool_)


def _squared_difference(rebuild: Rebuild, op: Op) -> TensorIndex:
    difference = rebuild.binary("SUB", op.inputs[0], op.inputs[1])
    return rebuild.binary("MUL", difference, difference)


def _quotient(rebuild: Rebuild, op: Op) -> TensorIndex:
    _floats(rebuild, op)
    one = rebuild.constant(np.ones(1, np.float32))
    return rebuild.binary("MUL", op.inputs[0], rebuild.binary("DIV", one, op.inputs[1]))


def _power(rebuild: Rebuild, op: Op) -> TensorIndex:
    """x to a whole number as products of squares; by a negative one, the reciprocal."""
    _floats(rebuild, op)
    found = np.unique(parameter(rebuild, op.inputs[1]))
    x, shape = rebuild.now(op.inputs[0]), rebuild.shape(op.outputs[0])
    if len(found) != 1 or found[0] != np.rint(found[0]) or not 1 <= abs(found[0]) <= MOST_FACTORS:
        raise CannotRewrite(f"its exponent is no whole number from 1 to {MOST_FACTORS}")
    if rebuild.shape(x) != shape:
        raise CannotRewrite("its exponent is broadcast over more than its base")
    exponent, square, made = int(abs(found[0])), x, -1
    while exponent:
        if exponent % 2:
            made = square if made < 0 else rebuild.binary("MUL", made, square)
        exponent //= 2
        square = rebuild.binary("MUL", square, square) if exponent else square
    return made if found[0] > 0 else rebuild.binary("DIV", rebuild.constant(np.ones(1, np.float32)), made)


def _leaky(rebuild: Rebuild, op: Op) -> TensorIndex:
    """max(x, 0) - a · max(-x, 0), whatever the slope a is."""
    slope = rebuild.constant(np.asarray([rebuild.options(op).alpha], np.float32))
    below = rebuild.unary("RELU", rebuild.unary("NEG", op.inputs[0]))
    return rebuild.binary("SUB", rebuild.unary("RELU", op.inputs[0]), rebuild.binary("MUL", below, slope))


def _reduced(rebuild: Rebuild, op: Op) -> TensorIndex:
    """A sum over the last axis as a product with a column of ones, or of 1/n for a mean."""
    _floats(rebuild, op)
    x = rebuild.now(op.inputs[0])
    axes = parameter(rebuild, op.inputs[1]).reshape(-1) % len(rebuild.shape(x))
    shape = rebuild.shape(x)
    if axes.tolist() != [len(shape) - 1]:
        order = [i for i in range(len(shape)) if i not in set(axes.tolist())] + sorted(axes.tolist())
        x = rebuild.transpose(x, order)
    terms = math.prod(shape[i] for i in axes)
    column = np.full((1, terms), 1.0 / terms if op.name == "MEAN" else 1.0, np.float32)
    rows = math.prod(shape) // terms
    made = rebuild.fully_connected(rebuild.reshape(x, (rows, terms)), column)
    return rebuild.reshape(made, rebuild.shape(op.outputs[0]))


def _running_sum(rebuild: Rebuild, op: Op) -> TensorIndex:
    """A CUMSUM as a product with a triangle of ones: row j adds the terms up to j, without it where it is exclusive,
    from the end where it is reversed."""
    _floats(rebuild, op)
    options, x = rebuild.options(op), rebuild.now(op.inputs[0])
    shape = rebuild.shape(x)
    axis = int(parameter(rebuild, op.inputs[1]).reshape(-1)[0]) % len(shape)
    if (terms := shape[axis]) > MOST_SUMMED:
        raise CannotRewrite(f"it sums over {terms} terms, which takes a matrix of {terms}² ones")
    triangle = np.tri(terms, k=-1 if options.exclusive else 0, dtype=np.float32)
    if options.reverse:
        triangle = np.ascontiguousarray(triangle.T)
    order = [*(i for i in range(len(shape)) if i != axis), axis]
    last = axis == len(shape) - 1
    turned = x if last else rebuild.transpose(x, order)
    rows = rebuild.reshape(turned, (math.prod(shape) // terms, terms))
    made = rebuild.reshape(rebuild.fully_connected(rows, triangle), rebuild.shape(turned))
    return made if last else rebuild.transpose(made, np.argsort(order).tolist())


def _connected(rebuild: Rebuild, op: Op) -> TensorIndex:
    """A FULLY_CONNECTED on its input as [rows, terms]; beside weights that are computed, the bias as an ADD."""
    x, (units, terms) = rebuild.now(op.inputs[0]), rebuild.shape(op.inputs[1])
    bias = op.inputs[2] if len(op.inputs) > 2 else -1
    outside = bias >= 0 and rebuild.values(op.inputs[1]) is None
    if len(rebuild.shape(x)) <= 2 and not outside:
        raise CannotRewrite("its input has rank 2, and it has no bias beside weights that are computed")
    rows = math.prod(rebuild.shape(x)) // terms
    flat = x if rebuild.shape(x) == (rows, terms) else rebuild.reshape(x, (rows, terms))
    feeds = [flat, op.inputs[1], -1 if outside else bias]
    made = rebuild.like(op, feeds, shape=(rows, units), options=plain(rebuild, op))
    if outside:
        made = rebuild.binary("ADD", made, bias)
    shape = rebuild.shape(op.outputs[0])
    return made if shape == (rows, units) else rebuild.reshape(made, shape)


def _untransposed(rebuild: Rebuild, op: Op) -> TensorIndex:
    """A BATCH_MATMUL whose sides are transposed before, or exchanged where the left one is a constant."""
    if rebuild.values(op.inputs[0]) is not None:
        return exchanged(rebuild, op)
    options = rebuild.options(op)
    if not options.adjX and not options.adjY:
        raise CannotRewrite("it transposes nothing")
    sides = zip(op.inputs, (options.adjX, options.adjY), strict=True)
    return rebuild.batch_matmul(*(_transposed(rebuild, t) if turned else rebuild.now(t) for t, turned in sides))


def _transposed(rebuild: Rebuild, t: TensorIndex) -> TensorIndex:
    values = rebuild.values(t)
    if values is not None:
        return rebuild.constant(np.ascontiguousarray(np.swapaxes(values, -1, -2)))
    rank = len(rebuild.shape(t))
    return rebuild.transpose(t, [*range(rank - 2), rank - 1, rank - 2])


def _softmax(rebuild: Rebuild, op: Op) -> TensorIndex:
    x, last = op.inputs[0], len(rebuild.shape(op.inputs[0])) - 1
    if (beta := rebuild.options(op).beta) != 1.0:
        return rebuild.softmax(rebuild.binary("MUL", x, rebuild.constant(np.asarray([beta], np.float32))))
    power = rebuild.unary("EXP", rebuild.binary("SUB", x, rebuild.reduce("REDUCE_MAX", x, last)))
    return rebuild.binary("DIV", power, rebuild.reduce("SUM", power, last))


def _scaled_maximum(rebuild: Rebuild, op: Op) -> TensorIndex:
    """A MAX_POOL_2D between a division and a multiplication by a power of two, which round nothing; but in float16,
    values below 2^-10 may come out nearer to zero."""
    _floats(rebuild, op)
    small = rebuild.binary("MUL", op.inputs[0], rebuild.constant([SHARE]))
    pooled = rebuild.like(op, [small], shape=rebuild.shape(op.outputs[0]), options=plain(rebuild, op))
    return rebuild.binary("MUL", pooled, rebuild.constant([1 / SHARE]))


def _floats(rebuild: Rebuild, op: Op) -> None:
    if rebuild.graph.tensors[op.outputs[0]].type != "FLOAT32":
        raise CannotRewrite("it computes no float32")


FORMS: dict[str, Callable[[Rebuild, Op], TensorIndex]] = {
    **OTHER_KINDS,
    "SQUARED_DIFFERENCE": _squared_difference,
    "DIV": _quotient,
    "SUB": _difference,
    "POW": _power,
    "LEAKY_RELU": _leaky,
    **dict.fromkeys(_MIRRORED, _mirrored),
    "SUM": _reduced,
    "MEAN": _reduced,
    "CUMSUM": _running_sum,
    "FULLY_CONNECTED": _connected,
    "BATCH_MATMUL": _untransposed,
    "SOFTMAX": _softmax,
    "MAX_POOL_2D": _scaled_maximum,
    "CONV_2D": convolved_by_group,
    "DEPTHWISE_CONV_2D": repeated_before,
    "TRANSPOSE_CONV": sliced_from_whole,
    "REVERSE_V2": gathered_backwards,
    "SPACE_TO_DEPTH": image_by_image,
    "DEPTH_TO_SPACE": image_by_image,
    "TOPK_V2": largest_of_fours,
    "RESIZE_NEAREST_NEIGHBOR": repeated_elements,
}
"""Op -> what computes its result, but for its fused activation."""
