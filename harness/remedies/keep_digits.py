"""The same value by a way on which no digits cancel.

1 - LOGISTIC(x) is LOGISTIC(-x): float16 holds 1e-5 to three digits, and 1 - 1e-5 not at all. A difference of two
multiples of one tensor is a multiple of it by the difference of the factors, which is computed here and not on the
device. Both are exact in real arithmetic.
"""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from harness.core.arrays import TensorIndex
from harness.graph.model import Op
from harness.graph.rebuild import CannotRewrite, Rebuild


def complement(rebuild: Rebuild, op: Op) -> None:
    """1 - LOGISTIC(x) as LOGISTIC(-x)."""
    _plain(rebuild, op)
    one = rebuild.values(op.inputs[0])
    maker = rebuild.graph.producer.get(op.inputs[1])
    source = None if maker is None else rebuild.graph.ops[maker]
    if op.name != "SUB" or one is None or not (one == 1).all() or source is None or source.name != "LOGISTIC":
        raise CannotRewrite("it is not 1 - LOGISTIC(x)")
    if rebuild.shape(op.inputs[1]) != rebuild.shape(op.outputs[0]):
        raise CannotRewrite("its result is broadcast")
    rebuild.replace(op.outputs[0], rebuild.unary("LOGISTIC", rebuild.unary("NEG", source.inputs[0])))


def factored(rebuild: Rebuild, op: Op) -> None:
    """x·a - x·b as x·(a - b), and x·a + x·b as x·(a + b), for constants a and b; 1 where one of them is bare x."""
    _plain(rebuild, op)
    if op.name not in ("ADD", "SUB"):
        raise CannotRewrite("it is no sum of two multiples of one tensor")
    (x, a), (y, b) = (_multiple(rebuild, t) for t in op.inputs)
    if x != y:
        raise CannotRewrite("its operands are no multiples of one tensor")
    total = a + b if op.name == "ADD" else a - b
    made = rebuild.binary("MUL", rebuild.now(x), rebuild.constant(total.astype(np.float32)))
    rebuild.replace(op.outputs[0], made)


def _multiple(
    rebuild: Rebuild, t: TensorIndex
) -> tuple[TensorIndex, np.ndarray[tuple[int, ...], np.dtype[np.float64]]]:
    """(x, c) of a tensor that is x·c with a constant c; itself times 1 otherwise."""
    maker = rebuild.graph.producer.get(t)
    op = None if maker is None else rebuild.graph.ops[maker]
    if op is not None and op.name == "MUL":
        _plain(rebuild, op)
        for x, factor in (op.inputs, op.inputs[::-1]):
            values = rebuild.values(factor)
            if values is not None and rebuild.values(x) is None:
                return x, np.asarray(values, np.float64)
    return t, np.ones(1)


def _plain(rebuild: Rebuild, op: Op) -> None:
    fused = getattr(rebuild.options(op), "fusedActivationFunction", schema.ActivationFunctionType.NONE)
    if fused != schema.ActivationFunctionType.NONE:
        raise CannotRewrite(f"{op.name} #{op.index} has a fused activation")
