"""A file from an address, taken by its SHA-256 alone: another one gets no name, whatever the other side sends."""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import DeviceError
from harness.core.private import as_the_user

QUIET_SECONDS = 60.0
_PIECE = 1 << 20


@dataclass(frozen=True)
class Download:
    """A file that is to be had. Sentences call it `what`, and say what `expected` it is not, as in `the app of this
    release`; `otherwise` is what to do where it cannot be had, `mend` where another file is there."""

    what: str
    expected: str
    address: str
    sha256: str
    most_bytes: int
    otherwise: str
    mend: str

    def into(self, kept: Path) -> Path:
        """Have it at that place; nothing happens where it is there.

        Raises:
            DeviceError: it cannot be had, or what came is another file.
        """
        if digest_of(kept) == self.sha256:
            return kept
        partial = kept.with_name(f"{kept.name}.{os.getpid()}.part")
        try:
            with as_the_user():  # a cache, no result
                kept.parent.mkdir(parents=True, exist_ok=True)
                try:
                    digest = self._fetch(partial)
                    if digest != self.sha256:
                        raise DeviceError(
                            f"{self.address} is not {self.expected}: its SHA-256 is {digest[:16]}…, not "
                            f"{self.sha256[:16]}….",
                            self.mend,
                        )
                    partial.replace(kept)
                finally:
                    with suppress(OSError):
                        partial.unlink()
        except urllib.error.HTTPError as error:
            error.close()
            raise DeviceError(f"{self.what} is not at {self.address} (HTTP {error.code}).", self.otherwise) from None
        except (urllib.error.URLError, ConnectionError) as error:
            why = getattr(error, "reason", error)
            raise DeviceError(f"{self.what} cannot be fetched from {self.address} ({why}).", self.otherwise) from None
        except (OSError, http.client.HTTPException) as error:  # of the network or of the disk
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise DeviceError(f"{self.what} cannot be fetched to {kept.parent} ({why}).", self.otherwise) from None
        return kept

    def _fetch(self, into: Path) -> str:
        """SHA-256 of what came, of at most one byte more than may come."""
        digest, left = hashlib.sha256(), self.most_bytes + 1
        request = urllib.request.Request(self.address)
        with urllib.request.urlopen(request, timeout=QUIET_SECONDS) as answer, into.open("wb") as file:
            while left and (piece := answer.read(min(_PIECE, left))):
                file.write(piece)
                digest.update(piece)
                left -= len(piece)
        return digest.hexdigest()


def digest_of(path: Path) -> str:
    """SHA-256 of a file; empty where it cannot be read."""
    with suppress(OSError), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
    return ""
