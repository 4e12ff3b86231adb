"""Outcomes on the disk: a probe's outputs streamed into one safetensors file as they arrive, its other facts as JSON.

The file's layout is known before the first output comes, so that no more than one of them is held at a time; it gets
its name only once it is whole and on the disk. Outputs go by position, for their names may be anything.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from harness.devices.base import Sink
from harness.foreign_files import is_file
from harness.job import Array, Completed, Job, OutputPort, Rejected, Residency, Sample
from harness.results import writing

# The format's names of the types that the wire carries.
_TYPES = {
    "float16": "F16", "float32": "F32", "float64": "F64", "int8": "I8", "int16": "I16", "int32": "I32", "int64": "I64",
    "uint8": "U8", "uint16": "U16", "uint32": "U32", "uint64": "U64", "bool": "BOOL",
}  # fmt: skip
# Of a log, the end is what tells.
LOG_KEPT = 64 << 10


def keepable(job: Job) -> bool:
    """Whether the format has a name for every output's type."""
    return all(port.dtype.name in _TYPES for port in job.outputs)


class Keeper:
    """Writes the outputs of one probe. Raises StorageError, and leaves no part of a file then."""

    def __init__(self, path: Path, ports: tuple[OutputPort, ...]) -> None:
        self._path, self._partial = path, path.with_suffix(".part")
        self._expected = list(ports)
        self.checksums: list[int] = []
        with writing(path):
            self._file = self._partial.open("wb")
        self._write(_header(ports))

    def put(self, name: str, values: Array) -> None:
        """The next output."""
        port = self._expected.pop(0)
        assert (port.name, port.shape, port.dtype) == (name, values.shape, values.dtype)
        data = np.ascontiguousarray(values).reshape(-1).view(np.uint8).data if values.size else b""
        self.checksums.append(zlib.crc32(data))
        self._write(data)

    def finish(self) -> None:
        """Everything is there: to the disk, and under its name."""
        assert not self._expected
        try:
            with writing(self._path):
                self._file.flush()
                os.fsync(self._file.fileno())
                self._file.close()
                # The name reaches the disk with the journal's line, and a line without its file costs one probe.
                self._partial.replace(self._path)
        except BaseException:
            self.abandon()
            raise

    def abandon(self) -> None:
        """Leave nothing behind."""
        with suppress(OSError):  # what was still to be written is not wanted
            self._file.close()
        with suppress(OSError):  # the disk's error, which brought it here, is the one to tell
            self._partial.unlink(missing_ok=True)

    def _write(self, data: Any) -> None:
        try:
            with writing(self._path):
                self._file.write(data)
        except BaseException:
            self.abandon()
            raise


def _header(ports: tuple[OutputPort, ...]) -> bytes:
    entries: dict[str, Any] = {}
    at = 0
    for place, port in enumerate(ports):
        entries[str(place)] = {
            "dtype": _TYPES[port.dtype.name],
            "shape": list(port.shape),
            "data_offsets": [at, at + port.nbytes],
        }
        at += port.nbytes
    raw = json.dumps(entries).encode()
    raw += b" " * (-len(raw) % 8)
    return struct.pack("<Q", len(raw)) + raw


def is_whole(path: Path, ports: tuple[OutputPort, ...], checksums: Any) -> bool:
    """Whether a file holds exactly these outputs. One output is in memory at a time."""
    if not isinstance(checksums, list) or len(checksums) != len(ports):
        return False
    try:
        if not is_file(path):
            return False
        with safetensors.safe_open(path, "numpy") as file:
            for place, (port, checksum) in enumerate(zip(ports, checksums, strict=True)):
                values = file.get_tensor(str(place))
                if (values.shape, values.dtype) != (port.shape, port.dtype):
                    return False
                if zlib.crc32(values.reshape(-1).view(np.uint8).data if values.size else b"") != checksum:
                    return False
    except (safetensors.SafetensorError, OSError):
        return False
    return True


def deliver(path: Path, ports: tuple[OutputPort, ...], take: Sink) -> None:
    """Hand over the outputs of a whole file, one after another."""
    with safetensors.safe_open(path, "numpy") as file:
        for place, port in enumerate(ports):
            take(port.name, file.get_tensor(str(place)))


def facts_of(outcome: Completed | Rejected) -> dict[str, Any]:
    """Everything but the outputs, as JSON."""
    if isinstance(outcome, Rejected):
        return {"reason": outcome.reason, "ops": list(outcome.ops), "log": outcome.log[-LOG_KEPT:]}
    facts = {name: value for name, value in vars(outcome).items() if name != "outputs"}
    facts |= {"residency": asdict(outcome.residency), "samples": [list(vars(s).values()) for s in outcome.samples]}
    return facts | {"log": outcome.log[-LOG_KEPT:]}


def rejected_from(facts: dict[str, Any]) -> Rejected:
    """The refusal that :func:`facts_of` wrote down. Raises KeyError, TypeError for anything else."""
    return Rejected(_of(str, facts["reason"]), tuple(_of(str, op) for op in facts["ops"]), _of(str, facts["log"]))


def completed_from(facts: dict[str, Any], outputs: dict[str, Array]) -> Completed:
    """The outcome that :func:`facts_of` wrote down. Raises KeyError, TypeError for anything else."""
    place = facts["residency"]
    counts = {name: _of(int | None, place[name]) for name in ("delegated", "total", "partitions")}
    on_cpu = None if place["on_cpu"] is None else tuple(_of(int, op) for op in place["on_cpu"])
    refused = tuple(_of(str, line) for line in place["refused"])
    texts = {name: _of(str, facts[name]) for name in ("runtime", "adapter", "log", "boot_id", "thermal")}
    return Completed(
        outputs=outputs,
        residency=Residency(_of(bool, place["full"]), refused=refused, on_cpu=on_cpu, **counts),
        samples=tuple(Sample(*(_of(int, time) for time in row)) for row in facts["samples"]),
        compile_ns=_of(int, facts["compile_ns"]),
        compiled=_of(bool, facts["compiled"]),
        **texts,
    )


def _of(kind: Any, value: Any) -> Any:
    """The value, if it is of that kind. Raises TypeError."""
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        raise TypeError(f"{value!r:.40} is no {kind}")
    return value
