"""How the steps of an installation may end and what is said of each, with no pip and no environment."""

from __future__ import annotations

import hashlib
import importlib.metadata
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.core.errors import DeviceError, HarnessError, StorageError, UsageError
from harness.devices.captured import Captured
from harness.devices.host import environments, installed, kept_folder
from harness.devices.host.environments import release_environment
from harness.devices.host.kept_folder import KeptFolder

RELEASE = "99.0.4"
PYTHON = f"py{sys.version_info.major}.{sys.version_info.minor}"
ROOM, NONE = 50 << 20, (50 << 20) - 1
OTHERS = (
    "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE. If you have updated the package "
    "versions, please update the hashes.\n"
    "    ml-dtypes==0.5.1 from https://index/ml_dtypes.whl (from -r 99.txt (line 3)):\n"
    f"        Expected sha256 {'a' * 64}\n"
    f"             Got        {'b' * 64}\n"
    "    numpy==2.0 from https://index/numpy.whl (from -r 99.txt (line 9)):\n"
    f"        Expected sha256 {'c' * 64}\n"
    f"             Got        {'d' * 64}\n\n"
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache on a disk with just enough room; no release is pinned."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=ROOM))
    monkeypatch.setattr(environments, "PINNED", tmp_path / "pinned")
    return tmp_path / "cache"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], float]]:
    """Each program that is run, and for how long; all succeed, and `venv` makes its folder."""
    found: list[tuple[list[str], float]] = []

    def run(command: Sequence[str], seconds: float) -> Captured:
        found.append((list(command), seconds))
        if command[1:3] == ["-m", "venv"]:
            (Path(command[3]) / "bin").mkdir(parents=True)
        return Captured("", 0)

    monkeypatch.setattr(environments, "captured", run)
    return found


def ending(done: Captured, monkeypatch: pytest.MonkeyPatch) -> HarnessError:
    """What an installation raises whose program ends so."""
    monkeypatch.setattr(environments, "captured", lambda command, seconds: done)
    with pytest.raises(HarnessError) as caught:
        environments._install(["pip"], RELEASE)
    return caught.value


@pytest.mark.parametrize(
    ("done", "free", "kind", "message", "step"),
    [
        (
            Captured("No space left on device", None, "time"),
            NONE,
            DeviceError,
            f"ai-edge-litert {RELEASE} was not installed within 900 s.",
            "Check the connection, and try again.",
        ),
        (
            Captured("No space left on device", None, "size"),
            NONE,
            DeviceError,
            f"ai-edge-litert {RELEASE} cannot be installed (pip said more than 4 MiB and was killed).",
            "Check pip's configuration, and try again.",
        ),
        (
            Captured(OTHERS + "[Errno 28] No space left on device", 1),
            ROOM,
            StorageError,
            f"The disk that holds {{cache}} is full: ai-edge-litert {RELEASE} cannot be installed there.",
            "Free space, or set HARNESS_CACHE to a folder elsewhere.",
        ),
        (
            Captured(OTHERS, 1),
            NONE,
            StorageError,
            f"The disk that holds {{cache}} is full: ai-edge-litert {RELEASE} cannot be installed there.",
            "Free space, or set HARNESS_CACHE to a folder elsewhere.",
        ),
        (
            Captured(OTHERS, 1),
            ROOM,
            DeviceError,
            f"ai-edge-litert {RELEASE} is not installed: of ml-dtypes the package index gives a file with SHA-256 "
            f"{'b' * 64}, which is none of those known to this release of the harness.",
            "It may be of later; else ask whoever runs the index that pip is configured with, or take another one.",
        ),
        (
            Captured("one\nERROR: two\nthree\n", -9),
            ROOM,
            DeviceError,
            f"ai-edge-litert {RELEASE} cannot be installed (ERROR: two).",
            "Check the release number and the connection to the package index.",
        ),
        (
            Captured("one\nan ERROR: two\nthree\n", 1),
            ROOM,
            DeviceError,
            f"ai-edge-litert {RELEASE} cannot be installed (three).",
            "Check the release number and the connection to the package index.",
        ),
        (
            Captured("", 1),
            ROOM,
            DeviceError,
            f"ai-edge-litert {RELEASE} cannot be installed (no output).",
            "Check the release number and the connection to the package index.",
        ),
    ],
    ids=["time", "size", "said full", "found full", "other file", "error", "last line", "silent"],
)
def test_the_first_cause_that_holds_is_told(
    done: Captured,
    free: int,
    kind: type[HarnessError],
    message: str,
    step: str,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free if path == cache else 1 << 50))
    error = ending(done, monkeypatch)
    assert type(error) is kind
    assert (error.message, error.next_step) == (message.format(cache=cache), step)


@pytest.mark.parametrize("said", ["", OTHERS, "No space left on device", "Disk quota exceeded", "ERROR: not really"])
@pytest.mark.parametrize("free", [ROOM, NONE, 0])
def test_a_step_that_succeeds_is_well_whatever_it_says(said: str, free: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "captured", lambda command, seconds: Captured(said, 0))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    environments._install(["pip"], RELEASE)


def test_without_hashes_the_release_and_what_it_lacks_are_asked_for_by_name(
    cache: Path, asked: list[tuple[list[str], float]]
) -> None:
    python = release_environment(RELEASE)
    home = cache / "runtimes" / f"{RELEASE}-{PYTHON}"
    assert python == str(home / "environment" / "bin" / "python")
    inside = home.with_name(f"{home.name}.part") / "environment"
    pip = [str(inside / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    assert asked == [
        ([sys.executable, "-m", "venv", str(inside)], 900),
        ([*pip, f"ai-edge-litert=={RELEASE}", "ml-dtypes", "numpy"], 900),
    ]
    assert sorted(path.name for path in home.iterdir()) == ["environment", "files.json"]
    assert release_environment(RELEASE) == python
    assert len(asked) == 2


def test_with_hashes_only_wheels_that_have_them_are_taken(
    cache: Path, tmp_path: Path, asked: list[tuple[list[str], float]]
) -> None:
    pinned = tmp_path / "pinned" / f"{RELEASE}.txt"
    pinned.parent.mkdir()
    pinned.write_bytes(b"ai-edge-litert\n")
    home = Path(release_environment(RELEASE)).parents[2]
    digest = hashlib.sha256(b"ai-edge-litert\n").hexdigest()
    assert home == cache / "runtimes" / f"{RELEASE}-{PYTHON}-{digest[:12]}"
    words = ["-q", "--disable-pip-version-check", "--require-hashes", "--only-binary", ":all:", "-r", str(pinned)]
    assert asked[1][0][3:] == ["install", *words]


def test_a_folder_is_no_list_of_hashes(tmp_path: Path) -> None:
    (tmp_path / "pinned" / f"{RELEASE}.txt").mkdir(parents=True)
    assert environments._pinned(RELEASE) is None


def test_one_process_at_a_time_makes_it_and_others_wait_for_two_installations(
    cache: Path, asked: list[tuple[list[str], float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[tuple[Path, float]] = []

    @contextmanager
    def alone(path: Path, seconds: float) -> Iterator[None]:
        held.append((path, seconds))
        home = cache / "runtimes" / f"{RELEASE}-{PYTHON}"
        (home / "environment").mkdir(parents=True)  # by the one that was first
        installed.record(home / "environment", home / "files.json")
        yield

    monkeypatch.setattr(kept_folder, "alone", alone)
    release_environment(RELEASE)
    assert held == [(cache / "locks" / f"{RELEASE}-{PYTHON}.lock", 1800)]
    assert asked == []


def test_what_a_killed_one_left_in_the_making_is_not_built_upon(
    cache: Path, asked: list[tuple[list[str], float]]
) -> None:
    left = cache / "runtimes" / f"{RELEASE}-{PYTHON}.part" / "environment"
    left.mkdir(parents=True)
    (left / "half").write_bytes(b"")
    home = Path(release_environment(RELEASE)).parents[2]
    assert sorted(path.name for path in (home / "environment").iterdir()) == ["bin"]
    assert [path.name for path in home.parent.iterdir()] == [home.name]


def test_the_old_one_is_kept_until_the_new_one_is_made(
    cache: Path, asked: list[tuple[list[str], float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Path(release_environment(RELEASE)).parents[2]
    (home / "environment" / "added").write_bytes(b"")
    monkeypatch.setattr(environments, "captured", lambda command, seconds: Captured("ERROR: no.", 1))
    with pytest.raises(DeviceError) as caught:
        release_environment(RELEASE)
    assert caught.value.message == (
        f"ai-edge-litert {RELEASE} cannot be installed (ERROR: no.), and the one that was there is not used: "
        "added was not installed with it."
    )
    assert caught.value.next_step == "Check the release number and the connection to the package index."
    assert (home / "environment" / "added").exists()
    assert [path.name for path in home.parent.iterdir()] == [home.name]


def test_where_none_was_there_the_cause_is_told_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "captured", lambda command, seconds: Captured("ERROR: no", 1))
    with pytest.raises(DeviceError) as caught:
        release_environment(RELEASE)
    assert caught.value.message == f"ai-edge-litert {RELEASE} cannot be installed (ERROR: no)."


def test_a_cache_that_takes_nothing_is_one_sentence(
    cache: Path, asked: list[tuple[list[str], float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: KeptFolder, made: Path) -> None:
        raise PermissionError(13, "Permission denied", str(made))

    monkeypatch.setattr(KeptFolder, "_put_in_place", refuse)
    with pytest.raises(DeviceError) as caught:
        release_environment(RELEASE)
    assert caught.value.message == (
        f"The environment for ai-edge-litert {RELEASE} cannot be made in {cache}/runtimes/{RELEASE}-{PYTHON} "
        "(Permission denied)."
    )
    assert caught.value.next_step == "Free disk space, remove that folder, or set HARNESS_CACHE to another one."


@pytest.mark.parametrize("release", ["1.2.3", "10.20.30", "2.2.0rc1", "2.2.0dev20"])
def test_a_release_is_three_numbers_and_a_mark_where_it_is_an_early_one(
    release: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: release if name == "ai-edge-litert" else "")
    assert release_environment(release) == sys.executable


@pytest.mark.parametrize("release", ["", "1.2", "1.2.3.4", "1.2.3rc", "1.2.3 ", "1.2.3RC1", "1.2.3rc1-2", "a1.2.3"])
def test_what_is_written_otherwise_is_no_release(release: str) -> None:
    with pytest.raises(UsageError) as caught:
        release_environment(release)
    assert caught.value.message == f"'{release}' is not a release of ai-edge-litert."
    assert caught.value.next_step == "Write it as host@2.1.5 or host@nightly."
