"""A structural check of .tflite bytes, before anything believes an offset or a length in them.

The generated reader follows whatever a file says: a vector that claims two thousand million entries, or a thousand
sub-graphs that all point at the same table, cost memory and time without bound. This walk visits each table of the
schema once per reference, with a budget on tables and depth as the C++ verifier has (FlatBuffers `Verifier`:
1,000,000 tables, depth 64), and touches no byte outside the file. Writers of .tflite give each table, string and vector
bytes of its own, so that a file whose parts refer to more bytes than `MAX_SHARING` times its size was made to harm: a
name of 1 MB shared by 100,000 tensors would be read 100,000 times.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

IDENTIFIER = b"TFL3"
"""Bytes 4 to 7 of every .tflite."""

MAX_TABLES = 1_000_000
MAX_DEPTH = 64
MAX_SHARING = 2
# A table takes at least its own offset to a vtable and one reference to it.
_TABLE_BYTES = 8

# Field slot -> (a table, several tables, or a union, with the schema's name or the slot of the union's type; or scalars
# or a string, with the bytes of one element).
_SCHEMA: dict[str, dict[int, tuple[str, str | int]]] = {
    "Model": {
        1: ("tables", "OperatorCode"),
        2: ("tables", "SubGraph"),
        3: ("string", 1),
        4: ("tables", "Buffer"),
        5: ("scalars", 4),
        6: ("tables", "Metadata"),
        7: ("tables", "SignatureDef"),
        8: ("tables", "ExternalBufferGroup"),
        9: ("tables", "ExternalBuffer"),
    },
    "ExternalBufferGroup": {0: ("string", 1)},
    "ExternalBuffer": {4: ("string", 1)},
    "OperatorCode": {1: ("string", 1)},
    "SubGraph": {
        0: ("tables", "Tensor"),
        1: ("scalars", 4),
        2: ("scalars", 4),
        3: ("tables", "Operator"),
        4: ("string", 1),
    },
    "Tensor": {
        0: ("scalars", 4),
        3: ("string", 1),
        4: ("table", "Quantization"),
        6: ("table", "Sparsity"),
        7: ("scalars", 4),
        9: ("tables", "Variant"),
    },
    "Variant": {0: ("scalars", 4)},
    "Quantization": {0: ("scalars", 4), 1: ("scalars", 4), 2: ("scalars", 4), 3: ("scalars", 8)},
    "Sparsity": {0: ("scalars", 4), 1: ("scalars", 4), 2: ("tables", "DimensionMetadata")},
    "DimensionMetadata": {},
    "Operator": {
        1: ("scalars", 4),
        2: ("scalars", 4),
        4: ("union", 3),
        5: ("scalars", 1),
        7: ("scalars", 1),
        8: ("scalars", 4),
        12: ("union", 11),
    },
    "Options": {},
    "VarHandleOptions": {0: ("string", 1), 1: ("string", 1)},
    "StablehloCustomCallOptions": {0: ("string", 1), 2: ("string", 1)},
    "StableHLOCompositeOptions": {0: ("string", 1)},
    "Buffer": {0: ("scalars", 1)},
    "Metadata": {0: ("string", 1)},
    "SignatureDef": {0: ("tables", "TensorMap"), 1: ("tables", "TensorMap"), 2: ("string", 1)},
    "TensorMap": {0: ("string", 1)},
}

# (slot, type) of the options that hold strings; the others hold scalars and vectors, which the reader only looks at.
_UNIONS = {(4, 111): "VarHandleOptions", (12, 5): "StablehloCustomCallOptions", (12, 21): "StableHLOCompositeOptions"}


class MalformedError(ValueError):
    """The bytes are not a well-formed .tflite; the message says where and why."""


@dataclass
class _Walk:
    data: memoryview
    tables: int = 0
    referred: int = 0

    def u16(self, at: int) -> int:
        self.need(at, 2)
        return int(struct.unpack_from("<H", self.data, at)[0])

    def u32(self, at: int) -> int:
        self.need(at, 4)
        return int(struct.unpack_from("<I", self.data, at)[0])

    def need(self, at: int, size: int) -> None:
        if at < 0 or size < 0 or at + size > len(self.data):
            raise MalformedError(f"offset {at} (+{size} bytes) points outside the {len(self.data)}-byte file")

    def refer(self, size: int) -> None:
        self.referred += size
        if self.referred > MAX_SHARING * len(self.data):
            raise MalformedError(f"its parts refer to more than {MAX_SHARING} times the file's {len(self.data)} bytes")

    def table(self, at: int, kind: str, depth: int) -> None:
        self.tables += 1
        if self.tables > MAX_TABLES:
            raise MalformedError(f"more than {MAX_TABLES:,} tables")
        if depth > MAX_DEPTH:
            raise MalformedError(f"tables nested deeper than {MAX_DEPTH}")
        self.refer(_TABLE_BYTES)
        self.need(at, 4)
        vtable = at - int(struct.unpack_from("<i", self.data, at)[0])
        vtable_size, table_size = self.u16(vtable), self.u16(vtable + 2)
        self.need(vtable, vtable_size)
        self.need(at, table_size)
        if vtable_size < 4 or vtable_size % 2 or table_size < 4:
            raise MalformedError(f"table at {at} has a vtable of {vtable_size} bytes")
        offsets = struct.unpack_from(f"<{(vtable_size - 4) // 2}H", self.data, vtable + 4)
        for slot, offset in enumerate(offsets):
            if offset >= table_size:
                raise MalformedError(f"field {slot} of the {kind} table at {at} lies outside the table")
            rule = _SCHEMA[kind].get(slot)
            if offset and rule:
                if rule[0] == "union":
                    place = offsets[int(rule[1])]
                    rule = ("table", _UNIONS.get((slot, self.data[at + place] if place else 0), "Options"))
                self.need(at + offset, 4)
                self.field(at + offset, rule, depth)

    def field(self, at: int, rule: tuple[str, str | int], depth: int) -> None:
        target = at + self.u32(at)
        shape, detail = rule
        if shape == "table":
            self.table(target, str(detail), depth + 1)
            return
        length = self.u32(target)
        if shape == "tables":
            self.need(target + 4, 4 * length)
            for i in range(length):
                entry = target + 4 + 4 * i
                self.table(entry + self.u32(entry), str(detail), depth + 1)
        else:
            self.need(target + 4, int(detail) * length)
            self.refer(int(detail) * length)


def verify(data: bytes) -> None:
    """Check the structure of a .tflite file.

    Raises:
        MalformedError: the bytes are too short, lack the `TFL3` identifier, or hold an offset, length or nesting that
            does not fit the file.
    """
    if len(data) < 16:
        raise MalformedError(f"only {len(data)} bytes")
    if data[4:8] != IDENTIFIER:
        raise MalformedError(f"no TFL3 identifier (bytes 4-7 are {data[4:8]!r})")
    walk = _Walk(memoryview(data))
    walk.table(walk.u32(0), "Model", 0)
