"""Which run folder a word means."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.core.errors import UsageError
from harness.core.run_folder import find_run

OLD, NEW = "20260101T000000Z-face-host", "20260102T000000Z-hand-host"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for name in (OLD, NEW):
        (tmp_path / "results" / name).mkdir(parents=True)
        (tmp_path / "results" / name / "run.json").write_text("{}")
    return tmp_path / "results"


@pytest.mark.parametrize(("word", "name"), [(OLD, OLD), ("20260101", OLD), ("latest", NEW), (NEW[:-1], NEW)])
def test_a_name_its_beginning_and_latest_are_found(results: Path, word: str, name: str) -> None:
    assert find_run(word, results) == results / name


def test_a_path_is_taken_as_it_is(results: Path, tmp_path: Path) -> None:
    assert find_run(str(results / OLD), tmp_path / "elsewhere") == results / OLD
    assert find_run("no/such", results) == Path("no/such")


def test_a_beginning_that_several_have_and_one_that_none_has(results: Path) -> None:
    with pytest.raises(UsageError, match=r"2 runs in .* begin with '2026'"):
        find_run("2026", results)
    with pytest.raises(UsageError, match="nope is no run folder"):
        find_run("nope", results)
    with pytest.raises(UsageError, match="latest is no run folder"):
        find_run("latest", results / "empty")


def test_a_whole_name_wins_over_the_beginning_of_another(results: Path) -> None:
    (results / f"{OLD}-2").mkdir()
    (results / f"{OLD}-2" / "run.json").write_text("{}")
    assert find_run(OLD, results) == results / OLD
