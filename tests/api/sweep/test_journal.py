"""The journal of a sweep: it survives a cut, and belongs to one device."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from harness.api.sweep.journal import Journal, Kept
from harness.api.sweep.judging import Judged
from harness.core.errors import UsageError

DEVICE = {"name": "host", "kind": "host", "runtime": "2.3.0", "gpu": ""}
WRONG = Kept(Judged("wrong", "cosine 0.100", math.inf, True), 0.25)


def test_answers_are_there_again_infinite_ratios_included(tmp_path: Path) -> None:
    path = tmp_path / "new" / "host.jsonl"
    with Journal(path, DEVICE) as journal:
        journal.add(("add-1", "alone", "aa"), WRONG)
        journal.says_gpu("llvmpipe")
    with Journal(path, DEVICE) as again:
        assert again.answers == {("add-1", "alone", "aa"): WRONG}
        assert again.gpu == "llvmpipe"


def test_a_line_that_a_cut_left_unfinished_is_passed_over_and_the_next_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "host.jsonl"
    with Journal(path, DEVICE) as journal:
        journal.add(("add-1", "alone", "aa"), WRONG)
    path.write_bytes(path.read_bytes() + b'{"form": "add-2", "cont')
    with Journal(path, DEVICE) as journal:
        assert list(journal.answers) == [("add-1", "alone", "aa")]
        journal.add(("add-2", "alone", "bb"), WRONG)
    with Journal(path, DEVICE) as journal:
        assert list(journal.answers) == [("add-1", "alone", "aa"), ("add-2", "alone", "bb")]


def test_the_journal_of_another_release_is_refused(tmp_path: Path) -> None:
    with Journal(tmp_path / "host.jsonl", DEVICE) as journal:
        journal.says_gpu("llvmpipe")
    with pytest.raises(UsageError, match=r"has answers of host 2\.3\.0"):
        Journal(tmp_path / "host.jsonl", DEVICE | {"runtime": "2.1.3"})


@pytest.mark.parametrize("line", ['{"a": 1}', "[1]", '{"form": 1, "outcome": "splendid"}'])
def test_what_is_no_journal_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "host.jsonl").write_text(line + "\n")
    with pytest.raises(UsageError, match="is no journal of a sweep"):
        Journal(tmp_path / "host.jsonl", DEVICE)


def test_a_link_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("")
    (tmp_path / "host.jsonl").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError):
        Journal(tmp_path / "host.jsonl", DEVICE)
