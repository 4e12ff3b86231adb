"""64-bit integers inside a model as 32-bit ones.

Converters compute indices in 64 bits, and no GPU has these. 32 bits give the same wherever the values fit, which is
proven from the graph (`harness.graph.ops.interval`): an ARG_MAX gives an index of its axis, a CAST of 32 bits no more.
Sums, differences and products need no proof where only their low 32 bits are asked for: as an index, which is within an
axis, or by a CAST to 32 bits; they are right modulo 2^32 whatever came in between.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from harness.core.arrays import OpIndex, TensorIndex
from harness.graph.model import Model, Op
from harness.graph.ops.interval import Ranges
from harness.graph.rebuild import CannotRewrite, Rebuild
from harness.remedies.rank_4 import parameter

_LONG = "INT64"
_LEAST, _MOST = -(2**31), 2**31 - 1
# The low 32 bits of these results follow from those of their operands.
_MODULAR = frozenset((
    "RESHAPE", "TRANSPOSE", "SLICE", "STRIDED_SLICE", "SQUEEZE", "EXPAND_DIMS", "CONCATENATION", "PACK", "UNPACK",
    "TILE", "BROADCAST_TO", "SELECT", "SELECT_V2", "ADD", "SUB", "MUL", "NEG", "SUM", "GATHER", "GATHER_ND",
    "EMBEDDING_LOOKUP",
))  # fmt: skip
# These take a whole number as it is.
_EXACT = frozenset((
    "CAST", "MAXIMUM", "MINIMUM", "FLOOR_DIV", "FLOOR_MOD", "EQUAL", "NOT_EQUAL", "LESS", "LESS_EQUAL", "GREATER",
    "GREATER_EQUAL", "REDUCE_MAX", "REDUCE_MIN", "ABS", "ARG_MAX", "ARG_MIN", "ONE_HOT", "SHAPE",
))  # fmt: skip
_SAME_VALUES = frozenset(("RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE", "SLICE", "STRIDED_SLICE"))
# Integers to which a CAST keeps the low bits.
_SHORTER = frozenset(("INT32", "UINT32", "INT16", "UINT16", "INT8", "UINT8"))
# Axes, sizes and places of these are parameters, which may be of 64 bits anywhere.
_PARAMETERS = {
    "RESHAPE": slice(1, 2),
    "TRANSPOSE": slice(1, 2),
    "SLICE": slice(1, 3),
    "STRIDED_SLICE": slice(1, 4),
    "BROADCAST_TO": slice(1, 2),
    "TILE": slice(1, 2),
}


def in_32_bits(model: Model, ops: frozenset[OpIndex], peaks: Mapping[TensorIndex, float]) -> Model:
    """The model with the 64-bit integers that `ops` read or make, and all that hang together with them, in 32 bits.
    `peaks` is not used.

    Raises:
        CannotRewrite: there are none, an input or output of the model is among them, or one may not fit.
    """
    rebuild = Rebuild(model)
    graph = rebuild.graph
    chosen = _together(rebuild, ops)
    ranges = Ranges(model, graph)
    for op in graph.ops:
        if chosen.intersection((*op.inputs, *op.outputs)):
            _check(rebuild, op, chosen, ranges)
    for t in chosen:
        rebuild.retype(t, np.int32)
    for op in graph.ops:
        _pass_on(rebuild, op, chosen, asked=op.index in ops)
    return rebuild.finish()


def _together(rebuild: Rebuild, ops: frozenset[OpIndex]) -> frozenset[TensorIndex]:
    """The 64-bit tensors of the ops, and those that other ops than CAST have in common with them."""
    graph = rebuild.graph
    ports = {port.tensor: port.name for port in (*graph.inputs, *graph.outputs)}
    edge = [t for o in ops for t in _computed(rebuild, graph.ops[o])]
    found: set[TensorIndex] = set()
    while edge:
        t = edge.pop()
        if t in found:
            continue
        if t in ports:
            raise CannotRewrite(f"'{ports[t]}', an input or output of the model, has 64 bits")
        found.add(t)
        for o in {graph.producer[t], *graph.consumers.get(t, ())}:
            edge += _computed(rebuild, graph.ops[o])
    if not found and not any(_constant_places(rebuild, graph.ops[o]) for o in ops):
        raise CannotRewrite("it has no 64-bit integers but parameters")
    return frozenset(found)


def _computed(rebuild: Rebuild, op: Op) -> list[TensorIndex]:
    """An op's 64-bit tensors that are computed or given at run time."""
    graph = rebuild.graph
    running = {*graph.producer, *(port.tensor for port in graph.inputs)}
    return [t for t in (*op.inputs, *op.outputs) if t in running and graph.tensors[t].type == _LONG]


def _constant_places(rebuild: Rebuild, op: Op) -> bool:
    """Whether an op gathers at constant places of 64 bits."""
    if op.name not in ("GATHER", "GATHER_ND") or rebuild.graph.tensors[op.inputs[1]].type != _LONG:
        return False
    return rebuild.values(op.inputs[1]) is not None


def _check(rebuild: Rebuild, op: Op, chosen: frozenset[TensorIndex], ranges: Ranges) -> None:
    """Raises CannotRewrite for an op that may give something else in 32 bits."""
    graph = rebuild.graph
    if op.name not in _MODULAR | _EXACT:
        raise CannotRewrite(f"{op.name} #{op.index} is not known to take 32 bits instead")
    if op.name in _MODULAR:
        return
    if op.name == "CAST":
        kinds = [graph.tensors[t].type for t in (op.inputs[0], op.outputs[0])]
        if kinds[0] == _LONG and kinds[1] in _SHORTER:
            return
        if kinds[1] == _LONG and _only_places(rebuild, op.outputs[0]):
            return
    asked = [t for t in (*op.inputs, *op.outputs) if t >= 0 and graph.tensors[t].type == _LONG]
    if op.name == "CAST" and op.outputs[0] in chosen:
        asked = [op.outputs[0]]
    for t in asked:
        least, most = ranges.of(t)
        if least < _LEAST or most > _MOST:
            raise CannotRewrite(f"nothing proves that '{graph.tensors[t].name}' fits into 32 bits")


def _only_places(rebuild: Rebuild, t: TensorIndex) -> bool:
    """Whether a tensor is read as indices alone, as it is or in another shape: one that does not fit is beyond any
    axis."""
    graph, left = rebuild.graph, [t]
    while left:
        t = left.pop()
        for o in graph.consumers.get(t, ()):
            op = graph.ops[o]
            if op.name in _SAME_VALUES and op.inputs[0] == t:
                left += op.outputs
            elif not (op.name in ("GATHER", "GATHER_ND") and op.inputs[1] == t and op.inputs[0] != t):
                return False
    return True


def _pass_on(rebuild: Rebuild, op: Op, chosen: frozenset[TensorIndex], *, asked: bool) -> None:
    """Copy an op, its 64-bit constants and its stated types in 32 bits where it is among those."""
    if asked and _constant_places(rebuild, op):
        rebuild.keep(op, {op.inputs[1]: _fitting(rebuild, op.inputs[1])})
        return
    if not chosen.intersection((*op.inputs, *op.outputs)):
        rebuild.keep(op)
        return
    graph, options = rebuild.graph, rebuild.options(op)
    if op.name == "CAST":
        kinds = [graph.tensors[t].type for t in (op.inputs[0], op.outputs[0])]
        if set(kinds) <= {_LONG, "INT32"}:
            rebuild.replace(op.outputs[0], _apart(rebuild, rebuild.now(op.inputs[0]), op.outputs[0]))
            return
        options = options or schema.CastOptionsT()
        options.inDataType, options.outDataType = (
            getattr(schema.TensorType, "INT32" if kind == _LONG else kind) for kind in kinds
        )
    for stated in ("outputType", "outType"):
        if hasattr(options, stated) and op.outputs[0] in chosen:
            setattr(options, stated, schema.TensorType.INT32)
    kept = op.inputs[_PARAMETERS[op.name]] if op.name in _PARAMETERS else ()
    feeds = [t if t in kept else _short(rebuild, t) for t in op.inputs]
    rebuild.like(op, feeds, outputs=op.outputs, options=options)


def _apart(rebuild: Rebuild, x: TensorIndex, made: TensorIndex) -> TensorIndex:
    """What stands for `made`: x itself, or a copy where both are inputs or outputs of the model, which are tensors of
    their own."""
    ports = {port.tensor for port in (*rebuild.graph.inputs, *rebuild.graph.outputs)}
    taken = {rebuild.now(t) for t in ports - {made}}
    return rebuild.reshape(x, rebuild.shape(x)) if made in ports and x in taken else x


def _short(rebuild: Rebuild, t: TensorIndex) -> TensorIndex:
    """A 64-bit constant in 32 bits: its low ones, which is itself where it fits."""
    values = rebuild.values(t) if t >= 0 and rebuild.graph.tensors[t].type == _LONG else None
    if values is None:
        return t
    return rebuild.constant(values.astype(np.int32))


def _fitting(rebuild: Rebuild, t: TensorIndex) -> TensorIndex:
    """A 64-bit constant in 32 bits. Raises CannotRewrite where a value does not fit."""
    values = parameter(rebuild, t)
    if values.size and (values.min() < _LEAST or values.max() > _MOST):
        raise CannotRewrite("a constant place does not fit into 32 bits")
    return rebuild.constant(values.astype(np.int32))
