"""Every rewrite means what the op meant: equal results on the host's plain kernels, to float32's rounding."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from harness.core.arrays import Array
from harness.graph.build import GraphBuilder
from harness.graph.inputs import random_inputs
from harness.graph.rebuild import CannotRewrite
from harness.remedies import catalogue
from harness.remedies.catalogue import Rewrite
from harness.remedies.split_sum import pieces
from tests.arrays import Evaluate
from tests.remedies.small import Build, convolved, one_op, quarters, table, weights


def product(graph: GraphBuilder, *, adj_x: bool = False, adj_y: bool = False, terms: int = 96) -> int:
    a = graph.input("a", (2, 3, terms, 5) if adj_x else (2, 3, 5, terms))
    b = graph.input("b", (2, 3, 7, terms) if adj_y else (2, 3, terms, 7))
    options = schema.BatchMatMulOptionsT()
    options.adjX, options.adjY = adj_x, adj_y
    return graph.op("BATCH_MATMUL", [a, b], (2, 3, 5, 7), options)


def transposed_batches(graph: GraphBuilder) -> int:
    """Six batches by one."""
    options = schema.BatchMatMulOptionsT()
    options.adjX = True
    feeds = [graph.input("a", (2, 3, 8, 5)), graph.input("b", (8, 7))]
    return graph.op("BATCH_MATMUL", feeds, (2, 3, 5, 7), options)


def connected(graph: GraphBuilder) -> int:
    options = schema.FullyConnectedOptionsT()
    options.keepNumDims, options.fusedActivationFunction = True, schema.ActivationFunctionType.RELU
    feeds = [graph.input("x", (2, 3, 100)), graph.constant(weights(6, 100)), graph.constant(weights(6))]
    return graph.op("FULLY_CONNECTED", feeds, (2, 3, 6), options)


def pointwise(graph: GraphBuilder, down: int = 2, along: int = 3) -> int:
    """Every so many rows and columns of 7x8."""
    options = schema.Conv2DOptionsT()
    options.strideH, options.strideW, options.padding = down, along, schema.Padding.SAME
    options.dilationHFactor = options.dilationWFactor = 1
    options.fusedActivationFunction = schema.ActivationFunctionType.RELU6
    feeds = [graph.input("x", (2, 7, 8, 40)), graph.constant(weights(4, 1, 1, 40)), graph.constant(weights(4))]
    return graph.op("CONV_2D", feeds, (2, -(-7 // down), -(-8 // along), 4), options)


def reduced(kind: str, axis: int, count: int = 50) -> Callable[[GraphBuilder], int]:
    return lambda graph: graph.reduce(kind, graph.input("x", (3, count, 4) if axis == 1 else (3, 4, count)), axis)


def reduced_over(kind: str, *axes: int, keep: bool = False, shape: tuple[int, ...] = (3, 6, 8, 4)) -> Build:
    over = {axis % len(shape) for axis in axes}
    out = [1 if i in over else n for i, n in enumerate(shape) if keep or i not in over]
    options = table("Reducer", keepDims=keep)
    return lambda g: g.op(kind, [g.input("x", shape), g.constant(np.asarray(axes, np.int32))], out, options)


def enlarged(high: int, wide: int, *, corners: bool = False) -> Build:
    """A map of 3x5 to so many rows and columns."""
    options = table("ResizeNearestNeighbor", alignCorners=corners)
    size = np.asarray([high, wide], np.int32)
    return lambda g: g.op(
        "RESIZE_NEAREST_NEIGHBOR", [g.input("x", (2, 3, 5, 4)), g.constant(size)], (2, high, wide, 4), options
    )


def joined(graph: GraphBuilder) -> int:
    options = schema.ConcatenationOptionsT()
    options.axis = -1
    return graph.op("CONCATENATION", [graph.input("a", (4, 5)), graph.input("b", (4, 6))], (4, 11), options)


def sliced(graph: GraphBuilder) -> int:
    begin, size = graph.constant(np.asarray([1, 2, 0], np.int32)), graph.constant(np.asarray([3, 4, 5], np.int32))
    return graph.op("SLICE", [graph.input("x", (4, 6, 5)), begin, size], (3, 4, 5), schema.SliceOptionsT())


def squared(graph: GraphBuilder) -> int:
    x = graph.input("x", (4, 6))
    return graph.op("SQUARED_DIFFERENCE", [x, graph.reduce("MEAN", x, 1)], (4, 6), schema.SquaredDifferenceOptionsT())


def divided(graph: GraphBuilder) -> int:
    return graph.binary("DIV", graph.input("a", (4, 6)), graph.unary("EXP", graph.input("b", (4, 1))))


def filled(graph: GraphBuilder) -> int:
    widths, value = graph.constant(np.asarray([[1, 0], [2, 3]], np.int32)), graph.constant(np.asarray(-2.0, np.float32))
    return graph.op("PADV2", [graph.input("x", (3, 4)), widths, value], (4, 9), schema.PadV2OptionsT())


CASES: dict[str, tuple[Rewrite, Build, int]] = {
    "batch matmul": (catalogue.SPLIT_SUM, product, 0),
    "batch matmul, first transposed": (catalogue.SPLIT_SUM, lambda g: product(g, adj_x=True), 0),
    "batch matmul, second transposed": (catalogue.SPLIT_SUM, lambda g: product(g, adj_y=True), 0),
    "batch matmul over a prime": (catalogue.SPLIT_SUM, lambda g: product(g, terms=97), 0),
    "batch matmul over a prime, transposed": (catalogue.SPLIT_SUM, lambda g: product(g, terms=97, adj_y=True), 0),
    "fully connected with bias and relu": (catalogue.SPLIT_SUM, connected, 0),
    "convolution with bias and relu6": (catalogue.SPLIT_SUM, convolved, 0),
    "stride before a pointwise convolution": (catalogue.STRIDE_BEFORE, pointwise, 0),
    "sum over the middle": (catalogue.SPLIT_SUM, reduced("SUM", 1), 0),
    "mean over the end": (catalogue.SPLIT_SUM, reduced("MEAN", 2), 0),
    "mean over a prime": (catalogue.SPLIT_SUM, reduced("MEAN", 1, 53), 0),
    "sum over two axes in the middle": (catalogue.SPLIT_SUM, reduced_over("SUM", 1, 2), 0),
    "sum over the last three axes, from behind": (catalogue.SPLIT_SUM, reduced_over("SUM", -1, 1, -2, keep=True), 0),
    "mean over all axes": (catalogue.SPLIT_SUM, reduced_over("MEAN", 0, 1, 2, 3, keep=True), 0),
    "mean over the first two axes": (catalogue.SPLIT_SUM, reduced_over("MEAN", 0, 1, shape=(5, 7, 2)), 0),
    "one axis after the other": (catalogue.ONE_AXIS, reduced_over("SUM", 1, 2), 0),
    "one axis after the other, from behind, kept": (catalogue.ONE_AXIS, reduced_over("MEAN", -1, 1, -2, keep=True), 0),
    "one axis after the other, all of them": (catalogue.ONE_AXIS, reduced_over("MEAN", 0, 1, 2, 3), 0),
    "the largest, one axis after the other": (catalogue.ONE_AXIS, reduced_over("REDUCE_MAX", 0, 2), 0),
    "enlarged by repetition": (catalogue.SIMPLER, enlarged(6, 15), 0),
    "enlarged in height by repetition": (catalogue.SIMPLER, enlarged(12, 5), 0),
    "enlarged in width by repetition": (catalogue.SIMPLER, enlarged(3, 20), 0),
    "mean by a product": (catalogue.SIMPLER, reduced("MEAN", 1), 0),
    "sum by a product": (catalogue.SIMPLER, reduced("SUM", 2), 0),
    "softmax in steps": (catalogue.SIMPLER, lambda g: g.softmax(g.input("x", (3, 9))), 0),
    "squared difference in steps": (catalogue.SIMPLER, squared, 1),
    "division by a reciprocal": (catalogue.SIMPLER, divided, 1),
    "relu on its own": (catalogue.SIMPLER, connected, 0),
    "pad in rank 4": (catalogue.RANK_4, lambda g: g.pad(g.input("x", (4, 5, 6)), [(0, 1), (2, 0), (0, 0)]), 0),
    "transpose in rank 4": (catalogue.RANK_4, lambda g: g.transpose(g.input("x", (4, 5, 6)), (2, 0, 1)), 0),
    "slice in rank 4": (catalogue.RANK_4, sliced, 0),
    "concatenation in rank 4": (catalogue.RANK_4, joined, 0),
    "mean in rank 4": (catalogue.RANK_4, reduced("MEAN", 1), 0),
    "division in rank 4": (catalogue.RANK_4, divided, 1),
    "softmax in rank 4": (catalogue.RANK_4, lambda g: g.softmax(g.input("x", (3, 9))), 0),
    "pad by concatenation": (
        catalogue.CONCATENATION, lambda g: g.pad(g.input("x", (4, 5, 6)), [(0, 1), (2, 3), (0, 0)]), 0,
    ),
    "pad with a value by concatenation": (catalogue.CONCATENATION, filled, 0),
    "broadcast written out": (catalogue.NO_BROADCAST, divided, 1),
    "broadcast of a constant written out": (
        catalogue.NO_BROADCAST, lambda g: g.binary("MUL", g.input("x", (2, 3, 4)), g.constant(weights(4))), 0,
    ),
    "batches as rows": (
        catalogue.STACKED, lambda g: g.batch_matmul(g.input("a", (2, 3, 5, 9)), g.input("b", (9, 7))), 0,
    ),
    "batches as rows, by a constant, transposed": (
        catalogue.STACKED,
        lambda g: g.batch_matmul(g.input("a", (4, 5, 9)), g.constant(weights(1, 7, 9)), adj_y=True), 0,
    ),
    "apart from its neighbours": (catalogue.APART, divided, 1),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_rewritten_op_means_the_same(name: str, evaluate: Evaluate) -> None:
    rewrite, build, op = CASES[name]
    model = one_op(build)
    rewritten = rewrite.apply(model, frozenset({op}), {})
    assert rewritten.sha256 != model.sha256
    inputs = {name: quarters(values) for name, values in random_inputs(model.graph(), 0).items()}
    # Sums are exact. What is left are the few roundings of a mean, a quotient or a softmax, each 2^-24 of its result.
    np.testing.assert_allclose(evaluate(rewritten, inputs)["y"], evaluate(model, inputs)["y"], rtol=3e-6, atol=3e-6)


def test_a_split_sum_adds_no_more_terms_at_a_time_than_it_should() -> None:
    model = catalogue.SPLIT_SUM.apply(one_op(lambda g: product(g, terms=4096)), frozenset({0}), {})
    graph = model.graph()
    (matmul,) = [op for op in graph.ops if op.name == "BATCH_MATMUL"]
    assert [graph.tensors[t].shape for t in matmul.inputs] == [(6, 64, 5, 64), (6, 64, 64, 7)]
    assert [op.name for op in graph.ops].count("ADD") == 6
    assert "CONCATENATION" not in [op.name for op in graph.ops]  # no half of a half is left over
    assert max(len(t.shape or ()) for t in graph.tensors) == 4


@pytest.mark.parametrize(
    ("count", "into"),
    [
        (16, (4, 4, 0)),  # the root itself
        (64, (8, 8, 0)),
        (100, (10, 10, 0)),  # the divisor nearest to 8, by ratio: 10 rather than 5
        (96, (12, 8, 0)),
        (4096, (64, 64, 0)),
        (97, (13, 8, 7)),  # a prime: the last of 13 pieces of 8 is filled up
        (53, (14, 4, 3)),
        (34, (17, 2, 0)),  # 2 is within a factor of 4 of the root, 17 is not
        (22, (11, 2, 0)),
        (267, (17, 16, 5)),  # 3 is too far from the root
    ],
)
def test_pieces_are_about_as_many_as_each_has_terms(count: int, into: tuple[int, int, int]) -> None:
    number, piece, zeros = pieces(count)
    assert (number, piece, zeros) == into
    assert number * piece - zeros == count


@pytest.mark.parametrize("rewrite", [catalogue.SPLIT_SUM, catalogue.SIMPLER, catalogue.RANK_4])
def test_an_op_whose_options_are_missing_is_said_to_be_odd(rewrite: Rewrite) -> None:
    model = one_op(lambda g: g.reduce("MEAN", g.input("x", (2, 3, 64)), 2))
    model.root.subgraphs[0].operators[0].inputs = np.asarray([0], np.int32)
    model.edited()
    with pytest.raises(CannotRewrite, match="odd form"):
        rewrite.apply(model, frozenset({0}), {})


def small_integers(graph: GraphBuilder) -> int:
    feeds = [graph.input("x", (2, 96), np.int8), graph.constant(np.ones((3, 96), np.int8)), -1]
    return graph.op("FULLY_CONNECTED", feeds, (2, 3), schema.FullyConnectedOptionsT(), dtype=np.int8)


def byte_products(graph: GraphBuilder) -> int:
    return graph.batch_matmul(graph.input("a", (2, 4, 32), np.int8), graph.input("b", (2, 32, 4), np.int8))


def in_groups(graph: GraphBuilder) -> int:
    feeds = [graph.input("x", (1, 6, 6, 64)), graph.constant(weights(4, 1, 1, 32)), -1]
    return graph.op("CONV_2D", feeds, (1, 6, 6, 4), table("Conv2D", strideH=1, strideW=1))


def axes_given(graph: GraphBuilder) -> int:
    feeds = [graph.input("x", (2, 96)), graph.input("axes", (1,), np.int32)]
    return graph.op("SUM", feeds, (2,), table("Reducer", keepDims=False))


def with_weights(
    kind: str, shape: tuple[int, ...], dtype: type, *, constant: bool = True
) -> Callable[[GraphBuilder], int]:
    """A sum of float32 with weights of some rank and type, a constant or an input."""

    def build(graph: GraphBuilder) -> int:
        options = schema.Conv2DOptionsT() if kind == "CONV_2D" else schema.FullyConnectedOptionsT()
        values: Array = np.ones(shape, dtype)
        held = graph.constant(values) if constant else graph.input("w", shape)
        x = graph.input("x", (1, 6, 6, 32) if kind == "CONV_2D" else (1, 32))
        return graph.op(kind, [x, held, -1], (1, 6, 6, 4) if kind == "CONV_2D" else (1, 4), options)

    return build


@pytest.mark.parametrize("kind", ["CONV_2D", "FULLY_CONNECTED"])
@pytest.mark.parametrize("odd", ["rank", "type", "computed"])
def test_a_sum_is_split_by_float_constants_of_the_rank_that_it_wants(kind: str, odd: str) -> None:
    shape = (4, 1, 1, 32) if (kind == "CONV_2D") != (odd == "rank") else (4, 32)
    build = with_weights(kind, shape, np.int32 if odd == "type" else np.float32, constant=odd != "computed")
    with pytest.raises(CannotRewrite, match="its weights are no float constant"):
        catalogue.SPLIT_SUM.apply(one_op(build), frozenset({0}), {})


@pytest.mark.parametrize(
    ("rewrite", "build", "why"),
    [
        (catalogue.SPLIT_SUM, lambda g: g.unary("TANH", g.input("x", (4,))), "TANH is no sum"),
        (catalogue.SPLIT_SUM, lambda g: product(g, terms=8), "over 8 terms only"),
        (catalogue.SPLIT_SUM, lambda g: small_integers(g), "only float32 sums are split"),
        (catalogue.SPLIT_SUM, byte_products, "only float32 sums are split"),
        (catalogue.SPLIT_SUM, reduced_over("SUM", 0, 2), "its axes are not neighbours"),
        (catalogue.SPLIT_SUM, reduced_over("SUM", 0, 1, 3), "its axes are not neighbours"),
        (catalogue.SPLIT_SUM, reduced_over("SUM", 2), "over 8 terms only"),
        (catalogue.SPLIT_SUM, in_groups, "it is a grouped convolution"),
        (catalogue.SPLIT_SUM, axes_given, "its axes are no constant"),
        (
            catalogue.NO_BROADCAST,
            lambda g: g.binary("ADD", g.input("a", (2, 4)), g.input("b", (2, 4))),
            "broadcasts nothing",
        ),
        (catalogue.NO_BROADCAST, product, "broadcasts nothing"),
        (catalogue.CONCATENATION, lambda g: g.unary("TANH", g.input("x", (4,))), "it is no PAD"),
        (catalogue.RANK_4, lambda g: g.unary("TANH", g.input("x", (1, 2, 3, 4))), "rank 4 or more already"),
        (catalogue.NO_BROADCAST, lambda g: g.unary("TANH", g.input("x", (4,))), "broadcasts nothing"),
        (catalogue.STACKED, lambda g: g.unary("TANH", g.input("x", (4,))), "it is no BATCH_MATMUL"),
        (catalogue.STACKED, product, "batches of its own"),
        (catalogue.STACKED, transposed_batches, "its left side is transposed"),
        (catalogue.SIMPLER, lambda g: g.unary("TANH", g.input("x", (4,))), "no simpler form"),
        (catalogue.STRIDE_BEFORE, lambda g: g.unary("TANH", g.input("x", (4,))), "no convolution by a 1x1 kernel"),
        (catalogue.STRIDE_BEFORE, convolved, "no convolution by a 1x1 kernel"),
        (catalogue.STRIDE_BEFORE, lambda g: pointwise(g, 1, 1), "it has no stride"),
        (catalogue.OWN_OUTPUT, lambda g: g.unary("TANH", g.input("x", (4,))), "not both an output and read"),
        (catalogue.RESCALE, lambda g: g.unary("TANH", g.input("x", (4,))), "nothing is known of the size"),
        (catalogue.ONE_AXIS, lambda g: g.unary("TANH", g.input("x", (4,))), "TANH is no reduction"),
        (catalogue.ONE_AXIS, reduced("SUM", 1), "it reduces one axis only"),
        (catalogue.ONE_AXIS, reduced_over("SUM", 0, 1, shape=(1, 6, 4)), "it reduces one axis only"),
        (catalogue.SIMPLER, enlarged(7, 10), "it does not enlarge by whole factors"),
        (catalogue.SIMPLER, enlarged(6, 10, corners=True), "it does not enlarge by whole factors"),
        (catalogue.SIMPLER, enlarged(3, 5), "it has one copy of each element only"),
        (catalogue.SIMPLER, enlarged(30, 40), "it has 80 copies of each element"),
        (
            catalogue.APART,
            lambda g: g.binary("ADD", g.input("a", (4,), np.int32), g.input("b", (4,), np.int32)),
            "reads no float tensor",
        ),
    ],
)
def test_what_a_rewrite_does_not_know_it_says(rewrite: Rewrite, build: Callable[[GraphBuilder], int], why: str) -> None:
    with pytest.raises(CannotRewrite, match=why):
        rewrite.apply(one_op(build), frozenset({0}), {})


@pytest.mark.parametrize(("adj_y", "right"), [(False, (1, 9, 7)), (True, (1, 7, 9))])
def test_batches_as_rows_state_the_shape_of_their_product(adj_y: bool, right: tuple[int, ...]) -> None:
    graph = GraphBuilder()
    graph.output(graph.batch_matmul(graph.input("a", (4, 5, 9)), graph.constant(weights(*right)), adj_y=adj_y), "y")
    made = catalogue.STACKED.apply(graph.build(), frozenset({0}), {}).graph()
    (product,) = (op for op in made.ops if op.name == "BATCH_MATMUL")
    assert made.tensors[product.outputs[0]].shape == (1, 20, 7)
