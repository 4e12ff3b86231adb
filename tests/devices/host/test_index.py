"""Which releases pip's index lists, with a pip that says what a test has it say."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

import pytest

from harness.core.errors import DeviceError, UsageError
from harness.devices.captured import Captured
from harness.devices.host import releases
from harness.devices.host.releases import available_releases, between, version_of

NEXT = "Check the connection to the package index; a release that was used before runs without it as host@RELEASE."


def test_pip_is_asked_for_two_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[list[str], float]] = []

    def run(command: Sequence[str], seconds: float) -> Captured:
        asked.append((list(command), seconds))
        return Captured("Available versions: 2.2.0, 2.10.0,2.1.3 , 2.2.0\n", 0)

    monkeypatch.setattr(releases, "captured", run)
    assert available_releases() == ("2.1.3", "2.2.0", "2.10.0")
    words = ["-m", "pip", "index", "versions", "ai-edge-litert", "--disable-pip-version-check"]
    assert asked == [([sys.executable, *words], 120)]


@pytest.mark.parametrize(
    ("done", "why"),
    [
        (Captured("Available versions: 1.0.0\n", None, "time"), "no answer within 120 s"),
        (Captured("Available versions: 1.0.0\n", None, "size"), "an answer over 4 MiB"),
        (Captured("Available versions: 1.0.0\nERROR: one\nERROR: two\nthree\n", 1), "two"),
        (Captured("Available versions: 1.0.0\n", 1), "pip said nothing of use"),
        (Captured("ERROR: one\n", 0), "one"),
        (Captured("  Available versions: 1.0.0\nan ERROR: here\n", 0), "pip said nothing of use"),
        (Captured("", 0), "pip said nothing of use"),
    ],
)
def test_an_index_that_cannot_be_asked_is_one_sentence(
    done: Captured, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(releases, "captured", lambda command, seconds: done)
    with pytest.raises(DeviceError) as caught:
        available_releases()
    assert caught.value.message == f"The releases of ai-edge-litert cannot be listed ({why})."
    assert caught.value.next_step == NEXT


def test_a_pip_that_cannot_be_started_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(command: Sequence[str], seconds: float) -> NoReturn:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(releases, "captured", none)
    with pytest.raises(DeviceError) as caught:
        available_releases()
    assert caught.value.message == "The releases of ai-edge-litert cannot be listed (No such file or directory)."


LISTED = ("2.1.3", "2.2.0", "2.10.0")
NONE = "is not a release of ai-edge-litert for this Python."
THERE = "There are 2.1.3, 2.2.0, 2.10.0."


@pytest.mark.parametrize(
    ("first", "last", "found"),
    [
        ("2.1.3", None, LISTED),
        ("2.1.3", "2.10.0", LISTED),
        ("2.1.3", "2.2.0", LISTED[:2]),
        ("2.2.0", None, LISTED[1:]),
    ],
)
def test_both_ends_are_in_between(first: str, last: str | None, found: tuple[str, ...]) -> None:
    assert between(LISTED, first, last) == found


@pytest.mark.parametrize(
    ("first", "last", "message", "step"),
    [
        ("1.0.0", "3.0.0", f"'1.0.0' {NONE}", THERE),
        ("2.2.0", "3.0.0", f"'3.0.0' {NONE}", THERE),
        ("2.10.0", "2.2.0", "2.10.0 is not older than 2.2.0.", "Give the older release to --from, the newer to --to."),
        ("2.10.0", None, "2.10.0 is not older than 2.10.0.", "Give the older release to --from, the newer to --to."),
    ],
)
def test_ends_that_are_not_there_or_turned_are_misuse(first: str, last: str | None, message: str, step: str) -> None:
    with pytest.raises(UsageError) as caught:
        between(LISTED, first, last)
    assert (caught.value.message, caught.value.next_step) == (message, step)


def test_what_is_no_version_is_misuse() -> None:
    assert version_of("2.10.0") > version_of("2.9") > version_of("2.9rc1")
    with pytest.raises(UsageError) as caught:
        version_of("latest")
    assert caught.value.message == "'latest' is not a release of ai-edge-litert."
    assert caught.value.next_step == "Write it as 2.1.3."
