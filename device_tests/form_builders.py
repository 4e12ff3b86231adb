"""A form of the catalogue, and the graphs that forms are made of: just inside and just outside the patterns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from device_tests.corpus.fusions import BORDER
from device_tests.corpus.ops import (
    SAME,
    convolved,
    draw,
    ints,
    options,
    padded_with,
    pooled,
    transposed_convolution,
)
from harness.graph.build import GraphBuilder
from harness.graph.model import Model

Widths = tuple[tuple[int, int], ...]
END, DEEPER = ((0, 0), (0, 1), (0, 1), (0, 0)), ((0, 0), (0, 0), (0, 0), (0, 8))


@dataclass(frozen=True)
class Form:
    """A model, and whether the entry accuses it."""

    entry: str
    name: str
    accused: bool
    build: Callable[[GraphBuilder], int | None]

    def model(self) -> Model:
        """The model; what `build` returns is its output, unless it gave its outputs itself."""
        graph = GraphBuilder()
        made = self.build(graph)
        if made is not None:
            graph.output(made, "y")
        return graph.build()


def integers(kind: str, *, first: bool, shape: tuple[int, ...] = (1, 4, 5, 12)) -> Callable[[GraphBuilder], int]:
    """An op of whole numbers from 1 to 40 and a constant of them."""

    def build(graph: GraphBuilder) -> int:
        size = graph.unary("ABS", graph.input("x", (1, 4, 5, 12)))
        scaled = graph.binary("ADD", graph.binary("MUL", size, graph.constant([10.0])), graph.constant([1.5]))
        numbers = graph.op("CAST", [scaled], (1, 4, 5, 12), options("Cast"), dtype=np.int32)
        held = graph.constant((np.arange(np.prod(shape), dtype=np.int32) % 7 + 3).reshape(shape))
        feeds = [held, numbers] if first else [numbers, held]
        dtype = np.bool_ if kind in ("LESS", "GREATER") else np.int32
        titled = {"FLOOR_DIV": "FloorDiv", "FLOOR_MOD": "FloorMod"}.get(kind, kind.title())
        made = graph.op(kind, feeds, (1, 4, 5, 12), options(titled), dtype=dtype)
        return graph.op("CAST", [made], (1, 4, 5, 12), options("Cast"), dtype=np.float32)

    return build


def layer_of_two(bias: Any) -> Callable[[GraphBuilder], int]:
    """FULLY_CONNECTED of two run-time tensors and a bias."""

    def build(graph: GraphBuilder) -> int:
        feeds = [graph.input("x", (16, 32)), graph.input("w", (24, 32)), graph.constant(bias)]
        return graph.op("FULLY_CONNECTED", feeds, (16, 24), options("FullyConnected"))

    return build


def cumsum(shape: tuple[int, ...], axis: int, **fields: bool) -> Callable[[GraphBuilder], int]:
    """CUMSUM along one axis."""

    def build(graph: GraphBuilder) -> int:
        feeds = [graph.input("x", shape), graph.constant(np.asarray(axis, np.int32))]
        return graph.op("CUMSUM", feeds, shape, options("Cumsum", **fields))

    return build


def selected(mask: tuple[int, ...], shape: tuple[int, ...]) -> Callable[[GraphBuilder], int]:
    """SELECT_V2 of two tensors of one shape."""

    def build(graph: GraphBuilder) -> int:
        feeds = [graph.input("mask", mask, np.bool_), graph.input("x", shape), graph.input("y", shape)]
        return graph.op("SELECT_V2", feeds, shape, options("SelectV2"), dtype=np.float32)

    return build


def grouped(channels: int, out: int, groups: int, *, scaled: bool = False) -> Callable[[GraphBuilder], int]:
    """CONV_2D in groups, its input scaled before or not."""

    def build(graph: GraphBuilder) -> int:
        x = graph.unary("TANH", graph.input("x", (1, 8, 8, channels)))
        if scaled:
            x = graph.binary("MUL", x, graph.constant(1 + np.abs(draw(channels, seed=3))))
        return convolved(graph, x, draw(out, 3, 3, channels // groups))

    return build


def depthwise(channels: int, size: int, multiplier: int) -> Callable[[GraphBuilder], int]:
    """DEPTHWISE_CONV_2D with a multiplier."""

    def build(graph: GraphBuilder) -> int:
        kernel = draw(1, size, size, channels * multiplier)
        return convolved(graph, graph.input("x", (1, 8, 8, channels)), kernel, depth_multiplier=multiplier)

    return build


def transposed(h: int, w: int, size: int, stride: int, activation: int = 0) -> Callable[[GraphBuilder], int]:
    """TRANSPOSE_CONV of 4 channels to 8, SAME."""

    def build(graph: GraphBuilder) -> int:
        x = graph.input("x", (1, h, w, 4))
        return transposed_convolution(graph, x, draw(8, size, size, 4), stride=stride, activation=activation)

    return build


def updated(shape: tuple[int, ...], part: tuple[int, ...]) -> Callable[[GraphBuilder], int]:
    """DYNAMIC_UPDATE_SLICE from 2 on along each axis, told at run time."""

    def build(graph: GraphBuilder) -> int:
        rank = len(shape)
        none = graph.binary("MUL", graph.input("start", (rank,)), graph.constant([0.0]))
        two = graph.binary("ADD", none, graph.constant([2.0]))
        at = graph.op("CAST", [two], (rank,), options("Cast"), dtype=np.int32)
        feeds = [graph.input("x", shape), graph.input("part", part), at]
        return graph.op("DYNAMIC_UPDATE_SLICE", feeds, shape, options("DynamicUpdateSlice"))

    return build


def topk(shape: tuple[int, ...]) -> Callable[[GraphBuilder], None]:
    """The two largest of each row, and their places."""

    def build(graph: GraphBuilder) -> None:
        feeds = [graph.input("x", shape), graph.constant(np.asarray(2, np.int32))]
        values = graph.op("TOPK_V2", feeds, (*shape[:-1], 2), options("TopKV2"))
        places = graph.tensor("places", (*shape[:-1], 2), np.int32)
        graph._ops[-1].outputs = ints(values, places)
        graph.output(values, "values")
        graph.output(places, "places")

    return build


def pooled_border(
    kind: str, widths: Widths, *, padding: int | None = None, size: int = 3
) -> Callable[[GraphBuilder], int]:
    """A padded map pooled, with padding of the pooling itself or none."""

    def build(graph: GraphBuilder) -> int:
        padded = graph.pad(graph.unary("TANH", graph.input("x", (1, 16, 16, 8))), widths)
        if padding is None:
            return pooled(graph, kind, padded, size)
        n, h, w, c = graph.shape(padded)
        table = options("Pool2D", padding=padding, strideH=2, strideW=2, filterHeight=3, filterWidth=3)
        return graph.op(kind, [padded], (n, -(-h // 2), -(-w // 2), c), table)

    return build


def bordered(value: float, then: str, widths: Widths = BORDER, size: int = 3) -> Callable[[GraphBuilder], int]:
    """A map padded by a value, then convolved or averaged."""

    def build(graph: GraphBuilder) -> int:
        x = padded_with(graph, graph.unary("TANH", graph.input("x", (1, 8, 8, 8))), widths, value)
        if then == "AVERAGE_POOL_2D":
            return pooled(graph, then, x, size)
        if then == "DEPTHWISE_CONV_2D":
            return convolved(graph, x, draw(1, 3, 3, 8), depth_multiplier=1)
        return convolved(graph, x, draw(8, 3, 3, 8))

    return build


def widened(kind: str, channels: int, vector: int, *, layer: bool = False) -> Callable[[GraphBuilder], int]:
    """One channel or unit, and a vector that makes many of it."""

    def build(graph: GraphBuilder) -> int:
        if layer:
            one = graph.fully_connected(graph.input("x", (1, 16)), draw(channels, 16))
        else:
            one = convolved(graph, graph.input("x", (1, 8, 8, 8)), draw(channels, 3, 3, 8))
        return graph.binary(kind, one, graph.constant(draw(vector, seed=3)))

    return build


def widened_before(channels: int, *, layer: bool = False) -> Callable[[GraphBuilder], int]:
    """A vector that widens the channels ahead of a convolution or layer."""

    def build(graph: GraphBuilder) -> int:
        shape = (1, channels) if layer else (1, 8, 8, channels)
        wide = graph.binary("MUL", graph.unary("TANH", graph.input("x", shape)), graph.constant(draw(8, seed=3)))
        return graph.fully_connected(wide, draw(6, 8)) if layer else convolved(graph, wide, draw(8, 3, 3, 8))

    return build


def output_of_convolution(kind: str, *, depthwise: bool = False, again: bool = False) -> Callable[[GraphBuilder], None]:
    """A convolution that is an output and scaled as well."""

    def build(graph: GraphBuilder) -> None:
        x = graph.input("x", (1, 8, 8, 8))
        kernel = draw(1, 3, 3, 8) if depthwise else draw(8, 3, 3, 8)
        features = convolved(graph, x, kernel, depth_multiplier=int(depthwise))
        graph.output(features, "features")
        graph.output(graph.binary(kind, features, graph.constant(draw(8, seed=3))), "scaled")
        if again:
            graph.output(graph.unary("TANH", features), "again")

    return build


def output_of_pad(kind: str) -> Callable[[GraphBuilder], None]:
    """A padded map that is an output and read by a window as well."""

    def build(graph: GraphBuilder) -> None:
        padded = graph.pad(graph.unary("EXP", graph.input("x", (1, 16, 16, 8))), BORDER)
        graph.output(padded, "padded")
        deep = kind == "DEPTHWISE_CONV_2D"
        kernel = draw(1, 3, 3, 8) if deep else draw(8, 3, 3, 8)
        if "POOL" in kind:
            graph.output(pooled(graph, kind, padded), "pooled")
        else:
            graph.output(convolved(graph, padded, kernel, depth_multiplier=deep), "convolved")

    return build


def output_of_sum(kind: str, axis: int) -> Callable[[GraphBuilder], None]:
    """A sum that is an output and reduced as well."""

    def build(graph: GraphBuilder) -> None:
        total = graph.binary("ADD", graph.input("x", (1, 8, 8, 16)), graph.input("y", (1, 8, 8, 16)))
        graph.output(total, "total")
        graph.output(graph.reduce(kind, total, axis), "mean")

    return build


def masked(
    shape: tuple[int, ...], mask: tuple[int, ...], columns: slice, value: float
) -> Callable[[GraphBuilder], int]:
    """SOFTMAX behind a mask."""

    def build(graph: GraphBuilder) -> int:
        held = np.zeros(mask, np.float32)
        held[..., columns] = value
        return graph.softmax(graph.binary("ADD", graph.input("x", shape), graph.constant(held)))

    return build


def leaky(slope: float) -> Callable[[GraphBuilder], int]:
    """LEAKY_RELU."""
    return lambda graph: graph.unary("LEAKY_RELU", graph.input("x", (1, 4, 4, 16)), options("LeakyRelu", alpha=slope))


def int8_weights(size: int, stride: int) -> Callable[[GraphBuilder], int]:
    """CONV_2D of floats with weights stored in 8 bits."""

    def build(graph: GraphBuilder) -> int:
        weights = np.clip(np.round(40 * draw(32, size, size, 16)), -127, 127).astype(np.int8)
        held = graph.constant(weights, "weights")
        scales = schema.QuantizationParametersT()
        scales.scale, scales.zeroPoint = np.full(32, 1 / 40, np.float32), np.zeros(32, np.int64)
        graph._tensors[held].quantization = scales
        feeds = [graph.input("x", (1, 16, 16, 16)), held, graph.constant(draw(32, seed=5))]
        table = options("Conv2D", padding=SAME, strideH=stride, strideW=stride, dilationHFactor=1, dilationWFactor=1)
        return graph.op("CONV_2D", feeds, (1, 16 // stride, 16 // stride, 32), table)

    return build


def padded(shape: tuple[int, ...], widths: tuple[tuple[int, int], ...]) -> Callable[[GraphBuilder], int]:
    """PAD, then TANH."""
    return lambda graph: graph.unary("TANH", graph.pad(graph.input("x", shape), widths))


def mirrored(shape: tuple[int, ...], widths: Widths) -> Callable[[GraphBuilder], int]:
    """MIRROR_PAD in the mode REFLECT."""

    def build(graph: GraphBuilder) -> int:
        made = [d + before + after for d, (before, after) in zip(shape, widths, strict=True)]
        feeds = [graph.input("x", shape), graph.constant(np.asarray(widths, np.int32))]
        return graph.op("MIRROR_PAD", feeds, made, options("MirrorPad", mode=0))

    return build


def turned(shape: tuple[int, ...], axis: int) -> Callable[[GraphBuilder], int]:
    """REVERSE_V2 along one axis."""

    def build(graph: GraphBuilder) -> int:
        feeds = [graph.input("x", shape), graph.constant(ints(axis))]
        return graph.op("REVERSE_V2", feeds, shape, options("ReverseV2"))

    return build


def moved(kind: str, batch: int) -> Callable[[GraphBuilder], int]:
    """SPACE_TO_DEPTH or DEPTH_TO_SPACE in blocks of 2."""

    def build(graph: GraphBuilder) -> int:
        deep = kind == "SPACE_TO_DEPTH"
        table = options("SpaceToDepth" if deep else "DepthToSpace", blockSize=2)
        small, large = (batch, 2, 3, 32), (batch, 4, 6, 8)
        return graph.op(kind, [graph.input("x", large if deep else small)], small if deep else large, table)

    return build


def most_of(width: int) -> Callable[[GraphBuilder], int]:
    """The mean of eight neighbours, of a long row."""

    def build(graph: GraphBuilder) -> int:
        return graph.reduce("MEAN", graph.reshape(graph.input("x", (1, width)), (1, width // 8, 8)), 2)

    return build
