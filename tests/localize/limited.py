"""Devices that end somewhere: what is larger is not computed, and nobody is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from harness.core.arrays import Array
from harness.core.job import Completed, Job, Outcome
from harness.devices.base import Sink
from harness.graph.fold import too_large
from harness.graph.model import Graph, Model, Op
from harness.graph.rebuild import Rebuild
from tests.localize.broken import Broken

WORDS = (
    "E0000 00:00:1795828443.412558   11558 environment.cc:105] Validation error: Dispatch workgroup count Z ({asked}) "
    "exceeds max compute workgroups per dimension ({most}).\n - While encoding [ComputePassEncoder (unlabeled)]."
)


class Limited(Broken):
    """Ops of a kind give zeros where `beyond` says so of the shape of their result or an operand. With `group`, the log
    says how many workgroups of so many elements along the last axis were too many, the device taking `most`."""

    def __init__(self, kind: str, beyond: Callable[[Sequence[int]], bool], *, group: int = 0, most: int = 0) -> None:
        super().__init__(self._zeros)
        self.kind, self.beyond, self.group, self.most = kind, beyond, group, most

    def _zeros(self, rebuild: Rebuild, op: Op) -> int | None:
        shapes = [rebuild.shape(t) for t in (*op.inputs[:1], *op.outputs)]
        if op.name != self.kind or not any(map(self.beyond, shapes)):
            return None
        return rebuild.constant(np.zeros(rebuild.shape(op.outputs[0]), np.float32))

    def run(self, job: Job, sink: Sink | None = None) -> Outcome:
        outcome = super().run(job, sink)
        graph = Model.from_bytes(job.model).graph()
        longest = max((d for op in graph.ops if op.name == self.kind for d in _dims(graph, op)), default=0)
        if not self.group or longest <= self.group * self.most or not isinstance(outcome, Completed):
            return outcome
        return replace(outcome, log=WORDS.format(asked=-(-longest // self.group), most=self.most))


def _dims(graph: Graph, op: Op) -> list[int]:
    return [d for t in (op.inputs[0], *op.outputs) for d in graph.tensors[t].shape or ()]


def over(most: int) -> Callable[[Sequence[int]], bool]:
    """Whether a dimension is larger."""
    return lambda shape: max(shape, default=0) > most


class NarrowPorts(Broken):
    """What LiteRT's WebGPU back end does: an input that is too large is read as zeros, and beside an output that is too
    large no output is written. `kind` is a fault of its own."""

    def prepared(self, job: Job) -> bytes:
        if job.options.accelerator != "gpu":
            return super().prepared(job)
        model = Model.from_bytes(job.model)
        graph = model.graph()
        rebuild = Rebuild(model)
        for port in graph.inputs:
            if too_large(graph.tensors[port.tensor].shape):
                zero = rebuild.constant(np.zeros(1, np.float32))
                rebuild.replace(port.tensor, rebuild.binary("MUL", port.tensor, zero))
        for op in graph.ops:
            rebuild.keep(op)
        return super().prepared(replace(job, model=rebuild.finish().to_bytes()))

    def finished(self, outputs: dict[str, Array], job: Job) -> dict[str, Array]:
        if job.options.accelerator == "gpu" and any(too_large(values.shape) for values in outputs.values()):
            return {name: np.zeros_like(values) for name, values in outputs.items()}
        return outputs
