"""The one place that makes a graph's flatbuffer objects: operator codes, ops, tensors, constants and signatures.

What is made is appended to lists that the caller owns, and its place in them returned.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from harness.core.arrays import Array, TensorIndex
from harness.graph.model import NUMPY_TYPES, AlignedBuffer, text

TYPE_CODES = {np.dtype(t): getattr(schema.TensorType, name) for name, t in NUMPY_TYPES.items()}


def type_code(dtype: Any) -> int:
    """The schema's number for a numpy type."""
    return int(TYPE_CODES[np.dtype(dtype)])


def operator_code(codes: list[Any], kind: str, custom: str | None = None, version: int = 1) -> int:
    """The place of a kind of op, which is appended, with this version, where it is not there yet."""
    number = getattr(schema.BuiltinOperator, kind)
    for place, code in enumerate(codes):
        if max(code.builtinCode, code.deprecatedBuiltinCode) == number and text(code.customCode) == (custom or ""):
            return place
    table = schema.OperatorCodeT()
    table.builtinCode, table.deprecatedBuiltinCode = number, min(number, 127)
    table.version, table.customCode = version, custom
    return _append(codes, table)


def operator(code: int, inputs: Sequence[TensorIndex], outputs: Sequence[TensorIndex], options: Any = None) -> Any:
    """An op; `options` is the schema's `…OptionsT`, if it takes any."""
    table = schema.OperatorT()
    table.opcodeIndex = code
    table.inputs, table.outputs = np.asarray(inputs, np.int32), np.asarray(outputs, np.int32)
    if options is not None:
        table.builtinOptions = options
        table.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
    return table


def tensor(tensors: list[Any], name: str, shape: Sequence[int], dtype: Any, buffer: int = 0) -> TensorIndex:
    """A tensor of a static shape; buffer 0 holds no values."""
    table = schema.TensorT()
    table.name, table.type, table.hasRank = name, type_code(dtype), True
    table.shape, table.buffer = np.asarray(shape, np.int32), buffer
    return _append(tensors, table)


def like(tensors: list[Any], index: TensorIndex, name: str, kind: int | None = None) -> TensorIndex:
    """A copy of a tensor under another name; one of another type is on no grid."""
    table = copy(tensors[index])
    table.name = name
    if kind is not None:
        table.type, table.quantization = kind, None
    return _append(tensors, table)


def constant(buffers: list[Any], tensors: list[Any], name: str, values: Array) -> TensorIndex:
    """A tensor that holds values, which are not copied."""
    buffer = _append(buffers, AlignedBuffer(np.ascontiguousarray(values).reshape(-1).view(np.uint8)))
    return tensor(tensors, name, values.shape, values.dtype, buffer)


def signature_def(
    key: str, inputs: Sequence[tuple[str, TensorIndex]], outputs: Sequence[tuple[str, TensorIndex]], subgraph: int = 0
) -> Any:
    """A `SignatureDefT` from (name, tensor) pairs."""
    table = schema.SignatureDefT()
    table.signatureKey = key
    table.subgraphIndex = subgraph
    table.inputs, table.outputs = ([_tensor_map(*pair) for pair in pairs] for pairs in (inputs, outputs))
    return table


def _tensor_map(name: str, index: TensorIndex) -> Any:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name, index
    return entry


def _append(tables: list[Any], table: Any) -> int:
    tables.append(table)
    return len(tables) - 1
