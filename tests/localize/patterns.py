"""Models with the patterns of bugs known from phones, in several surroundings and shapes, and beside each its healthy
neighbours: what comes just short of the pattern."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from harness.core.arrays import Array
from harness.core.choices import Precision
from harness.graph.build import GraphBuilder
from harness.graph.model import Model


class Patterns(GraphBuilder):
    """A builder with the layers that the patterns stand among; weights are drawn, alike for every build."""

    def __init__(self, seed: int = 5) -> None:
        super().__init__()
        self.rng = np.random.default_rng(seed)

    def drawn(self, *shape: int, scale: float = 1.0) -> Array:
        return (scale * self.rng.standard_normal(shape)).astype(np.float32)

    def times(self, x: int, factor: float) -> int:
        return self.binary("MUL", x, self.constant(np.asarray([factor], np.float32)))

    def plus(self, x: int, term: float) -> int:
        return self.binary("ADD", x, self.constant(np.asarray([term], np.float32)))

    def over(self, kind: str, x: int, axes: Sequence[int], *, keep: bool = True) -> int:
        """SUM or MEAN over several axes."""
        options = schema.ReducerOptionsT()
        options.keepDims = keep
        whole = self.shape(x)
        gone = {axis % len(whole) for axis in axes}
        shape = [1 if i in gone else d for i, d in enumerate(whole) if keep or i not in gone]
        return self.op(kind, [x, self.constant(np.asarray(axes, np.int32))], shape, options)

    def conv(self, x: int, depth: int, size: int = 3, scale: float = 1.0, *, stride: int = 1, bias: float = 0.1) -> int:
        """CONV_2D with SAME padding; results of about `scale` times the operand's size."""
        n, h, w, c = self.shape(x)
        weights = self.drawn(depth, size, size, c, scale=scale / math.sqrt(size * size * c))
        options = schema.Conv2DOptionsT()
        options.strideH = options.strideW = stride
        options.dilationHFactor = options.dilationWFactor = 1
        options.padding = schema.Padding.SAME
        feeds = [x, self.constant(weights), self.constant(self.drawn(depth, scale=bias))]
        return self.op("CONV_2D", feeds, (n, -(-h // stride), -(-w // stride), depth), options)

    def depthwise(self, x: int, scale: float = 1.0) -> int:
        n, h, w, c = self.shape(x)
        options = schema.DepthwiseConv2DOptionsT()
        options.strideH = options.strideW = options.depthMultiplier = 1
        options.dilationHFactor = options.dilationWFactor = 1
        options.padding = schema.Padding.SAME
        feeds = [x, self.constant(self.drawn(1, 3, 3, c, scale=scale / 3)), self.constant(np.zeros(c, np.float32))]
        return self.op("DEPTHWISE_CONV_2D", feeds, (n, h, w, c), options)

    def dense(self, x: int, units: int, scale: float = 1.0) -> int:
        terms = self.shape(x)[-1]
        return self.fully_connected(
            x, self.drawn(units, terms, scale=scale / math.sqrt(terms)), self.drawn(units, scale=0.1)
        )

    def enlarged(self, x: int, height: int, width: int) -> int:
        """RESIZE_NEAREST_NEIGHBOR."""
        n, _, _, c = self.shape(x)
        size = self.constant(np.asarray([height, width], np.int32))
        return self.op(
            "RESIZE_NEAREST_NEIGHBOR", [x, size], (n, height, width, c), schema.ResizeNearestNeighborOptionsT()
        )

    def every_second(self, x: int, first: int, axis: int = 1, step: int = 2) -> int:
        """STRIDED_SLICE from an element on."""
        shape = self.shape(x)
        begin, steps, taken = [0] * len(shape), [1] * len(shape), list(shape)
        begin[axis], steps[axis], taken[axis] = first, step, -(-(shape[axis] - first) // step)
        feeds = [self.constant(np.asarray(values, np.int32)) for values in (begin, shape, steps)]
        return self.op("STRIDED_SLICE", [x, *feeds], taken, schema.StridedSliceOptionsT())

    def layer_norm(self, x: int) -> int:
        """Over the last axis, as converters write it."""
        last, width = len(self.shape(x)) - 1, self.shape(x)[-1]
        centred = self.binary("SUB", x, self.reduce("MEAN", x, last))
        variance = self.reduce("MEAN", self.binary("MUL", centred, centred), last)
        normal = self.binary("MUL", centred, self.unary("RSQRT", self.plus(variance, 1e-5)))
        scaled = self.binary("MUL", normal, self.constant(1 + self.drawn(width, scale=0.1)))
        return self.binary("ADD", scaled, self.constant(self.drawn(width, scale=0.1)))

    def attention(self, x: int, heads: int) -> int:
        """Of [1, tokens, width], in rank 4."""
        _, tokens, width = self.shape(x)
        split = (1, tokens, heads, width // heads)
        q, k, v = (self.transpose(self.reshape(self.dense(x, width), split), (0, 2, 1, 3)) for _ in range(3))
        scores = self.times(self.batch_matmul(q, k, adj_y=True), (width // heads) ** -0.5)
        mixed = self.transpose(self.batch_matmul(self.softmax(scores), v), (0, 2, 1, 3))
        return self.dense(self.reshape(mixed, (1, tokens, width)), width, 0.5)

    def feed_forward(self, x: int) -> int:
        width = self.shape(x)[-1]
        return self.dense(self.unary("RELU", self.dense(x, 2 * width)), width, 0.5)

    def block(self, x: int, heads: int = 2) -> int:
        """A transformer block: 2 residuals."""
        x = self.binary("ADD", x, self.attention(self.layer_norm(x), heads))
        return self.binary("ADD", x, self.feed_forward(self.layer_norm(x)))

    def mlp(self, x: int) -> int:
        """A block without attention: 1 residual."""
        return self.binary("ADD", self.feed_forward(self.layer_norm(x)), x)


@dataclass(frozen=True)
class Pattern:
    """A model and what a phone with the bug makes of it: the kinds of op that are to be named, in order, none for a
    neighbour that is right, and the cause of each. `rewritten`: beside the CPU and float32, a rewrite mends it.
    `hidden`: a culprit is behind another's NaN. `overflows`: values leave float16's range on any device."""

    bug: str
    name: str
    build: Callable[[Patterns], object]
    culprits: tuple[str, ...] = ()
    causes: tuple[str, ...] = ()
    rewritten: bool = True
    hidden: bool = False
    overflows: bool = False
    precision: Precision = "default"

    def model(self) -> Model:
        graph = Patterns()
        self.build(graph)
        return graph.build()


def _given(g: Patterns, *shape: int) -> int:
    return g.input("x", shape)


# SUM and MEAN over several axes of a large map.


def _squeeze(g: Patterns) -> None:
    x = g.unary("RELU", g.conv(_given(g, 1, 256, 256, 4), 8))
    gate = g.unary("LOGISTIC", g.conv(g.unary("RELU", g.conv(g.over("MEAN", x, (1, 2)), 4, 1)), 8, 1))
    g.output(g.conv(g.binary("MUL", x, gate), 2, 1), "y")


def _pooled_first(g: Patterns) -> None:
    g.output(g.dense(g.over("MEAN", _given(g, 1, 260, 256, 6), (1, 2), keep=False), 10), "y")


def _pooled_last(g: Patterns) -> None:
    x = g.times(g.unary("TANH", g.conv(_given(g, 1, 300, 220, 3), 5)), 0.01)
    g.output(g.over("SUM", x, (-3, -2)), "y")


def _instance_norm(g: Patterns) -> None:
    x = g.conv(_given(g, 1, 256, 256, 3), 4)
    centred = g.binary("SUB", x, g.over("MEAN", x, (1, 2)))
    variance = g.over("MEAN", g.binary("MUL", centred, centred), (1, 2))
    g.output(g.conv(g.binary("MUL", centred, g.unary("RSQRT", g.plus(variance, 1e-5))), 3), "y")


def _channels_first(g: Patterns) -> None:
    x = g.unary("LOGISTIC", _given(g, 1, 3, 256, 256))
    mean = g.over("MEAN", x, (2, 3))
    g.output(g.binary("DIV", x, g.plus(mean, 0.5)), "y")
    g.output(g.unary("TANH", mean), "m")


def _rank_3(g: Patterns) -> None:
    x = g.unary("TANH", _given(g, 2, 7000, 12))
    g.output(g.binary("SUB", x, g.over("MEAN", x, (1, 2))), "y")


def _small_map(g: Patterns) -> None:
    x = g.unary("RELU", g.conv(_given(g, 1, 254, 255, 2), 4))
    g.output(g.binary("MUL", x, g.over("MEAN", x, (1, 2))), "y")


def _one_after_the_other(g: Patterns) -> None:
    x = g.unary("RELU", g.conv(_given(g, 1, 256, 256, 2), 4))
    g.output(g.binary("MUL", x, g.reduce("MEAN", g.reduce("MEAN", x, 2), 1)), "y")


def _one_long_axis(g: Patterns) -> None:
    g.output(g.over("MEAN", g.unary("LOGISTIC", _given(g, 1, 1, 70_000, 2)), (1, 2)), "y")


# Residuals in a large graph.


def _transformer(g: Patterns, blocks: int, loud: dict[int, float]) -> None:
    x = g.dense(_given(g, 1, 16, 32), 32)
    for i in range(blocks):
        if i in loud:
            x = g.times(x, loud[i])
        x = g.block(x)
    g.output(g.dense(g.layer_norm(x), 8), "y")


def _mixer(g: Patterns) -> None:
    x = g.times(g.dense(_given(g, 24, 40), 40), 30.0)
    for _ in range(10):
        x = g.mlp(x)
    g.output(g.unary("TANH", g.dense(g.layer_norm(x), 4)), "y")


def _convolved_before(g: Patterns) -> None:
    x = g.unary("RELU", g.conv(_given(g, 1, 8, 8, 4), 32, scale=30.0))
    x = g.reshape(x, (1, 64, 32))
    for _ in range(5):
        x = g.block(x, 4)
    g.output(g.conv(g.reshape(g.layer_norm(x), (1, 8, 8, 32)), 4), "y")


# Enlarged maps.


def _decoder(g: Patterns) -> None:
    x = g.unary("RELU", g.conv(_given(g, 1, 12, 10, 6), 8))
    g.output(g.conv(g.enlarged(x, 24, 20), 4), "y")


def _masked(g: Patterns, row: int) -> None:
    """Each element with zeros around it, at an offset within its block: depth to space, or a transposed convolution."""
    x = g.enlarged(g.unary("TANH", _given(g, 1, 8, 9, 4)), 32, 36)
    mask = np.zeros((1, 32, 36, 1), np.float32)
    mask[:, row::4, row::4] = 1
    g.output(g.conv(g.binary("MUL", x, g.constant(mask)), 3), "y")


def _taken(g: Patterns, first: int) -> None:
    g.output(g.every_second(g.every_second(g.enlarged(_given(g, 1, 16, 16, 5), 32, 32), first), first, axis=2), "y")


def _one_way(g: Patterns) -> None:
    """Along the width alone, as one-dimensional signals are."""
    x = g.reshape(g.unary("TANH", g.dense(_given(g, 1, 40, 6), 6)), (1, 1, 40, 6))
    g.output(g.dense(g.reshape(g.enlarged(x, 1, 120), (1, 120, 6)), 4), "y")


# Convolutions with large results.


def _then_normalized(g: Patterns, scale: float = 1800.0) -> None:
    """Normalized with care, so that no square leaves float16's range."""
    x = g.conv(g.unary("TANH", g.conv(_given(g, 1, 16, 16, 6), 16)), 24, scale=scale)
    g.output(g.conv(g.layer_norm(g.times(x, 2.0**-6)), 4), "y")


def _then_squared(g: Patterns) -> None:
    """Normalized without: the variance is another fault, in float16 on any device."""
    x = g.conv(g.unary("TANH", g.conv(_given(g, 1, 16, 16, 6), 16)), 24, scale=1800.0)
    g.output(g.conv(g.layer_norm(x), 4), "y")


def _first_and_large(g: Patterns) -> None:
    x = g.conv(_given(g, 1, 20, 12, 4), 12, 5, scale=1800.0, stride=2)
    g.output(g.unary("TANH", g.times(x, 1e-3)), "y")


def _depthwise_large(g: Patterns) -> None:
    x = g.depthwise(g.conv(_given(g, 1, 14, 14, 3), 16), 2500.0)
    g.output(g.dense(g.over("MEAN", g.times(g.unary("RELU", x), 1e-3), (1, 2), keep=False), 5), "y")


def _pointwise_last(g: Patterns) -> None:
    g.output(g.conv(g.unary("RELU", g.conv(_given(g, 1, 10, 18, 8), 8)), 12, 1, scale=4000.0), "y")


# Sums that leave float16.


def _loud_norm(g: Patterns, scale: float = 40.0) -> None:
    """Variances of about 1600, whose sum over 64 is beyond 65504."""
    x = g.times(g.dense(_given(g, 1, 20, 64), 64), scale)
    g.output(g.dense(g.layer_norm(x), 8), "y")


def _root_mean_square(g: Patterns) -> None:
    x = g.unary("RELU", g.dense(g.times(_given(g, 1, 10, 96), 90.0), 96))
    total = g.reduce("SUM", g.binary("MUL", x, x), 2)
    g.output(g.dense(g.binary("MUL", x, g.unary("RSQRT", total)), 8), "y")


def _loud_squeeze(g: Patterns, offset: float = 8.0) -> None:
    """A mean over 128x128 of about 8."""
    x = g.plus(g.unary("TANH", g.conv(_given(g, 1, 128, 128, 3), 8)), offset)
    gate = g.unary("LOGISTIC", g.conv(g.times(g.over("MEAN", x, (1, 2)), 0.1), 8, 1))
    g.output(g.conv(g.binary("MUL", x, gate), 3, 1), "y")


def _summed_squeeze(g: Patterns) -> None:
    x = g.plus(g.unary("TANH", g.conv(_given(g, 1, 96, 96, 3), 8)), 9.0)
    mean = g.times(g.over("SUM", x, (1, 2), keep=False), 1 / 9216)
    g.output(g.unary("LOGISTIC", g.dense(mean, 6)), "y")


# Constants without a leading 1.


def _embedded(g: Patterns) -> None:
    x = g.binary("ADD", _given(g, 24, 16), g.constant(g.drawn(24, 16)))
    g.output(g.unary("TANH", g.dense(x, 12)), "y")


def _scaled_blocks(g: Patterns) -> None:
    x = g.unary("TANH", g.dense(_given(g, 3, 10, 8), 8))
    x = g.binary("MUL", g.constant(1 + g.drawn(3, 10, 8, scale=0.5)), x)
    g.output(g.dense(x, 8), "y")


def _divided_last(g: Patterns) -> None:
    x = g.dense(g.unary("RELU", g.dense(_given(g, 30, 12), 20)), 12)
    g.output(g.binary("DIV", x, g.constant(2 + np.abs(g.drawn(30, 12)))), "y")


def _leading_one(g: Patterns) -> None:
    x = g.binary("ADD", _given(g, 1, 24, 16), g.constant(g.drawn(1, 24, 16)))
    x = g.binary("MUL", g.reshape(x, (1, 1, 24, 16)), g.constant(g.drawn(1, 1, 24, 16)))
    g.output(g.binary("SUB", g.reshape(x, (24, 16)), g.constant(g.drawn(1, 16))), "y")


KERNEL, OVERFLOW = ("kernel",), ("overflow",)
MEAN, SUM, ADD, RESIZE, CONV = ("MEAN",), ("SUM",), ("ADD",), ("RESIZE_NEAREST_NEIGHBOR",), ("CONV_2D",)


def _residual(
    name: str, build: Callable[[Patterns], object], count: int = 1, precision: Precision = "default"
) -> Pattern:
    return Pattern(
        "residual-collapse", name, build, ADD * count, ("context",) * count, rewritten=False, precision=precision
    )


PATTERNS = (
    Pattern("multi-axis-sum", "squeeze and excite", _squeeze, MEAN, KERNEL),
    Pattern("multi-axis-sum", "first, axes dropped", _pooled_first, MEAN, KERNEL),
    Pattern("multi-axis-sum", "last, negative axes", _pooled_last, SUM, KERNEL),
    Pattern("multi-axis-sum", "instance norm", _instance_norm, MEAN * 2, KERNEL * 2, hidden=True),
    Pattern("multi-axis-sum", "channels first", _channels_first, MEAN, KERNEL),
    Pattern("multi-axis-sum", "rank 3", _rank_3, MEAN, KERNEL),
    Pattern("multi-axis-sum", "a smaller map", _small_map),
    Pattern("multi-axis-sum", "one axis after the other", _one_after_the_other),
    Pattern("multi-axis-sum", "one long axis", _one_long_axis),
    _residual("loud from the start", lambda g: _transformer(g, 5, {0: 25.0})),
    _residual("loud in the middle", lambda g: _transformer(g, 5, {2: 25.0})),
    _residual("loud twice", lambda g: _transformer(g, 6, {1: 25.0, 4: 60.0}), 2, "fp32"),
    _residual("no attention, rank 2", _mixer),
    _residual("convolutions around", _convolved_before),
    Pattern("residual-collapse", "quiet", lambda g: _transformer(g, 5, {0: 5.0})),
    Pattern("residual-collapse", "a smaller graph", lambda g: _transformer(g, 2, {0: 25.0})),
    Pattern("resize-nearest", "decoder", _decoder, RESIZE, KERNEL),
    Pattern("resize-nearest", "masked at an offset", lambda g: _masked(g, 3), RESIZE, KERNEL),
    Pattern("resize-nearest", "taken at an offset", lambda g: _taken(g, 1), RESIZE, KERNEL),
    Pattern("resize-nearest", "width alone, 3 times", _one_way, RESIZE, KERNEL),
    Pattern("resize-nearest", "masked at multiples", lambda g: _masked(g, 0)),
    Pattern("resize-nearest", "taken at multiples", lambda g: _taken(g, 0)),
    Pattern("large-convolution", "then normalized", _then_normalized, CONV, KERNEL),
    Pattern("large-convolution", "then squared", _then_squared, (*CONV, "MUL"), (*KERNEL, *OVERFLOW), overflows=True),
    Pattern("large-convolution", "first, stride 2", _first_and_large, CONV, KERNEL),
    Pattern("large-convolution", "depthwise", _depthwise_large, ("DEPTHWISE_CONV_2D",), KERNEL),
    Pattern("large-convolution", "last, 1x1", _pointwise_last, CONV, KERNEL),
    Pattern("large-convolution", "smaller results", lambda g: _then_normalized(g, 900.0)),
    Pattern("half-sums", "layer norm", _loud_norm, MEAN, OVERFLOW),
    Pattern("half-sums", "root mean square", _root_mean_square, SUM, OVERFLOW, overflows=True),
    Pattern("half-sums", "squeeze and excite", _loud_squeeze, MEAN, OVERFLOW),
    Pattern("half-sums", "squeeze by a sum", _summed_squeeze, SUM, OVERFLOW, overflows=True),
    Pattern("half-sums", "a quieter norm", lambda g: _loud_norm(g, 15.0)),
    Pattern("half-sums", "a quieter squeeze", lambda g: _loud_squeeze(g, 2.0)),
    Pattern("low-rank-constant", "first, rank 2", _embedded, ADD, KERNEL),
    Pattern("low-rank-constant", "rank 3, the constant first", _scaled_blocks, ("MUL",), KERNEL),
    Pattern("low-rank-constant", "last, DIV", _divided_last, ("DIV",), KERNEL),
    Pattern("low-rank-constant", "a leading 1", _leading_one),
)
