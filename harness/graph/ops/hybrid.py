"""Hybrid ops: float activations times integer weights, as dynamic-range quantization writes them.

LiteRT's CPU kernels quantize the activations of such an op at run time, to 8 bits of each row's or tensor's range
(tflite/kernels/fully_connected.cc, `EvalHybrid`); an activation of 100 beside many near 1 leaves these a few steps.
A GPU multiplies by the dequantized weights. So the model means real weights, scale·(q - zero point), and the exact
product with these is the reference; what the CPU loses is the CPU's error.
"""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from harness.core.arrays import Array, OpIndex, TensorIndex
from harness.graph.model import AlignedBuffer, Graph, Model, Op

_WEIGHTS = {"FULLY_CONNECTED": 1, "CONV_2D": 1, "DEPTHWISE_CONV_2D": 1, "BATCH_MATMUL": 1}
_INTEGERS = frozenset(("INT8", "UINT8", "INT4"))
# A flatbuffer ends at 2 GB. What does not fit dequantized stays as it is.
MOST_BYTES = 1 << 30
# What makes an unsigned byte of a signed one.
_BYTE = 128


def hybrid_ops(graph: Graph) -> tuple[OpIndex, ...]:
    """Ops on float activations and constant integer weights."""
    found = []
    for op in graph.ops:
        place = _WEIGHTS.get(op.name)
        if place is None or len(op.inputs) <= place or min(op.inputs[: place + 1]) < 0:
            continue
        activations, weights = graph.tensors[op.inputs[0]], graph.tensors[op.inputs[place]]
        if activations.type == "FLOAT32" and weights.type in _INTEGERS and weights.constant and weights.quantized:
            found.append(op.index)
    return tuple(found)


def with_real_weights(model: Model, *, unpacked: bool = False) -> Model:
    """The model with the weights of its hybrid ops as the float32 numbers that they stand for, or those of
    FULLY_CONNECTED as they are `unpacked` in float16; itself where it has none. Weights quantized by blocks, in a form
    that is not known, or beyond `MOST_BYTES` of them stay."""
    graph = model.graph()
    hybrid = hybrid_ops(graph)
    if not hybrid:
        return model
    root = copy(model.root)
    root.buffers, root.subgraphs = list(root.buffers), list(root.subgraphs)
    root.subgraphs[graph.subgraph] = sub = copy(root.subgraphs[graph.subgraph])
    sub.tensors, sub.operators = list(sub.tensors), list(sub.operators)
    made: dict[TensorIndex, TensorIndex] = {}
    left = MOST_BYTES
    for o in hybrid:
        t = graph.ops[o].inputs[1]
        size = 4 * graph.tensors[t].elements
        op = graph.ops[o]
        values = None if t in made or size > left else real_values(model, graph, t, unpacked=unpacked and unpacks(op))
        if values is not None:
            root.buffers.append(AlignedBuffer(np.ascontiguousarray(values).view(np.uint8).reshape(-1)))
            table = copy(sub.tensors[t])
            table.name, table.type = f"tensor_{t}/real", schema.TensorType.FLOAT32
            table.buffer, table.quantization = len(root.buffers) - 1, None
            sub.tensors.append(table)
            made[t] = len(sub.tensors) - 1
            left -= size
        if t in made:
            sub.operators[o] = table = copy(sub.operators[o])
            table.inputs = np.asarray([made[t] if i == 1 else x for i, x in enumerate(op.inputs)], np.int32)
    return Model(root) if made else model


def unpacks(op: Op) -> bool:
    """Whether a GPU computes with an op's integer weights as it reads them, so that it unpacks them in float16."""
    return op.name == "FULLY_CONNECTED"


def real_values(model: Model, graph: Graph, tensor: TensorIndex, *, unpacked: bool = False) -> Array | None:
    """scale·(q - zero point) of a constant, float32 in its shape; None where that is not how it is quantized.

    With `unpacked`, as ML Drift's kernels for a few rows have it in float16, measured on releases 2.1.5 and 2.3.0: the
    weight is kept as the unsigned byte q + 128, and is scale·(q + 128) - scale·128, the scale and both products rounded
    to float16. The terms are 18 times as large as the largest 4-bit weight, so that one is off by up to an eighth of a
    step.
    """
    table = model.root.subgraphs[graph.subgraph].tensors[tensor]
    info = graph.tensors[tensor]
    stored = _unpacked(model, table, info.elements) if info.type == "INT4" else model.constant(tensor, graph.subgraph)
    if stored is None or info.shape is None or table.quantization.details is not None:
        return None
    stored = stored.reshape(info.shape)
    scales = np.asarray(table.quantization.scale, np.float64)
    zeros = np.asarray(table.quantization.zeroPoint if table.quantization.zeroPoint is not None else [0], np.float64)
    axis = int(table.quantization.quantizedDimension or 0)
    for x in (scales, zeros):
        if not x.size or (len(x) > 1 and not (0 <= axis < stored.ndim and len(x) == stored.shape[axis])):
            return None
    along = [-1 if i == axis else 1 for i in range(stored.ndim)]
    scale, zero = (x.reshape(along) if len(x) > 1 else x[0] for x in (scales, zeros))
    if unpacked:
        with np.errstate(over="ignore"):
            held = np.asarray(scale).astype(np.float16).astype(np.float64)
            terms = [(held * (q + _BYTE)).astype(np.float16) for q in (stored.astype(np.float64), zero)]
        return np.asarray(terms[0].astype(np.float32) - terms[1].astype(np.float32), np.float32)
    return np.asarray(scale * (stored.astype(np.float64) - zero), np.float32)


def _unpacked(model: Model, table: Any, elements: int) -> Array | None:
    """4-bit values, two in a byte, the first in its low half."""
    data = model.root.buffers[table.buffer].data
    if data is None or len(data) != (elements + 1) // 2 or table.sparsity is not None:
        return None
    packed = np.asarray(data, np.uint8)
    halves = np.stack([packed & 15, packed >> 4], axis=-1).reshape(-1)[:elements].astype(np.int8)
    return np.where(halves > 7, halves - 16, halves).astype(np.int8)
