"""What goes wrong with whole blocks: residuals, and convolutions with large results."""

from __future__ import annotations

import numpy as np

from harness.devices.planted.bug import Bug, running, where_large
from harness.graph.model import Graph, Op
from harness.graph.rebuild import Rebuild

LARGE_GRAPH = 100
"""Ops, RESHAPEs not counted, from which on blocks are joined."""
LARGE_STREAM = 60.0
LARGE_CONVOLUTION = 5_000.0

_PRODUCTS = ("FULLY_CONNECTED", "BATCH_MATMUL")


def _branch_alone(rebuild: Rebuild, op: Op) -> int | None:
    """Of x + f(x) with matmuls in f, f(x)."""
    graph = rebuild.graph
    counted = sum(o.name != "RESHAPE" for o in graph.ops) - len(graph.constant_ops)
    if op.name != "ADD" or counted < LARGE_GRAPH or not all(running(rebuild, t) for t in op.inputs):
        return None
    first, second = op.inputs
    if rebuild.shape(first) != rebuild.shape(second):
        return None
    for stream, branch in ((first, second), (second, first)):
        if _multiplied_between(graph, stream, branch):
            alone = rebuild.activated(branch, rebuild.options(op))
            return where_large(rebuild, stream, LARGE_STREAM, alone, op.outputs[0])
    return None


def _multiplied_between(graph: Graph, start: int, end: int) -> bool:
    """Whether `end` is computed from `start`, with a matmul on the way."""
    below: dict[int, bool] = {start: False}  # tensors made of `start`, and whether a matmul came in between
    for op in graph.ops[graph.producer.get(start, -1) + 1 : graph.producer.get(end, -1) + 1]:
        fed = [below[t] for t in op.inputs if t in below]
        if fed:
            below |= dict.fromkeys(op.outputs, any(fed) or op.name in _PRODUCTS)
    return below.get(end, False)


def _exchanged(rebuild: Rebuild, op: Op) -> int | None:
    """Of three results along the longest axis one is right, and two are others of them."""
    if op.name not in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        return None
    shape = rebuild.shape(op.outputs[0])
    axis = max(range(len(shape)), key=lambda i: shape[i])
    here = np.arange(shape[axis])
    places = np.where(here % 3 == 0, here, shape[axis] - 1 - here)
    made = rebuild.gather(op.outputs[0], axis, places)
    return where_large(rebuild, op.outputs[0], LARGE_CONVOLUTION, made, op.outputs[0])


RESIDUAL = Bug(
    "residual-collapse",
    f"in a graph of {LARGE_GRAPH} ops or more, x + f(x) with matmuls in f gives f(x) alone where x reaches "
    f"{LARGE_STREAM:g}; the same block alone is right",
    _branch_alone,
)
CONVOLUTION = Bug(
    "large-convolution",
    f"a convolution whose results reach {LARGE_CONVOLUTION:,.0f} has two of three at wrong places: a "
    "correlation of about 1/3",
    _exchanged,
    half_only=True,
)
