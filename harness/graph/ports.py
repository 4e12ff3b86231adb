"""Names for inputs and outputs that the file leaves unnamed: `input_0`, `output_1`, after their place."""

from __future__ import annotations

from copy import copy
from typing import Any

from harness.graph.model import Graph, Model, Port, indices, text
from harness.graph.surgery import fresh


def with_named_ports(model: Model) -> Model:
    """The model with a name for each input and output of its first signature, in the file itself, so that every
    runtime knows them by it. The model as it is where each has one already."""
    graph = model.graph()
    sub = model.root.subgraphs[graph.subgraph]
    keyed = model.root.signatureDefs[0] if model.root.signatureDefs else None
    inputs, outputs = (
        (keyed.inputs or (), keyed.outputs or ()) if keyed is not None else (indices(sub.inputs), indices(sub.outputs))
    )
    # A signature's entries are unnamed themselves; without a signature the tensors are.
    unnamed = {
        kind: [i for i, entry in enumerate(entries) if not text(entry.name if keyed else sub.tensors[entry].name)]
        for kind, entries in (("input", inputs), ("output", outputs))
    }
    if not any(unnamed.values()):
        return model
    root = copy(model.root)
    taken = _taken(graph, unnamed)
    if keyed is not None:
        named = copy(keyed)
        named.inputs = _named_maps(keyed.inputs, "input", taken)
        named.outputs = _named_maps(keyed.outputs, "output", taken)
        root.signatureDefs = [named, *model.root.signatureDefs[1:]]
        return Model(root, model.path)
    root.subgraphs = list(root.subgraphs)
    root.subgraphs[graph.subgraph] = sub = copy(sub)
    sub.tensors = list(sub.tensors)
    for kind, tensors in (("input", inputs), ("output", outputs)):
        for place, t in enumerate(tensors):
            if not text(sub.tensors[t].name):
                sub.tensors[t] = copy(sub.tensors[t])
                sub.tensors[t].name = fresh(f"{kind}_{place}", taken)
    return Model(root, model.path)


def _taken(graph: Graph, unnamed: dict[str, list[int]]) -> set[str]:
    """Names that are spoken for: those of named ports and of all tensors."""
    ports: dict[str, tuple[Port, ...]] = {"input": graph.inputs, "output": graph.outputs}
    named = {port.name for kind, listed in ports.items() for i, port in enumerate(listed) if i not in unnamed[kind]}
    return named | {tensor.name for tensor in graph.tensors}


def _named_maps(entries: Any, kind: str, taken: set[str]) -> list[Any]:
    made = []
    for place, entry in enumerate(entries or ()):
        if not text(entry.name):
            entry = copy(entry)
            entry.name = fresh(f"{kind}_{place}", taken)
        made.append(entry)
    return made
