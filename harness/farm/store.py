"""What a host of the farm keeps: models and inputs by their digests, and jobs with their run folders until they are
fetched.

<store>/files/<sha256>                     models and inputs
<store>/jobs/<matrix>/cancel               nobody wants this matrix's jobs any more
<store>/jobs/<matrix>/<job>/running        locked while its job runs
<store>/jobs/<matrix>/<job>/out/<run>/…    the run folder
<store>/jobs/<matrix>/<job>/outcome.json   how it ended; the job is finished once this is there

The functions at the end are what a client calls, through the worker that each host has for it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from harness.core import safe_files
from harness.core.errors import UsageError
from harness.core.private import make_folder
from harness.core.run_folder import writing
from harness.devices.scratch import try_lock
from harness.farm.job import MOST_DOCUMENT, MOST_FILES, JobOutcome, StoredFile, from_text, is_inside, to_text

PIECE_BYTES = 4 << 20
MOST_FILE = 4 << 30
KEEP_SECONDS = 14 * 86400.0
_HEX = re.compile("[0-9a-f]{32}|[0-9a-f]{64}")


class Store:
    """The folder of a host. Names that come from elsewhere are digests, or paths within a run folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def file(self, sha256: str) -> Path:
        """Where a model or inputs lie."""
        return self.folder / "files" / _checked(sha256)

    def job(self, matrix: str, job: str) -> Path:
        """A job's folder."""
        return self.folder / "jobs" / _checked(matrix) / _checked(job)

    def is_cancelled(self, matrix: str) -> bool:
        """Whether nobody wants the jobs of that matrix any more."""
        return (self.folder / "jobs" / _checked(matrix) / "cancel").exists()

    def has(self, sha256: str) -> bool:
        """Whether a model or inputs are there and are what their digest says; what is something else is removed."""
        path = self.file(sha256)
        try:
            with path.open("rb") as file:
                right = hashlib.file_digest(file, "sha256").hexdigest() == sha256
            if right:
                os.utime(path)
            else:
                path.unlink()
        except OSError:
            return False
        return right

    def outcome(self, matrix: str, job: str) -> JobOutcome | None:
        """How a job ended; None for one that did not."""
        try:
            text = safe_files.read(self.job(matrix, job) / "outcome.json", MOST_DOCUMENT).decode()
        except (OSError, UnicodeDecodeError):
            return None
        return from_text(JobOutcome, text).check()

    def finish(self, matrix: str, outcome: JobOutcome) -> None:
        """Write how a job ended, to the disk, after its run folder. Raises StorageError."""
        path = self.job(matrix, outcome.job) / "outcome.json"
        with writing(path):
            if outcome.run:
                safe_files.all_to_disk(path.parent / "out")
                safe_files.names_to_disk(path.parent)
            with safe_files.replacing(path) as partial:
                partial.write_text(to_text(outcome), encoding="utf-8")
                safe_files.to_disk(partial)
            safe_files.names_to_disk(path.parent)

    @contextmanager
    def running(self, matrix: str, job: str) -> Iterator[Path]:
        """The empty folder of a job, for as long as it runs. Raises StorageError; BlockingIOError where it runs."""
        folder = self.job(matrix, job)
        with writing(folder):
            make_folder(folder)
            lock = os.open(folder / "running", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for entry in folder.iterdir():
                if entry.name != "running":
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
            yield folder
        finally:
            os.close(lock)

    def prune(self, seconds: float = KEEP_SECONDS) -> None:
        """Remove what nobody asked for in so long."""
        oldest = time.time() - seconds
        for path in [*self.folder.glob("files/*"), *self.folder.glob("jobs/*/*")]:
            with suppress(OSError):
                if path.stat().st_mtime < oldest:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()


def listed(folder: Path) -> tuple[StoredFile, ...]:
    """The files of a run folder with their digests; links are passed over. Raises OSError, UsageError for too many."""
    found = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not path.is_file() or not is_inside(name):
            continue
        with path.open("rb") as file:
            found.append(StoredFile(name, hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size))
        if len(found) > MOST_FILES:
            raise UsageError(f"The run folder {folder.name} has more than {MOST_FILES:,} files.", "Run it by hand.")
    return tuple(found)


def _checked(digest: str) -> str:
    if not _HEX.fullmatch(digest):
        raise UsageError(f"{digest[:60]!r} is no digest.", "Use one release on all hosts.")
    return digest


# What a client calls. Dask finds a function by its module and name; the folder is set where the host's worker starts.
_here: Store | None = None


def serve_from(store: Store) -> None:
    """Let the functions below use this store."""
    global _here
    _here = store


def _store() -> Store:
    if _here is None:
        raise UsageError("This worker keeps no files.", "Start it with `harness farm worker`.")
    return _here


def begin(matrix: str, jobs: Sequence[str]) -> dict[str, Any]:
    """A client is there for a matrix: what of these jobs is finished here, and what still runs."""
    store = _store()
    (store.folder / "jobs" / _checked(matrix) / "cancel").unlink(missing_ok=True)
    return held(matrix, jobs)


def held(matrix: str, jobs: Sequence[str]) -> dict[str, Any]:
    """`finished`: the outcomes, as text; `running`: ids."""
    store = _store()
    wanted = set(jobs)
    finished, running = [], []
    for folder in (store.folder / "jobs" / _checked(matrix)).glob("*/"):
        if folder.name not in wanted:
            continue
        outcome = store.outcome(matrix, folder.name)
        if outcome is not None:
            finished.append(to_text(outcome))
        elif _is_locked(folder / "running"):
            running.append(folder.name)
    return {"finished": finished, "running": running}


def cancel(matrix: str) -> list[str]:
    """End the jobs of a matrix; the ids of those that still run."""
    store = _store()
    folder = store.folder / "jobs" / _checked(matrix)
    make_folder(folder)
    (folder / "cancel").touch()
    return [path.parent.name for path in folder.glob("*/running") if _is_locked(path)]


def lacking(digests: Sequence[str]) -> list[str]:
    """Those of which the file is not here."""
    return [digest for digest in digests if not _store().file(digest).exists()]


def put(sha256: str, matrix: str, offset: int, piece: bytes, size: int) -> None:
    """A piece of a file, in their order; the last one puts the file in its place. Raises UsageError where it is not
    what its digest says."""
    path = _store().file(sha256)
    if not 0 < size <= MOST_FILE or not 0 <= offset <= offset + len(piece) <= size:
        raise UsageError(f"A file of {size:,} bytes is none that a farm takes.", f"They have up to {MOST_FILE:,}.")
    partial = path.with_name(f"{path.name}.{_checked(matrix)}.part")
    with writing(partial):
        make_folder(path.parent)
        with partial.open("r+b" if offset else "wb") as file:
            file.seek(offset)
            file.write(piece)
            file.truncate()
        if offset + len(piece) < size:
            return
        with partial.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256:
            partial.unlink()
            raise UsageError(f"A file came over as {found[:12]}…, not {sha256[:12]}….", "Run the command again.")
        safe_files.to_disk(partial)  # a name without its content would be a model that every job then takes
        partial.replace(path)


def pieces(matrix: str, job: str, wanted: Sequence[tuple[str, int, int]]) -> list[bytes]:
    """Of each file of a finished job's run folder, by (name, offset, bytes), that piece. Raises UsageError."""
    store = _store()
    outcome = store.outcome(matrix, job)
    known = {file.name for file in outcome.files} if outcome else set()
    if outcome is None or sum(count for _, _, count in wanted) > 2 * PIECE_BYTES:
        raise UsageError(f"Job {str(job)[:40]} is not to be had here.", "Run the command again.")
    run = store.job(matrix, job) / "out" / outcome.run
    found = []
    for name, offset, count in wanted:
        if name not in known:
            raise UsageError(f"{str(name)[:60]!r} is no file of job {job}.", "Run the command again.")
        try:
            if not (run / name).is_file():
                raise FileNotFoundError
            with (run / name).open("rb") as file:
                file.seek(offset)
                found.append(file.read(count))
        except OSError:
            drop(matrix, [job])  # without it the job was not done, and is done again when it is asked for
            raise UsageError(f"{name} of job {job} is gone on its host.", "Run the command again.") from None
    return found


def drop(matrix: str, jobs: Sequence[str]) -> None:
    """Jobs whose run folders have arrived where they were asked for, or are not wanted; one that runs is left."""
    for job in jobs:
        folder = _store().job(matrix, job)
        if not _is_locked(folder / "running"):
            shutil.rmtree(folder, ignore_errors=True)


def _is_locked(path: Path) -> bool:
    try:
        lock = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        return try_lock(lock) is False
    finally:
        os.close(lock)
