"""A rewritten model with the inputs and outputs of the file that it takes the place of: names, order, signature."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from copy import copy
from typing import Any

import numpy as np

from harness.api.opening import Opened
from harness.core.arrays import TensorIndex
from harness.core.visible import counted
from harness.graph.model import Graph, Model, Port, indices, text
from harness.graph.surgery import drop_unused_buffers, fresh, isolate

# What says how the file was made, and from which release on runtimes take it: no reader misses it.
_OF_THE_MAKING = frozenset({"min_runtime_version", "CONVERSION_METADATA", "keep_stablehlo_constant"})
# Bytes from which on equal constants are worth looking for.
_LARGE = 1024


def cannot_be_rewritten(opened: Opened) -> str:
    """Why no file can be written that takes the place of this one, in a clause; empty where one can."""
    if len(opened.signatures) > 1:
        count = counted(len(opened.signatures), "signature")
        return f"it has {count}, and a rewrite takes a model with one: export each by itself"
    if opened.assumed:
        return "it leaves shapes open, which a rewrite does not: export it for the shapes that it runs at"
    graph, sub = opened.model.graph(), opened.model.root.subgraphs[0]
    for kind, ports, listed in (("inputs", graph.inputs, sub.inputs), ("outputs", graph.outputs, sub.outputs)):
        if sorted(port.tensor for port in ports) != sorted(indices(listed)):
            return f"its signature does not have all {kind} of its graph: export it with all of them"
    return ""


def changed_ports(before: Model, after: Model) -> str:
    """What a rewrite declares otherwise of the inputs and outputs, in a clause; empty where nothing."""
    old, new = before.graph(), after.graph()
    for kind, was, now in (("input", old.inputs, new.inputs), ("output", old.outputs, new.outputs)):
        if [port.name for port in was] != [port.name for port in now]:
            return f"the {kind}s would be others"
        for port, again in zip(was, now, strict=True):
            one, other = _facts(old, port), _facts(new, again)
            if one != other:
                return f"{kind} '{port.name}' would be declared {other[0]} {list(other[1] or ())}"
    taken: dict[TensorIndex, str] = {}
    for port in (*new.inputs, *new.outputs):
        if port.tensor in taken:
            return f"'{taken[port.tensor]}' and '{port.name}' would be one tensor"
        taken[port.tensor] = port.name
    return ""


def _facts(graph: Graph, port: Port) -> tuple[Any, ...]:
    tensor = graph.tensors[port.tensor]
    return tensor.type, tensor.shape, tensor.grid


def with_ports_of(file: Model, rewritten: Model) -> Model:
    """The rewritten model with the signature of the file (none where that has none), its inputs and outputs in the
    subgraph's order, and their tensors by the names that they have there."""
    whole = isolate(file)
    old, new = whole.graph(), rewritten.graph()
    root = copy(rewritten.root)
    root.subgraphs = list(root.subgraphs)
    for place, graph in enumerate(root.subgraphs):
        root.subgraphs[place] = graph = copy(graph)
        graph.tensors = [copy(tensor) for tensor in graph.tensors or ()]
    sub = root.subgraphs[0]
    own = whole.root.subgraphs[0]
    places: list[dict[TensorIndex, TensorIndex]] = []
    for was, now in ((old.inputs, new.inputs), (old.outputs, new.outputs)):
        places.append({one.tensor: other.tensor for one, other in zip(was, now, strict=True)})
    ins, outs = places
    _rename(sub, {place: own.tensors[t].name for t, place in (ins | outs).items()})
    sub.inputs = np.asarray([ins[t] for t in indices(own.inputs)], np.int32)
    sub.outputs = np.asarray([outs[t] for t in indices(own.outputs)], np.int32)
    if not whole.root.signatureDefs:
        root.signatureDefs = whole.root.signatureDefs
    else:
        keyed = copy(whole.root.signatureDefs[0])
        keyed.subgraphIndex = 0
        keyed.inputs, keyed.outputs = _moved(keyed.inputs, ins), _moved(keyed.outputs, outs)
        root.signatureDefs = [keyed]
    _share_equal_constants(root)
    return Model.from_bytes(Model(root).to_bytes())


def _share_equal_constants(root: Any) -> None:
    """Large constants with the same bytes as one buffer: a rewrite of several ops may have made one for each."""
    root.buffers = list(root.buffers)
    first: dict[bytes, int] = {}
    for sub in root.subgraphs:
        for tensor in sub.tensors or ():
            data = root.buffers[tensor.buffer].data if tensor.buffer else None
            if data is not None and len(data) >= _LARGE:
                tensor.buffer = first.setdefault(hashlib.sha256(data).digest(), tensor.buffer)
    drop_unused_buffers(root)


def _moved(entries: Any, places: Mapping[TensorIndex, TensorIndex]) -> list[Any]:
    made = []
    for entry in entries or ():
        again = copy(entry)
        again.tensorIndex = places[entry.tensorIndex]
        made.append(again)
    return made


def _rename(sub: Any, names: Mapping[TensorIndex, Any]) -> None:
    """Give tensors their names; one that has such a name inside the graph gets another."""
    taken = {text(tensor.name) for tensor in sub.tensors} | {text(name) for name in names.values()}
    given = {text(name) for name in names.values()}
    for t, tensor in enumerate(sub.tensors):
        if t in names:
            tensor.name = names[t]
        elif text(tensor.name) in given:
            tensor.name = fresh(f"{text(tensor.name)}/inside", taken)


def not_kept(file: Model) -> tuple[str, ...]:
    """A sentence on what a rewritten file lacks; none where it lacks nothing."""
    named = [text(entry.name) for entry in file.root.metadata or ()]
    lost = [name for name in named if name not in _OF_THE_MAKING]
    return (f"Metadata of the file is left out: {', '.join(lost)[:200]}.",) if lost else ()
