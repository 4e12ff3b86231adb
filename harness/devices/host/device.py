"""The host as a device: a worker process over a socket pair, its log in a file.

`host` runs the installed ai-edge-litert; `host@2.1.5` runs that release, in an environment of its own under the cache
folder, made on first use.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import harness
from harness.core.errors import DeviceError
from harness.core.progress import Say
from harness.core.signals import signal_name
from harness.devices.base import Device
from harness.devices.host.environments import release_environment
from harness.devices.host.forked import Forked, fork
from harness.devices.host.log_file import LogFile
from harness.devices.link import Link
from harness.devices.scratch import Scratch

_PACKAGE = Path(harness.__file__).parent


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
        self._process: subprocess.Popen[bytes] | Forked | None = None
        self.anew = False

    def start(self) -> Link:
        """Start the worker with the far end of a socket pair as its only inherited descriptor: forked from a process
        that has the runtime imported, or, where `anew`, as a process of its own.

        Raises:
            DeviceError: the worker's Python, or room for its files, is not there.
        """
        here, there = socket.socketpair()
        paths = self._paths or (self._folder / "src",)
        environment = dict(os.environ, PYTHONPATH=os.pathsep.join(map(str, paths)))
        if not self._paths:  # in a release's environment only what was installed may lie
            environment["PYTHONDONTWRITEBYTECODE"] = "1"
        own = {} if "XDG_RUNTIME_DIR" in environment else {"XDG_RUNTIME_DIR": str(self._folder)}  # Dawn wants one
        store = self._folder / "models"
        try:
            store.mkdir(exist_ok=True)
            if not self._paths:
                _link_package(self._folder / "src")
            with there, self._log.open() as log:
                # The store as seen from its own folder: the runtime takes no path that is no UTF-8.
                peer, name = there.fileno(), store.name
                forked = None
                if not self.anew:
                    forked = fork(self._python, environment, own, self._folder, name, peer, log.fileno())
                self._process = forked or subprocess.Popen(
                    [self._python, "-m", "harness.devices.worker", str(peer), name],
                    pass_fds=[peer],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=environment | own,
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

    own_process = True
    keeps_inputs = False

    def __init__(self, name: str = "host", *, progress: Say | None = None) -> None:
        if name == "host":
            self.launcher = HostLauncher(sys.executable)
        else:
            self.launcher = HostLauncher(release_environment(name.removeprefix("host@"), progress), ())
        super().__init__(name, "host", self.launcher)

    def start_anew(self) -> None:
        """A worker that is forked is laid out as the one before it; one that is there already is ended."""
        if not self.launcher.anew:
            self.stop()
        self.launcher.anew = True

    @property
    def pid(self) -> int | None:
        """The worker's."""
        return self.launcher.pid

    def close(self) -> None:
        """End the worker and remove its folder."""
        super().close()
        self.launcher.close()


def _link_package(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    link = folder / "harness"
    if not link.is_symlink():
        link.symlink_to(_PACKAGE, target_is_directory=True)
