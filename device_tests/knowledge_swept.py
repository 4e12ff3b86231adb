"""Forms just inside and just outside the entries on what the support matrix met first, as in `knowledge_forms`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from device_tests.corpus.ops import (
    RELU,
    SAME,
    VALID,
    concatenated,
    convolved,
    draw,
    ints,
    options,
    padded_with,
    pooled,
    slices,
)
from device_tests.knowledge_forms import Form
from harness.graph.build import GraphBuilder

Build = Callable[[GraphBuilder], int | None]
Widths = tuple[tuple[int, int], ...]
Then = Callable[[GraphBuilder, int], int]

MAP, THIN = (1, 8, 8, 8), (1, 8, 8, 1)
ROWS, BORDER = ((0, 0), (2, 2), (0, 0), (0, 0)), ((0, 0), (1, 1), (1, 1), (0, 0))
DEEPER = ((0, 0), (0, 0), (0, 0), (0, 4))
FACTORS, ONES = np.linspace(0.5, 1.5, 64), np.ones(64)


def _normalized(
    shape: tuple[int, ...],
    *,
    axis: int = -1,
    factor: Any = None,
    squares: bool = True,
    negated: bool = False,
    out: str = "",
) -> Build:
    """x - mean(x) over the deviation, whose variance is of `squares` or of x - mean(x); `out`: what on the way is given
    out."""

    def build(graph: GraphBuilder) -> int:
        x = graph.unary("TANH", graph.input("x", shape))
        mean = graph.reduce("MEAN", x, axis)
        centred = graph.binary("SUB", *((mean, x) if negated else (x, mean)))
        product = graph.binary("MUL", x, x) if squares else graph.binary("MUL", centred, centred)
        variance = graph.reduce("MEAN", product, axis)
        if squares:
            variance = graph.binary("SUB", variance, graph.binary("MUL", mean, mean))
        spread = graph.unary("RSQRT", graph.binary("ADD", variance, graph.constant([1e-3])))
        named = {"mean": mean, "centred": centred, "product": product, "variance": variance, "spread": spread}
        if out:
            graph.output(named[out], out)
        if factor is not None:
            spread = graph.binary("MUL", spread, graph.constant(factor))
        return graph.binary("MUL", centred, spread)

    return build


def _product(
    a: tuple[int, ...], b: tuple[int, ...], *, adj_x: bool = False, adj_y: bool = False, held: bool = True
) -> Build:
    def build(graph: GraphBuilder) -> int:
        right = graph.constant(draw(*b)) if held else graph.input("y", b)
        rows, columns = a[-1 if adj_x else -2], b[-2 if adj_y else -1]
        shape = (*np.broadcast_shapes(a[:-2], b[:-2]), rows, columns)
        return graph.op(
            "BATCH_MATMUL", [graph.input("x", a), right], shape, options("BatchMatMul", adjX=adj_x, adjY=adj_y)
        )

    return build


def _bordered(value: float, widths: Widths = ROWS, then: Then | None = None, shape: tuple[int, ...] = MAP) -> Build:
    def build(graph: GraphBuilder) -> int:
        padded = padded_with(graph, graph.input("x", shape), widths, value)
        return padded if then is None else then(graph, padded)

    return build


def _both(first: Then, then: Then, shape: tuple[int, ...] = MAP, *, again: bool = False) -> Build:
    """Two ops, the first one's result an output as well, and read by another op or not."""

    def build(graph: GraphBuilder) -> None:
        between = first(graph, graph.input("x", shape))
        graph.output(between, "between")
        graph.output(then(graph, between), "y")
        if again:
            graph.output(graph.unary("TANH", between), "again")

    return build


def _by(kind: str, *shape: int, activation: int = 0) -> Then:
    """An op with a constant."""

    def then(graph: GraphBuilder, x: int) -> int:
        made = options(kind.title(), fusedActivationFunction=activation)
        return graph.op(kind, [x, graph.constant(draw(*shape, seed=3))], graph.shape(x), made)

    return then


def _conv(out: int = 8, size: int = 3, *, groups: int = 1, padding: int = VALID, weights: str = "") -> Then:
    def then(graph: GraphBuilder, x: int) -> int:
        n, h, w, c = graph.shape(x)
        shrunk = size - 1 if padding == VALID else 0
        kernel = (out, size, size, c // groups)
        feeds = [
            x,
            graph.input(weights, kernel) if weights else graph.constant(draw(*kernel)),
            graph.constant(draw(out)),
        ]
        table = options("Conv2D", padding=padding, strideH=1, strideW=1, dilationHFactor=1, dilationWFactor=1)
        return graph.op("CONV_2D", feeds, (n, h - shrunk, w - shrunk, out), table)

    return then


def _depthwise(graph: GraphBuilder, x: int) -> int:
    return convolved(graph, x, draw(1, 3, 3, 8), depth_multiplier=1)


def _enlarged(graph: GraphBuilder, x: int) -> int:
    n, h, w, c = graph.shape(x)
    feeds = [graph.constant(ints(n, 2 * h, 2 * w, 8)), graph.constant(draw(8, 2, 2, c)), x, graph.constant(draw(8))]
    table = options("TransposeConv", padding=VALID, strideH=2, strideW=2)
    return graph.op("TRANSPOSE_CONV", feeds, (n, 2 * h, 2 * w, 8), table, dtype=np.float32, version=3)


def _layer(graph: GraphBuilder, x: int) -> int:
    return graph.fully_connected(x, draw(8, 8), draw(8))


def _zeros(axis: int, *, value: float = 0.0, first: bool = False) -> Then:
    def then(graph: GraphBuilder, x: int) -> int:
        shape = [1 if i == axis else d for i, d in enumerate(graph.shape(x))]
        parts = [x, graph.constant(np.full(shape, value, np.float32))]
        return concatenated(graph, parts[::-1] if first else parts, axis)

    return then


def _pool(kind: str, size: int = 3) -> Then:
    return lambda graph, x: pooled(graph, kind, x, size)


def _below(graph: GraphBuilder, x: int) -> int:
    return graph.unary("NEG", graph.unary("EXP", x))


def _then(*steps: Then, shape: tuple[int, ...] = MAP) -> Build:
    def build(graph: GraphBuilder) -> int:
        x = graph.input("x", shape)
        for step in steps:
            x = step(graph, x)
        return x

    return build


def _wide(kind: str) -> Then:
    """One channel and a constant vector of eight."""
    return lambda graph, x: graph.binary(kind, graph.unary("TANH", x), graph.constant(draw(8, seed=3)))


def _scores(count: int, out: str, *, other: bool = False) -> Build:
    """Dot products with slices of a map, one of which, or what it is made from, is an output."""

    def build(graph: GraphBuilder) -> None:
        query, keys = graph.input("query", (1, 8, 8, 16)), graph.input("keys", (1, 12, 12, 16))
        scores = []
        for i in range(count):
            window = slices(graph, keys, (0, i, i, 0), (1, 8, 8, 16))
            product = graph.binary("MUL", window, query)
            scores.append(graph.reduce("SUM", product, 3))
            if not i and out:
                graph.output({"score": scores[0], "product": product}[out], out)
        if other:
            scores.append(graph.input("other", (1, 8, 8, 1)))
        graph.output(concatenated(graph, scores, 3), "scores")

    return build


def _sum_then(kind: str, shape: tuple[int, ...], axis: int) -> Build:
    def build(graph: GraphBuilder) -> None:
        total = graph.binary("ADD", graph.input("x", shape), graph.input("y", shape))
        graph.output(total, "total")
        graph.output(graph.reduce(kind, total, axis), "reduced")

    return build


def _cumsum(shape: tuple[int, ...], axis: int) -> Build:
    def build(graph: GraphBuilder) -> int:
        feeds = [graph.input("x", shape), graph.constant(np.asarray(axis, np.int32))]
        return graph.op("CUMSUM", feeds, shape, options("Cumsum"))

    return build


def _updated(shape: tuple[int, ...], part: tuple[int, ...], *, held: str = "") -> Build:
    """DYNAMIC_UPDATE_SLICE at 2; `held` names the operand that is a constant."""

    def build(graph: GraphBuilder) -> int:
        rank = len(shape)
        none = graph.binary("MUL", graph.input("start", (rank,)), graph.constant([0.0]))
        at = graph.op(
            "CAST", [graph.binary("ADD", none, graph.constant([2.0]))], (rank,), options("Cast"), dtype=np.int32
        )
        feeds = [
            graph.constant(draw(*size)) if name == held else graph.input(name, size)
            for name, size in (("x", shape), ("part", part))
        ]
        return graph.op("DYNAMIC_UPDATE_SLICE", [*feeds, at], shape, options("DynamicUpdateSlice"))

    return build


def _embedded(*, places: bool) -> Build:
    """EMBEDDING_LOOKUP; its places are held, or its table."""

    def build(graph: GraphBuilder) -> int:
        at = graph.constant(ints(2, 0, 1, 2)) if places else graph.input("places", (4,), np.int32)
        table = graph.input("table", (8, 8)) if places else graph.constant(draw(8, 8))
        return graph.op("EMBEDDING_LOOKUP", [at, table], (4, 8), dtype=np.float32)

    return build


def _one_hot(shape: tuple[int, ...]) -> Build:
    def build(graph: GraphBuilder) -> int:
        on, off = graph.constant(np.float32(2)), graph.constant(np.float32(-1))
        feeds = [graph.input("x", shape, np.int32), graph.constant(ints(4)), on, off]
        return graph.op("ONE_HOT", feeds, (*shape, 4), options("OneHot", axis=-1), dtype=np.float32)

    return build


def _turned(shape: tuple[int, ...], *axes: int) -> Build:
    def build(graph: GraphBuilder) -> int:
        feeds = [graph.input("x", shape), graph.constant(ints(*axes))]
        return graph.op("REVERSE_V2", feeds, shape, options("ReverseV2"))

    return build


def _chained(kind: str, count: int) -> Build:
    def build(graph: GraphBuilder) -> int:
        total = graph.input("x0", (1, 8, 8, 4))
        for i in range(1, count):
            feeds = [total, graph.input(f"x{i}", (1, 8, 8, 4))]
            total = graph.op(kind, feeds, (1, 8, 8, 4), options("MaximumMinimum"))
        return total

    return build


FORMS: tuple[Form, ...] = (
    Form("variance-of-squares", "rank 3", True, _normalized((1, 16, 64))),
    Form("variance-of-squares", "rank 2", True, _normalized((16, 64))),
    Form("variance-of-squares", "mean - x in rank 4", True, _normalized((2, 4, 4, 64), negated=True)),
    Form("variance-of-squares", "times a vector", False, _normalized((1, 16, 64), factor=FACTORS)),
    Form("variance-of-squares", "times a scalar", False, _normalized((1, 16, 64), factor=[2.0])),
    Form("variance-of-squares", "over rows", False, _normalized((1, 16, 64), axis=1)),
    Form("variance-of-squares", "by the mean of (x - mean)²", False, _normalized((1, 16, 64), squares=False)),
    Form("matmul-constant-adj-x", "rank 2", True, _product((8, 6), (8, 5), adj_x=True)),
    Form("matmul-constant-adj-x", "square", True, _product((8, 8), (8, 8), adj_x=True)),
    Form("matmul-constant-adj-x", "rank 4", True, _product((2, 4, 8, 6), (8, 5), adj_x=True)),
    Form("matmul-constant-adj-x", "a constant of rank 3", False, _product((3, 8, 6), (3, 8, 5), adj_x=True)),
    Form("matmul-constant-adj-x", "neither constant", False, _product((8, 6), (8, 5), adj_x=True, held=False)),
    Form("matmul-constant-adj-x", "not transposed", False, _product((6, 8), (8, 5))),
    Form("pad-beyond-half", "-1e9", True, _bordered(-1e9)),
    Form("pad-beyond-half", "channels", True, _bordered(-1e5, DEEPER)),
    Form("pad-beyond-half", "-65504", False, _bordered(-65504.0)),
    Form("pad-beyond-half", "before MAX_POOL_2D", False, _bordered(-1e9, BORDER, _pool("MAX_POOL_2D"))),
    Form("matmul-unequal-batches", "a constant of one batch", True, _product((3, 6, 8), (1, 8, 5))),
    Form("matmul-unequal-batches", "a constant of several", True, _product((1, 6, 8), (3, 8, 5))),
    Form("matmul-unequal-batches", "transposed, 24 rows", True, _product((3, 24, 8), (1, 24, 8), adj_y=True)),
    Form(
        "matmul-unequal-batches", "transposed, columns not in fours", True, _product((3, 6, 8), (1, 5, 8), adj_y=True)
    ),
    Form("matmul-unequal-batches", "transposed, few rows", False, _product((3, 6, 8), (1, 24, 8), adj_y=True)),
    Form("matmul-unequal-batches", "neither held", False, _product((3, 6, 8), (1, 24, 8), adj_y=True, held=False)),
    Form("matmul-unequal-batches", "a constant of equal batches", False, _product((3, 6, 8), (3, 8, 5))),
    Form("swallowed-before-convolution", "MUL by a vector, CONV_2D", True, _both(_by("MUL", 8), _conv())),
    Form("swallowed-before-convolution", "MUL by a scalar, SAME", True, _both(_by("MUL", 1), _conv(padding=SAME))),
    Form("swallowed-before-convolution", "MUL, DEPTHWISE_CONV_2D", True, _both(_by("MUL", 8), _depthwise)),
    Form("swallowed-before-convolution", "MUL, TRANSPOSE_CONV", True, _both(_by("MUL", 8), _enlarged)),
    Form("swallowed-before-convolution", "MUL, a layer", True, _both(_by("MUL", 8), _layer, (1, 8))),
    Form("swallowed-before-convolution", "ADD, CONV_2D", True, _both(_by("ADD", 8), _conv())),
    Form("swallowed-before-convolution", "ADD, padded CONV_2D", False, _both(_by("ADD", 8), _conv(padding=SAME))),
    Form("swallowed-before-convolution", "ADD, groups", False, _both(_by("ADD", 8), _conv(groups=2))),
    Form("swallowed-before-convolution", "ADD, DEPTHWISE_CONV_2D", False, _both(_by("ADD", 8), _depthwise)),
    Form("swallowed-before-convolution", "MUL by a map", False, _both(_by("MUL", 8, 8, 8), _conv())),
    Form("swallowed-before-convolution", "MUL, RELU", False, _both(_by("MUL", 8, activation=RELU), _conv())),
    Form("swallowed-before-convolution", "MUL, weights given", False, _both(_by("MUL", 8), _conv(weights="w"))),
    Form("swallowed-before-convolution", "MUL, read twice", False, _both(_by("MUL", 8), _conv(), again=True)),
    Form("swallowed-convolution", "TRANSPOSE_CONV", True, _both(_enlarged, _by("MUL", 8))),
    Form("swallowed-convolution", "a layer", True, _both(_layer, _by("ADD", 8), (1, 8))),
    Form("swallowed-convolution", "a scalar", True, _both(_conv(), _by("MUL", 1))),
    Form("swallowed-zeros", "rows, CONV_2D", True, _both(_zeros(1), _conv())),
    Form("swallowed-zeros", "columns ahead, MAX_POOL_2D", True, _both(_zeros(2, first=True), _pool("MAX_POOL_2D"))),
    Form("swallowed-zeros", "channels", False, _both(_zeros(3), _conv())),
    Form("swallowed-zeros", "ones", False, _both(_zeros(1, value=1.0), _conv())),
    Form("swallowed-zeros", "TRANSPOSE_CONV", False, _both(_zeros(1), _enlarged)),
    Form("swallowed-normalization", "variance", True, _normalized((1, 16, 64), squares=False, out="variance")),
    Form("swallowed-normalization", "x - mean", True, _normalized((1, 4, 4, 64), squares=False, out="centred")),
    Form("swallowed-normalization", "mean, rank 2", True, _normalized((16, 64), squares=False, out="mean")),
    Form(
        "swallowed-normalization",
        "times a vector",
        False,
        _normalized((1, 16, 64), squares=False, out="product", factor=FACTORS),
    ),
    Form("swallowed-normalization", "over rows", False, _normalized((1, 16, 64), axis=1, squares=False, out="product")),
    Form(
        "swallowed-normalization",
        "mean - x",
        False,
        _normalized((1, 16, 64), squares=False, negated=True, out="product"),
    ),
    Form("swallowed-normalization-of-squares", "ones", True, _normalized((1, 16, 64), factor=ONES, out="variance")),
    Form(
        "swallowed-normalization-of-squares", "mean, rank 4", True, _normalized((1, 4, 4, 64), factor=ONES, out="mean")
    ),
    Form(
        "swallowed-normalization-of-squares",
        "a vector",
        False,
        _normalized((1, 16, 64), factor=FACTORS, out="product"),
    ),
    Form("normalization-negated", "a vector of ones", True, _normalized((1, 16, 64), negated=True, factor=ONES)),
    Form("normalization-negated", "another vector", False, _normalized((1, 16, 64), negated=True, factor=FACTORS)),
    Form("swallowed-score", "two scores", True, _scores(2, "score")),
    Form("swallowed-score", "three scores, a product", True, _scores(3, "product")),
    Form("swallowed-score", "beside another tensor", False, _scores(2, "score", other=True)),
    Form("swallowed-score", "no output", False, _scores(2, "")),
    Form("swallowed-sum", "REDUCE_MAX of channels", True, _sum_then("REDUCE_MAX", (1, 8, 8, 16), 3)),
    Form("swallowed-pad", "PADV2", True, _both(lambda g, x: padded_with(g, x, BORDER, 0.0), _conv())),
    Form("cumsum-rank-1", "of 32", True, _cumsum((32,), 0)),
    Form("cumsum-rank-1", "from the end", True, _cumsum((5,), -1)),
    Form("cumsum-rank-1", "rank 2", False, _cumsum((1, 32), 1)),
    Form("cumsum-batch-of-one", "rank 4", True, _cumsum((1, 4, 5, 8), 0)),
    Form("cumsum-batch-of-one", "rank 2", True, _cumsum((1, 8), -2)),
    Form("cumsum-batch-of-one", "a batch of two", False, _cumsum((2, 4, 5, 8), 0)),
    Form("cumsum-batch-of-one", "rank 2, from the left", False, _cumsum((1, 8), 0)),
    Form("cumsum-axis-outside", "rank 4", True, _cumsum((2, 4, 5, 8), -1)),
    Form("cumsum-axis-outside", "rank 3", True, _cumsum((3, 6, 8), -2)),
    Form("cumsum-axis-outside", "rank 2", False, _cumsum((6, 8), -2)),
    Form("update-slice-constant", "the part", True, _updated((1, 8, 8, 4), (1, 2, 4, 4), held="part")),
    Form("update-slice-constant", "the whole", True, _updated((6, 8), (6, 2), held="x")),
    Form("update-slice-constant", "neither", False, _updated((1, 8, 8, 4), (1, 2, 4, 4))),
    Form("embedding-of-given-table", "places held", True, _embedded(places=True)),
    Form("embedding-of-given-table", "a table held", False, _embedded(places=False)),
    Form("update-slice-rank-1", "a part", True, _updated((32,), (4,))),
    Form("update-slice-rank-1", "all of it", False, _updated((32,), (32,))),
    Form("one-hot-rank-3", "one block", True, _one_hot((1, 3, 4))),
    Form("one-hot-rank-3", "blocks", True, _one_hot((2, 3, 4))),
    Form("one-hot-rank-3", "rank 1", False, _one_hot((4,))),
    Form("zeros-before-average-pool", "rows", True, _then(_zeros(1, first=True), _pool("AVERAGE_POOL_2D"))),
    Form("zeros-before-average-pool", "channels", False, _then(_zeros(3), _pool("AVERAGE_POOL_2D"))),
    Form("zeros-before-average-pool", "ones", False, _then(_zeros(1, value=1.0), _pool("AVERAGE_POOL_2D"))),
    Form("widened-by-addition", "CONV_2D", True, _then(_wide("ADD"), _conv(), shape=THIN)),
    Form("widened-by-addition", "1x1, SAME", True, _then(_wide("ADD"), _conv(size=1, padding=SAME), shape=THIN)),
    Form("widened-by-addition", "padded", False, _then(_wide("ADD"), _conv(padding=SAME), shape=THIN)),
    Form("widened-by-addition", "DEPTHWISE_CONV_2D", False, _then(_wide("ADD"), _depthwise, shape=THIN)),
    Form("widened-before-convolution", "DEPTHWISE_CONV_2D", True, _then(_wide("MUL"), _depthwise, shape=THIN)),
    Form("widened-before-convolution", "TRANSPOSE_CONV", True, _then(_wide("MUL"), _enlarged, shape=THIN)),
    Form("reverse-channels", "columns and channels", True, _turned((2, 4, 6, 5), 2, 3)),
    Form("reverse-channels", "rows and columns", False, _turned((2, 4, 6, 5), 1, 2)),
    Form("many-operands", "MAXIMUM of 49", True, _chained("MAXIMUM", 49)),
    Form("many-operands", "MAXIMUM of 48", False, _chained("MAXIMUM", 48)),
    Form("grouped-convolution", "1 to 2", True, _then(_conv(16, groups=8))),
    Form("grouped-convolution", "1 to 1", False, _then(_conv(8, groups=8))),
)
