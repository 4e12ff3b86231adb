"""Graphs that phones refuse and desktops take, each with the rewrite that a phone's entry names and that makes it one
of ops that every GPU has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from device_tests.corpus.ops import draw, ints, options
from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from harness.remedies import catalogue
from harness.remedies.catalogue import Rewrite
from tests.quantized import QuantizedBuilder


@dataclass(frozen=True)
class Mended:
    """A graph, the kinds of op in it that are written anew, and how; `planted` phones refuse it, or none does."""

    name: str
    build: Callable[[], Model]
    kinds: tuple[str, ...]
    rewrite: Rewrite
    planted: bool = True

    def written(self) -> Model:
        """The graph without what is refused."""
        model = self.build()
        graph = model.graph()
        ops = frozenset(op.index for op in graph.ops if op.name in self.kinds)
        return self.rewrite.apply(model, ops, {})


def _one(build: Callable[[GraphBuilder], int]) -> Callable[[], Model]:
    def made() -> Model:
        graph = GraphBuilder()
        graph.output(build(graph), "y")
        return graph.build()

    return made


def enlarged(padding: str, size: int, stride: int, bias: bool) -> Callable[[GraphBuilder], int]:
    """TRANSPOSE_CONV of [1, 6, 7, 5] to 4 channels."""

    def build(g: GraphBuilder) -> int:
        out = [n * stride if padding == "SAME" else (n - 1) * stride + size for n in (6, 7)]
        table = options("TransposeConv", strideH=stride, strideW=stride, padding=getattr(schema.Padding, padding))
        feeds = [g.constant(ints(1, *out, 4)), g.constant(draw(4, size, size, 5)), g.input("x", (1, 6, 7, 5))]
        if bias:
            feeds.append(g.constant(draw(4)))
        return g.op("TRANSPOSE_CONV", feeds, (1, *out, 4), table, dtype=np.float32, version=3 if bias else 1)

    return build


def padded_maximum(first: str) -> Callable[[GraphBuilder], int]:
    """What converters write of a max-pooling with padding, behind a function, or of anything."""

    def build(g: GraphBuilder) -> int:
        x = g.input("x", (1, 8, 8, 6))
        x = g.unary(first, x) if first else x
        widths = g.constant(np.asarray([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32))
        low = g.constant(np.float32(-np.inf))
        x = g.op("PADV2", [x, widths, low], (1, 10, 10, 6), options("PadV2"))
        table = options("Pool2D", filterHeight=3, filterWidth=3, strideH=2, strideW=2, padding=schema.Padding.VALID)
        return g.op("MAX_POOL_2D", [x], (1, 4, 4, 6), table)

    return build


def repeated_heads(g: GraphBuilder) -> int:
    """Keys of 3 heads for 12, as grouped-query attention has them: in rank 5."""
    keys = g.reshape(g.unary("TANH", g.input("k", (1, 3, 6, 8))), (1, 3, 1, 6, 8))
    size = g.constant(ints(1, 3, 4, 6, 8))
    wide = g.op("BROADCAST_TO", [keys, size], (1, 3, 4, 6, 8), options("BroadcastTo"), version=2)
    return g.batch_matmul(g.input("q", (1, 12, 5, 8)), g.reshape(wide, (1, 12, 6, 8)), adj_y=True)


def every_second(g: GraphBuilder) -> int:
    """Every second row and third column, from the second row on."""
    feeds = [g.constant(ints(*row)) for row in ((0, 1, 0, 0), (1, 8, 9, 5), (1, 2, 3, 1))]
    return g.op("STRIDED_SLICE", [g.input("x", (1, 8, 9, 5)), *feeds], (1, 4, 3, 5), options("StridedSlice"))


def largest_row(g: GraphBuilder) -> int:
    """The row of a table for the largest of each row, by an index of 64 bits."""
    long = schema.TensorType.INT64
    feeds = [g.input("x", (6, 12)), g.constant(ints(1))]
    places = g.op("ARG_MAX", feeds, (6,), options("ArgMax", outputType=long), dtype=np.int64)
    return g.op("GATHER", [g.input("table", (12, 8)), places], (6, 8), options("Gather"), dtype=np.float32)


def computed_scale(g: GraphBuilder) -> int:
    """A product with the exponentials of a constant [24, 16], which by itself would be read wrongly."""
    return g.binary("MUL", g.input("x", (24, 16)), g.unary("EXP", g.constant(draw(24, 16) / 4)))


def taken(g: GraphBuilder) -> int:
    """Rows of a table."""
    places = g.input("ids", (6,), np.int32)
    return g.op("EMBEDDING_LOOKUP", [places, g.constant(draw(20, 8))], (6, 8), dtype=np.float32)


def some_rows(g: GraphBuilder) -> int:
    """Rows and columns at constant places."""
    places = g.constant(np.asarray([[[0, 4], [0, 1]], [[0, 1], [0, 0]]], np.int32))
    return g.op("GATHER_ND", [g.input("x", (1, 5, 8)), places], (2, 2, 8), options("GatherNd"))


def scaled_layer(g: GraphBuilder) -> int:
    """A layer of rank 2, times a factor for each channel in rank 3."""
    layer = g.fully_connected(g.input("x", (6, 8)), draw(5, 8), draw(5))
    return g.binary("MUL", g.unary("TANH", g.binary("MUL", layer, g.constant(draw(1, 1, 5)))), g.constant(draw(5)))


def quantized_residual() -> Model:
    """A quantized layer of rank 3, and its operand added."""
    g = QuantizedBuilder()
    x = g.quantized_input("x", (1, 6, 8), 0.02, 3)
    layer = g.layer(x, np.arange(64).reshape(8, 8) % 17 - 8, 0.05, (0.04, -2))
    g.output(g.sum_of(layer, x, (0.05, 1)), "y")
    return g.build()


def windows(g: GraphBuilder) -> int:
    """An image in windows of 4x4, by TRANSPOSE in rank 6; its rows and columns turned in rank 5."""
    x = g.reshape(g.input("x", (1, 8, 12, 6)), (1, 2, 4, 3, 4, 6))
    x = g.reshape(g.transpose(x, (0, 1, 3, 2, 4, 5)), (2, 3, 4, 4, 6))
    x = g.transpose(g.binary("ADD", x, g.constant(draw(2, 3, 1, 4, 6))), (4, 2, 0, 3, 1))
    return g.softmax(g.reshape(x, (1, 24, 8, 3)))


TRANSPOSED = ("TRANSPOSE_CONV",)
MENDED: tuple[Mended, ...] = (
    Mended("transposed, SAME", _one(enlarged("SAME", 3, 2, False)), TRANSPOSED, catalogue.STUFFED),
    Mended("transposed, VALID, bias", _one(enlarged("VALID", 2, 2, True)), TRANSPOSED, catalogue.STUFFED),
    Mended("transposed, stride 3", _one(enlarged("SAME", 5, 3, False)), TRANSPOSED, catalogue.OTHER_OPS),
    Mended("maximum behind RELU", _one(padded_maximum("RELU")), ("PADV2",), catalogue.ZERO_BORDER),
    Mended("maximum of anything", _one(padded_maximum("")), ("PADV2",), catalogue.OTHER_OPS),
    Mended("repeated heads", _one(repeated_heads), ("BROADCAST_TO",), catalogue.PRODUCT_WITH_ONES),
    Mended("repeated heads, copied", _one(repeated_heads), ("BROADCAST_TO",), catalogue.COPIES),
    Mended("64-bit indices", _one(largest_row), ("ARG_MAX",), catalogue.INTEGERS),
    Mended("a computed constant", _one(computed_scale), ("EXP",), catalogue.CONSTANTS),
    Mended("embedding", _one(taken), ("EMBEDDING_LOOKUP",), catalogue.ONE_LIST),
    Mended("places", _one(some_rows), ("GATHER_ND",), catalogue.ONE_LIST),
    Mended("windows", _one(windows), ("TRANSPOSE", "ADD"), catalogue.FOUR_AXES),
    Mended("a scaled layer", _one(scaled_layer), ("MUL",), catalogue.RANK_4),
    Mended("a quantized residual", quantized_residual, ("ADD",), catalogue.CHAIN),
    Mended("a strided slice", _one(every_second), ("STRIDED_SLICE",), catalogue.POOLED, planted=False),
)
