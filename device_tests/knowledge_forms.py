"""Small models just inside and just outside the patterns of the catalogue that are certain on the host's GPU.

Each is a model of its own, for what is fused depends on all of a graph. The forms of the entries on element-wise
constants, matrix products and layers are in `lint_forms`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from device_tests.corpus.fusions import BORDER
from device_tests.corpus.ops import (
    RELU,
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


def _integers(kind: str, *, first: bool, shape: tuple[int, ...] = (1, 4, 5, 12)) -> Callable[[GraphBuilder], int]:
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


def _layer_of_two(bias: Any) -> Callable[[GraphBuilder], int]:
    def build(graph: GraphBuilder) -> int:
        feeds = [graph.input("x", (16, 32)), graph.input("w", (24, 32)), graph.constant(bias)]
        return graph.op("FULLY_CONNECTED", feeds, (16, 24), options("FullyConnected"))

    return build


def _cumsum(shape: tuple[int, ...], axis: int, **fields: bool) -> Callable[[GraphBuilder], int]:
    def build(graph: GraphBuilder) -> int:
        feeds = [graph.input("x", shape), graph.constant(np.asarray(axis, np.int32))]
        return graph.op("CUMSUM", feeds, shape, options("Cumsum", **fields))

    return build


def _select(mask: tuple[int, ...], shape: tuple[int, ...]) -> Callable[[GraphBuilder], int]:
    def build(graph: GraphBuilder) -> int:
        feeds = [graph.input("mask", mask, np.bool_), graph.input("x", shape), graph.input("y", shape)]
        return graph.op("SELECT_V2", feeds, shape, options("SelectV2"), dtype=np.float32)

    return build


def _grouped(channels: int, out: int, groups: int, *, scaled: bool = False) -> Callable[[GraphBuilder], int]:
    def build(graph: GraphBuilder) -> int:
        x = graph.unary("TANH", graph.input("x", (1, 8, 8, channels)))
        if scaled:
            x = graph.binary("MUL", x, graph.constant(1 + np.abs(draw(channels, seed=3))))
        return convolved(graph, x, draw(out, 3, 3, channels // groups))

    return build


def _depthwise(channels: int, size: int, multiplier: int) -> Callable[[GraphBuilder], int]:
    def build(graph: GraphBuilder) -> int:
        kernel = draw(1, size, size, channels * multiplier)
        return convolved(graph, graph.input("x", (1, 8, 8, channels)), kernel, depth_multiplier=multiplier)

    return build


def _transposed(h: int, w: int, size: int, stride: int, activation: int = 0) -> Callable[[GraphBuilder], int]:
    def build(graph: GraphBuilder) -> int:
        x = graph.input("x", (1, h, w, 4))
        return transposed_convolution(graph, x, draw(8, size, size, 4), stride=stride, activation=activation)

    return build


def _updated(shape: tuple[int, ...], part: tuple[int, ...]) -> Callable[[GraphBuilder], int]:
    def build(graph: GraphBuilder) -> int:
        rank = len(shape)
        none = graph.binary("MUL", graph.input("start", (rank,)), graph.constant([0.0]))
        two = graph.binary("ADD", none, graph.constant([2.0]))
        at = graph.op("CAST", [two], (rank,), options("Cast"), dtype=np.int32)
        feeds = [graph.input("x", shape), graph.input("part", part), at]
        return graph.op("DYNAMIC_UPDATE_SLICE", feeds, shape, options("DynamicUpdateSlice"))

    return build


def _topk(shape: tuple[int, ...]) -> Callable[[GraphBuilder], None]:
    def build(graph: GraphBuilder) -> None:
        feeds = [graph.input("x", shape), graph.constant(np.asarray(2, np.int32))]
        values = graph.op("TOPK_V2", feeds, (*shape[:-1], 2), options("TopKV2"))
        places = graph.tensor("places", (*shape[:-1], 2), np.int32)
        graph._ops[-1].outputs = ints(values, places)
        graph.output(values, "values")
        graph.output(places, "places")

    return build


def _pooled_border(
    kind: str, widths: Widths, *, padding: int | None = None, size: int = 3
) -> Callable[[GraphBuilder], int]:
    def build(graph: GraphBuilder) -> int:
        padded = graph.pad(graph.unary("TANH", graph.input("x", (1, 16, 16, 8))), widths)
        if padding is None:
            return pooled(graph, kind, padded, size)
        n, h, w, c = graph.shape(padded)
        table = options("Pool2D", padding=padding, strideH=2, strideW=2, filterHeight=3, filterWidth=3)
        return graph.op(kind, [padded], (n, -(-h // 2), -(-w // 2), c), table)

    return build


def _bordered(value: float, then: str, widths: Widths = BORDER, size: int = 3) -> Callable[[GraphBuilder], int]:
    def build(graph: GraphBuilder) -> int:
        x = padded_with(graph, graph.unary("TANH", graph.input("x", (1, 8, 8, 8))), widths, value)
        if then == "AVERAGE_POOL_2D":
            return pooled(graph, then, x, size)
        if then == "DEPTHWISE_CONV_2D":
            return convolved(graph, x, draw(1, 3, 3, 8), depth_multiplier=1)
        return convolved(graph, x, draw(8, 3, 3, 8))

    return build


def _widened(kind: str, channels: int, vector: int, *, layer: bool = False) -> Callable[[GraphBuilder], int]:
    def build(graph: GraphBuilder) -> int:
        if layer:
            one = graph.fully_connected(graph.input("x", (1, 16)), draw(channels, 16))
        else:
            one = convolved(graph, graph.input("x", (1, 8, 8, 8)), draw(channels, 3, 3, 8))
        return graph.binary(kind, one, graph.constant(draw(vector, seed=3)))

    return build


def _widened_before(channels: int, *, layer: bool = False) -> Callable[[GraphBuilder], int]:
    def build(graph: GraphBuilder) -> int:
        shape = (1, channels) if layer else (1, 8, 8, channels)
        wide = graph.binary("MUL", graph.unary("TANH", graph.input("x", shape)), graph.constant(draw(8, seed=3)))
        return graph.fully_connected(wide, draw(6, 8)) if layer else convolved(graph, wide, draw(8, 3, 3, 8))

    return build


def _output_of_convolution(
    kind: str, *, depthwise: bool = False, again: bool = False
) -> Callable[[GraphBuilder], None]:
    def build(graph: GraphBuilder) -> None:
        x = graph.input("x", (1, 8, 8, 8))
        kernel = draw(1, 3, 3, 8) if depthwise else draw(8, 3, 3, 8)
        features = convolved(graph, x, kernel, depth_multiplier=int(depthwise))
        graph.output(features, "features")
        graph.output(graph.binary(kind, features, graph.constant(draw(8, seed=3))), "scaled")
        if again:
            graph.output(graph.unary("TANH", features), "again")

    return build


def _output_of_pad(kind: str) -> Callable[[GraphBuilder], None]:
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


def _output_of_sum(kind: str, axis: int) -> Callable[[GraphBuilder], None]:
    def build(graph: GraphBuilder) -> None:
        total = graph.binary("ADD", graph.input("x", (1, 8, 8, 16)), graph.input("y", (1, 8, 8, 16)))
        graph.output(total, "total")
        graph.output(graph.reduce(kind, total, axis), "mean")

    return build


def _masked(
    shape: tuple[int, ...], mask: tuple[int, ...], columns: slice, value: float
) -> Callable[[GraphBuilder], int]:
    def build(graph: GraphBuilder) -> int:
        held = np.zeros(mask, np.float32)
        held[..., columns] = value
        return graph.softmax(graph.binary("ADD", graph.input("x", shape), graph.constant(held)))

    return build


def _reversed(channels: int, axis: int) -> Callable[[GraphBuilder], int]:
    def build(graph: GraphBuilder) -> int:
        feeds = [graph.input("x", (1, 4, 6, channels)), graph.constant(ints(axis))]
        return graph.op("REVERSE_V2", feeds, (1, 4, 6, channels), options("ReverseV2"))

    return build


def _leaky(slope: float) -> Callable[[GraphBuilder], int]:
    return lambda graph: graph.unary("LEAKY_RELU", graph.input("x", (1, 4, 4, 16)), options("LeakyRelu", alpha=slope))


def _int8_weights(size: int, stride: int) -> Callable[[GraphBuilder], int]:
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


def _padded(shape: tuple[int, ...], widths: tuple[tuple[int, int], ...]) -> Callable[[GraphBuilder], int]:
    return lambda graph: graph.unary("TANH", graph.pad(graph.input("x", shape), widths))


def _mirrored(shape: tuple[int, ...], widths: Widths) -> Callable[[GraphBuilder], int]:
    def build(graph: GraphBuilder) -> int:
        made = [d + before + after for d, (before, after) in zip(shape, widths, strict=True)]
        feeds = [graph.input("x", shape), graph.constant(np.asarray(widths, np.int32))]
        return graph.op("MIRROR_PAD", feeds, made, options("MirrorPad", mode=0))

    return build


def _turned(shape: tuple[int, ...], axis: int) -> Callable[[GraphBuilder], int]:
    def build(graph: GraphBuilder) -> int:
        feeds = [graph.input("x", shape), graph.constant(ints(axis))]
        return graph.op("REVERSE_V2", feeds, shape, options("ReverseV2"))

    return build


def _moved(kind: str, batch: int) -> Callable[[GraphBuilder], int]:
    def build(graph: GraphBuilder) -> int:
        deep = kind == "SPACE_TO_DEPTH"
        table = options("SpaceToDepth" if deep else "DepthToSpace", blockSize=2)
        small, large = (batch, 2, 3, 32), (batch, 4, 6, 8)
        return graph.op(kind, [graph.input("x", large if deep else small)], small if deep else large, table)

    return build


def _most_of(width: int) -> Callable[[GraphBuilder], int]:
    def build(graph: GraphBuilder) -> int:
        return graph.reduce("MEAN", graph.reshape(graph.input("x", (1, width)), (1, width // 8, 8)), 2)

    return build


FORMS: tuple[Form, ...] = (
    *(
        Form("integer-constant-first", f"{kind} first", True, _integers(kind, first=True))
        for kind in ("SUB", "FLOOR_DIV", "FLOOR_MOD", "LESS", "GREATER")
    ),
    Form("integer-constant-first", "SUB second", False, _integers("SUB", first=False)),
    Form("integer-constant-first", "SUB, one element", False, _integers("SUB", first=True, shape=(1,))),
    Form("integer-constant-first", "ADD first", False, _integers("ADD", first=True)),
    Form("fully-connected-bias-dropped", "a bias", True, _layer_of_two(10 * draw(24))),
    Form("fully-connected-bias-dropped", "a bias of zeros", False, _layer_of_two(np.zeros(24, np.float32))),
    Form("softmax-rank-1", "rank 1", True, lambda g: g.softmax(g.input("x", (12,)))),
    Form("softmax-rank-1", "rank 2", False, lambda g: g.softmax(g.input("x", (1, 12)))),
    Form("cumsum-leading-axis", "rank 3", True, _cumsum((4, 6, 8), 0)),
    Form("cumsum-leading-axis", "rank 2", True, _cumsum((6, 8), 0)),
    Form("cumsum-leading-axis", "rank 2, last axis", False, _cumsum((6, 8), 1)),
    Form("cumsum-leading-axis", "rank 3, last axis", False, _cumsum((4, 6, 8), 2)),
    Form("cumsum-leading-axis", "a leading 1", False, _cumsum((1, 6, 8), 0)),
    Form("cumsum-leading-axis", "rank 4", False, _cumsum((1, 4, 6, 8), 1)),
    Form("cumsum-leading-axis", "rank 4, batch", False, _cumsum((3, 4, 6, 8), 0)),
    Form("cumsum-reverse", "reverse", True, _cumsum((1, 4, 6, 8), 1, reverse=True)),
    Form("cumsum-reverse", "exclusive", True, _cumsum((1, 4, 6, 8), 3, exclusive=True)),
    Form("cumsum-reverse", "exclusive, rank 2", True, _cumsum((4, 8), 1, exclusive=True)),
    Form("cumsum-reverse", "neither", False, _cumsum((1, 4, 6, 8), 3)),
    Form("select-condition-rank", "rows", True, _select((6, 8), (4, 6, 8))),
    Form("select-condition-rank", "columns", True, _select((8,), (6, 8))),
    Form("select-condition-rank", "columns in rank 4", True, _select((8,), (2, 4, 6, 8))),
    Form("select-condition-rank", "blocks in rank 4", True, _select((4, 6, 8), (2, 4, 6, 8))),
    Form("select-condition-rank", "the same rank", False, _select((1, 6, 8), (4, 6, 8))),
    Form("select-condition-rank", "one element", False, _select((1,), (4, 6, 8))),
    Form("grouped-convolution", "3 to 3", True, _grouped(6, 6, 2)),
    Form("grouped-convolution", "2 to 2", True, _grouped(4, 4, 2)),
    Form("grouped-convolution", "3 to 4", True, _grouped(6, 8, 2)),
    Form("grouped-convolution", "4 to 3", True, _grouped(8, 6, 2)),
    Form("grouped-convolution", "4 to 4", False, _grouped(8, 8, 2)),
    Form("depthwise-pointwise-multiplier", "1x1, twice", True, _depthwise(8, 1, 2)),
    Form("depthwise-pointwise-multiplier", "1x1, three times", True, _depthwise(6, 1, 3)),
    Form("depthwise-pointwise-multiplier", "1x1, once", False, _depthwise(8, 1, 1)),
    Form("depthwise-pointwise-multiplier", "3x3, twice", False, _depthwise(8, 3, 2)),
    Form("depthwise-pointwise-multiplier", "of one channel", False, _depthwise(1, 1, 8)),
    Form("transpose-conv-same", "odd, kernel 3", True, _transposed(7, 9, 3, 2)),
    Form("transpose-conv-same", "even and odd, kernel 3", True, _transposed(8, 9, 3, 2)),
    Form("transpose-conv-same", "even, kernel 3", False, _transposed(8, 8, 3, 2)),
    Form("transpose-conv-same", "kernel 2", False, _transposed(7, 9, 2, 2)),
    Form("transpose-conv-same", "kernel 4", False, _transposed(8, 8, 4, 2)),
    Form("transpose-conv-same", "odd, kernel 4", False, _transposed(7, 9, 4, 2)),
    Form("transpose-conv-same", "odd, kernel 5", True, _transposed(7, 7, 5, 2)),
    Form("transpose-conv-same", "stride 1", False, _transposed(7, 9, 3, 1)),
    Form("transpose-conv-same", "odd, stride 3", True, _transposed(7, 7, 3, 3)),
    Form("transpose-conv-activation", "RELU", True, _transposed(8, 8, 4, 2, RELU)),
    Form("transpose-conv-activation", "none", False, _transposed(8, 8, 4, 2)),
    Form("update-slice-low-rank", "rank 3", True, _updated((16, 16, 16), (2, 4, 4))),
    Form("update-slice-low-rank", "rank 2", True, _updated((16, 16), (4, 4))),
    Form("update-slice-low-rank", "one block of several", True, _updated((4, 16, 16), (1, 4, 4))),
    Form("update-slice-low-rank", "rank 3, rows of all blocks", False, _updated((4, 16, 16), (4, 4, 16))),
    Form("update-slice-low-rank", "rank 2, columns", False, _updated((16, 16), (16, 4))),
    Form("update-slice-low-rank", "rank 3, a leading 1", False, _updated((1, 16, 16), (1, 4, 4))),
    Form("update-slice-low-rank", "rank 2, a leading 1", False, _updated((1, 16), (1, 4))),
    Form("update-slice-low-rank", "rank 4", False, _updated((1, 16, 16, 16), (1, 4, 4, 4))),
    Form("pad-before-average-pool", "all around", True, _pooled_border("AVERAGE_POOL_2D", BORDER)),
    Form("pad-before-average-pool", "beyond the last window", False, _pooled_border("AVERAGE_POOL_2D", END, size=2)),
    Form("topk-not-in-fours", "8 rows of 41", True, _topk((8, 41))),
    Form("topk-not-in-fours", "3 rows of 41 behind a leading 1", True, _topk((1, 3, 41))),
    Form("topk-not-in-fours", "one row", False, _topk((1, 41))),
    Form("topk-not-in-fours", "rows of 40", False, _topk((8, 40))),
    Form("pad-before-average-pool", "at the end", True, _pooled_border("AVERAGE_POOL_2D", END)),
    Form("pad-before-average-pool", "channels", False, _pooled_border("AVERAGE_POOL_2D", DEEPER)),
    Form("border-not-zero", "convolution", True, _bordered(-3.0, "CONV_2D")),
    Form("border-not-zero", "depthwise", True, _bordered(2.0, "DEPTHWISE_CONV_2D")),
    Form("border-not-zero", "average", True, _bordered(-3.0, "AVERAGE_POOL_2D")),
    Form("border-not-zero", "beyond the last window", False, _bordered(-3.0, "AVERAGE_POOL_2D", END, 2)),
    Form("border-not-zero", "zeros", False, _bordered(0.0, "CONV_2D")),
    Form("convolution-widened", "ADD", True, _widened("ADD", 1, 12)),
    Form("convolution-widened", "MUL", True, _widened("MUL", 1, 12)),
    Form("convolution-widened", "a layer", True, _widened("ADD", 1, 12, layer=True)),
    Form("convolution-widened", "not widened", False, _widened("ADD", 12, 12)),
    Form("convolution-widened", "one to one", False, _widened("ADD", 1, 1)),
    Form("widened-before-convolution", "convolution", True, _widened_before(1)),
    Form("widened-before-convolution", "layer", True, _widened_before(1, layer=True)),
    Form("widened-before-convolution", "not widened", False, _widened_before(8)),
    Form("scaled-before-groups", "4 to 4", True, _grouped(8, 8, 2, scaled=True)),
    Form("scaled-before-groups", "one group", False, _grouped(8, 8, 1, scaled=True)),
    Form("swallowed-convolution", "MUL", True, _output_of_convolution("MUL")),
    Form("swallowed-convolution", "ADD", True, _output_of_convolution("ADD")),
    Form("swallowed-convolution", "depthwise", True, _output_of_convolution("MUL", depthwise=True)),
    Form("swallowed-convolution", "read twice", False, _output_of_convolution("MUL", again=True)),
    Form("swallowed-pad", "maximum", True, _output_of_pad("MAX_POOL_2D")),
    Form("swallowed-pad", "convolution", True, _output_of_pad("CONV_2D")),
    Form("swallowed-pad", "depthwise", True, _output_of_pad("DEPTHWISE_CONV_2D")),
    Form("swallowed-sum", "mean over channels", True, _output_of_sum("MEAN", 3)),
    Form("swallowed-sum", "sum over rows", True, _output_of_sum("SUM", 1)),
    Form("softmax-masked-block", "first four", True, _masked((4, 16, 64), (1, 1, 64), slice(0, 4), -1e9)),
    Form("softmax-masked-block", "of eight", True, _masked((1, 4, 16, 8), (1, 1, 16, 8), slice(0, 4), -1e5)),
    Form("softmax-masked-block", "first three", False, _masked((4, 16, 64), (1, 1, 64), slice(0, 3), -1e9)),
    Form("softmax-masked-block", "within range", False, _masked((4, 16, 64), (1, 1, 64), slice(0, 4), -1e4)),
    Form("softmax-masked-block", "last ones", False, _masked((4, 16, 64), (1, 1, 64), slice(60, 64), -1e9)),
    Form("reverse-channels", "5 channels", True, _reversed(5, 3)),
    Form("reverse-channels", "6 channels, from the end", True, _reversed(6, -1)),
    Form("reverse-channels", "8 channels", False, _reversed(8, 3)),
    Form("reverse-channels", "rows of 5 channels", False, _reversed(5, 1)),
    Form("leaky-relu-slope", "1.5", True, _leaky(1.5)),
    Form("leaky-relu-slope", "below 0", True, _leaky(-0.25)),
    Form("leaky-relu-slope", "0.2", False, _leaky(0.2)),
    Form("pointwise-int8-stride-2", "1x1, stride 2", True, _int8_weights(1, 2)),
    Form("pointwise-int8-stride-2", "1x1, stride 1", False, _int8_weights(1, 1)),
    Form("pointwise-int8-stride-2", "3x3, stride 2", False, _int8_weights(3, 2)),
    Form("rank-3-pad", "middle", True, _padded((4, 50, 64), ((0, 0), (3, 5), (0, 0)))),
    Form("rank-3-pad", "first", True, _padded((4, 10, 8), ((1, 1), (0, 0), (0, 0)))),
    Form("rank-3-pad", "first and last", True, _padded((4, 10, 8), ((0, 1), (0, 0), (0, 4)))),
    Form("rank-3-pad", "last", True, _padded((4, 10, 8), ((0, 0), (0, 0), (2, 2)))),
    Form("rank-3-pad", "of a leading 1, first", True, _padded((1, 10, 8), ((1, 1), (0, 0), (0, 0)))),
    Form("rank-3-pad", "of a leading 1, middle", False, _padded((1, 10, 8), ((0, 0), (1, 1), (0, 0)))),
    Form("rank-3-pad", "of a leading 1, last", False, _padded((1, 10, 8), ((0, 0), (0, 0), (2, 2)))),
    Form("rank-3-pad", "rank 4", False, _padded((1, 4, 10, 8), ((0, 0), (1, 1), (2, 2), (0, 0)))),
    Form("rank-3-mirror-pad", "rows", True, _mirrored((4, 12, 16), ((0, 0), (3, 2), (0, 0)))),
    Form("rank-3-mirror-pad", "columns", True, _mirrored((3, 6, 8), ((0, 0), (0, 0), (1, 2)))),
    Form("rank-3-mirror-pad", "a leading 1", False, _mirrored((1, 12, 16), ((0, 0), (3, 2), (0, 0)))),
    Form("rank-3-mirror-pad", "rank 4", False, _mirrored((1, 4, 12, 16), ((0, 0), (0, 0), (3, 2), (0, 0)))),
    Form("pad-batch-of-one", "behind", True, _padded((1, 8, 8, 16), ((0, 1), (0, 0), (0, 0), (0, 0)))),
    Form("pad-batch-of-one", "ahead, and rows", True, _padded((1, 8, 8, 16), ((1, 0), (1, 1), (0, 0), (0, 0)))),
    Form("pad-batch-of-one", "a batch of two", False, _padded((2, 8, 8, 16), ((0, 1), (0, 0), (0, 0), (0, 0)))),
    Form("pad-batch-of-one", "rows", False, _padded((1, 8, 8, 16), ((0, 0), (0, 1), (0, 0), (0, 0)))),
    Form("reverse-columns", "rank 2", True, _turned((4, 6), 1)),
    Form("reverse-columns", "rank 2, from the end", True, _turned((1, 6), -1)),
    Form("reverse-columns", "rank 3", True, _turned((2, 4, 5), 2)),
    Form("reverse-columns", "a multiple of 4", False, _turned((4, 8), 1)),
    Form("reverse-columns", "rows", False, _turned((6, 5), 0)),
    Form("cumsum-negative-axis", "rank 2", True, _cumsum((4, 8), -1)),
    Form("cumsum-negative-axis", "rank 3", True, _cumsum((3, 6, 8), -1)),
    Form("cumsum-negative-axis", "from the left", False, _cumsum((4, 8), 1)),
    Form("space-to-depth-batch", "two", True, _moved("SPACE_TO_DEPTH", 2)),
    Form("space-to-depth-batch", "one", False, _moved("SPACE_TO_DEPTH", 1)),
    Form("depth-to-space-batch", "two", True, _moved("DEPTH_TO_SPACE", 2)),
    Form("depth-to-space-batch", "one", False, _moved("DEPTH_TO_SPACE", 1)),
    Form("port-beyond-dispatch", "131,074 slices", True, _most_of(524296)),
    Form("port-beyond-dispatch", "65,536 slices", False, _most_of(262144)),
)
