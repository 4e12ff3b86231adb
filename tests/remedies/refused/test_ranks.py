"""Ops of rank over 4 in four axes, and GATHER_ND at places that come at run time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.graph.rebuild import CannotRewrite
from harness.remedies import catalogue
from tests.arrays import Evaluate
from tests.remedies.refused.models import Drawn, ints, names, one, rewritten, same
from tests.remedies.small import table

many = settings(max_examples=40, deadline=None, derandomize=True)
kinds = st.sampled_from(("float32", "int32", "int8"))
shapes = st.lists(st.integers(1, 4), min_size=5, max_size=6)


def between(g: Drawn, shape: list[int], made: int, out: tuple[int, ...]) -> int:
    """The result in rank 2, as ports of rank 4 at most have it."""
    return g.reshape(made, (out[0], int(np.prod(out[1:]))))


def of_rank_2(g: Drawn, shape: list[int], name: str = "x") -> int:
    return g.reshape(g.given((shape[0], int(np.prod(shape[1:]))), name), shape)


@many
@given(shape=shapes, kind=kinds, data=st.data())
def test_a_transpose_of_any_rank(evaluate: Evaluate, shape: list[int], kind: str, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(shape))))

    def build(g: Drawn) -> int:
        out = tuple(shape[axis] for axis in order)
        made = g.made("TRANSPOSE", [of_rank_2(g, shape), ints(g, *order)], out, table("Transpose"))
        return between(g, shape, made, out)

    made = same(evaluate, catalogue.FOUR_AXES, one(build, kind), "TRANSPOSE").graph()
    assert max(len(t.shape or ()) for t in made.tensors) <= 4


@many
@given(shape=shapes, flags=st.lists(st.booleans(), min_size=6, max_size=6), kind=st.sampled_from(("float32", "int32")))
def test_a_sum_of_any_rank(evaluate: Evaluate, shape: list[int], flags: list[bool], kind: str) -> None:
    other = [n if own else 1 for n, own in zip(shape, flags, strict=False)]

    def build(g: Drawn) -> int:
        feeds = [of_rank_2(g, shape), of_rank_2(g, other, "y")]
        return between(g, shape, g.made("ADD", feeds, shape, table("Add"), version=5), tuple(shape))

    try:
        made = same(evaluate, catalogue.FOUR_AXES, one(build, kind), "ADD").graph()
    except CannotRewrite as error:
        assert "more than four stretches" in str(error)
        return
    assert max(len(t.shape or ()) for t in made.tensors) <= 4


@many
@given(shape=shapes, kind=kinds, masked=st.booleans(), data=st.data())
def test_a_slice_of_any_rank(
    evaluate: Evaluate, shape: list[int], kind: str, masked: bool, data: st.DataObject
) -> None:
    """With `masked`, the first axis is gone from the result, as an op that takes a tensor apart leaves it."""
    begin = [data.draw(st.integers(0, n - 1)) for n in shape]
    out = [data.draw(st.integers(1, n - first)) for n, first in zip(shape, begin, strict=True)]
    if masked:
        out[0] = 1

    def build(g: Drawn) -> int:
        x = of_rank_2(g, shape)
        if not masked:
            made = g.made("SLICE", [x, ints(g, *begin), ints(g, *out)], out, table("Slice"))
        else:
            ends = [first + count for first, count in zip(begin, out, strict=True)]
            feeds = [x, ints(g, *begin), ints(g, *ends), ints(g, *[1] * len(shape))]
            made = g.made("STRIDED_SLICE", feeds, out[1:], table("StridedSlice", shrinkAxisMask=1))
        return between(g, shape, made, tuple(out))

    model = one(build, kind)
    try:
        made = same(evaluate, catalogue.FOUR_AXES, model, "STRIDED_SLICE" if masked else "SLICE").graph()
    except CannotRewrite as error:
        assert "more than four stretches" in str(error)
        return
    assert max(len(t.shape or ()) for t in made.tensors) <= 4


@many
@given(
    shape=shapes,
    axes=st.sets(st.integers(-5, 4), min_size=1, max_size=3),
    keep=st.booleans(),
    kind=st.sampled_from(("SUM", "MEAN", "REDUCE_MAX")),
)
def test_a_reduction_of_any_rank(evaluate: Evaluate, shape: list[int], axes: set[int], keep: bool, kind: str) -> None:
    over = {axis % len(shape) for axis in axes}
    out = [1 if i in over else n for i, n in enumerate(shape) if keep or i not in over]

    def build(g: Drawn) -> int:
        made = g.made(kind, [of_rank_2(g, shape), ints(g, *axes)], out, table("Reducer", keepDims=keep))
        return g.reshape(made, (int(np.prod(out)),))

    try:
        made = same(evaluate, catalogue.FOUR_AXES, one(build), kind, within=4).graph()
    except CannotRewrite as error:
        assert "more than four stretches" in str(error)
        return
    assert max(len(t.shape or ()) for t in made.tensors) <= 4


@many
@given(shape=shapes, units=st.integers(1, 4))
def test_a_layer_of_any_rank(evaluate: Evaluate, shape: list[int], units: int) -> None:
    def build(g: Drawn) -> int:
        made = g.fully_connected(of_rank_2(g, shape), g.drawn(units, shape[-1]), g.drawn(units))
        return between(g, shape, made, (*shape[:-1], units))

    made = same(evaluate, catalogue.FOUR_AXES, one(build), "FULLY_CONNECTED").graph()
    assert max(len(t.shape or ()) for t in made.tensors) <= 4


@many
@given(shape=shapes, axis=st.integers(-5, 4), kind=kinds)
def test_a_concatenation_of_any_rank(evaluate: Evaluate, shape: list[int], axis: int, kind: str) -> None:
    at = axis % len(shape)
    out = tuple(2 * n if i == at else n for i, n in enumerate(shape))

    def build(g: Drawn) -> int:
        feeds = [of_rank_2(g, shape), of_rank_2(g, shape, "y")]
        made = g.made("CONCATENATION", feeds, out, table("Concatenation", axis=at if axis >= 0 else at - len(shape)))
        return between(g, shape, made, out)

    made = same(evaluate, catalogue.FOUR_AXES, one(build, kind), "CONCATENATION").graph()
    assert max(len(t.shape or ()) for t in made.tensors) <= 4


@many
@given(shape=shapes)
def test_a_softmax_of_any_rank(evaluate: Evaluate, shape: list[int]) -> None:
    model = one(lambda g: between(g, shape, g.softmax(of_rank_2(g, shape)), tuple(shape)))
    if shape[-1] == 1:
        return
    made = same(evaluate, catalogue.FOUR_AXES, model, "SOFTMAX", within=4).graph()
    assert max(len(t.shape or ()) for t in made.tensors) <= 4


@pytest.mark.parametrize("shape", [(2, 3, 4), (1, 2, 2, 3)])
def test_what_has_four_axes_stays(shape: tuple[int, ...]) -> None:
    with pytest.raises(CannotRewrite, match="rank 4 at most"):
        rewritten(catalogue.FOUR_AXES, one(lambda g: g.unary("TANH", g.given(shape))))


@pytest.mark.parametrize(("shape", "lead"), [((9, 4), (5,)), ((9, 2, 3), (2, 3)), ((9,), (4,))])
def test_rows_at_places_that_come_at_run_time(
    evaluate: Evaluate, shape: tuple[int, ...], lead: tuple[int, ...]
) -> None:
    def build(g: Drawn) -> int:
        places = g.input("i", (*lead, 1), np.int32)
        return g.made("GATHER_ND", [g.given(shape), places], (*lead, *shape[1:]), table("GatherNd"))

    model = one(build)
    made = rewritten(catalogue.ONE_LIST, model)
    rng = np.random.default_rng(2)
    inputs = {"x": rng.random(shape, np.float32), "i": rng.integers(0, 9, (*lead, 1)).astype(np.int32)}
    np.testing.assert_array_equal(evaluate(made, inputs)["y"], evaluate(model, inputs)["y"])
    assert "GATHER_ND" not in names(made)
