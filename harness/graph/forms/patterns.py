"""A few ops that belong together, as models write them: normalizations, activations in parts, masks, scores, chains.

Each of them with its operands exchanged or taken from elsewhere, which a delegate that looks for the usual form may not
see.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from harness.core.arrays import TensorIndex
from harness.graph.build import GraphBuilder
from harness.graph.forms.form import Build, Form, Given
from harness.graph.forms.pairs import conv, join, over, pool, slice_of


def forms() -> Iterator[Form]:
    """All of them."""
    yield from _normalizations()
    yield from _activations()
    yield from _masks()
    yield from _scores()
    yield from _chains()
    yield from _layers()


def _form(ops: str, label: str, inputs: Sequence[Given], build: Build) -> Form:
    return Form(ops, label, tuple(inputs), build, "pattern")


_VECTORS = {"": "", "factors": ", times a vector", "ones": ", times a vector of ones"}


def _normalizations() -> Iterator[Form]:
    rows = Given((1, 16, 64))
    for by_output in (False, True):  # through TANH, operands have ops that make them
        for mean_of, centre in ((0, 0), (0, 1)):
            for order in ("x - mean", "mean - x"):
                for moments in ("the mean of squares", "E[x2] - E[x]2"):
                    for vector in _VECTORS:
                        if vector == "ones" and (moments == "the mean of squares" or mean_of != centre):
                            continue
                        words = (
                            f"{order}, mean of {'x' if mean_of == centre else 'another'}, variance by {moments}"
                            f"{', behind TANH' if by_output else ''}{_VECTORS[vector]}"
                        )
                        yield _form(
                            "MEAN, SUB, RSQRT",
                            words,
                            [rows, rows],
                            _normalized(by_output, centre, order, moments, vector),
                        )
    yield _form(
        "MEAN, SUB, RSQRT", "of hundreds, the square out of range", [Given((1, 64, 256), "hundreds")], _of_hundreds
    )


def _normalized(by_output: bool, centre: int, order: str, moments: str, vector: str) -> Build:
    def build(graph: GraphBuilder, feeds: Sequence[TensorIndex]) -> Sequence[TensorIndex]:
        x, y = (graph.unary("TANH", feed) for feed in feeds) if by_output else feeds
        taken = (x, y)[centre]
        mean = graph.reduce("MEAN", x, 2)
        operands = (taken, mean) if order == "x - mean" else (mean, taken)
        centred = graph.binary("SUB", *operands)
        if moments == "the mean of squares":
            variance = graph.reduce("MEAN", graph.binary("MUL", centred, centred), 2)
        else:
            squares = graph.reduce("MEAN", graph.binary("MUL", x, x), 2)
            variance = graph.binary("SUB", squares, graph.binary("MUL", mean, mean))
        spread = graph.unary("RSQRT", graph.binary("ADD", variance, graph.constant([1e-3])))
        if vector:
            factors = np.ones(64) if vector == "ones" else np.linspace(0.5, 1.5, 64)
            spread = graph.binary("MUL", spread, graph.constant(factors))
        # The sum at the end reads the other of the two.
        whole = graph.binary("MUL", centred, spread)
        return [centred, variance, graph.binary("ADD", whole, (y, x)[centre])]

    return build


def _of_hundreds(graph: GraphBuilder, feeds: Sequence[TensorIndex]) -> Sequence[TensorIndex]:
    mean = graph.reduce("MEAN", feeds[0], 2)
    centred = graph.binary("SUB", feeds[0], mean)
    variance = graph.reduce("MEAN", graph.binary("MUL", centred, centred), 2)
    spread = graph.unary("RSQRT", graph.binary("ADD", variance, graph.constant([1e-5])))
    return [mean, graph.binary("MUL", centred, spread)]


def _activations() -> Iterator[Form]:
    x = Given((1, 8, 8, 16))
    for kind in ("MUL", "ADD"):

        def mish(graph: GraphBuilder, feeds: Sequence[TensorIndex], kind: str = kind) -> Sequence[TensorIndex]:
            more = graph.binary("ADD", graph.unary("EXP", feeds[0]), graph.constant([1.0]))
            softplus = graph.unary("LOG", more)
            return [softplus, graph.binary(kind, feeds[0], graph.unary("TANH", softplus))]

        yield _form("EXP, LOG, TANH", f"Mish in parts, {kind} at its end", [x], mish)

        def swish(graph: GraphBuilder, feeds: Sequence[TensorIndex], kind: str = kind) -> Sequence[TensorIndex]:
            gate = graph.unary("LOGISTIC", feeds[0])
            return [gate, graph.binary(kind, feeds[0], gate)]

        yield _form("LOGISTIC, MUL", f"Swish in parts, {kind} at its end", [x], swish)

    def hard(graph: GraphBuilder, feeds: Sequence[TensorIndex]) -> Sequence[TensorIndex]:
        gate = graph.unary("RELU6", graph.binary("ADD", feeds[0], graph.constant([3.0])))
        return [gate, graph.binary("MUL", graph.binary("MUL", feeds[0], gate), graph.constant([1 / 6]))]

    yield _form("RELU6, MUL", "hard swish in parts", [x], hard)
    for axis in (1, 2, 3):

        def soft(graph: GraphBuilder, feeds: Sequence[TensorIndex], axis: int = axis) -> Sequence[TensorIndex]:
            most = graph.reduce("REDUCE_MAX", feeds[0], axis)
            powers = graph.unary("EXP", graph.binary("SUB", feeds[0], most))
            return [most, graph.binary("DIV", powers, graph.reduce("SUM", powers, axis))]

        yield _form("REDUCE_MAX, EXP, DIV", f"softmax in parts over axis {axis}", [x], soft)


def _masks() -> Iterator[Form]:
    for value in (-1e4, -65504.0, -1e5, -1e9, -np.inf):
        for words, columns in (
            ("first four", slice(0, 4)),
            ("first three", slice(0, 3)),
            ("last four", slice(60, 64)),
            ("second half", slice(32, 64)),
        ):
            held = np.zeros((1, 1, 64), np.float32)
            held[..., columns] = value

            def masked(
                graph: GraphBuilder, feeds: Sequence[TensorIndex], held: np.ndarray = held
            ) -> Sequence[TensorIndex]:
                scores = graph.binary("ADD", feeds[0], graph.constant(held))
                return [scores, graph.softmax(scores)]

            yield _form(
                "ADD, SOFTMAX", f"a mask of {value:g} on the {words} of 64 columns", [Given((4, 16, 64))], masked
            )


def _scores() -> Iterator[Form]:
    query, wide, tall = Given((1, 8, 8, 16)), Given((1, 8, 8, 32)), Given((1, 10, 10, 16))
    for kind in ("SUM", "MEAN"):

        def heads(graph: GraphBuilder, feeds: Sequence[TensorIndex], kind: str = kind) -> Sequence[TensorIndex]:
            parts = [slice_of(graph, feeds[1], (0, 0, 0, 16 * i), (1, 8, 8, 16)) for i in range(2)]
            each = [graph.reduce(kind, graph.binary("MUL", part, feeds[0]), 3) for part in parts]
            return [each[0], join(graph, each, 3)]

        yield _form("SLICE, MUL, SUM", f"scores of two heads by {kind}", [query, wide], heads)

        def windows(graph: GraphBuilder, feeds: Sequence[TensorIndex], kind: str = kind) -> Sequence[TensorIndex]:
            parts = [slice_of(graph, feeds[1 + i], (0, i, i, 0), (1, 8, 8, 16)) for i in range(2)]
            each = [graph.reduce(kind, graph.binary("MUL", part, feeds[0]), 3) for part in parts]
            return [each[0], join(graph, each, 3)]

        yield _form("SLICE, MUL, SUM", f"scores in two maps by {kind}", [query, tall, tall], windows)

        def shifts(graph: GraphBuilder, feeds: Sequence[TensorIndex], kind: str = kind) -> Sequence[TensorIndex]:
            parts = [slice_of(graph, feeds[1], (0, i, i, 0), (1, 8, 8, 16)) for i in range(3)]
            each = [graph.reduce(kind, graph.binary("MUL", part, feeds[0]), 3) for part in parts]
            return [each[0], join(graph, each, 3)]

        yield _form("SLICE, MUL, SUM", f"scores at three places of one map by {kind}", [query, tall], shifts)

    def attention(graph: GraphBuilder, feeds: Sequence[TensorIndex]) -> Sequence[TensorIndex]:
        q, k, mask, v = feeds
        scores = graph.binary("ADD", graph.batch_matmul(q, k, adj_y=True), mask)
        return [scores, graph.batch_matmul(graph.softmax(scores), v)]

    head = Given((8, 64, 64))
    yield _form(
        "BATCH_MATMUL, ADD, SOFTMAX",
        "attention of rank 3 with a mask of rank 4",
        [head, head, Given((1, 1, 64, 64)), Given((1, 8, 64, 64))],
        attention,
    )
    yield _form("BATCH_MATMUL, ADD, SOFTMAX", "attention of rank 3", [head, head, Given((1, 64, 64)), head], attention)
    four = Given((1, 8, 64, 64))
    yield _form(
        "BATCH_MATMUL, ADD, SOFTMAX", "attention of rank 4", [four, four, Given((1, 1, 64, 64)), four], attention
    )


def _chains() -> Iterator[Form]:
    for kind in ("ADD", "MAXIMUM"):
        for count in (16, 32, 47, 48, 49, 56):

            def chain(graph: GraphBuilder, feeds: Sequence[TensorIndex], kind: str = kind) -> Sequence[TensorIndex]:
                total = feeds[0]
                for feed in feeds[1:]:
                    total = graph.binary(kind, total, feed)
                return [graph.unary("NEG", feeds[0]), total]

            yield _form(kind, f"a chain of {kind} over {count} inputs", [Given((1, 8, 8, 4))] * count, chain)


def _layers() -> Iterator[Form]:
    flat = Given((1, 8))
    for out in (1, 8):
        for kind in ("ADD", "MUL"):
            for width in {out, 12 if out == 1 else out}:

                def after(
                    graph: GraphBuilder,
                    feeds: Sequence[TensorIndex],
                    out: int = out,
                    kind: str = kind,
                    width: int = width,
                ) -> Sequence[TensorIndex]:
                    made = graph.fully_connected(feeds[0], _draw(out, 8), _draw(out))
                    return [made, graph.binary(kind, made, graph.constant(_draw(width)))]

                yield _form(
                    f"FULLY_CONNECTED, {kind}", f"a layer of {out}, then {kind} by a vector of {width}", [flat], after
                )

                def ahead(
                    graph: GraphBuilder, feeds: Sequence[TensorIndex], kind: str = kind, width: int = width
                ) -> Sequence[TensorIndex]:
                    made = graph.binary(kind, feeds[0], graph.constant(_draw(8)))
                    return [made, graph.fully_connected(made, _draw(width, 8), _draw(width))]

                yield _form(
                    f"{kind}, FULLY_CONNECTED",
                    f"{kind} of [1,{out}] by a vector of 8, then a layer of {width}",
                    [Given((1, out))],
                    ahead,
                )

    def excite(graph: GraphBuilder, feeds: Sequence[TensorIndex]) -> Sequence[TensorIndex]:
        mean = over(graph, feeds[0], "MEAN", 1, 2)
        gate = graph.unary("LOGISTIC", conv(graph, graph.unary("RELU", conv(graph, mean, 4, 1)), 16, 1))
        return [gate, graph.binary("MUL", feeds[0], gate)]

    yield _form("MEAN, CONV_2D, MUL", "squeeze and excite", [Given((1, 8, 8, 16))], excite)

    def residual(graph: GraphBuilder, feeds: Sequence[TensorIndex]) -> Sequence[TensorIndex]:
        made = conv(graph, graph.unary("RELU", conv(graph, feeds[0], 8, padding="SAME")), 8, padding="SAME")
        return [made, graph.unary("RELU", graph.binary("ADD", made, feeds[0]))]

    yield _form("CONV_2D, ADD", "a residual block", [Given((1, 8, 8, 8))], residual)

    def pooled(graph: GraphBuilder, feeds: Sequence[TensorIndex]) -> Sequence[TensorIndex]:
        low = graph.binary("SUB", feeds[0], graph.constant([20000.0]))
        return [low, pool(graph, low, "MAX_POOL_2D")]

    yield _form("SUB, MAX_POOL_2D", "the maximum of values near -20000", [Given((1, 8, 8, 8), "hundreds")], pooled)


def _draw(*shape: int) -> np.ndarray:
    return np.asarray(np.random.default_rng(3).standard_normal(shape), np.float32)
