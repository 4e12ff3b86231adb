"""What an op reads as a constant, as the delegate sees it."""

from __future__ import annotations

from harness.graph.model import Graph, Tensor


def stored(graph: Graph, tensor: Tensor) -> Tensor | None:
    """The tensor whose buffer the delegate reads as this constant, or None for a tensor that is none to it."""
    if tensor.constant:
        return tensor
    maker = graph.producer.get(tensor.index)
    if maker not in graph.constant_ops or graph.ops[maker].name != "DEQUANTIZE":
        return None
    held = graph.tensors[graph.ops[maker].inputs[0]]
    return held if held.constant and held.type == "FLOAT16" else None
