"""Two ops one after the other, every producer with every consumer: what a delegate may make one op of.

Alone, and with what lies between them an output too. The maps are [1, 8, 8, channels].
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from harness.core.arrays import TensorIndex
from harness.graph.build import GraphBuilder
from harness.graph.forms.form import Form, Given, draw, table

_MAP = (1, 8, 8, 8)
_BORDER = ((0, 0), (1, 1), (1, 1), (0, 0))
_DEEPER = ((0, 0), (0, 0), (0, 0), (0, 4))

First = Callable[[GraphBuilder, Sequence[TensorIndex]], TensorIndex]
Then = Callable[[GraphBuilder, TensorIndex], TensorIndex]


@dataclass(frozen=True)
class _Producer:
    op: str
    words: str
    inputs: tuple[Given, ...]
    make: First


@dataclass(frozen=True)
class _Consumer:
    op: str
    words: str
    make: Then
    narrow: bool = False
    """Whether it is only asked behind one channel."""


# Their results are the padding's value throughout.
_SAY_NOTHING = frozenset({
    ("PAD of a border of negative values", "REDUCE_MAX of rows"),
    ("PAD of channels", "REDUCE_MAX of channels"),
    ("PADV2 of a border with -3", "REDUCE_MIN of columns"),
    ("CONCATENATION with channels of zeros", "REDUCE_MAX of channels"),
    ("CONCATENATION with rows of zeros", "REDUCE_MAX of rows"),
})  # fmt: skip


def forms() -> Iterator[Form]:
    """All of them."""
    for first in PRODUCERS:
        for then in CONSUMERS:
            one = _channels(first) == 1
            if (then.narrow and not one) or (first.words, then.words) in _SAY_NOTHING:
                continue
            yield Form(
                f"{first.op}, {then.op}", f"{first.words}, then {then.words}", first.inputs, _both(first, then), "pair"
            )


def _channels(first: _Producer) -> int:
    graph = GraphBuilder()
    return graph.shape(first.make(graph, [graph.input(f"x{i}", g.shape) for i, g in enumerate(first.inputs)]))[3]


def _both(first: _Producer, then: _Consumer) -> Callable[[GraphBuilder, Sequence[TensorIndex]], Sequence[TensorIndex]]:
    def build(graph: GraphBuilder, feeds: Sequence[TensorIndex]) -> Sequence[TensorIndex]:
        between = first.make(graph, feeds)
        return [between, then.make(graph, between)]

    return build


def constant(graph: GraphBuilder, *shape: int, seed: int = 3) -> TensorIndex:
    """A constant of that shape."""
    return graph.constant(draw(Given(shape), seed))


def conv(
    graph: GraphBuilder, x: TensorIndex, out: int, size: int = 3, groups: int = 1, padding: str = "VALID"
) -> TensorIndex:
    """CONV_2D with stride 1 and a bias."""
    n, h, w, c = graph.shape(x)
    shrunk = 0 if padding == "SAME" else size - 1
    feeds = [x, constant(graph, out, size, size, c // groups), constant(graph, out, seed=5)]
    return graph.op(
        "CONV_2D", feeds, (n, h - shrunk, w - shrunk, out), table("Conv2D", padding=padding, strideH=1, strideW=1)
    )


def depthwise(graph: GraphBuilder, x: TensorIndex, size: int = 3) -> TensorIndex:
    """DEPTHWISE_CONV_2D, VALID, stride 1."""
    n, h, w, c = graph.shape(x)
    feeds = [x, constant(graph, 1, size, size, c), constant(graph, c, seed=5)]
    told = table("DepthwiseConv2D", padding="VALID", strideH=1, strideW=1, depthMultiplier=1)
    return graph.op("DEPTHWISE_CONV_2D", feeds, (n, h - size + 1, w - size + 1, c), told)


def transpose_conv(graph: GraphBuilder, x: TensorIndex) -> TensorIndex:
    """TRANSPOSE_CONV, kernel 2, stride 2, VALID."""
    n, h, w, c = graph.shape(x)
    made = (n, 2 * h, 2 * w, 8)
    feeds = [graph.constant(np.asarray(made, np.int32)), constant(graph, 8, 2, 2, c), x, constant(graph, 8, seed=5)]
    told = table("TransposeConv", padding="VALID", strideH=2, strideW=2)
    return graph.op("TRANSPOSE_CONV", feeds, made, told, dtype=np.float32, version=3)


def pool(graph: GraphBuilder, x: TensorIndex, kind: str, size: int = 3, padding: str = "VALID") -> TensorIndex:
    """Pooling with stride 2."""
    n, h, w, c = graph.shape(x)
    h, w = (-(-d // 2) if padding == "SAME" else (d - size) // 2 + 1 for d in (h, w))
    told = table("Pool2D", padding=padding, strideH=2, strideW=2, filterHeight=size, filterWidth=size)
    return graph.op(kind, [x], (n, h, w, c), told)


def pad_with(graph: GraphBuilder, x: TensorIndex, widths: Sequence[tuple[int, int]], value: float) -> TensorIndex:
    """PADV2."""
    shape = [d + a + b for d, (a, b) in zip(graph.shape(x), widths, strict=True)]
    feeds = [x, graph.constant(np.asarray(widths, np.int32)), graph.constant(np.asarray(value, np.float32))]
    return graph.op("PADV2", feeds, shape, table("PadV2"))


def join(graph: GraphBuilder, parts: Sequence[TensorIndex], axis: int) -> TensorIndex:
    """CONCATENATION."""
    shape = list(graph.shape(parts[0]))
    shape[axis] = sum(graph.shape(part)[axis] for part in parts)
    return graph.op("CONCATENATION", parts, shape, table("Concatenation", axis=axis))


def slice_of(graph: GraphBuilder, x: TensorIndex, begin: Sequence[int], size: Sequence[int]) -> TensorIndex:
    """SLICE."""
    feeds = [x, *(graph.constant(np.asarray(values, np.int32)) for values in (begin, size))]
    return graph.op("SLICE", feeds, size, table("Slice"))


def over(graph: GraphBuilder, x: TensorIndex, kind: str, *axes: int) -> TensorIndex:
    """A reduction that keeps its axes."""
    shape = [1 if i in axes else d for i, d in enumerate(graph.shape(x))]
    feeds = [x, graph.constant(np.asarray(axes, np.int32))]
    return graph.op(kind, feeds, shape, table("Reducer", keepDims=True))


def _zeros(graph: GraphBuilder, x: TensorIndex, axis: int, count: int) -> TensorIndex:
    zeros = np.zeros([count if i == axis else d for i, d in enumerate(graph.shape(x))], np.float32)
    return join(graph, [x, graph.constant(zeros)], axis)


def _twice(graph: GraphBuilder, x: TensorIndex, kind: str, options: str) -> TensorIndex:
    """RESIZE_… to twice the size."""
    n, h, w, c = graph.shape(x)
    return graph.op(
        kind, [x, graph.constant(np.asarray([2 * h, 2 * w], np.int32))], (n, 2 * h, 2 * w, c), table(options)
    )


def _vector(graph: GraphBuilder, x: TensorIndex, kind: str, count: int = 0) -> TensorIndex:
    """An element-wise op with a constant vector, as many as there are channels unless told."""
    return graph.binary(kind, x, constant(graph, count or graph.shape(x)[3], seed=7))


_X, _Y, _THIN, _BELOW = Given(_MAP), Given(_MAP), Given((1, 8, 8, 1)), Given(_MAP, "negative")

_DEEP, _SMALL, _LARGE = Given((1, 8, 8, 12)), Given((1, 4, 4, 8)), Given((1, 17, 17, 8))

PRODUCERS: tuple[_Producer, ...] = (
    _Producer("ADD", "ADD of two inputs", (_X, _Y), lambda g, f: g.binary("ADD", f[0], f[1])),
    _Producer("ADD", "ADD of a vector", (_X,), lambda g, f: g.binary("ADD", f[0], constant(g, 8))),
    _Producer("ADD", "ADD of a vector to one channel", (_THIN,), lambda g, f: g.binary("ADD", f[0], constant(g, 8))),
    _Producer("MUL", "MUL by a vector", (_X,), lambda g, f: g.binary("MUL", f[0], constant(g, 8))),
    _Producer("MUL", "MUL of one channel by a vector", (_THIN,), lambda g, f: g.binary("MUL", f[0], constant(g, 8))),
    _Producer("MUL", "MUL by a scalar", (_X,), lambda g, f: g.binary("MUL", f[0], g.constant([1.5]))),
    _Producer("PAD", "PAD of a border of negative values", (_BELOW,), lambda g, f: g.pad(f[0], _BORDER)),
    _Producer("PAD", "PAD of channels", (_BELOW,), lambda g, f: g.pad(f[0], _DEEPER)),
    _Producer("PADV2", "PADV2 of a border with -3", (_X,), lambda g, f: pad_with(g, f[0], _BORDER, -3.0)),
    _Producer("PADV2", "PADV2 of channels with -3", (_X,), lambda g, f: pad_with(g, f[0], _DEEPER, -3.0)),
    _Producer("MIRROR_PAD", "MIRROR_PAD of a border", (_X,), lambda g, f: _mirrored(g, f[0])),
    _Producer("CONCATENATION", "CONCATENATION with channels of zeros", (_BELOW,), lambda g, f: _zeros(g, f[0], 3, 4)),
    _Producer("CONCATENATION", "CONCATENATION with rows of zeros", (_BELOW,), lambda g, f: _zeros(g, f[0], 1, 1)),
    _Producer("CONCATENATION", "CONCATENATION of two inputs", (_X, _Y), lambda g, f: join(g, f, 3)),
    _Producer("CONV_2D", "CONV_2D", (_X,), lambda g, f: conv(g, f[0], 8)),
    _Producer("CONV_2D", "CONV_2D, 1x1", (_X,), lambda g, f: conv(g, f[0], 8, 1)),
    _Producer("CONV_2D", "CONV_2D to one channel", (_X,), lambda g, f: conv(g, f[0], 1)),
    _Producer("CONV_2D", "CONV_2D in groups", (_X,), lambda g, f: conv(g, f[0], 8, groups=2)),
    _Producer("DEPTHWISE_CONV_2D", "DEPTHWISE_CONV_2D", (_X,), lambda g, f: depthwise(g, f[0])),
    _Producer("DEPTHWISE_CONV_2D", "DEPTHWISE_CONV_2D of one channel", (_THIN,), lambda g, f: depthwise(g, f[0])),
    _Producer("TRANSPOSE_CONV", "TRANSPOSE_CONV", (_X,), lambda g, f: transpose_conv(g, f[0])),
    _Producer("TANH", "TANH", (_X,), lambda g, f: g.unary("TANH", f[0])),
    _Producer("SOFTMAX", "SOFTMAX", (_X,), lambda g, f: g.softmax(f[0])),
    _Producer("SLICE", "SLICE of rows", (_X,), lambda g, f: slice_of(g, f[0], (0, 1, 0, 0), (1, 7, 8, 8))),
    _Producer("SLICE", "SLICE of channels", (_DEEP,), lambda g, f: slice_of(g, f[0], (0, 0, 0, 4), _MAP)),
    _Producer("RESHAPE", "RESHAPE", (Given((1, 4, 16, 8)),), lambda g, f: g.reshape(f[0], _MAP)),
    _Producer("TRANSPOSE", "TRANSPOSE of channels", (_X,), lambda g, f: g.transpose(f[0], (0, 3, 1, 2))),
    _Producer(
        "RESIZE_BILINEAR", "RESIZE_BILINEAR", (_SMALL,),
        lambda g, f: _twice(g, f[0], "RESIZE_BILINEAR", "ResizeBilinear"),
    ),
    _Producer("MEAN", "MEAN of the map", (Given((1, 8, 8, 8)),), lambda g, f: over(g, f[0], "MEAN", 1, 2)),
    _Producer("MAX_POOL_2D", "MAX_POOL_2D", (_LARGE,), lambda g, f: pool(g, f[0], "MAX_POOL_2D")),
    _Producer("AVERAGE_POOL_2D", "AVERAGE_POOL_2D", (_LARGE,), lambda g, f: pool(g, f[0], "AVERAGE_POOL_2D")),
)  # fmt: skip


def _mirrored(graph: GraphBuilder, x: TensorIndex) -> TensorIndex:
    shape = [d + a + b for d, (a, b) in zip(graph.shape(x), _BORDER, strict=True)]
    feeds = [x, graph.constant(np.asarray(_BORDER, np.int32))]
    return graph.op("MIRROR_PAD", feeds, shape, table("MirrorPad", mode="REFLECT"))


def _whole(graph: GraphBuilder, x: TensorIndex, size: int) -> int:
    """A window's size that fits a map."""
    return min(size, *graph.shape(x)[1:3])


def _grouped(graph: GraphBuilder, x: TensorIndex) -> TensorIndex:
    c = graph.shape(x)[3]
    return conv(graph, x, 8, _whole(graph, x, 3), groups=2 if c % 8 == 0 else 1)


def _added_to(graph: GraphBuilder, x: TensorIndex) -> TensorIndex:
    return graph.binary("ADD", x, graph.constant(draw(Given(graph.shape(x)), 9)))


CONSUMERS: tuple[_Consumer, ...] = (
    _Consumer("CONV_2D", "CONV_2D", lambda g, x: conv(g, x, 8, _whole(g, x, 3))),
    _Consumer("CONV_2D", "CONV_2D, SAME", lambda g, x: conv(g, x, 8, 3, padding="SAME")),
    _Consumer("CONV_2D", "CONV_2D, 1x1", lambda g, x: conv(g, x, 5, 1)),
    _Consumer("CONV_2D", "CONV_2D in groups", _grouped),
    _Consumer("DEPTHWISE_CONV_2D", "DEPTHWISE_CONV_2D", lambda g, x: depthwise(g, x, _whole(g, x, 3))),
    _Consumer("TRANSPOSE_CONV", "TRANSPOSE_CONV", transpose_conv),
    _Consumer("MAX_POOL_2D", "MAX_POOL_2D", lambda g, x: pool(g, x, "MAX_POOL_2D", _whole(g, x, 3))),
    _Consumer("AVERAGE_POOL_2D", "AVERAGE_POOL_2D", lambda g, x: pool(g, x, "AVERAGE_POOL_2D", _whole(g, x, 3))),
    _Consumer("MUL", "MUL by a vector", lambda g, x: _vector(g, x, "MUL")),
    _Consumer("ADD", "ADD of a vector", lambda g, x: _vector(g, x, "ADD")),
    _Consumer("MUL", "MUL by a vector of twelve", lambda g, x: _vector(g, x, "MUL", 12), narrow=True),
    _Consumer("ADD", "ADD of a vector of twelve", lambda g, x: _vector(g, x, "ADD", 12), narrow=True),
    _Consumer("ADD", "ADD of a map", _added_to),
    _Consumer("MUL", "MUL by itself", lambda g, x: g.binary("MUL", x, x)),
    _Consumer("MEAN", "MEAN of channels", lambda g, x: over(g, x, "MEAN", 3)),
    _Consumer("MEAN", "MEAN of the map", lambda g, x: over(g, x, "MEAN", 1, 2)),
    _Consumer("SUM", "SUM of rows", lambda g, x: over(g, x, "SUM", 1)),
    _Consumer("REDUCE_MAX", "REDUCE_MAX of rows", lambda g, x: over(g, x, "REDUCE_MAX", 1)),
    _Consumer("REDUCE_MAX", "REDUCE_MAX of channels", lambda g, x: over(g, x, "REDUCE_MAX", 3)),
    _Consumer("REDUCE_MIN", "REDUCE_MIN of columns", lambda g, x: over(g, x, "REDUCE_MIN", 2)),
    _Consumer("TANH", "TANH", lambda g, x: g.unary("TANH", x)),
    _Consumer("PAD", "PAD of a border", lambda g, x: g.pad(x, _BORDER)),
    _Consumer("RESHAPE", "RESHAPE", lambda g, x: g.reshape(x, (g.shape(x)[1] * g.shape(x)[2], g.shape(x)[3]))),
)  # fmt: skip
