"""Runs as tidy data frames: one row for each run, output, timed iteration or op, joined by the column `run`.

docs/pandas.md lists the columns. An unreadable folder is a row of `runs` that says so, never an error.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from harness.core import safe_files
from harness.core.errors import UsageError
from harness.core.fields import Fields
from harness.core.run_folder import read_run
from harness.dashboard.facts import RunFacts, error_ratio
from harness.dashboard.index import build_index
from harness.numerics.metrics import titled
from harness.report.tables import OPS_COLUMNS

SAMPLES_COLUMNS = (
    "run", "phase", "iteration", "write_ms", "run_ms", "readback_ms", "total_ms", "replication", "round", "elapsed_s",
    "thermal", "clock_mhz", "waited",
)  # fmt: skip
OUTPUTS_COLUMNS = (
    "run", "output", "ok", "cosine", "max_abs", "expected_max_abs", "ratio", "relative_rms", "snr_db", "iou",
    "nonfinite",
)  # fmt: skip
PROBLEMS_COLUMNS = ("run", "file", "why")
_NANOSECONDS = {"write_ms": "write_ns", "run_ms": "run_ns", "readback_ms": "read_ns"}


_Problem = tuple[str, str, str]


@dataclass(frozen=True)
class Frames:
    """The runs of a results folder. `runs` is there at once; the others are read when first asked for."""

    results: Path
    facts: tuple[RunFacts, ...]

    @cached_property
    def runs(self) -> pd.DataFrame:
        """One row for each run, newest first, with `started` as UTC timestamps and `valid`: a benchmark that counts."""
        names = [field.name for field in fields(RunFacts)]
        joined = ({"culprits": "; ".join(run.culprits), "invalid": "; ".join(run.invalid)} for run in self.facts)
        rows = [asdict(run) | lists | {"valid": run.valid} for run, lists in zip(self.facts, joined, strict=True)]
        frame = pd.DataFrame(rows, columns=[*names, "valid"])
        frame["started"] = pd.to_datetime(frame["started"], utc=True, errors="coerce", format="ISO8601")
        counts = [f.name for f in fields(RunFacts) if f.type in ("int | None", "int")]
        times = [f.name for f in fields(RunFacts) if f.type == "float | None"]
        flags = [*(f.name for f in fields(RunFacts) if f.type == "bool"), "valid"]
        return frame.astype(
            dict.fromkeys(counts, "Int64") | dict.fromkeys(times, "float64") | dict.fromkeys(flags, "bool")
        )

    @property
    def samples(self) -> pd.DataFrame:
        """One row for each timed iteration, in milliseconds; `phase` `steady` is what percentiles are made of."""
        return self._samples[0]

    @property
    def ops(self) -> pd.DataFrame:
        """One row for each op of a localization or dump, with the columns of ops.csv."""
        return self._ops[0]

    @cached_property
    def outputs(self) -> pd.DataFrame:
        """One row for each output that was judged or measured."""
        readable = [run for run in self.facts if run.state != "unreadable"]
        rows = [row for run in readable for row in _outputs(self.results / run.run)]
        kinds = (
            dict.fromkeys(OUTPUTS_COLUMNS[3:-1], "float64")
            | dict.fromkeys(titled(), "float64")
            | {"ok": "boolean", "nonfinite": "Int64"}
        )
        columns = [*OUTPUTS_COLUMNS, *titled()]
        return pd.DataFrame(rows, columns=columns).astype(kinds)

    @property
    def problems(self) -> pd.DataFrame:
        """What could not be read: one row for each such file, with the reason. Its rows are in no other frame."""
        runs = [(run.run, "run.json", run.error) for run in self.facts if run.state == "unreadable"]
        return pd.DataFrame([*runs, *self._samples[1], *self._ops[1]], columns=list(PROBLEMS_COLUMNS))

    @cached_property
    def _samples(self) -> tuple[pd.DataFrame, list[_Problem]]:
        return self._read("samples.csv", SAMPLES_COLUMNS, _samples)

    @cached_property
    def _ops(self) -> tuple[pd.DataFrame, list[_Problem]]:
        return self._read("ops.csv", ("run", *OPS_COLUMNS), lambda read: read)

    def _read(
        self, name: str, columns: Sequence[str], shape: Callable[[pd.DataFrame], pd.DataFrame]
    ) -> tuple[pd.DataFrame, list[_Problem]]:
        """The .csv of every run that has one, one under the other, and those that cannot be read."""
        parts, problems = [], []
        for run in self.facts:
            path = self.results / run.run / name
            if not path.is_file():
                continue
            try:
                text = safe_files.read(path).decode("utf-8", errors="replace")
                whole = io.StringIO(text[: text.rfind("\n") + 1])  # a last line without its end was cut off
                read = shape(pd.read_csv(whole, low_memory=False)).assign(run=run.run)
            except (OSError, ValueError, KeyError, OverflowError) as error:
                problems.append((run.run, name, f"{type(error).__name__}: {error}"))
                continue
            parts.append(read.reindex(columns=list(columns)).dropna(axis="columns", how="all"))
        frame = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
        return frame.reindex(columns=list(columns)), problems


def load_runs(results: str | Path = "results") -> Frames:
    """The runs under a folder as data frames.

    Raises:
        UsageError: no such folder.
    """
    folder = Path(results)
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder.", "Give the folder that holds the runs (`--out` of the commands).")
    return Frames(folder, build_index(folder).runs)


def _samples(read: pd.DataFrame) -> pd.DataFrame:
    """samples.csv in milliseconds. Raises KeyError or ValueError when it is not one."""
    for milliseconds, nanoseconds in _NANOSECONDS.items():
        times = pd.to_numeric(read[nanoseconds]).astype("float64")
        if not times.between(0, 2.0**63).all():
            raise ValueError(f"{nanoseconds} has a time that cannot be")
        read[milliseconds] = times / 1e6
    return read.assign(total_ms=read["write_ms"] + read["run_ms"] + read["readback_ms"])


def _outputs(folder: Path) -> Iterable[dict[str, Any]]:
    """Raises UsageError when a run.json is not what it should be."""
    record = Fields(read_run(folder))
    result = record.child("result")
    for output in result.children("accuracy") or result.children("outputs") or record.children("outputs"):
        figures = {name: output.number(name) for name in (*OUTPUTS_COLUMNS[3:-1], *titled())}
        figures["ratio"] = error_ratio(output)
        row = {"run": folder.name, "output": output.text("name"), "ok": output.flag("ok")}
        yield row | figures | {"nonfinite": output.count("nonfinite")}
