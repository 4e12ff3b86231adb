"""Finishing touches on a converted .tflite: the names people know the tensors by, and half-size weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

_FP16_MAX = 65504.0


def read(content: bytes) -> Any:
    """The model as the schema's object tree (`ModelT`)."""
    return schema.ModelT.InitFromPackedBuf(bytearray(content), 0)


def write(model: Any) -> bytes:
    """The bytes of an object tree, with the file identifier in place."""
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def rename(model: Any, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Give the inputs and outputs these names, in this order, as tensors and in the one signature.

    Raises `ValueError` when the counts differ, or the model has more than one subgraph or signature.
    """
    if len(model.subgraphs) != 1 or len(model.signatureDefs) != 1:
        raise ValueError(
            f"{len(model.subgraphs)} subgraphs and {len(model.signatureDefs)} signatures; expected one each"
        )
    graph, signature = model.subgraphs[0], model.signatureDefs[0]
    for names, indices, kind in ((inputs, graph.inputs, "inputs"), (outputs, graph.outputs, "outputs")):
        if len(names) != len(indices):
            raise ValueError(f"{len(names)} names for {len(indices)} {kind}")
        entries = []
        for name, index in zip(names, indices, strict=True):
            graph.tensors[index].name = name
            entry = schema.TensorMapT()
            entry.name, entry.tensorIndex = name, int(index)
            entries.append(entry)
        setattr(signature, kind, entries)


def halve_weights(model: Any) -> int:
    """Store every float32 constant as float16 behind a DEQUANTIZE, so that the graph still computes in
    float32.

    Scalars stay as they are, and so does a constant with a value beyond float16's range. Returns how many
    were stored so.
    """
    graph = model.subgraphs[0]
    opcode = _opcode(model, schema.BuiltinOperator.DEQUANTIZE)
    halves: dict[int, int] = {}
    casts = []
    for tensor_index, tensor in enumerate(list(graph.tensors)):
        data = model.buffers[tensor.buffer].data
        if tensor.type != schema.TensorType.FLOAT32 or data is None or len(data) <= 4:
            continue
        if tensor.buffer not in halves:
            values = np.frombuffer(np.asarray(data, dtype=np.uint8).tobytes(), dtype=np.float32)
            if not np.abs(values).max() <= _FP16_MAX:
                continue
            halves[tensor.buffer] = _add_half(model, tensor, values)
        cast = schema.OperatorT()
        cast.opcodeIndex = opcode
        cast.inputs, cast.outputs = (
            np.array([halves[tensor.buffer]], np.int32),
            np.array([tensor_index], np.int32),
        )
        cast.builtinOptionsType = schema.BuiltinOptions.DequantizeOptions
        cast.builtinOptions = schema.DequantizeOptionsT()
        casts.append(cast)
        tensor.buffer = 0
    for buffer in halves:
        model.buffers[buffer].data = None
    graph.operators = casts + graph.operators
    return len(halves)


def _add_half(model: Any, tensor: Any, values: np.ndarray[Any, np.dtype[np.float32]]) -> int:
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(values.astype(np.float16).tobytes(), dtype=np.uint8)
    model.buffers.append(buffer)
    half = schema.TensorT()
    half.name = _text(tensor.name) + "_fp16"
    half.shape, half.hasRank = tensor.shape, True
    half.type, half.buffer = schema.TensorType.FLOAT16, len(model.buffers) - 1
    model.subgraphs[0].tensors.append(half)
    return len(model.subgraphs[0].tensors) - 1


def _opcode(model: Any, builtin: int) -> int:
    for index, code in enumerate(model.operatorCodes):
        if max(code.builtinCode, code.deprecatedBuiltinCode) == builtin:
            return index
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = builtin
    code.version = 3  # the first version of DEQUANTIZE that takes float16
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)
