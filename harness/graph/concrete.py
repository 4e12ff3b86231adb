"""Static shapes for a model whose file leaves some open: which inputs are open, and the model with shapes written in.

A converter writes an open dimension as -1 into `shape_signature` and a size that it may have, mostly 1, into `shape`:
the size at which the runtime starts. Nothing here runs anything; who knows the shapes of the rest of the graph hands
them in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

import numpy as np

from harness.core.arrays import TensorIndex
from harness.core.errors import UsageError
from harness.core.visible import counted
from harness.graph.model import Graph, Model, Port, Tensor, indices

Shape = tuple[int, ...]


def stored_shape(model: Model, tensor: TensorIndex) -> Shape | None:
    """The shape that the file starts a tensor of the first signature at, or None where it gives none."""
    raw = model.root.subgraphs[model.graph().subgraph].tensors[tensor]
    shape = indices(raw.shape)
    return None if raw.shape is None or any(d < 0 for d in shape) else shape


def declared_shape(model: Model, tensor: TensorIndex) -> list[int]:
    """The shape as the file means it: -1 for an open dimension."""
    raw = model.root.subgraphs[model.graph().subgraph].tensors[tensor]
    return list(indices(raw.shape if raw.shapeSignature is None else raw.shapeSignature))


def open_tensors(model: Model) -> tuple[TensorIndex, ...]:
    """Tensors of the first signature that some op or port uses and whose shape the file leaves open: by a negative
    dimension, or by saying nothing of a result that an op makes."""
    graph = model.graph()
    raw = model.root.subgraphs[graph.subgraph].tensors
    ports = {port.tensor for port in (*graph.inputs, *graph.outputs)}
    made = {t for op in graph.ops for t in op.outputs}
    used = ports | made | {t for op in graph.ops for t in op.inputs if t >= 0}
    found = []
    for tensor in graph.tensors:
        if tensor.index not in used or tensor.constant:
            continue
        # A scalar says that it has a rank; files from before that field say so of no tensor.
        silent = tensor.shape == () and not raw[tensor.index].hasRank and tensor.index in made
        if tensor.shape is None or silent:
            found.append(tensor.index)
    return tuple(found)


def starting_shapes(model: Model, asked: Mapping[str, Sequence[int]]) -> dict[str, Shape]:
    """The shape of each input that is open or in `asked`: what is asked for, else what the file stores.

    Raises:
        UsageError: `asked` names no input, gives another rank than the file or a size below 1, or an open input has no
            stored shape and none is asked for.
    """
    graph = model.graph()
    known = {port.name: port for port in graph.inputs}
    for name, shape in asked.items():
        if name not in known:
            raise UsageError(f"--shape names '{name}', which is no input.", f"The inputs are: {', '.join(known)}.")
        _check_asked(known[name], tuple(shape), declared_shape(model, known[name].tensor))
    unknown = set(open_tensors(model))
    shapes: dict[str, Shape] = {}
    for port in graph.inputs:
        if port.name in asked:
            shapes[port.name] = tuple(int(d) for d in asked[port.name])
        elif port.tensor in unknown:
            stored = stored_shape(model, port.tensor)
            if stored is None:
                declared = declared_shape(model, port.tensor)
                raise UsageError(
                    f"Input '{port.name}' has shape {declared or 'unknown'} in the file, which stores no size to run "
                    "at.",
                    f"Give one: --shape {port.name}={','.join(str(max(d, 1)) for d in declared) or '1,…'}.",
                )
            shapes[port.name] = stored
    return shapes


def _check_asked(port: Port, asked: Shape, declared: list[int]) -> None:
    """A size that the file has fixed may be asked for anew: whether the graph follows, the runtime says."""
    if declared and len(asked) != len(declared):
        raise UsageError(
            f"--shape gives input '{port.name}' {list(asked)}, the file has {declared}.",
            f"Give {counted(len(declared), 'size')}.",
        )
    if min(asked, default=1) < 1:
        raise UsageError(f"--shape gives input '{port.name}' {list(asked)}.", "Give sizes of 1 or more.")


def startable(model: Model) -> Model:
    """The model with 1 for each negative size that it stores, which the runtime would refuse before it can be told; the
    dimension stays open, for the runtime believes a size that is not."""
    tensors = model.root.subgraphs[model.graph().subgraph].tensors
    changed = {}
    for t in open_tensors(model):
        declared = indices(tensors[t].shape)
        if min(declared, default=0) < 0:
            changed[t] = table = copy(tensors[t])
            table.shape = np.asarray([max(d, 1) for d in declared], np.int32)
            table.shapeSignature = np.asarray(declared, np.int32)
    return _with_tensors(model, changed) if changed else model


def with_shapes(model: Model, shapes: Mapping[TensorIndex, Shape]) -> Model:
    """The model with the shapes of these tensors of the first signature written in, and no dimension open in them."""
    tensors = model.root.subgraphs[model.graph().subgraph].tensors
    changed = {}
    for t, shape in shapes.items():
        changed[t] = table = copy(tensors[t])
        table.shape, table.shapeSignature, table.hasRank = np.asarray(shape, np.int32), None, True
    return _with_tensors(model, changed)


def _with_tensors(model: Model, changed: Mapping[TensorIndex, Any]) -> Model:
    root = copy(model.root)
    root.subgraphs = list(root.subgraphs)
    at = model.graph().subgraph
    root.subgraphs[at] = sub = copy(root.subgraphs[at])
    sub.tensors = [changed.get(t, table) for t, table in enumerate(sub.tensors)]
    return Model(root, model.path)


def still_open(
    graph: Graph, shapes: Mapping[TensorIndex, Shape | None], wanted: Sequence[TensorIndex]
) -> Tensor | None:
    """The first of the `wanted` tensors that no shape was found for, in the graph's order."""
    order = sorted(wanted, key=lambda t: graph.producer.get(t, -1))
    return next((graph.tensors[t] for t in order if shapes.get(t) is None), None)


# Operands whose values say how large an op's results are, by place. Results of ops that are not here, and not
# unpredictable, are sized by the shapes of the operands.
_SIZED_BY: dict[str, tuple[int, ...]] = {
    "RESHAPE": (1,), "SLICE": (1, 2), "STRIDED_SLICE": (1, 2, 3), "PAD": (1,), "PADV2": (1,), "MIRROR_PAD": (1,),
    "TILE": (1,), "BROADCAST_TO": (1,), "RESIZE_BILINEAR": (1,), "RESIZE_NEAREST_NEIGHBOR": (1,), "FILL": (0,),
    "RANGE": (0, 1, 2), "TRANSPOSE": (1,), "EXPAND_DIMS": (1,), "SPLIT": (0,), "SPLIT_V": (1, 2),
    "TRANSPOSE_CONV": (0,),
    "CONV_3D_TRANSPOSE": (0,), "SUM": (1,), "MEAN": (1,), "REDUCE_MAX": (1,), "REDUCE_MIN": (1,), "REDUCE_PROD": (1,),
    "REDUCE_ANY": (1,), "REDUCE_ALL": (1,), "ARG_MAX": (1,), "ARG_MIN": (1,), "TOPK_V2": (1,), "ONE_HOT": (1,),
    "SPACE_TO_BATCH_ND": (1, 2), "BATCH_TO_SPACE_ND": (1, 2), "RFFT2D": (1,), "SPARSE_TO_DENSE": (1,),
    "SCATTER_ND": (2,), "DYNAMIC_UPDATE_SLICE": (), "CUMSUM": (), "GATHER": (), "GATHER_ND": (),
}  # fmt: skip
_UNPREDICTABLE = frozenset(
    ("WHERE", "UNIQUE", "NON_MAX_SUPPRESSION_V4", "NON_MAX_SUPPRESSION_V5", "WHILE", "IF", "CALL", "CALL_ONCE",
     "CUSTOM", "STABLEHLO_COMPOSITE", "HASHTABLE_LOOKUP", "EMBEDDING_LOOKUP_SPARSE"),
)  # fmt: skip
_RANDOM = frozenset(("RANDOM_UNIFORM", "RANDOM_STANDARD_NORMAL", "MULTINOMIAL", "READ_VARIABLE", "VAR_HANDLE"))


def settled_by_shapes(graph: Graph, sized: frozenset[TensorIndex]) -> frozenset[TensorIndex]:
    """Tensors whose shape is the same whatever the values of the inputs are, given that those of `sized` have one."""
    fixed = {tensor.index for tensor in graph.tensors if tensor.constant}  # the value itself does not depend on them
    settled = fixed | sized
    for op in graph.ops:
        feeds = [t for t in op.inputs if t >= 0]
        if all(t in fixed for t in feeds) and feeds and op.name not in _RANDOM:
            fixed.update(op.outputs)
            settled.update(op.outputs)
            continue
        sizes = [op.inputs[i] for i in _SIZED_BY.get(op.name, ()) if i < len(op.inputs)]
        if op.name in _UNPREDICTABLE or not all(t in settled for t in feeds) or not all(t in fixed for t in sizes):
            continue
        settled.update(op.outputs)
        if op.name in ("SHAPE", "RANK"):
            fixed.update(op.outputs)
    return frozenset(settled)
