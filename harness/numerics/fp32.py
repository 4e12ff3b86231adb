"""What float32 arithmetic on a device may cost: every result rounded to 20 bits by the host's own kernels.

A GPU's float32 functions are not correctly rounded, and where two of their results nearly cancel (x - tanh(x) for a
small x) only their rounding is left. The oracle is a graph rewrite, run by the host's plain CPU kernels: after each
float32 result x follow c = 17·x and c - (c - x), which is x rounded to 24 - 4 significant bits (Dekker 1971, splitting
by 2^4 + 1); the unit roundoff of 20 bits is `FLOAT32_ROUNDOFF`.
"""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from harness.graph.model import AlignedBuffer, Model, indices

# Beyond this the product overflows.
LARGEST = float(np.finfo(np.float32).max) / 32
_SPLITTER = np.float32(2**4 + 1)


def oracle(model: Model, beyond: frozenset[int] = frozenset()) -> Model:
    """The same graph with every float32 result of subgraph 0 rounded to 20 bits; ports keep names, types and shapes.

    `beyond` lists tensors that are not rounded: those with values over `LARGEST`, infinite or NaN.
    """
    root = copy(model.root)
    root.operatorCodes, root.buffers = list(root.operatorCodes or ()), list(root.buffers)
    root.subgraphs = list(root.subgraphs)
    root.subgraphs[0] = sub = copy(root.subgraphs[0])
    sub.tensors = list(sub.tensors or ())
    multiply, subtract = (_code(root, kind) for kind in ("MUL", "SUB"))
    splitter = _constant(root, sub)
    ops = []
    for op in sub.operators or ():
        op = copy(op)
        ops.append(op)
        for t in indices(op.outputs):
            if sub.tensors[t].type != schema.TensorType.FLOAT32 or t in beyond:
                continue
            # The port's tensor stays the last, so that signatures need no change.
            exact, scaled, rest = (_like(sub, t, label) for label in ("exact", "scaled", "rest"))
            op.outputs = np.asarray([exact if o == t else o for o in indices(op.outputs)], np.int32)
            ops.append(_op(multiply, [exact, splitter], scaled, "MulOptions"))
            ops.append(_op(subtract, [scaled, exact], rest, "SubOptions"))
            ops.append(_op(subtract, [scaled, rest], t, "SubOptions"))
    sub.operators = ops
    return Model(root)


def _like(sub: Any, tensor: int, label: str) -> int:
    table = copy(sub.tensors[tensor])
    table.name = f"{len(sub.tensors)}/{label}"
    sub.tensors.append(table)
    return len(sub.tensors) - 1


def _constant(root: Any, sub: Any) -> int:
    root.buffers.append(AlignedBuffer(np.frombuffer(_SPLITTER.tobytes(), np.uint8)))
    table = schema.TensorT()
    table.name, table.type, table.hasRank = f"{len(sub.tensors)}/splitter", schema.TensorType.FLOAT32, True
    table.shape, table.buffer = np.asarray([], np.int32), len(root.buffers) - 1
    sub.tensors.append(table)
    return len(sub.tensors) - 1


def _code(root: Any, kind: str) -> int:
    table = schema.OperatorCodeT()
    number = getattr(schema.BuiltinOperator, kind)
    table.builtinCode, table.deprecatedBuiltinCode, table.version = number, min(number, 127), 1
    root.operatorCodes.append(table)
    return len(root.operatorCodes) - 1


def _op(code: int, inputs: list[int], output: int, options: str) -> Any:
    op = schema.OperatorT()
    op.opcodeIndex = code
    op.inputs, op.outputs = np.asarray(inputs, np.int32), np.asarray([output], np.int32)
    op.builtinOptionsType = getattr(schema.BuiltinOptions, options)
    op.builtinOptions = getattr(schema, f"{options}T")()
    return op
