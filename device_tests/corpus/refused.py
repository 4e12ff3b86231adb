"""Graphs that the GPU delegate refuses aloud, each for one op, and what it says; see docs/delegate.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from device_tests.corpus.ops import draw, ints, options
from harness.core.arrays import Array
from harness.graph.build import GraphBuilder
from harness.graph.model import Model


@dataclass(frozen=True)
class Refused:
    """A graph, the op that is refused (index and kind), and words that the refusal has."""

    name: str
    build: Callable[[], Model]
    op: tuple[int, str]
    said: str


def single(
    kind: str,
    shape: Sequence[int],
    result: Sequence[int],
    table: Any = None,
    constants: Sequence[Array] = (),
    *,
    made: Any = np.float32,
    custom: str | None = None,
    version: int = 1,
) -> Callable[[], Model]:
    """One op of an input and constants."""

    def build() -> Model:
        graph = GraphBuilder()
        feeds = [graph.input("x", shape), *(graph.constant(each) for each in constants)]
        graph.output(graph.op(kind, feeds, result, table, dtype=made, custom=custom, version=version), "y")
        return graph.build()

    return build


def constants_alone() -> Model:
    """A transposed constant, added to an input."""
    graph = GraphBuilder()
    turned = graph.transpose(graph.constant(draw(1, 8, 4)), (0, 2, 1))
    graph.output(graph.binary("ADD", graph.input("x", (1, 4, 8)), turned), "y")
    return graph.build()


def constant_left() -> Model:
    """A constant times an input."""
    graph = GraphBuilder()
    feeds = [graph.constant(draw(1, 4, 8)), graph.input("x", (1, 8, 5))]
    graph.output(graph.op("BATCH_MATMUL", feeds, (1, 4, 5), options("BatchMatMul")), "y")
    return graph.build()


def same_operand() -> Model:
    """x - x."""
    graph = GraphBuilder()
    x = graph.input("x", (1, 4, 4, 8))
    graph.output(graph.binary("SUB", x, x), "y")
    return graph.build()


def select_condition() -> Model:
    """A condition [8] among values [1, 4, 6, 8]."""
    graph = GraphBuilder()
    shape = (1, 4, 6, 8)
    feeds = [graph.input("mask", (8,), np.bool_), graph.input("x", shape), graph.input("y", shape)]
    graph.output(graph.op("SELECT_V2", feeds, shape, options("SelectV2"), dtype=np.float32), "z")
    return graph.build()


def int8_dequantized() -> Model:
    """A layer whose int8 weights are unpacked by an op, and not square."""
    graph = GraphBuilder()
    held = graph.constant(np.clip(np.round(40 * draw(16, 32)), -127, 127).astype(np.int8))
    scale = schema.QuantizationParametersT()
    scale.scale, scale.zeroPoint = np.full(1, 1 / 40, np.float32), np.zeros(1, np.int64)
    graph._tensors[held].quantization = scale
    weights = graph.op("DEQUANTIZE", [held], (16, 32), options("Dequantize"), dtype=np.float32, version=2)
    feeds = [graph.input("x", (1, 32)), weights, -1]
    graph.output(graph.op("FULLY_CONNECTED", feeds, (1, 16), options("FullyConnected")), "y")
    return graph.build()


_BORDER = np.asarray([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32)


def _slice(begin: Sequence[int], end: Sequence[int], steps: Sequence[int]) -> list[Array]:
    return [ints(*begin), ints(*end), ints(*steps)]


REFUSED: tuple[Refused, ...] = (
    Refused("refused_rank_5", single("RELU", (1, 1, 2, 2, 4), (1, 1, 2, 2, 4)), (0, "RELU"), "rank over 4"),
    Refused(
        "refused_int64",
        single("CAST", (1, 8), (1, 8), options("Cast"), made=np.int64),
        (0, "CAST"),
        "type INT64",
    ),
    Refused(
        "refused_gather_nd",
        single("GATHER_ND", (4, 8), (2, 8), options("GatherNd"), [np.asarray([[1], [2]], np.int32)]),
        (0, "GATHER_ND"),
        "GATHER_ND",
    ),
    Refused(
        "refused_broadcast_to",
        single("BROADCAST_TO", (1, 6, 1, 8), (1, 6, 5, 8), options("BroadcastTo"), [ints(1, 6, 5, 8)], version=2),
        (0, "BROADCAST_TO"),
        "BROADCAST_TO",
    ),
    Refused(
        "refused_squeeze",
        single("SQUEEZE", (1, 1, 4, 8), (1, 4, 8), options("Squeeze", squeezeDims=[1])),
        (0, "SQUEEZE"),
        "SQUEEZE",
    ),
    Refused(
        "refused_expand_dims",
        single("EXPAND_DIMS", (1, 4, 8), (1, 1, 4, 8), options("ExpandDims"), [ints(1)]),
        (0, "EXPAND_DIMS"),
        "EXPAND_DIMS",
    ),
    Refused(
        "refused_log_softmax",
        single("LOG_SOFTMAX", (1, 4, 8), (1, 4, 8), options("LogSoftmax")),
        (0, "LOG_SOFTMAX"),
        "LOG_SOFTMAX",
    ),
    Refused(
        "refused_l2_normalization",
        single("L2_NORMALIZATION", (1, 4, 4, 8), (1, 4, 4, 8), options("L2Norm")),
        (0, "L2_NORMALIZATION"),
        "L2_NORMALIZATION",
    ),
    Refused(
        "refused_arg_min",
        single("ARG_MIN", (1, 4, 8), (1, 4), options("ArgMin", outputType=2), [ints(2)], made=np.int32),
        (0, "ARG_MIN"),
        "ARG_MIN",
    ),
    Refused("refused_custom", single("CUSTOM", (1, 8), (1, 8), custom="MyOp"), (0, "CUSTOM"), "no custom op 'MyOp'"),
    Refused("refused_constants_alone", constants_alone, (0, "TRANSPOSE"), "TRANSPOSE"),
    Refused(
        "refused_softmax_beta",
        single("SOFTMAX", (1, 8), (1, 8), options("Softmax", beta=2.0)),
        (0, "SOFTMAX"),
        "beta",
    ),
    Refused("refused_matmul_constant_left", constant_left, (0, "BATCH_MATMUL"), "non-constant tensor"),
    Refused("refused_same_operand", same_operand, (0, "SUB"), "identical inputs"),
    Refused(
        "refused_gather_2d",
        single("GATHER", (1, 16, 8), (1, 2, 2, 8), options("Gather", axis=1), [np.asarray([[1, 2], [3, 4]], np.int32)]),
        (0, "GATHER"),
        "1D indices",
    ),
    Refused(
        "refused_mirror_symmetric",
        single("MIRROR_PAD", (1, 4, 4, 8), (1, 6, 6, 8), options("MirrorPad", mode=1), [_BORDER]),
        (0, "MIRROR_PAD"),
        "Reflective",
    ),
    Refused(
        "refused_pad_rank_2",
        single("PAD", (4, 8), (6, 8), options("Pad"), [np.asarray([[1, 1], [0, 0]], np.int32)]),
        (0, "PAD"),
        "paddings tensor shape",
    ),
    Refused(
        "refused_shrink_mask",
        single(
            "STRIDED_SLICE",
            (1, 4, 4, 8),
            (1, 4, 8),
            options("StridedSlice", shrinkAxisMask=2),
            _slice((0, 1, 0, 0), (1, 2, 4, 8), (1, 1, 1, 1)),
        ),
        (0, "STRIDED_SLICE"),
        "shrink_axis_mask",
    ),
    Refused(
        "refused_reversed_slice",
        single(
            "STRIDED_SLICE",
            (1, 4, 4, 8),
            (1, 4, 4, 8),
            options("StridedSlice"),
            _slice((0, 3, 0, 0), (1, -5, 4, 8), (1, -1, 1, 1)),
        ),
        (0, "STRIDED_SLICE"),
        "Reverse slices",
    ),
    Refused(
        "refused_resize_both",
        single(
            "RESIZE_BILINEAR",
            (1, 4, 4, 8),
            (1, 8, 8, 8),
            options("ResizeBilinear", alignCorners=True, halfPixelCenters=True),
            [ints(8, 8)],
        ),
        (0, "RESIZE_BILINEAR"),
        "half_pixel_centers",
    ),
    Refused("refused_select_condition", select_condition, (0, "SELECT_V2"), "BATCH axis"),
    Refused("refused_int8_dequantized", int8_dequantized, (1, "FULLY_CONNECTED"), "Shape mismatch"),
)
"""Measured on ai-edge-litert 2.3.0."""
