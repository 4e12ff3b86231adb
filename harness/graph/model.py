"""A .tflite file in memory: the flatbuffer object API, plus the checks and names that the object API lacks."""

from __future__ import annotations

import hashlib
import math
import struct
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers.builder import BuilderSizeError

from harness.core.arrays import OpIndex, TensorIndex
from harness.core.errors import UsageError
from harness.graph.foreign import read_model_file
from harness.graph.grid import Grid, grid_of
from harness.graph.verify import IDENTIFIER, MalformedError, verify

MOST_ELEMENTS = 1 << 60
_MALFORMED = (MalformedError, struct.error, ValueError, IndexError, TypeError, OverflowError, UnicodeError)
MAX_RANK = 32  # kernels stop at 8; numpy, which holds the values, at 64

_BUILTIN_NAMES = {code: name for name, code in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
BUILTIN_OPS = tuple(sorted(_BUILTIN_NAMES.values()))
"""Every kind of op that the schema has."""
_TYPE_NAMES = {code: name for name, code in vars(schema.TensorType).items() if not name.startswith("_")}

NUMPY_TYPES: dict[str, type[np.generic]] = {
    "FLOAT32": np.float32,
    "FLOAT16": np.float16,
    "FLOAT64": np.float64,
    "INT8": np.int8,
    "UINT8": np.uint8,
    "INT16": np.int16,
    "UINT16": np.uint16,
    "INT32": np.int32,
    "UINT32": np.uint32,
    "INT64": np.int64,
    "UINT64": np.uint64,
    "BOOL": np.bool_,
    "COMPLEX64": np.complex64,
}


@dataclass(frozen=True)
class Tensor:
    """One tensor of a subgraph. `shape` is None when the file gives no static shape; `grid` says what real numbers its
    integers stand for, where one scale does for all."""

    index: TensorIndex
    name: str
    type: str
    shape: tuple[int, ...] | None
    constant: bool
    quantized: bool
    grid: Grid | None = None

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """The numpy type of an element, or None for types numpy lacks (STRING, INT4, …)."""
        scalar = NUMPY_TYPES.get(self.type)
        return None if scalar is None else np.dtype(scalar)

    @property
    def elements(self) -> int:
        """Number of elements; 0 when the shape is not static."""
        return 0 if self.shape is None else math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the values; 0 when the shape is not static or the type has no numpy equal."""
        return 0 if self.dtype is None else self.elements * self.dtype.itemsize


@dataclass(frozen=True)
class Op:
    """One operation; -1 among its `inputs` is an absent optional one."""

    index: OpIndex
    name: str
    inputs: tuple[TensorIndex, ...]
    outputs: tuple[TensorIndex, ...]
    custom: str | None = None


@dataclass(frozen=True)
class Port:
    """A named input or output of a signature."""

    name: str
    tensor: TensorIndex


@dataclass(frozen=True)
class Graph:
    """A read-only view of one signature's subgraph."""

    subgraph: int
    signature: str | None
    tensors: tuple[Tensor, ...]
    ops: tuple[Op, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    @cached_property
    def producer(self) -> dict[TensorIndex, OpIndex]:
        """Which op makes a tensor."""
        return {t: op.index for op in self.ops for t in op.outputs}

    @cached_property
    def consumers(self) -> dict[TensorIndex, tuple[OpIndex, ...]]:
        """Which ops read a tensor, in order."""
        readers: dict[TensorIndex, list[OpIndex]] = {}
        for op in self.ops:
            for t in dict.fromkeys(op.inputs):
                readers.setdefault(t, []).append(op.index)
        return {t: tuple(ops) for t, ops in readers.items()}

    @cached_property
    def constant_ops(self) -> frozenset[OpIndex]:
        """Ops whose inputs are all constants, such as a DEQUANTIZE of float16 weights."""
        folded: set[OpIndex] = set()
        for op in self.ops:
            feeds = [t for t in op.inputs if t >= 0]
            if feeds and all(self.tensors[t].constant or self.producer.get(t) in folded for t in feeds):
                folded.add(op.index)
        return frozenset(folded)


class Model:
    """A .tflite model: `root` is the flatbuffer object tree (`ModelT`), edited in place by `harness.graph.surgery`."""

    def __init__(self, root: Any, path: Path | None = None, data: bytes | None = None) -> None:
        self.root = root
        self.path = path
        self._data = data

    @classmethod
    def load(cls, path: str | Path) -> Model:
        """Read a .tflite file of up to 2 GB.

        Raises:
            UsageError: the file is missing, empty, truncated, not a .tflite, or its graph refers to things it lacks.
        """
        path = Path(path)
        return cls.from_bytes(read_model_file(path), path)

    @classmethod
    def from_bytes(cls, data: bytes, path: Path | None = None) -> Model:
        """Parse .tflite bytes; `path` is used in messages and facts only. Raises UsageError as :meth:`load`."""
        name = str(path) if path else "The model"
        if not data:
            raise UsageError(f"{name} is empty.", "Export or copy the model again.")
        try:
            verify(data)
            root = schema.ModelT.InitFromPackedBuf(data, 0)
            _inline_buffers(root, data)
            _check_graph(root)
        except _MALFORMED as error:
            raise UsageError(f"{name} is not a readable .tflite: {error}.", "Export or copy the model again.") from None
        return cls(root, path, data)

    def to_bytes(self) -> bytes:
        """Serialize, buffers aligned to 16 bytes as the schema demands. The bytes as read while nothing was edited.

        Raises:
            UsageError: an edit took the model over 2 GB.
        """
        if self._data is not None:
            return self._data
        try:
            builder = flatbuffers.Builder(self.weights_bytes + (1 << 20))
            builder.Finish(self.root.Pack(builder), file_identifier=IDENTIFIER)
        except BuilderSizeError:
            raise UsageError(
                "A copy of the model that was to be run has over 2 GB, more than a .tflite can hold.",
                "Split the model.",
            ) from None
        return bytes(memoryview(builder.Bytes)[builder.Head() :])  # Output() would be one copy more

    def edited(self) -> None:
        """Tell that `root` was changed, so that the bytes as read no longer stand for it."""
        self._data = None

    @property
    def sha256(self) -> str:
        """Hex digest of the serialized model."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @property
    def weights_bytes(self) -> int:
        """Bytes of all constant buffers."""
        return sum(len(b.data) for b in self.root.buffers if b.data is not None)

    @property
    def signatures(self) -> tuple[str, ...]:
        """Signature keys, in file order; empty for a model without signatures."""
        return tuple(text(s.signatureKey) for s in self.root.signatureDefs or ())

    def op_name(self, code_index: int) -> tuple[str, str | None]:
        """(builtin name, custom name or None) of an operator code."""
        code = self.root.operatorCodes[code_index]
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        custom = text(code.customCode) if number == schema.BuiltinOperator.CUSTOM else None
        return _BUILTIN_NAMES.get(number, f"BUILTIN_{number}"), custom

    def graph(self, signature: str | None = None) -> Graph:
        """The view of one signature (default: the first one, else subgraph 0).

        Raises:
            UsageError: no signature of that name.
        """
        index, inputs, outputs, key = 0, None, None, None
        defs = self.root.signatureDefs or []
        if signature is not None and signature not in self.signatures:
            known = ", ".join(self.signatures) or "none"
            raise UsageError(f"The model has no signature '{signature}'.", f"It has: {known}.")
        if defs:
            chosen = defs[self.signatures.index(signature) if signature is not None else 0]
            key, index = text(chosen.signatureKey), chosen.subgraphIndex
            inputs = tuple(Port(text(m.name), m.tensorIndex) for m in chosen.inputs or ())
            outputs = tuple(Port(text(m.name), m.tensorIndex) for m in chosen.outputs or ())
        sub = self.root.subgraphs[index]
        tensors = tuple(self._tensor(sub, i) for i in range(len(sub.tensors or ())))
        if inputs is None or outputs is None:
            inputs = tuple(Port(tensors[i].name, i) for i in indices(sub.inputs))
            outputs = tuple(Port(tensors[i].name, i) for i in indices(sub.outputs))
        ops = []
        for i, op in enumerate(sub.operators or ()):
            name, custom = self.op_name(op.opcodeIndex)
            ops.append(Op(i, name, indices(op.inputs), indices(op.outputs), custom))
        return Graph(index, key, tensors, tuple(ops), inputs, outputs)

    def constant(self, tensor: TensorIndex, subgraph: int = 0) -> np.ndarray[Any, Any] | None:
        """The values of a constant tensor in its shape, or None when it has none or numpy has no such type."""
        raw = self.root.subgraphs[subgraph].tensors[tensor]
        info = self._tensor(self.root.subgraphs[subgraph], tensor)
        if not info.constant or info.dtype is None or info.shape is None or raw.sparsity is not None:
            return None
        held = self.root.buffers[raw.buffer].data  # None where there is no element
        data = np.asarray([] if held is None else held, dtype=np.uint8)
        if data.nbytes != info.nbytes:
            return None
        return data.view(info.dtype).reshape(info.shape)

    def _tensor(self, sub: Any, index: TensorIndex) -> Tensor:
        raw = sub.tensors[index]
        shape: tuple[int, ...] | None = () if raw.shape is None else tuple(int(d) for d in raw.shape)
        signature = raw.shapeSignature
        if raw.shape is None and not raw.hasRank and not raw.buffer and raw.type != schema.TensorType.STRING:
            shape = None  # nothing is said; a scalar says that it has a rank
        if shape is not None and (
            any(d < 0 for d in shape) or (signature is not None and min(signature, default=0) < 0)
        ):
            shape = None
        buffer = self.root.buffers[raw.buffer] if raw.buffer else None
        quantization = raw.quantization
        quantized = quantization is not None and quantization.scale is not None and len(quantization.scale) > 0
        holds_nothing = shape is not None and 0 in shape
        constant = buffer is not None and ((buffer.data is not None and len(buffer.data) > 0) or holds_nothing)
        name = text(raw.name) or f"tensor_{index}"
        kind = _TYPE_NAMES.get(raw.type, f"TYPE_{raw.type}")
        grid = grid_of(kind, quantization.scale, quantization.zeroPoint, quantization.details) if quantized else None
        return Tensor(index, name, kind, shape, constant, quantized, grid)


class AlignedBuffer(schema.BufferT):  # type: ignore[misc]
    """A `BufferT` that packs its bytes 16-aligned (`force_align: 16` in the schema, which the object API drops)."""

    def Pack(self, builder: Any) -> int:
        """Write the bytes, then the table that points at them."""
        offset = None
        if self.data is not None:
            raw = np.ascontiguousarray(self.data, dtype=np.uint8)
            builder.StartVector(1, raw.nbytes, 16)
            builder.head = builder.Head() - raw.nbytes
            builder.Bytes[builder.Head() : builder.Head() + raw.nbytes] = raw.tobytes()
            offset = builder.EndVector()
        schema.BufferStart(builder)
        if offset is not None:
            schema.BufferAddData(builder, offset)
        return int(schema.BufferEnd(builder))


def text(value: Any) -> str:
    """A flatbuffer string (bytes, str or None) as str."""
    if value is None:
        return ""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def indices(values: Any) -> tuple[int, ...]:
    """A flatbuffer vector of ints (numpy, list or None) as a tuple."""
    return () if values is None else tuple(int(v) for v in values)


def _inline_buffers(root: Any, data: bytes) -> None:
    """Bring what lies behind the flatbuffer (buffers and options of custom ops with an offset and a size) inside, and
    align all buffers on writing."""
    root.buffers = root.buffers or []
    for i, old in enumerate(root.buffers):
        new = AlignedBuffer(old.data)
        if old.offset > 1:
            new.data = _behind(data, old.offset, old.size, f"buffer {i}")
        root.buffers[i] = new
    for sub in root.subgraphs or ():
        for i, op in enumerate(sub.operators or ()):
            if op.largeCustomOptionsOffset > 1:
                place = op.largeCustomOptionsOffset, op.largeCustomOptionsSize
                op.customOptions = _behind(data, *place, f"the options of op {i}")
                op.largeCustomOptionsOffset = op.largeCustomOptionsSize = 0


def _behind(data: bytes, offset: int, size: int, what: str) -> np.ndarray[Any, Any]:
    if offset + size > len(data):
        raise MalformedError(f"{what} ends at byte {offset + size}, past the end of the file")
    return np.frombuffer(data, np.uint8, size, offset)


def _check_graph(root: Any) -> None:
    """Every index that the graph code follows must exist."""
    if not root.subgraphs:
        raise MalformedError("it has no subgraph")
    codes, buffers = len(root.operatorCodes or ()), len(root.buffers)
    made: list[dict[TensorIndex, OpIndex]] = []
    for s, sub in enumerate(root.subgraphs):
        count = len(sub.tensors or ())
        for t, tensor in enumerate(sub.tensors or ()):
            if not 0 <= tensor.buffer < max(buffers, 1):
                raise MalformedError(f"tensor {t} of subgraph {s} names buffer {tensor.buffer} of {buffers}")
            if tensor.shape is not None and len(tensor.shape) > MAX_RANK:
                raise MalformedError(f"tensor {t} of subgraph {s} has rank {len(tensor.shape)}")
            # One without elements has limits too: numpy counts its other sizes.
            if math.prod(d for d in indices(tensor.shape) if d > 0) >= MOST_ELEMENTS:
                shape = list(indices(tensor.shape))
                raise MalformedError(f"tensor {t} of subgraph {s} has shape {shape}, which no array can have")
            held = _length(root.buffers[tensor.buffer].data) if tensor.buffer else 0
            taken = _plain_size(tensor)
            if held and taken is not None and held != taken:
                raise MalformedError(f"tensor {t} of subgraph {s} takes {taken} bytes, but its constant has {held}")
        for label, listed in (("input", sub.inputs), ("output", sub.outputs)):
            _within(indices(listed), 0, count, f"{label} of subgraph {s}")
        made.append({})
        for o, op in enumerate(sub.operators or ()):
            _within((op.opcodeIndex,), 0, codes, f"operator code of op {o}")
            _within(indices(op.inputs), -1, count, f"input of op {o}")
            _within(indices(op.outputs), 0, count, f"output of op {o}")
            _within(indices(op.intermediates), -1, count, f"intermediate of op {o}")
            for t in indices(op.outputs):
                if made[s].setdefault(t, o) != o:
                    raise MalformedError(f"tensor {t} of subgraph {s} is made by op {made[s][t]} and by op {o}")
        for t in set(indices(sub.inputs)) & set(made[s]):
            raise MalformedError(f"tensor {t} is an input of subgraph {s} and made by op {made[s][t]}")
        for o, op in enumerate(sub.operators or ()):
            for t in indices(op.inputs):
                if made[s].get(t, -1) >= o:
                    raise MalformedError(f"op {o} of subgraph {s} reads tensor {t}, which op {made[s][t]} makes later")
    for key in root.signatureDefs or ():
        _within((key.subgraphIndex,), 0, len(root.subgraphs), "subgraph of a signature")
        count = len(root.subgraphs[key.subgraphIndex].tensors or ())
        ports = [m.tensorIndex for m in (*(key.inputs or ()), *(key.outputs or ()))]
        _within(tuple(ports), 0, count, "tensor of a signature")
        for t in {m.tensorIndex for m in key.inputs or ()} & set(made[key.subgraphIndex]):
            raise MalformedError(f"tensor {t} is an input of a signature and made by an op")


def _length(data: Any) -> int:
    return 0 if data is None else len(data)


def _plain_size(tensor: Any) -> int | None:
    """Bytes that a constant of this tensor must have, or None where its type, shape or sparsity leave that open."""
    scalar = NUMPY_TYPES.get(_TYPE_NAMES.get(tensor.type, ""))
    shape = indices(tensor.shape)
    if scalar is None or tensor.sparsity is not None or any(d < 0 for d in shape):
        return None
    return math.prod(shape) * np.dtype(scalar).itemsize


def _within(values: tuple[int, ...], least: int, count: int, what: str) -> None:
    for value in values:
        if not least <= value < count:
            raise MalformedError(f"{what} is {value}, but there are only {count}")
