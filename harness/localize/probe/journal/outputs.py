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

from harness.core.arrays import Array
from harness.core.errors import UsageError
from harness.core.fields import Fields
from harness.core.job import Completed, Job, OutputPort, Rejected, Residency, Sample
from harness.core.run_folder import writing
from harness.core.safe_files import created, is_file
from harness.devices.base import Sink

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


class OutputWriter:
    """Writes the outputs of one probe. Raises StorageError, and leaves no part of a file then."""

    def __init__(self, path: Path, ports: tuple[OutputPort, ...]) -> None:
        self._path, self._partial = path, path.with_suffix(".part")
        self._expected = list(ports)
        self.checksums: list[int] = []
        with writing(path):
            self._file = created(self._partial)
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


def rejected_from(facts: Any) -> Rejected:
    """The refusal that :func:`facts_of` wrote down. Raises UsageError for anything else."""
    known = _whole(facts, ("reason", "ops", "log"))
    return Rejected(known.text("reason"), known.texts("ops"), known.text("log"))


def completed_from(facts: Any, iterations: int, outputs: dict[str, Array]) -> Completed:
    """The outcome of so many iterations that :func:`facts_of` wrote down. Raises UsageError for anything else."""
    known = _whole(facts, ("residency", "samples", "compile_ns", "compiled", "runtime", "adapter", "log"))
    place = known.child("residency")
    samples = tuple(Sample(*_counts(row, 3)) for row in known.entries("samples"))
    if len(samples) != iterations:
        raise UsageError(f"{known.where} has {len(samples)} samples, not {iterations}.")
    on_cpu = place.values.get("on_cpu")
    (compile_ns,) = _counts([known.values["compile_ns"]], 1)
    return Completed(
        outputs=outputs,
        residency=Residency(
            place.flag("full") or False,
            place.count("delegated"),
            place.count("total"),
            place.count("partitions"),
            place.texts("refused"),
            None if on_cpu is None else _counts(on_cpu),
            place.flag("cut") or False,
        ),
        samples=samples,
        compile_ns=compile_ns,
        compiled=known.flag("compiled") or False,
        runtime=known.text("runtime"),
        adapter=known.text("adapter"),
        log=known.text("log"),
        boot_id=known.text("boot_id"),
        thermal=known.text("thermal"),
    )


def _whole(facts: Any, names: tuple[str, ...]) -> Fields:
    known = Fields({"outcome": facts}, "journal").child("outcome")
    lacking = [name for name in names if known.values.get(name) is None]
    if lacking:
        raise UsageError(f"{known.where} lacks {', '.join(lacking)}.")
    return known


def _counts(values: Any, length: int | None = None) -> tuple[int, ...]:
    """Whole numbers from 0 to the largest of 63 bits."""
    if not isinstance(values, list) or length not in (None, len(values)):
        raise UsageError("journal: outcome has a list of another length.")
    found = tuple(Fields({"n": value}, "journal: outcome").count("n") for value in values)
    if any(n is None or n < 0 for n in found):
        raise UsageError("journal: outcome has a number that nothing can have counted.")
    return tuple(n for n in found if n is not None)
