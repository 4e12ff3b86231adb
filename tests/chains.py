"""The simplest graphs there are."""

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


def diamond() -> Model:
    """TANH, then RELU and ABS of it, and their sum: between RELU and ADD two tensors are alive."""
    graph = GraphBuilder()
    a = graph.unary("TANH", graph.input("x", (1, 8)))
    graph.output(graph.binary("ADD", graph.unary("RELU", a), graph.unary("ABS", a)), "y")
    return graph.build()


def forked() -> Model:
    """ABS #0 is read by NEG #1 and ADD #3; EXP #2 is an output, and read by ADD #3."""
    graph = GraphBuilder()
    start = graph.unary("ABS", graph.input("x", (1, 8)))
    turned = graph.unary("NEG", start)
    grown = graph.unary("EXP", turned)
    graph.output(grown, "grown")
    graph.output(graph.binary("ADD", start, grown), "y")
    return graph.build()
