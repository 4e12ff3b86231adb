"""Bugs that the support matrix met before a model did: each op of these graphs is right in another form."""

from __future__ import annotations

import numpy as np

from device_tests.corpus.bug import BETWEEN, EVERY, NEWER, NOW, OLD, OLDEST, Bug
from device_tests.corpus.ops import (
    concatenated,
    convolved,
    draw,
    ints,
    one_over_deviation,
    options,
    padded_with,
    pooled,
    slices,
)
from device_tests.corpus.parsing import cumsum
from harness.graph.build import GraphBuilder
from harness.graph.model import Model


def variance_of_squares() -> Model:
    """(x - mean(x)) / sqrt(mean(x²) - mean(x)² + e): the factor behind RSQRT, which is not there, is read."""
    graph = GraphBuilder()
    x = graph.unary("TANH", graph.input("x", (1, 16, 64)))
    mean = graph.reduce("MEAN", x, 2)
    squares = graph.reduce("MEAN", graph.binary("MUL", x, x), 2)
    variance = graph.binary("SUB", squares, graph.binary("MUL", mean, mean))
    spread = one_over_deviation(graph, variance)
    graph.output(graph.binary("MUL", graph.binary("SUB", x, mean), spread), "y")
    return graph.build()


def matmul_constant_adj_x() -> Model:
    """xᵀ @ w for a constant w [32, 24] of rank 2: `adj_x` is not read."""
    graph = GraphBuilder()
    feeds = [graph.input("x", (32, 32)), graph.constant(draw(32, 24))]
    graph.output(graph.op("BATCH_MATMUL", feeds, (32, 24), options("BatchMatMul", adjX=True)), "y")
    return graph.build()


def pad_beyond_half() -> Model:
    """Rows of -1e9, then RELU: a shader with such a number in float16 does not compile."""
    graph = GraphBuilder()
    padded = padded_with(graph, graph.input("x", (1, 4, 6, 8)), ((0, 0), (2, 2), (0, 0), (0, 0)), -1e9)
    graph.output(graph.unary("RELU", padded), "y")
    return graph.build()


def scaled_then_convolution() -> Model:
    """x times a vector is an output, and its only reader is a convolution: the vector moves into its weights."""
    graph = GraphBuilder()
    scaled = graph.binary("MUL", graph.input("x", (1, 8, 8, 8)), graph.constant(draw(8, seed=3)))
    graph.output(scaled, "scaled")
    graph.output(convolved(graph, scaled, draw(8, 3, 3, 8)), "y")
    return graph.build()


def zeros_then_convolution() -> Model:
    """x with a row of zeros is an output, and its only reader is a convolution: the row becomes its padding."""
    graph = GraphBuilder()
    zeros = graph.constant(np.zeros((1, 1, 8, 8), np.float32))
    joined = concatenated(graph, [graph.input("x", (1, 8, 8, 8)), zeros], 1)
    graph.output(joined, "joined")
    graph.output(convolved(graph, joined, draw(8, 3, 3, 8)), "y")
    return graph.build()


def channels_then_sum() -> Model:
    """x padded by channels is an output, and its only reader adds it to another tensor, which takes fewer channels."""
    graph = GraphBuilder()
    padded = graph.pad(graph.input("x", (1, 8, 8, 8)), ((0, 0), (0, 0), (0, 0), (0, 4)))
    graph.output(padded, "padded")
    graph.output(graph.binary("ADD", graph.input("y", (1, 8, 8, 12)), padded), "z")
    return graph.build()


def channels_of_minus_three() -> Model:
    """PADV2 by channels of -3, then ADD of another tensor, which takes fewer channels: zeros."""
    graph = GraphBuilder()
    x = graph.unary("TANH", graph.input("x", (1, 8, 8, 8)))
    padded = padded_with(graph, x, ((0, 0), (0, 0), (0, 0), (0, 4)), -3.0)
    graph.output(graph.binary("ADD", padded, graph.unary("TANH", graph.input("y", (1, 8, 8, 12)))), "z")
    return graph.build()


def normalization_then_squares() -> Model:
    """The squares in a normalization are an output: the GPU makes one kernel of all of it."""
    graph = GraphBuilder()
    x = graph.input("x", (1, 16, 64))
    centred = graph.binary("SUB", x, graph.reduce("MEAN", x, 2))
    product = graph.binary("MUL", centred, centred)
    graph.output(product, "squares")
    variance = graph.reduce("MEAN", product, 2)
    spread = one_over_deviation(graph, variance)
    graph.output(graph.binary("MUL", centred, spread), "y")
    return graph.build()


def normalization_of_squares_then_squares() -> Model:
    """x² in a normalization by mean(x²) - mean(x)², times a vector of ones, is an output: one kernel too."""
    graph = GraphBuilder()
    x = graph.unary("TANH", graph.input("x", (1, 16, 64)))
    mean = graph.reduce("MEAN", x, 2)
    product = graph.binary("MUL", x, x)
    graph.output(product, "squares")
    variance = graph.binary("SUB", graph.reduce("MEAN", product, 2), graph.binary("MUL", mean, mean))
    spread = one_over_deviation(graph, variance)
    scale = graph.binary("MUL", spread, graph.constant(np.ones(64)))
    graph.output(graph.binary("MUL", graph.binary("SUB", x, mean), scale), "y")
    return graph.build()


def score_then_scores() -> Model:
    """A score is an output, and its only reader joins it with another of the same map: both become one kernel."""
    graph = GraphBuilder()
    query, keys = graph.input("query", (1, 8, 8, 16)), graph.input("keys", (1, 10, 10, 16))
    scores = []
    for i in range(2):
        window = slices(graph, keys, (0, i, i, 0), (1, 8, 8, 16))
        scores.append(graph.reduce("SUM", graph.binary("MUL", window, query), 3))
    graph.output(scores[0], "first")
    graph.output(concatenated(graph, scores, 3), "scores")
    return graph.build()


def update_slice_constant() -> Model:
    """DYNAMIC_UPDATE_SLICE of a constant part: it is read as a run-time tensor."""
    graph = GraphBuilder()
    feeds = [graph.input("x", (1, 8, 8, 4)), graph.constant(draw(1, 2, 8, 4)), graph.input("start", (4,), np.int32)]
    graph.output(graph.op("DYNAMIC_UPDATE_SLICE", feeds, (1, 8, 8, 4), options("DynamicUpdateSlice")), "y")
    return graph.build()


def update_slice_rank_1() -> Model:
    """DYNAMIC_UPDATE_SLICE of a part of [32]: where to write is read along another axis than what is written."""
    graph = GraphBuilder()
    feeds = [graph.input("x", (32,)), graph.input("part", (4,)), graph.input("start", (1,), np.int32)]
    graph.output(graph.op("DYNAMIC_UPDATE_SLICE", feeds, (32,), options("DynamicUpdateSlice")), "y")
    return graph.build()


def embedding_of_given_table() -> Model:
    """EMBEDDING_LOOKUP at constant places in a table that comes at run time: each is taken for the other."""
    graph = GraphBuilder()
    feeds = [graph.constant(ints(2, 0, 1, 2)), graph.input("table", (6, 8))]
    graph.output(graph.op("EMBEDDING_LOOKUP", feeds, (4, 8), dtype=np.float32), "y")
    return graph.build()


def one_hot_rank_3() -> Model:
    """ONE_HOT of places [1, 3, 4]: rows are looked for along another axis."""
    graph = GraphBuilder()
    on, off = graph.constant(np.float32(2)), graph.constant(np.float32(-1))
    feeds = [graph.input("x", (1, 3, 4), np.int32), graph.constant(ints(4)), on, off]
    graph.output(graph.op("ONE_HOT", feeds, (1, 3, 4, 4), options("OneHot", axis=-1), dtype=np.float32), "y")
    return graph.build()


def pad_int32(value: int | None = None) -> Model:
    """Whole numbers with a border: of zeros by PAD, whose shader does not compile, or of a value by PADV2, whose parser
    takes it for a floating-point number."""
    graph = GraphBuilder()
    widths = graph.constant(np.asarray(((0, 0), (1, 1), (2, 2), (0, 0)), np.int32))
    feeds = [graph.input("x", (1, 4, 6, 8), np.int32), widths]
    shape = (1, 6, 10, 8)
    if value is None:
        padded = graph.op("PAD", feeds, shape, options("Pad"), dtype=np.int32)
    else:
        feeds.append(graph.constant(np.asarray(value, np.int32)))
        padded = graph.op("PADV2", feeds, shape, options("PadV2"), dtype=np.int32)
    graph.output(padded, "y")
    return graph.build()


def pad_int32_with_value() -> Model:
    """PADV2 of whole numbers."""
    return pad_int32(-3)


def one_hot_of_given_values() -> Model:
    """ONE_HOT whose first value comes at run time: it is read before it is there."""
    graph = GraphBuilder()
    feeds = [
        graph.input("x", (3,), np.int32),
        graph.constant(ints(4)),
        graph.input("on", ()),
        graph.constant(np.float32(-1)),
    ]
    graph.output(graph.op("ONE_HOT", feeds, (3, 4), options("OneHot", axis=-1), dtype=np.float32), "y")
    return graph.build()


def zeros_before_pool(kind: str) -> Model:
    """Negative values behind a row of zeros, then pooling, whose padding the row becomes: it does not count."""
    graph = GraphBuilder()
    below = graph.unary("NEG", graph.unary("EXP", graph.input("x", (1, 15, 16, 8))))
    joined = concatenated(graph, [graph.constant(np.zeros((1, 1, 16, 8), np.float32)), below], 1)
    graph.output(pooled(graph, kind, joined), "y")
    return graph.build()


def zeros_before_max_pool() -> Model:
    """Of the largest values."""
    return zeros_before_pool("MAX_POOL_2D")


def zeros_before_average_pool() -> Model:
    """Of the means."""
    return zeros_before_pool("AVERAGE_POOL_2D")


def widened_by_addition() -> Model:
    """One channel plus a constant vector of eight, then a convolution, whose bias takes the vector in."""
    graph = GraphBuilder()
    x = graph.unary("TANH", graph.input("x", (1, 8, 8, 1)))
    wide = graph.binary("ADD", x, graph.constant(draw(8, seed=3)))
    graph.output(convolved(graph, wide, draw(8, 3, 3, 8)), "y")
    return graph.build()


SWEPT = (
    Bug("variance_of_squares", variance_of_squares, ((9, "MUL", "crash"),), EVERY, first=1),
    Bug("matmul_constant_adj_x", matmul_constant_adj_x, ((0, "BATCH_MATMUL", "kernel"),), EVERY),
    Bug("pad_beyond_half", pad_beyond_half, ((0, "PADV2", "overflow"),), EVERY, unwritten=True),
    Bug("scaled_then_convolution", scaled_then_convolution, ((0, "MUL", "kernel"),), EVERY, unwritten=True),
    Bug("zeros_then_convolution", zeros_then_convolution, ((0, "CONCATENATION", "kernel"),), EVERY, unwritten=True),
    Bug("channels_then_sum", channels_then_sum, ((0, "PAD", "kernel"),), EVERY, unwritten=True),
    Bug("channels_of_minus_three", channels_of_minus_three, ((3, "ADD", "context"),), EVERY, first=1),
    Bug(
        "normalization_then_squares",
        normalization_then_squares,
        ((6, "MUL", "context"),),
        EVERY,
        first=0,
        unwritten=True,
        pending=dict.fromkeys((OLDEST, OLD), "MUL #2, context"),
    ),
    Bug(
        "normalization_of_squares_then_squares",
        normalization_of_squares_then_squares,
        ((10, "MUL", "context"),),
        EVERY,
        first=1,
        unwritten=True,
        pending=dict.fromkeys((OLDEST, OLD), "MUL #4, context"),
    ),
    Bug("score_then_scores", score_then_scores, ((6, "CONCATENATION", "context"),), EVERY, first=0, unwritten=True),
    Bug("cumsum_rank_1", cumsum((32,), 0), ((0, "CUMSUM", "kernel"),), EVERY),
    Bug("cumsum_batch_of_one", cumsum((1, 4, 5, 8), 0), ((0, "CUMSUM", "kernel"),), EVERY, unwritten=True),
    Bug("cumsum_axis_outside", cumsum((2, 4, 5, 8), -1), ((0, "CUMSUM", "crash"),), EVERY),
    Bug("update_slice_constant", update_slice_constant, ((0, "DYNAMIC_UPDATE_SLICE", "crash"),), EVERY),
    Bug("update_slice_rank_1", update_slice_rank_1, ((0, "DYNAMIC_UPDATE_SLICE", "kernel"),), EVERY),
    Bug("embedding_of_given_table", embedding_of_given_table, ((0, "EMBEDDING_LOOKUP", "crash"),), EVERY),
    Bug(
        "one_hot_rank_3",
        one_hot_rank_3,
        ((0, "ONE_HOT", "kernel"),),
        (NEWER, NOW),
        pending=dict.fromkeys((OLDEST, OLD, BETWEEN), "refused"),
    ),
    Bug("pad_int32", pad_int32, ((0, "PAD", "kernel"),), EVERY),
    Bug("pad_int32_with_value", pad_int32_with_value, ((0, "PADV2", "crash"),), EVERY),
    Bug(
        "one_hot_of_given_values",
        one_hot_of_given_values,
        ((0, "ONE_HOT", "crash"),),
        (NEWER, NOW),
        pending=dict.fromkeys((OLDEST, OLD, BETWEEN), "refused"),
    ),
    Bug("zeros_before_max_pool", zeros_before_max_pool, ((3, "MAX_POOL_2D", "context"),), EVERY, first=2),
    Bug("zeros_before_average_pool", zeros_before_average_pool, ((3, "AVERAGE_POOL_2D", "context"),), EVERY, first=2),
    Bug("widened_by_addition", widened_by_addition, ((2, "CONV_2D", "context"),), EVERY, first=1),
)
