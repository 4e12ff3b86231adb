"""Builders of the forms in `knowledge_swept`: ops in the ways in which the support matrix met them first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from device_tests.corpus.ops import (
    VALID,
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
from harness.graph.build import GraphBuilder

Build = Callable[[GraphBuilder], int | None]
Widths = tuple[tuple[int, int], ...]
Then = Callable[[GraphBuilder, int], int]

MAP, THIN = (1, 8, 8, 8), (1, 8, 8, 1)
ROWS, BORDER = ((0, 0), (2, 2), (0, 0), (0, 0)), ((0, 0), (1, 1), (1, 1), (0, 0))
DEEPER = ((0, 0), (0, 0), (0, 0), (0, 4))
FACTORS, ONES = np.linspace(0.5, 1.5, 64), np.ones(64)


def normalized(
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
        spread = one_over_deviation(graph, variance)
        named = {"mean": mean, "centred": centred, "product": product, "variance": variance, "spread": spread}
        if out:
            graph.output(named[out], out)
        if factor is not None:
            spread = graph.binary("MUL", spread, graph.constant(factor))
        return graph.binary("MUL", centred, spread)

    return build


def product(
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


def bordered(value: float, widths: Widths = ROWS, then: Then | None = None, shape: tuple[int, ...] = MAP) -> Build:
    def build(graph: GraphBuilder) -> int:
        padded = padded_with(graph, graph.input("x", shape), widths, value)
        return padded if then is None else then(graph, padded)

    return build


def both(first: Then, then: Then, shape: tuple[int, ...] = MAP, *, again: bool = False) -> Build:
    """Two ops, the first one's result an output as well, and read by another op or not."""

    def build(graph: GraphBuilder) -> None:
        between = first(graph, graph.input("x", shape))
        graph.output(between, "between")
        graph.output(then(graph, between), "y")
        if again:
            graph.output(graph.unary("TANH", between), "again")

    return build


def by(kind: str, *shape: int, activation: int = 0) -> Then:
    """An op with a constant."""

    def then(graph: GraphBuilder, x: int) -> int:
        made = options(kind.title(), fusedActivationFunction=activation)
        return graph.op(kind, [x, graph.constant(draw(*shape, seed=3))], graph.shape(x), made)

    return then


def conv(out: int = 8, size: int = 3, *, groups: int = 1, padding: int = VALID, weights: str = "") -> Then:
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


def depthwise(graph: GraphBuilder, x: int) -> int:
    return convolved(graph, x, draw(1, 3, 3, 8), depth_multiplier=1)


def enlarged(graph: GraphBuilder, x: int) -> int:
    n, h, w, c = graph.shape(x)
    feeds = [graph.constant(ints(n, 2 * h, 2 * w, 8)), graph.constant(draw(8, 2, 2, c)), x, graph.constant(draw(8))]
    table = options("TransposeConv", padding=VALID, strideH=2, strideW=2)
    return graph.op("TRANSPOSE_CONV", feeds, (n, 2 * h, 2 * w, 8), table, dtype=np.float32, version=3)


def layer(graph: GraphBuilder, x: int) -> int:
    return graph.fully_connected(x, draw(8, 8), draw(8))


def zeros(axis: int, *, value: float = 0.0, first: bool = False) -> Then:
    def then(graph: GraphBuilder, x: int) -> int:
        shape = [1 if i == axis else d for i, d in enumerate(graph.shape(x))]
        parts = [x, graph.constant(np.full(shape, value, np.float32))]
        return concatenated(graph, parts[::-1] if first else parts, axis)

    return then


def pool(kind: str, size: int = 3) -> Then:
    return lambda graph, x: pooled(graph, kind, x, size)


def then(*steps: Then, shape: tuple[int, ...] = MAP) -> Build:
    def build(graph: GraphBuilder) -> int:
        x = graph.input("x", shape)
        for step in steps:
            x = step(graph, x)
        return x

    return build


def channels(value: float, *, width: int = 4, out: bool = False, again: bool = False) -> Build:
    """PADV2 of channels, which may be an output or be read again, and ADD of another input."""

    def build(graph: GraphBuilder) -> None:
        x, y = graph.input("x", MAP), graph.input("y", (*MAP[:3], MAP[3] + width))
        padded = padded_with(graph, x, (*DEEPER[:3], (0, width)), value)
        if out:
            graph.output(padded, "padded")
        if again:
            graph.output(graph.unary("TANH", padded), "again")
        graph.output(graph.binary("ADD", y, padded), "z")

    return build


def wide(kind: str) -> Then:
    """One channel and a constant vector of eight."""
    return lambda graph, x: graph.binary(kind, graph.unary("TANH", x), graph.constant(draw(8, seed=3)))


def scores(count: int, out: str, *, other: bool = False) -> Build:
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


def sum_then(kind: str, shape: tuple[int, ...], axis: int) -> Build:
    def build(graph: GraphBuilder) -> None:
        total = graph.binary("ADD", graph.input("x", shape), graph.input("y", shape))
        graph.output(total, "total")
        graph.output(graph.reduce(kind, total, axis), "reduced")

    return build


def cumsum(shape: tuple[int, ...], axis: int) -> Build:
    def build(graph: GraphBuilder) -> int:
        feeds = [graph.input("x", shape), graph.constant(np.asarray(axis, np.int32))]
        return graph.op("CUMSUM", feeds, shape, options("Cumsum"))

    return build


def updated(shape: tuple[int, ...], part: tuple[int, ...], *, held: str = "") -> Build:
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


def embedded(*, places: bool) -> Build:
    """EMBEDDING_LOOKUP; its places are held, or its table."""

    def build(graph: GraphBuilder) -> int:
        at = graph.constant(ints(2, 0, 1, 2)) if places else graph.input("places", (4,), np.int32)
        table = graph.input("table", (8, 8)) if places else graph.constant(draw(8, 8))
        return graph.op("EMBEDDING_LOOKUP", [at, table], (4, 8), dtype=np.float32)

    return build


def one_hot(shape: tuple[int, ...]) -> Build:
    def build(graph: GraphBuilder) -> int:
        on, off = graph.constant(np.float32(2)), graph.constant(np.float32(-1))
        feeds = [graph.input("x", shape, np.int32), graph.constant(ints(4)), on, off]
        return graph.op("ONE_HOT", feeds, (*shape, 4), options("OneHot", axis=-1), dtype=np.float32)

    return build


def turned(shape: tuple[int, ...], *axes: int) -> Build:
    def build(graph: GraphBuilder) -> int:
        feeds = [graph.input("x", shape), graph.constant(ints(*axes))]
        return graph.op("REVERSE_V2", feeds, shape, options("ReverseV2"))

    return build


def integers(kind: str, titled: str, held: tuple[int, ...], *, first: bool, dtype: type = np.int32) -> Build:
    """An op of whole numbers from 2 on and a constant of 3 to 9."""

    def build(graph: GraphBuilder) -> int:
        size = graph.unary("ABS", graph.input("x", (3, 6, 8)))
        numbers = graph.op(
            "CAST", [graph.binary("ADD", size, graph.constant([2.5]))], (3, 6, 8), options("Cast"), dtype=np.int32
        )
        constant = graph.constant((np.arange(np.prod(held), dtype=np.int32) % 7 + 3).reshape(held))
        feeds = [constant, numbers] if first else [numbers, constant]
        made = graph.op(kind, feeds, (3, 6, 8), options(titled), dtype=dtype)
        return graph.op("CAST", [made], (3, 6, 8), options("Cast"), dtype=np.float32)

    return build


def chained(kind: str, count: int) -> Build:
    def build(graph: GraphBuilder) -> int:
        total = graph.input("x0", (1, 8, 8, 4))
        for i in range(1, count):
            feeds = [total, graph.input(f"x{i}", (1, 8, 8, 4))]
            total = graph.op(kind, feeds, (1, 8, 8, 4), options("MaximumMinimum"))
        return total

    return build
