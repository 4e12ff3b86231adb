"""Quantized graphs by hand: the scale and zero point of every tensor are the test's own."""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from harness.core.arrays import Array
from harness.graph.build import GraphBuilder

Scales = tuple[float, int]


class QuantizedBuilder(GraphBuilder):
    """A graph whose tensors may be put on a grid."""

    def on_grid(self, tensor: int, step: float | list[float], zero: int = 0, *, axis: int = 0) -> int:
        """Give a tensor a scale and a zero point, or scales along an axis."""
        table = schema.QuantizationParametersT()
        steps = np.atleast_1d(np.asarray(step, np.float32))
        table.scale, table.zeroPoint = steps, np.full(len(steps), zero, np.int64)
        table.quantizedDimension = axis
        self._tensors[tensor].quantization = table
        return tensor

    def quantized_input(
        self, name: str, shape: tuple[int, ...], step: float, zero: int = 0, dtype: Any = np.int8
    ) -> int:
        """An input on a grid."""
        return self.on_grid(self.input(name, shape, dtype), step, zero)

    def layer(self, x: int, weights: Array, step: float, out: Scales, bias: Array | None = None) -> int:
        """FULLY_CONNECTED of int8: `weights` are integers [n, k] on a grid of `step`, `bias` integers."""
        options = schema.FullyConnectedOptionsT()
        options.keepNumDims = True
        held = self.on_grid(self.constant(weights.astype(np.int8)), step)
        feeds = [x, held, -1]
        if bias is not None:
            scale = float(self._tensors[x].quantization.scale[0]) * step
            feeds[2] = self.on_grid(self.constant(bias.astype(np.int32)), scale)
        shape = (*self.shape(x)[:-1], weights.shape[0])
        made = self.op("FULLY_CONNECTED", feeds, shape, options, dtype=np.int8, version=4)
        return self.on_grid(made, *out)

    def sum_of(self, x: int, y: int, out: Scales) -> int:
        """ADD of int8 tensors."""
        made = self.op("ADD", [x, y], self.shape(x), schema.AddOptionsT(), dtype=np.int8, version=2)
        return self.on_grid(made, *out)
