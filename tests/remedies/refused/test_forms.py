"""Ops without a kernel, or with an option that no kernel looks at, mean the same as the ops that stand for them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.graph.rebuild import CannotRewrite
from harness.remedies import catalogue
from tests.arrays import Evaluate
from tests.remedies.refused.models import TYPES, Drawn, ints, names, one, rewritten, same
from tests.remedies.small import table

many = settings(max_examples=25, deadline=None, derandomize=True)
shapes = st.lists(st.integers(1, 5), min_size=1, max_size=4)


@many
@given(shape=shapes, kind=st.sampled_from(("SQUEEZE", "EXPAND_DIMS")), dtype=st.sampled_from(sorted(TYPES)))
def test_axes_that_come_or_go_are_a_reshape(evaluate: Evaluate, shape: list[int], kind: str, dtype: str) -> None:
    def build(g: Drawn) -> int:
        if kind == "EXPAND_DIMS":
            return g.made(kind, [g.given(shape), ints(g, 1)], (shape[0], 1, *shape[1:]), table("ExpandDims"))
        return g.made(kind, [g.given((1, *shape))], shape, table("Squeeze", squeezeDims=[0]))

    assert names(same(evaluate, catalogue.SIMPLER, one(build, dtype))) == ["RESHAPE"]


@many
@given(
    shape=st.lists(st.integers(2, 5), min_size=2, max_size=4), kind=st.sampled_from(("LOG_SOFTMAX", "L2_NORMALIZATION"))
)
def test_what_is_normalized_along_the_last_axis(evaluate: Evaluate, shape: list[int], kind: str) -> None:
    def build(g: Drawn) -> int:
        options = table("L2Norm") if kind == "L2_NORMALIZATION" else table("LogSoftmax")
        return g.op(kind, [g.given(shape)], shape, options)

    # A sum of up to 5 terms, a function, and what becomes of the result: each rounds once.
    assert kind not in names(same(evaluate, catalogue.SIMPLER, one(build), within=16))


@many
@given(shape=st.lists(st.integers(2, 4), min_size=1, max_size=4), data=st.data())
def test_a_mirrored_border_is_gathered(evaluate: Evaluate, shape: list[int], data: st.DataObject) -> None:
    mode, dtype = data.draw(st.integers(0, 1)), data.draw(st.sampled_from(sorted(TYPES)))
    widths = [[data.draw(st.integers(0, n - 1)), data.draw(st.integers(0, n - 1))] for n in shape]
    out = [n + sum(pair) for n, pair in zip(shape, widths, strict=True)]

    def build(g: Drawn) -> int:
        border = g.constant(np.asarray(widths, np.int32))
        return g.made("MIRROR_PAD", [g.given(shape), border], out, table("MirrorPad", mode=mode))

    if not any(map(sum, widths)):
        return
    assert set(names(same(evaluate, catalogue.SIMPLER, one(build, dtype)))) == {"GATHER"}


@many
@given(
    batch=st.lists(st.integers(1, 3), max_size=2),
    sizes=st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4)),
    adj=st.tuples(st.booleans(), st.booleans()),
)
def test_a_constant_left_side_comes_right(
    evaluate: Evaluate, batch: list[int], sizes: tuple[int, int, int], adj: tuple[bool, bool]
) -> None:
    rows, terms, columns = sizes

    def build(g: Drawn) -> int:
        left = g.constant(g.drawn(*batch, *((terms, rows) if adj[0] else (rows, terms))))
        x = g.given((*batch, *((columns, terms) if adj[1] else (terms, columns))))
        options = table("BatchMatMul", adjX=adj[0], adjY=adj[1])
        return g.op("BATCH_MATMUL", [left, x], (*batch, rows, columns), options, dtype=np.float32)

    made = same(evaluate, catalogue.SIMPLER, one(build)).graph()
    (product,) = (op for op in made.ops if op.name == "BATCH_MATMUL")
    assert not made.tensors[product.inputs[0]].constant


def smallest(g: Drawn) -> int:
    x = g.binary("SUB", g.given((3, 9)), g.given((3, 1), "y"))
    return g.op("ARG_MIN", [x, ints(g, 1)], (3,), table("ArgMin", outputType=2), dtype=np.int32)


@pytest.mark.parametrize(
    ("build", "kind", "becomes"),
    [
        (smallest, "ARG_MIN", "ARG_MAX"),
        (lambda g: g.unary("RELU_0_TO_1", g.given((3, 9))), "RELU_0_TO_1", "MINIMUM"),
    ],
)
def test_an_op_by_another(evaluate: Evaluate, build: Callable[[Drawn], int], kind: str, becomes: str) -> None:
    made = names(same(evaluate, catalogue.SIMPLER, one(build), kind))
    assert kind not in made and becomes in made


def test_a_softmax_with_a_factor_is_one_of_multiples(evaluate: Evaluate) -> None:
    model = one(lambda g: g.op("SOFTMAX", [g.given((3, 7))], (3, 7), table("Softmax", beta=0.5)))
    made = same(evaluate, catalogue.SIMPLER, model, within=8)
    assert names(made) == ["MUL", "SOFTMAX"]


# Rewrites that were there before, of more kinds of op and type.


@many
@given(
    shape=st.lists(st.integers(1, 4), min_size=2, max_size=4),
    axes=st.sets(st.integers(-4, 3), min_size=2),
    kind=st.sampled_from(("SUM", "MEAN", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD")),
    keep=st.booleans(),
    dtype=st.sampled_from(("float32", "int32", "int8")),
)
def test_a_reduction_goes_one_axis_after_the_other(
    evaluate: Evaluate, shape: list[int], axes: set[int], kind: str, keep: bool, dtype: str
) -> None:
    axes = {axis for axis in axes if -len(shape) <= axis < len(shape)}
    over = {axis % len(shape) for axis in axes}
    out = [1 if i in over else n for i, n in enumerate(shape) if keep or i not in over]
    if not axes or (dtype == "int8" and kind == "REDUCE_PROD"):
        return
    model = one(lambda g: g.made(kind, [g.given(shape), ints(g, *axes)], out, table("Reducer", keepDims=keep)), dtype)
    try:
        # Sums of eighths are exact; each axis rounds a mean once, and each factor a product.
        made = same(evaluate, catalogue.ONE_AXIS, model, within=64 if dtype == "float32" else 0)
    except CannotRewrite as error:
        one_long = sum(shape[axis] > 1 for axis in over) < 2
        rounds = (dtype == "int8" and kind in ("SUM", "MEAN")) or (dtype == "int32" and kind == "MEAN")
        assert ("one axis only" in str(error) and one_long) or ("would at each axis" in str(error) and rounds)
        return
    assert names(made).count(kind) >= 2


@many
@given(
    lead=st.lists(st.integers(1, 4), min_size=2, max_size=3),
    terms=st.integers(1, 4),
    units=st.integers(1, 4),
    dtype=st.sampled_from(("float32", "int8")),
)
def test_a_layer_takes_rows(evaluate: Evaluate, lead: list[int], terms: int, units: int, dtype: str) -> None:
    def build(g: Drawn) -> int:
        x = g.given((*lead, terms))
        if dtype == "int8":
            return g.layer(x, g.rng.integers(-9, 10, (units, terms)), 0.05, (0.25, -3))
        return g.fully_connected(x, g.drawn(units, terms), g.drawn(units))

    made = same(evaluate, catalogue.FLATTENED, one(build, dtype)).graph()
    (layer,) = (op for op in made.ops if op.name == "FULLY_CONNECTED")
    assert len(made.tensors[layer.inputs[0]].shape or ()) == 2


def test_a_quantized_border_is_joined_on_its_grid(evaluate: Evaluate) -> None:
    def build(g: Drawn) -> int:
        widths = g.constant(np.asarray([[0, 0], [1, 2], [2, 0]], np.int32))
        return g.made("PAD", [g.given((2, 3, 4)), widths], (2, 6, 6), table("Pad"))

    assert set(names(same(evaluate, catalogue.CONCATENATION, one(build, "int8")))) == {"CONCATENATION"}


def test_what_no_form_is_for_is_said() -> None:
    def build(g: Drawn) -> int:
        x = g.input("x", (3, 9), np.int32)
        return g.op("ARG_MIN", [x, ints(g, 1)], (3,), table("ArgMin", outputType=2), dtype=np.int32)

    with pytest.raises(CannotRewrite, match="may be none"):
        rewritten(catalogue.SIMPLER, one(build))


@pytest.mark.parametrize("beside", ["constant", "tensor"])
def test_tiles_of_quantized_values_stay_on_their_grid(evaluate: Evaluate, beside: str) -> None:
    def build(g: Drawn) -> int:
        x = g.given((1, 70_001))
        other = g.given((1, 70_001), "y")
        if beside == "constant":
            other = g.gridded(g.constant(g.rng.integers(-99, 100, (1, 70_001)).astype(np.int8)))
        return g.sum_of(x, other, (0.5, 1))

    assert names(same(evaluate, catalogue.TILES, one(build, "int8"))).count("ADD") == 2
