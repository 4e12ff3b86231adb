"""The part of a model that does without some ops: what is computed ahead of them and beside them."""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy

import numpy as np

from harness.core.arrays import OpIndex, TensorIndex
from harness.graph.edit import signature_def
from harness.graph.model import Graph, Model
from harness.graph.rebuild import Rebuild
from harness.graph.surgery import fresh


def without_ops(model: Model, ops: Iterable[OpIndex]) -> Model | None:
    """A model (`surgery.isolate`) up to some of its ops: its own outputs as far as they need none of these, and the
    tensors that these read of others' making, under their tensors' names. None where that is nothing at all."""
    graph = model.graph()
    gone = _behind(graph, ops)
    wanted = {t for o in gone for t in graph.ops[o].inputs if graph.producer.get(t, -1) not in {*gone, -1}}
    wanted -= {t for o in graph.constant_ops for t in graph.ops[o].outputs}
    kept = [(port.name, port.tensor) for port in graph.outputs if graph.producer.get(port.tensor) not in gone]
    taken = {name for name, _ in kept} | {port.name for port in graph.outputs}
    given = {t for _, t in kept}
    for t in sorted(wanted - given):
        tensor = graph.tensors[t]
        if tensor.shape is not None and tensor.dtype is not None and tensor.elements:
            kept.append((fresh(tensor.name, taken), t))
    if not kept:
        return None
    root = copy(model.root)
    root.subgraphs = [copy(root.subgraphs[0]), *root.subgraphs[1:]]
    root.subgraphs[0].outputs = np.asarray([t for _, t in kept], np.int32)
    inputs = [(port.name, port.tensor) for port in graph.inputs]
    root.signatureDefs = [signature_def(graph.signature or "serving_default", inputs, kept)]
    rebuild = Rebuild(Model(root))
    for op in rebuild.graph.ops:
        if op.index not in gone:
            rebuild.keep(op)
    made = rebuild.finish()
    made.path = model.path
    return made


def _behind(graph: Graph, ops: Iterable[OpIndex]) -> set[OpIndex]:
    """These ops, and all that need what they make."""
    gone, lost = set(ops), set[TensorIndex]()
    for op in graph.ops:
        if op.index in gone or lost.intersection(op.inputs):
            gone.add(op.index)
            lost.update(op.outputs)
    return gone
