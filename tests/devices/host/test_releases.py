"""`host@2.1.5`: environments of their own for other releases of the runtime."""

from __future__ import annotations

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from harness.core.errors import DeviceError, StorageError, UsageError
from harness.core.job import Completed, Options
from harness.devices.cache import cache_folder
from harness.devices.captured import Captured
from harness.devices.execute import make_job
from harness.devices.host import environments
from harness.devices.host.device import HostDevice
from harness.devices.host.environments import release_environment
from harness.devices.scratch import alone
from harness.graph.model import Model


@pytest.mark.parametrize("release", ["", "latest", "2.1", "2.1.5.6", "../2.1.5", "2.1.5 ", "2.1.5; rm", "-r x"])
def test_a_release_is_three_numbers(release: str) -> None:
    with pytest.raises(UsageError) as caught:
        release_environment(release)
    assert str(caught.value) == (
        f"'{release}' is not a release of ai-edge-litert. Write it as host@2.1.5 or host@nightly."
    )


@pytest.mark.slow
def test_another_release_runs_beside_the_installed_one(plus_one: Model) -> None:
    with HostDevice("host@2.1.5") as device:
        assert device.facts().runtime == "2.1.5"
        assert device.facts().name == "host@2.1.5"
        for options in (Options("cpu"), Options("reference")):
            outcome = device.run(make_job(plus_one, {"x": np.ones((1, 4), np.float32)}, options, timeout=60))
            assert isinstance(outcome, Completed)
            assert (outcome.runtime, outcome.outputs["y"].tolist()) == ("2.1.5", [[2, 2, 2, 2]])


@pytest.mark.slow
def test_a_release_that_cannot_be_installed_leaves_no_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    said: list[str] = []
    with pytest.raises(DeviceError, match=r"0\.0\.1 cannot be installed \(.*No matching"):
        release_environment("0.0.1", said.append)
    assert said == ["no known hashes for ai-edge-litert 0.0.1", "installing ai-edge-litert 0.0.1 (once)"]
    assert list((tmp_path / "runtimes").iterdir()) == []


def test_a_cache_that_cannot_be_made_is_a_device_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "file"))
    with pytest.raises(DeviceError, match="set HARNESS_CACHE to another one"):
        release_environment("0.0.1")


def test_the_cache_is_where_it_is_told_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", "/a")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    assert cache_folder() == Path("/a")
    monkeypatch.delenv("HARNESS_CACHE")
    assert cache_folder() == Path("/b/litert-device-harness")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/c")
    assert cache_folder() == Path("/c/.cache/litert-device-harness")


def test_a_relative_cache_is_made_absolute_where_the_command_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker runs in another folder, and finds its Python there all the same."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_CACHE", "mine")
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("HARNESS_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # to be ignored, by the XDG base directory specification
    assert cache_folder() == tmp_path / "home" / ".cache" / "litert-device-harness"


def test_without_a_home_it_is_said_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HARNESS_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)

    def nobody(_: int) -> None:
        raise KeyError("getpwuid(): uid not found: 4242")

    monkeypatch.setattr("pwd.getpwuid", nobody)
    with pytest.raises(StorageError, match=r"no home folder.*Set HARNESS_CACHE"):
        cache_folder()


@pytest.mark.parametrize("words", ["[Errno 28] No space left on device", "[Errno 122] Disk quota exceeded: 'x'"])
def test_a_full_disk_is_not_blamed_on_the_release_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))

    def full(command: list[str], seconds: float) -> Captured:
        return Captured(f"ERROR: Could not install packages: {words}\n\nlast\n", 1)

    monkeypatch.setattr(environments, "captured", full)
    with pytest.raises(StorageError, match=r"The disk that holds .* is full") as caught:
        release_environment("2.1.4")
    assert "release number" not in str(caught.value)
    assert list((tmp_path / "runtimes").iterdir()) == []


@pytest.mark.parametrize(("free", "error"), [(49 << 20, StorageError), (51 << 20, DeviceError)])
def test_a_step_that_fails_without_a_reason_on_a_full_disk_failed_for_want_of_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, error: type[Exception]
) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    failed = "Error: Command '['python', '-m', 'ensurepip']' returned non-zero exit status 1."
    monkeypatch.setattr(environments, "captured", lambda command, seconds: Captured(failed, 1))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    with pytest.raises(error) as caught:
        release_environment("2.1.4")
    assert type(caught.value) is error


class TestTwoAtOnce:
    """Two commands that want a release which neither of them has."""

    @pytest.fixture
    def installs(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
        """The commands that would have been run; the first of them makes the folder that it names, slowly."""
        monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
        made: list[list[str]] = []

        def slow(command: list[str], seconds: float) -> Captured:
            made.append(command)
            if command[2] == "venv":
                (Path(command[3]) / "bin").mkdir(parents=True)
                time.sleep(0.3)
                (Path(command[3]) / "bin" / "python").touch()
            return Captured("", 0)

        monkeypatch.setattr(environments, "captured", slow)
        return made

    def test_install_it_once(self, installs: list[list[str]]) -> None:
        with ThreadPoolExecutor(3) as pool:
            found = {one.result() for one in [pool.submit(release_environment, "2.1.4") for _ in range(3)]}
        (python,) = found
        assert Path(python).exists()
        assert len(installs) == 2  # the environment, then what goes into it

    def test_what_a_killed_one_left_is_no_part_of_it(self, tmp_path: Path, installs: list[list[str]]) -> None:
        python = Path(release_environment("2.1.4"))
        home = python.parents[2]
        home.rename(home.with_name(f"{home.name}.part"))
        (home.with_name(f"{home.name}.part") / "half").touch()
        assert Path(release_environment("2.1.4")) == python
        assert [path.name for path in (tmp_path / "runtimes").iterdir()] == [home.name]
        assert not (home / "half").exists()

    def test_one_that_never_ends_is_not_waited_for_without_end(
        self, tmp_path: Path, installs: list[list[str]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(environments, "INSTALL_SECONDS", 0.1)
        release_environment("2.1.4")
        (home,) = (tmp_path / "runtimes").iterdir()
        home.rename(tmp_path / "elsewhere")
        installs.clear()
        with (
            alone(tmp_path / "locks" / f"{home.name}.lock", 1),
            pytest.raises(DeviceError, match="another process has been at work"),
        ):
            release_environment("2.1.4")
        assert installs == []
