"""A model of which a delegate refuses more than Android's log keeps of a list."""

from __future__ import annotations

from harness.graph.build import GraphBuilder
from harness.graph.model import Model

ON_CPU = frozenset(range(1, 16))
"""The ops of rank 5, and those that make rank 5 and rank 4 of it."""


def long_list() -> Model:
    """Twelve ABS of rank 5 with names of 120 characters and a TANH, between ops that any GPU takes, which are more.

    The delegate's list is sorted: ABS, RESHAPE, TANH; 1,023 bytes of it end among the ABS.
    """
    graph = GraphBuilder()
    x = graph.unary("RELU", graph.input("x", (1, 32)))
    x = graph.reshape(x, (1, 2, 2, 2, 4))
    for i in range(12):
        x = graph.unary("ABS", x, name=f"{i:02} {'encoder/' * 14}abs")
    x = graph.reshape(graph.unary("TANH", x), (1, 32))
    for _ in range(20):
        x = graph.unary("RELU", x)
    graph.output(x, "y")
    return graph.build()
