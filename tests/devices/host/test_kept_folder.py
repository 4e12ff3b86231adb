"""Folders that are kept: put in place whole or not at all, and what is said of each."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from harness.devices.host.kept_folder import KeptFolder

WHAT = "some-package 99.0.4"


def kept(home: Path, known: bool = True) -> KeptFolder:
    return KeptFolder(home, "inside", WHAT, "installing", "hashes", known, "some.lock", 60)


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("leftover", [True, False])
def test_the_new_one_takes_the_place_and_nothing_of_the_old_stays(tmp_path: Path, before: bool, leftover: bool) -> None:
    """`.old` is left by one that was killed just after the new one took its place."""
    made, home, old = tmp_path / "home.part", tmp_path / "home", tmp_path / "home.old"
    for folder, there in ((made, True), (home, before), (old, leftover)):
        if there:
            (folder / "deep").mkdir(parents=True)
            (folder / "deep" / "name").write_text(folder.name)
    kept(home)._put_in_place(made)
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    assert (home / "deep" / "name").read_text() == "home.part"


@pytest.mark.parametrize("kind", [KeyboardInterrupt, OSError, MemoryError])
def test_a_half_made_one_is_removed_whatever_ends_it(
    kind: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))

    def fill(folder: Path) -> None:
        (folder / "inside").mkdir()
        raise kind

    with pytest.raises(kind):
        kept(tmp_path / "home").made(fill, lambda said: None)
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


MADE_AGAIN = f"{WHAT} is not used as it is, and made again: lib/a.so is missing."
UNVERIFIED = f"The files of {WHAT} are not verified: no hashes of it are known here."


@pytest.mark.parametrize(
    ("damaged", "known", "said", "logged"),
    [
        (None, True, [f"installing {WHAT} (once)"], []),
        (
            None,
            False,
            [f"no known hashes for {WHAT}", f"installing {WHAT} (once)"],
            [UNVERIFIED],
        ),
        (
            "lib/a.so is missing",
            True,
            ["a.so is missing", f"installing {WHAT} (again)"],
            [MADE_AGAIN],
        ),
        (
            "lib/a.so is missing",
            False,
            [
                "a.so is missing",
                f"no known hashes for {WHAT}",
                f"installing {WHAT} (again)",
            ],
            [MADE_AGAIN, UNVERIFIED],
        ),
    ],
)
def test_each_thing_is_said_once_as_progress_or_to_the_log(
    damaged: str | None,
    known: bool,
    said: list[str],
    logged: list[str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = kept(tmp_path, known)
    heard: list[str] = []
    with caplog.at_level(logging.DEBUG):
        folder._tell(damaged, heard.append)
        assert (heard, caplog.messages) == (said, [])
        folder._tell(damaged, None)
    assert caplog.messages == logged
    assert {record.levelno for record in caplog.records} <= {logging.WARNING}
