"""Daily builds of the runtime: which there are, which one `nightly` is, and between which ends they count."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from harness.core.errors import DeviceError, UsageError
from harness.devices.captured import Captured
from harness.devices.host import environments, releases
from harness.devices.host.releases import NIGHTLY, PACKAGE, available_releases, newest_build, package_of, with_builds
from harness.devices.registry import kind_of, open_device

RELEASED = ("2.1.3", "2.3.0")
BUILDS = ("2.3.0.dev20261006", "2.3.0.dev20261007", "2.4.0.dev20261008", "2.4.0.dev20261026")


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> None:
    """An index of two releases and four builds."""
    monkeypatch.setattr(
        releases, "available_releases", lambda package=PACKAGE: BUILDS if package == NIGHTLY else RELEASED
    )
    newest_build.cache_clear()


def test_pip_lists_builds_only_where_it_is_asked_for_what_is_no_release(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def run(command: list[str], seconds: float) -> Captured:
        asked.append(command)
        return Captured("Available versions: 2.4.0.dev20261026, 2.4.0.dev20261008\n", 0)

    monkeypatch.setattr(releases, "captured", run)
    assert available_releases(NIGHTLY) == ("2.4.0.dev20261008", "2.4.0.dev20261026")
    assert asked[0][-3:] == ["ai-edge-litert-nightly", "--disable-pip-version-check", "--pre"]


def test_an_index_without_the_package_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(releases, "captured", lambda command, seconds: Captured("ERROR: none\n", 1))
    with pytest.raises(DeviceError, match=r"The releases of ai-edge-litert-nightly cannot be listed \(none\)"):
        available_releases(NIGHTLY)


@pytest.mark.parametrize(
    ("first", "last", "listed"),
    [
        (None, None, RELEASED),
        ("2.1.3", "2.3.0", RELEASED),
        ("2.1.3", BUILDS[3], (*RELEASED, *BUILDS[2:])),
        (BUILDS[1], None, ("2.1.3", BUILDS[1], "2.3.0", *BUILDS[2:])),
        (BUILDS[0], "2.3.0", ("2.1.3", *BUILDS[:2], "2.3.0", *BUILDS[2:])),
    ],
)
@pytest.mark.usefixtures("index")
def test_builds_count_from_the_older_of_an_end_and_the_newest_release(
    first: str | None, last: str | None, listed: tuple[str, ...]
) -> None:
    assert with_builds(first, last) == listed


@pytest.mark.usefixtures("index")
def test_a_bisection_ends_at_the_newest_build_where_it_is_asked_to() -> None:
    known = kind_of("host").releases
    assert known is not None
    assert known.between("2.3.0", "nightly") == ("2.3.0", *BUILDS[2:])
    assert known.between(None, None) == RELEASED
    with pytest.raises(UsageError, match=r"'2\.4\.0\.dev20261009' is not a release of ai-edge-litert for this Python"):
        known.between("2.3.0", "2.4.0.dev20261009")


def test_a_browser_has_no_builds() -> None:
    known = kind_of("web").releases
    assert known is not None and known.newest_build is None


@pytest.mark.usefixtures("index")
def test_nightly_is_the_newest_build_and_of_its_own_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    installed: list[list[str]] = []

    def install(command: list[str], release: str) -> None:
        installed.append(command)
        Path(tmp_path / "made").touch()
        if "venv" in command:
            Path(command[-1], "bin").mkdir(parents=True)

    monkeypatch.setattr(environments, "_install", install)
    python = environments.release_environment("nightly")
    assert f"2.4.0.dev20261026-py3.{sys.version_info.minor}" in python
    assert "ai-edge-litert-nightly==2.4.0.dev20261026" in installed[-1]
    assert environments.release_environment("2.4.0.dev20261026") == python and len(installed) == 2
    assert (package_of("2.4.0.dev20261026"), package_of("2.3.0")) == (NIGHTLY, PACKAGE)


@pytest.mark.slow
def test_a_build_runs_and_says_which_it_is() -> None:
    """Where the package index has one for this Python."""
    build = available_releases(NIGHTLY)[-1]
    with open_device("host@nightly") as device:
        assert device.facts().runtime == build
