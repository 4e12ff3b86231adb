"""What a command that was killed leaves behind: processes, temporary folders, sockets."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.cli.conftest import environment

_MARK = "HARNESS_TEST_MARK"


@dataclass(frozen=True)
class Watched:
    """An environment whose processes and temporary files can be told from all others. `folder` is to be new."""

    folder: Path

    def environment(self) -> dict[str, str]:
        """For the commands that are watched: temporary files and sockets go to the folder."""
        for name in ("tmp", "runtime"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        return environment() | {
            "TMPDIR": str(self.folder / "tmp"),
            "XDG_RUNTIME_DIR": str(self.folder / "runtime"),
            _MARK: str(self.folder),
        }

    def processes(self) -> list[str]:
        """The command lines of those that still run."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(_MARK) == str(self.folder) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(" ".join(process.cmdline()))
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found

    def processes_after(self, seconds: float) -> list[str]:
        """Those that run on after so long at most."""
        deadline = time.monotonic() + seconds
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return left

    def files(self) -> list[str]:
        """What lies among the temporary files and sockets."""
        return sorted(
            os.path.relpath(path, self.folder) for name in ("tmp", "runtime") for path in (self.folder / name).iterdir()
        )
