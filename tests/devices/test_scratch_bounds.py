"""Locks, sweeps and their limits, on a clock that a test sets."""

from __future__ import annotations

import errno
import os
import tempfile
import time
from pathlib import Path

import pytest

from harness.core.errors import StorageError
from harness.devices import scratch
from harness.devices.scratch import Scratch, alone, remove_abandoned, scratch_folder, try_lock

PREFIX = "harness-test-"


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder of the test's own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time; sleeping takes none but that."""
    now = [64.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", sleep)
    return now


@pytest.mark.parametrize(
    ("age", "stays"), [(86_399.0, True), (86_400.0, True), (86_401.0, False), (-10.0, True), (90_000.0, False)]
)
def test_a_folder_without_an_owner_is_kept_for_a_day(
    age: float, stays: bool, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = temporary / f"{PREFIX}left"
    folder.mkdir()
    os.utime(folder, (1_000_000, 1_000_000))
    monkeypatch.setattr(time, "time", lambda: 1_000_000 + age)
    remove_abandoned(PREFIX)
    assert folder.exists() is stays


def test_a_folder_of_another_user_stays(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = temporary / f"{PREFIX}left"
    folder.mkdir()
    (folder / ".owner").touch()
    mine = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: mine + 1)
    remove_abandoned(PREFIX)
    assert folder.exists()
    monkeypatch.setattr(os, "getuid", lambda: mine)
    remove_abandoned(PREFIX)
    assert not folder.exists()


def test_an_owner_that_is_a_link_is_not_opened(temporary: Path) -> None:
    """Nor does one folder that cannot be looked at keep the others."""
    target = temporary / "target"
    target.touch()
    for name in ("a", "b", "c"):
        (temporary / f"{PREFIX}{name}").mkdir()
        owner = temporary / f"{PREFIX}{name}" / ".owner"
        owner.symlink_to(target) if name == "b" else owner.touch()
    (temporary / f"{PREFIX}file").touch()
    remove_abandoned(PREFIX)
    assert sorted(path.name for path in temporary.iterdir()) == [f"{PREFIX}b", f"{PREFIX}file", "target"]


@pytest.mark.parametrize(("seconds", "removed"), [(0.0, 0), (1.0, 1), (1.5, 2), (2.0, 2), (9.0, 3)])
def test_a_sweep_begins_no_folder_after_its_time(
    seconds: float, removed: int, temporary: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes a second here."""
    for number in range(3):
        (temporary / f"{PREFIX}{number}").mkdir()
    found: list[Path] = []

    def one(path: Path) -> None:
        found.append(path)
        clock[0] += 1

    monkeypatch.setattr(scratch, "_remove_if_abandoned", one)
    remove_abandoned(PREFIX, seconds)
    assert len(found) == removed
    found.clear()
    remove_abandoned(PREFIX)
    assert len(found) == 1  # a second, where nothing else is said


@pytest.mark.parametrize(("seconds", "sleeps"), [(0.0, 0), (0.25, 3), (0.5, 5)])
def test_a_lock_that_another_one_holds_is_asked_for_ten_times_a_second_until_the_time_is_up(
    seconds: float, sleeps: int, temporary: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock[0] = 64 + len(slept) / 10

    monkeypatch.setattr(time, "sleep", sleep)
    path = temporary / "deep" / "lock"
    with alone(path, 0):
        with pytest.raises(TimeoutError) as caught, alone(path, seconds):
            pytest.fail("two hold it")
        assert caught.value.errno == errno.ETIMEDOUT
        assert caught.value.strerror == "another process has been at work on it for too long"
        assert caught.value.filename == str(path)
    assert slept == [0.1] * sleeps
    with alone(path, 0):  # given back
        pass
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_lock_is_given_back_when_the_block_fails(temporary: Path) -> None:
    for _ in range(2):
        with pytest.raises(KeyError), alone(temporary / "lock", 0):
            raise KeyError


def test_a_lock_that_is_a_link_is_not_followed(temporary: Path) -> None:
    (temporary / "lock").symlink_to(temporary / "precious")
    with pytest.raises(OSError, match="symbolic link"), alone(temporary / "lock", 0):
        pass
    assert not (temporary / "precious").exists()


def test_a_lock_is_had_or_held_or_there_are_none(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (os.open(temporary / "lock", os.O_RDWR | os.O_CREAT) for _ in range(2))
    assert try_lock(first) is True
    assert try_lock(second) is False
    os.close(first)
    assert try_lock(second) is True
    os.close(second)
    assert try_lock(second) is None  # nothing to lock


def test_a_sweep_that_comes_between_costs_another_folder(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [False, False, True]
    monkeypatch.setattr(scratch, "try_lock", lambda descriptor: answers.pop(0))
    made: list[int] = []
    closed: list[int] = []
    closes = os.close
    really = Scratch._owned

    def owned(folder: Scratch) -> int:
        made.append(really(folder))
        return made[-1]

    def close(descriptor: int) -> None:
        if descriptor in made:
            closed.append(descriptor)
        closes(descriptor)

    monkeypatch.setattr(scratch, "remove_abandoned", lambda prefix: None)
    monkeypatch.setattr(Scratch, "_owned", owned)
    monkeypatch.setattr(os, "close", close)
    folder = Scratch(PREFIX)
    assert (len(made), len(closed)) == (3, 2)
    assert folder.path.is_dir()
    made[:-1] = []  # their numbers are free again
    folder.close()
    assert not folder.path.exists()
    folder.close()
    assert len(closed) == 3


def test_an_owner_s_mark_is_its_own_and_not_inherited(temporary: Path) -> None:
    with scratch_folder(PREFIX) as path:
        assert path.parent == temporary
        assert path.name.startswith(PREFIX)
        assert (path / ".owner").stat().st_mode & 0o777 == 0o600
    assert not path.exists()
    with pytest.raises(KeyError), scratch_folder(PREFIX) as path:
        raise KeyError
    assert not path.exists()


@pytest.mark.parametrize(
    ("folder", "variable", "error", "said"),
    [
        ("/there", "/here", OSError(28, "full"), "/there (full)"),
        (None, "/here", OSError(28, "full"), "/here (full)"),
        (None, None, OSError(28, "full"), "a temporary folder (full)"),
        (None, None, OSError("odd"), "a temporary folder (odd)"),
    ],
)
def test_where_no_folder_can_be_made_is_told(
    folder: str | None, variable: str | None, error: OSError, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(prefix: str) -> None:
        raise error

    monkeypatch.setattr(scratch, "remove_abandoned", none)
    monkeypatch.setattr(tempfile, "tempdir", folder)
    monkeypatch.delenv("TMPDIR", raising=False)
    if variable:
        monkeypatch.setenv("TMPDIR", variable)
    with pytest.raises(StorageError) as caught:
        Scratch(PREFIX)
    assert caught.value.message == f"No folder for temporary files can be made in {said}."
    assert caught.value.next_step == "Free space and inodes there, or set TMPDIR to another folder."
