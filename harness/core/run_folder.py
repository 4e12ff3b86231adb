"""The run folder: what a command found, written as it goes, so that an interrupted run is a readable run marked so.

results/<utc>-<model>-<device>/
    run.json                        schema, command, status, model, device, result
    ops.csv                         one row for each op
    samples.csv                     one row for each timed iteration
    tensors/<op>-<NAME>.<side>.safetensors
    journal/                        the probes of a localization, and their outcomes until its end
    log.txt                         what the runtime logged
    report.html
"""

from __future__ import annotations

import csv
import errno
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
import safetensors
from safetensors.numpy import save_file

from harness.core import safe_files, safe_json
from harness.core.arrays import Array
from harness.core.errors import StorageError, UsageError
from harness.core.job import Sample
from harness.core.private import make_folder

SCHEMA = 1
Status = Literal["running", "done", "failed", "interrupted"]
Side = Literal["device", "reference"]

# Of a record; 3,000 ops with all that is said of each have under half of it.
_MOST_RECORD = 64 << 20
# A path or a name that is no UTF-8 is written with escapes for what cannot be.
_ODD = "backslashreplace"
# What a run keeps when it is continued.
_KEPT = frozenset({"run.json", "inputs.npz", "journal"})
# What its record loses then.
_LOST = frozenset({"error", "exit_code", "result", "outputs", "resumable"})


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what can go wrong on disk into one sentence. Raises StorageError."""
    try:
        yield
    except safetensors.SafetensorError as error:
        number = re.search(r"\(os error (\d+)\)", str(error))  # it tells the system's error in words only
        raise _storage_error(path, int(number[1]) if number else None, str(error)) from None
    except OSError as error:
        raise _storage_error(path, error.errno, error.strerror or str(error)) from None


def write_page(path: Path, text: str) -> None:
    """Write a page or a table whole, past what lies in its place; what no UTF-8 holds as escapes. Raises
    StorageError."""
    with writing(path), safe_files.replacing(path) as partial:
        partial.write_bytes(text.encode("utf-8", errors=_ODD))


def _storage_error(path: Path, number: int | None, why: str) -> StorageError:
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        full = "has no room left under your quota" if number == errno.EDQUOT else "is full"
        return StorageError(
            f"The disk that holds {path} {full}; what was written before is kept.",
            "Free space, or choose a folder elsewhere.",
        )
    return StorageError(f"{path} cannot be written ({why}).", "Choose a folder that you may write to.")


@dataclass
class TensorStore:
    """One safetensors file for each tensor and side, named after the op that makes it. Values are read back whole."""

    folder: Path

    def path(self, label: str, side: Side) -> Path:
        """Where a tensor lies. `label` is `<op>-<NAME>` or an output's name."""
        return self.folder / f"{label}.{side}.safetensors"

    def put(self, label: str, side: Side, values: Array, name: str) -> None:
        """Write one tensor. Raises StorageError."""
        path = self.path(label, side)
        with writing(path):
            self.folder.mkdir(parents=True, exist_ok=True)
            with safe_files.replacing(path) as partial:
                save_file({name: np.asarray(values, order="C")}, partial)

    def get(self, label: str, side: Side) -> Array:
        """Read one tensor back."""
        with safetensors.safe_open(self.path(label, side), "numpy") as file:
            (name,) = file.keys()
            values: Array = file.get_tensor(name)
        return values

    def has(self, label: str, side: Side) -> bool:
        """Whether a tensor was put."""
        return self.path(label, side).exists()

    def keep_only(self, labels: Sequence[str]) -> None:
        """Drop every tensor but these."""
        kept = {self.path(label, side).name for label in labels for side in ("device", "reference")}
        for path in self.folder.glob("*.safetensors") if self.folder.exists() else ():
            if path.name not in kept:
                path.unlink()


class RunFolder:
    """Writes one run. As a context manager it marks the run `failed` or `interrupted` when left by an exception."""

    def __init__(self, path: Path, record: dict[str, Any]) -> None:
        self.path = path
        self.record = record
        self.tensors = TensorStore(path / "tensors")

    @classmethod
    def create(cls, root: Path, command: str, model: str, device: str) -> RunFolder:
        """Make `<root>/<utc>-<model>-<device>/` with a first run.json.

        Raises:
            StorageError: the folder cannot be made or written.
        """
        now = datetime.now(UTC)
        stem = re.sub(r"[^A-Za-z0-9.]+", "-", Path(model).stem)[:48].strip("-") or "model"
        place = re.sub(r"[^A-Za-z0-9.]+", "-", device)
        with writing(root):
            make_folder(root)
            run = cls(_fresh_folder(root, f"{now:%Y%m%dT%H%M%SZ}-{stem}-{place}"), {})
            run.record = {
                "schema": SCHEMA,
                "command": command,
                "status": "running",
                "pid": os.getpid(),
                "started": now.isoformat(timespec="seconds"),
            }
        run.save()
        return run

    @classmethod
    def reopen(cls, path: Path) -> RunFolder:
        """A run that did not come to its end, to be continued: what it was asked and its journal stay, everything
        else is written anew.

        Raises:
            UsageError: no run folder. StorageError: it cannot be written.
        """
        record = read_run(path)
        run = cls(
            path,
            {name: value for name, value in record.items() if name not in _LOST},
        )
        with writing(path):
            for entry in path.iterdir():
                if entry.name in _KEPT:
                    continue
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                else:
                    entry.unlink()
        run.save(status="running", pid=os.getpid())
        return run

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            status: Status = "done"
        elif not issubclass(kind, Exception):
            status = "interrupted"
        else:
            status = "failed"
            self.record["error"] = str(error)
        try:
            self.save(status=status)
        except StorageError:
            if error is None:
                raise

    def save(self, **fields: Any) -> None:
        """Update run.json, atomically. Raises StorageError."""
        self.record.update(fields)
        path = self.path / "run.json"
        with writing(path), safe_files.replacing(path) as partial:
            partial.write_text(json.dumps(to_json(self.record), indent=1) + "\n", encoding="utf-8")

    def log(self, text: str) -> None:
        """Append to log.txt. Raises StorageError."""
        path = self.path / "log.txt"
        with writing(path), path.open("a", encoding="utf-8", errors=_ODD) as file:
            file.write(text)

    def rows(self, name: str, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Append rows to a .csv, with the header when it is new. Raises StorageError."""
        path = self.path / name
        with writing(path):
            new = not path.exists()
            with path.open("a", newline="", encoding="utf-8", errors=_ODD) as file:
                writer = csv.writer(file, lineterminator="\n")
                if new:
                    writer.writerow(header)
                writer.writerows(rows)

    def replace_rows(self, name: str, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Write a .csv anew, atomically. Raises StorageError."""
        path = self.path / name
        with (
            writing(path),
            safe_files.replacing(path) as partial,
            partial.open("w", newline="", encoding="utf-8", errors=_ODD) as file,
        ):
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(header)
            writer.writerows(rows)

    def samples(self, samples: Sequence[Sample], phase: str) -> None:
        """Append timed iterations to samples.csv, in nanoseconds."""
        rows = [(phase, i, s.write_ns, s.run_ns, s.read_ns) for i, s in enumerate(samples)]
        self.rows("samples.csv", ("phase", "iteration", "write_ns", "run_ns", "read_ns"), rows)


def _key(name: str) -> str:
    """A tensor's name as a key; the format keeps one name for itself."""
    return "tensor" if name in ("", "__metadata__") else name


def _fresh_folder(root: Path, name: str) -> Path:
    """A folder of that name, or with a number behind it when another run of the same second has it."""
    for attempt in range(1, 1000):
        path = root / (name if attempt == 1 else f"{name}-{attempt}")
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            if not path.is_dir():
                raise
        else:
            return path
    raise FileExistsError(errno.EEXIST, "a thousand runs of this name are there", str(root))


def read_run(path: Path) -> dict[str, Any]:
    """The record of one run; a run whose process is gone reads `interrupted`.

    Raises:
        UsageError: no run.json there, or not one that this release can read; or the folder is a link.
    """
    file = path / "run.json"
    if path.is_symlink():
        raise UsageError(
            f"Run {path} is a link.", f"Give the folder itself, {os.path.realpath(path)}, if that is meant."
        )
    try:
        record = safe_json.loads(safe_files.read(file, _MOST_RECORD))
    except FileNotFoundError:
        raise UsageError(f"{path} is no run folder (no run.json).", "List the runs with `harness runs`.") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} cannot be read ({error}).", "Run the command again.") from None
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        seen = record.get("schema") if isinstance(record, dict) else type(record).__name__
        raise UsageError(f"{file} has schema {seen!r}; this release reads {SCHEMA}.", "Run the command again.")
    if record.get("status") == "running" and not _alive(record.get("pid")):
        record["status"] = "interrupted"
    return record


def find_run(word: str, root: Path) -> Path:
    """The run folder that a word means: its path, its name in the results folder `root`, a beginning of its name there
    that no other has, or `latest`.

    Raises:
        UsageError: there is none, or several begin so.
    """
    known = list_runs(root)
    if word == "latest" and known:
        return known[0]
    path = Path(word)
    with suppress(OSError):  # a name too long for a file is none of a folder
        if len(path.parts) > 1 or path.is_dir():
            return path
    found = [run for run in known if run.name == word] or [run for run in known if run.name.startswith(word)]
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"{len(found)} runs in {root} begin with '{word}'.", f"Give more of it, as {found[0].name}.")
    raise UsageError(
        f"{word} is no run folder, and {root} has no run of that name.",
        "`harness runs` lists them; --runs-in names another folder.",
    )


def list_runs(root: Path) -> list[Path]:
    """Run folders under `root`, newest first; links are not followed."""
    found = (p.parent for p in root.glob("*/run.json") if not p.parent.is_symlink())
    return sorted(found, key=lambda p: p.name, reverse=True)


def to_json(value: Any) -> Any:
    """Plain JSON values: numpy scalars and tuples converted, NaN and infinities as the strings `nan`, `inf`, `-inf`."""
    if isinstance(value, dict):
        return {str(k): to_json(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    if isinstance(value, Path):
        return str(value)
    return value


def _alive(pid: Any) -> bool:
    if not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
