"""Graphs that the GPU delegate refuses aloud, each for one op, and what it says; see docs/delegate.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from device_tests.corpus.ops import draw, ints, options
from device_tests.corpus.refusal import Refused, mixed, single
from device_tests.corpus.refused_kinds import KINDS
from harness.core.arrays import Array
from harness.graph.build import GraphBuilder
from harness.graph.model import Model

__all__ = ["REFUSED", "Refused"]


def constants_alone() -> Model:
    """A transposed constant, added to an input."""
    graph = GraphBuilder()
    turned = graph.transpose(graph.constant(draw(1, 8, 4)), (0, 2, 1))
    graph.output(graph.binary("ADD", graph.input("x", (1, 4, 8)), turned), "y")
    return graph.build()


def sparse_weights() -> Model:
    """DENSIFY of a 1x4 matrix stored by rows: dense rows, then where in each the values are."""
    graph = GraphBuilder()
    packed = graph.constant(np.asarray([5, 7], np.float32))
    dense = graph.op("DENSIFY", [packed], (1, 4), schema.DensifyOptionsT())
    graph.output(graph.binary("MUL", graph.input("x", (1, 4)), dense), "y")
    root = graph.build().root
    table = root.subgraphs[0].tensors[packed]
    table.shape = np.asarray([1, 4], np.int32)
    rows, columns = schema.DimensionMetadataT(), schema.DimensionMetadataT()
    rows.format, rows.denseSize = schema.DimensionType.DENSE, 1
    columns.format = schema.DimensionType.SPARSE_CSR
    columns.arraySegmentsType = columns.arrayIndicesType = schema.SparseIndexVector.Int32Vector
    columns.arraySegments, columns.arrayIndices = schema.Int32VectorT(), schema.Int32VectorT()
    columns.arraySegments.values = np.asarray([0, 2], np.int32)
    columns.arrayIndices.values = np.asarray([0, 3], np.int32)
    table.sparsity = schema.SparsityParametersT()
    table.sparsity.traversalOrder = np.asarray([0, 1], np.int32)
    table.sparsity.dimMetadata = [rows, columns]
    return Model.from_bytes(Model(root).to_bytes())


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


def int8_port() -> Model:
    """Floats from the 8-bit integers that are given."""
    graph = GraphBuilder()
    given = graph.with_scales(graph.input("x", (1, 4, 8), np.int8), [1 / 32], 3)
    graph.output(graph.op("DEQUANTIZE", [given], (1, 4, 8), options("Dequantize"), dtype=np.float32, version=2), "y")
    return graph.build()


def one_hot(shape: tuple[int, ...], axis: int) -> Callable[[], Model]:
    """5 values for each place, the new axis first or last."""
    result = (5, *shape) if axis == 0 else (*shape, 5)
    values = [np.asarray(5, np.int32), np.asarray(2, np.float32), np.asarray(-1, np.float32)]
    return single("ONE_HOT", shape, result, options("OneHot", axis=axis), values, takes=np.int32)


_FLOAT = np.float32
_FLOATS, _NUMBERS = ((6, 8), np.float32), ((1, 4, 6, 8), np.int32)
_TABLE = np.arange(64, dtype=np.int32).reshape(8, 8)
_ROWS = np.asarray([[1, 1], [0, 0]], np.int32)
_BORDER = np.asarray([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32)


def _slice(begin: Sequence[int], end: Sequence[int], steps: Sequence[int]) -> list[Array]:
    return [ints(*begin), ints(*end), ints(*steps)]


REFUSED: tuple[Refused, ...] = (
    *KINDS,
    Refused("refused_rank_5", single("RELU", (1, 1, 2, 2, 4), (1, 1, 2, 2, 4)), (0, "RELU"), "rank over 4"),
    Refused(
        "refused_int64",
        single("CAST", (1, 8), (1, 8), options("Cast"), made=np.int64),
        (0, "CAST"),
        "type INT64",
    ),
    Refused(
        "refused_no_kernel", single("STABLEHLO_SORT", (1, 8), (1, 8)), (0, "STABLEHLO_SORT"), "Registration failed"
    ),
    Refused("refused_custom", single("CUSTOM", (1, 8), (1, 8), custom="MyOp"), (0, "CUSTOM"), "no custom op 'MyOp'"),
    Refused("refused_constants_alone", constants_alone, (0, "TRANSPOSE"), "TRANSPOSE"),
    Refused("refused_sparse_weights", sparse_weights, (0, "DENSIFY"), "DENSIFY"),
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
        single("PAD", (4, 8), (6, 8), options("Pad"), [_ROWS]),
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
    Refused(
        "refused_select_values",
        mixed("SELECT_V2", [((6, 8), np.bool_), _FLOATS, ((8,), np.float32)], (6, 8), options("SelectV2"), made=_FLOAT),
        (0, "SELECT_V2"),
        "if, else tensors",
    ),
    Refused(
        "refused_prelu_slopes", single("PRELU", (6, 8), (6, 8), None, [draw(1)]), (0, "PRELU"), "Linear alpha shape"
    ),
    Refused(
        "refused_prelu_places",
        single("PRELU", (3, 6, 8), (3, 6, 8), None, [draw(3, 6, 8)]),
        (0, "PRELU"),
        "Alpha shape does not match",
    ),
    Refused(
        "refused_prelu_run_time",
        mixed("PRELU", [_FLOATS, ((8,), _FLOAT)], (6, 8)),
        (0, "PRELU"),
        "PRELU",
    ),
    Refused(
        "refused_gather_scalar",
        single("GATHER", (6, 8), (8,), options("Gather", axis=0), [np.asarray(1, np.int32)]),
        (0, "GATHER"),
        "1D indices",
    ),
    Refused(
        "refused_padv2_rank_2",
        single("PADV2", (4, 8), (6, 8), options("PadV2"), [_ROWS, np.asarray(-3, np.float32)]),
        (0, "PADV2"),
        "paddings tensor shape",
    ),
    Refused(
        "refused_mirror_pad_rank_2",
        single("MIRROR_PAD", (4, 8), (6, 8), options("MirrorPad", mode=0), [_ROWS]),
        (0, "MIRROR_PAD"),
        "paddings tensor shape",
    ),
    Refused(
        "refused_new_axis_mask",
        single(
            "STRIDED_SLICE",
            (4, 8),
            (1, 4, 8),
            options("StridedSlice", newAxisMask=1),
            _slice((0, 0, 0), (1, 4, 8), (1, 1, 1)),
        ),
        (0, "STRIDED_SLICE"),
        "new_axis_mask",
    ),
    Refused(
        "refused_update_slice_start",
        mixed(
            "DYNAMIC_UPDATE_SLICE",
            [((1, 4, 6, 8), _FLOAT), ((1, 2, 3, 4), _FLOAT), ints(0, 1, 2, 3)],
            (1, 4, 6, 8),
            options("DynamicUpdateSlice"),
        ),
        (0, "DYNAMIC_UPDATE_SLICE"),
        "start_indices must be a runtime tensor",
    ),
    Refused("refused_one_hot_axis", one_hot((4,), 0), (0, "ONE_HOT"), "axis must be -1"),
    Refused(
        "refused_add_n",
        mixed("ADD_N", [_FLOATS] * 3, (6, 8), options("AddN")),
        (0, "ADD_N"),
        "ADD_N only supports 2 inputs",
    ),
    Refused(
        "refused_cumsum_int32",
        single("CUMSUM", (6, 8), (6, 8), options("Cumsum"), [np.asarray(1, np.int32)], takes=np.int32, made=np.int32),
        (0, "CUMSUM"),
        "must be float type",
    ),
    Refused(
        "refused_cumsum_axis",
        mixed("CUMSUM", [_FLOATS, ((), np.int32)], (6, 8), options("Cumsum")),
        (0, "CUMSUM"),
        "constant int32",
    ),
    Refused(
        "refused_embedding_int32",
        mixed("EMBEDDING_LOOKUP", [((3,), np.int32), _TABLE], (3, 8), made=np.int32),
        (0, "EMBEDDING_LOOKUP"),
        "Empty quantization params",
    ),
    Refused(
        "refused_add_n_int32",
        mixed("ADD_N", [_NUMBERS] * 2, (1, 4, 6, 8), options("AddN"), made=np.int32),
        (0, "ADD_N"),
        "type INT32",
    ),
    Refused(
        "refused_squared_difference_int32",
        mixed("SQUARED_DIFFERENCE", [_NUMBERS] * 2, (1, 4, 6, 8), options("SquaredDifference"), made=np.int32),
        (0, "SQUARED_DIFFERENCE"),
        "type INT32",
    ),
    Refused("refused_int8_dequantized", int8_dequantized, (1, "FULLY_CONNECTED"), "Shape mismatch"),
    Refused("refused_one_hot_rows", one_hot((3, 4), -1), (0, "ONE_HOT"), "non-singleton dim", "2.1.6"),
    Refused(
        "refused_gather_constant_indices",
        single("GATHER", (6, 8), (4, 8), options("Gather", axis=0), [ints(2, 0, 1, 2)]),
        (0, "GATHER"),
        "BATCH axis",
        "2.2.0",
    ),
    Refused(
        "refused_matmul_transposed_right",
        mixed(
            "BATCH_MATMUL",
            [((3, 6, 8), _FLOAT), ((3, 5, 8), _FLOAT)],
            (3, 6, 5),
            options("BatchMatMul", adjY=True),
        ),
        (0, "BATCH_MATMUL"),
        "Unsupported weights shape",
        "2.1.3",
    ),
    Refused(
        "refused_arg_max_int32",
        single("ARG_MAX", (4, 8), (4,), options("ArgMax", outputType=2), [ints(1)], takes=np.int32, made=np.int32),
        (0, "ARG_MAX"),
        "type INT32",
        "2.2.0",
    ),
    Refused("refused_int8_port", int8_port, (0, "DEQUANTIZE"), "Failed to invoke", "2.1.3"),
)
"""Measured on ai-edge-litert 2.3.0, or on the release that is named."""
