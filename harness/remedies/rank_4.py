"""Ops on rank-4 views of their operands, ones in front.

Every rank has its own way into a delegate, and rank 4 is the one that its kernels are written for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from harness.core.arrays import TensorIndex
from harness.graph.model import Op
from harness.graph.rebuild import CannotRewrite, Rebuild
from harness.remedies.split_sum import joined

# Ops that work element by element, with broadcasting from the last axis; SOFTMAX works along the last axis alone.
_UNARY = (
    "RELU", "RELU6", "TANH", "LOGISTIC", "GELU", "EXP", "LOG", "SQRT", "RSQRT", "ABS", "NEG", "SQUARE", "ELU",
    "HARD_SWISH", "LEAKY_RELU", "SIN", "COS", "FLOOR", "CEIL", "ROUND", "SOFTMAX", "LOG_SOFTMAX",
    "CAST", "LOGICAL_NOT",
)  # fmt: skip
_BINARY = (
    "ADD", "SUB", "MUL", "DIV", "POW", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE", "FLOOR_DIV", "FLOOR_MOD", "ATAN2",
    "PRELU", "EQUAL", "NOT_EQUAL", "LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL", "LOGICAL_AND", "LOGICAL_OR",
)  # fmt: skip
ELEMENTWISE = frozenset((*_UNARY, *_BINARY))
_SELECTS = ("SELECT", "SELECT_V2")
_PADS = ("PAD", "PADV2", "MIRROR_PAD")
_OTHERS = ("BATCH_MATMUL", "TRANSPOSE", "SLICE", "CONCATENATION", "DYNAMIC_UPDATE_SLICE")
_AXES = frozenset(("SUM", "MEAN", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD"))

View = Callable[[TensorIndex], TensorIndex]
"""From a tensor of the model to what stands for it in rank 4."""


def with_rank_4(rebuild: Rebuild, op: Op) -> None:
    """The op on rank-4 views of its operands. Raises CannotRewrite when all have rank 4 already."""
    if is_rank_4(rebuild, op):
        raise CannotRewrite("its operands have rank 4 or more already")
    made, shape = emit(rebuild, op, lambda t: view(rebuild, t)), rebuild.shape(op.outputs[0])
    rebuild.replace(op.outputs[0], made if rebuild.shape(made) == shape else rebuild.reshape(made, shape))


def is_rank_4(rebuild: Rebuild, op: Op) -> bool:
    """Whether no operand would change: all that is not a parameter, such as an axis, has rank 4, or one has more."""
    tensors = [t for t in (*op.inputs, *op.outputs) if t >= 0]
    if max((len(rebuild.shape(t)) for t in tensors), default=4) > 4:
        return True
    if op.name not in ELEMENTWISE | {*_SELECTS}:
        tensors = [t for t in tensors if _is_number(rebuild, t) or t in op.outputs]
    return all(len(rebuild.shape(t)) == 4 for t in tensors)


def emit(rebuild: Rebuild, op: Op, at: View) -> TensorIndex:
    """The op on the rank-4 views `at(t)` of its operands; returns its result in rank 4, reduced axes kept with size 1.

    Raises:
        CannotRewrite: the op is not known to mean the same with another rank.
    """
    check(rebuild, op)
    options, inputs, shape = rebuild.options(op), list(op.inputs), wide(rebuild.shape(op.outputs[0]))
    source = len(rebuild.shape(op.inputs[0]))
    added = 4 - source
    if op.name in ELEMENTWISE | {*_SELECTS, "BATCH_MATMUL"}:
        viewed = [t if t < 0 else at(t) for t in inputs]
    elif op.name == "FULLY_CONNECTED":
        options.keepNumDims = True
        viewed = [at(inputs[0]), *inputs[1:]]
    elif op.name == "DYNAMIC_UPDATE_SLICE":
        viewed = [at(inputs[0]), at(inputs[1]), _from_zero(rebuild, inputs[2], added)]
    elif op.name in _PADS:
        widths = parameter(rebuild, inputs[1])
        viewed = [at(inputs[0]), _ints(rebuild, np.pad(widths, ((added, 0), (0, 0)))), *inputs[2:]]
    elif op.name == "TRANSPOSE":
        order = parameter(rebuild, inputs[1])
        viewed = [at(inputs[0]), _ints(rebuild, [*range(added), *(order + added)])]
    elif op.name == "SLICE":
        begin, size = (parameter(rebuild, t) for t in inputs[1:3])
        starts = _ints(rebuild, [*[0] * added, *begin])
        viewed = [at(inputs[0]), starts, _ints(rebuild, [*[1] * added, *size])]
    elif op.name == "CONCATENATION":
        options.axis = options.axis % source + added
        viewed = [at(t) for t in inputs]
    else:
        axes = parameter(rebuild, inputs[1]).reshape(-1) % source + added
        options.keepDims = True
        viewed = [at(inputs[0]), _ints(rebuild, axes)]
        reduced = set(axes.tolist())
        shape = tuple(1 if i in reduced else d for i, d in enumerate(wide(rebuild.shape(inputs[0]))))
    return rebuild.like(op, viewed, shape=shape, options=options)


def check(rebuild: Rebuild, op: Op) -> None:
    """Raises CannotRewrite for an op that :func:`emit` does not know in another rank."""
    if op.name == "FULLY_CONNECTED":
        x, weights = rebuild.shape(op.inputs[0]), rebuild.shape(op.inputs[1])
        if len(x) != len(rebuild.shape(op.outputs[0])) or len(weights) != 2 or x[-1] != weights[-1]:
            raise CannotRewrite("it flattens its input")
    elif op.name == "SELECT" and len(rebuild.shape(op.inputs[0])) != len(rebuild.shape(op.inputs[1])):
        raise CannotRewrite("its condition chooses rows")
    elif op.name not in ELEMENTWISE | _AXES | {*_PADS, *_SELECTS, *_OTHERS}:
        raise CannotRewrite(f"{op.name} is not known to mean the same with another rank")


def keeps_axes(rebuild: Rebuild, op: Op) -> bool:
    """Whether the op's result in rank 4 is its result with ones in front: not so where a reduced axis is dropped."""
    return op.name not in _AXES or bool(rebuild.options(op).keepDims)


def view(rebuild: Rebuild, t: TensorIndex) -> TensorIndex:
    """A rank-4 view of a tensor, by RESHAPE; of a constant, the constant in that shape. Raises CannotRewrite for one
    with scales by channel, which belong to an axis."""
    if t < 0 or len(rebuild.shape(rebuild.now(t))) == 4:
        return t
    values = rebuild.values(t)
    if values is not None:
        if rebuild.graph.tensors[t].quantized and rebuild.graph.tensors[t].grid is None:
            raise CannotRewrite("a constant has scales by channel")
        return rebuild.on_grid_of(t, rebuild.constant(values.reshape(wide(values.shape))))
    return rebuild.reshape(rebuild.now(t), wide(rebuild.shape(t)))


def wide(shape: Sequence[int]) -> tuple[int, ...]:
    """A shape of up to 4 dimensions with ones in front."""
    return (*[1] * (4 - len(shape)), *shape)


def parameter(rebuild: Rebuild, t: TensorIndex) -> Any:
    """The values of an operand that must be a constant. Raises CannotRewrite."""
    values = rebuild.values(t)
    if values is None:
        raise CannotRewrite("its parameters are no constant")
    return values


def _is_number(rebuild: Rebuild, t: TensorIndex) -> bool:
    """Whether it holds real numbers, not a parameter's integers."""
    return rebuild.graph.tensors[t].type == "FLOAT32" or rebuild.graph.tensors[t].quantized


def _from_zero(rebuild: Rebuild, start: TensorIndex, added: int) -> TensorIndex:
    """The place to start at, zeros in front; at run time too."""
    values = rebuild.values(start)
    if values is not None or not added:
        return start if values is None else _ints(rebuild, np.pad(values, (added, 0)))
    return joined(rebuild, [_ints(rebuild, np.zeros(added)), start], 0)


def _ints(rebuild: Rebuild, values: Any) -> TensorIndex:
    return rebuild.constant(np.asarray(values, np.int32))
