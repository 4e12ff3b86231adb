"""Ops that phones refuse and desktops take, in the words of the delegate's own list."""

from __future__ import annotations

from harness.devices.planted.bug import Bug
from harness.graph.model import Graph, Op

NOT_SUPPORTED = "Operation is not supported."
BY_NAME = {
    "TRANSPOSE_CONV": NOT_SUPPORTED,
    "PADV2": NOT_SUPPORTED,
    "GATHER_ND": NOT_SUPPORTED,
    "TOPK_V2": NOT_SUPPORTED,
    "BROADCAST_TO": NOT_SUPPORTED,
    "EMBEDDING_LOOKUP": "Empty quantization params",
    "IF": NOT_SUPPORTED,
    "WHILE": NOT_SUPPORTED,
}
MOST_RANK = 4


def _words(graph: Graph, op: Op) -> str | None:
    """Why an op is refused; None where it is taken."""
    if op.index in graph.constant_ops:
        return None if op.name == "DEQUANTIZE" else _of_constants(op)
    if op.name in BY_NAME:
        return BY_NAME[op.name]
    for t in (*op.inputs, *op.outputs):
        tensor = graph.tensors[t] if t >= 0 else None
        if tensor is None or tensor.constant:
            continue
        if len(tensor.shape or ()) > MOST_RANK:
            return f"Tensor dimensions must be less than 5. {tensor.name}"
        if tensor.type == "INT64":
            return f"Tensor type(INT64) is not supported. {tensor.name}"
    return NOT_SUPPORTED if _behind_a_layer(graph, op) else None


def _behind_a_layer(graph: Graph, op: Op) -> bool:
    """Whether a FULLY_CONNECTED of rank 2 is multiplied by a constant [1, 1, C], or a quantized one of rank 3 is added
    to."""
    if op.name not in ("MUL", "ADD"):
        return False
    layers = [t for t in op.inputs if t in graph.producer and graph.ops[graph.producer[t]].name == "FULLY_CONNECTED"]
    shapes = [graph.tensors[t].shape or () for t in layers]
    if op.name == "ADD":
        quantized = [graph.tensors[t].type == "INT8" for t in layers]
        return any(int8 and len(shape) == 3 for int8, shape in zip(quantized, shapes, strict=True))
    scales = [graph.tensors[t].shape or () for t in op.inputs if t >= 0 and graph.tensors[t].constant]
    return any(len(shape) == 2 for shape in shapes) and any(
        len(shape) == 3 and shape[:2] == (1, 1) and shape[2] > 1 for shape in scales
    )


def _of_constants(op: Op) -> str:
    if op.name == "CONV_2D":
        return "input must be a runtime tensor"
    count = sum(t >= 0 for t in op.inputs)
    if count == 1:
        return "Expected 1 runtime input tensor(s), but node has 0 runtime input(s)"
    return f"Expected {count - 1} const input tensor(s), but node has {count} const input(s)"


REFUSALS = Bug(
    "refusals",
    f"{', '.join(name for name in BY_NAME if name not in ('IF', 'WHILE'))}, control flow, rank over {MOST_RANK}, "
    "int64, ops of constants alone, a factor [1, 1, C] behind a layer of rank 2, and a sum behind a quantized layer of "
    "rank 3 are refused",
    refuses=_words,
)
