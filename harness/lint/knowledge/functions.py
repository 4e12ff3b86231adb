"""What a pattern's conditions can ask beyond arithmetic. Each takes what expressions have, and is a rule of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from harness.core.arrays import TensorIndex
from harness.graph.model import Graph, Op
from harness.lint.elementwise import differs
from harness.lint.knowledge.scene import OpView, TensorView
from harness.lint.layout import MAX_RANK, misplaced_axes

Shape = tuple[int, ...]

LARGEST_HALF = 65504.0
MOST_WORKGROUPS = 65535
_LARGEST_WORKGROUP = 16

_CHAINED = frozenset(("ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE"))
_WINDOWED = ("CONV_2D", "DEPTHWISE_CONV_2D", "MAX_POOL_2D", "AVERAGE_POOL_2D")
_SUMS = ("SUM", "MEAN")
_STEPS = frozenset((
    "ABS", "COS", "ELU", "EXP", "GELU", "HARD_SWISH", "LEAKY_RELU", "LOG", "LOGISTIC", "NEG", "RELU", "RELU6", "ROUND",
    "RSQRT", "SIN", "SQRT", "SQUARE", "TANH", "PRELU",
    "ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "POW", "SQUARED_DIFFERENCE", "FLOOR_MOD", "LESS",
))  # fmt: skip


def broadcast(a: Shape, b: Shape) -> Shape | None:
    """The shape of an element-wise op of two shapes; None where they do not go together."""
    try:
        return tuple(np.broadcast_shapes(a, b))
    except ValueError:
        return None


def larger(a: Shape, b: Shape) -> Shape | None:
    """Of two shapes of one rank the larger size along each axis."""
    return tuple(map(max, a, b)) if len(a) == len(b) else None


def ones(shape: Shape, rank: int) -> Shape:
    """The shape with ones in front, up to a rank."""
    return (1,) * (rank - len(shape)) + shape


def misplaced(shape: Shape, side: str, rank: int) -> Shape | None:
    """Axes of an operand that the delegate lays elsewhere than the result's; None beyond rank 4."""
    if side not in ("left", "right") or not len(shape) <= rank <= MAX_RANK:
        return None
    return misplaced_axes(shape, "left" if side == "left" else "right", rank)


def varies(constant: TensorView, axes: Shape) -> bool:
    """Whether a constant's values differ along one of the axes once they are rounded to float16. What cannot be read is
    not said to differ."""
    return bool(axes) and differs(constant.scene.model, constant.scene.graph, constant.source, axes)


def positive(tensor: TensorView) -> bool:
    """Whether no value of a tensor can be negative, as far as the ops before it tell."""
    return tensor.scene.ranges.of(tensor.index)[0] >= 0


def first_block_below(constant: TensorView, bound: float) -> bool:
    """Whether the first four values of some row of a constant are all below a bound."""
    held = constant.array
    if held is None or held.dtype.kind != "f" or not held.ndim or held.shape[-1] < 4:
        return False
    return bool((held[..., :4] < bound).all(axis=-1).any())


def workgroups(size: int) -> int:
    """Workgroups along the slices of four channels in which an input or output of that last dimension is converted: the
    largest divisor of the slices up to 16 takes as many at once."""
    slices = -(-size // 4)
    most = max(n for n in range(1, _LARGEST_WORKGROUP + 1) if slices % n == 0)
    return slices // most


def chained(result: TensorView) -> int:
    """Run-time tensors that the element-wise chain which ends here reads, of which the delegate makes one kernel. A
    result on the way that is an output, or that two ops read, ends it."""
    graph = result.scene.graph
    if any(graph.ops[o].name in _CHAINED for o in graph.consumers.get(result.index, ())) and not result.is_output:
        return 0
    read: set[TensorIndex] = set()
    left = [result.index]
    while left:
        t = left.pop()
        made = graph.producer.get(t)
        inside = made is not None and graph.ops[made].name in _CHAINED
        own = t == result.index or (len(graph.consumers.get(t, ())) == 1 and t not in result.scene.outputs)
        if inside and own and made is not None:
            left += [i for i in graph.ops[made].inputs if i >= 0]
        elif result.scene.tensor(t).role == "runtime":
            read.add(t)
    return len(read)


def read_as(tensor: TensorView, kind: str) -> int:
    """How many ops of a kind read a tensor, as the delegate takes them (`OpView.seen_as`)."""
    return sum(op.seen_as == kind for op in _readers(tensor))


def joins_window(padded: TensorView) -> bool:
    """Whether a padded map's only reader is an op whose own padding the delegate makes of it."""
    return [op.name in _WINDOWED for op in _readers(padded)] == [True]


def stepped(tensor: TensorView) -> bool:
    """Whether a tensor's only reader is an element-wise op of it and nothing else, of it and a constant, or of it and,
    second, an input of the model with its shape."""
    scene = tensor.scene
    readers = [scene.graph.ops[o] for o in scene.graph.consumers.get(tensor.index, ())]
    if len(readers) != 1 or readers[0].name not in _STEPS:
        return False
    first = readers[0].inputs[0] == tensor.index
    others = [scene.tensor(t) for t in readers[0].inputs if t not in (tensor.index, -1)]
    return all(o.role == "constant" or (first and o.is_input and o.shape == tensor.shape) for o in others)


def only_scores(joined: TensorView) -> bool:
    """Whether all that is joined are sums or means of products with slices, of which the delegate makes one kernel."""
    graph = joined.scene.graph
    sums = [_maker(graph, t, _SUMS) for t in graph.ops[graph.producer[joined.index]].inputs]
    products = [_maker(graph, op.inputs[0], ("MUL",)) if op else None for op in sums]
    return all(op and any(_maker(graph, t, ("SLICE",)) for t in op.inputs) for op in products)


def _readers(tensor: TensorView) -> list[OpView]:
    graph = tensor.scene.graph
    return [tensor.scene.op(graph.ops[o]) for o in graph.consumers.get(tensor.index, ())]


def _maker(graph: Graph, tensor: TensorIndex, kinds: tuple[str, ...]) -> Op | None:
    made = graph.producer.get(tensor)
    return graph.ops[made] if made is not None and graph.ops[made].name in kinds else None


def summed(tensor: TensorView, axes: tuple[int | float, ...]) -> int:
    """Axes longer than 1 among those that a reduction takes."""
    return len(_long(tensor, axes))


def terms(tensor: TensorView, axes: tuple[int | float, ...]) -> int:
    """Values that go into one of a reduction's."""
    return int(np.prod([tensor.shape[axis] for axis in _long(tensor, axes)] if tensor.shape else [], dtype=np.int64))


def _long(tensor: TensorView, axes: tuple[int | float, ...]) -> list[int]:
    shape = tensor.shape or ()
    return sorted({int(axis) % len(shape) for axis in axes if shape[int(axis) % len(shape)] > 1})


def multiplied_between(start: TensorView, end: TensorView) -> bool:
    """Whether one tensor is computed from another with a matrix product on the way."""
    return _products(start.scene.graph, start.index).get(end.index, False)


def _products(graph: Graph, start: TensorIndex) -> dict[TensorIndex, bool]:
    below = {start: False}
    for op in graph.ops:
        fed = [below[t] for t in op.inputs if t in below]
        if fed:
            found = any(fed) or op.name in ("FULLY_CONNECTED", "BATCH_MATMUL")
            below |= dict.fromkeys((t for t in op.outputs if t not in below), found)
    return below


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "len": len,
    "max": max,
    "min": min,
    "abs": abs,
    "sum": sum,
    "broadcast": broadcast,
    "larger": larger,
    "ones": ones,
    "misplaced": misplaced,
    "varies": varies,
    "positive": positive,
    "first_block_below": first_block_below,
    "workgroups": workgroups,
    "chained": chained,
    "read_as": read_as,
    "joins_window": joins_window,
    "only_scores": only_scores,
    "stepped": stepped,
    "summed": summed,
    "terms": terms,
    "multiplied_between": multiplied_between,
}
