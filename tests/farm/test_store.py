"""What a host keeps: files by their digests, run folders in pieces, and nothing outside its folder."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import UsageError
from harness.farm import store
from harness.farm.job import JobOutcome
from harness.farm.store import PIECE_BYTES, Store, listed

MATRIX, JOB = "a" * 32, "b" * 32


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    made = Store(tmp_path / "store")
    monkeypatch.setattr(store, "_here", made)
    return made


def test_a_file_comes_in_pieces_and_is_what_its_digest_says(kept: Store) -> None:
    content = os.urandom(PIECE_BYTES + 10)
    digest = hashlib.sha256(content).hexdigest()
    assert store.lacking([digest]) == [digest]
    store.put(digest, MATRIX, 0, content[:PIECE_BYTES], len(content))
    assert store.lacking([digest]) == [digest]
    store.put(digest, MATRIX, PIECE_BYTES, content[PIECE_BYTES:], len(content))
    assert store.lacking([digest]) == [] and kept.file(digest).read_bytes() == content


def test_a_file_that_is_something_else_is_not_kept(kept: Store) -> None:
    with pytest.raises(UsageError, match="A file came over as"):
        store.put("0" * 64, MATRIX, 0, b"something", 9)
    assert store.lacking(["0" * 64]) == ["0" * 64]
    assert list((kept.folder / "files").iterdir()) == []


@pytest.mark.parametrize(("offset", "size"), [(0, 0), (0, 4 << 40), (-1, 9), (5, 9), (0, 3)])
def test_a_file_is_bounded(kept: Store, offset: int, size: int) -> None:
    with pytest.raises(UsageError, match="is none that a farm takes"):
        store.put("0" * 64, MATRIX, offset, b"something", size)


@pytest.mark.parametrize("name", ["../../x", "", "0" * 63, "/etc/passwd", "A" * 64])
def test_what_is_no_digest_is_no_name(kept: Store, name: str) -> None:
    for call in (
        lambda: store.lacking([name]),
        lambda: store.put(name, MATRIX, 0, b"x", 1),
        lambda: store.begin(name, []),
        lambda: store.cancel(name),
        lambda: store.drop(MATRIX, [name]),
        lambda: store.pieces(MATRIX, name, []),
    ):
        with pytest.raises(UsageError, match="is no digest"):
            call()


def finished(kept: Store, **files: bytes) -> JobOutcome:
    """A job that was done here."""
    with kept.running(MATRIX, JOB) as folder:
        run = folder / "out" / "run"
        for name, content in files.items():
            path = run / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        facts: dict[str, Any] = {"job": JOB, "state": "done", "exit_code": 0, "status": "pass", "reason": ""}
        outcome = JobOutcome(**facts, run="run", files=listed(run), seconds=1.0, host="h", serial="s", cores_busy=None)
        kept.finish(MATRIX, outcome)
    return outcome


def test_only_files_of_the_run_folder_are_given_out(kept: Store) -> None:
    outcome = finished(kept, record=b"0123456789", tensors__y=b"abc")
    assert [file.name for file in outcome.files] == ["record", "tensors/y"]
    assert store.pieces(MATRIX, JOB, [("record", 2, 3), ("tensors/y", 0, 3)]) == [b"234", b"abc"]
    for name in ("../outcome.json", "/etc/passwd", "none"):
        with pytest.raises(UsageError, match="is no file of job"):
            store.pieces(MATRIX, JOB, [(name, 0, 1)])
    with pytest.raises(UsageError, match="is not to be had here"):
        store.pieces(MATRIX, JOB, [("record", 0, 1 << 40)])


def test_a_link_in_a_run_folder_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "secret").write_text("x")
    (tmp_path / "run" / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "run" / "file").write_text("y")
    assert [file.name for file in listed(tmp_path / "run")] == ["file"]


def test_what_is_finished_and_what_runs_is_told_until_it_is_dropped(kept: Store) -> None:
    other = "c" * 32
    finished(kept, record=b"1")
    with kept.running(MATRIX, other):
        store.drop(MATRIX, [other])
        told = store.begin(MATRIX, [JOB, other, "d" * 32])
        assert told["running"] == [other] and len(told["finished"]) == 1
        assert store.cancel(MATRIX) == [other] and kept.is_cancelled(MATRIX)
    assert store.begin(MATRIX, [JOB, other])["running"] == [] and not kept.is_cancelled(MATRIX)
    store.drop(MATRIX, [JOB])
    assert store.held(MATRIX, [JOB]) == {"finished": [], "running": []}


def test_a_job_that_was_cut_short_leaves_nothing_to_the_next(kept: Store) -> None:
    with kept.running(MATRIX, JOB) as folder:
        (folder / "out").mkdir()
        with pytest.raises(BlockingIOError), kept.running(MATRIX, JOB):
            pass
    with kept.running(MATRIX, JOB) as folder:
        assert [path.name for path in folder.iterdir()] == ["running"]


def test_what_nobody_asked_for_in_a_fortnight_goes(kept: Store) -> None:
    content = b"model"
    digest = hashlib.sha256(content).hexdigest()
    store.put(digest, MATRIX, 0, content, len(content))
    kept.prune()
    assert kept.file(digest).exists()
    os.utime(kept.file(digest), (time.time() - 15 * 86400,) * 2)
    kept.prune()
    assert not kept.file(digest).exists()


def test_what_lies_under_another_s_digest_is_not_it_and_goes(kept: Store) -> None:
    digest = hashlib.sha256(b"a model").hexdigest()
    path = kept.file(digest)
    assert not kept.has(digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"a model")
    assert kept.has(digest)
    path.write_bytes(b"another")
    assert not kept.has(digest) and not path.exists()


def test_a_file_that_is_gone_of_a_finished_job_is_a_sentence_and_the_job_is_done_again(kept: Store) -> None:
    outcome = finished(kept, record=b"0123456789")
    (kept.job(MATRIX, JOB) / "out" / outcome.run / "record").unlink()
    with pytest.raises(UsageError, match=f"record of job {JOB} is gone on its host"):
        store.pieces(MATRIX, JOB, [("record", 0, 3)])
    assert kept.outcome(MATRIX, JOB) is None
