"""What the harness writes is its user's alone: models, inputs, photos and logs, which the umask may show to everybody.

The one place for it is the umask, which the processes that are started inherit. Folders that exist keep their modes.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_UMASK = 0o077
_turn = threading.Lock()
# How many are inside, and the umask of the time before the first of them.
_inside = 0
_outside = 0
_before = 0


@contextmanager
def owner_only() -> Iterator[None]:
    """Folders made meanwhile get mode 0700 and files 0600, by whichever thread: the umask is the process's."""
    global _inside, _before
    with _turn:
        if _inside == 0:
            _before = os.umask(_UMASK)
        _inside += 1
    try:
        yield
    finally:
        with _turn:
            _inside -= 1
            if _inside == 0:
                os.umask(_before)


@contextmanager
def as_the_user() -> Iterator[None]:
    """The umask as it was before, for a file that the user named and for a program whose files are not ours."""
    global _outside
    with _turn:
        _outside += 1
        if _inside:
            os.umask(_before)
    try:
        yield
    finally:
        with _turn:
            _outside -= 1
            if _inside and not _outside:
                os.umask(_UMASK)


def make_folder(path: Path) -> None:
    """Make a folder and what is missing above it, all of mode 0700. Raises OSError."""
    with owner_only():
        path.mkdir(parents=True, exist_ok=True)
