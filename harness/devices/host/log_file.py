"""A file that a process logs into, read from marks on, and emptied when it grows beyond a bound."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO

from harness.devices.base import LOG_LIMIT

MOST = 64 << 20
"""Bytes on disk: a job's log has a few kB, that of a model whose every shader fails a few MB."""

WATCH_SECONDS = 0.2


class LogFile:
    """Marks count the bytes that were ever logged, those that are gone included."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._gone = 0
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._watch: threading.Thread | None = None

    def open(self) -> IO[bytes]:
        """For a process to log into: opened for appending, so that it goes on at the start once the file is emptied."""
        if self._watch is None:
            self._watch = threading.Thread(target=self._keep_short, daemon=True)
            self._watch.start()
        return self.path.open("ab")

    def close(self) -> None:
        """Watch it no longer."""
        self._done.set()
        if self._watch is not None:
            self._watch.join()
            self._watch = None

    def mark(self) -> int:
        """The present end."""
        with self._lock:
            return self._gone + self._size()

    def since(self, mark: int) -> str:
        """What came after `mark`, at most the last `LOG_LIMIT` bytes; says where the file was emptied since."""
        with self._lock:
            gone = max(0, self._gone - mark)
            told = f"[{gone} bytes of log before this were not kept]\n" if gone else ""
            if not self.path.exists():
                return told
            with self.path.open("rb") as file:
                file.seek(max(mark - self._gone, self._size() - LOG_LIMIT, 0))
                return told + file.read(LOG_LIMIT).decode("utf-8", "replace")

    def _size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def _keep_short(self) -> None:
        while not self._done.wait(WATCH_SECONDS):
            with self._lock, suppress(OSError):  # the folder may have been taken away meanwhile
                size = self._size()
                if size > MOST:
                    os.truncate(self.path, 0)
                    self._gone += size
