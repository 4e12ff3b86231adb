"""A run against another: is it the same question, may both be believed, and which is quicker?"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.core import safe_files
from harness.core.errors import UsageError
from harness.core.run_folder import read_run
from harness.latency.record import Against, BenchResult, Cell, Verdict
from harness.latency.stats import Compared, Values, compare_apart, compare_interleaved

Rounds = Mapping[tuple[int, int], Values]
"""Total times of steady samples, by (replication, round)."""


@dataclass(frozen=True)
class Baseline:
    """A run on disk to compare with."""

    path: Path
    result: BenchResult
    rounds: Rounds


def read_baseline(path: Path) -> Baseline:
    """A finished benchmark.

    Raises:
        UsageError: no run folder, not a finished benchmark, or its samples cannot be read.
    """
    record = read_run(path)
    if record.get("command") != "bench" or record.get("status") != "done":
        seen = f"a run of `{record.get('command')}`, and {record.get('status')}"
        raise UsageError(f"{path} is {seen}.", "Give --against a finished run of `harness bench`.")
    return Baseline(path, BenchResult.from_json(record.get("result") or {}), _read_rounds(path / "samples.csv"))


def compare_across_runs(result: BenchResult, rounds: Rounds, other: Baseline) -> Against:
    """The verdict on a new run, measured at another time than the one that it is compared with."""
    name = other.path.name
    refused = _refused(name, result, other.result)
    if refused is not None:
        return refused
    return _against(name, compare_apart(_grouped(rounds), _grouped(other.rounds)), _changed(result, other.result))


def compare_within_run(result: BenchResult, rounds: Rounds, other: Baseline) -> Against:
    """The verdict on a cell measured in turns with another one by the same command."""
    name = other.path.name
    refused = _refused(name, result, other.result)
    if refused is not None:
        return refused
    return _against(name, compare_interleaved_rounds(rounds, other.rounds), _changed(result, other.result))


def compare_interleaved_rounds(ours: Rounds, theirs: Rounds) -> Compared:
    """Cells that had their turns in the same rounds, whatever their validity."""
    shared = [key for key in ours if key in theirs]
    return compare_interleaved([ours[k] for k in shared], [theirs[k] for k in shared])


def incomparable(new: BenchResult, old: BenchResult) -> str:
    """Why two runs answer different questions; empty when they answer one."""
    if new.cell.model_sha256 != old.cell.model_sha256:
        return f"Another model: sha256 {new.cell.model_sha256[:12]}, then {old.cell.model_sha256[:12]}."
    if new.inputs_sha256 != old.inputs_sha256:
        return f"Other inputs: sha256 {new.inputs_sha256[:12]}, then {old.inputs_sha256[:12]}."
    return ""


def same_choices(new: Cell, old: Cell) -> bool:
    """Whether two cells differ in nothing but where, when and of which model they are."""
    names = ("accelerator", "precision", "backend", "threads")
    return all(getattr(new, name) == getattr(old, name) for name in names)


def _refused(name: str, new: BenchResult, old: BenchResult) -> Against | None:
    different = incomparable(new, old)
    if different:
        return Against(name, "incomparable", different)
    for which, flawed in (("This run", new), ("The other run", old)):
        if not flawed.valid:
            return Against(name, "cannot tell", f"{which} is invalid ({flawed.invalid[0].reason}).")
    return None


def _changed(new: BenchResult, old: BenchResult) -> str:
    pairs = [
        ("device", new.cell.device, old.cell.device),
        ("runtime", new.runtime, old.runtime),
        ("GPU", new.gpu, old.gpu),
        ("commit", new.commit[:12], old.commit[:12]),
        ("options", new.cell.label, old.cell.label),
        ("fixed-performance mode", *(_mode(run.conditions.fixed_performance) for run in (new, old))),
    ]
    said = [f"{what} {before or 'unknown'} → {after or 'unknown'}" for what, after, before in pairs if after != before]
    return f" ({'; '.join(said)})" if said else ""


def _mode(on: bool | None) -> str:
    return "on" if on else "off"


def _against(name: str, found: Compared, changed: str) -> Against:
    verdict: Verdict = found.verdict
    return Against(name, verdict, found.why + changed, found.ratio, found.p, found.effect)


def _grouped(rounds: Rounds) -> list[list[Values]]:
    groups: dict[int, list[Values]] = {}
    for (replication, _), values in rounds.items():
        groups.setdefault(replication, []).append(values)
    return list(groups.values())


def _read_rounds(path: Path) -> dict[tuple[int, int], Values]:
    found: dict[tuple[int, int], list[float]] = {}
    try:
        text = safe_files.read(path).decode("utf-8")
        for row in csv.DictReader(io.StringIO(text, newline="")):
            if row["phase"] == "steady":
                key = (int(row["replication"]), int(row["round"]))
                found.setdefault(key, []).append(float(row["total_ns"]))
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise UsageError(f"{path} cannot be read ({error}).", "Give another run, or measure it again.") from None
    return {key: np.asarray(values, np.float64) for key, values in found.items()}
