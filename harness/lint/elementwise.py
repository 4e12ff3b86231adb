"""Element-wise ops of one run-time operand and one constant: the ops, their operands, and the constant's values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from harness.graph.model import Graph, Model, Op, Tensor
from harness.lint.layout import MAX_RANK
from harness.lint.operands import fixed, operands, stored

ARITHMETIC = ("ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "FLOOR_DIV", "FLOOR_MOD")
COMPARISONS = ("EQUAL", "NOT_EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL")
FLOAT_ONLY = ("POW", "SQUARED_DIFFERENCE", "ATAN2")
LOGICAL = ("LOGICAL_AND", "LOGICAL_OR")


@dataclass(frozen=True)
class Pair:
    """An element-wise op with one run-time operand and one constant. `source` is the tensor that holds the constant's
    values: `constant` itself, or the float16 values behind its DEQUANTIZE, which the delegate reads in its stead."""

    op: Op
    running: Tensor
    constant: Tensor
    source: Tensor
    result_shape: tuple[int, ...]


def pairs(graph: Graph, names: tuple[str, ...]) -> Iterator[Pair]:
    """The ops of these names with one run-time operand and one constant, all shapes static and of rank up to 4.

    A constant that another op than DEQUANTIZE computes is none to the delegate, which refuses such an op.
    """
    for op in graph.ops:
        both = operands(graph, op, names)
        if len(both) != 2:
            continue
        first, second = both
        for running, constant in ((first, second), (second, first)):
            source = stored(graph, constant)
            if source is None or fixed(graph, running) or running.shape is None or constant.shape is None:
                continue
            shape = _broadcast(running.shape, constant.shape)
            if shape is not None and len(shape) <= MAX_RANK:
                yield Pair(op, running, constant, source, shape)


def read_as_float(tensor: Tensor) -> bool:
    """Whether the delegate takes a constant's values as float32: float ones, and 8-bit ones that carry a scale."""
    return tensor.type in ("FLOAT32", "FLOAT16") or (tensor.quantized and tensor.type in ("INT8", "UINT8"))


def differs(model: Model, graph: Graph, tensor: Tensor, axes: tuple[int, ...]) -> bool:
    """Whether the values differ along one of the axes once they are rounded to float16, as the delegate does by
    default.

    Values that cannot be read (sparse, 4 bits, with scales by channel) are not said to differ.
    """
    values = model.constant(tensor.index, graph.subgraph)
    if values is None or (tensor.quantized and not _one_scale(model, graph, tensor)):
        return False
    if values.dtype.kind == "f":
        with np.errstate(over="ignore"):
            values = values.astype(np.float16)
    firsts = tuple(slice(0, 1) if axis in axes else slice(None) for axis in range(values.ndim))
    same = values == values[firsts]
    if values.dtype.kind == "f":
        same |= np.isnan(values) & np.isnan(values[firsts])
    return not bool(same.all())


def _one_scale(model: Model, graph: Graph, tensor: Tensor) -> bool:
    return len(model.root.subgraphs[graph.subgraph].tensors[tensor.index].quantization.scale) == 1


def _broadcast(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...] | None:
    rank = max(len(a), len(b))
    pairs = zip((1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b, strict=True)
    sizes = [{m, n} - {1} for m, n in pairs]
    return tuple(size.pop() if size else 1 for size in sizes) if all(len(size) < 2 for size in sizes) else None
