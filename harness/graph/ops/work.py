"""How much arithmetic an op is, from its shapes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.graph.model import Graph, Op


def reduction_length(op: str, shapes: Sequence[tuple[int, ...]], output: tuple[int, ...]) -> int | None:
    """How many products (or terms) make one element of the result, from the shapes of op inputs; None if unknown."""
    if not shapes:
        return None
    if op in ("BATCH_MATMUL", "FULLY_CONNECTED") and len(shapes) > 1:
        # Elements of a times elements of b over elements of the result: each result sums K of a's and K of b's.
        rows = int(np.prod(output[:-1], dtype=np.int64))
        return int(np.prod(shapes[0], dtype=np.int64)) // max(rows, 1)
    if op == "CONV_2D" and len(shapes) > 1:
        return int(np.prod(shapes[1][1:], dtype=np.int64))
    if op in ("MEAN", "SUM"):
        return int(np.prod(shapes[0], dtype=np.int64)) // max(int(np.prod(output, dtype=np.int64)), 1)
    if op == "SOFTMAX":
        return shapes[0][-1]
    return None


def work(graph: Graph, op: Op) -> int:
    """Products (or terms) of all elements of an op's results; one for each element where the op sums nothing, or where
    nobody knows how many."""
    shapes = [graph.tensors[t].shape or () for t in op.inputs if t >= 0]
    total = 0
    for t in op.outputs:
        made = graph.tensors[t]
        total += (made.elements or 0) * (reduction_length(op.name, shapes, made.shape or ()) or 1)
    return total
