"""A planted bug: the pattern of a graph that it shows in, and what comes out there.

A pattern is read off the graph that is to be compiled: kinds of op, shapes, ranks, constants, and, where it depends on
run-time values, ops that look at these while the model runs. Never off a tensor's name or an op's position: a bug shows
wherever its pattern stands, in the untouched model, under taps, in parts cut out and in rewritten models.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from harness.graph.model import Graph, Op
from harness.graph.rebuild import Rebuild

Plant = Callable[[Rebuild, Op], int | None]
"""What an op gives instead of its own result, which is a float32 tensor; None leaves it as it is."""


@dataclass(frozen=True)
class Bug:
    """A bug under a name. `says` is what goes wrong, in a line; `half_only`: right in float32. `plant` changes results,
    `refuses` gives the delegate's words where it does not take an op."""

    name: str
    says: str
    plant: Plant | None = None
    half_only: bool = False
    refuses: Callable[[Graph, Op], str | None] | None = None


def stored_as_half(rebuild: Rebuild, x: int) -> int:
    """Float32 values as float16 keeps them: beyond 65504 infinite, the others to 11 digits."""
    shape = rebuild.shape(x)
    there, back = schema.CastOptionsT(), schema.CastOptionsT()
    there.inDataType = back.outDataType = schema.TensorType.FLOAT32
    there.outDataType = back.inDataType = schema.TensorType.FLOAT16
    half = rebuild.op("CAST", [x], shape, there, dtype=np.float16)
    return rebuild.op("CAST", [half], shape, back, dtype=np.float32)


def where_large(rebuild: Rebuild, x: int, least: float, large: int, small: int) -> int:
    """`large` in a run in which some magnitude of `x` is at least that, else `small`."""
    flat = rebuild.reshape(rebuild.unary("ABS", x), (int(np.prod(rebuild.shape(x))),))
    options = schema.ReducerOptionsT()
    options.keepDims = True
    peak = rebuild.op("REDUCE_MAX", [flat, rebuild.constant(np.zeros(1, np.int32))], (1,), options)
    limit = rebuild.constant(np.asarray([least], np.float32))
    reached = rebuild.op("GREATER_EQUAL", [peak, limit], (1,), schema.GreaterEqualOptionsT(), dtype=np.bool_)
    return rebuild.op(
        "SELECT_V2", [reached, large, small], rebuild.shape(x), schema.SelectV2OptionsT(), dtype=np.float32
    )


def running(rebuild: Rebuild, t: int) -> bool:
    """Whether a tensor is computed or given at run time, not known when the model is compiled."""
    graph = rebuild.graph
    return t >= 0 and not graph.tensors[t].constant and graph.producer.get(t) not in graph.constant_ops
