"""What a matrix came to, in a folder: a run folder for each job, `matrix.json` beside them, and a journal that decides
what is finished.

A job is finished once its run folder is in its place with all its files, and the journal's line that says so is
written: each is on the disk before the next, so that a loss of power takes nothing that the journal calls finished.
`matrix.json` is made from the journal, now and then and at the end.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
import time
from collections import Counter
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from harness.core import safe_files
from harness.core.errors import EXIT_DEVICE, EXIT_MISUSE, EXIT_OK, EXIT_UNRESOLVED, EXIT_WRONG, UsageError
from harness.core.private import make_folder
from harness.core.run_folder import writing
from harness.farm.job import JobOutcome, JobSpec
from harness.farm.matrix import Matrix
from harness.localize.probe.journal.lines import CheckedLines

SCHEMA = 1
MOST_JOURNAL = 1 << 30
WRITE_SECONDS = 5.0
_ID = re.compile(r"[0-9a-f]{32}")

JobState = Literal["waiting", "running", "done", "timed out", "failed", "absent", "cancelled", "skipped"]
FINISHED: frozenset[str] = frozenset({"done", "timed out", "failed"})
_WORST_FIRST = (EXIT_WRONG, EXIT_UNRESOLVED, EXIT_DEVICE, EXIT_MISUSE)


class MatrixRecord:
    """The folder of a matrix, open for this process alone.

    Raises:
        StorageError: it cannot be written. UsageError: another process has it, or its journal is of something else.
    """

    repeatable = FINISHED - {"done"}
    """The states of jobs that are done again where somebody asks for that."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with writing(folder):
            make_folder(folder)
        self._lines = CheckedLines(folder / "journal" / "log", folder)
        self.finished: dict[str, dict[str, Any]] = {}
        self.repeated = 0
        """Jobs that the journal has twice; to be 0."""
        self.asked_again: dict[str, set[str]] = {}
        """Jobs that came to nothing before and are done again, with the hosts that forgot what came of them then."""
        self.id = ""
        self.started = ""
        try:
            for line in self._lines.load(MOST_JOURNAL):
                self._take(line or {})
            if not self.id:
                if self.finished:
                    raise UsageError(f"The journal of {folder} cannot be read.", "Name another folder with --out.")
                line = {"entry": "matrix", "schema": SCHEMA, "id": secrets.token_hex(16)}
                line |= {"utc": datetime.now(UTC).isoformat(timespec="seconds")}
                self._lines.append(line)
                self._take(line)
        except BaseException:
            self._lines.close()
            raise
        self._rows: dict[str, dict[str, Any]] = {}
        self._name = self._matrix = ""
        self._status: Literal["running", "done", "interrupted"] = "running"
        self._written = 0.0
        shutil.rmtree(self.incoming, ignore_errors=True)

    @property
    def incoming(self) -> Path:
        """Where run folders are while they arrive."""
        return self.folder / "journal" / "incoming"

    def close(self) -> None:
        """Let another process have it."""
        self._lines.close()

    def begin(self, matrix: Matrix, *, again: bool = False) -> list[JobSpec]:
        """Take up a matrix; the jobs that are not finished. `again`: nor are those that failed or timed out."""
        if again:
            states = {job: row["state"] for job, row in self.finished.items()}
            self._note("again", [spec.id for spec in matrix.jobs if states.get(spec.id) in self.repeatable])
        self._name, self._matrix = matrix.name, str(matrix.path)
        for skipped in matrix.skipped:
            self._rows[skipped.spec.id] = _row(skipped.spec, "skipped") | {"reason": skipped.reason}
        left = []
        for spec in matrix.jobs:
            self._rows[spec.id] = self.finished.get(spec.id) or _row(spec, "waiting")
            if spec.id not in self.finished:
                left.append(spec)
        self.write(now=True)
        return left

    def arrived(self, spec: JobSpec, outcome: JobOutcome, partial: Path | None) -> None:
        """A job is finished: put its run folder in its place, and write that down. `partial` is that folder, with
        all its files on the disk already. Raises StorageError."""
        run = ""
        if partial is not None:
            with writing(self.folder):
                run = self._placed(partial, outcome.run)
        state: JobState = "failed" if outcome.state == "done" and outcome.exit_code not in (0, 1, 4) else "done"
        row = _row(spec, "timed out" if outcome.state == "timed out" else state)
        row |= {"run": run, "host": outcome.host, "serial": outcome.serial, "seconds": outcome.seconds}
        row |= {"exit_code": outcome.exit_code, "status": outcome.status, "reason": outcome.reason}
        row |= {"cores_busy": outcome.cores_busy}
        self._finish(row)

    def gave_up(self, spec: JobSpec, reason: str) -> None:
        """A job that can never be done: that is finished too."""
        self._finish(_row(spec, "failed") | {"reason": reason})

    def to_forget(self, host: str) -> list[str]:
        """Jobs that are done again, of which a host may still have what came of them before."""
        return [job for job, hosts in self.asked_again.items() if host not in hosts]

    def forgot(self, host: str, jobs: list[str]) -> None:
        """A host has forgotten what came of jobs: what it has of them from now on is new. Raises StorageError."""
        self._note("forgot", jobs, host=host)

    def mark(self, spec: JobSpec, state: JobState, reason: str = "", **more: str) -> None:
        """A job that is not finished stands so."""
        self._rows[spec.id] = _row(spec, state) | {"reason": reason} | more
        self.write()

    def rows(self) -> list[dict[str, Any]]:
        """The jobs as `matrix.json` has them."""
        return list(self._rows.values())

    def counts(self) -> dict[str, int]:
        """How many jobs are in each state."""
        return dict(sorted(Counter(str(row["state"]) for row in self._rows.values()).items()))

    def end(self, status: Literal["done", "interrupted"]) -> None:
        """No more of it for now."""
        for row in self._rows.values():
            if row["state"] == "running":
                row["state"] = "cancelled" if status == "interrupted" else "waiting"
        self._status = status
        self.write(now=True)

    def document(self) -> dict[str, Any]:
        """`matrix.json`."""
        return {
            "schema": SCHEMA,
            "name": self._name,
            "matrix": self._matrix,
            "folder": str(self.folder),
            "started": self.started,
            "status": self._status,
            "counts": self.counts(),
            "jobs": self.rows(),
        }

    def exit_code(self) -> int:
        """1 where any job found something wrong, else 4, 3 or 2 where any ends with that, or has no device (3)."""
        codes = {row["exit_code"] for row in self._rows.values()}
        if any(row["state"] in ("absent", "timed out", "waiting", "cancelled") for row in self._rows.values()):
            codes.add(EXIT_DEVICE)
        if any(row["state"] == "failed" and row["exit_code"] is None for row in self._rows.values()):
            codes.add(EXIT_DEVICE)
        return next((code for code in _WORST_FIRST if code in codes), EXIT_OK if codes <= {0, None} else EXIT_DEVICE)

    def write(self, *, now: bool = False) -> None:
        """Write `matrix.json`, unless that was done a moment ago. Raises StorageError."""
        if not now and time.monotonic() - self._written < WRITE_SECONDS:
            return
        path = self.folder / "matrix.json"
        with writing(path), safe_files.replacing(path) as partial:
            partial.write_text(json.dumps(self.document(), indent=1) + "\n", encoding="utf-8")
        self._written = time.monotonic()

    def _finish(self, row: dict[str, Any]) -> None:
        line = {"entry": "finished", "utc": datetime.now(UTC).isoformat(timespec="seconds"), "job": row}
        self._lines.append(line)
        self._take(line)
        self._rows[row["job"]] = row
        self.write()

    def _note(self, entry: str, jobs: list[str], **more: str) -> None:
        for start in range(0, len(jobs), 1000):
            line = {"entry": entry, "jobs": jobs[start : start + 1000]} | more
            self._lines.append(line)
            self._take(line)

    def _placed(self, partial: Path, name: str) -> str:
        for attempt in range(1, 1000):
            place = self.folder / (name if attempt == 1 else f"{name}-{attempt}")
            with suppress(OSError):
                if not place.exists():
                    partial.rename(place)
                    break
        else:
            raise UsageError(f"{self.folder} has a thousand runs named {name}.", "Name another folder with --out.")
        safe_files.names_to_disk(self.folder)
        return place.name

    def _take(self, line: dict[str, Any]) -> None:
        if line.get("entry") == "matrix" and line.get("schema") == SCHEMA and _ID.fullmatch(str(line.get("id"))):
            self.id, self.started = str(line["id"]), str(line.get("utc", ""))
        jobs = line.get("jobs")
        if line.get("entry") in ("again", "forgot") and isinstance(jobs, list):
            for job in map(str, jobs):
                if line["entry"] == "again":
                    self.finished.pop(job, None)
                    self.asked_again[job] = set()
                elif job in self.asked_again:
                    self.asked_again[job].add(str(line.get("host")))
        row = line.get("job")
        if line.get("entry") == "finished" and isinstance(row, dict) and row.keys() == set(_EMPTY):
            self.repeated += row["job"] in self.finished
            self.finished[str(row["job"])] = row
            self.asked_again.pop(str(row["job"]), None)


_EMPTY = (
    *("job", "model", "model_sha256", "device", "runtime", "precision", "accelerator", "command", "repetition"),
    *("state", "run", "host", "serial", "seconds", "exit_code", "status", "reason", "cores_busy"),
)


def _row(spec: JobSpec, state: JobState) -> dict[str, Any]:
    facts = asdict(spec)
    row = dict.fromkeys(_EMPTY) | {name: facts[name] for name in _EMPTY if name in facts}
    row |= {"job": spec.id, "model_sha256": spec.sha256, "state": state}
    return row | dict.fromkeys(("run", "host", "serial", "status", "reason"), "")
