"""The lines of a journal: what each says of a probe, and what is no line."""

from __future__ import annotations

import json
import os
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import StorageError, UsageError
from harness.localize.probe.journal import log
from harness.localize.probe.journal.lines import MOST_LINE
from harness.localize.probe.journal.log import (
    History,
    Identity,
    Journal,
    RecordedFailure,
    _is_entry,
    _lines,
    read_identity,
)

MINE = Identity("a" * 64, "b" * 64, "phone", "adb", "2.3.0", "linux", "gpu", "fp16", 4, "none")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"device": "other"}, ["device 'phone', not 'other'"]),
        ({"threads": 1}, ["threads 4, not 1"]),
        ({"model": "c" * 64}, ["model aaaaaaaaaaaa…, not cccccccccccc…"]),
        ({"system": "x" * 63}, [f"system 'linux', not '{'x' * 60}'"]),
        ({"kind": "host", "fallback": "cpu"}, ["kind 'adb', not 'host'", "fallback 'none', not 'cpu'"]),
        ({}, []),
    ],
)
def test_what_differs_is_said_mine_first_and_digests_in_short(change: dict[str, Any], said: list[str]) -> None:
    assert MINE.differences(replace(MINE, **change)) == said


def test_an_identity_of_before_fallbacks_had_none() -> None:
    assert Identity(*list(vars(MINE).values())[:-1]) == MINE


def line(entry: Any) -> bytes:
    body = json.dumps(entry).encode()
    return b"%08x %s\n" % (zlib.crc32(body), body)


GOOD: dict[str, Any] = {"entry": "session", "boot": "x"}


@pytest.mark.parametrize(
    "raw",
    [
        b"\n",
        b"nonsense\n",
        line(GOOD).replace(b"boot", b"booT"),
        line(GOOD).replace(b" ", b"", 1),
        b"00000000" + line(GOOD)[8:],
        line([1, 2]),
        line({"entry": "other"}),
        line({"no": "entry"}),
    ],
)
def test_a_damaged_line_is_none_and_the_next_one_counts(raw: bytes) -> None:
    assert list(_lines(raw + line(GOOD))) == [None, GOOD]


def test_a_last_line_without_its_end_is_no_line() -> None:
    assert list(_lines(line(GOOD) + line(GOOD)[:-1])) == [GOOD]
    assert list(_lines(b"")) == []


@pytest.mark.parametrize(("more", "whole"), [(0, True), (1, False)])
def test_a_line_is_of_limited_length(more: int, whole: bool) -> None:
    bare = len(line({**GOOD, "pad": ""})) - 1
    entry = {**GOOD, "pad": "x" * (MOST_LINE - bare + more)}
    assert list(_lines(line(entry))) == [entry if whole else None]


@pytest.mark.parametrize(
    ("entry", "good"),
    [
        ({"entry": "run"}, True),
        ({"entry": "session", "boot": "x"}, True),
        ({"entry": "session"}, False),
        ({"entry": "session", "boot": 1}, False),
        ({"entry": "start", "probe": "p", "boot": "x"}, True),
        ({"entry": "start", "probe": "p"}, False),
        ({"entry": "start", "boot": "x"}, False),
        ({"entry": "end", "probe": "p", "ending": "completed", "outcome": {}}, True),
        ({"entry": "end", "probe": "p", "ending": "completed"}, False),
        ({"entry": "end", "probe": "p", "ending": "rejected", "outcome": {}}, True),
        ({"entry": "end", "probe": "p", "ending": "rejected", "outcome": []}, False),
        ({"entry": "end", "probe": "p", "ending": "crashed", "reason": "why"}, True),
        ({"entry": "end", "probe": "p", "ending": "crashed"}, False),
        ({"entry": "end", "probe": "p", "ending": "hung", "reason": "why"}, True),
        ({"entry": "end", "probe": "p", "ending": "hung", "reason": 1}, False),
        ({"entry": "end", "probe": "p", "ending": "lost"}, True),
        ({"entry": "end", "ending": "lost"}, False),
        ({"entry": "end", "probe": "p", "ending": "other"}, False),
        ({"entry": "end", "probe": "p"}, False),
        ({"entry": []}, False),
        ({}, False),
    ],
)
def test_a_line_has_what_its_kind_of_entry_has(entry: dict[str, Any], good: bool) -> None:
    assert _is_entry(entry) is good


@pytest.fixture
def journal(tmp_path: Path) -> Any:
    made = Journal(tmp_path, MINE)
    yield made
    made.close()


def reopened(made: Journal) -> Journal:
    made.close()
    return Journal(made.folder.parent, MINE)


def test_a_probe_is_known_by_its_starts_its_failures_and_its_end(journal: Journal) -> None:
    journal.begin("a")
    boot = log.boot_id()
    assert journal.of("a") == History(1, boot, None, [])
    journal.finish("a", "crashed", reason="it died")
    journal.begin("a")
    journal.finish("a", "hung", reason="60 s")
    journal.begin("a")
    journal.finish("a", "lost")
    failures = [RecordedFailure("crash", "it died"), RecordedFailure("hang", "60 s")]
    assert journal.of("a") == History(3, None, None, failures)
    journal.begin("b", outputs=2)
    journal.finish("b", "completed", outcome={"adapter": "Mali"})
    journal.begin("c")
    journal.finish("c", "rejected", outcome={"adapter": ""})
    ends = [journal.of(name).end for name in "abc"]
    assert [end and end["ending"] for end in ends] == [None, "completed", "rejected"]
    assert (journal.finished, journal.adapter, journal.sessions, journal.damaged) == (2, "Mali", 1, 0)
    again = reopened(journal)
    assert [again.of(name) for name in "abc"] == [journal.of(name) for name in "abc"]
    assert (again.finished, again.adapter, again.sessions, again.damaged) == (2, "Mali", 2, 0)
    again.close()
    again.close()


@pytest.mark.parametrize(("boot", "failures"), [("one", 0), ("two", 1)])
def test_a_probe_cut_short_crashed_where_the_machine_has_another_boot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, boot: str, failures: int
) -> None:
    monkeypatch.setattr(log, "boot_id", lambda: "one")
    first = Journal(tmp_path, MINE)
    first.begin("open")
    first.begin("done")
    first.finish("done", "lost")
    monkeypatch.setattr(log, "boot_id", lambda: boot)
    again = reopened(first)
    crash = RecordedFailure("crash", "the machine restarted while it ran")
    assert again.of("open") == History(1, None, None, [crash] * failures)
    assert again.of("done").failures == []
    last = reopened(again)
    assert last.of("open").failures == [crash] * failures
    last.close()


def test_where_the_system_does_not_tell_its_boot_a_cut_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "boot_id", lambda: "")
    first = Journal(tmp_path, MINE)
    first.begin("open")
    monkeypatch.setattr(log, "boot_id", lambda: "two")
    again = reopened(first)
    assert again.of("open").failures == []
    again.close()


def test_damaged_lines_are_counted(journal: Journal) -> None:
    journal.begin("a")
    with (journal.folder / "log").open("ab") as file:
        file.write(b"nonsense\n" * 2 + b"rest")
    again = reopened(journal)
    assert (again.damaged, again.of("a").starts) == (2, 1)
    again.close()
    assert read_identity(journal.folder.parent) == MINE


def test_a_line_that_the_disk_has_no_room_for_leaves_no_part(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    path = journal.folder / "log"
    before, write = path.read_bytes(), os.pwrite

    def full(file: int, raw: bytes, at: int) -> int:
        return write(file, raw[:-1], at)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(StorageError, match="is full"):
        journal.begin("a")
    assert path.read_bytes() == before
    assert journal.of("a").starts == 0
    monkeypatch.undo()
    journal.begin("a")
    assert path.read_bytes().startswith(before)
    assert [entry and entry["entry"] for entry in _lines(path.read_bytes())] == ["run", "session", "start"]


def test_a_journal_that_is_too_large_is_not_read(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    size = (journal.folder / "log").stat().st_size
    monkeypatch.setattr(log, "MOST_BYTES", size - 1)
    with pytest.raises(UsageError, match=r"is 0 MiB large\."):
        reopened(journal)
    monkeypatch.setattr(log, "MOST_BYTES", size)
    reopened(journal).close()


@pytest.mark.parametrize(
    "first",
    [
        {"entry": "session", "boot": "x"},
        {"entry": "run", "schema": 2, "identity": vars(MINE)},
        {"entry": "run", "schema": 1},
        {"entry": "run", "schema": 1, "identity": {"model": "m"}},
        {"entry": "run", "schema": 1, "identity": {**vars(MINE), "more": 1}},
        {"entry": "run", "schema": 1, "identity": None},
    ],
)
def test_a_journal_that_says_not_whose_it_is_is_none(tmp_path: Path, first: dict[str, Any]) -> None:
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal" / "log").write_bytes(line(first))
    assert read_identity(tmp_path) is None
    with pytest.raises(UsageError, match="cannot be read"):
        Journal(tmp_path, MINE)


def test_a_first_line_without_its_end_begins_a_new_journal(tmp_path: Path) -> None:
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal" / "log").write_bytes(b"x" * 500)
    made = Journal(tmp_path, MINE)
    made.close()
    assert read_identity(tmp_path) == MINE
    assert read_identity(tmp_path / "nowhere") is None


def test_one_process_at_a_time_has_a_journal(journal: Journal) -> None:
    with pytest.raises(UsageError, match="is still being worked on"):
        Journal(journal.folder.parent, MINE)
    journal.close()
    Journal(journal.folder.parent, MINE).close()


def test_another_question_is_told_and_lets_the_journal_go(journal: Journal) -> None:
    journal.close()
    with pytest.raises(UsageError, match="was begun with device 'phone', not 'other'"):
        Journal(journal.folder.parent, replace(MINE, device="other"))
    Journal(journal.folder.parent, MINE).close()
