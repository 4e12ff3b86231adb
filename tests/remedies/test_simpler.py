"""An op as simpler ones means the same on the host's plain kernels, whatever its attributes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from harness.graph.build import GraphBuilder
from harness.graph.inputs import random_inputs
from harness.graph.model import Model
from harness.graph.rebuild import CannotRewrite
from harness.remedies.catalogue import FLATTENED, SIMPLER
from tests.arrays import Evaluate, f32, i32
from tests.remedies.small import Build, backwards, of, one_op, quarters, rows, table, weights

SAME, VALID = schema.Padding.SAME, schema.Padding.VALID
RELU, RELU6 = schema.ActivationFunctionType.RELU, schema.ActivationFunctionType.RELU6
ONCE = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}


def leaky(slope: float) -> Build:
    return of("LEAKY_RELU", table("LeakyRelu", alpha=slope), (3, 8), (3, 8))


def power(exponent: float) -> Build:
    return of("POW", table("Pow"), (3, 8), (3, 8), f32([exponent]))


def turned(left: tuple[int, ...], right: tuple[int, ...], out: tuple[int, ...]) -> Build:
    """A BATCH_MATMUL that transposes both sides, of which none is a constant."""
    options = table("BatchMatMul", adjX=True, adjY=True)
    return lambda g: g.op("BATCH_MATMUL", [g.input("x", left), g.input("y_side", right)], out, options)


def running(shape: tuple[int, ...], axis: int, *, exclusive: bool = False, reverse: bool = False) -> Build:
    return of("CUMSUM", table("Cumsum", exclusive=exclusive, reverse=reverse), shape, shape, np.int32(axis))


def reduced(kind: str, *axes: int, keep: bool = False) -> Build:
    shape = (2, 3, 8, 5)
    over = {axis % 4 for axis in axes}
    out = tuple(1 if i in over else n for i, n in enumerate(shape) if keep or i not in over)
    return of(kind, table("Reducer", keepDims=keep), shape, out, i32(axes))


def whole_numbers(kind: str, options: Any, out: tuple[int, ...], *more: Any) -> Build:
    return lambda g: g.op(kind, [g.input("x", (3, 8), np.int32), *map(g.constant, more)], out, options, dtype=np.int32)


def grouped(groups: int, activation: int = 0) -> Build:
    options = table("Conv2D", padding=SAME, fusedActivationFunction=activation, **ONCE)
    kernel, bias = weights(2 * groups, 3, 3, 3), weights(2 * groups)
    return of("CONV_2D", options, (2, 5, 6, 3 * groups), (2, 5, 6, 2 * groups), kernel, bias)


def depthwise(size: int, multiplier: int) -> Build:
    options = table("DepthwiseConv2D", padding=SAME, depthMultiplier=multiplier, **ONCE)
    more = weights(1, size, size, 4 * multiplier), weights(4 * multiplier)
    return of("DEPTHWISE_CONV_2D", options, (1, 5, 6, 4), (1, 5, 6, 4 * multiplier), *more)


def transposed(kernel: int, out: tuple[int, int], activation: int = 0, padding: int = SAME) -> Build:
    """A TRANSPOSE_CONV of 5 x 6 with stride 2."""
    options = table("TransposeConv", padding=padding, strideH=2, strideW=2, fusedActivationFunction=activation)

    def build(graph: GraphBuilder) -> int:
        more = graph.constant(weights(3, kernel, kernel, 4)), graph.input("x", (1, 5, 6, 4)), graph.constant(weights(3))
        feeds = [graph.constant(i32([1, *out, 3])), *more]
        return graph.op("TRANSPOSE_CONV", feeds, (1, *out, 3), options, dtype=np.float32, version=3)

    return build


def connected(bias: bool, shape: tuple[int, ...] = (5, 9), activation: int = 0) -> Build:
    """A FULLY_CONNECTED with weights that are computed."""

    def build(graph: GraphBuilder) -> int:
        feeds = [graph.input("x", shape), graph.input("w", (7, 9)), graph.constant(weights(7)) if bias else -1]
        options = table("FullyConnected", keepNumDims=True, fusedActivationFunction=activation)
        return graph.op("FULLY_CONNECTED", feeds, (*shape[:-1], 7), options)

    return build


def pooled(activation: int = 0) -> Build:
    options = table("Pool2D", padding=SAME, strideH=2, strideW=2, filterHeight=3, filterWidth=3)
    options.fusedActivationFunction = activation
    return of("MAX_POOL_2D", options, (1, 5, 7, 4), (1, 3, 4, 4))


CASES: dict[str, Build] = {
    "leaky relu with a gentle slope": leaky(0.25),
    "leaky relu with a steep slope": leaky(1.5),
    "leaky relu with a slope below 0": leaky(-0.5),
    **{f"to the power of {n}": power(n) for n in (1, 2, 3, 4, 7, 16, -1, -3)},
    "sum so far": running((3, 8), 1),
    "sum so far, from the end": running((3, 8), 1, reverse=True),
    "sum before": running((2, 8, 3), 1, exclusive=True),
    "sum behind": running((2, 8, 3), -2, exclusive=True, reverse=True),
    "sum so far over the first axis": running((5, 2, 3, 4), 0),
    "sum so far over the only axis": running((7,), 0),
    "sum over the last axis": reduced("SUM", 3),
    "sum over the last axis, which stays": reduced("SUM", -1, keep=True),
    "sum over the first axis": reduced("SUM", 0),
    "sum over two axes in the middle, which stay": reduced("SUM", 1, 2, keep=True),
    "mean of eight": reduced("MEAN", 2),
    "mean of sixteen, its axes out of order": reduced("MEAN", 2, 0),
    "channels backwards": backwards(3),
    "two axes backwards": backwards(1, 2),
    "the last axis backwards, counted from the end": backwards(-1),
    "convolution in two groups": grouped(2),
    "convolution in four groups, with relu6": grouped(4, RELU6),
    "depthwise, pointwise, twice": depthwise(1, 2),
    "depthwise, three by three, three times": depthwise(3, 3),
    "transposed convolution, one row too many": transposed(3, (10, 12)),
    "transposed convolution, two rows too many": transposed(4, (10, 12)),
    "transposed convolution of odd size, with relu": transposed(5, (9, 11), RELU),
    "transposed convolution that is whole, with relu": transposed(4, (12, 14), RELU, VALID),
    "weights that are computed and a bias": connected(True),
    "weights that are computed and a bias, in rank 3, with relu": connected(True, (2, 5, 9), RELU),
    "weights that are computed, in rank 3": connected(False, (2, 5, 9)),
    "both sides transposed, in rank 4": turned((2, 3, 5, 9), (2, 3, 7, 5), (2, 3, 9, 7)),
    "both sides transposed, in rank 3": turned((2, 5, 9), (2, 7, 5), (2, 9, 7)),
    "maximum": pooled(),
    "maximum with relu6": pooled(RELU6),
    "space to depth": of("SPACE_TO_DEPTH", table("SpaceToDepth", blockSize=2), (3, 4, 6, 5), (3, 2, 3, 20)),
    "depth to space": of("DEPTH_TO_SPACE", table("DepthToSpace", blockSize=2), (3, 2, 3, 20), (3, 4, 6, 5)),
    "a constant less": lambda g: g.binary("SUB", g.constant(weights(3, 8)), g.input("x", (3, 8))),
}


@pytest.mark.parametrize("name", CASES)
def test_an_op_as_simpler_ones_means_the_same(name: str, evaluate: Evaluate) -> None:
    model = one_op(CASES[name])
    rewritten = SIMPLER.apply(model, frozenset({0}), {})
    inputs = {name: quarters(values) for name, values in random_inputs(model.graph(), 0).items()}
    inputs = {name: np.where(values == 0, f32(0.25), values) for name, values in inputs.items()}
    right = evaluate(model, inputs)["y"]
    # Sums are exact; a product of up to sixteen factors is rounded up to six times, each by 2^-24 of it.
    np.testing.assert_allclose(evaluate(rewritten, inputs)["y"], right, rtol=6 * 2.0**-23, atol=1e-6)


def kinds(model: Model) -> list[str]:
    return [op.name for op in model.graph().ops]


def rewritten(build: Build) -> list[str]:
    return kinds(SIMPLER.apply(one_op(build), frozenset({0}), {}))


def test_the_longest_running_sum_is_a_product_with_four_megabytes_of_ones() -> None:
    assert "FULLY_CONNECTED" in rewritten(running((2, 1024), 1))


def test_what_a_kernel_gets_wrong_is_not_asked_of_it_again() -> None:
    assert rewritten(leaky(1.5)) == ["NEG", "RELU", "RELU", "MUL", "SUB"]
    assert rewritten(power(4)) == ["MUL", "MUL"]
    assert rewritten(running((2, 8, 3), 1)) == ["TRANSPOSE", "RESHAPE", "FULLY_CONNECTED", "RESHAPE", "TRANSPOSE"]
    assert rewritten(reduced("SUM", 3)) == ["RESHAPE", "FULLY_CONNECTED", "RESHAPE"]
    assert rewritten(reduced("MEAN", 1)) == ["TRANSPOSE", "RESHAPE", "FULLY_CONNECTED", "RESHAPE"]
    assert rewritten(backwards(3)) == ["GATHER"]
    assert rewritten(grouped(2)) == ["SLICE", "CONV_2D", "SLICE", "CONV_2D", "CONCATENATION"]
    assert rewritten(depthwise(1, 2)) == ["GATHER", "DEPTHWISE_CONV_2D"]
    assert rewritten(transposed(3, (10, 12))) == ["TRANSPOSE_CONV", "SLICE", "SLICE"]
    assert rewritten(connected(True)) == ["FULLY_CONNECTED", "ADD"]
    assert rewritten(pooled()) == ["MUL", "MAX_POOL_2D", "MUL"]


def test_a_maximum_is_taken_where_its_kernel_s_start_is_below_any_float16() -> None:
    """ML Drift begins at -10000. A power of two before and its inverse behind round nothing."""
    model = SIMPLER.apply(one_op(pooled()), frozenset({0}), {})
    before, _, behind = model.graph().ops
    share, back = (model.constant(op.inputs[1]) for op in (before, behind))
    assert share is not None
    assert back is not None
    assert -10000 < -65504 * share.item() < 0
    assert np.frexp(share.item())[0] == 0.5
    assert share.item() * back.item() == 1


def largest(graph: GraphBuilder, columns: int = 41) -> Model:
    """The two largest of each row and their places."""
    feeds = [graph.input("x", (8, columns)), graph.constant(np.int32(2))]
    values = graph.op("TOPK_V2", feeds, (8, 2), table("TopKV2"))
    places = graph.tensor("places", (8, 2), np.int32)
    graph.output(values, "values")
    graph.output(places)
    model = graph.build()
    model.root.subgraphs[0].operators[0].outputs = i32([values, places])
    model.edited()
    return Model.from_bytes(model.to_bytes())


def test_the_largest_values_and_their_places_stay_where_a_row_is_filled_up(evaluate: Evaluate) -> None:
    model = largest(GraphBuilder())
    filled = SIMPLER.apply(model, frozenset({0}), {})
    assert kinds(filled) == ["REDUCE_MIN", "CONCATENATION", "TOPK_V2"]
    x = np.stack([np.random.default_rng(i).permutation(41) for i in range(8)]).astype(np.float32)
    x[3] = 5.0  # all alike: the first two, none of those that fill it up
    found = evaluate(filled, {"x": x})
    np.testing.assert_array_equal(found["places"], np.argsort(-x, 1, kind="stable")[:, :2])
    np.testing.assert_array_equal(found["values"], -np.sort(-x, 1)[:, :2])


def test_a_constant_on_the_left_changes_sides(evaluate: Evaluate) -> None:
    """ints: c - n as -n + c; floats: c < x as x > c."""
    numbers, limits = np.arange(24, dtype=np.int32).reshape(3, 8), weights(3, 8)
    less = one_op(lambda g: g.binary("SUB", g.constant(numbers), g.input("n", (3, 8), np.int32)))
    swapped = SIMPLER.apply(less, frozenset({0}), {})
    n = {"n": np.full((3, 8), 7, np.int32)}
    assert kinds(swapped) == ["MUL", "ADD"]
    np.testing.assert_array_equal(evaluate(swapped, n)["y"], numbers - 7)
    for kind in ("LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL"):
        name = kind.title().replace("_", "")

        def build(graph: GraphBuilder, kind: str = kind, name: str = name) -> int:
            feeds = [graph.constant(limits), graph.input("x", (3, 8))]
            return graph.op(kind, feeds, (3, 8), table(name), dtype=np.bool_)

        x = {"x": np.where(np.eye(3, 8) > 0, limits, quarters(weights(3, 8) * 64))}
        model = one_op(build)
        mirrored = SIMPLER.apply(model, frozenset({0}), {})
        assert kinds(mirrored) != kinds(model)
        np.testing.assert_array_equal(evaluate(mirrored, x)["y"], evaluate(model, x)["y"])


@pytest.mark.parametrize(
    ("build", "why"),
    [
        (power(0.5), "no whole number from 1 to 16"),
        (power(1.5), "no whole number from 1 to 16"),
        (power(-2.5), "no whole number from 1 to 16"),
        (power(17), "no whole number from 1 to 16"),
        (running((2, 2048), 1), "takes a matrix of 2048² ones"),
        (running((2, 1025), 1), "takes a matrix of 1025² ones"),
        (whole_numbers("SUM", table("Reducer"), (3,), i32([1])), "computes no float32"),
        (whole_numbers("CUMSUM", table("Cumsum"), (3, 8), np.int32(1)), "computes no float32"),
        (whole_numbers("DIV", table("Div"), (3, 8), i32([3])), "computes no float32"),
        (grouped(1), "it has one group only"),
        (depthwise(3, 1), "its multiplier is 1"),
        (transposed(2, (10, 12)), "nothing to cut off"),
        (transposed(4, (12, 14), padding=VALID), "its padding is VALID already"),
        (connected(False), "no bias beside weights that are computed"),
        (of("SPACE_TO_DEPTH", table("SpaceToDepth", blockSize=2), (1, 4, 6, 5), (1, 2, 3, 20)), "one image only"),
        (of("SPACE_TO_DEPTH", table("SpaceToDepth", blockSize=2), (65, 2, 2, 1), (65, 1, 1, 4)), "65 images"),
    ],
)
def test_what_has_no_simpler_form_says_why(build: Build, why: str) -> None:
    with pytest.raises(CannotRewrite, match=why):
        SIMPLER.apply(one_op(build), frozenset({0}), {})


def test_quantized_values_are_left_alone() -> None:
    model = one_op(backwards(3))
    x = model.root.subgraphs[0].tensors[0]
    x.quantization = schema.QuantizationParametersT()
    x.quantization.scale, x.quantization.zeroPoint = f32([0.5]), np.asarray([0])
    model.edited()
    with pytest.raises(CannotRewrite, match="quantized"):
        SIMPLER.apply(model, frozenset({0}), {})


def test_a_choice_among_a_multiple_of_four_is_left_alone() -> None:
    with pytest.raises(CannotRewrite, match="a multiple of four"):
        SIMPLER.apply(largest(GraphBuilder(), 40), frozenset({0}), {})


def test_of_several_ops_those_that_have_no_simpler_form_stay() -> None:
    graph = GraphBuilder()
    graph.output(
        graph.unary("LEAKY_RELU", graph.unary("TANH", graph.input("x", (3, 8))), table("LeakyRelu", alpha=2.0))
    )
    assert kinds(SIMPLER.apply(graph.build(), frozenset({0, 1}), {})) == ["TANH", "NEG", "RELU", "RELU", "MUL", "SUB"]


@pytest.mark.parametrize(("shape", "terms"), [((2, 3, 4), 12), ((2, 3, 4), 24), ((6, 4), 8)])
def test_rows_that_the_op_takes_from_several_dimensions_are_made_before_it(
    shape: tuple[int, ...], terms: int, evaluate: Evaluate
) -> None:
    model = one_op(rows(shape, terms, (24 // terms, 7)))
    rewritten = FLATTENED.apply(model, frozenset({0}), {})
    assert kinds(rewritten) == ["RESHAPE", "FULLY_CONNECTED"]
    inputs = random_inputs(model.graph(), 0)
    np.testing.assert_array_equal(evaluate(rewritten, inputs)["y"], evaluate(model, inputs)["y"])


def test_rows_that_are_there_are_not_made() -> None:
    with pytest.raises(CannotRewrite, match="it flattens nothing"):
        FLATTENED.apply(one_op(rows((3, 8), 8, (3, 7))), frozenset({0}), {})
