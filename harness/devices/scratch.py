"""Folders for what a device's process reads and writes, which do not outlive their owner for long: a killed one cannot
remove its own, so the next to make one removes it."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from harness.core.errors import StorageError

_OWNER = ".owner"
# A folder without an owner's lock is one in the making, or of a release that took none.
_UNOWNED_SECONDS = 86_400.0
# Clearing up after others delays a start by no more than this.
SWEEP_SECONDS = 1.0
_POLL_SECONDS = 0.1


class Scratch:
    """A folder `<temporary folder>/<prefix>…` of this process, known as such by a lock that ends with the process.

    Raises:
        StorageError: the temporary folder takes none.
    """

    def __init__(self, prefix: str) -> None:
        try:
            remove_abandoned(prefix)
            while True:
                self.path = Path(tempfile.mkdtemp(prefix=prefix))
                try:
                    self._lock = self._owned()
                except FileNotFoundError:
                    continue  # a sweep came first: the clock had jumped, and took the folder for an old one
                # Without locks nobody sweeps, and nobody knows of others.
                if try_lock(self._lock) is not False and (self.path / _OWNER).exists():
                    return
                os.close(self._lock)  # a sweep came between; it is removing the folder, or has done so
        except OSError as error:
            # Where there is no temporary folder at all, gettempdir raises too, and its words name those that it tried.
            where = tempfile.tempdir or os.environ.get("TMPDIR", "a temporary folder")
            raise StorageError(
                f"No folder for temporary files can be made in {where} ({error.strerror or error}).",
                "Free space and inodes there, or set TMPDIR to another folder.",
            ) from None

    def _owned(self) -> int:
        try:
            return os.open(self.path / _OWNER, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except BaseException:
            shutil.rmtree(self.path, ignore_errors=True)
            raise

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
        self._lock = -1


@contextmanager
def scratch_folder(prefix: str) -> Iterator[Path]:
    """A folder for as long as the block lasts, which a later process removes where this one is killed in it. Raises
    StorageError."""
    with closing(Scratch(prefix)) as scratch:
        yield scratch.path


@contextmanager
def alone(path: Path, seconds: float) -> Iterator[None]:
    """Hold a lock file while the block lasts; who is killed gives it back.

    Raises:
        OSError: it cannot be made, or another process holds it for longer than `seconds`.
    """
    deadline = time.monotonic() + seconds
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        while try_lock(lock) is False:
            if time.monotonic() >= deadline:
                raise TimeoutError(errno.ETIMEDOUT, "another process has been at work on it for too long", str(path))
            time.sleep(_POLL_SECONDS)
        yield
    finally:
        os.close(lock)


def remove_abandoned(prefix: str, seconds: float = SWEEP_SECONDS) -> None:
    """Remove the folders of that prefix whose owner has gone, as far as that goes in so many seconds: where there are
    very many, others follow next time."""
    deadline = time.monotonic() + seconds
    with os.scandir(tempfile.gettempdir()) as entries:
        for entry in entries:
            if time.monotonic() >= deadline:
                return
            if entry.name.startswith(prefix):
                with suppress(OSError):
                    _remove_if_abandoned(Path(entry.path))


def _remove_if_abandoned(path: Path) -> None:
    about = path.lstat()
    if about.st_uid != os.getuid() or path.is_symlink():
        return
    try:
        lock = os.open(path / _OWNER, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        if time.time() - about.st_mtime > _UNOWNED_SECONDS:
            shutil.rmtree(path, ignore_errors=True)
        return
    try:
        if try_lock(lock):
            shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(lock)


def try_lock(descriptor: int) -> bool | None:
    """Whether this process has the lock of an open file now, until it is closed; None on a file system without
    locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
