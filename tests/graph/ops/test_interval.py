"""Bounds that a graph proves hold for every value that it computes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from harness.graph.ops.interval import ANYTHING, Ranges
from tests.arrays import Evaluate, i32
from tests.quantized import QuantizedBuilder
from tests.remedies.small import table

SHAPE = (2, 4, 6, 3)


def constant(g: GraphBuilder, seed: int) -> int:
    """Values between two bounds of either sign."""
    rng = np.random.default_rng(seed)
    least, most = sorted(rng.integers(-9, 10, 2) / 2)
    return g.constant((least + (most - least) * rng.random(SHAPE)).astype(np.float32))


def pooled(kind: str) -> Callable[[GraphBuilder, int, int], int]:
    options = {"strideH": 1, "strideW": 1, "filterHeight": 3, "filterWidth": 3, "padding": schema.Padding.SAME}
    return lambda g, x, seed: g.op(kind, [x], SHAPE, table("Pool2D", **options))


def joined(g: GraphBuilder, x: int, seed: int) -> int:
    both = g.op("CONCATENATION", [x, constant(g, seed)], (2, 4, 6, 6), table("Concatenation", axis=3))
    feeds = [both, g.constant(i32([0, 0, 0, 2])), g.constant(i32(SHAPE))]
    return g.op("SLICE", feeds, SHAPE, table("Slice"))


def padded(g: GraphBuilder, x: int, seed: int) -> int:
    wide = g.pad(x, [(0, 0), (1, 0), (0, 0), (0, 0)])
    return g.op("SLICE", [wide, g.constant(i32([0, 0, 0, 0])), g.constant(i32(SHAPE))], SHAPE, table("Slice"))


def fused(code: int) -> Callable[[GraphBuilder, int, int], int]:
    def build(g: GraphBuilder, x: int, seed: int) -> int:
        return g.op("ADD", [x, constant(g, seed)], SHAPE, table("Add", fusedActivationFunction=code))

    return build


def of_one(kind: str) -> Callable[[GraphBuilder, int, int], int]:
    return lambda g, x, seed: g.unary(kind, x)


def with_constant(kind: str) -> Callable[[GraphBuilder, int, int], int]:
    return lambda g, x, seed: g.binary(kind, x, constant(g, seed))


UNARY = (
    "RELU", "RELU6", "RELU_N1_TO_1", "ABS", "NEG", "SQUARE", "TANH", "LOGISTIC", "SIN", "COS", "FLOOR", "CEIL", "ROUND",
    "HARD_SWISH", "GELU", "ELU", "EXP", "SQRT",
)  # fmt: skip
STEPS: dict[str, Callable[[GraphBuilder, int, int], int]] = {
    **{kind: of_one(kind) for kind in UNARY},
    **{kind: with_constant(kind) for kind in ("ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM")},
    "itself": lambda g, x, seed: g.binary("MUL", x, x),
    "sum": lambda g, x, seed: g.binary("ADD", g.reduce("SUM", x, 3), constant(g, seed)),
    "mean": lambda g, x, seed: g.binary("MUL", g.reduce("MEAN", x, 1), constant(g, seed)),
    "fused": fused(schema.ActivationFunctionType.RELU),
    "fused6": fused(schema.ActivationFunctionType.RELU6),
    "largest": pooled("MAX_POOL_2D"),
    "average": pooled("AVERAGE_POOL_2D"),
    "joined": joined,
    "padded": padded,
    "softmax": lambda g, x, seed: g.softmax(x),
    "apart": lambda g, x, seed: g.binary("SQUARED_DIFFERENCE", x, constant(g, seed)),
}  # fmt: skip


def of(build: Callable[[GraphBuilder], int]) -> tuple[Model, tuple[float, float]]:
    """A model, and the bounds of its output."""
    graph = GraphBuilder()
    graph.output(build(graph), "y")
    model = graph.build()
    whole = model.graph()
    return model, Ranges(model, whole).of(whole.outputs[0].tensor)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(steps=st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.integers(0, 50)), min_size=1, max_size=7))
def test_no_value_is_beyond_its_bounds(evaluate: Evaluate, steps: list[tuple[str, int]]) -> None:
    def build(g: GraphBuilder) -> int:
        x = g.input("x", SHAPE)
        for name, seed in steps:
            x = STEPS[name](g, x, seed)
        return x

    model, (least, most) = of(build)
    for scale in (0.1, 3.0, 60.0):
        values = (scale * np.random.default_rng(1).standard_normal(SHAPE)).astype(np.float32)
        found = evaluate(model, {"x": values})["y"]
        found = found[~np.isnan(found)].astype(np.float64)
        # Exact in sign, else up to the roundings of seven steps, of sums of up to 3 terms.
        slack = 64 * 2.0**-24
        if least >= 0:
            assert (found >= 0).all()
        if most <= 0:
            assert (found <= 0).all()
        assert math.isinf(least) or (found >= least - slack * abs(least) - 1e-30).all()
        assert math.isinf(most) or (found <= most + slack * abs(most) + 1e-30).all()


@pytest.mark.parametrize(
    ("build", "bounds"),
    [
        (lambda g: g.unary("RELU", g.input("x", SHAPE)), (0, math.inf)),
        (lambda g: g.unary("RSQRT", g.unary("RELU", g.input("x", SHAPE))), ANYTHING),  # of -0 it is -infinity
        (lambda g: g.unary("RSQRT", g.unary("EXP", g.input("x", SHAPE))), ANYTHING),  # EXP may be 0
        (lambda g: g.binary("DIV", g.unary("ABS", g.input("x", SHAPE)), g.constant([2.0])), (0, math.inf)),
        (lambda g: g.binary("DIV", g.constant([1.0]), g.unary("RELU", g.input("y", SHAPE))), ANYTHING),
        (lambda g: g.binary("SUB", g.unary("LOGISTIC", g.input("x", SHAPE)), g.constant([1.0])), (-1, 0)),
        (lambda g: g.unary("LOG", g.unary("ABS", g.input("x", SHAPE))), ANYTHING),
        (lambda g: g.binary("ADD", g.input("x", SHAPE), g.constant([np.nan])), ANYTHING),
    ],
)  # fmt: skip
def test_what_is_known_of_an_op(build: Callable[[GraphBuilder], int], bounds: tuple[float, float]) -> None:
    assert of(build)[1] == bounds


def test_integers_have_the_ends_of_their_type_where_they_may_wrap_around() -> None:
    def squared(g: GraphBuilder, dtype: type) -> int:
        x = g.input("x", (4,), dtype)
        return g.op("MUL", [x, x], (4,), table("Mul"), dtype=dtype)

    assert of(lambda g: squared(g, np.int32))[1] == (-(2**31), 2**31 - 1)
    assert of(
        lambda g: g.op("ARG_MAX", [g.input("x", (3, 9)), g.constant(i32(1))], (3,), table("ArgMax"), dtype=np.int64)
    )[1] == (0, 8)
    flags = of(lambda g: g.op("LESS", [g.input("x", (3,)), g.input("y", (3,))], (3,), table("Less"), dtype=np.bool_))
    assert flags[1] == (0, 1)


def test_a_fraction_is_true() -> None:
    def flags(g: GraphBuilder) -> int:
        half = g.binary("MUL", g.unary("LOGISTIC", g.input("x", SHAPE)), g.constant([0.5]))
        return g.op("CAST", [half], SHAPE, table("Cast", outDataType=schema.TensorType.BOOL), dtype=np.bool_)

    assert of(flags)[1] == (0, 1)


def test_rounding_to_a_grid_is_within_the_bounds() -> None:
    """0.5 on a grid of steps of 1.5 is 0, which 0.5 less is below zero."""
    graph = QuantizedBuilder()
    x = graph.on_grid(graph.constant(np.full(6, 5, np.int8)), 0.1, 0)
    coarse = graph.on_grid(graph.op("QUANTIZE", [x], (6,), table("Quantize")), 1.5, 0)
    graph.output(graph.on_grid(graph.binary("SUB", coarse, x), 0.5, 0), "y")
    model = graph.build()
    whole = model.graph()
    ranges = Ranges(model, whole)
    least, largest = ranges.of(whole.ops[0].outputs[0])
    assert least == 0 < largest
    assert ranges.of(whole.outputs[0].tensor)[0] < 0


def test_quantized_values_are_within_their_grid() -> None:
    graph = QuantizedBuilder()
    x = graph.quantized_input("x", (1, 6), 0.5, -128)
    graph.output(graph.on_grid(graph.op("RELU", [x], (1, 6)), 0.25, -8), "y")
    model = graph.build()
    ranges = Ranges(model, model.graph())
    assert ranges.of(model.graph().inputs[0].tensor) == (0, 127.5)
    assert ranges.of(model.graph().outputs[0].tensor) == (0, 33.75)


def test_an_op_without_its_operands_is_bounded_by_its_type_alone() -> None:
    model, _ = of(lambda g: g.unary("RELU", g.unary("ABS", g.input("x", (4,)))))
    for inputs in ([], [-1]):
        model.root.subgraphs[0].operators[0].inputs = np.asarray(inputs, np.int32)
        model.edited()
        graph = model.graph()
        ranges = Ranges(model, graph)
        assert ranges.of(graph.ops[0].outputs[0]) == ANYTHING
        assert ranges.of(graph.ops[1].outputs[0]) == (0, math.inf)
