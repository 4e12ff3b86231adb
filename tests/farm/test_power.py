"""What a loss of power leaves: nothing is called finished that is not on the disk.

By the order in which files and folders are told to be on it; and by a copy of a disk, made the moment a job counts as
finished, which has what the system had written by then and nothing of what it meant to write later.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("distributed")

from harness.core.errors import UsageError
from harness.farm import store, transfer
from harness.farm.job import JobSpec
from harness.farm.matrix import read_matrix
from harness.farm.record import MatrixRecord
from harness.farm.store import Store, listed
from tests import models
from tests.farm.record import outcome


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The inodes that were put on the disk, in that order."""
    found: list[int] = []
    sync = os.fsync

    def noted(descriptor: int) -> None:
        sync(descriptor)
        found.append(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", noted)
    return found


def inode(path: Path) -> int:
    return path.stat().st_ino


def everything(run: Path) -> set[int]:
    """Inodes of a folder, and of all in it."""
    return {inode(run), *map(inode, run.rglob("*"))}


@pytest.fixture
def spec(tmp_path: Path) -> JobSpec:
    (tmp_path / "m.tflite").write_bytes(models.right().to_bytes())
    (tmp_path / "m.toml").write_text('models = ["m.tflite"]\ndevices = ["S1"]\ncommands = ["compare"]\n')
    return read_matrix(tmp_path / "m.toml", "0" * 32).jobs[0]


@pytest.fixture
def kept(tmp_path: Path, spec: JobSpec, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A host with that job's run folder."""
    made = Store(tmp_path / "store")
    monkeypatch.setattr(store, "_here", made)
    run = made.job(spec.matrix, spec.id) / "out" / outcome(spec).run
    (run / "tensors").mkdir(parents=True)
    (run / "run.json").write_text("{}")
    (run / "tensors/y").write_bytes(os.urandom(1000))
    return made


def finish(kept: Store, spec: JobSpec) -> Any:
    run = kept.job(spec.matrix, spec.id) / "out" / outcome(spec).run
    done = replace(outcome(spec), files=listed(run))
    kept.finish(spec.matrix, done)
    return done


def test_a_host_has_the_run_folder_before_it_says_how_the_job_ended(
    kept: Store, spec: JobSpec, synced: list[int]
) -> None:
    finish(kept, spec)
    job = kept.job(spec.matrix, spec.id)
    said = synced.index(inode(job / "outcome.json"))
    assert everything(job / "out") | {inode(job)} == set(synced[:said])
    assert synced[said + 1 :] == [inode(job)]


@pytest.mark.usefixtures("at_hand")
def test_the_journal_s_line_comes_after_everything_that_it_speaks_of(
    kept: Store, spec: JobSpec, tmp_path: Path, synced: list[int]
) -> None:
    done = finish(kept, spec)
    record = MatrixRecord(tmp_path / "out")
    log = tmp_path / "out/journal/log"
    # A new journal has a name in its folder, and that has one too.
    first = synced.index(inode(log))
    assert {inode(log.parent), inode(tmp_path / "out"), inode(tmp_path)} <= set(synced[:first])
    partial = record.incoming / spec.id
    asyncio.run(transfer.fetch(None, "keeper", spec, done, partial))  # type: ignore[arg-type]
    assert everything(partial) <= set(synced)
    del synced[:]
    record.arrived(spec, done, partial)
    assert synced == [inode(tmp_path / "out"), inode(log)]
    assert b'"finished"' in log.read_bytes()
    record.close()


def test_a_model_has_its_name_only_once_it_is_on_the_disk(kept: Store, synced: list[int]) -> None:
    digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    store.put(digest, "0" * 32, 0, b"test", 4)
    assert inode(kept.file(digest)) in synced


@pytest.mark.usefixtures("at_hand")
@pytest.mark.parametrize("right", [True, False])
def test_a_run_of_another_file_is_no_answer(kept: Store, spec: JobSpec, tmp_path: Path, *, right: bool) -> None:
    """What is run is another model than the file's where that leaves shapes open: the file counts."""
    ran = spec.sha256 if right else "f" * 64
    model = {"path": "m.tflite", "sha256": "e" * 64, "file_sha256": ran, "ops": 1}
    run = {"schema": 1, "status": "done", "model": model}
    (kept.job(spec.matrix, spec.id) / "out" / outcome(spec).run / "run.json").write_text(json.dumps(run))
    done = finish(kept, spec)
    wrong = pytest.raises(
        UsageError, match=f"lab.* ran a model of SHA-256 ffffffffffff… in place of m.tflite .{spec.sha256[:12]}"
    )
    with nullcontext() if right else wrong:
        asyncio.run(transfer.fetch(None, "keeper", spec, done, tmp_path / "partial"))  # type: ignore[arg-type]


@contextmanager
def mounted(image: Path, place: Path) -> Iterator[Path]:
    """A file system in a file; skips where this system mounts none."""
    place.mkdir()
    done = subprocess.run(["mount", "-o", "loop", str(image), str(place)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"this system mounts no file system in a file ({done.stderr.strip()[:200]})")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True, timeout=60)


def after_the_loss(folder: Path, kept: Store, spec: JobSpec) -> tuple[int, list[str]]:
    """A job is fetched and counts as finished; then the power goes. How many finished jobs the journal has after it,
    and which files of their runs are not what they were."""
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        pytest.skip("only root mounts a file system of its own, and mkfs.ext4 makes it")
    disk = folder / "disk"
    with disk.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(disk)], check=True, timeout=60)
    done = finish(kept, spec)
    with mounted(disk, folder / "mounted") as place:
        record = MatrixRecord(place / "out")
        partial = record.incoming / spec.id
        asyncio.run(transfer.fetch(None, "keeper", spec, done, partial))  # type: ignore[arg-type]
        record.arrived(spec, done, partial)
        shutil.copyfile(disk, folder / "found")
        record.close()
    with mounted(folder / "found", folder / "again") as place:
        log = place / "out/journal/log"
        lines = [json.loads(line[9:]) for line in log.read_bytes().splitlines()] if log.exists() else []
        finished = [line["job"]["run"] for line in lines if line["entry"] == "finished"]
        lost = []
        for file in done.files:
            path = place / "out" / done.run / file.name
            if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != file.sha256:
                lost.append(file.name)
    return len(finished), lost


@pytest.fixture
def at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host's answers come without a farm."""

    async def call(client: Any, keeper: str, function: Callable[..., Any], *words: Any) -> Any:
        return function(*words)

    monkeypatch.setattr(transfer, "call", call)


@pytest.mark.usefixtures("at_hand")
def test_what_the_journal_calls_finished_survives_a_loss_of_power(kept: Store, spec: JobSpec, tmp_path: Path) -> None:
    assert after_the_loss(tmp_path, kept, spec) == (1, [])


@pytest.mark.usefixtures("at_hand")
def test_without_the_files_on_the_disk_first_it_would_not(
    kept: Store, spec: JobSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the test above shows nothing."""
    monkeypatch.setattr("harness.core.safe_files.all_to_disk", lambda folder: None)
    finished, lost = after_the_loss(tmp_path, kept, spec)
    assert finished == 1 and lost == ["run.json", "tensors/y"]
