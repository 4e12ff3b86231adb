"""What float32 arithmetic on a device may cost: every result rounded to 20 bits by the host's own kernels.

A GPU's float32 functions are not correctly rounded, and where two of their results nearly cancel (x - tanh(x) for a
small x) only their rounding is left. The oracle is a graph rewrite, run by the host's plain CPU kernels: after each
float32 result x follow c = 17·x and c - (c - x), which is x rounded to 24 - 4 significant bits (Dekker 1971, splitting
by 2^4 + 1); the unit roundoff of 20 bits is `FLOAT32_ROUNDOFF`.
"""

from __future__ import annotations

from copy import copy

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from harness.core.arrays import TensorIndex
from harness.graph import edit
from harness.graph.model import Model, indices

# Beyond this the product overflows.
LARGEST = float(np.finfo(np.float32).max) / 32
_SPLITTER = np.asarray(2**4 + 1, np.float32)


def oracle(model: Model, beyond: frozenset[TensorIndex] = frozenset()) -> Model:
    """The same graph with every float32 result of subgraph 0 rounded to 20 bits; ports keep names, types and shapes.

    `beyond` lists tensors that are not rounded: those with values over `LARGEST`, infinite or NaN.
    """
    root = copy(model.root)
    root.operatorCodes, root.buffers = list(root.operatorCodes or ()), list(root.buffers)
    root.subgraphs = list(root.subgraphs)
    root.subgraphs[0] = sub = copy(root.subgraphs[0])
    sub.tensors = list(sub.tensors or ())
    multiply, subtract = (edit.operator_code(root.operatorCodes, kind) for kind in ("MUL", "SUB"))
    splitter = edit.constant(root.buffers, sub.tensors, f"{len(sub.tensors)}/splitter", _SPLITTER)
    ops = []
    for op in sub.operators or ():
        op = copy(op)
        ops.append(op)
        for t in indices(op.outputs):
            if sub.tensors[t].type != schema.TensorType.FLOAT32 or t in beyond:
                continue
            # The port's tensor stays the last, so that signatures need no change.
            exact, scaled, rest = (
                edit.like(sub.tensors, t, f"{len(sub.tensors)}/{label}") for label in ("exact", "scaled", "rest")
            )
            op.outputs = np.asarray([exact if o == t else o for o in indices(op.outputs)], np.int32)
            ops.append(edit.operator(multiply, [exact, splitter], [scaled], schema.MulOptionsT()))
            ops.append(edit.operator(subtract, [scaled, exact], [rest], schema.SubOptionsT()))
            ops.append(edit.operator(subtract, [scaled, rest], [t], schema.SubOptionsT()))
    sub.operators = ops
    return Model(root)
