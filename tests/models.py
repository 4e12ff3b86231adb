"""The smallest models that the GPU of every release runs rightly, and wrongly."""

from __future__ import annotations

from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from tests.arrays import f32


def right() -> Model:
    """One RELU."""
    graph = GraphBuilder()
    graph.output(graph.unary("RELU", graph.input("x", (1, 8))), "y")
    return graph.build()


def wrong() -> Model:
    """An ADD of a constant without a leading 1, of which the GPU reads row 0 for every row."""
    graph = GraphBuilder()
    rows = graph.constant(f32([[1.0] * 8, [2.0] * 8, [3.0] * 8, [4.0] * 8]))
    graph.output(graph.binary("ADD", graph.input("x", (4, 8)), rows), "y")
    return graph.build()


def refused() -> Model:
    """A RELU of rank 5, which phones refuse."""
    graph = GraphBuilder()
    graph.output(graph.unary("RELU", graph.input("x", (1, 1, 2, 2, 4))), "y")
    return graph.build()
