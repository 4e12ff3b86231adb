"""Operands of ops that jump, moved across the thresholds that they are near to."""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from harness.core.arrays import Array
from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from harness.graph.ops.jumps import Jump, jumps, meet, push, pushed, settled
from tests.arrays import Evaluate, f32

RNG = np.random.default_rng(0)


def rounded_and_compared() -> Model:
    """y = round(2x), less = 2x < x, and 2x itself."""
    graph = GraphBuilder()
    x = graph.input("x", (1, 4))
    twice = graph.binary("MUL", x, graph.constant([2.0]))
    graph.output(graph.unary("ROUND", twice), "y")
    graph.output(graph.op("LESS", [twice, x], (1, 4), schema.LessOptionsT(), dtype=np.bool_), "less")
    graph.output(twice, "twice")
    return graph.build()


def place_of(kind: str, values: Array, size: float = 0.5, axis: int = -1) -> Array:
    """The move of an operand that an op ranks along an axis."""
    graph = GraphBuilder()
    x, along = graph.input("x", values.shape), graph.constant(np.asarray([axis], np.int32))
    shape = tuple(n for i, n in enumerate(values.shape) if i != axis % values.ndim)
    options = schema.ArgMaxOptionsT() if kind == "ARG_MAX" else schema.ArgMinOptionsT()
    graph.output(graph.op(kind, [x, along], shape, options, dtype=np.int64), "y")
    model = graph.build()
    (jump,) = jumps(model.graph())
    return push(model, jump, values, np.full_like(values, size), 1, RNG)


def test_operands_are_found_by_op_and_place() -> None:
    model = rounded_and_compared()
    twice, x = model.graph().ops[0].outputs[0], model.graph().inputs[0].tensor
    assert [(j.op.name, j.operand, j.tensor) for j in jumps(model.graph())] == [
        ("ROUND", (1, 0), twice),
        ("LESS", (2, 0), twice),
        ("LESS", (2, 1), x),
    ]


def test_operands_of_a_comparison_move_towards_or_from_each_other() -> None:
    model = rounded_and_compared()
    size = f32([[1, 2, 3, 4]])
    for way in (1, -1):
        whole, left, right = (push(model, jump, size, size, way, RNG) for jump in jumps(model.graph()))
        np.testing.assert_array_equal(whole, way * size)
        np.testing.assert_array_equal(left, way * size)
        np.testing.assert_array_equal(right, -way * size)


def test_what_is_asked_to_be_equal_is_made_so_where_it_is_near_and_moved_apart_then() -> None:
    graph = GraphBuilder()
    x = graph.input("x", (1, 3))
    graph.output(graph.op("EQUAL", [x, graph.constant([0.5])], (1, 3), schema.EqualOptionsT(), dtype=np.bool_), "y")
    model = graph.build()
    (jump,) = jumps(model.graph())
    values, size, other = f32([[0.25, 0.5, 2]]), np.full((1, 3), 0.25, np.float32), f32([0.5])
    np.testing.assert_array_equal(meet(values, other, size), [[0.25, 0, 0]])
    np.testing.assert_array_equal(push(model, jump, values, size, -1, RNG), [[-0.25, -0.25, -0.25]])
    assert meet(other, values, size) is None


def test_an_extreme_and_the_others_move_towards_each_other() -> None:
    values = f32([[1, 5, 2], [7, 3, 4]])
    np.testing.assert_array_equal(place_of("ARG_MAX", values), [[0.5, -0.5, 0.5], [-0.5, 0.5, 0.5]])
    np.testing.assert_array_equal(place_of("ARG_MIN", values), [[0.5, -0.5, -0.5], [-0.5, 0.5, -0.5]])
    np.testing.assert_array_equal(place_of("ARG_MAX", values, axis=0), [[0.5, -0.5, 0.5], [-0.5, 0.5, -0.5]])


def test_what_is_ranked_moves_either_way() -> None:
    graph = GraphBuilder()
    k = graph.constant(np.asarray([2], np.int32))
    graph.output(graph.op("TOPK_V2", [graph.input("x", (1, 64)), k], (1, 2), schema.TopKV2OptionsT()), "y")
    model = graph.build()
    (jump,) = jumps(model.graph())
    move = push(model, jump, np.zeros((1, 64), np.float32), np.full((1, 64), 0.25, np.float32), 1, RNG)
    assert set(np.unique(move)) == {-0.25, 0.25}


def test_a_moved_operand_is_moved_for_its_op_alone(evaluate: Evaluate) -> None:
    model = rounded_and_compared()
    x = f32([[0.2, 0.3, -0.2, 1]])
    moved = pushed(model, {(1, 0): f32([[0.2, 0.2, 0.2, 0.2]])})
    exact, found = evaluate(model, {"x": x}), evaluate(moved, {"x": x})
    np.testing.assert_array_equal(exact["y"], [[0, 1, 0, 2]])
    np.testing.assert_array_equal(found["y"], [[1, 1, 0, 2]])
    for name in ("less", "twice"):
        np.testing.assert_array_equal(found[name], exact[name])


def test_settled_results_are_constants_under_their_own_index(evaluate: Evaluate) -> None:
    model = rounded_and_compared()
    rounded = model.graph().ops[1].outputs[0]
    held = settled(model, {rounded: f32([[9, 8, 7, 6]])})
    assert [op.name for op in held.graph().ops] == ["MUL", "LESS"]
    assert held.graph().tensors[rounded].constant and not model.graph().tensors[rounded].constant
    found = evaluate(held, {"x": f32([[1, 2, 3, 4]])})
    np.testing.assert_array_equal(found["y"], [[9, 8, 7, 6]])
    np.testing.assert_array_equal(found["twice"], [[2, 4, 6, 8]])


def test_a_cast_to_whole_numbers_jumps_and_one_between_floats_does_not() -> None:
    graph = GraphBuilder()
    x = graph.input("x", (1, 4))
    for dtype in (np.int32, np.bool_, np.float16):
        graph.output(graph.op("CAST", [x], (1, 4), schema.CastOptionsT(), dtype=dtype))
    assert [jump.op.index for jump in jumps(graph.build().graph())] == [0, 1]


def test_a_jump_is_named_by_op_and_place() -> None:
    (op, *_) = rounded_and_compared().graph().ops
    assert Jump(op, 1, 7).operand == (0, 1)
