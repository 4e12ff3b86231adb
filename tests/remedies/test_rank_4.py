"""Ops in rank 4: the same values in the layout that the delegate reads rightly."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from harness.graph.build import GraphBuilder
from harness.graph.inputs import random_inputs
from harness.graph.rebuild import CannotRewrite
from harness.remedies.catalogue import RANK_4
from tests.arrays import Evaluate, f32, i32
from tests.remedies.small import Build, backwards, of, one_op, rows, table

SAME, VALID = schema.Padding.SAME, schema.Padding.VALID
RELU, RELU6 = schema.ActivationFunctionType.RELU, schema.ActivationFunctionType.RELU6


def chosen(kind: str, condition: tuple[int, ...]) -> Build:
    def build(graph: GraphBuilder) -> int:
        feeds = [graph.input("c", condition, np.bool_), graph.input("a", (2, 3, 4)), graph.input("b", (2, 3, 4))]
        return graph.op(kind, feeds, (2, 3, 4), table("Select" if kind == "SELECT" else "SelectV2"), dtype=np.float32)

    return build


@pytest.mark.parametrize(
    ("kind", "condition"), [("SELECT_V2", (3, 4)), ("SELECT_V2", (2, 1, 4)), ("SELECT", (2, 3, 4))]
)
def test_a_choice_in_rank_4_means_the_same(kind: str, condition: tuple[int, ...], evaluate: Evaluate) -> None:
    model = one_op(chosen(kind, condition))
    wide = RANK_4.apply(model, frozenset({0}), {})
    inputs = random_inputs(model.graph(), 0) | {"c": np.random.default_rng(1).random(condition) < 0.5}
    np.testing.assert_array_equal(evaluate(wide, inputs)["y"], evaluate(model, inputs)["y"])
    (select,) = [op for op in wide.graph().ops if op.name == kind]
    assert {len(wide.graph().tensors[t].shape or ()) for t in (*select.inputs, *select.outputs)} == {4}


@pytest.mark.parametrize("shape", [(5, 9), (2, 5, 9)])
def test_a_layer_in_rank_4_keeps_its_rows(shape: tuple[int, ...], evaluate: Evaluate) -> None:
    model = one_op(rows(shape, 9, (*shape[:-1], 7)))
    wide = RANK_4.apply(model, frozenset({0}), {})
    (layer,) = [op for op in wide.graph().ops if op.name == "FULLY_CONNECTED"]
    held = [wide.graph().tensors[t].shape for t in (layer.inputs[0], layer.inputs[1], layer.outputs[0])]
    front = (1,) * (4 - len(shape))
    assert held == [(*front, *shape), (7, 9), (*front, *shape[:-1], 7)]
    inputs = random_inputs(model.graph(), 0)
    np.testing.assert_array_equal(evaluate(wide, inputs)["y"], evaluate(model, inputs)["y"])


def joined_numbers(graph: GraphBuilder) -> int:
    options = table("Concatenation", axis=1)
    feeds = [graph.input("a", (2, 3), np.int32), graph.input("b", (2, 4), np.int32)]
    return graph.op("CONCATENATION", feeds, (2, 7), options, dtype=np.int32)


def low_beside_high(graph: GraphBuilder) -> int:
    return graph.binary("ADD", graph.input("a", (6,)), graph.input("b", (1, 2, 3, 6)))


def rank_lost(graph: GraphBuilder) -> int:
    feeds = [graph.input("x", (2, 3, 4, 5)), graph.constant(i32([1, -1]))]
    return graph.op("MEAN", feeds, (2, 4), table("Reducer", keepDims=False))


def along(axis: int) -> Build:
    options = table("Concatenation", axis=axis)
    return lambda g: g.op("CONCATENATION", [g.input("a", (2, 3, 4)), g.input("b", (2, 3, 4))], joined(axis), options)


def joined(axis: int) -> tuple[int, ...]:
    return tuple(2 * n if i == axis % 3 else n for i, n in enumerate((2, 3, 4)))


def padded_with(value: float) -> Build:
    return of("PADV2", table("PadV2"), (3, 4), (4, 9), i32([[1, 0], [2, 3]]), f32(value))


@pytest.mark.parametrize(
    "build", [joined_numbers, low_beside_high, rank_lost, padded_with(-2.0), *map(along, (0, 1, 2, -1, -2, -3))]
)
def test_what_has_another_rank_than_4_at_one_place_is_made_so_throughout(build: Build, evaluate: Evaluate) -> None:
    model = one_op(build)
    wide = RANK_4.apply(model, frozenset({0}), {})
    kind = model.graph().ops[0].name
    (op,) = [op for op in wide.graph().ops if op.name == kind]
    tensors = [wide.graph().tensors[t] for t in (*op.inputs, *op.outputs)]
    assert {len(t.shape or ()) for t in tensors if not t.constant} == {4}
    inputs = random_inputs(model.graph(), 0)
    np.testing.assert_allclose(evaluate(wide, inputs)["y"], evaluate(model, inputs)["y"], rtol=1e-6)


@pytest.mark.parametrize(
    ("build", "why"),
    [
        (rows((2, 3, 4), 12, (2, 7)), "it flattens its input"),
        (rows((2, 6, 2), 4, (2, 3, 7)), "it flattens its input"),
        (chosen("SELECT", (2,)), "its condition chooses rows"),
        (backwards(1), "rank 4 or more already"),
        (lambda g: g.pad(g.input("x", (1, 2, 3, 4)), [(0, 0)] * 3 + [(1, 1)]), "rank 4 or more already"),
        (of("REVERSE_V2", table("ReverseV2"), (2, 3), (2, 3), i32([1])), "is not known to mean the same"),
        (lambda g: g.unary("RELU", g.input("x", (1, 1, 2, 3, 4))), "rank 4 or more already"),
    ],
)
def test_what_is_not_made_rank_4_says_why(build: Build, why: str) -> None:
    with pytest.raises(CannotRewrite, match=why):
        RANK_4.apply(one_op(build), frozenset({0}), {})


def test_an_integer_constant_of_low_rank_gets_the_rank_of_what_it_meets(evaluate: Evaluate) -> None:
    more = i32(range(6))
    model = one_op(lambda g: g.binary("ADD", g.input("n", (1, 2, 3, 6), np.int32), g.constant(more)))
    wide = RANK_4.apply(model, frozenset({0}), {})
    (add,) = wide.graph().ops
    assert [wide.graph().tensors[t].shape for t in add.inputs] == [(1, 2, 3, 6), (1, 1, 1, 6)]
    n = {"n": np.arange(36, dtype=np.int32).reshape(1, 2, 3, 6)}
    np.testing.assert_array_equal(evaluate(wide, n)["y"], n["n"] + more)


@pytest.mark.parametrize("fixed", [False, True])
def test_a_slice_is_written_in_rank_4_at_the_same_place(fixed: bool, evaluate: Evaluate) -> None:
    start = i32([3, 1])

    def build(graph: GraphBuilder) -> int:
        place = graph.constant(start) if fixed else graph.input("start", (2,), np.int32)
        feeds = [graph.input("x", (8, 6)), graph.input("part", (2, 3)), place]
        return graph.op("DYNAMIC_UPDATE_SLICE", feeds, (8, 6), table("DynamicUpdateSlice"))

    model = one_op(build)
    inputs = random_inputs(model.graph(), 0) | ({} if fixed else {"start": start})
    right = inputs["x"].copy()
    right[3:5, 1:4] = inputs["part"]
    wide = RANK_4.apply(model, frozenset({0}), {})
    np.testing.assert_array_equal(evaluate(wide, inputs)["y"], right)
    (update,) = [op for op in wide.graph().ops if op.name == "DYNAMIC_UPDATE_SLICE"]
    assert [wide.graph().tensors[t].shape for t in update.inputs] == [(1, 1, 8, 6), (1, 1, 2, 3), (4,)]
