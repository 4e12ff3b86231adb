"""A model with bugs planted, as the host's plain kernels are to run it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.core.arrays import Array
from harness.devices.planted.bug import Bug, running, stored_as_half
from harness.graph.model import Model, Op
from harness.graph.rebuild import Rebuild


class Planting(Rebuild):
    """One model, written anew. While an op of the GPU is written, its operands are what the GPU holds of them."""

    def __init__(self, model: Model, bugs: Sequence[Bug], taken: frozenset[int], *, half: bool) -> None:
        super().__init__(model)
        self._plants = [bug.plant for bug in bugs if bug.plant and (half or not bug.half_only)]
        self._on_gpu, self._half = taken - self.graph.constant_ops, half
        self._read: dict[int, int] = {}
        self._held: dict[int, int] = {}

    def now(self, tensor: int) -> int:
        """As of any rebuild."""
        return super().now(self._read.get(tensor, tensor))

    def written(self) -> Model:
        """The model as the host is to run it."""
        for op in self.graph.ops:
            if op.index not in self._on_gpu:
                self.keep(op)
                continue
            self._read = {t: self._as_held(t) for t in op.inputs}
            self.keep(op)
            self._spoil(op)
            self._read = {}
            for t in op.outputs:
                if self._half and self.graph.tensors[t].type == "FLOAT32":
                    self.replace(self.now(t), stored_as_half(self, t))
        return self.finish()

    def _spoil(self, op: Op) -> None:
        if self.graph.tensors[op.outputs[0]].type != "FLOAT32":
            return
        for plant in self._plants:
            made = plant(self, op)
            if made is not None:
                self.replace(op.outputs[0], made)
                return

    def _as_held(self, t: int) -> int:
        """What the GPU holds of an operand: what it made, and float16 of what comes from elsewhere."""
        made = self.graph.producer.get(t)
        if t < 0 or not self._half or self.graph.tensors[t].type != "FLOAT32" or made in self._on_gpu:
            return t
        if t not in self._held:
            values = None if running(self, t) else self.values(t)
            self._held[t] = stored_as_half(self, t) if values is None else self.constant(_rounded(values))
        return self._held[t]


def _rounded(values: Array) -> Array:
    with np.errstate(over="ignore"):
        near = values.astype(np.float16).astype(np.float32)
    return np.where(np.isfinite(near), near, values)
