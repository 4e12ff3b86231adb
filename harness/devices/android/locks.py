"""One phone, one user at a time: a lock file for each serial, held by the kernel for as long as its process lives."""

from __future__ import annotations

import os
import re
import threading
import time
from pathlib import Path
from typing import IO, ClassVar

from harness.core.errors import DeviceError, StorageError
from harness.core.private import as_the_user, make_folder
from harness.devices.cache import cache_folder
from harness.devices.scratch import try_lock

WAIT_SECONDS = 600.0
POLL_SECONDS = 0.1


class SerialLock:
    """Taken before a phone is touched, given back when its device is closed; a process that dies gives it back too.

    Devices of one process on one phone share its lock. They are to be used one after another, by whoever has them: the
    one that runs a job starts the app anew, and the other finds its connection ended when its turn comes.
    """

    _shared: ClassVar[dict[tuple[int, Path], tuple[IO[str], int]]] = {}
    """The lock files that a process holds, and for how many devices. With the process's id, for a forked one inherits
    the table and holds nothing."""
    _turn: ClassVar[threading.Lock] = threading.Lock()
    """Held while the table is looked into and changed."""

    def __init__(self, serial: str, seconds: float | None = None) -> None:
        """`seconds` to wait for others; by default `WAIT_SECONDS`."""
        self._serial = serial
        self._seconds = seconds
        self._taken: tuple[int, Path] | None = None

    @property
    def path(self) -> Path:
        """The lock file; it holds the process id of its last holder."""
        return cache_folder() / "locks" / f"{re.sub('[^A-Za-z0-9.-]', '_', self._serial)}.lock"

    def take(self) -> None:
        """Wait for the phone and hold it; nothing happens when this process holds it already.

        Raises:
            DeviceError: another process holds it for longer than the wait. StorageError: no lock file can be made or
                locked.
        """
        if self._taken is not None:
            return
        key = os.getpid(), self.path
        with self._turn:
            file, users = self._shared.get(key) or (self._locked_file(key[1]), 0)
            self._shared[key] = file, users + 1
            self._taken = key

    def give_back(self) -> None:
        """Let others have it, once no device of this process uses it."""
        if self._taken is None:
            return
        with self._turn:
            file, users = self._shared.pop(self._taken)
            if users > 1:
                self._shared[self._taken] = file, users - 1
            else:
                file.close()
            self._taken = None

    def _locked_file(self, path: Path) -> IO[str]:
        try:
            make_folder(path.parent)
            with as_the_user():  # others of a cache that is shared wait for it too
                file = path.open("a+", encoding="ascii")
        except OSError as error:
            raise StorageError(
                f"The lock {path} cannot be made ({error.strerror}).", "Set HARNESS_CACHE to a folder of yours."
            ) from None
        try:
            self._wait_for(file)
            file.seek(0)
            file.truncate()
            file.write(str(os.getpid()))
            file.flush()
        except BaseException:
            file.close()
            raise
        return file

    def _wait_for(self, file: IO[str]) -> None:
        seconds = WAIT_SECONDS if self._seconds is None else self._seconds
        deadline = time.monotonic() + seconds
        while not (held := try_lock(file.fileno())):
            if held is None:
                raise StorageError(
                    f"The lock {file.name} cannot be taken: its file system has no locks.",
                    "Set HARNESS_CACHE to a folder on a disk of this machine.",
                )
            if time.monotonic() >= deadline:
                file.seek(0)
                holder = file.read().strip()
                raise DeviceError(
                    f"{self._serial} is in use by {f'process {holder}' if holder else 'another process'} "
                    f"for over {seconds:g} s.",
                    "Wait for it, or name another device.",
                )
            time.sleep(POLL_SECONDS)
