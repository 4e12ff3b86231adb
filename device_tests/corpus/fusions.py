"""Ops that the delegate makes one of, though together they mean something else; each op is right by itself."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from device_tests.corpus.bug import EVERY, OLD, OLDEST, Bug
from device_tests.corpus.ops import concatenated, convolved, draw, one_over_deviation, padded_with, pooled, slices
from harness.graph.build import GraphBuilder
from harness.graph.model import Model

BORDER = ((0, 0), (1, 1), (1, 1), (0, 0))


def normalized_by_another() -> Model:
    """y - mean(x), made unit variance, x and y both graph inputs: the GPU normalizes x."""
    graph = GraphBuilder()
    x, y = graph.input("x", (1, 16, 64)), graph.input("y", (1, 16, 64))
    centred = graph.binary("SUB", y, graph.reduce("MEAN", x, 2))
    variance = graph.reduce("MEAN", graph.binary("MUL", centred, centred), 2)
    spread = one_over_deviation(graph, variance)
    graph.output(graph.binary("MUL", centred, spread), "z")
    return graph.build()


def normalized_and_negated() -> Model:
    """mean(x) - x over the deviation, the variance as mean(x²) - mean(x)²: the GPU gives x - mean(x) over it."""
    graph = GraphBuilder()
    x = graph.unary("TANH", graph.input("x", (1, 16, 64)))
    mean = graph.reduce("MEAN", x, 2)
    squares = graph.reduce("MEAN", graph.binary("MUL", x, x), 2)
    variance = graph.binary("SUB", squares, graph.binary("MUL", mean, mean))
    spread = one_over_deviation(graph, variance)
    scale = graph.binary("MUL", spread, graph.constant(np.ones(64)))
    graph.output(graph.binary("MUL", graph.binary("SUB", mean, x), scale), "y")
    return graph.build()


def padded_pool(kind: str) -> Callable[[], Model]:
    """PAD by a border of zeros, then pooling: the border becomes the pooling's own padding, and counts for nothing."""

    def build() -> Model:
        graph = GraphBuilder()
        below = graph.unary("NEG", graph.unary("EXP", graph.input("x", (1, 16, 16, 8))))
        graph.output(pooled(graph, kind, graph.pad(below, BORDER)), "y")
        return graph.build()

    return build


def border_of_minus_three() -> Model:
    """PADV2 with -3, then a convolution, whose own padding it becomes: zeros."""
    graph = GraphBuilder()
    x = graph.unary("TANH", graph.input("x", (1, 8, 8, 8)))
    graph.output(convolved(graph, padded_with(graph, x, BORDER, -3.0), draw(8, 3, 3, 8)), "y")
    return graph.build()


def convolution_widened() -> Model:
    """A convolution to one channel, plus a constant vector of twelve: the vector becomes a bias of one."""
    graph = GraphBuilder()
    one = convolved(graph, graph.input("x", (1, 8, 8, 8)), draw(1, 3, 3, 8))
    graph.output(graph.binary("ADD", one, graph.constant(draw(12, seed=3))), "y")
    return graph.build()


def widened_before_convolution() -> Model:
    """One channel times a constant vector of eight, then a convolution, whose weights take the vector in."""
    graph = GraphBuilder()
    x = graph.unary("TANH", graph.input("x", (1, 8, 8, 1)))
    wide = graph.binary("MUL", x, graph.constant(draw(8, seed=3)))
    graph.output(convolved(graph, wide, draw(8, 3, 3, 8)), "y")
    return graph.build()


def scaled_before_groups() -> Model:
    """Channels times a constant vector, then a convolution in two groups: both groups take the first half of it."""
    graph = GraphBuilder()
    x = graph.unary("TANH", graph.input("x", (1, 8, 8, 8)))
    scaled = graph.binary("MUL", x, graph.constant(1 + np.abs(draw(8, seed=3))))
    graph.output(convolved(graph, scaled, draw(8, 3, 3, 4)), "y")
    return graph.build()


def sum_then_maximum() -> Model:
    """max(x + y) over rows: the running maximum starts at x, without y."""
    graph = GraphBuilder()
    x = graph.unary("TANH", graph.input("x", (1, 6, 16, 32)))
    y = graph.unary("TANH", graph.input("y", (1, 6, 16, 32)))
    graph.output(graph.reduce("REDUCE_MAX", graph.binary("ADD", x, y), 1), "z")
    return graph.build()


def _score(graph: GraphBuilder, window: int, query: int) -> int:
    return graph.reduce("SUM", graph.binary("MUL", window, query), 3)


def scores_of_two_maps() -> Model:
    """Scores of one query in windows of two maps, side by side: all are taken from the first map."""
    graph = GraphBuilder()
    query = graph.input("query", (1, 8, 8, 16))
    maps = [graph.input(name, (1, 10, 10, 16)) for name in ("a", "b")]
    windows = [slices(graph, m, (0, i, i, 0), (1, 8, 8, 16)) for i, m in enumerate(maps)]
    graph.output(concatenated(graph, [_score(graph, w, query) for w in windows], 3), "scores")
    return graph.build()


def scores_of_two_heads() -> Model:
    """Scores of one query with two halves of the channels: both are taken from the first half."""
    graph = GraphBuilder()
    query, keys = graph.input("query", (1, 8, 8, 16)), graph.input("keys", (1, 8, 8, 32))
    heads = [slices(graph, keys, (0, 0, 0, 16 * i), (1, 8, 8, 16)) for i in range(2)]
    graph.output(concatenated(graph, [_score(graph, h, query) for h in heads], 3), "scores")
    return graph.build()


FUSIONS = (
    Bug(
        "normalized_by_another",
        normalized_by_another,
        ((6, "MUL", "context"),),
        EVERY,
        first=0,
        pending=dict.fromkeys((OLDEST, OLD), "MUL #2, context"),
    ),
    Bug(
        "normalized_and_negated",
        normalized_and_negated,
        ((10, "MUL", "context"),),
        EVERY,
        first=1,
        pending=dict.fromkeys((OLDEST, OLD), "MUL #4, context"),
    ),
    Bug("padded_max_pool", padded_pool("MAX_POOL_2D"), ((3, "MAX_POOL_2D", "context"),), EVERY, first=2),
    Bug("padded_average_pool", padded_pool("AVERAGE_POOL_2D"), ((3, "AVERAGE_POOL_2D", "context"),), EVERY, first=2),
    Bug("border_of_minus_three", border_of_minus_three, ((2, "CONV_2D", "context"),), EVERY, first=1),
    Bug("convolution_widened", convolution_widened, ((1, "ADD", "context"),), EVERY, first=0),
    Bug("widened_before_convolution", widened_before_convolution, ((2, "CONV_2D", "context"),), EVERY, first=1),
    Bug("scaled_before_groups", scaled_before_groups, ((2, "CONV_2D", "context"),), EVERY, first=1),
    Bug("sum_then_maximum", sum_then_maximum, ((3, "REDUCE_MAX", "context"),), EVERY, first=2),
    Bug("scores_of_two_maps", scores_of_two_maps, ((6, "CONCATENATION", "context"),), EVERY, first=0),
    Bug("scores_of_two_heads", scores_of_two_heads, ((6, "CONCATENATION", "context"),), EVERY, first=0),
)
