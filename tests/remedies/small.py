"""Models of one op, with values that float32 adds up exactly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from tests.arrays import i32

Build = Callable[[GraphBuilder], int]

RNG = np.random.default_rng(4)


def quarters(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Multiples of a quarter: float32 holds a sum of thousands of their products exactly, in whatever order."""
    return np.round(4 * values) / np.float32(4)


def weights(*shape: int) -> NDArray[np.float32]:
    return quarters(RNG.standard_normal(shape).astype(np.float32)) / np.float32(16)


def one_op(build: Build) -> Model:
    graph = GraphBuilder()
    graph.output(build(graph), "y")
    return graph.build()


def table(kind: str, **fields: Any) -> Any:
    """The schema's options `kind`, with those of its fields that are not left as they are."""
    options = getattr(schema, f"{kind}OptionsT")()
    for name, value in fields.items():
        setattr(options, name, value)
    return options


def of(kind: str, options: Any, shape: tuple[int, ...], out: tuple[int, ...], *more: Any) -> Build:
    """An op of one input and constants."""
    return lambda g: g.op(kind, [g.input("x", shape), *map(g.constant, more)], out, options)


def rows(shape: tuple[int, ...], terms: int, out: tuple[int, ...]) -> Build:
    options = table("FullyConnected", keepNumDims=len(out) > 2)
    return of("FULLY_CONNECTED", options, shape, out, weights(7, terms), weights(7))


def backwards(*axes: int) -> Build:
    return of("REVERSE_V2", table("ReverseV2"), (2, 3, 5, 7), (2, 3, 5, 7), i32(axes))


def convolved(graph: GraphBuilder) -> int:
    options = schema.Conv2DOptionsT()
    options.strideH, options.strideW, options.padding = 2, 1, schema.Padding.SAME
    options.dilationHFactor = options.dilationWFactor = 1
    options.fusedActivationFunction = schema.ActivationFunctionType.RELU6
    feeds = [graph.input("x", (1, 6, 6, 40)), graph.constant(weights(4, 3, 3, 40)), graph.constant(weights(4))]
    return graph.op("CONV_2D", feeds, (1, 3, 6, 4), options)
