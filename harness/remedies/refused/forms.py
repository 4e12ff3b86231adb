"""Ops that a delegate has no kernel for, or none for one of their options, as ops that it has. Each is a line of the
table of "the op as simpler ones"."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from harness.core.arrays import TensorIndex
from harness.graph.model import Op
from harness.graph.rebuild import CannotRewrite, Rebuild
from harness.remedies.rank_4 import parameter
from harness.remedies.refused.slices import by_plain_slices

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
}
