"""A wall clock that jumps: nothing waits by it, and no run is lost, mixed up or done again for it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import harness
from harness.core import run_folder
from harness.core.run_folder import RunFolder, list_runs, read_run
from harness.localize.probe.journal import log
from harness.localize.probe.journal.log import Identity, Journal
from harness.localize.probe.journal.resume import open_run

PACKAGE = Path(harness.__file__).parent
# Who may ask what time of day it is, and what for.
ASKED = {
    "devices/scratch.py": "the age of a folder that nobody owns",
    "localize/probe/journal/log.py": "a note in each line, which nothing reads",
    "api/sweep/sweep.py": "the day that a matrix is of",
    "core/run_folder.py": "the name of a run, and when it began",
    "farm/record.py": "a note in each line, which nothing reads, and when a matrix was begun",
    "farm/store.py": "the age of files that nobody asked for",
    "farm/tls.py": "from when to when a certificate holds",
}


def wall_clock_calls(path: Path) -> Iterator[str]:
    """`time.time()` and its like, `datetime.now()` and its like, wherever a module uses them."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            name = f"{node.value.id}.{node.attr}"
            if name in ("time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "datetime.today", "date.today"):
                yield name
        if isinstance(node, ast.ImportFrom) and node.module == "time":
            yield from (f"time.{alias.name}" for alias in node.names if alias.name in ("time", "time_ns"))


def test_no_deadline_and_no_duration_is_of_the_wall_clock() -> None:
    found = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if any(wall_clock_calls(path))}
    assert found == set(ASKED)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[datetime]:
    """The time that runs and journals see: its only element."""
    time = [datetime(2026, 5, 4, 12, 0, 0, tzinfo=UTC)]

    class Faked(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return time[0]

    monkeypatch.setattr(run_folder, "datetime", Faked)
    monkeypatch.setattr(log, "datetime", Faked)
    return time


IDENTITY = Identity("m", "i", "host", "host", "2.3.0", "linux", "gpu", "default", 0)
BACK = timedelta(days=400)


def a_run(root: Path) -> RunFolder:
    return RunFolder.create(root, "localize", "model.tflite", "host")


def interrupted(root: Path) -> Path:
    run = a_run(root)
    log = Journal(run.path, IDENTITY)
    log.begin("p")
    log.finish("p", "completed", outcome={"adapter": "a"}, checksums=[])
    log.close()
    run.save(status="interrupted")
    return run.path


@pytest.mark.parametrize("jump", [BACK, -BACK, timedelta(0)], ids=["back", "ahead", "not"])
def test_an_interrupted_run_is_continued_whatever_the_clock_says_now(
    tmp_path: Path, clock: list[datetime], jump: timedelta
) -> None:
    begun = interrupted(tmp_path)
    clock[0] -= jump
    a_run(tmp_path).save(status="done")
    run, log = open_run("auto", tmp_path, IDENTITY, lambda: pytest.fail("a new run was begun"))
    assert run.path == begun
    assert log.of("p").end is not None
    log.begin("q")
    log.close()
    again = Journal(begun, IDENTITY)  # lines that go back in time are no damage
    assert (again.damaged, again.finished) == (0, 1)
    again.close()


def test_runs_of_one_second_told_twice_have_folders_of_their_own(tmp_path: Path, clock: list[datetime]) -> None:
    first = a_run(tmp_path)
    clock[0] += timedelta(hours=1)
    second = a_run(tmp_path)
    clock[0] -= timedelta(hours=1)  # the end of summer time, for a clock that is set by hand
    third = a_run(tmp_path)
    assert len({first.path, second.path, third.path}) == 3
    assert set(list_runs(tmp_path)) == {first.path, second.path, third.path}
    assert [read_run(run.path)["started"] for run in (first, third)] == ["2026-05-04T12:00:00+00:00"] * 2


@pytest.mark.parametrize("year", [1, 1970, 9999])
def test_a_clock_at_the_end_of_its_range_makes_a_run_that_every_list_shows(
    tmp_path: Path, clock: list[datetime], year: int
) -> None:
    clock[0] = datetime(year, 1, 1, tzinfo=UTC)
    run = a_run(tmp_path)
    run.save(status="done")
    assert list_runs(tmp_path) == [run.path]
    assert read_run(run.path)["status"] == "done"
