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
    return None


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
    "int64 and ops of constants alone are refused",
    refuses=_words,
)
