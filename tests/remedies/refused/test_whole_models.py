"""Rewrites of several ops together: 64-bit integers, constants, and chains in rank 4."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.arrays import Array
from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from harness.graph.ops.constants import computed
from harness.graph.rebuild import CannotRewrite
from harness.remedies import catalogue
from tests.arrays import Evaluate, i32
from tests.remedies.refused.models import Drawn, ints, names, one, rewritten, same, values_for
from tests.remedies.small import table

many = settings(max_examples=30, deadline=None, derandomize=True)
LONG = schema.TensorType.INT64


def cast(g: GraphBuilder, x: int, to: Any) -> int:
    """CAST to a numpy type."""
    codes = {np.float32: "FLOAT32", np.int32: "INT32", np.int64: "INT64"}
    options = table("Cast", outDataType=getattr(schema.TensorType, codes[to]))
    options.inDataType = g._tensors[x].type
    return g.op("CAST", [x], g.shape(x), options, dtype=to)


def long_op(g: GraphBuilder, kind: str, feeds: Sequence[int], shape: Sequence[int], options: Any = None) -> int:
    return g.op(kind, feeds, shape, options, dtype=np.int64)


def largest(g: GraphBuilder, x: int) -> int:
    """ARG_MAX over the last axis, in 64 bits."""
    options = table("ArgMax", outputType=LONG)
    return long_op(g, "ARG_MAX", [x, ints(g, len(g.shape(x)) - 1)], g.shape(x)[:-1], options)


def row_of_largest(g: Drawn) -> int:
    """The row of a table for the largest of each row."""
    places = largest(g, g.given((6, 9)))
    return g.op("GATHER", [g.constant(g.drawn(9, 4)), places], (6, 4), table("Gather"), dtype=np.float32)


def wrapped(g: Drawn) -> int:
    """Indices of either sign, as converters write them: i < 0 ? i + n : i, all in 64 bits."""
    places = cast(g, g.input("i", (5,), np.int32), np.int64)
    n, zero = g.constant(np.asarray([101], np.int64)), g.constant(np.zeros(1, np.int64))
    below = g.op("LESS", [places, zero], (5,), table("Less"), dtype=np.bool_)
    chosen = [below, long_op(g, "ADD", [places, n], (5,), table("Add")), places]
    found = long_op(g, "SELECT_V2", chosen, (5,), table("SelectV2"))
    return g.op("GATHER", [g.given((101, 3)), found], (5, 3), table("Gather"), dtype=np.float32)


def compared(g: Drawn) -> int:
    """Where the largest stands, as a float, and twice that."""
    places = long_op(g, "MUL", [largest(g, g.given((4, 7))), g.constant(np.asarray([2], np.int64))], (4,), table("Mul"))
    return cast(g, places, np.float32)


@pytest.mark.parametrize("build", [row_of_largest, wrapped, compared])
def test_indices_of_64_bits_fit_into_32(evaluate: Evaluate, build: Callable[[Drawn], int]) -> None:
    model = one(build)
    made = same(evaluate, catalogue.INTEGERS, model, "ARG_MAX" if build is not wrapped else "ADD").graph()
    assert not [t.name for t in made.tensors if t.type == "INT64"]


def twice_given_out(g: Drawn) -> int:
    places = largest(g, g.given((4, 7)))
    g.output(cast(g, places, np.int32), "first")
    return cast(g, places, np.int32)


def as_it_came(g: Drawn) -> int:
    return cast(g, cast(g, g.input("i", (5,), np.int32), np.int64), np.int32)


@pytest.mark.parametrize("build", [twice_given_out, as_it_came])
def test_inputs_and_outputs_stay_tensors_of_their_own(evaluate: Evaluate, build: Callable[[Drawn], int]) -> None:
    made = same(evaluate, catalogue.INTEGERS, one(build), "CAST").graph()
    ports = [port.tensor for port in (*made.inputs, *made.outputs)]
    assert len(set(ports)) == len(ports) == 2 + (build is twice_given_out)
    assert not [t.name for t in made.tensors if t.type == "INT64"]


def test_constant_places_of_64_bits_fit_too(evaluate: Evaluate) -> None:
    places = np.asarray([2, 0, 1], np.int64)
    model = one(lambda g: g.op("GATHER", [g.given((4, 3)), g.constant(places)], (3, 3), table("Gather")))
    made = same(evaluate, catalogue.INTEGERS, model).graph()
    assert not [t.name for t in made.tensors if t.type == "INT64"]


def given_long(g: Drawn) -> int:
    return g.op("GATHER", [g.given((9, 3)), g.input("i", (4,), np.int64)], (4, 3), table("Gather"), dtype=np.float32)


def too_large(g: Drawn) -> int:
    """The square of any 32-bit number, as a float."""
    x = cast(g, g.input("i", (4,), np.int32), np.int64)
    return cast(g, long_op(g, "MUL", [x, x], (4,), table("Mul")), np.float32)


def of_floats(g: Drawn) -> int:
    """Floats of any size, to whole numbers and back."""
    return cast(g, cast(g, g.given((4,)), np.int64), np.float32)


def compared_with_more(g: Drawn) -> int:
    """Whether an index is less than a number that 32 bits do not hold."""
    bound = g.constant(np.asarray([2**40], np.int64))
    less = g.op("LESS", [largest(g, g.given((4, 7))), bound], (4,), table("Less"), dtype=np.bool_)
    options = table("Cast", inDataType=schema.TensorType.BOOL, outDataType=schema.TensorType.FLOAT32)
    return g.op("CAST", [less], (4,), options, dtype=np.float32)


@pytest.mark.parametrize(
    ("build", "kind", "why"),
    [
        (given_long, "GATHER", "an input or output of the model, has 64 bits"),
        (lambda g: largest(g, g.given((4, 7))), "ARG_MAX", "an input or output of the model, has 64 bits"),
        (too_large, "MUL", "nothing proves"),
        (of_floats, "CAST", "nothing proves"),
        (compared_with_more, "ARG_MAX", "nothing proves"),
    ],
)
def test_what_may_not_fit_stays(build: Callable[[Drawn], int], kind: str, why: str) -> None:
    with pytest.raises(CannotRewrite, match=why):
        rewritten(catalogue.INTEGERS, one(build), kind)


def test_indices_from_floats_are_bounded_by_the_axis_that_they_are_of(evaluate: Evaluate) -> None:
    def build(g: Drawn) -> int:
        places = cast(g, g.unary("ABS", g.given((6,))), np.int64)
        return g.op("GATHER", [g.constant(g.drawn(9, 4)), places], (6, 4), table("Gather"), dtype=np.float32)

    made = same(evaluate, catalogue.INTEGERS, one(build), "GATHER").graph()
    assert not [t.name for t in made.tensors if t.type == "INT64"]


# Constants.

A, B = (np.arange(24, dtype=np.float32).reshape(2, 3, 4) - 11) / 8, np.linspace(0.25, 3, 12, dtype=np.float32)
OF_CONSTANTS: dict[str, tuple[str, list[Array], tuple[int, ...], Any]] = {
    "RESHAPE": ("RESHAPE", [A, i32([4, 6])], (4, 6), table("Reshape")),
    "TRANSPOSE": ("TRANSPOSE", [A, i32([2, 0, 1])], (4, 2, 3), table("Transpose")),
    "SLICE": ("SLICE", [A, i32([0, 1, 1]), i32([2, -1, 2])], (2, 2, 2), table("Slice")),
    "TILE": ("TILE", [A, i32([1, 2, 1])], (2, 6, 4), None),
    "FILL": ("FILL", [i32([2, 3]), np.asarray(0.5, np.float32)], (2, 3), table("Fill")),
    "PAD": ("PAD", [A, i32([[0, 1], [2, 0], [0, 0]])], (3, 5, 4), table("Pad")),
    "CONCATENATION": ("CONCATENATION", [A, A], (2, 3, 8), table("Concatenation", axis=-1)),
    "PACK": ("PACK", [A, A], (2, 2, 3, 4), table("Pack", axis=1, valuesCount=2)),
    "GATHER": ("GATHER", [A, i32([2, 0])], (2, 2, 4), table("Gather", axis=1)),
    "BROADCAST_TO": ("BROADCAST_TO", [B[:4], i32([3, 4])], (3, 4), table("BroadcastTo")),
    "ADD": ("ADD", [A, B[:4]], (2, 3, 4), table("Add", fusedActivationFunction=1)),
    "SUB": ("SUB", [A, B[:4]], (2, 3, 4), table("Sub")),
    "MUL": ("MUL", [A, B[:4]], (2, 3, 4), table("Mul")),
    "DIV": ("DIV", [A, B[:4]], (2, 3, 4), table("Div")),
    "MAXIMUM": ("MAXIMUM", [A, B[:4]], (2, 3, 4), table("MaximumMinimum")),
    "SQUARED_DIFFERENCE": ("SQUARED_DIFFERENCE", [A, B[:4]], (2, 3, 4), table("SquaredDifference")),
    "POW": ("POW", [B, B], (12,), table("Pow")),
    **{kind: (kind, [A], (2, 3, 4), None) for kind in ("NEG", "ABS", "SQUARE", "EXP", "SIN", "COS", "TANH")},
    **{kind: (kind, [A], (2, 3, 4), None) for kind in ("FLOOR", "CEIL", "ROUND", "RELU", "LOGISTIC")},
    **{kind: (kind, [B], (12,), None) for kind in ("RSQRT", "SQRT", "LOG")},
    "SUM": ("SUM", [A, i32([0, 2])], (3,), table("Reducer", keepDims=False)),
    "MEAN": ("MEAN", [A, i32([-1])], (2, 3, 1), table("Reducer", keepDims=True)),
    "REDUCE_MAX": ("REDUCE_MAX", [A, i32([1])], (2, 4), table("Reducer", keepDims=False)),
    "FULLY_CONNECTED": (
        "FULLY_CONNECTED", [A.reshape(6, 4), B.reshape(3, 4), B[:3]], (6, 3), table("FullyConnected"),
    ),
    "BATCH_MATMUL": (
        "BATCH_MATMUL", [A, A], (2, 3, 3), table("BatchMatMul", adjX=False, adjY=True),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OF_CONSTANTS)
def test_an_op_on_constants_is_the_constant_that_it_makes(evaluate: Evaluate, name: str) -> None:
    kind, operands, shape, options = OF_CONSTANTS[name]

    def build(g: Drawn) -> int:
        version = 2 if kind == "BROADCAST_TO" else 1
        made = g.op(kind, [g.constant(each) for each in operands], shape, options, dtype=np.float32, version=version)
        return g.binary("ADD", g.given(shape), made)

    # Two roundings of a function's value, and one of the sum.
    made = same(evaluate, catalogue.CONSTANTS, one(build), kind if kind != "ADD" else "", within=4)
    # A constant of low rank is put into rank 4, with what it meets.
    assert [name for name in names(made) if name != "RESHAPE"] == ["ADD"]
    held = [tensor.shape or () for tensor in made.graph().tensors if tensor.constant]
    assert not any(len(shape) in (2, 3) and shape[0] > 1 for shape in held)


def test_a_chain_of_constants_is_computed_as_far_as_it_is_asked_for(evaluate: Evaluate) -> None:
    def build(g: Drawn) -> int:
        x = g.transpose(g.unary("NEG", g.dequantize(A)), (0, 2, 1))
        return g.binary("MUL", g.given((2, 4, 3)), x)

    made = same(evaluate, catalogue.CONSTANTS, one(build), "TRANSPOSE")
    assert names(made) == ["RESHAPE", "MUL", "RESHAPE"]


def test_weights_unpacked_from_8_bits_become_floats_where_their_reader_is_asked_for(evaluate: Evaluate) -> None:
    def build(g: Drawn) -> int:
        held = g.on_grid(g.constant(np.arange(-12, 12, dtype=np.int8).reshape(4, 6)), [0.1, 0.2, 0.3, 0.4])
        weights = g.op("DEQUANTIZE", [held], (4, 6), table("Dequantize"), dtype=np.float32, version=5)
        return g.op("FULLY_CONNECTED", [g.given((3, 6)), weights, -1], (3, 4), table("FullyConnected"))

    made = same(evaluate, catalogue.CONSTANTS, one(build), "FULLY_CONNECTED")
    assert names(made) == ["FULLY_CONNECTED"]


def stored_half(g: Drawn) -> int:
    return g.binary("MUL", g.given((12,)), g.dequantize(B))


def given_out(g: Drawn) -> int:
    made = g.unary("NEG", g.constant(B))
    g.output(made, "c")
    return g.binary("MUL", g.given((12,)), made)


@pytest.mark.parametrize(
    ("build", "kind", "why"),
    [
        (stored_half, "DEQUANTIZE", "weights stored in float16"),
        (stored_half, "MUL", "weights stored in float16"),
        (given_out, "NEG", "the model's output 'c'"),
        (lambda g: g.binary("ADD", g.given((1,)), g.unary("ELU", g.constant(B[:1]))), "ELU", "is not computed here"),
    ],
)
def test_constants_that_stay(build: Callable[[Drawn], int], kind: str, why: str) -> None:
    with pytest.raises(CannotRewrite, match=why):
        rewritten(catalogue.CONSTANTS, one(build), kind)


def test_a_file_that_asks_for_a_constant_of_any_size_gets_none() -> None:
    half = np.asarray(0.5, np.float32)
    assert computed("FILL", None, [i32([1 << 15, 1 << 15]), half], (1 << 15, 1 << 15), np.float32) is None
    assert computed("TILE", None, [B, i32([1 << 30])], (12,), np.float32) is None
    assert computed("PAD", None, [B, i32([[1 << 30, 0]])], (12,), np.float32) is None
    tall, flat = np.zeros((1 << 20, 1), np.float32), np.zeros((1, 1 << 20), np.float32)
    for kind in ("ADD", "DIV", "BATCH_MATMUL"):
        assert computed(kind, table("BatchMatMul", adjX=False, adjY=False), [tall, flat], (4, 4), np.float32) is None
    assert computed("FULLY_CONNECTED", None, [tall, tall], (4, 4), np.float32) is None
    many = np.zeros((1 << 20,), np.int32)
    assert computed("GATHER", table("Gather", axis=0), [flat, many], (1, 4), np.float32) is None
    assert computed("MEAN", table("Reducer"), [i32([1, 2]), i32([0])], (1,), np.int32) is None
    assert computed("CAST", table("Cast"), [np.asarray([3e9], np.float32)], (1,), np.int32) is None


# Chains in rank 4.

STEPS: dict[str, Callable[[Drawn, int], int]] = {
    "tanh": lambda g, x: g.unary("TANH", x),
    "add": lambda g, x: g.binary("ADD", x, g.constant(g.drawn(*g.shape(x)))),
    "scale": lambda g, x: g.binary("MUL", g.constant(g.drawn(g.shape(x)[-1])), x),
    "mean": lambda g, x: g.binary("SUB", x, g.reduce("MEAN", x, len(g.shape(x)) - 1)),
    "largest": lambda g, x: g.binary("SUB", x, g.reduce("REDUCE_MAX", x, 0)),
    "dense": lambda g, x: g.fully_connected(x, g.drawn(g.shape(x)[-1], g.shape(x)[-1]), g.drawn(g.shape(x)[-1])),
    "pad": lambda g, x: g.pad(x, [(0, 1), *[(0, 0)] * (len(g.shape(x)) - 2), (1, 0)]),
    "turn": lambda g, x: g.transpose(x, [*range(1, len(g.shape(x))), 0]),
    "softmax": lambda g, x: g.softmax(x),
    "square": lambda g, x: g.batch_matmul(x, x, adj_y=True),
}  # fmt: skip


@many
@given(
    shape=st.lists(st.integers(2, 4), min_size=2, max_size=3),
    steps=st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=6),
    at=st.integers(0, 5),
)
def test_a_chain_below_rank_4_is_in_rank_4_from_end_to_end(
    evaluate: Evaluate, shape: list[int], steps: list[str], at: int
) -> None:
    def build(g: Drawn) -> int:
        x = g.given(shape)
        for step in steps:
            x = STEPS[step](g, x)
        return x

    model = one(build)
    graph = model.graph()
    op = graph.ops[at % len(graph.ops)]
    made = catalogue.CHAIN.apply(model, frozenset({op.index}), {})
    inputs = {name: values / 16 for name, values in values_for(model).items()}
    # The same kernels on the same values; what XNNPACK is not asked for sums in the same order.
    np.testing.assert_allclose(evaluate(made, inputs)["y"], evaluate(model, inputs)["y"], rtol=1e-6, atol=1e-6)
    again = made.graph()
    inside = [o for o in again.ops if o.name != "RESHAPE"]
    assert {len(again.tensors[t].shape or ()) for o in inside for t in o.outputs} == {4}
    assert sum(o.name == "RESHAPE" for o in again.ops) == 2  # in and out


def test_a_quantized_chain_stays_on_its_grids(evaluate: Evaluate) -> None:
    """FULLY_CONNECTED and ADD in rank 3, which phones refuse."""

    def build(g: Drawn) -> int:
        x = g.given((1, 5, 6))
        made = g.layer(x, g.rng.integers(-9, 10, (6, 6)), 0.05, (0.25, -3))
        return g.sum_of(made, x, (0.5, 2))

    model = one(build, "int8")
    made = same(evaluate, catalogue.CHAIN, model, "ADD").graph()
    assert {len(made.tensors[t].shape or ()) for o in made.ops if o.name != "RESHAPE" for t in o.outputs} == {4}


def test_a_chain_ends_where_an_axis_is_dropped() -> None:
    def build(g: Drawn) -> int:
        x = g.unary("TANH", g.given((3, 4)))
        return g.op("SUM", [x, ints(g, 1)], (3,), table("Reducer", keepDims=False))

    made: Model = rewritten(catalogue.CHAIN, one(build), "TANH")
    assert names(made) == ["RESHAPE", "TANH", "RESHAPE", "SUM"]
    with pytest.raises(CannotRewrite, match="drops axes"):
        rewritten(catalogue.CHAIN, one(build), "SUM")
