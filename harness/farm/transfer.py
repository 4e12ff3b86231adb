"""Files between a client and the hosts, in pieces of bounded size, each checked by its digest at the end."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from distributed import Client

from harness.core import safe_files
from harness.core.errors import UsageError
from harness.core.private import make_folder
from harness.core.run_folder import read_run, writing
from harness.farm import store
from harness.farm.job import JobOutcome, JobSpec, StoredFile

CALL_SECONDS = 120.0


class HostGone(Exception):
    """A host did not do what it was asked: it went, or takes too long."""


async def call(client: Client, keeper: str, function: Callable[..., Any], *words: Any) -> Any:
    """What a function of `harness.farm.store` gives on the host whose keeper is at that address.

    Raises:
        HostGone: no answer. HarnessError: as the function raises it.
    """
    future = client.submit(function, *words, workers=[keeper], allow_other_workers=False, pure=False, retries=0)
    try:
        return await asyncio.wait_for(_result(future), CALL_SECONDS)
    except TimeoutError:
        raise HostGone(f"{keeper} gave no answer within {CALL_SECONDS:g} s") from None
    finally:
        future.release()


async def _result(future: Any) -> Any:
    from harness.core.errors import HarnessError

    try:
        return await future
    except HarnessError:
        raise
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise HostGone("the scheduler is gone") from None
    except Exception as error:  # noqa: BLE001 - what Dask raises for a worker that went is of many kinds
        raise HostGone(str(error)) from None


async def push(client: Client, keeper: str, matrix: str, sha256: str, path: Path) -> None:
    """Bring a model or inputs to a host. Raises HostGone, UsageError."""
    size = path.stat().st_size
    with path.open("rb") as file:
        for offset in range(0, max(size, 1), store.PIECE_BYTES):
            piece = file.read(store.PIECE_BYTES)
            await call(client, keeper, store.put, sha256, matrix, offset, piece, size)


async def fetch(client: Client, keeper: str, spec: JobSpec, outcome: JobOutcome, folder: Path) -> None:
    """Bring a finished job's run folder here, past what lies in `folder`, and onto the disk.

    Raises:
        HostGone, StorageError. UsageError: a file is not what its digest says, or the run is of another model.
    """
    with writing(folder):
        shutil.rmtree(folder, ignore_errors=True)
        make_folder(folder)
        for file in outcome.files:
            make_folder((folder / file.name).parent)
    for wanted in _batches(outcome.files):
        asked = [(file.name, offset, count) for file, offset, count in wanted]
        found = await call(client, keeper, store.pieces, spec.matrix, outcome.job, asked)
        if not isinstance(found, list) or [len(piece) for piece in found] != [count for _, _, count in wanted]:
            raise UsageError(f"The files of job {outcome.job} changed on {outcome.host}.", "Run the command again.")
        for (file, _, _), piece in zip(wanted, found, strict=True):
            with writing(folder), (folder / file.name).open("ab") as target:
                target.write(piece)
    await asyncio.to_thread(_checked_on_disk, outcome, folder)
    _check_model(spec, outcome, folder)


def _checked_on_disk(outcome: JobOutcome, folder: Path) -> None:
    for file in outcome.files:
        with (folder / file.name).open("rb") as source:
            if hashlib.file_digest(source, "sha256").hexdigest() != file.sha256:
                raise UsageError(f"{file.name} of job {outcome.job} came over changed.", "Run the command again.")
    with writing(folder):
        safe_files.all_to_disk(folder)


def _check_model(spec: JobSpec, outcome: JobOutcome, folder: Path) -> None:
    try:
        model = read_run(folder).get("model")
    except UsageError:  # what cannot be read says so to whoever wants to
        return
    # Not `sha256`: that is of what was run, with open shapes filled in and one signature.
    ran = model.get("file_sha256") if isinstance(model, dict) else None
    if ran is not None and ran != spec.sha256:
        raise UsageError(
            f"{outcome.host} ran a model of SHA-256 {str(ran)[:12]}… in place of {spec.model} ({spec.sha256[:12]}…).",
            "End its `harness farm worker`, clear its --store, and start it again.",
        )


def _batches(files: Sequence[StoredFile]) -> list[list[tuple[StoredFile, int, int]]]:
    """Pieces of files, together no larger than one piece."""
    batches: list[list[tuple[StoredFile, int, int]]] = []
    room = 0
    for file in files:
        for offset in range(0, max(file.size, 1), store.PIECE_BYTES):
            count = min(store.PIECE_BYTES, file.size - offset)
            if count > room or not batches:
                batches.append([])
                room = store.PIECE_BYTES
            batches[-1].append((file, offset, count))
            room -= count
    return batches
