"""The runs that a matrix is made of, and the jobs of a farm that never became one.

What cannot be read is told in a line and left out: a matrix over a hundred nights must not end with one bad file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.core import safe_files, safe_json
from harness.core.errors import UsageError
from harness.core.fields import Fields
from harness.core.run_folder import find_run, read_run
from harness.dashboard.facts import RunFacts, read_facts
from harness.dashboard.index import run_folders
from harness.report.record import parse_run
from harness.report.tables import OpRow, read_ops

JOBS = "matrix.json"
DEFAULT = "default"
"""A farm's word for whatever release a device has."""
MOST_RUNS = 5000
MOST_JOBS = 20_000
JUDGING = ("compare", "localize", "dump")
"""Commands whose runs judge a model's outputs; a benchmark may do so besides."""

_MOST_BYTES = 32 << 20
_COMMANDS = (*JUDGING, "run", "bench")


@dataclass(frozen=True)
class Found:
    """A run folder that was read. `by_precision`: rounding explains every output, and some are of no use; `whole`:
    whether the accelerator took the whole model, None where that is not known; `code` is the exit code of a run that
    failed, where it is known; `repetition` is a farm's number for it."""

    folder: Path
    facts: RunFacts
    by_precision: bool
    whole: bool | None
    code: int | None
    ops: tuple[OpRow, ...] = ()
    repetition: int = 0


@dataclass(frozen=True)
class Job:
    """A job of a farm that left no run to read, and why."""

    model: str
    device: str
    runtime: str
    precision: str
    command: str
    state: str
    reason: str
    code: int | None
    repetition: int = 0


@dataclass
class Collected:
    """Runs, newest first; jobs without one; a line for each thing that was left out."""

    runs: list[Found] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


def collect(words: Sequence[str], root: Path) -> Collected:
    """The runs that the words mean: run folders, their names in `root`, and folders of runs with what lies in them;
    without words all of `root`.

    Raises:
        UsageError: a word means no folder, or there is no run and no job at all.
    """
    collector = _Collector()
    for path in [_folder(word, root) for word in words] or [root]:
        if not path.is_dir():
            raise UsageError(f"{path} is no folder.", "Give the folder that holds the runs, or run folders.")
        if os.path.lexists(path / "run.json"):
            collector.add(path)
        else:
            collector.add_all(path)
    found = collector.collected
    found.runs.sort(key=lambda each: (each.facts.started, each.facts.run), reverse=True)
    if not (found.runs or found.jobs):
        where = ", ".join(words) or str(root)
        why = f" {found.skipped[0]}" if found.skipped else ""
        raise UsageError(f"There is no run of a model in {where}.{why}", "`harness compare MODEL` makes one.")
    return found


def _folder(word: str, root: Path) -> Path:
    return Path(word) if Path(word).is_dir() else find_run(word, root)


class _Collector:
    def __init__(self) -> None:
        self.collected = Collected()
        self._seen: set[Path] = set()

    def add_all(self, folder: Path) -> None:
        """The runs of a results folder, and those of a farm in it or right below it."""
        for place in (folder, *_farms(folder)):
            self._jobs(place / JOBS)
            for run in reversed(run_folders(place)):  # newest first, should there be too many
                self.add(run)

    def add(self, folder: Path, job: Job | None = None) -> bool:
        """One run folder, once. False where it cannot be read, which is told then."""
        where = folder.resolve()
        if where in self._seen:
            return True
        self._seen.add(where)
        if len(self.collected.runs) >= MOST_RUNS:
            return self._skip(f"{folder.name}: more than {MOST_RUNS:,} runs, it is left out.")
        facts = read_facts(folder)
        if facts.state == "unreadable":
            return self._skip(f"{folder.name}: {facts.error}")
        if facts.command == "bisect-runtime":
            releases = folder / "releases"
            for each in run_folders(releases) if releases.is_dir() and not releases.is_symlink() else ():
                self.add(each)
            return True
        if facts.command not in _COMMANDS or not facts.model:
            return True
        try:
            record = read_run(folder)
            top = Fields(record)
            run = None if facts.benchmark else parse_run(record)
            whole = top.child("result").flag("resident") if run is None else run.residency.full
            code = top.count("exit_code")
        except (UsageError, RecursionError) as error:
            why = error.message if isinstance(error, UsageError) else "run.json is nested too deeply."
            return self._skip(f"{folder.name}: {why}")
        number = job.repetition if job else 0
        if code is None and job is not None:
            code = job.code
        by_precision = run is not None and run.by_precision
        found = Found(folder, facts, by_precision, whole, code, self._ops(folder), number)
        self.collected.runs.append(found)
        return True

    def _ops(self, folder: Path) -> tuple[OpRow, ...]:
        try:
            return read_ops(folder / "ops.csv").rows
        except UsageError as error:
            self._skip(f"{folder.name}: {error.message} Its ops are left out.")
            return ()

    def _jobs(self, path: Path) -> None:
        if not os.path.lexists(path):
            return
        try:
            document = safe_json.loads(safe_files.read(path, _MOST_BYTES))
        except (OSError, ValueError) as error:
            self._skip(f"{path.name}: it cannot be read ({error}).")
            return
        if not isinstance(document, dict) or document.get("schema") != 1:
            seen = document.get("schema") if isinstance(document, dict) else type(document).__name__
            self._skip(f"{path.name}: it has schema {str(seen)[:40]!r}; this release reads 1.")
            return
        try:
            entries = Fields(document, path.name).entries("jobs")
        except UsageError as error:
            self._skip(error.message)
            return
        for place, entry in enumerate(entries[:MOST_JOBS]):
            try:
                if not isinstance(entry, dict):
                    raise UsageError(f"{path.name}: jobs[{place}] is no object.")
                self._job(Fields(entry, f"{path.name}: jobs[{place}]"), path.parent)
            except UsageError as error:
                self._skip(error.message)
        if len(entries) > MOST_JOBS:
            self._skip(f"{path.name}: {len(entries) - MOST_JOBS:,} jobs beyond {MOST_JOBS:,} are left out.")

    def _job(self, entry: Fields, folder: Path) -> None:
        """Raises UsageError where a field is of another type."""
        runtime = entry.text("runtime")
        job = Job(
            model=entry.text("model").replace("\\", "/").rstrip("/").rpartition("/")[2],
            device=entry.text("device"),
            runtime="" if runtime == DEFAULT else runtime,
            precision=entry.text("precision"),
            command=entry.text("command"),
            state=entry.text("state"),
            reason=entry.text("reason"),
            code=entry.count("exit_code"),
            repetition=entry.count("repetition") or 0,
        )
        if not job.model or not job.device:
            raise UsageError(f"{entry.where} names no model or no device.")
        named = entry.text("run")
        if not named:
            self.collected.jobs.append(job)
            return
        run = folder / named
        if not run.resolve().is_relative_to(folder.resolve()):
            raise UsageError(f"{entry.where}: run {named[:80]!r} lies outside of {folder.name}; it is left out.")
        if not self.add(run, job):
            self.collected.jobs.append(job)

    def _skip(self, line: str) -> bool:
        self.collected.skipped.append(line)
        return False


def _farms(folder: Path) -> Iterator[Path]:
    """Folders in it that hold a farm's list of jobs."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    for name in names:
        if os.path.lexists(folder / name / JOBS):
            yield folder / name
