"""Each operand of an op in rank 4, and what tells that an op can have it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.core.arrays import Array
from harness.graph.build import GraphBuilder
from harness.graph.rebuild import CannotRewrite, Rebuild
from harness.remedies.catalogue import RANK_4
from harness.remedies.rank_4 import check, is_rank_4, keeps_axes, parameter, view, wide
from tests.arrays import f32, i32
from tests.remedies.small import Build, of, one_op, table, weights


@pytest.mark.parametrize(
    ("shape", "made"),
    [((), (1, 1, 1, 1)), ((5,), (1, 1, 1, 5)), ((2, 3, 4), (1, 2, 3, 4)), ((2, 3, 4, 5), (2, 3, 4, 5))],
)
def test_ones_come_in_front(shape: tuple[int, ...], made: tuple[int, ...]) -> None:
    assert wide(shape) == made


def reduced(kind: str, keep: bool, *axes: int) -> Build:
    out = tuple(1 if i in axes else n for i, n in enumerate((2, 3, 4)) if keep or i not in axes)
    return of(kind, table("Reducer", keepDims=keep), (2, 3, 4), out, i32(axes))


@pytest.mark.parametrize(
    ("build", "kept"),
    [
        (reduced("SUM", True, 1), True),
        (reduced("SUM", False, 1), False),
        (reduced("REDUCE_MAX", False, 1), False),
        (lambda g: g.unary("RELU", g.input("x", (2, 3))), True),
    ],
)
def test_a_reduction_keeps_its_axes_where_it_says_so_and_other_ops_always_do(build: Build, kept: bool) -> None:
    rebuild = Rebuild(one_op(build))
    assert keeps_axes(rebuild, rebuild.graph.ops[0]) is kept


def changed(build: Build) -> tuple[Any, list[Any], Array | None, tuple[int, ...]]:
    """Of the op in rank 4: its options, the shapes of its operands, its second one's values, the result's shape."""
    model = one_op(build)
    kind = model.graph().ops[0].name
    made = RANK_4.apply(model, frozenset({0}), {})
    graph = made.graph()
    (op,) = [op for op in graph.ops if op.name == kind]
    second = made.constant(op.inputs[1]) if graph.tensors[op.inputs[1]].constant else None
    options = made.root.subgraphs[0].operators[op.index].builtinOptions
    return options, [graph.tensors[t].shape for t in op.inputs], second, graph.tensors[op.outputs[0]].shape or ()


@pytest.mark.parametrize(
    ("build", "second", "out"),
    [
        (reduced("SUM", False, 1), [2], (1, 2, 1, 4)),
        (reduced("MEAN", True, 0, 2), [1, 3], (1, 1, 3, 1)),
        (of("SUM", table("Reducer"), (2, 3, 4), (2, 3), i32([-1])), [3], (1, 2, 3, 1)),
        (of("REDUCE_MIN", table("Reducer"), (5,), (), i32(0)), [3], (1, 1, 1, 1)),
        (of("TRANSPOSE", table("Transpose"), (2, 3, 4), (4, 2, 3), i32([2, 0, 1])), [0, 3, 1, 2], (1, 4, 2, 3)),
        (of("TRANSPOSE", table("Transpose"), (2, 3), (3, 2), i32([1, 0])), [0, 1, 3, 2], (1, 1, 3, 2)),
        (
            of("PAD", table("Pad"), (3, 4), (4, 9), i32([[1, 0], [2, 3]])),
            [[0, 0], [0, 0], [1, 0], [2, 3]], (1, 1, 4, 9),
        ),
        (of("SLICE", table("Slice"), (3, 5), (2, 3), i32([1, 2]), i32([2, 3])), [0, 0, 1, 2], (1, 1, 2, 3)),
    ],
)  # fmt: skip
def test_places_are_counted_from_the_ones_in_front(build: Build, second: list[Any], out: tuple[int, ...]) -> None:
    _, shapes, values, made = changed(build)
    assert values is not None
    assert values.dtype == np.int32
    assert (values.tolist(), made) == (second, out)
    assert len(shapes[0]) == 4


def test_a_reduction_in_rank_4_keeps_its_axes() -> None:
    options, *_ = changed(reduced("SUM", False, 1))
    assert options.keepDims


def test_a_slice_takes_one_of_each_axis_in_front() -> None:
    model = one_op(of("SLICE", table("Slice"), (3, 5), (2, 3), i32([1, 2]), i32([2, 3])))
    made = RANK_4.apply(model, frozenset({0}), {})
    (op,) = [op for op in made.graph().ops if op.name == "SLICE"]
    sizes = made.constant(op.inputs[2])
    assert sizes is not None
    assert sizes.tolist() == [1, 1, 2, 3]


@pytest.mark.parametrize(("axis", "made"), [(0, 2), (1, 3), (-1, 3), (-2, 2)])
def test_operands_are_joined_along_the_same_axis(axis: int, made: int) -> None:
    out = (4, 3) if axis % 2 == 0 else (2, 6)
    options = table("Concatenation", axis=axis)
    found, shapes, _, _ = changed(
        lambda g: g.op("CONCATENATION", [g.input("a", (2, 3)), g.input("b", (2, 3))], out, options)
    )
    assert (found.axis, shapes) == (made, [(1, 1, 2, 3)] * 2)


def test_a_view_is_made_where_there_is_something_to_change() -> None:
    graph = GraphBuilder()
    low, high, held = graph.input("low", (2, 3)), graph.input("high", (1, 1, 2, 3)), graph.constant(f32([[1, 2, 3]]))
    graph.output(graph.binary("ADD", graph.binary("ADD", low, held), high), "y")
    rebuild = Rebuild(graph.build())
    assert (view(rebuild, -1), view(rebuild, high)) == (-1, high)
    assert rebuild.shape(view(rebuild, low)) == (1, 1, 2, 3)
    assert rebuild.shape(view(rebuild, held)) == (1, 1, 1, 3)


def test_a_constant_in_rank_4_is_a_constant() -> None:
    _, shapes, values, made = changed(lambda g: g.binary("ADD", g.input("x", (2, 3)), g.constant(f32([[1, 2, 3]]))))
    assert values is not None
    assert (shapes, values.tolist(), made) == ([(1, 1, 2, 3), (1, 1, 1, 3)], [[[[1, 2, 3]]]], (1, 1, 2, 3))


def test_parameters_that_are_known_at_run_time_only_are_none() -> None:
    graph = GraphBuilder()
    place, held = graph.input("place", (1,), np.int32), graph.constant(i32([3]))
    graph.output(graph.binary("ADD", place, held), "y")
    rebuild = Rebuild(graph.build())
    assert parameter(rebuild, held).tolist() == [3]
    with pytest.raises(CannotRewrite, match="its parameters are no constant"):
        parameter(rebuild, place)


def layer(x: tuple[int, ...], held: tuple[int, ...], out: tuple[int, ...]) -> Build:
    return of("FULLY_CONNECTED", table("FullyConnected", keepNumDims=len(out) > 2), x, out, weights(*held))


@pytest.mark.parametrize(
    ("x", "held", "out", "known"),
    [
        ((2, 5, 9), (7, 9), (2, 5, 7), True),
        ((2, 5, 9), (7, 9), (10, 7), False),  # fewer axes
        ((2, 5, 9), (1, 7, 9), (2, 5, 7), False),  # weights of another rank
        ((2, 4, 9), (7, 18), (2, 2, 7), False),  # rows of two rows
    ],
)
def test_a_layer_whose_rows_are_its_inputs_has_no_rank(
    x: tuple[int, ...], held: tuple[int, ...], out: tuple[int, ...], known: bool
) -> None:
    rebuild = Rebuild(one_op(layer(x, held, out)))
    if known:
        check(rebuild, rebuild.graph.ops[0])
        return
    with pytest.raises(CannotRewrite, match="it flattens its input"):
        check(rebuild, rebuild.graph.ops[0])


@pytest.mark.parametrize(
    ("build", "done"),
    [
        (lambda g: g.unary("RELU", g.input("x", (2, 3, 4))), False),
        (lambda g: g.unary("RELU", g.input("x", (1, 2, 3, 4))), True),
        (lambda g: g.unary("RELU", g.input("x", (1, 1, 2, 3, 4))), True),
        (lambda g: g.binary("ADD", g.input("x", (1, 2, 3, 4)), g.constant(f32([1]))), False),
        (lambda g: g.binary("ADD", g.input("x", (1, 2, 3, 4), np.int32), g.constant(i32([1]))), False),
        (of("SUM", table("Reducer", keepDims=True), (1, 2, 3, 4), (1, 2, 3, 1), i32([3])), True),
        (of("SUM", table("Reducer"), (1, 2, 3, 4), (1, 2, 3), i32([3])), False),
    ],
)
def test_parameters_have_no_say_in_an_ops_rank(build: Build, done: bool) -> None:
    rebuild = Rebuild(one_op(build))
    assert is_rank_4(rebuild, rebuild.graph.ops[0]) is done
