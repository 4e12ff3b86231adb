"""ops.csv, samples.csv and log.txt of a run folder, as far as they were written."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.core import safe_files
from harness.core.arrays import OpIndex
from harness.core.errors import UsageError

Verdict = Literal["culprit", "unread", "inherited", "fine"]
VERDICTS: tuple[Verdict, ...] = ("culprit", "inherited", "fine", "unread")
OPS_COLUMNS = (
    "index", "first", "op", "output", "shape", "dtype", "verdict", "reading", "local_max_abs", "local_rms",
    "expected_max_abs", "expected_rms", "ratio", "nonfinite", "cosine_vs_reference", "max_abs_vs_reference",
    "device_min", "device_max",
)  # fmt: skip
SAMPLES_COLUMNS = ("phase", "iteration", "write_ns", "run_ns", "read_ns")
TIMED_COLUMNS = ("phase", "total_ns", "replication", "round")
"""Of a benchmark's samples.csv, those that its page is made of."""

_LOG_BYTES = 24 << 10
_LOG_LINES = 120


@dataclass(frozen=True)
class OpRow:
    """One line of ops.csv. Figures are None where the op could not be read."""

    index: OpIndex
    first: OpIndex
    op: str
    output: str
    shape: str
    dtype: str
    verdict: Verdict
    as_output: bool
    local_max: float | None
    local_rms: float | None
    expected_max: float | None
    expected_rms: float | None
    ratio: float | None
    nonfinite: int | None
    cosine: float | None
    reference_max: float | None
    device_range: tuple[float, ...]

    @property
    def number(self) -> str:
        """`49`, or `3–5` where ops were judged together."""
        return str(self.index) if self.first == self.index else f"{self.first}–{self.index}"


@dataclass(frozen=True)
class Ops:
    """ops.csv. `there` tells an empty file from none; `incomplete` counts lines that were cut off."""

    rows: tuple[OpRow, ...] = ()
    incomplete: int = 0
    there: bool = False


@dataclass(frozen=True)
class SampleRow:
    """One timed iteration, in nanoseconds."""

    phase: str
    iteration: int
    write: float
    run: float
    read: float


@dataclass(frozen=True)
class TimedRow:
    """One iteration of a benchmark: its phase, the process and round it belongs to, and its whole time in
    nanoseconds."""

    phase: str
    process: int
    round: int
    total: float


@dataclass(frozen=True)
class LogTail:
    """The end of log.txt."""

    text: str = ""
    cut: bool = False


def read_ops(path: Path) -> Ops:
    """Read ops.csv; its last line may be half a line. Raises UsageError."""
    rows, incomplete = [], 0
    if not path.exists():
        return Ops()
    for line, cells in _lines(path, OPS_COLUMNS):
        try:
            rows.append(_op(cells))
        except KeyError:
            incomplete += 1
        except (ValueError, OverflowError) as error:
            raise UsageError(f"{path}, line {line}: {error}.", "Run the command again.") from None
    return Ops(tuple(rows), incomplete, True)


def whole_lines(path: Path) -> Iterator[dict[str, str]]:
    """The cells of ops.csv as they were written, by column, without lines that were cut off. Raises UsageError."""
    return (cells for _, cells in _lines(path, OPS_COLUMNS) if cells.keys() >= set(OPS_COLUMNS))


def read_samples(path: Path) -> tuple[SampleRow, ...]:
    """Read samples.csv, without a last line that was cut off; nothing when there is none. Raises UsageError."""
    rows = []
    for line, cells in _lines(path, SAMPLES_COLUMNS) if path.exists() else ():
        try:
            times = [_nanoseconds(cells[name]) for name in SAMPLES_COLUMNS[2:]]
            rows.append(SampleRow(cells["phase"], int(cells["iteration"]), *times))
        except KeyError:
            continue
        except ValueError as error:
            raise UsageError(f"{path}, line {line}: {error}.", "Run the command again.") from None
    return tuple(rows)


def read_timed(path: Path) -> tuple[TimedRow, ...]:
    """Read a benchmark's samples.csv likewise. Raises UsageError."""
    rows = []
    for line, cells in _lines(path, TIMED_COLUMNS) if path.exists() else ():
        try:
            process, place = int(cells["replication"]), int(cells["round"])
            rows.append(TimedRow(cells["phase"], process, place, _nanoseconds(cells["total_ns"])))
        except KeyError:
            continue
        except ValueError as error:
            raise UsageError(f"{path}, line {line}: {error}.", "Run the command again.") from None
    return tuple(rows)


def read_log(path: Path) -> LogTail:
    """The last lines of log.txt; nothing when there is none. Raises UsageError."""
    if not path.exists():
        return LogTail()
    try:
        content, size = safe_files.tail(path, _LOG_BYTES)
    except OSError as error:
        raise _unreadable(path, error) from None
    lines = content.decode("utf-8", errors="replace").splitlines()
    cut = size > _LOG_BYTES or len(lines) > _LOG_LINES
    # The first line of a tail by bytes is likely half a line.
    kept = lines[1:] if size > _LOG_BYTES and len(lines) > 1 else lines
    return LogTail("\n".join(kept[-_LOG_LINES:]), cut)


def _lines(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and cells by column; a line that a killed writer cut off has none."""
    try:
        text = safe_files.read(path).decode("utf-8", errors="replace")
        records = [(number, cells) for cells, number in _numbered(text)]
    except OSError as error:
        raise _unreadable(path, error) from None
    except csv.Error as error:
        raise UsageError(f"{path} cannot be read ({error}).", "Run the command again.") from None
    if not records:
        return
    header = records[0][1]
    missing = [name for name in columns if name not in header]
    if missing:
        raise UsageError(f"{path} has no column {missing[0]!r}.", "Run the command again.")
    for place, (number, cells) in enumerate(records[1:], start=2):
        cut = place == len(records) and not text.endswith("\n")
        yield number, {} if cut else dict(zip(header, cells, strict=False))


def _numbered(text: str) -> Iterator[tuple[list[str], int]]:
    reader = csv.reader(io.StringIO(text, newline=""))
    for cells in reader:
        yield cells, reader.line_num


def _op(cells: dict[str, str]) -> OpRow:
    """Raises KeyError when a column is missing, ValueError when one holds nonsense."""
    verdict = cells["verdict"]
    if verdict not in VERDICTS:
        raise ValueError(f"verdict is {verdict[:40]!r}")
    index, first = int(cells["index"]), int(cells["first"])
    if not 0 <= first <= index < 1 << 31:
        raise ValueError(f"ops {first} to {index} cannot be")
    bounds = (cells["device_min"], cells["device_max"])
    # An op that was not read has no figures, whatever its columns hold.
    read = verdict != "unread"
    value = {name: float(cells[name]) if read and cells[name] else None for name in OPS_COLUMNS[8:16]}
    nonfinite = value["nonfinite"]
    return OpRow(
        index=index,
        first=first,
        op=cells["op"],
        output=cells["output"],
        shape=cells["shape"].replace("x", "×") or "scalar",
        dtype=cells["dtype"],
        verdict=verdict,
        as_output=cells["reading"] == "output",
        local_max=value["local_max_abs"],
        local_rms=value["local_rms"],
        expected_max=value["expected_max_abs"],
        expected_rms=value["expected_rms"],
        ratio=value["ratio"],
        nonfinite=None if nonfinite is None else int(nonfinite),
        cosine=value["cosine_vs_reference"],
        reference_max=value["max_abs_vs_reference"],
        device_range=tuple(float(b) for b in bounds) if read and all(bounds) else (),
    )


def _nanoseconds(cell: str) -> float:
    """Raises ValueError for what no clock can have counted."""
    value = float(cell)
    if not 0 <= value < 2**63:
        raise ValueError(f"a time of {cell[:24]} ns cannot be")
    return value


def _unreadable(path: Path, error: OSError) -> UsageError:
    return UsageError(f"{path} cannot be read ({error.strerror or error}).", "Check its permissions.")
