"""The APK that a release comes with: where it is, which one it must be, and how it gets here.

`released.json` beside this file is written when a release is made (`scripts/pin_apk.py`), so that a wheel knows its own
APK by its digest. A clone has none: it builds the app, or is given one.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from harness.core import safe_json
from harness.core.errors import DeviceError
from harness.core.private import as_the_user
from harness.core.progress import Say
from harness.devices.cache import cache_folder

PINNED = Path(__file__).with_name("released.json")
# LiteRT's libraries for two kinds of processor are most of an APK's 30 MB.
MOST_BYTES = 512 << 20
QUIET_SECONDS = 60.0
_PIECE = 1 << 20


@dataclass(frozen=True)
class ReleasedApk:
    """What a release says of its APK."""

    version: str
    address: str
    sha256: str
    bytes: int


def pinned(file: Path = PINNED) -> ReleasedApk | None:
    """The APK of this release; None in a clone. Raises DeviceError: the file that says so is damaged."""
    try:
        fields = safe_json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        fields = None
    found = _checked(fields) if isinstance(fields, dict) else None
    if found is None:
        raise DeviceError(f"{file} does not say which APK belongs to this release.", "Install the harness again.")
    return found


def released_apk(apk: ReleasedApk, progress: Say | None = None, folder: Path | None = None) -> Path:
    """The APK in the cache, fetched where it is not there yet; what has another digest never gets there.

    Raises:
        DeviceError: it cannot be had, or what came is another file.
    """
    kept = (folder or cache_folder() / "apk") / f"{apk.sha256}.apk"
    if kept.is_file() and _digest(kept) == apk.sha256:
        return kept
    step = f"Fetch {apk.address} yourself and give it with --apk FILE."
    if progress:
        progress(f"fetching the app {apk.version} ({apk.bytes / 1e6:.0f} MB, once)")
    partial = kept.with_name(f"{kept.name}.{os.getpid()}.part")
    try:
        with as_the_user():  # a cache, no result
            kept.parent.mkdir(parents=True, exist_ok=True)
            try:
                digest = _fetch(apk, partial)
                if digest != apk.sha256:
                    raise DeviceError(
                        f"{apk.address} is not the app of this release: its SHA-256 is {digest[:16]}…, not "
                        f"{apk.sha256[:16]}….",
                        "Take a release of the harness whose APK is whole, or build the app as docs/phone.md says.",
                    )
                partial.replace(kept)
            finally:
                with suppress(OSError):
                    partial.unlink()
    except urllib.error.HTTPError as error:
        error.close()
        raise DeviceError(f"The app is not at {apk.address} (HTTP {error.code}).", step) from None
    except urllib.error.URLError as error:
        raise DeviceError(f"The app cannot be fetched from {apk.address} ({error.reason}).", step) from None
    except (OSError, http.client.HTTPException) as error:  # of the network or of the disk
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DeviceError(f"The app cannot be fetched to {kept.parent} ({why}).", step) from None
    return kept


def _fetch(apk: ReleasedApk, into: Path) -> str:
    """SHA-256 of what came, of at most one byte more than the release states."""
    digest, left = hashlib.sha256(), apk.bytes + 1
    request = urllib.request.Request(apk.address)
    with urllib.request.urlopen(request, timeout=QUIET_SECONDS) as answer, into.open("wb") as file:
        while left and (piece := answer.read(min(_PIECE, left))):
            file.write(piece)
            digest.update(piece)
            left -= len(piece)
    return digest.hexdigest()


def _checked(fields: Mapping[str, Any]) -> ReleasedApk | None:
    version, address, sha256, size = (fields.get(key) for key in ("version", "address", "sha256", "bytes"))
    if not (isinstance(version, str) and isinstance(address, str) and isinstance(sha256, str)):
        return None
    try:
        secure = urlsplit(address).scheme == "https"
    except ValueError:
        secure = False
    if not isinstance(size, int) or not 0 < size <= MOST_BYTES or not secure:
        return None
    whole = len(sha256) == 64 and set(sha256) <= set("0123456789abcdef")
    return ReleasedApk(version, address, sha256, size) if whole else None


def _digest(path: Path) -> str:
    with suppress(OSError), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
    return ""
