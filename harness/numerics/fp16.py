"""The fp16 oracle: what an ideal device that stores every value as float16 would compute.

Ideal means that each op computes in float32 and only its result is rounded. The oracle is a graph rewrite (a CAST to
FLOAT16 and back after every float32 result, constants rounded in place), run by the host's plain CPU kernels; no op is
modelled by hand. IEEE 754 binary16 has 11 significant bits: unit roundoff 2^-11, largest finite value 65504, smallest
normal 2^-14.
"""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from harness.core.arrays import Array, TensorIndex
from harness.graph import edit
from harness.graph.model import AlignedBuffer, Model, indices
from harness.graph.surgery import drop_unused_buffers

UNIT_ROUNDOFF = 2.0**-11
LARGEST = 65504.0
SMALLEST_NORMAL = 2.0**-14

# A GPU's float32 functions are not correctly rounded: Vulkan allows exp 3 + 2·|x| ulp. 16 ulp covers the common ones.
FLOAT32_ROUNDOFF = 2.0**-20


def oracle(model: Model, beyond: frozenset[TensorIndex] = frozenset(), *, inside: bool = True) -> Model:
    """The same graph with float16 storage: ports keep their names, types and shapes.

    `beyond` lists tensors of subgraph 0 that are not rounded: above all those whose exact values leave float16's range,
    or that the device never holds. Constants out of range are not rounded either: an oracle that overflows like the
    device would excuse every overflow. `inside`: what ops compute in subgraphs of their own is rounded too.
    """
    root = copy(model.root)
    root.operatorCodes = list(root.operatorCodes or ())
    root.buffers = list(root.buffers)
    root.metadata = root.metadataBuffer = None  # facts about the whole file, with buffers of its own
    code = edit.operator_code(root.operatorCodes, "CAST")
    stored: dict[int, int] = {}
    root.subgraphs = [
        _rounded(root, sub, code, stored, frozenset() if i else beyond) if inside or i == 0 else sub
        for i, sub in enumerate(root.subgraphs)
    ]
    drop_unused_buffers(root)  # the constants as they were: a file may hold 2 GB in all
    return Model(root)


def rounded(values: Array) -> Array:
    """Float32 values rounded to float16 and back, except those out of its range; others as they are."""
    if values.dtype != np.float32:
        return values
    with np.errstate(over="ignore"):
        stored = values.astype(np.float16).astype(np.float32)
    return np.where(np.isfinite(stored), stored, values)


def peak(values: Array) -> float:
    """The largest finite magnitude; 0 where there is none."""
    return float(np.max(np.abs(values), initial=0.0, where=np.isfinite(values)))


def perturb(values: Array, roundoff: float, rng: np.random.Generator) -> Array:
    """Float values times (1 + roundoff·ξ), ξ uniform in [-1, 1]; others as they are.

    The response of an op to this tells how well conditioned it is at these inputs: the mean of values that nearly
    cancel moves by far more than the rounding of its own small result (stochastic arithmetic, Vignes 1993).
    """
    if values.dtype != np.float32:
        return values
    noise: Array = np.asarray(rng.random(values.shape, np.float32))
    noise *= np.float32(2 * roundoff)
    noise += np.float32(1 - roundoff)
    noise *= values
    return noise


def _rounded(root: Any, sub: Any, code: int, stored: dict[int, int], beyond: frozenset[TensorIndex]) -> Any:
    sub = copy(sub)
    sub.tensors = [t if i in beyond else _rounded_constant(root, t, stored) for i, t in enumerate(sub.tensors or ())]
    ops = []
    for op in sub.operators or ():
        op = copy(op)
        ops.append(op)
        for t in indices(op.outputs):
            if sub.tensors[t].type != schema.TensorType.FLOAT32 or t in beyond:
                continue
            # The port's tensor stays the last of the three, so that signatures need no change.
            exact = edit.like(sub.tensors, t, f"{len(sub.tensors)}/exact")
            half = edit.like(sub.tensors, t, f"{len(sub.tensors)}/half", schema.TensorType.FLOAT16)
            op.outputs = np.asarray([exact if o == t else o for o in indices(op.outputs)], np.int32)
            ops.append(_cast(code, exact, half, schema.TensorType.FLOAT32, schema.TensorType.FLOAT16))
            ops.append(_cast(code, half, t, schema.TensorType.FLOAT16, schema.TensorType.FLOAT32))
    sub.operators = ops
    return sub


def _rounded_constant(root: Any, table: Any, stored: dict[int, int]) -> Any:
    data = root.buffers[table.buffer].data if table.buffer else None
    if table.type != schema.TensorType.FLOAT32 or data is None or table.sparsity is not None:
        return table
    if len(data) == 0 or len(data) % 4:
        return table
    if table.buffer not in stored:  # tensors may share one
        root.buffers.append(AlignedBuffer(rounded(np.asarray(data, np.uint8).view(np.float32)).view(np.uint8)))
        stored[table.buffer] = len(root.buffers) - 1
    table = copy(table)
    table.buffer = stored[table.buffer]
    return table


def _cast(code: int, source: TensorIndex, target: TensorIndex, before: int, after: int) -> Any:
    options = schema.CastOptionsT()
    options.inDataType, options.outDataType = before, after
    return edit.operator(code, [source], [target], options)
