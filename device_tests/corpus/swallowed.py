"""Graph outputs that are read by one op as well, which swallows the op that makes them: they are never written."""

from __future__ import annotations

from device_tests.corpus.bug import EVERY, OLD, OLDEST, Bug
from device_tests.corpus.ops import convolved, draw, pooled
from harness.graph.build import GraphBuilder
from harness.graph.model import Model


def convolution_then_scale() -> Model:
    """A convolution is an output, and its only reader scales channels: the scale moves into its weights."""
    graph = GraphBuilder()
    features = convolved(graph, graph.input("x", (1, 8, 8, 8)), draw(8, 3, 3, 8))
    graph.output(features, "features")
    graph.output(graph.binary("MUL", features, graph.constant(draw(8, seed=3))), "scaled")
    return graph.build()


def padded_then_pooled() -> Model:
    """PAD is an output, and its only reader is a pooling (of positive values, which it gets right)."""
    graph = GraphBuilder()
    positive = graph.unary("EXP", graph.input("x", (1, 16, 16, 8)))
    padded = graph.pad(positive, ((0, 0), (1, 1), (1, 1), (0, 0)))
    graph.output(padded, "padded")
    graph.output(pooled(graph, "MAX_POOL_2D", padded), "pooled")
    return graph.build()


def residual_then_mean() -> Model:
    """x + y is an output, and its only reader takes the mean over channels."""
    graph = GraphBuilder()
    total = graph.binary("ADD", graph.input("x", (1, 8, 8, 16)), graph.input("y", (1, 8, 8, 16)))
    graph.output(total, "total")
    graph.output(graph.reduce("MEAN", total, 3), "mean")
    return graph.build()


def softplus_then_mish() -> Model:
    """log(1 + exp(x)) is an output, and its only reader is the tanh of x·tanh(softplus(x))."""
    graph = GraphBuilder()
    x = graph.unary("ABS", graph.input("x", (1, 8, 8, 16)))
    softplus = graph.unary("LOG", graph.binary("ADD", graph.unary("EXP", x), graph.constant([1.0])))
    graph.output(softplus, "softplus")
    graph.output(graph.binary("MUL", x, graph.unary("TANH", softplus)), "mish")
    return graph.build()


SWALLOWED = (
    Bug("convolution_then_scale", convolution_then_scale, ((0, "CONV_2D", "kernel"),), EVERY, unwritten=True),
    Bug("padded_then_pooled", padded_then_pooled, ((2, "MAX_POOL_2D", "context"),), EVERY, first=1, unwritten=True),
    Bug("residual_then_mean", residual_then_mean, ((0, "ADD", "kernel"),), EVERY, unwritten=True),
    Bug(
        "softplus_then_mish",
        softplus_then_mish,
        ((5, "MUL", "context"),),
        EVERY,
        first=1,
        unwritten=True,
        pending=dict.fromkeys((OLDEST, OLD), "EXP #1 and TANH #4, context"),
    ),
)
