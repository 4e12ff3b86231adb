"""A large file from an address, by its SHA-256: with progress, and continued where the line broke.

What has come so far lies beside the file's place, under a name with the digest, and is nobody's file until all of it is
there and has that digest. Of several processes one fetches, the others wait for it.
"""

from __future__ import annotations

import errno
import http.client
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from harness.core.errors import StorageError, UsageError
from harness.core.private import as_the_user
from harness.devices.fetched.download import QUIET_SECONDS, digest_of
from harness.devices.scratch import try_lock

AGAIN = "The same command again goes on where this one ended."
_PIECE = 1 << 20
_POLL_SECONDS = 0.2
# Beside the file: what the file system needs for itself.
_SPARE = 1 << 20


@dataclass(frozen=True)
class ResumedDownload:
    """A file of a known size that is to be had. `otherwise` is what to do where it cannot be."""

    name: str
    address: str
    sha256: str
    size: int
    otherwise: str

    def into(self, kept: Path, advance: Callable[[float], None] = lambda _: None) -> Path:
        """Have it at that place; nothing happens where it is there. `advance` is told the share that has come.

        Raises:
            UsageError: there is no network, the line broke, or what came is another file. StorageError: it cannot be
                written.
        """
        if digest_of(kept) == self.sha256:
            return kept
        partial = kept.with_name(f".{kept.name}.{self.sha256[:16]}.part")
        with as_the_user(), self._alone(kept):  # a cache, no result
            if digest_of(kept) == self.sha256:  # another process had it meanwhile
                return kept
            self._fetch(partial, advance)
            if (digest := digest_of(partial)) != self.sha256:
                partial.unlink(missing_ok=True)
                raise UsageError(
                    f"{self.address} is not the {self.name} that was published: its SHA-256 is {digest[:16]}…, not "
                    f"{self.sha256[:16]}….",
                    self.otherwise,
                )
            try:
                partial.replace(kept)
            except OSError as error:
                raise self._unwritten(kept, error) from error
        return kept

    @contextmanager
    def _alone(self, kept: Path) -> Iterator[None]:
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            lock = kept.with_name(f".{kept.name}.lock").open("ab")
        except OSError as error:
            raise self._unwritten(kept, error) from error
        with lock:
            while try_lock(lock.fileno()) is False:
                time.sleep(_POLL_SECONDS)
            yield

    def _fetch(self, partial: Path, advance: Callable[[float], None]) -> None:
        have = 0
        with suppress(OSError):
            have = partial.stat().st_size
        if have > self.size:
            have = 0
        if have == self.size:
            return
        self._check_room(partial, self.size - have)
        try:
            request = urllib.request.Request(self.address, headers={"Range": f"bytes={have}-"} if have else {})
            with urllib.request.urlopen(request, timeout=QUIET_SECONDS) as answer:
                have = self._resumes_at(answer, have)
                try:
                    file = partial.open("ab" if have else "wb")
                except OSError as error:
                    raise self._unwritten(partial, error) from error
                with file:
                    have = self._receive(answer, file, have, advance)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416 and have:  # what is there is no beginning of the file
                partial.unlink(missing_ok=True)
                return self._fetch(partial, advance)
            raise UsageError(f"{self.name} is not at {self.address} (HTTP {error.code}).", self.otherwise) from None
        except urllib.error.URLError as error:
            raise UsageError(f"{self.address} cannot be reached ({error.reason}).", self.otherwise) from None
        except (ValueError, http.client.InvalidURL) as error:  # of what HF_ENDPOINT says, or a redirect
            raise UsageError(f"{self.address!r} leads to no address ({error}).", self.otherwise) from None
        except (OSError, http.client.HTTPException) as error:
            raise self._broken(partial, str(error) or type(error).__name__) from None
        if have < self.size:
            raise self._broken(partial, "the server sent no more")

    def _resumes_at(self, answer: http.client.HTTPResponse, have: int) -> int:
        """Where in the file the answer begins: a server may send the whole all the same. Raises `UsageError` for a
        whole of another size, such as a page for people to log in: none of it is kept."""
        told = re.fullmatch(r"bytes (\d+)-\d+/.*", answer.headers.get("Content-Range") or "")
        if answer.status == 206 and told and int(told[1]) == have:
            return have
        length = answer.headers.get("Content-Length") or ""
        if length.isdecimal() and int(length) != self.size:
            raise UsageError(f"{self.address} has {int(length):,} bytes, {self.name} {self.size:,}.", self.otherwise)
        return 0

    def _receive(
        self, answer: http.client.HTTPResponse, file: BinaryIO, have: int, advance: Callable[[float], None]
    ) -> int:
        """How many bytes are there when the answer ends; of one that is too long, one byte too many."""
        while have <= self.size and (piece := answer.read(min(_PIECE, self.size + 1 - have))):
            try:
                file.write(piece)
                file.flush()
            except OSError as error:
                raise self._unwritten(Path(file.name), error) from error
            have += len(piece)
            advance(min(have / self.size, 1.0))
        return have

    def _broken(self, partial: Path, why: str) -> UsageError:
        have = 0
        with suppress(OSError):
            have = partial.stat().st_size
        return UsageError(f"{self.address} broke off after {have:,} of {self.size:,} bytes ({why}).", AGAIN)

    def _check_room(self, partial: Path, wanted: int) -> None:
        free = shutil.disk_usage(partial.parent).free
        if free < wanted + _SPARE:
            raise StorageError(
                f"{self.name} needs {wanted / 1e6:.0f} MB more, and {str(partial.parent)!r} has {free / 1e6:.0f} MB.",
                "Free some space, or set HARNESS_CACHE to a folder elsewhere.",
            )

    def _unwritten(self, place: Path, error: OSError) -> StorageError:
        why = os.strerror(error.errno or errno.EIO)
        return StorageError(
            f"{self.name} cannot be kept in {str(place.parent)!r} ({why}).",
            "Free some space, or set HARNESS_CACHE to a folder elsewhere.",
        )
