"""Ops that the graph builder has no sugar for, with the shapes of their results worked out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from harness.core.arrays import Array
from harness.graph.build import GraphBuilder

SAME, VALID = schema.Padding.SAME, schema.Padding.VALID
RELU = schema.ActivationFunctionType.RELU


def options(kind: str, **fields: Any) -> Any:
    """The schema's options table `kind`, its fields set."""
    table = getattr(schema, f"{kind}OptionsT")()
    for name, value in fields.items():
        setattr(table, name, value)
    return table


def draw(*shape: int, seed: int = 11) -> Array:
    """Standard normal float32 values, the same in every run."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def ints(*values: int) -> Array:
    """An int32 vector."""
    return np.asarray(values, np.int32)


def slices(graph: GraphBuilder, x: int, begin: Sequence[int], size: Sequence[int]) -> int:
    """SLICE: `size` elements of each axis from `begin` on."""
    feeds = [x, graph.constant(ints(*begin)), graph.constant(ints(*size))]
    return graph.op("SLICE", feeds, size, options("Slice"))


def concatenated(graph: GraphBuilder, parts: Sequence[int], axis: int) -> int:
    """CONCATENATION along one axis."""
    shape = list(graph.shape(parts[0]))
    shape[axis] = sum(graph.shape(part)[axis] for part in parts)
    return graph.op("CONCATENATION", parts, shape, options("Concatenation", axis=axis))


def convolved(graph: GraphBuilder, x: int, kernel: Array, *, depth_multiplier: int = 0) -> int:
    """CONV_2D with a kernel [out, h, w, in / groups] and a bias, or, with a multiplier, DEPTHWISE_CONV_2D with one
    [1, h, w, out]; VALID padding, stride 1. x is NHWC."""
    depthwise = depth_multiplier > 0
    n, h, w, _ = graph.shape(x)
    out = kernel.shape[3 if depthwise else 0]
    shape = (n, h - kernel.shape[1] + 1, w - kernel.shape[2] + 1, out)
    common = {"padding": VALID, "strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
    feeds = [x, graph.constant(kernel), graph.constant(draw(out, seed=5))]
    if depthwise:
        table = options("DepthwiseConv2D", depthMultiplier=depth_multiplier, **common)
        return graph.op("DEPTHWISE_CONV_2D", feeds, shape, table)
    return graph.op("CONV_2D", feeds, shape, options("Conv2D", **common))


def pooled(graph: GraphBuilder, kind: str, x: int, size: int = 3, stride: int = 2) -> int:
    """MAX_POOL_2D or AVERAGE_POOL_2D over a square window, VALID padding. x is NHWC."""
    n, h, w, c = graph.shape(x)
    table = options("Pool2D", padding=VALID, strideH=stride, strideW=stride, filterHeight=size, filterWidth=size)
    return graph.op(kind, [x], (n, (h - size) // stride + 1, (w - size) // stride + 1, c), table)


def one_over_deviation(graph: GraphBuilder, variance: int) -> int:
    """1 / sqrt(variance + 0.001), as a normalization has it."""
    return graph.unary("RSQRT", graph.binary("ADD", variance, graph.constant([1e-3])))


def padded_with(graph: GraphBuilder, x: int, widths: Sequence[tuple[int, int]], value: float) -> int:
    """PADV2 with one value; one (before, after) pair for each axis."""
    shape = [d + before + after for d, (before, after) in zip(graph.shape(x), widths, strict=True)]
    feeds = [x, graph.constant(np.asarray(widths, np.int32)), graph.constant(np.asarray(value, np.float32))]
    return graph.op("PADV2", feeds, shape, options("PadV2"))


def transposed_convolution(graph: GraphBuilder, x: int, kernel: Array, *, stride: int, activation: int = 0) -> int:
    """TRANSPOSE_CONV with a kernel [out, h, w, in] and a bias; SAME padding, the output `stride` times the input."""
    n, h, w, _ = graph.shape(x)
    shape = (n, h * stride, w * stride, kernel.shape[0])
    table = options("TransposeConv", padding=SAME, strideH=stride, strideW=stride, fusedActivationFunction=activation)
    feeds = [graph.constant(ints(*shape)), graph.constant(kernel), x, graph.constant(draw(kernel.shape[0], seed=5))]
    return graph.op("TRANSPOSE_CONV", feeds, shape, table, dtype=np.float32, version=3)
