"""Folders of the cache that take long to make: made once, by one process, put in place when whole, looked over before
each use, and made again where they are damaged.

<home>/<name>        what was made
<home>/files.json    every file of it as it was then
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import DeviceError
from harness.core.private import make_folder
from harness.core.progress import Say
from harness.devices.cache import cache_folder
from harness.devices.host import installed
from harness.devices.scratch import alone

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class KeptFolder:
    """`what` is in it, and `doing` is how it gets there, in words; `digests` is what is `known` of its files, or not.
    `lock` names the file that keeps others out meanwhile, for at most so many `seconds`."""

    home: Path
    name: str
    what: str
    doing: str
    digests: str
    known: bool
    lock: str
    seconds: float

    @property
    def folder(self) -> Path:
        """Where it is."""
        return self.home / self.name

    def damage(self) -> str | None:
        """What is wrong with the one that is there, empty where nothing is; None where there is none."""
        return installed.damage(self.folder, self.home / "files.json") if self.home.exists() else None

    def made(self, fill: Callable[[Path], None], progress: Say | None) -> Path:
        """The folder. Where there is none that is whole, `fill` makes it below the folder that it is given.

        Raises:
            OSError: it cannot be kept there. Whatever `fill` raises.
        """
        damaged = self.damage()
        if damaged == "":
            return self.folder
        self._tell(damaged, progress)
        partial = self.home.with_name(f"{self.home.name}.part")
        make_folder(self.home.parent)
        with alone(cache_folder() / "locks" / self.lock, self.seconds):
            if self.damage() == "":  # another process was first
                return self.folder
            shutil.rmtree(partial, ignore_errors=True)  # of one that was killed
            try:
                make_folder(partial)
                fill(partial)
                installed.record(partial / self.name, partial / "files.json")
                self._put_in_place(partial)
            except DeviceError as error:
                if damaged is None:
                    raise
                message = f"{error.message.removesuffix('.')}, and the one that was there is not used: {damaged}."
                raise DeviceError(message, error.next_step) from None
            finally:
                shutil.rmtree(partial, ignore_errors=True)
        return self.folder

    def _put_in_place(self, made: Path) -> None:
        aside = self.home.with_name(f"{self.home.name}.old")
        shutil.rmtree(aside, ignore_errors=True)
        if self.home.exists():
            self.home.rename(aside)
        made.rename(self.home)
        shutil.rmtree(aside, ignore_errors=True)

    def _tell(self, damaged: str | None, progress: Say | None) -> None:
        """Each in a few words, for a terminal shows 40 or so; to the log, in full, where nobody hears of progress."""
        if progress is None:
            if damaged:
                _LOG.warning("%s is not used as it is, and made again: %s.", self.what, damaged)
            if not self.known:
                _LOG.warning("The files of %s are not verified: no %s of it are known here.", self.what, self.digests)
            return
        if damaged:
            progress(damaged.rpartition("/")[2])
        if not self.known:
            progress(f"no known {self.digests} for {self.what}")
        progress(f"{self.doing} {self.what} ({'again' if damaged else 'once'})")
