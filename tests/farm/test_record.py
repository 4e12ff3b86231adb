"""The journal decides what is finished; `matrix.json` is made from it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.core.errors import UsageError
from harness.farm.job import JobSpec
from harness.farm.matrix import Matrix, read_matrix
from harness.farm.record import MatrixRecord
from tests import models
from tests.farm.record import outcome


@pytest.fixture
def matrix(tmp_path: Path) -> Matrix:
    (tmp_path / "m.tflite").write_bytes(models.right().to_bytes())
    (tmp_path / "m.toml").write_text(
        'models = ["m.tflite"]\ndevices = ["S1"]\ncommands = ["compare"]\nrepetitions = 3\n'
    )
    return read_matrix(tmp_path / "m.toml", "0" * 32)


@pytest.fixture
def record(tmp_path: Path) -> Iterator[MatrixRecord]:
    made = MatrixRecord(tmp_path / "out")
    yield made
    made.close()


def arrive(record: MatrixRecord, spec: JobSpec, **more: object) -> None:
    partial = record.incoming / spec.id
    partial.mkdir(parents=True)
    (partial / "run.json").write_text(spec.id)
    record.arrived(spec, outcome(spec, **more), partial)


def test_what_is_finished_is_not_asked_again(record: MatrixRecord, matrix: Matrix) -> None:
    first, second, third = record.begin(matrix)
    arrive(record, first)
    record.mark(second, "running")
    record.mark(third, "absent", "Nobody has it.")
    record.close()
    again = MatrixRecord(record.folder)
    assert again.id == record.id
    assert again.begin(matrix) == [second, third]
    assert again.counts() == {"done": 1, "waiting": 2} and again.repeated == 0
    again.close()


def test_what_failed_is_asked_again_where_somebody_wants_that(record: MatrixRecord, matrix: Matrix) -> None:
    first, second, third = record.begin(matrix)
    arrive(record, first)
    arrive(record, second, exit_code=3)
    record.gave_up(third, "3 devices failed")
    assert record.begin(matrix) == []
    assert record.begin(matrix, again=True) == [second, third] == record.begin(matrix)
    assert record.to_forget("lab1") == [second.id, third.id]
    arrive(record, second)
    record.close()
    later = MatrixRecord(record.folder)
    assert later.to_forget("lab1") == [third.id]
    assert later.begin(matrix) == [third] and later.counts() == {"done": 2, "waiting": 1} and later.repeated == 0
    later.close()


def test_a_host_forgets_once_what_came_of_a_job_that_is_done_again(record: MatrixRecord, matrix: Matrix) -> None:
    """Also where the command is started anew: what the host has of the job by then is new."""
    first, second, _ = record.begin(matrix)
    for spec in (first, second):
        arrive(record, spec, exit_code=3)
    record.begin(matrix, again=True)
    record.forgot("lab1", [first.id, second.id])
    arrive(record, second, exit_code=3)
    record.close()
    later = MatrixRecord(record.folder)
    assert later.to_forget("lab1") == [] and later.to_forget("lab2") == [first.id]
    later.begin(matrix, again=True)
    assert later.to_forget("lab1") == [second.id] and later.to_forget("lab2") == [first.id, second.id]
    later.close()


def test_a_line_that_was_cut_short_was_never_written(record: MatrixRecord, matrix: Matrix) -> None:
    first, second, _ = record.begin(matrix)
    arrive(record, first)
    arrive(record, second)
    record.close()
    log = record.folder / "journal/log"
    log.write_bytes(log.read_bytes()[:-20])
    again = MatrixRecord(record.folder)
    assert first not in again.begin(matrix) and second in again.begin(matrix)
    again.close()


def test_runs_of_one_name_get_numbers(record: MatrixRecord, matrix: Matrix) -> None:
    for spec in record.begin(matrix):
        arrive(record, spec)
    rows = record.document()["jobs"]
    assert [row["run"] for row in rows] == [f"20260101T000000Z-m-S1{end}" for end in ("", "-2", "-3")]
    for row in rows:
        assert (record.folder / row["run"] / "run.json").read_text() == row["job"]
    record.end("done")
    assert json.loads((record.folder / "matrix.json").read_text()) == record.document()


def test_two_commands_cannot_have_one_folder(record: MatrixRecord) -> None:
    with pytest.raises(UsageError, match="is still being worked on"):
        MatrixRecord(record.folder)


def test_a_journal_of_something_else_is_not_continued(record: MatrixRecord, matrix: Matrix) -> None:
    arrive(record, record.begin(matrix)[0])
    record.close()
    log = record.folder / "journal/log"
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[1:]))
    with pytest.raises(UsageError, match="cannot be read"):
        MatrixRecord(record.folder)


@pytest.mark.parametrize(
    ("codes", "code"),
    [
        ((0, 0, 0), 0),
        ((0, 1, 4), 1),
        ((0, 4, 3), 4),
        ((0, 3, 2), 3),
        ((0, 0, 2), 2),
        ((0, 0, None), 3),
        ((0, 0, 70), 3),
    ],
)
def test_the_exit_code_is_the_worst(
    record: MatrixRecord, matrix: Matrix, codes: tuple[int | None, ...], code: int
) -> None:
    for spec, each in zip(record.begin(matrix), codes, strict=True):
        arrive(record, spec, exit_code=each, state="timed out" if each is None else "done")
    assert record.exit_code() == code


def test_a_job_without_a_device_is_device_trouble(record: MatrixRecord, matrix: Matrix) -> None:
    first, second, third = record.begin(matrix)
    arrive(record, first)
    arrive(record, second)
    record.mark(third, "absent", "Nobody has it.")
    assert record.exit_code() == 3
