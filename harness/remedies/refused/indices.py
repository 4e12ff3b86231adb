"""GATHER_ND, GATHER and EMBEDDING_LOOKUP as a GATHER by one list of places, which is the form that delegates have."""

from __future__ import annotations

import math

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from harness.core.arrays import Array, TensorIndex
from harness.graph.model import Op
from harness.graph.rebuild import CannotRewrite, Rebuild
from harness.remedies.rank_4 import parameter
from harness.remedies.split_sum import part

# Places in a list that is written into the model.
MOST_PLACES = 1 << 24


def by_one_list(rebuild: Rebuild, op: Op) -> None:
    """A GATHER_ND at constant places; a GATHER whose indices have not rank 1; an EMBEDDING_LOOKUP. Raises
    CannotRewrite."""
    if op.name not in _FORMS:
        raise CannotRewrite("it gathers nothing")
    made = rebuild.on_grid_of(op.outputs[0], _FORMS[op.name](rebuild, op))
    shape = rebuild.shape(op.outputs[0])
    rebuild.replace(op.outputs[0], made if rebuild.shape(made) == shape else rebuild.reshape(made, shape))


def _at_places(rebuild: Rebuild, op: Op) -> TensorIndex:
    """Of GATHER_ND: the leading axes as one, along which neighbours are a SLICE, and others gathered. Places along the
    first axis alone are a list anyway, at run time too."""
    if rebuild.shape(op.inputs[1])[-1:] == (1,) and rebuild.values(op.inputs[1]) is None:
        return _along_first(rebuild, op)
    x, places = op.inputs[0], parameter(rebuild, op.inputs[1]).astype(np.int64)
    shape, depth = rebuild.shape(x), places.shape[-1]
    lead, rest = shape[:depth], shape[depth:]
    flat = places.reshape(-1, depth)
    if not depth or not flat.size or flat.shape[0] > MOST_PLACES or (flat < 0).any() or (flat >= lead).any():
        raise CannotRewrite("its places are none, too many, or beyond its operand")
    found: Array = np.ravel_multi_index(tuple(flat.T), lead)
    rows, view = rebuild.now(x), (math.prod(lead), math.prod(rest))
    rows = rows if shape == view else rebuild.reshape(rows, view)
    first, count = int(found[0]), len(found)
    if (found == np.arange(first, first + count)).all():
        return part(rebuild, rows, 0, first, first + count)
    return rebuild.gather(rows, 0, found.astype(np.int32))


def _along_first(rebuild: Rebuild, op: Op) -> TensorIndex:
    first, *rest = rebuild.shape(op.inputs[0])
    count = math.prod(rebuild.shape(op.inputs[1]))
    rows, view = rebuild.now(op.inputs[0]), (first, math.prod(rest))
    rows = rows if rebuild.shape(rows) == view else rebuild.reshape(rows, view)
    options = schema.GatherOptionsT()
    options.axis = 0
    places = rebuild.reshape(rebuild.now(op.inputs[1]), (count,))
    return rebuild.op("GATHER", [rows, places], (count, view[1]), options)


def _of_rank_1(rebuild: Rebuild, op: Op) -> TensorIndex:
    """Of GATHER: its indices in a row."""
    options, (x, places) = rebuild.options(op), op.inputs[:2]
    if options.batchDims or len(rebuild.shape(places)) == 1:
        raise CannotRewrite("it gathers by one list, or by one for each batch")
    count = math.prod(rebuild.shape(places))
    values = rebuild.values(places)
    row = rebuild.reshape(rebuild.now(places), (count,)) if values is None else rebuild.constant(values.reshape(-1))
    shape = list(rebuild.shape(x))
    shape[options.axis % len(shape)] = count
    return rebuild.like(op, [x, row], shape=shape, options=options)


def _looked_up(rebuild: Rebuild, op: Op) -> TensorIndex:
    """Of EMBEDDING_LOOKUP: rows of its table."""
    places, table = op.inputs
    kinds = [rebuild.graph.tensors[t] for t in (table, op.outputs[0])]
    if kinds[0].type != kinds[1].type or kinds[0].grid != kinds[1].grid or len(rebuild.shape(places)) != 1:
        raise CannotRewrite("its table is unpacked on the way, or its places are no list")
    options = schema.GatherOptionsT()
    options.axis = 0
    return rebuild.op("GATHER", [table, places], rebuild.shape(op.outputs[0]), options)


_FORMS = {"GATHER_ND": _at_places, "GATHER": _of_rank_1, "EMBEDDING_LOOKUP": _looked_up}
