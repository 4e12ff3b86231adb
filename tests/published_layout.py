"""Models in the form in which they were published: other names, outputs in another order, constants in one block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from harness.graph.model import Model, Port
from harness.graph.rebuild import Rebuild
from harness.sam2.shared.modules import tflite
from harness.sam2.shared.prompt import POSITIVE, PromptConstants


def foreign(content: bytes) -> bytes:
    """The same model with the names that a converter gives by itself, and its outputs, and
    the signature's list of inputs, in the opposite order."""
    model = tflite.read(content)
    graph = model.subgraphs[0]
    graph.outputs = graph.outputs[::-1].copy()
    names = ([f"args_{i}" for i in range(len(graph.inputs))], [f"output_{i}" for i in range(len(graph.outputs))])
    tflite.rename(model, *names)
    model.signatureDefs[0].inputs.reverse()  # the runtime counts inputs as the graph lists them
    return tflite.write(model)


def published_constants(constants: PromptConstants) -> bytes:
    """posmat, the embedding of a point on the object and not_a_point, as `prompt_encode_const.bin` has them."""
    parts = (constants.posmat, constants.point_embed[POSITIVE], constants.not_a_point)
    return b"".join(np.ascontiguousarray(part, "<f4").tobytes() for part in parts)


class Flat(Rebuild):
    """A model whose inputs, in the `order` of their names or their own, are cut out of one by RESHAPE and SLICE."""

    def __init__(self, model: Model, order: Sequence[str] = ()) -> None:
        super().__init__(model)
        by_name = {port.name: port for port in self.graph.inputs}
        ports = [by_name[name] for name in order or by_name]
        shapes = [self.shape(port.tensor) for port in ports]
        self.flat = self.tensor("flat", (1, sum(int(np.prod(shape)) for shape in shapes)))
        row, start = self.reshape(self.flat, (1, 1, 1, self.shape(self.flat)[1])), 0
        for port, shape in zip(ports, shapes, strict=True):
            size = (1, 1, 1, int(np.prod(shape)))
            feeds = [self.constant(np.asarray(part, np.int32)) for part in ((0, 0, 0, start), size)]
            cut = self.op("SLICE", [row, *feeds], size, schema.SliceOptionsT())
            self.replace(port.tensor, self.reshape(cut, shape))
            start += size[3]
        self._inputs = [("flat", self.flat)]
        self.graph = replace(self.graph, inputs=(Port("flat", self.flat),))
        for op in self.graph.ops:
            self.keep(op)
