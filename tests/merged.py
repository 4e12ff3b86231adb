"""Models of several subgraphs, put together from models of one."""

from __future__ import annotations

from collections.abc import Sequence

from harness.graph.edit import signature_def
from harness.graph.model import Model


def merged(models: Sequence[Model], signatures: Sequence[tuple[str, int]]) -> Model:
    """One model with a subgraph for each given one, and signatures (key, subgraph) in that order."""
    root = Model.from_bytes(models[0].to_bytes()).root
    ports = [models[0].graph()]
    for model in models[1:]:
        more = Model.from_bytes(model.to_bytes()).root
        codes, buffers = len(root.operatorCodes), len(root.buffers)
        for op in more.subgraphs[0].operators:
            op.opcodeIndex += codes
        for tensor in more.subgraphs[0].tensors:
            tensor.buffer = tensor.buffer + buffers if tensor.buffer else 0
        root.operatorCodes += more.operatorCodes
        root.buffers += more.buffers
        root.subgraphs.append(more.subgraphs[0])
        ports.append(model.graph())
    root.signatureDefs = [
        signature_def(
            key, [(p.name, p.tensor) for p in ports[i].inputs], [(p.name, p.tensor) for p in ports[i].outputs], i
        )
        for key, i in signatures
    ]
    return Model.from_bytes(Model(root).to_bytes())
