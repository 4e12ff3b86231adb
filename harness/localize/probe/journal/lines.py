"""A file of lines, each a checksum and one JSON object: what a journal is kept in.

A line is on the disk before the next step begins, and one that does not match its checksum counts as never written, a
last one without its end too: whatever ends the process or the machine, what was written whole is read back.
"""

from __future__ import annotations

import errno
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.core import safe_files, safe_json
from harness.core.errors import StorageError, UsageError
from harness.core.run_folder import writing
from harness.devices.scratch import try_lock

# A line holds figures and the end of a log, never tensors.
MOST_LINE = 1 << 20


class CheckedLines:
    """The file, open for this process alone. `run` is the folder that it is part of, for messages.

    Raises:
        StorageError: it cannot be written. UsageError: another process has it.
    """

    def __init__(self, path: Path, run: Path) -> None:
        self.path = path
        self._run = run
        self._end = 0
        with writing(path):
            path.parent.mkdir(exist_ok=True)
            safe_files.check_folder(path.parent)
            if os.path.lexists(path) and not safe_files.is_file(path):  # a pipe would be waited for
                raise OSError(errno.EINVAL, "it is no file but a link, a folder or a device")
            new = not os.path.lexists(path)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
            for folder in list(path.parents)[:3] if new else ():  # a line in a file without a name there is none
                safe_files.names_to_disk(folder)
        if not (held := try_lock(self._file)):
            os.close(self._file)
            if held is None:
                raise StorageError(
                    f"Run {run} is on a file system without locks, where two commands could write one journal.",
                    "Choose a folder on a disk of this machine with --out.",
                )
            raise UsageError(f"Run {run} is still being worked on.", "Wait for its end, or stop it.")

    def load(self, most: int) -> list[dict[str, Any] | None]:
        """The lines that are there, None for a damaged one; a last line without its end is cut off.

        Raises:
            UsageError: there are more than `most` bytes.
        """
        size = os.fstat(self._file).st_size
        if size > most:
            raise UsageError(f"The journal of {self._run} is {size >> 20} MiB large.", "Start anew with --fresh.")
        raw = os.pread(self._file, size, 0)
        self._end = raw.rfind(b"\n") + 1
        if self._end < size:
            os.ftruncate(self._file, self._end)
        return list(parsed(raw))

    def append(self, line: dict[str, Any]) -> None:
        """Write one line, to the disk. Raises StorageError, and leaves no part of the line then."""
        body = json.dumps(line, allow_nan=True).encode()
        raw = b"%08x %s\n" % (zlib.crc32(body), body)
        with writing(self.path):
            try:
                done = os.pwrite(self._file, raw, self._end)
                if done < len(raw):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(self._file)
            except OSError:
                os.ftruncate(self._file, self._end)
                raise
        self._end += len(raw)

    def close(self) -> None:
        """Let another process have it."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1


def parsed(raw: bytes) -> Iterator[dict[str, Any] | None]:
    """Each line's object; None for one that is damaged. A last line without its end was never written."""
    for line in raw.split(b"\n")[:-1]:
        head, _, body = line.partition(b" ")
        try:
            whole = len(line) <= MOST_LINE and int(head, 16) == zlib.crc32(body)
            found = safe_json.loads(body) if whole else None
        except ValueError:
            found = None
        yield found if isinstance(found, dict) else None
