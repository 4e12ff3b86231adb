"""Inputs and outputs: names for those that the file leaves unnamed (`input_0`, `output_1`, after their place), and what
no runtime or device can be asked for."""

from __future__ import annotations

import json
from copy import copy
from typing import Any

from harness.core.errors import UsageError
from harness.devices.link import MAX_HEADER, MAX_PAYLOAD_BYTES, MAX_PAYLOADS
from harness.graph.model import Graph, Model, Port, indices, text
from harness.graph.surgery import fresh

# Longer names make headers that the wire refuses.
MOST_NAME = 1000
# Of a message's header: options, digest and counts, beside what is said of each input and output.
_BESIDE = 4096


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


def check_ports(graph: Graph) -> None:
    """What the runtime would accept and then get wrong without a word. Raises UsageError."""
    step = "Export the model again without that."
    if not graph.ops:
        raise UsageError("The model has no ops.", "Export it again.")
    _check_message(graph)
    for what, ports in (("input", graph.inputs), ("output", graph.outputs)):
        seen: set[str] = set()
        for port in ports:
            if port.name in seen:
                raise UsageError(f"Two {what}s of the model are named {port.name[:80]!r}.", step)
            seen.add(port.name)
            if len(port.name) > MOST_NAME or not port.name.isprintable() or "\ufffd" in port.name:
                raise UsageError(f"An {what} is named {port.name[:40]!r}…, which no runtime can be asked for.", step)
    given = {port.tensor: port.name for port in graph.inputs}
    taken: dict[int, str] = {}
    for port in graph.outputs:
        if port.tensor in given:
            raise UsageError(
                f"Output '{port.name}' is input '{given[port.tensor]}', which the runtime never writes.", step
            )
        if port.tensor in taken:
            raise UsageError(f"Outputs '{taken[port.tensor]}' and '{port.name}' are one tensor.", step)
        taken[port.tensor] = port.name


def _check_message(graph: Graph) -> None:
    """A device gets all inputs and the names of all outputs in one message, which has limits. Raises UsageError."""
    if len(graph.inputs) > MAX_PAYLOADS:
        raise UsageError(
            f"The model has {len(graph.inputs)} inputs, of which a device is sent at most {MAX_PAYLOADS}.",
            "Export it with fewer, larger inputs.",
        )
    for what, ports in (("Input", graph.inputs), ("Output", graph.outputs)):
        for port in ports:
            if graph.tensors[port.tensor].nbytes > MAX_PAYLOAD_BYTES:
                size = graph.tensors[port.tensor].nbytes / 1e9
                raise UsageError(
                    f"{what} '{port.name}' has {size:.1f} GB, over the {MAX_PAYLOAD_BYTES / 1e9:.1f} GB of one tensor.",
                    "Export the model for a smaller shape.",
                )
    inputs = [(port.name, graph.tensors[port.tensor]) for port in graph.inputs]
    said = {
        "payloads": [
            {"name": name, "dtype": tensor.type, "shape": tensor.shape, "bytes": tensor.nbytes, "crc32": 0xFFFFFFFF}
            for name, tensor in inputs
        ],
        "outputs": [port.name for port in graph.outputs],
        "positions": list(range(len(graph.outputs))),
    }
    size = len(json.dumps(said)) + _BESIDE
    if size > MAX_HEADER:
        raise UsageError(
            f"The names and shapes of the model's {len(graph.inputs)} inputs and {len(graph.outputs)} outputs take "
            f"{size / 1e6:.1f} MB, more than the {MAX_HEADER / 1e6:.1f} MB that one message to a device holds.",
            "Export the model with fewer of them, or with shorter names.",
        )
