"""Files of folders that may come from elsewhere: read only where they are files, and written past what lies in their
place.

A run folder, or a site, that somebody sent may hold links to files outside, or a pipe where a table is expected. A link
is not followed, nothing is waited for, and no more is read than asked.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MOST_BYTES = 1 << 30
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def read(path: Path, most: int = MOST_BYTES) -> bytes:
    """The content of a file.

    Raises:
        OSError: there is none, it is a link, a pipe, a socket or a device, or has more than `most` bytes.
    """
    content, size = tail(path, most)
    if size > most:
        raise OSError(errno.EFBIG, f"it has {size:,} bytes, more than {most:,}", str(path))
    return content


def tail(path: Path, most: int) -> tuple[bytes, int]:
    """The last `most` bytes of a file, and how many it has. Raises OSError, as :func:`read`."""
    if not stat.S_ISREG(os.lstat(path).st_mode):
        raise OSError(errno.EINVAL, "it is no file but a link, a folder or a device", str(path))
    with os.fdopen(os.open(path, _READ), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is no file but a device", str(path))
        file.seek(max(0, found.st_size - most))
        return file.read(most), found.st_size


def is_file(path: Path) -> bool:
    """Whether there is a file there, and not a link to one."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new, empty file to write, which takes the place of `path` once complete; what lay there, a link too, goes. It
    leaves no part of itself when it is not: a full disk then has room for the last word about it. Raises OSError."""
    partial = path.with_name(f"{path.name}.part")
    partial.unlink(missing_ok=True)
    os.close(os.open(partial, _CREATE, 0o666))
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
