"""Inputs that reach a tensor through sums, constant factors and changes of shape alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from harness.graph.build import GraphBuilder
from harness.graph.ops.residual import carried
from tests.arrays import i32

Build = Callable[[GraphBuilder, int, int], int]
HALF = np.full((2, 2), 0.5, np.float32)


def flat(graph: GraphBuilder, a: int, b: int) -> int:
    """The shape is an input of the model, and no element of the result."""
    del b
    return graph.op("RESHAPE", [a, graph.input("shape", (1,), np.int32)], (4,), schema.ReshapeOptionsT())


def learned(graph: GraphBuilder, a: int, b: int) -> int:
    return graph.binary("ADD", graph.unary("TANH", a), graph.binary("MUL", b, graph.constant(HALF)))


def twice(graph: GraphBuilder, a: int, b: int) -> int:
    total = graph.binary("SUB", a, b)
    return graph.binary("ADD", total, total)


def maximum(graph: GraphBuilder, a: int, b: int) -> int:
    return graph.op("MAXIMUM", [a, b], (2, 2), schema.MaximumMinimumOptionsT())


@pytest.mark.parametrize(
    ("build", "names"),
    [
        (lambda g, a, b: g.binary("ADD", a, b), {"a", "b"}),
        (lambda g, a, b: g.binary("SUB", a, b), {"a", "b"}),
        (lambda g, a, b: g.binary("ADD", a, g.constant(HALF)), {"a"}),
        (lambda g, a, b: g.binary("MUL", a, g.constant(HALF)), {"a"}),
        (lambda g, a, b: g.binary("MUL", g.constant(HALF), b), {"b"}),
        (lambda g, a, b: g.binary("MUL", a, b), set()),
        (lambda g, a, b: g.binary("DIV", a, g.constant(HALF)), set()),
        (lambda g, a, b: g.unary("TANH", a), set()),
        (lambda g, a, b: g.transpose(g.reshape(g.transpose(b, (1, 0)), (1, 4)), (1, 0)), {"b"}),
        (lambda g, a, b: g.binary("ADD", g.binary("ADD", g.reshape(a, (2, 2)), b), g.unary("TANH", a)), {"a", "b"}),
        (flat, {"a"}),
        (learned, {"b"}),
        (twice, {"a", "b"}),
        (maximum, set()),
        (lambda g, a, b: a, set()),  # an input is no sum with itself
        (lambda g, a, b: g.dequantize(HALF), set()),
    ],
)
def test_sums_constant_factors_and_shapes_carry_and_nothing_else_does(build: Build, names: set[str]) -> None:
    graph = GraphBuilder()
    made = build(graph, graph.input("a", (2, 2)), graph.input("b", (2, 2)))
    graph.output(made, "y")
    found = carried(graph.build().graph(), made)
    assert (set(found), len(found)) == (names, len(names))


def test_nothing_is_carried_past_an_input_or_from_a_constant() -> None:
    graph = GraphBuilder()
    held = graph.constant(i32([1, 2]))
    x = graph.input("x", (2,), np.int32)
    y = graph.binary("ADD", x, held)
    graph.output(y, "y")
    found = graph.build().graph()
    assert [carried(found, t) for t in (held, x, y)] == [(), (), ("x",)]
