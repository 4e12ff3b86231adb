"""What an op reads, as the delegate sees it: run-time tensors and constants."""

from __future__ import annotations

from harness.graph.model import Graph, Op, Tensor


def operands(graph: Graph, op: Op, names: tuple[str, ...]) -> tuple[Tensor, ...]:
    """The operands of an op of one of these names, or none: for another op, one that lacks an operand or the result,
    and one whose operands are all constants, which the delegate refuses."""
    if op.name not in names or min(op.inputs, default=-1) < 0 or not op.outputs or op.index in graph.constant_ops:
        return ()
    return tuple(graph.tensors[t] for t in op.inputs)


def stored(graph: Graph, tensor: Tensor) -> Tensor | None:
    """The tensor whose buffer the delegate reads as this constant, or None for a tensor that is none to it."""
    if tensor.constant:
        return tensor
    maker = graph.producer.get(tensor.index)
    if maker not in graph.constant_ops or graph.ops[maker].name != "DEQUANTIZE":
        return None
    held = graph.tensors[graph.ops[maker].inputs[0]]
    return held if held.constant and held.type == "FLOAT16" else None


def fixed(graph: Graph, tensor: Tensor) -> bool:
    """Whether a tensor's values are in the file, or computed from such alone."""
    return tensor.constant or graph.producer.get(tensor.index) in graph.constant_ops
