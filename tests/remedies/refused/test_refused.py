"""Rewrites of ops that phones refuse give the same values, over shapes, axes, types and options."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.graph.rebuild import CannotRewrite
from harness.remedies import catalogue
from harness.remedies.catalogue import Rewrite
from tests.arrays import Evaluate
from tests.remedies.refused.models import (
    TYPES,
    Drawn,
    broadcast,
    ints,
    names,
    one,
    rewritten,
    same,
    sliced,
    transposed_conv,
    values_for,
)
from tests.remedies.small import table

many = settings(max_examples=40, deadline=None, derandomize=True)
kinds = st.sampled_from(sorted(TYPES))
sizes = st.integers(1, 5)


@st.composite
def repeated(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """A shape, and one that it is broadcast to, longer somewhere."""
    wanted = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4).filter(lambda shape: max(shape) > 1))
    lost = draw(st.integers(0, len(wanted)))
    given = [1 if draw(st.booleans()) else n for n in wanted[lost:]]
    if (*[1] * lost, *given) == tuple(wanted):
        at = max(range(len(wanted)), key=lambda i: wanted[i])
        given = [1 if i + lost == at else n for i, n in enumerate(given)]
    return tuple(given), tuple(wanted)


@many
@given(shapes=repeated(), kind=st.sampled_from(("float32", "int32")))
def test_a_broadcast_is_a_product_with_ones(
    evaluate: Evaluate, shapes: tuple[tuple[int, ...], tuple[int, ...]], kind: str
) -> None:
    made = same(evaluate, catalogue.PRODUCT_WITH_ONES, one(broadcast(*shapes), kind))
    assert set(names(made)) <= {"RESHAPE", "MUL"}
    assert all(len(t.shape or ()) <= 4 for t in made.graph().tensors)


@many
@given(shapes=repeated(), kind=kinds)
def test_a_broadcast_is_copies_side_by_side(
    evaluate: Evaluate, shapes: tuple[tuple[int, ...], tuple[int, ...]], kind: str
) -> None:
    model = one(broadcast(*shapes), kind)
    try:
        made = same(evaluate, catalogue.COPIES, model)
    except CannotRewrite as error:
        assert "times" in str(error) and np.prod(shapes[1]) > 64
        return
    assert set(names(made)) <= {"RESHAPE", "CONCATENATION"}


def test_heads_repeated_in_rank_5_are_repeated_in_rank_4(evaluate: Evaluate) -> None:
    """Grouped-query attention: RESHAPE to rank 5, BROADCAST_TO, RESHAPE back."""

    def build(g: Drawn) -> int:
        keys = g.reshape(g.given((2, 3, 6, 8)), (2, 3, 1, 6, 8))
        wide = g.made("BROADCAST_TO", [keys, ints(g, 2, 3, 4, 6, 8)], (2, 3, 4, 6, 8), table("BroadcastTo"), version=2)
        return g.reshape(wide, (2, 12, 6, 8))

    made = same(evaluate, catalogue.PRODUCT_WITH_ONES, one(build), "BROADCAST_TO")
    assert names(made) == ["RESHAPE", "MUL", "RESHAPE"]
    assert max(len(t.shape or ()) for t in made.graph().tensors) == 4


@many
@given(
    size=st.tuples(sizes, sizes),
    kernel=st.tuples(sizes, sizes),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.sampled_from(("SAME", "VALID")),
    depth=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    batch=st.integers(1, 2),
    kind=st.sampled_from(("float32", "int8")),
)
def test_a_transposed_convolution_is_one_of_a_map_with_zeros(
    evaluate: Evaluate,
    size: tuple[int, int],
    kernel: tuple[int, int],
    strides: tuple[int, int],
    padding: str,
    depth: tuple[int, int],
    batch: int,
    kind: str,
) -> None:
    model = one(transposed_conv(size, kernel, strides, padding, depth, batch), kind)
    try:
        made = same(evaluate, catalogue.STUFFED, model, steps=int(kind == "int8"))
    except CannotRewrite as error:
        assert "nothing of its input" in str(error)
        return
    assert "TRANSPOSE_CONV" not in names(made)
    assert max(len(t.shape or ()) for t in made.graph().tensors) == 4


@pytest.mark.parametrize("activation", ["NONE", "RELU", "RELU6"])
def test_a_transposed_convolution_keeps_bias_and_activation(evaluate: Evaluate, activation: str) -> None:
    code = getattr(schema.ActivationFunctionType, activation)
    same(evaluate, catalogue.STUFFED, one(transposed_conv((4, 5), (3, 2), (2, 2), "SAME", bias=True, activation=code)))


@st.composite
def spans(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[tuple[int, int, int], ...]]:
    """A shape and (begin, end, step) of each axis, forwards and backwards, that take something of each."""
    shape = tuple(draw(st.lists(st.integers(1, 6), min_size=1, max_size=4)))
    found = []
    for n in shape:
        step = draw(st.sampled_from((1, 2, 3, -1, -2)))
        first, last = sorted((draw(st.integers(0, n - 1)), draw(st.integers(0, n - 1))))
        found.append((first, last + 1, step) if step > 0 else (last, first - 1 - n, step))
    return shape, tuple(found)


def taken_of(shape: tuple[int, ...], spans: tuple[tuple[int, int, int], ...]) -> tuple[int, ...]:
    """The shape of a slice, by numpy."""
    cuts = tuple(slice(a, b if c > 0 or b >= -n else None, c) for (a, b, c), n in zip(spans, shape, strict=True))
    return np.empty(shape)[cuts].shape


@many
@given(taken=spans(), kind=kinds)
def test_a_slice_backwards_is_gathered(
    evaluate: Evaluate, taken: tuple[tuple[int, ...], tuple[tuple[int, int, int], ...]], kind: str
) -> None:
    shape, cuts = taken
    model = one(sliced(shape, cuts, taken_of(shape, cuts)), kind)
    try:
        made = same(evaluate, catalogue.SIMPLER, model)
    except CannotRewrite as error:
        assert "plain slice already" in str(error)
        return
    for op in made.graph().ops:
        steps = made.constant(op.inputs[3]) if op.name == "STRIDED_SLICE" else None
        assert steps is None or steps.min() > 0


@many
@given(taken=spans(), kind=kinds)
def test_a_slice_with_strides_is_a_pooling(
    evaluate: Evaluate, taken: tuple[tuple[int, ...], tuple[tuple[int, int, int], ...]], kind: str
) -> None:
    shape, cuts = taken
    model = one(sliced(shape, cuts, taken_of(shape, cuts)), kind)
    try:
        made = same(evaluate, catalogue.POOLED, model)
    except CannotRewrite as error:
        assert any(why in str(error) for why in ("backwards", "neighbours only", "not pooled"))
        return
    assert kind != "int32" and "STRIDED_SLICE" not in names(made)
    assert "AVERAGE_POOL_2D" in names(made)


@pytest.mark.parametrize(
    ("spans", "out", "masks"),
    [
        (((0, 2, 1), (1, 2, 1), (0, 4, 1)), (2, 4), {"shrinkAxisMask": 2}),
        (((-1, 0, 1), (1, 3, 1), (-2, 0, 1)), (2,), {"shrinkAxisMask": 5}),
        (((0, 2, 1), (0, 0, 1), (1, 3, 1)), (2, 3, 2), {"ellipsisMask": 2}),
        (((0, 0, 1), (0, 0, 1), (1, 3, 1)), (2, 3, 2), {"ellipsisMask": 2, "beginMask": 1, "endMask": 1}),
        (((0, 1, 1), (0, 2, 1), (0, 3, 2), (0, 4, 1)), (1, 2, 2, 4), {"newAxisMask": 1}),
        (((0, 2, 1), (0, 1, 1), (0, 3, 1), (1, 2, 1)), (2, 1, 3), {"newAxisMask": 2, "shrinkAxisMask": 8}),
    ],
)
def test_masks_of_a_slice_are_read_as_the_cpu_reads_them(
    evaluate: Evaluate, spans: tuple[tuple[int, int, int], ...], out: tuple[int, ...], masks: dict[str, int]
) -> None:
    made = same(evaluate, catalogue.SIMPLER, one(sliced((2, 3, 4), spans, out, **masks)))
    assert "STRIDED_SLICE" not in names(made) or spans[2][2] == 2


def pooled(
    fill: float, least: str, *, widths: tuple[int, int] = (1, 1), size: int = 3, step: int = 2, same: bool = False
) -> Callable[[Drawn], int]:
    """MAX_POOL_2D of a map padded with a value, behind an op that bounds it from below, or none."""

    def build(g: Drawn) -> int:
        x = g.given((2, 7, 6, 3))
        if least == "added":
            x = g.binary("ADD", g.unary("RELU", x), g.unary("LOGISTIC", x))
        elif least == "concatenated":
            options = table("Concatenation", axis=3)
            x = g.op("CONCATENATION", [g.unary("SQUARE", x), g.unary("ABS", x)], (2, 7, 6, 6), options)
        elif least:
            x = g.unary(least, x)
        n, high, wide, depth = g.shape(x)
        high, wide = high + sum(widths), wide + sum(widths)
        border = g.constant(np.asarray([[0, 0], widths, widths, [0, 0]], np.int32))
        padded = g.op("PADV2", [x, border, g.constant(np.float32(fill))], (n, high, wide, depth), table("PadV2"))
        options = table("Pool2D", filterHeight=size, filterWidth=size, strideH=step, strideW=step)
        options.padding = schema.Padding.SAME if same else schema.Padding.VALID
        out = [-(-d // step) if same else (d - size) // step + 1 for d in (high, wide)]
        return g.op("MAX_POOL_2D", [padded], (n, *out, depth), options)

    return build


@many
@given(
    fill=st.sampled_from((-np.inf, -3.4e38, -65504.0, -1.0, 0.0)),
    least=st.sampled_from(("RELU", "RELU6", "LOGISTIC", "ABS", "SQUARE", "EXP", "added", "concatenated")),
    widths=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    size=st.integers(2, 3),
    step=st.integers(1, 3),
    same_padding=st.booleans(),
)
def test_a_border_behind_values_that_are_not_negative_is_of_zeros(
    evaluate: Evaluate, fill: float, least: str, widths: tuple[int, int], size: int, step: int, same_padding: bool
) -> None:
    model = one(pooled(fill, least, widths=widths, size=size, step=step, same=same_padding))
    try:
        made = same(evaluate, catalogue.ZERO_BORDER, model, "PADV2")
    except CannotRewrite as error:
        assert "nothing but border" in str(error)
        assert evaluate(model, values_for(model))["y"].min() < 0  # the border is seen, then
        return
    assert "PAD" in names(made) and "PADV2" not in names(made)


def behind(x: int, g: Drawn) -> int:
    widths = g.constant(np.asarray([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32))
    return g.op("PADV2", [x, widths, g.constant(np.float32(-np.inf))], (1, 6, 6, 2), table("PadV2"))


@pytest.mark.parametrize(
    ("build", "why"),
    [
        (pooled(-np.inf, ""), "nothing proves"),
        (pooled(-np.inf, "TANH"), "nothing proves"),
        (pooled(-np.inf, "ELU"), "nothing proves"),
        (pooled(2.0, "RELU"), "pads with 2"),
        (pooled(np.nan, "RELU"), "pads with nan"),
        (pooled(-np.inf, "RELU", widths=(3, 0), size=2, step=1), "nothing but border"),
        (lambda g: g.unary("NEG", behind(g.unary("RELU", g.given((1, 4, 4, 2))), g)), "something else"),
        (lambda g: behind(g.unary("RELU", g.given((1, 4, 4, 2))), g), "something else"),
    ],
)
def test_a_border_that_may_be_seen_stays(build: Callable[[Drawn], int], why: str) -> None:
    with pytest.raises(CannotRewrite, match=why):
        rewritten(catalogue.ZERO_BORDER, one(build), "PADV2")


def test_a_border_that_may_be_seen_is_joined_from_constants_for_phones(evaluate: Evaluate) -> None:
    made = same(evaluate, catalogue.OTHER_OPS, one(pooled(-np.inf, "")), "PADV2")
    assert set(names(made)) == {"CONCATENATION", "MAX_POOL_2D"}


@st.composite
def places(draw: st.DrawFn) -> tuple[tuple[int, ...], np.ndarray[tuple[int, ...], np.dtype[np.int32]]]:
    """A shape, and places in its leading axes."""
    shape = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=4)))
    depth = draw(st.integers(1, len(shape)))
    lead = tuple(draw(st.lists(st.integers(1, 3), min_size=1, max_size=2)))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    found = np.stack([rng.integers(0, n, lead) for n in shape[:depth]], -1)
    return shape, found.astype(np.int32)


@many
@given(of=places(), kind=kinds)
def test_gathered_places_are_one_list(
    evaluate: Evaluate, of: tuple[tuple[int, ...], np.ndarray[tuple[int, ...], np.dtype[np.int32]]], kind: str
) -> None:
    shape, found = of
    out = (*found.shape[:-1], *shape[found.shape[-1] :])
    model = one(lambda g: g.made("GATHER_ND", [g.given(shape), g.constant(found)], out, table("GatherNd")), kind)
    assert not {"GATHER_ND"} & set(names(same(evaluate, catalogue.ONE_LIST, model)))


@many
@given(axis=st.integers(-3, 2), lead=st.lists(st.integers(1, 3), max_size=3).filter(lambda s: len(s) != 1), kind=kinds)
def test_indices_of_any_rank_are_one_list(evaluate: Evaluate, axis: int, lead: list[int], kind: str) -> None:
    shape = (3, 4, 5)
    found = np.random.default_rng(1).integers(0, shape[axis], lead).astype(np.int32)
    at = axis % 3
    out = (*shape[:at], *lead, *shape[at + 1 :])
    options = table("Gather", axis=axis)
    model = one(lambda g: g.made("GATHER", [g.given(shape), g.constant(found)], out, options), kind)
    made = same(evaluate, catalogue.ONE_LIST, model).graph()
    (gather,) = (op for op in made.ops if op.name == "GATHER")
    assert len(made.tensors[gather.inputs[1]].shape or ()) == 1


def test_a_table_is_looked_up_by_a_gather(evaluate: Evaluate) -> None:
    def build(g: Drawn) -> int:
        wanted = g.input("ids", (6,), np.int32)
        return g.op("EMBEDDING_LOOKUP", [wanted, g.constant(g.drawn(200, 4))], (6, 4), dtype=np.float32)

    model = one(build)
    inputs = {"ids": np.abs(values_for(model)["ids"])}
    made = rewritten(catalogue.ONE_LIST, model)
    np.testing.assert_array_equal(evaluate(made, inputs)["y"], evaluate(model, inputs)["y"])
    assert names(made) == ["GATHER"]


@pytest.mark.parametrize(
    ("rewrite", "build", "why"),
    [
        (catalogue.PRODUCT_WITH_ONES, lambda g: g.unary("TANH", g.given((4,))), "no BROADCAST_TO"),
        (catalogue.PRODUCT_WITH_ONES, broadcast((2, 3), (2, 3)), "repeats nothing"),
        (catalogue.COPIES, broadcast((1, 3), (80, 3)), "80 times"),
        (catalogue.STUFFED, lambda g: g.unary("TANH", g.given((4,))), "no TRANSPOSE_CONV"),
        (catalogue.POOLED, lambda g: g.unary("TANH", g.given((4,))), "no STRIDED_SLICE"),
        (catalogue.POOLED, sliced((4, 4), ((0, 4, 1), (0, 2, 1)), (4, 2)), "neighbours only"),
        (catalogue.POOLED, sliced((4,), ((3, -5, -1),), (4,)), "backwards"),
        (catalogue.ONE_LIST, lambda g: g.unary("TANH", g.given((4,))), "gathers nothing"),
        (catalogue.ZERO_BORDER, lambda g: g.unary("TANH", g.given((4,))), "no PADV2"),
        (catalogue.CONSTANTS, lambda g: g.unary("TANH", g.given((4,))), "follows from constants"),
        (catalogue.INTEGERS, lambda g: g.unary("TANH", g.given((4,))), "no 64-bit integers"),
        (catalogue.CHAIN, lambda g: g.unary("TANH", g.given((1, 2, 3, 4))), "rank 4 already"),
    ],
)
def test_what_is_not_of_its_kind_is_said(rewrite: Rewrite, build: Callable[[Drawn], int], why: str) -> None:
    with pytest.raises(CannotRewrite, match=why):
        rewritten(rewrite, one(build))
