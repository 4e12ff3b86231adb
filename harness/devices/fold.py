"""Ops whose operands are all constants, as the constants that they make: DENSIFY of sparse weights above all.

GPU delegates refuse them ("input must be a runtime tensor"), and converters could have computed them. The host's plain
kernels do. DEQUANTIZE stays: delegates take it of a constant, and it is how files keep weights of half the size.
"""

from __future__ import annotations

from copy import copy

import numpy as np

from harness.core.arrays import Array
from harness.core.job import Options
from harness.devices.execute import completed, make_job
from harness.devices.host.device import HostDevice
from harness.graph import surgery
from harness.graph.model import AlignedBuffer, Graph, Model, indices

SECONDS = 120.0
# A flatbuffer ends at 2 GB. Beyond this nothing is folded.
MOST_BYTES = 1 << 30


def foldable(graph: Graph) -> tuple[int, ...]:
    """Ops that only prepare constants, but for DEQUANTIZE and what reads its result."""
    stays: set[int] = set()
    for o in sorted(graph.constant_ops):
        op = graph.ops[o]
        if op.name == "DEQUANTIZE" or any(graph.producer.get(t) in stays for t in op.inputs):
            stays.add(o)
    return tuple(sorted(graph.constant_ops - stays))


def with_folded_constants(model: Model) -> tuple[Model, tuple[int, ...]]:
    """The model with such ops of its first signature computed, and which they were; itself where it has none.

    Raises:
        DeviceError: the host's kernels do not compute them.
    """
    graph = model.graph()
    folded = foldable(graph)
    made = {t for o in folded for t in graph.ops[o].outputs}
    wanted = sorted(
        {t for op in graph.ops if op.index not in folded for t in op.inputs if t in made}
        | {port.tensor for port in graph.outputs if port.tensor in made}
    )
    known = all(graph.tensors[t].shape is not None and graph.tensors[t].dtype is not None for t in wanted)
    if not wanted or not known or sum(graph.tensors[t].nbytes for t in wanted) > MOST_BYTES:
        return model, ()
    values = _computed(model, wanted)
    root = copy(model.root)
    root.buffers, root.subgraphs = list(root.buffers), list(root.subgraphs)
    root.subgraphs[graph.subgraph] = sub = copy(root.subgraphs[graph.subgraph])
    sub.tensors = list(sub.tensors)
    for t in wanted:
        data = np.ascontiguousarray(values[surgery.port_name(t)]).reshape(-1).view(np.uint8)
        root.buffers.append(AlignedBuffer(data))
        sub.tensors[t] = table = copy(sub.tensors[t])
        table.buffer, table.sparsity = len(root.buffers) - 1, None
    sub.operators = [op for i, op in enumerate(sub.operators) if i not in folded]
    packed = {t for o in folded for t in graph.ops[o].inputs if t >= 0}
    for t in packed - {t for op in sub.operators for t in indices(op.inputs)} - set(wanted):
        sub.tensors[t] = table = copy(sub.tensors[t])  # nothing needs the packed form any more
        table.buffer, table.sparsity = 0, None
    root.metadata = root.metadataBuffer = None  # facts about the whole file, with buffers of its own
    surgery.drop_unused_buffers(root)
    made_anew = Model.from_bytes(Model(root).to_bytes())
    made_anew.path = model.path
    return made_anew, folded


def _computed(model: Model, tensors: list[int]) -> dict[str, Array]:
    part = surgery.extract(model, tensors).model
    with HostDevice() as host:
        job = make_job(part, {}, Options(accelerator="reference"), timeout=SECONDS)
        return completed(host, job, "computing constants").outputs
