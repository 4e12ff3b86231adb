"""How the worker's process is started and ended, with a process that is none."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any, NoReturn

import pytest

import harness
from harness.core.errors import DeviceError
from harness.devices.host import device as module
from harness.devices.host.device import HostDevice, HostLauncher


class Process:
    """Ends with a code when asked to, or not at all."""

    def __init__(self, code: int | None = None) -> None:
        self.code, self.killed, self.waited, self.pid = code, 0, list[float | None](), 77

    def poll(self) -> int | None:
        return self.code

    def wait(self, seconds: float | None = None) -> int:
        self.waited.append(seconds)
        if self.code is None and not self.killed:
            raise subprocess.TimeoutExpired("worker", seconds or 0)
        return -9 if self.code is None else self.code

    def kill(self) -> None:
        self.killed += 1


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], dict[str, Any]]]:
    """What was started."""
    found: list[tuple[list[str], dict[str, Any]]] = []

    def popen(command: list[str], **options: Any) -> Process:
        os.fstat(options["pass_fds"][0])  # it is open
        found.append((command, options))
        return Process()

    monkeypatch.setattr(subprocess, "Popen", popen)
    return found


@pytest.mark.parametrize("own", [True, False])
def test_a_worker_gets_one_socket_its_store_and_no_input(
    own: bool, started: list[tuple[list[str], dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    launcher = HostLauncher("/there/python", () if own else (Path("/a"), Path("/b")))
    launcher.anew = True
    try:
        assert launcher.pid is None
        assert launcher.death() is None
        launcher.kill()
        for _ in range(2):
            launcher.start().close()
        (command, options), _ = started
        descriptor = options["pass_fds"][0]
        assert command == ["/there/python", "-m", "harness.devices.worker", str(descriptor), "models"]
        folder = options["cwd"]
        assert options["pass_fds"] == [descriptor]
        assert (options["stdin"], options["start_new_session"]) == (subprocess.DEVNULL, True)
        assert options["stdout"] is options["stderr"]
        environment = options["env"]
        assert environment["PYTHONPATH"] == (str(folder / "src") if own else f"/a{os.pathsep}/b")
        assert environment.get("PYTHONDONTWRITEBYTECODE") == ("1" if own else None)
        assert environment["XDG_RUNTIME_DIR"] == str(folder)
        assert environment["PATH"] == os.environ["PATH"]
        assert (folder / "models").is_dir()
        assert (folder / "src" / "harness").is_symlink() is own
        with pytest.raises(OSError):  # the worker's end is the worker's alone
            os.fstat(descriptor)
        assert launcher.pid == 77
    finally:
        launcher.close()
    assert not folder.exists()


def test_a_runtime_folder_that_is_there_is_left(
    started: list[tuple[list[str], dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1")
    launcher = HostLauncher("/there/python")
    launcher.anew = True
    launcher.start().close()
    launcher.close()
    assert started[0][1]["env"]["XDG_RUNTIME_DIR"] == "/run/user/1"
    assert started[0][1]["env"]["PYTHONPATH"] == str(Path(harness.__file__).parent.parent)


def test_a_python_that_is_not_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*words: Any, **options: Any) -> NoReturn:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(subprocess, "Popen", none)
    launcher = HostLauncher("/there/python")
    with pytest.raises(DeviceError) as caught:
        launcher.start()
    assert caught.value.message == (
        f"The worker cannot be started with /there/python in {launcher._folder} (No such file or directory)."
    )
    assert caught.value.next_step == "Run `harness doctor`."
    assert launcher.pid is None
    launcher.close()


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (None, None),
        (0, ("the worker ended with exit code 0", "")),
        (1, ("the worker ended with exit code 1", "")),
        (-1, ("the worker was ended by SIGHUP", "SIGHUP")),
        (-11, ("the worker was ended by SIGSEGV", "SIGSEGV")),
    ],
)
def test_an_end_within_two_seconds_is_told(code: int | None, said: tuple[str, str] | None) -> None:
    launcher = HostLauncher("/there/python")
    process = Process(code)
    launcher._process = process  # type: ignore[assignment]
    assert launcher.death() == said
    assert process.waited == [2]
    assert launcher.pid == (77 if code is None else None)
    assert launcher.lost("it spoke nonsense") == "it spoke nonsense"
    launcher.close()
    assert (process.killed, process.waited) == (1, [2, None])


def test_another_release_runs_with_the_python_of_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, object]] = []

    def environment(release: str, progress: object) -> str:
        asked.append((release, progress))
        return "/there/python"

    monkeypatch.setattr(module, "release_environment", environment)
    said: list[str] = []
    with closing(HostDevice("host@2.1.5", progress=said.append)) as device:
        assert (device.launcher._python, device.launcher._paths) == ("/there/python", ())
        assert (device.name, device.kind, device.pid) == ("host@2.1.5", "host", None)
    assert asked == [("2.1.5", said.append)]
    with closing(HostDevice()) as device:
        assert device.launcher._python == sys.executable
        assert device.launcher._paths == (Path(harness.__file__).parent.parent,)
    assert len(asked) == 1
