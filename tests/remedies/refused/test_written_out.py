"""Operands written out, and updates, sums, poolings and places in the one form that delegates have."""

from __future__ import annotations

import math

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.graph.rebuild import CannotRewrite
from harness.remedies import catalogue
from tests.arrays import Evaluate
from tests.remedies.refused.models import Drawn, ints, names, one, rewritten, same
from tests.remedies.small import table

many = settings(max_examples=30, deadline=None, derandomize=True)
shapes = st.lists(st.integers(1, 4), min_size=1, max_size=4)


@many
@given(
    size=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.integers(1, 2),
    padding=st.sampled_from(("SAME", "VALID")),
    activation=st.sampled_from((0, schema.ActivationFunctionType.RELU6)),
)
def test_a_pooling_of_lengths(
    evaluate: Evaluate, size: tuple[int, int], stride: int, padding: str, activation: int
) -> None:
    out = [-(-(n if padding == "SAME" else n - k + 1) // stride) for n, k in zip((5, 6), size, strict=True)]
    options = table(
        "Pool2D", filterHeight=size[0], filterWidth=size[1], strideH=stride, strideW=stride,
        padding=getattr(schema.Padding, padding), fusedActivationFunction=activation,
    )  # fmt: skip
    model = one(lambda g: g.op("L2_POOL_2D", [g.given((2, 5, 6, 3))], (2, *out, 3), options))
    # A sum of up to nine squares, a quotient and a root.
    made = names(same(evaluate, catalogue.SIMPLER, model, within=16))
    assert made[:3] == ["MUL", "AVERAGE_POOL_2D", "SQRT"]


@pytest.mark.parametrize("count", [2, 5])
@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_a_sum_of_many_is_sums_of_two(evaluate: Evaluate, count: int, dtype: str) -> None:
    model = one(lambda g: g.made("ADD_N", [g.given((3, 4), f"x{i}") for i in range(count)], (3, 4)), dtype)
    assert names(same(evaluate, catalogue.SIMPLER, model)) == ["ADD"] * (count - 1)


@many
@given(shape=st.lists(st.integers(1, 4), min_size=1, max_size=3), data=st.data())
def test_one_hot_is_of_one_row(evaluate: Evaluate, shape: list[int], data: st.DataObject) -> None:
    axis = data.draw(st.integers(-1, len(shape)))
    at = axis % (len(shape) + 1)

    def build(g: Drawn) -> int:
        places = g.input("x", shape, np.int32)
        values = [g.constant(np.asarray(value, np.float32)) for value in (2, -1)]
        feeds = [places, g.constant(np.asarray(5, np.int32)), *values]
        out = (*shape[:at], 5, *shape[at:])
        return g.op("ONE_HOT", feeds, out, table("OneHot", axis=axis), dtype=np.float32)

    if len(shape) == 1 and axis == -1:
        with pytest.raises(CannotRewrite, match="already"):
            rewritten(catalogue.SIMPLER, one(build))
        return
    made = same(evaluate, catalogue.SIMPLER, one(build)).graph()
    (op,) = (op for op in made.ops if op.name == "ONE_HOT")
    assert len(made.tensors[op.inputs[0]].shape or ()) == 1
    assert set(names(made_of := same(evaluate, catalogue.SIMPLER, one(build)))) <= {"ONE_HOT", "RESHAPE", "TRANSPOSE"}
    assert ("TRANSPOSE" in names(made_of)) is (at != len(shape))


@many
@given(shape=shapes, data=st.data())
def test_slopes_are_for_each_channel_or_for_each_place_of_one_image(
    evaluate: Evaluate, shape: list[int], data: st.DataObject
) -> None:
    rank = data.draw(st.integers(0, len(shape)))
    slopes = [data.draw(st.sampled_from((1, n))) for n in shape[len(shape) - rank :]]
    model = one(lambda g: g.op("PRELU", [g.given(shape), g.constant(g.drawn(*slopes))], shape, dtype=np.float32))
    try:
        made = same(evaluate, catalogue.SIMPLER, model).graph()
    except CannotRewrite as error:
        assert "already" in str(error)
        made = model.graph()
    (op,) = (op for op in made.ops if op.name == "PRELU")
    x, held = (made.tensors[t].shape or () for t in op.inputs)
    # What the delegate has: a vector of the channels, or the shape of an image.
    assert held[-1:] == x[-1:] and len(x) > 1
    assert math.prod(held) == x[-1] or (x[0] == 1 and math.prod(held) == math.prod(x[1:]))


def test_slopes_of_run_time_are_a_factor(evaluate: Evaluate) -> None:
    model = one(lambda g: g.op("PRELU", [g.given((3, 4)), g.given((4,), "slopes")], (3, 4), dtype=np.float32))
    assert names(same(evaluate, catalogue.SIMPLER, model)) == ["NEG", "RELU", "MUL", "RELU", "SUB"]


@many
@given(shape=shapes, dtype=st.sampled_from(("float32", "int32")), data=st.data())
def test_an_update_at_a_known_place_is_joined_with_what_is_around_it(
    evaluate: Evaluate, shape: list[int], dtype: str, data: st.DataObject
) -> None:
    size = [data.draw(st.integers(1, n)) for n in shape]
    start = [data.draw(st.integers(-1, n)) for n in shape]

    def build(g: Drawn) -> int:
        feeds = [g.given(shape), g.given(size, "part"), ints(g, *start)]
        return g.made("DYNAMIC_UPDATE_SLICE", feeds, shape, table("DynamicUpdateSlice"))

    made = names(same(evaluate, catalogue.SIMPLER, one(build, dtype)))
    assert set(made) <= {"SLICE", "CONCATENATION"}
    assert made.count("CONCATENATION") == sum(a < b for a, b in zip(size, shape, strict=True))


def test_an_update_at_a_place_that_is_told_at_run_time_is_left() -> None:
    def build(g: Drawn) -> int:
        feeds = [g.given((4, 6)), g.given((2, 3), "part"), g.input("start", (2,), np.int32)]
        return g.made("DYNAMIC_UPDATE_SLICE", feeds, (4, 6), table("DynamicUpdateSlice"))

    with pytest.raises(CannotRewrite, match="no constant"):
        rewritten(catalogue.SIMPLER, one(build))


@many
@given(shape=shapes, constant=st.booleans(), data=st.data())
def test_values_to_choose_from_have_the_shape_of_the_result(
    evaluate: Evaluate, shape: list[int], constant: bool, data: st.DataObject
) -> None:
    rank = data.draw(st.integers(0, len(shape)))
    narrow = [data.draw(st.sampled_from((1, n))) for n in shape[len(shape) - rank :]]

    def build(g: Drawn) -> int:
        other = g.constant(g.drawn(*narrow)) if constant else g.given(narrow, "other")
        feeds = [g.input("mask", shape, np.bool_), g.given(shape), other]
        return g.op("SELECT_V2", feeds, shape, table("SelectV2"), dtype=np.float32)

    if narrow in ([], [1], shape):
        with pytest.raises(CannotRewrite, match="single ones"):
            rewritten(catalogue.NO_BROADCAST, one(build))
        return
    made = same(evaluate, catalogue.NO_BROADCAST, one(build)).graph()
    (op,) = (op for op in made.ops if op.name == "SELECT_V2")
    assert [list(made.tensors[t].shape or ()) for t in op.inputs] == [shape] * 3
