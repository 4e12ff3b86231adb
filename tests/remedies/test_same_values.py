"""Every rewrite means what the op meant: equal results on the host's plain kernels, to float32's rounding."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from harness.core.arrays import Array
from harness.graph import surgery
from harness.graph.build import GraphBuilder
from harness.graph.inputs import random_inputs
from harness.graph.model import Model
from harness.graph.rebuild import CannotRewrite
from harness.numerics.fp16 import LARGEST, peak
from harness.remedies import catalogue
from harness.remedies.catalogue import Rewrite
from harness.remedies.rescale import holds
from harness.remedies.split_sum import pieces
from tests.arrays import Evaluate
from tests.remedies.small import one_op, quarters, table, weights

Build = Callable[[GraphBuilder], int]


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


def convolved(graph: GraphBuilder) -> int:
    options = schema.Conv2DOptionsT()
    options.strideH, options.strideW, options.padding = 2, 1, schema.Padding.SAME
    options.dilationHFactor = options.dilationWFactor = 1
    options.fusedActivationFunction = schema.ActivationFunctionType.RELU6
    feeds = [graph.input("x", (1, 6, 6, 40)), graph.constant(weights(4, 3, 3, 40)), graph.constant(weights(4))]
    return graph.op("CONV_2D", feeds, (1, 3, 6, 4), options)


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


def layer_norm(scale: float) -> Model:
    graph = GraphBuilder()
    x = graph.binary("MUL", graph.input("x", (2, 64)), graph.constant([scale]))
    mean = graph.reduce("MEAN", x, 1)
    square = graph.op("SQUARED_DIFFERENCE", [x, mean], (2, 64), schema.SquaredDifferenceOptionsT())
    variance = graph.binary("ADD", graph.reduce("MEAN", square, 1), graph.constant([1e-5]))
    normal = graph.binary("MUL", graph.binary("SUB", x, mean), graph.unary("RSQRT", variance))
    graph.output(normal, "y")
    return graph.build()


def peaks_of(model: Model, evaluate: Evaluate) -> dict[int, float]:
    tapped, names = surgery.tap(model, surgery.tappable(model.graph()), "direct")
    values = evaluate(tapped, random_inputs(model.graph(), 0))
    return {t: peak(values[name]) for t, name in names.items()}


def test_a_scale_keeps_every_value_inside_float16_and_is_gone_at_the_end(evaluate: Evaluate) -> None:
    model = layer_norm(400.0)
    assert max(peaks_of(model, evaluate).values()) > 65504
    scaled = catalogue.RESCALE.apply(model, frozenset({2}), peaks_of(model, evaluate))
    assert max(peaks_of(scaled, evaluate).values()) < 65504
    inputs = random_inputs(model.graph(), 0)
    np.testing.assert_allclose(evaluate(scaled, inputs)["y"], evaluate(model, inputs)["y"], rtol=1e-5, atol=1e-6)


def test_a_scale_lifts_what_float16_would_flush_until_a_logarithm_takes_it_out(evaluate: Evaluate) -> None:
    graph = GraphBuilder()
    tiny = graph.binary("MUL", graph.input("x", (1, 64)), graph.constant([1e-6]))
    graph.output(graph.unary("LOG", graph.unary("ABS", tiny)), "y")
    model = graph.build()
    scaled = catalogue.RESCALE.apply(model, frozenset({0}), peaks_of(model, evaluate))
    assert [op.name for op in scaled.graph().ops] == ["MUL", "ABS", "LOG", "SUB"]
    inputs = random_inputs(model.graph(), 0)
    np.testing.assert_allclose(evaluate(scaled, inputs)["y"], evaluate(model, inputs)["y"], atol=1e-5)


def test_an_output_that_float16_cannot_hold_is_said_to_need_its_own_scale(evaluate: Evaluate) -> None:
    model = one_op(lambda g: g.binary("MUL", g.input("x", (4,)), g.constant([1e6])))
    with pytest.raises(CannotRewrite, match="needed unscaled, and float16 does not hold it"):
        catalogue.RESCALE.apply(model, frozenset({0}), peaks_of(model, evaluate))


def test_a_root_of_an_odd_power_of_two_takes_no_half_of_one_along(evaluate: Evaluate) -> None:
    """Values up to 2^102 are held times 2^-92, their fourth roots times 2^-23; the eighth is wanted times 2^-12."""
    graph = GraphBuilder()
    t = graph.binary("MUL", graph.input("x", (1, 8)), graph.constant([2.0**100]))
    for _ in range(3):
        t = graph.unary("SQRT", t)
    graph.output(t, "y")
    model = graph.build()
    inputs = {"x": np.linspace(1, 4, 8, dtype=np.float32)[None]}
    peaks = {op.outputs[0]: 2.0 ** (102 / 2**i) for i, op in enumerate(model.graph().ops)}
    scaled = catalogue.RESCALE.apply(model, frozenset({0}), peaks)
    np.testing.assert_allclose(evaluate(scaled, inputs)["y"], evaluate(model, inputs)["y"], rtol=1e-6)


def test_a_scale_does_not_pass_a_fused_clamp() -> None:
    """min(s·x, 6) is not s·min(x, 6)."""
    with pytest.raises(CannotRewrite, match="CONV_2D #0 has a fused activation that no factor passes"):
        catalogue.RESCALE.apply(one_op(convolved), frozenset({0}), {3: 1e6})


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


def _mean(graph: GraphBuilder, x: int) -> int:
    return graph.reduce("MEAN", x, 1)


# What reads values of up to 512,000, which float16 does not hold, and comes back to values that it does.
READERS: dict[str, Callable[[GraphBuilder, int, int], int]] = {
    "RELU": lambda g, big, c: g.binary("DIV", g.unary("RELU", big), big),
    "SQRT": lambda g, big, c: g.unary("SQRT", big),
    "RSQRT": lambda g, big, c: g.unary("RSQRT", big),
    "LOG": lambda g, big, c: g.unary("LOG", big),
    "SQUARE": lambda g, big, c: g.binary("DIV", g.unary("SQRT", g.unary("SQUARE", big)), big),
    "DIV of it": lambda g, big, c: g.binary("DIV", big, g.binary("MUL", c, g.constant([64.0]))),
    "DIV by it": lambda g, big, c: g.binary("DIV", c, big),
    "DIV of it by itself": lambda g, big, c: g.binary("DIV", big, big),
    "MUL with a small one": lambda g, big, c: g.binary("MUL", big, g.unary("RSQRT", g.binary("MUL", big, big))),
    "MUL with a constant": lambda g, big, c: g.binary("MUL", g.constant([2.0**-12]), big),
    "ADD": lambda g, big, c: g.binary("DIV", g.binary("ADD", big, c), big),
    "SUB": lambda g, big, c: g.binary("DIV", g.binary("SUB", c, big), big),
    "SUM of products": lambda g, big, c: g.binary("DIV", _mean(g, g.binary("MUL", big, c)), big),
    "FULLY_CONNECTED with a bias": lambda g, big, c: g.binary(
        "DIV", g.fully_connected(big, np.eye(8), np.arange(8)), big
    ),
    "SQUARED_DIFFERENCE": lambda g, big, c: g.unary(
        "SQRT", g.binary("SQUARED_DIFFERENCE", big, g.binary("MUL", big, g.constant([0.99])))
    ),
}


@pytest.mark.parametrize("reader", READERS)
def test_a_scale_passes_through_what_reads_it_and_comes_out_as_nothing(reader: str, evaluate: Evaluate) -> None:
    graph = GraphBuilder()
    x, c = graph.input("x", (1, 8)), graph.input("c", (1, 8))
    graph.output(READERS[reader](graph, graph.binary("MUL", x, graph.constant([256.0])), c), "y")
    model = graph.build()
    rng = np.random.default_rng(11)
    inputs = {name: rng.uniform(500, 2000, (1, 8)).astype(np.float32) for name in ("x", "c")}
    tapped, names = surgery.tap(model, [t for op in model.graph().ops for t in op.outputs], "direct")
    exact = evaluate(tapped, inputs)
    rewritten = catalogue.RESCALE.apply(model, frozenset({0}), {t: peak(exact[n]) for t, n in names.items()})
    every, made = surgery.tap(rewritten, surgery.tappable(rewritten.graph()), "direct")
    found = evaluate(every, inputs)
    np.testing.assert_allclose(found["y"], exact["y"], rtol=1e-6)
    assert peak(found[made[rewritten.graph().ops[0].outputs[0]]]) < LARGEST
    assert peak(exact[names[model.graph().ops[0].outputs[0]]]) > LARGEST


Made = Callable[[GraphBuilder, int, int], int]


def _summed(graph: GraphBuilder, x: int) -> int:
    return graph.reduce("SUM", x, 1)


# What makes values of two inputs from 30,000 to 60,000, and the place of the op that does.
MAKERS: dict[str, tuple[Made, int]] = {
    "MUL by a constant": (lambda g, x, c: g.binary("MUL", x, g.constant([256.0])), 0),
    "MUL of a constant": (lambda g, x, c: g.binary("MUL", g.constant([256.0]), x), 0),
    "MUL of two": (lambda g, x, c: g.binary("MUL", x, c), 0),
    "MUL by a constant of what is scaled": (
        lambda g, x, c: g.binary("MUL", g.binary("MUL", x, c), g.constant([64.0])), 1,
    ),
    "MUL of a constant by what is scaled": (
        lambda g, x, c: g.binary("MUL", g.constant([64.0]), g.binary("MUL", x, c)), 1,
    ),
    "ADD": (lambda g, x, c: g.binary("ADD", x, c), 0),
    "SUB": (lambda g, x, c: g.binary("SUB", x, g.unary("NEG", c)), 1),
    "SUM": (lambda g, x, c: _summed(g, x), 0),
    "SQUARE": (lambda g, x, c: g.unary("SQUARE", x), 0),
    "SQUARED_DIFFERENCE": (lambda g, x, c: g.binary("SQUARED_DIFFERENCE", x, g.unary("NEG", c)), 1),
    "DIV": (lambda g, x, c: g.binary("DIV", x, g.binary("MUL", c, g.constant([2.0**-20]))), 1),
    "DIV by what is scaled": (lambda g, x, c: g.binary("DIV", x, g.binary("DIV", c, g.binary("MUL", x, c))), 2),
    "RSQRT": (lambda g, x, c: g.unary("RSQRT", x), 0),
    "SQRT": (lambda g, x, c: g.unary("SQRT", x), 0),
    "FULLY_CONNECTED with a bias": (
        lambda g, x, c: g.fully_connected(x, 10 * np.eye(8, dtype=np.float32), np.arange(8)), 0,
    ),
    "CONCATENATION": (
        lambda g, x, c: g.op("CONCATENATION", [x, c], (1, 16), table("Concatenation", axis=1)), 0,
    ),
}  # fmt: skip


def scaled(make: Made, ops: set[int], evaluate: Evaluate) -> tuple[Model, Model, dict[str, Array]]:
    """The logarithm of what is made, the same with some ops scaled, and the inputs."""
    graph = GraphBuilder()
    x, c = graph.input("x", (1, 8)), graph.input("c", (1, 8))
    graph.output(graph.unary("LOG", make(graph, x, c)), "y")
    model = graph.build()
    rng = np.random.default_rng(11)
    inputs = {p.name: rng.uniform(3e4, 6e4, (1, 8)).astype(np.float32) for p in model.graph().inputs}
    tapped, names = surgery.tap(model, [t for op in model.graph().ops for t in op.outputs], "direct")
    exact = evaluate(tapped, inputs)
    return model, catalogue.RESCALE.apply(model, frozenset(ops), {t: peak(exact[n]) for t, n in names.items()}), inputs


@pytest.mark.parametrize("maker", MAKERS)
def test_an_op_that_is_scaled_makes_values_in_the_middle_of_float16s_range(maker: str, evaluate: Evaluate) -> None:
    """About 2^10, by a power of two whose exponent is a multiple of four."""
    make, place = MAKERS[maker]
    ops = {place} if "what is scaled" not in maker else {place, 0}
    model, rewritten, inputs = scaled(make, ops, evaluate)
    np.testing.assert_allclose(evaluate(rewritten, inputs)["y"], evaluate(model, inputs)["y"], rtol=1e-6)
    kind = model.graph().ops[place].name
    every, names = surgery.tap(rewritten, surgery.tappable(rewritten.graph()), "direct")
    found = evaluate(every, inputs)
    made = [names[op.outputs[0]] for op in rewritten.graph().ops if op.name == kind and op.outputs[0] in names]
    assert any(2.0**8 <= peak(found[name]) <= 2.0**12 for name in made)


@pytest.mark.parametrize(
    ("size", "held"), [(2.0**-9, True), (2.0**15, True), (1.9e-3, False), (33000.0, False), (0.0, False), (1.0, True)]
)
def test_float16_holds_without_harm_what_is_neither_near_its_largest_nor_near_its_least(
    size: float, held: bool
) -> None:
    assert holds(size) is held


def test_two_that_are_scaled_differently_are_added_at_one_scale(evaluate: Evaluate) -> None:
    def make(graph: GraphBuilder, x: int, c: int) -> int:
        return graph.binary(
            "ADD", graph.binary("MUL", x, graph.constant([64.0])), graph.binary("MUL", c, graph.constant([2.0**14]))
        )

    model, rewritten, inputs = scaled(make, {0, 1}, evaluate)
    np.testing.assert_allclose(evaluate(rewritten, inputs)["y"], evaluate(model, inputs)["y"], rtol=1e-6)


def test_a_bias_beside_two_that_are_scaled_has_the_scale_of_their_product(evaluate: Evaluate) -> None:
    graph = GraphBuilder()
    x = graph.binary("MUL", graph.input("x", (1, 8)), graph.constant([256.0]))
    w = graph.binary("MUL", graph.input("w", (3, 8)), graph.constant([256.0]))
    bias = graph.constant(np.asarray([1e9, 5e9, 9e9]))
    product = graph.op("FULLY_CONNECTED", [x, w, bias], (1, 3), table("FullyConnected", keepNumDims=True))
    graph.output(graph.unary("LOG", product), "y")
    model = graph.build()
    inputs = {"x": np.full((1, 8), 2e3, np.float32), "w": np.full((3, 8), 3e3, np.float32)}
    sizes = {model.graph().ops[0].outputs[0]: 5e5, model.graph().ops[1].outputs[0]: 7.5e5, product: 3.2e12}
    rewritten = catalogue.RESCALE.apply(model, frozenset({0, 1}), sizes | {model.graph().ops[3].outputs[0]: 30.0})
    np.testing.assert_allclose(evaluate(rewritten, inputs)["y"], evaluate(model, inputs)["y"], rtol=1e-6)


def test_a_scale_is_taken_out_once_at_the_first_result_that_float16_holds(evaluate: Evaluate) -> None:
    graph = GraphBuilder()
    root = graph.unary("SQRT", graph.binary("MUL", graph.input("x", (1, 8)), graph.constant([256.0])))
    graph.output(graph.unary("TANH", root), "y")
    graph.output(graph.unary("RELU6", root), "z")
    model = graph.build()
    sizes = dict(zip((op.outputs[0] for op in model.graph().ops), (5e5, 700.0, 1.0, 6.0), strict=True))
    rewritten = catalogue.RESCALE.apply(model, frozenset({0}), sizes)
    assert [op.name for op in rewritten.graph().ops] == ["MUL", "SQRT", "MUL", "TANH", "RELU6"]


@pytest.mark.parametrize(
    ("make", "op", "why"),
    [
        (lambda g, x, c: g.unary("TANH", g.binary("MUL", x, c)), 0, "needed unscaled, and float16 does not hold it"),
        (lambda g, x, c: g.unary("TANH", x), 0, "TANH lets no factor through"),
        (lambda g, x, c: g.unary("LOG", x), 0, "LOG lets no factor through"),
    ],
)
def test_what_is_not_homogeneous_passes_no_scale(make: Made, op: int, why: str, evaluate: Evaluate) -> None:
    with pytest.raises(CannotRewrite, match=why):
        scaled(make, {op}, evaluate)
