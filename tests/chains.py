"""The simplest graph there is."""

from __future__ import annotations

from harness.graph.build import GraphBuilder
from harness.graph.model import Model


def chain(*kinds: str, shape: tuple[int, ...] = (1, 8)) -> Model:
    """Element-wise ops one after another, from input `x` to output `y`."""
    graph = GraphBuilder()
    t = graph.input("x", shape)
    for kind in kinds:
        t = graph.unary(kind, t)
    graph.output(t, "y")
    return graph.build()
