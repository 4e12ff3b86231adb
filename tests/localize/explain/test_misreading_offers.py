"""Which misreadings are offered for an op, and which mix-ups of inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from harness.localize.explain import misreading
from harness.localize.explain.misreading import misreadings, mix_ups
from tests.arrays import Evaluate

ELEMENT, ROW, BLOCK = (f"{name} of the constant for every {name[:-2]}" for name in ("element 0", "row 0", "block 0"))


def texts(model: Model, at: int = 0) -> list[str]:
    return [way.text for way in misreadings(model, at)]


def with_constant(kind: str, shape: tuple[int, ...], *, first: bool = False) -> Model:
    graph = GraphBuilder()
    x, constant = (
        graph.input("x", shape),
        graph.constant(np.arange(np.prod(shape), dtype=np.float32).reshape(shape) + 1),
    )
    graph.output(graph.binary(kind, *((constant, x) if first else (x, constant))), "y")
    return graph.build()


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize(
    ("kind", "shape", "offered"),
    [
        ("ADD", (4,), [ELEMENT]),
        ("MUL", (2, 4), [ROW]),
        ("SUB", (2, 2, 4), [BLOCK]),
        ("ADD", (2, 2, 2, 4), []),
        ("ADD", (1, 4), []),
        ("ADD", (1,), []),
    ],
)
def test_a_constant_of_up_to_three_dimensions_may_be_read_as_its_first_part(
    kind: str, shape: tuple[int, ...], offered: list[str], first: bool
) -> None:
    assert texts(with_constant(kind, shape, first=first)) == offered


def product(left: tuple[int, ...], right: tuple[int, ...], *, adj_x: bool = False, adj_y: bool = False) -> Model:
    options = schema.BatchMatMulOptionsT()
    options.adjX, options.adjY = adj_x, adj_y
    graph = GraphBuilder()
    a, b = graph.input("a", left), graph.input("b", right)
    rows = left[-1] if adj_x else left[-2]
    columns = right[-2] if adj_y else right[-1]
    lead = max(left[:-2], right[:-2], key=np.prod)
    graph.output(graph.op("BATCH_MATMUL", [a, b], (*lead, rows, columns), options), "y")
    return graph.build()


RIGHT, LEFT = (f"zeros in place of the {side} side beyond its own batches" for side in ("right", "left"))
TURNED = {side: f"the {side} side not transposed" for side in ("left", "right")}


def dealt(*widths: int) -> list[str]:
    return [f"the right side's columns dealt out to the batches, {w} each, then zeros" for w in widths]


@pytest.mark.parametrize(
    ("model", "offered"),
    [
        (product((3, 4, 5), (3, 5, 4)), []),
        (product((3, 4, 5), (1, 5, 4)), [RIGHT]),
        (product((1, 4, 5), (3, 5, 4)), [LEFT]),
        (product((3, 4, 5), (1, 5, 5)), [RIGHT, *dealt(4)]),
        (product((3, 4, 5), (1, 5, 32)), [RIGHT, *dealt(4, 8, 16)]),
        (product((3, 4, 5), (1, 5, 33)), [RIGHT, *dealt(4, 8, 16, 32)]),
        (product((3, 4, 5), (3, 5, 33)), []),
        (product((3, 4, 5), (1, 33, 5), adj_y=True), [RIGHT]),
        (product((3, 4, 4), (3, 4, 4), adj_x=True, adj_y=True), [TURNED["left"], TURNED["right"]]),
        (product((3, 5, 4), (3, 5, 5), adj_x=True), []),  # not square
        (product((3, 4, 4), (3, 4, 5), adj_x=True), [TURNED["left"]]),
        (product((2, 3, 4, 5), (1, 1, 5, 5)), []),  # more than the leading dimension is broadcast
        (product((2, 3, 4, 5), (1, 3, 5, 5)), [RIGHT]),
    ],
)
def test_what_may_be_misread_of_a_product(model: Model, offered: list[str]) -> None:
    assert texts(model) == offered


def test_columns_are_dealt_out_to_the_batches_in_turn(evaluate: Evaluate) -> None:
    """Of five columns four go to the first batch, one to the second, none to the third."""
    model = product((3, 1, 2), (1, 2, 5))
    a = np.ones((3, 1, 2), np.float32)
    b = np.arange(10, dtype=np.float32).reshape(1, 2, 5)
    (way,) = (way for way in misreadings(model, 0) if way.text in dealt(4))
    whole = b[0].sum(axis=0)
    expected = np.zeros((3, 1, 5), np.float32)
    expected[0, 0, :4], expected[1, 0, :1] = whole[:4], whole[4:]
    np.testing.assert_array_equal(evaluate(way.model, {"a": a, "b": b})["y"], expected)


def test_only_the_op_in_question_is_misread(evaluate: Evaluate) -> None:
    graph = GraphBuilder()
    table = graph.constant(np.asarray([[1, 2], [3, 4]], np.float32))
    graph.output(graph.binary("ADD", graph.binary("ADD", graph.input("x", (2, 2)), table), table), "y")
    model = graph.build()
    for at, expected in ((0, [[2, 4], [4, 6]]), (1, [[2, 4], [4, 6]])):
        (way,) = misreadings(model, at)
        found = evaluate(way.model, {"x": np.zeros((2, 2), np.float32)})["y"]
        np.testing.assert_array_equal(found, expected)


def inputs(*shapes: tuple[int, ...], dtypes: tuple[Any, ...] = ()) -> Model:
    """ADD #0 of the first two, and of it #1 with itself; the other inputs are read by nobody but ABS."""
    graph = GraphBuilder()
    ports = [graph.input(f"x{i}", shape, dtypes[i] if dtypes else np.float32) for i, shape in enumerate(shapes)]
    total = graph.binary("ADD", ports[0], ports[1])
    graph.output(graph.binary("MUL", total, total), "y")
    for i, port in enumerate(ports[2:]):
        graph.output(graph.unary("ABS", port), f"y{i}")
    return graph.build()


NAMES = {f"x{i}": f"in {i}" for i in range(6)}


@pytest.mark.parametrize(
    ("model", "ops", "mixed"),
    [
        (inputs((4,), (4,)), {0: "ADD"}, [("0", "1"), ("1", "0")]),
        (inputs((4,), (4,)), {1: "MUL"}, []),
        (inputs((4,), (1,)), {0: "ADD"}, []),
        (inputs((4,), (4,), (4,)), {0: "ADD"}, [("0", "1"), ("0", "2"), ("1", "0"), ("1", "2")]),
        (inputs((4,), (4,), (3,)), {0: "ADD"}, [("0", "1"), ("1", "0")]),
        (inputs((4,), (4,), (4,), dtypes=(np.float32, np.float32, np.int32)), {2: "ABS"}, []),
    ],
)
def test_each_input_may_be_read_in_place_of_another_float_of_its_shape(
    model: Model, ops: dict[int, str], mixed: list[tuple[str, str]]
) -> None:
    (name,) = ops.values()
    assert [way.text for way in mix_ups(model, ops, NAMES)] == [
        f"{name} reads 'in {other}' in place of 'in {own}'" for own, other in mixed
    ]


def test_no_more_mix_ups_are_tried_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(misreading, "MOST_MIX_UPS", 3)
    assert len(list(mix_ups(inputs((4,), (4,), (4,)), {0: "ADD"}, NAMES))) == 3


def test_an_op_that_reads_one_input_twice_may_mix_up_either(evaluate: Evaluate) -> None:
    graph = GraphBuilder()
    x, z = graph.input("x", (2,)), graph.input("z", (2,))
    graph.output(graph.binary("SUB", x, x), "y")
    graph.output(graph.unary("ABS", z), "a")
    fed = {"x": np.asarray([1, 2], np.float32), "z": np.asarray([5, 7], np.float32)}
    found = [evaluate(way.model, fed)["y"].tolist() for way in mix_ups(graph.build(), {0: "SUB"}, {"x": "x", "z": "z"})]
    assert found == [[4, 5], [-4, -5]]
