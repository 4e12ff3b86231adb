"""Kinds of op that the delegate has no kernel for, or does not ask its parser about: each as a graph of one."""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from device_tests.corpus.ops import VALID, ints, options
from device_tests.corpus.refusal import Refused, mixed, single

_NO_BORDER = np.zeros((2, 2), np.int32)
_WINDOW = {"padding": VALID, "strideH": 2, "strideW": 2, "filterHeight": 2, "filterWidth": 2}

KINDS: tuple[Refused, ...] = (
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
    Refused(
        "refused_l2_pool",
        single("L2_POOL_2D", (1, 8, 8, 8), (1, 4, 4, 8), options("Pool2D", **_WINDOW)),
        (0, "L2_POOL_2D"),
        "L2_POOL_2D",
    ),
    Refused(
        "refused_fake_quant",
        single("FAKE_QUANT", (1, 4, 8), (1, 4, 8), options("FakeQuant", min=-2.0, max=2.0, numBits=8)),
        (0, "FAKE_QUANT"),
        "FAKE_QUANT",
    ),
    Refused(
        "refused_space_to_batch",
        single("SPACE_TO_BATCH_ND", (1, 4, 6, 8), (4, 2, 3, 8), options("SpaceToBatchND"), [ints(2, 2), _NO_BORDER]),
        (0, "SPACE_TO_BATCH_ND"),
        "SPACE_TO_BATCH_ND",
    ),
    Refused(
        "refused_batch_to_space",
        single("BATCH_TO_SPACE_ND", (4, 2, 3, 8), (1, 4, 6, 8), options("BatchToSpaceND"), [ints(2, 2), _NO_BORDER]),
        (0, "BATCH_TO_SPACE_ND"),
        "BATCH_TO_SPACE_ND",
    ),
    Refused(
        "refused_reverse_sequence",
        single("REVERSE_SEQUENCE", (3, 8), (3, 8), options("ReverseSequence", seqDim=1), [ints(2, 3, 4)]),
        (0, "REVERSE_SEQUENCE"),
        "REVERSE_SEQUENCE",
    ),
    Refused(
        "refused_segment_sum",
        single("SEGMENT_SUM", (6, 8), (3, 8), options("SegmentSum"), [ints(0, 0, 1, 2, 2, 2)]),
        (0, "SEGMENT_SUM"),
        "size is known only when it runs",
    ),
    Refused(
        "refused_unsorted_segment_sum",
        single(
            "UNSORTED_SEGMENT_SUM",
            (6, 8),
            (3, 8),
            options("UnsortedSegmentSum"),
            [ints(0, 2, 1, 2, 0, 1), np.asarray(3, np.int32)],
        ),
        (0, "UNSORTED_SEGMENT_SUM"),
        "UNSORTED_SEGMENT_SUM",
    ),
    Refused(
        "refused_matrix_diag",
        single("MATRIX_DIAG", (3, 6), (3, 6, 6), options("MatrixDiag")),
        (0, "MATRIX_DIAG"),
        "MATRIX_DIAG",
    ),
    Refused(
        "refused_matrix_set_diag",
        mixed("MATRIX_SET_DIAG", [((3, 6, 6), np.float32), ((3, 6), np.float32)], (3, 6, 6), options("MatrixSetDiag")),
        (0, "MATRIX_SET_DIAG"),
        "MATRIX_SET_DIAG",
    ),
    Refused(
        "refused_sparse_to_dense",
        mixed(
            "SPARSE_TO_DENSE",
            [ints(1, 4, 5), ints(8), ((3,), np.float32), np.asarray(-1, np.float32)],
            (8,),
            options("SparseToDense"),
            made=np.float32,
        ),
        (0, "SPARSE_TO_DENSE"),
        "SPARSE_TO_DENSE",
    ),
    Refused(
        "refused_bitwise_xor",
        mixed("BITWISE_XOR", [((1, 8), np.int32), ((1, 8), np.int32)], (1, 8), options("BitwiseXor"), made=np.int32),
        (0, "BITWISE_XOR"),
        "BITWISE_XOR",
    ),
    Refused(
        "refused_shape",
        single("SHAPE", (1, 8), (2,), options("Shape", outType=schema.TensorType.INT32), made=np.int32),
        (0, "SHAPE"),
        "SHAPE",
    ),
    Refused(
        "refused_fill",
        mixed("FILL", [ints(1, 8), ((), np.float32)], (1, 8), options("Fill"), made=np.float32),
        (0, "FILL"),
        "FILL",
    ),
    Refused(
        "refused_stablehlo_add",
        mixed("STABLEHLO_ADD", [((1, 8), np.float32)] * 2, (1, 8)),
        (0, "STABLEHLO_ADD"),
        "STABLEHLO_ADD",
    ),
    Refused(
        "refused_rfft2d",
        single("RFFT2D", (1, 8, 8), (1, 8, 5), options("Rfft2d"), [ints(8, 8)], made=np.complex64),
        (0, "RFFT2D"),
        "RFFT2D",
    ),
    Refused(
        "refused_bucketize",
        single("BUCKETIZE", (1, 8), (1, 8), options("Bucketize", boundaries=[-1.0, 0.0, 1.0]), made=np.int32),
        (0, "BUCKETIZE"),
        "BUCKETIZE",
    ),
    Refused("refused_relu_0_to_1", single("RELU_0_TO_1", (1, 8), (1, 8)), (0, "RELU_0_TO_1"), "RELU_0_TO_1"),
)
"""Measured on ai-edge-litert 2.3.0."""
