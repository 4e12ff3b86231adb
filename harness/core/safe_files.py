"""Files of folders that may come from elsewhere: read only where they are files, and written past what lies in their
place.

A run folder, or a site, that somebody sent may hold links to files outside, or a pipe where a table is expected. A link
is not followed, nothing is waited for, no more is read than asked, and what was written here is known again.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

MOST_BYTES = 1 << 30
SECONDS = 60.0
"""For reading one file. A disk gives the gigabyte in less; what a network or a user's own file system never gives is
waited for up to the next piece."""
_CHUNK = 1 << 20
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def read(path: Path, most: int = MOST_BYTES, *, seconds: float = SECONDS) -> bytes:
    """The content of a file.

    Raises:
        OSError: there is none, it is a link, a pipe, a socket or a device, has more than `most` bytes, or gives them in
            no less than `seconds`.
    """
    with _opened(path) as (file, size):
        if size > most:
            raise OSError(errno.EINVAL, f"it has {size:,} bytes, more than {most:,}", str(path))
        content = _taken(file, most + 1, path, seconds)
    if len(content) > most:  # a file that grows, or one without a size
        raise OSError(errno.EINVAL, f"it has more than {most:,} bytes", str(path))
    return content


def head(path: Path, most: int) -> bytes:
    """The first `most` bytes of a file. Raises OSError, as :func:`read`."""
    with _opened(path) as (file, _):
        return _taken(file, most, path, SECONDS)


def tail(path: Path, most: int) -> tuple[bytes, int]:
    """The last `most` bytes of a file, and how many it has. Raises OSError, as :func:`read`."""
    with _opened(path) as (file, size):
        file.seek(max(0, size - most))
        return _taken(file, most, path, SECONDS), size


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    if not stat.S_ISREG(os.lstat(path).st_mode):
        raise OSError(errno.EINVAL, "it is no file but a link, a folder or a device", str(path))
    with os.fdopen(os.open(path, _READ), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is no file but a device", str(path))
        yield file, found.st_size


def _taken(file: BinaryIO, most: int, path: Path, seconds: float) -> bytes:
    end = time.monotonic() + seconds
    content = bytearray()
    while len(content) < most and (chunk := file.read(min(_CHUNK, most - len(content)))):
        content += chunk
        if time.monotonic() > end:
            raise OSError(errno.ETIMEDOUT, f"it was not read within {seconds:g} s", str(path))
    return bytes(content)


def is_file(path: Path) -> bool:
    """Whether there is a file there, and not a link to one."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def size_of(path: Path) -> int:
    """Bytes of a file; 0 where there is none, or a link."""
    try:
        found = os.lstat(path)
    except OSError:
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def stamp_of(path: Path) -> str:
    """Changes whenever a file does, its mode too; empty where there is none. Behind its colon is what a change of mode
    leaves: `same_content`.

    It is of the inode's time of change, which is the system's alone to set: unlike the time of change of the content,
    no archive brings it along, so that no file from elsewhere has a stamp that was noted here.
    """
    try:
        found = os.lstat(path)
    except OSError:
        return ""
    return f"{found.st_ctime_ns}:{found.st_size}.{found.st_mtime_ns}" if stat.S_ISREG(found.st_mode) else ""


def same_content(stamp: str, other: str) -> bool:
    """Whether two stamps of a file differ by its mode and the like at most, so far as nobody set its times."""
    return bool(stamp) and stamp.partition(":")[2] == other.partition(":")[2]


def check_folder(folder: Path) -> None:
    """Raises OSError where a folder to write into is a link."""
    if folder.is_symlink():
        raise OSError(errno.ELOOP, f"{folder.name} is a link, which is not followed", str(folder))


def created(path: Path) -> BinaryIO:
    """A new, empty file to write; what lay in its place, a link or a pipe, goes. Raises OSError, also where the folder
    is a link."""
    check_folder(path.parent)
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, _CREATE, 0o666), "wb")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new, empty file to write, which takes the place of `path` once complete; what lay there, a link too, goes. It
    leaves no part of itself when it is not: a full disk then has room for the last word about it. Raises OSError, also
    where the folder is a link."""
    partial = path.with_name(f"{path.name}.part")
    created(partial).close()
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def to_disk(path: Path) -> None:
    """Return once a file's content is on the disk. Raises OSError, as :func:`read`."""
    with _opened(path) as (file, _):
        os.fsync(file.fileno())


def names_to_disk(folder: Path) -> None:
    """Return once it is on the disk which names a folder has; what lies in it is not. A file system that cannot do
    that, and a folder that cannot be read, are passed over. Raises OSError: the disk is broken."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def all_to_disk(folder: Path) -> None:
    """Return once a folder is on the disk with all files and folders in it. Links and the like have no content.

    Raises:
        OSError: a file cannot be read, or the disk is full or broken.
    """
    for path in folder.iterdir():
        mode = os.lstat(path).st_mode
        if stat.S_ISDIR(mode):
            all_to_disk(path)
        elif stat.S_ISREG(mode):
            to_disk(path)
    names_to_disk(folder)
