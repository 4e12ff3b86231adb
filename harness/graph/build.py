"""A small builder of .tflite graphs, for tests and reproducers, without torch.

Tensors are named by handles (their index in subgraph 0). `op` appends any builtin operation; the other methods are
sugar for the ones used most, with the shape of the result worked out.

    graph = GraphBuilder()
    x = graph.input("x", (1, 8))
    graph.output(graph.unary("RELU", x), "y")
    model = graph.build()
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from harness.core.arrays import Array, TensorIndex
from harness.graph import edit
from harness.graph.model import AlignedBuffer, Model


class GraphBuilder:
    """Collects tensors and ops of one subgraph; `build` gives the model with one signature, `serving_default`."""

    def __init__(self) -> None:
        self._tensors: list[Any] = []
        self._ops: list[Any] = []
        self._code_tables: list[Any] = []
        self._buffers: list[Any] = [AlignedBuffer(None)]
        self._inputs: list[tuple[str, TensorIndex]] = []
        self._outputs: list[tuple[str, TensorIndex]] = []

    def tensor(self, name: str, shape: Sequence[int], dtype: Any = np.float32) -> TensorIndex:
        """A tensor without a producer yet."""
        return edit.tensor(self._tensors, name, shape, dtype)

    def input(self, name: str, shape: Sequence[int], dtype: Any = np.float32) -> TensorIndex:
        """A graph input."""
        handle = self.tensor(name, shape, dtype)
        self._inputs.append((name, handle))
        return handle

    def output(self, handle: TensorIndex, name: str | None = None) -> None:
        """Mark a tensor as graph output; `name` is its name in the signature."""
        self._outputs.append((name or self._tensors[handle].name, handle))

    def constant(self, values: Any, name: str = "") -> TensorIndex:
        """A constant; float64 values become float32."""
        array = np.array(values)
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        return edit.constant(self._buffers, self._tensors, name or f"const_{len(self._tensors)}", array)

    def shape(self, handle: TensorIndex) -> tuple[int, ...]:
        """Shape of a tensor."""
        return tuple(int(d) for d in self._tensors[handle].shape)

    def op(
        self,
        kind: str,
        inputs: Sequence[TensorIndex],
        shape: Sequence[int],
        options: Any = None,
        *,
        dtype: Any = None,
        name: str = "",
        custom: str | None = None,
        version: int = 1,
    ) -> TensorIndex:
        """Append an operation with one output of `shape`; `options` is the schema's `…OptionsT`, if it takes any."""
        named = name or f"{kind.lower()}_{len(self._ops)}"
        made = self.tensor(named, shape, dtype or self.dtype(inputs[0]))
        self._append(kind, inputs, [made], options, custom, version)
        return made

    def several(
        self,
        kind: str,
        inputs: Sequence[TensorIndex],
        results: Sequence[tuple[Sequence[int], Any]],
        options: Any = None,
    ) -> list[TensorIndex]:
        """Append an operation with several outputs, each given as (shape, dtype)."""
        stem = f"{kind.lower()}_{len(self._ops)}"
        made = [self.tensor(f"{stem}.{i}", shape, dtype) for i, (shape, dtype) in enumerate(results)]
        self._append(kind, inputs, made, options)
        return made

    def with_scales(
        self, handle: TensorIndex, scales: Sequence[float] | Array, zero: int = 0, axis: int = 0
    ) -> TensorIndex:
        """Say that a tensor's integers stand for (n - zero) * scale; several scales are one for each place along an
        axis."""
        table = schema.QuantizationParametersT()
        table.scale, table.zeroPoint = np.asarray(scales, np.float32), np.full(len(scales), zero, np.int64)
        table.quantizedDimension = axis
        self._tensors[handle].quantization = table
        return handle

    def _append(
        self,
        kind: str,
        inputs: Sequence[TensorIndex],
        outputs: Sequence[TensorIndex],
        options: Any,
        custom: str | None = None,
        version: int = 1,
    ) -> None:
        code = edit.operator_code(self._code_tables, kind, custom, version)
        self._ops.append(edit.operator(code, inputs, outputs, options))

    def unary(self, kind: str, x: TensorIndex, options: Any = None, name: str = "") -> TensorIndex:
        """An element-wise op of one operand (RELU, RSQRT, EXP, TANH, LOGISTIC, GELU, …)."""
        return self.op(kind, [x], self.shape(x), options, name=name)

    def binary(self, kind: str, x: TensorIndex, y: TensorIndex, name: str = "") -> TensorIndex:
        """ADD, SUB, MUL or DIV with broadcasting."""
        options = {
            "ADD": schema.AddOptionsT,
            "SUB": schema.SubOptionsT,
            "MUL": schema.MulOptionsT,
            "DIV": schema.DivOptionsT,
        }
        made = options[kind]() if kind in options else None
        return self.op(kind, [x, y], np.broadcast_shapes(self.shape(x), self.shape(y)), made, name=name)

    def batch_matmul(self, x: TensorIndex, y: TensorIndex, *, adj_y: bool = False, name: str = "") -> TensorIndex:
        """x @ y over the last two axes; `adj_y` transposes y first."""
        options = schema.BatchMatMulOptionsT()
        options.adjY = adj_y
        a, b = self.shape(x), self.shape(y)
        columns = b[-2] if adj_y else b[-1]
        batch = np.broadcast_shapes(a[:-2], b[:-2])
        return self.op("BATCH_MATMUL", [x, y], (*batch, a[-2], columns), options, name=name)

    def fully_connected(self, x: TensorIndex, weights: Array, bias: Array | None = None, name: str = "") -> TensorIndex:
        """x [..., k] times weights [n, k] (stored as they are) plus bias [n]."""
        options = schema.FullyConnectedOptionsT()
        options.keepNumDims = True
        feeds = [x, self.constant(weights.astype(np.float32))]
        feeds.append(-1 if bias is None else self.constant(bias.astype(np.float32)))
        return self.op("FULLY_CONNECTED", feeds, (*self.shape(x)[:-1], weights.shape[0]), options, name=name)

    def softmax(self, x: TensorIndex, name: str = "") -> TensorIndex:
        """Softmax over the last axis."""
        options = schema.SoftmaxOptionsT()
        options.beta = 1.0
        return self.op("SOFTMAX", [x], self.shape(x), options, name=name)

    def reduce(self, kind: str, x: TensorIndex, axis: int, name: str = "") -> TensorIndex:
        """MEAN, SUM or REDUCE_MAX over one axis, which is kept with size 1."""
        options = schema.ReducerOptionsT()
        options.keepDims = True
        shape = list(self.shape(x))
        shape[axis] = 1
        axes = self.constant(np.asarray([axis % len(shape)], np.int32))
        return self.op(kind, [x, axes], shape, options, name=name)

    def pad(self, x: TensorIndex, widths: Sequence[tuple[int, int]], name: str = "") -> TensorIndex:
        """PAD with zeros; one (before, after) pair for each axis."""
        shape = [d + before + after for d, (before, after) in zip(self.shape(x), widths, strict=True)]
        return self.op("PAD", [x, self.constant(np.asarray(widths, np.int32))], shape, schema.PadOptionsT(), name=name)

    def reshape(self, x: TensorIndex, shape: Sequence[int], name: str = "") -> TensorIndex:
        """RESHAPE to a static shape; a quantized tensor stays on its grid."""
        options = schema.ReshapeOptionsT()
        options.newShape = np.asarray(shape, np.int32)
        made = self.op("RESHAPE", [x, self.constant(np.asarray(shape, np.int32))], shape, options, name=name)
        self._tensors[made].quantization = self._tensors[x].quantization
        return made

    def every(self, x: TensorIndex, steps: Sequence[int]) -> TensorIndex:
        """STRIDED_SLICE that takes the first of every so many elements along each axis; a quantized tensor stays on its
        grid."""
        shape = self.shape(x)
        feeds = [self.constant(np.asarray(values, np.int32)) for values in ((0,) * len(shape), shape, steps)]
        taken = [-(-n // step) for n, step in zip(shape, steps, strict=True)]
        made = self.op("STRIDED_SLICE", [x, *feeds], taken, schema.StridedSliceOptionsT())
        self._tensors[made].quantization = self._tensors[x].quantization
        return made

    def transpose(self, x: TensorIndex, order: Sequence[int], name: str = "") -> TensorIndex:
        """TRANSPOSE; `order` as numpy's."""
        shape = [self.shape(x)[axis] for axis in order]
        feeds = [x, self.constant(np.asarray(order, np.int32))]
        return self.op("TRANSPOSE", feeds, shape, schema.TransposeOptionsT(), name=name)

    def gather(self, x: TensorIndex, axis: int, places: Array | Sequence[int], name: str = "") -> TensorIndex:
        """GATHER of the elements at constant `places` along an axis."""
        options = schema.GatherOptionsT()
        options.axis = axis
        shape = list(self.shape(x))
        shape[axis] = len(places)
        return self.op("GATHER", [x, self.constant(np.asarray(places, np.int32))], shape, options, name=name)

    def dequantize(self, values: Array, name: str = "") -> TensorIndex:
        """A float16 constant behind DEQUANTIZE, as converters store half-size weights."""
        half = self.constant(values.astype(np.float16))
        return self.op("DEQUANTIZE", [half], values.shape, schema.DequantizeOptionsT(), dtype=np.float32, name=name)

    def build(self, signature: str = "serving_default") -> Model:
        """The model. `signature=""` leaves the signature away."""
        sub = schema.SubGraphT()
        sub.name = "main"
        sub.tensors, sub.operators = self._tensors, self._ops
        sub.inputs = np.asarray([t for _, t in self._inputs], np.int32)
        sub.outputs = np.asarray([t for _, t in self._outputs], np.int32)
        root = schema.ModelT()
        root.version = 3
        root.description = "built by harness.graph.build"
        root.operatorCodes, root.subgraphs, root.buffers = self._code_tables, [sub], self._buffers
        root.signatureDefs = [edit.signature_def(signature, self._inputs, self._outputs)] if signature else []
        return Model.from_bytes(Model(root).to_bytes())

    def dtype(self, handle: TensorIndex) -> np.dtype[Any]:
        """Type of a tensor's elements."""
        code = self._tensors[handle].type
        return next(dtype for dtype, number in edit.TYPE_CODES.items() if number == code)
