"""The file that a worker logs into: what came after a mark, and what is said where it had to be emptied."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.devices.base import LOG_LIMIT
from harness.devices.host import log_file
from harness.devices.host.log_file import LogFile


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LogFile]:
    """Looked at a hundred times a second."""
    monkeypatch.setattr(log_file, "WATCH_SECONDS", 0.01)
    made = LogFile(tmp_path / "log.txt")
    yield made
    made.close()


def write(log: LogFile, words: bytes) -> None:
    with log.open() as file:
        file.write(words)


def test_before_anything_is_logged_there_is_nothing(log: LogFile) -> None:
    assert (log.mark(), log.since(0)) == (0, "")


def test_what_came_after_a_mark_is_told(log: LogFile) -> None:
    write(log, b"before\n")
    mark = log.mark()
    write(log, "behind \u00e9\n".encode() + b"\xff\n")
    assert mark == 7
    assert log.since(mark) == "behind \u00e9\n\ufffd\n"
    assert log.since(0) == "before\nbehind \u00e9\n\ufffd\n"


def test_of_much_the_end_is_told(log: LogFile) -> None:
    write(log, b"a" * 100 + b"b" * LOG_LIMIT)
    assert log.since(0) == "b" * LOG_LIMIT
    assert log.since(LOG_LIMIT) == "b" * 100


def test_a_log_of_a_few_megabytes_is_kept(log: LogFile) -> None:
    write(log, b"0123456\n" * (1 << 19))
    time.sleep(0.1)  # ten looks at it
    assert log.path.stat().st_size == 4 << 20
    assert log.since(0) == "0123456\n" * (LOG_LIMIT // 8)


def test_one_that_grows_beyond_its_bound_is_emptied_and_this_is_said(
    log: LogFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_file, "MOST", 10)
    write(log, b"0123456789")
    time.sleep(0.1)
    assert log.since(0) == "0123456789"  # it is not beyond it
    write(log, b"!")
    deadline = time.monotonic() + 30
    while log.path.stat().st_size:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert log.mark() == 11
    write(log, b"new")
    assert log.since(4) == "[7 bytes of log before this were not kept]\nnew"
    assert log.since(11) == "new"
    assert log.since(12) == "ew"
