"""A model made ready for LiteRT's `run_model`, which prints the values of outputs and writes none to a file.

It prints an int32 as it is, any other type but float32 as if it were bytes, as many as there are elements, and a
float32 with six digits (`PrintTensorBuffer` in litert/tools/run_model.cc, the same from v2.1.4 to v2.2.0). So an output
of another type than int32 or bytes goes through two ops more that change no bit: a RESHAPE to six dimensions and a
BITCAST to int32, or to bytes for a type of two. A GPU has no six dimensions, so both run on the CPU, beside whatever
took the model; a BITCAST alone would be taken by the GPU, which keeps values as float16. What computes the model is not
touched, but for its order: beside ops on the CPU a delegate leaves the DEQUANTIZE of float16 weights there too, and
takes one stretch of ops between such. They come first, so that none divides the model.

Inputs and outputs get plain names, in the subgraph's order, since `run_model` makes file names of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from harness.core.arrays import Array
from harness.devices.android.no_app.words import MARK
from harness.graph.model import Graph, Model, Op, Port, Tensor, indices

_RANK = 6
_BUILTIN_IN_A_BYTE = 127
_TYPES = {"INT32": schema.TensorType.INT32, "UINT8": schema.TensorType.UINT8}


class Unprintable(Exception):
    """The tool cannot take or give values of this model; the sentence says which."""


@dataclass(frozen=True)
class PrintedOutput:
    """An output as the tool prints it: `count` whole numbers, which are the bits of values of `dtype` and `shape`."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    count: int

    def decoded(self, numbers: Sequence[int]) -> Array:
        """The values; as a list, in whatever number came, where it is another than `count`.

        Raises:
            ValueError: one is no such number.
        """
        wide = np.asarray(numbers, np.int64)
        kind = np.dtype(np.uint8) if self.dtype.itemsize < 4 else np.dtype(np.int32)
        bounds = np.iinfo(kind)
        if wide.size and not (bounds.min <= np.min(wide) and np.max(wide) <= bounds.max):
            raise ValueError(f"a value is beyond {kind}")
        whole = wide.size - wide.size % max(1, self.dtype.itemsize // kind.itemsize)
        values: Array = wide[:whole].astype(kind).view(self.dtype)
        return values.reshape(self.shape) if len(numbers) == self.count else values


@dataclass(frozen=True)
class ToolModel:
    """A model for the tool: `inputs` are names as in the job with the tensor and the tool's name for each, in the
    runtime's order; `added` counts the ops that pass on bits, `constants` those of the model that need no input."""

    data: bytes
    inputs: tuple[tuple[str, Tensor, str], ...]
    outputs: tuple[PrintedOutput, ...]
    added: int
    constants: int


def tool_model(model: Model) -> ToolModel:
    """The model's first signature, to be run and printed by the tool. The model itself is edited.

    Raises:
        Unprintable: an input or output has a type or a shape that cannot be passed on.
    """
    graph = model.graph()
    root = model.root
    sub = root.subgraphs[graph.subgraph]
    ins, outs = indices(sub.inputs), indices(sub.outputs)
    named = [_port(graph.inputs, tensor, place) for place, tensor in enumerate(ins)]
    inputs = tuple((name, graph.tensors[t], f"in_{i:04}") for i, (name, t) in enumerate(zip(named, ins, strict=True)))
    codes: dict[int, int] = {}
    printed, now = [], []
    before = len(sub.operators or ())
    sub.operators = _weights_first(graph, list(sub.operators or ()))
    for place, tensor in enumerate(outs):
        about = graph.tensors[tensor]
        if about.dtype is None or about.shape is None:
            raise Unprintable(f"output '{about.name}' has type {about.type} and shape {about.shape or 'dynamic'}")
        plain = about.type == "INT32" or about.dtype.itemsize == 1
        # The same tensor twice, or an input that is an output, is a copy of its own too.
        alone = tensor not in now and tensor not in ins and not about.constant
        bits = "UINT8" if about.dtype.itemsize < 4 else "INT32"
        count = about.nbytes // (1 if bits == "UINT8" else 4)
        printed.append(PrintedOutput(about.dtype, about.shape, count))
        now.append(tensor if plain and alone else _cast(root, sub, codes, about, f"{MARK}_{place}", bits))
    sub.outputs = np.asarray(now, np.int32)
    root.signatureDefs = [_signature(graph.subgraph, ins, now)]
    model.edited()
    return ToolModel(model.to_bytes(), inputs, tuple(printed), len(sub.operators) - before, len(graph.constant_ops))


def _weights_first(graph: Graph, ops: list[Any]) -> list[Any]:
    """The ops with those first that expand a constant, then the others that need no input."""

    def place(op: Op) -> int:
        if op.index not in graph.constant_ops:
            return 2
        expands = op.name == "DEQUANTIZE" and all(graph.tensors[tensor].constant for tensor in op.inputs)
        return 0 if expands else 1

    return [ops[op.index] for op in sorted(graph.ops, key=place)]


def _port(ports: Sequence[Port], tensor: int, place: int) -> str:
    return next((port.name for port in ports if port.tensor == tensor), f"input {place}")


def _cast(root: Any, sub: Any, codes: dict[int, int], about: Tensor, name: str, bits: str) -> int:
    """The bits of a tensor as one of type `bits`, of rank 6 or 7."""
    assert about.dtype is not None
    flat = [1] * (_RANK - 1) + [about.elements]
    wide = about.dtype.itemsize // (1 if bits == "UINT8" else 4)
    buffer = schema.BufferT()
    buffer.data = np.asarray(flat, np.int32).view(np.uint8)
    root.buffers.append(buffer)
    shape = _tensor(sub, f"{name}_shape", [_RANK], schema.TensorType.INT32, len(root.buffers) - 1)
    raised = _tensor(sub, f"{name}_flat", flat, sub.tensors[about.index].type)
    cast = _tensor(sub, name, flat if wide == 1 else [*flat, wide], _TYPES[bits])
    options = schema.ReshapeOptionsT()
    options.newShape = flat
    reshape = _op(root, sub, codes, schema.BuiltinOperator.RESHAPE, [about.index, shape], raised)
    reshape.builtinOptionsType, reshape.builtinOptions = schema.BuiltinOptions.ReshapeOptions, options
    _op(root, sub, codes, schema.BuiltinOperator.BITCAST, [raised], cast)
    return cast


def _tensor(sub: Any, name: str, shape: Sequence[int], kind: int, buffer: int = 0) -> int:
    tensor = schema.TensorT()
    tensor.name, tensor.type, tensor.buffer = name, kind, buffer
    tensor.shape = np.asarray(shape, np.int32)
    sub.tensors.append(tensor)
    return len(sub.tensors) - 1


def _op(root: Any, sub: Any, codes: dict[int, int], builtin: int, inputs: list[int], output: int) -> Any:
    if builtin not in codes:
        code = schema.OperatorCodeT()
        code.builtinCode, code.version = builtin, 1
        code.deprecatedBuiltinCode = min(builtin, _BUILTIN_IN_A_BYTE)
        root.operatorCodes = [*(root.operatorCodes or ()), code]
        codes[builtin] = len(root.operatorCodes) - 1
    op = schema.OperatorT()
    op.opcodeIndex, op.inputs, op.outputs = codes[builtin], inputs, [output]
    sub.operators.append(op)
    return op


def _signature(subgraph: int, inputs: Sequence[int], outputs: Sequence[int]) -> Any:
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = "serving_default", subgraph
    signature.inputs = [_entry(f"in_{place:04}", tensor) for place, tensor in enumerate(inputs)]
    signature.outputs = [_entry(f"{MARK}_{place:04}", tensor) for place, tensor in enumerate(outputs)]
    return signature


def _entry(name: str, tensor: int) -> Any:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name, tensor
    return entry
