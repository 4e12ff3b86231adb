"""The host as a device: a worker process over a socket pair, its log in a file.

`host` runs the installed ai-edge-litert; `host@2.1.5` runs that release, in an environment of its own under the cache
folder, made on first use.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import harness
from harness.devices.base import Device, signal_name
from harness.devices.link import Link
from harness.devices.log_file import LogFile
from harness.devices.scratch import Scratch, alone
from harness.errors import DeviceError, StorageError, UsageError

_PACKAGE = Path(harness.__file__).parent
_RELEASE = re.compile(r"\d+\.\d+\.\d+([a-z]+\d+)?")

Progress = Callable[[str], None]

INSTALL_SECONDS = 900


def cache_folder() -> Path:
    """Where environments, converted models and the like are kept: `$HARNESS_CACHE`, else the user's cache folder. An
    absolute path, since the worker runs in another folder.

    Raises:
        StorageError: the user has no home folder, and none is named.
    """
    chosen, base = os.environ.get("HARNESS_CACHE"), os.environ.get("XDG_CACHE_HOME", "")
    if chosen:
        return Path(chosen).absolute()
    try:
        return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "litert-device-harness"
    except RuntimeError:  # neither HOME nor an entry in the list of users
        raise StorageError("This user has no home folder.", "Set HARNESS_CACHE to a folder to keep files in.") from None


class HostLauncher:
    """Starts `harness.devices.worker` with a Python that has the wanted runtime.

    `paths` are where it finds the harness; without any it gets a folder of its own that holds the harness alone, so
    that what lies beside this one stays out of the way of another environment's packages.
    """

    def __init__(self, python: str, paths: tuple[Path, ...] = (_PACKAGE.parent,)) -> None:
        self._python = python
        self._paths = paths
        self._scratch = Scratch("harness-host-")
        self._folder = self._scratch.path
        self._log = LogFile(self._folder / "log.txt")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Link:
        """Start the worker with the far end of a socket pair as its only inherited descriptor.

        Raises:
            DeviceError: the worker's Python, or room for its files, is not there.
        """
        here, there = socket.socketpair()
        paths = self._paths or (self._folder / "src",)
        environment = dict(os.environ, PYTHONPATH=os.pathsep.join(map(str, paths)))
        environment.setdefault("XDG_RUNTIME_DIR", str(self._folder))  # Dawn complains without it
        store = self._folder / "models"
        try:
            store.mkdir(exist_ok=True)
            if not self._paths:
                _link_package(self._folder / "src")
            with there, self._log.open() as log:
                self._process = subprocess.Popen(
                    # The store as seen from its own folder: the runtime takes no path that is no UTF-8.
                    [self._python, "-m", "harness.devices.worker", str(there.fileno()), store.name],
                    pass_fds=[there.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=environment,
                    cwd=self._folder,
                    start_new_session=True,  # Ctrl-C is the caller's to handle
                )
        except OSError as error:
            here.close()
            raise DeviceError(
                f"The worker cannot be started with {self._python} in {self._folder} ({error.strerror}).",
                "Run `harness doctor`.",
            ) from None
        return Link(here)

    @property
    def pid(self) -> int | None:
        """Process id of the worker, while it runs."""
        return None if self._process is None or self._process.poll() is not None else self._process.pid

    def death(self) -> tuple[str, str] | None:
        """How the worker ended, if it did within two seconds."""
        if self._process is None:
            return None
        try:
            code = self._process.wait(2)
        except subprocess.TimeoutExpired:
            return None
        if code < 0:
            name = signal_name(-code)
            return f"the worker was ended by {name}", name
        return f"the worker ended with exit code {code}", ""

    def lost(self, reason: str) -> str:
        """Nothing more can be said: the worker is here, and spoke nonsense."""
        return reason

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def close(self) -> None:
        """Remove what the worker kept on disk."""
        self.kill()
        self._log.close()
        self._scratch.close()

    def log_mark(self) -> int:
        """Bytes logged so far."""
        return self._log.mark()

    def log(self, mark: int) -> str:
        """The log since `mark`."""
        return self._log.since(mark)


class HostDevice(Device):
    """The host's CPU and GPU."""

    def __init__(self, name: str = "host", *, progress: Progress | None = None) -> None:
        if name == "host":
            self.launcher = HostLauncher(sys.executable)
        else:
            self.launcher = HostLauncher(release_environment(name.removeprefix("host@"), progress), ())
        super().__init__(name, "host", self.launcher)

    def close(self) -> None:
        """End the worker and remove its folder."""
        super().close()
        self.launcher.close()


def release_environment(release: str, progress: Progress | None = None) -> str:
    """The Python of a virtual environment with one ai-edge-litert release; this one, where it is the one installed.

    Made once under the cache folder, which several checkouts may share: nothing in it is of one checkout. A half-made
    one is never used, for it gets its name only when complete.

    Raises:
        UsageError: not a release number. DeviceError: the release cannot be installed. StorageError: the disk is full.
    """
    if not _RELEASE.fullmatch(release):
        raise UsageError(f"'{release}' is not a release of ai-edge-litert.", "Write it as host@2.1.5.")
    if release == importlib.metadata.version("ai-edge-litert"):
        return sys.executable
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    home = cache_folder() / "runtimes" / f"{release}-py{version}"
    python = home / "bin" / "python"
    if python.exists():
        return str(python)
    if progress:
        progress(f"installing ai-edge-litert {release} (once)")
    partial = home.with_name(f"{home.name}.part")
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        with alone(cache_folder() / "locks" / f"{home.name}.lock", 2 * INSTALL_SECONDS):
            if not python.exists():  # another process may have been first
                shutil.rmtree(partial, ignore_errors=True)  # of one that was killed
                _fill(partial, release)
                partial.rename(home)
    except OSError as error:
        raise _unusable(release, home, error) from None
    return str(python)


def _fill(folder: Path, release: str) -> None:
    try:
        _install([sys.executable, "-m", "venv", str(folder)], release)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        # The wheel of 2.1.6 imports ml_dtypes and does not ask for it.
        _install([*pip, f"ai-edge-litert=={release}", "numpy", "ml_dtypes"], release)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _unusable(release: str, home: Path, error: OSError) -> DeviceError:
    return DeviceError(
        f"The environment for ai-edge-litert {release} cannot be made in {home} ({error.strerror}).",
        "Free disk space, remove that folder, or set HARNESS_CACHE to another one.",
    )


def _link_package(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    link = folder / "harness"
    if not link.is_symlink():
        link.symlink_to(_PACKAGE, target_is_directory=True)


def _install(command: list[str], release: str) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=INSTALL_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise DeviceError(
            f"ai-edge-litert {release} was not installed within {INSTALL_SECONDS} s.",
            "Check the connection, and try again.",
        ) from None
    if done.returncode and re.search("No space left on device|Disk quota exceeded", done.stderr + done.stdout):
        raise StorageError(
            f"The disk that holds {cache_folder()} is full: ai-edge-litert {release} cannot be installed there.",
            "Free space, or set HARNESS_CACHE to a folder elsewhere.",
        )
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise DeviceError(
            f"ai-edge-litert {release} cannot be installed ({last}).",
            "Check the release number and the connection to the package index.",
        )
