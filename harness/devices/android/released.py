"""The APK that a release comes with: where it is, which one it must be, and how it gets here.

`released.json` beside this file is written when a release is made (`scripts/pin_apk.py`), so that a wheel knows its own
APK by its digest. A clone has none: it builds the app, or is given one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from harness.core import safe_json
from harness.core.errors import DeviceError
from harness.core.progress import Say
from harness.devices.cache import cache_folder
from harness.devices.fetched.download import Download, digest_of

PINNED = Path(__file__).with_name("released.json")
# LiteRT's libraries for two kinds of processor are most of an APK's 30 MB.
MOST_BYTES = 512 << 20


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
    if progress and digest_of(kept) != apk.sha256:
        progress(f"fetching the app {apk.version} ({apk.bytes / 1e6:.0f} MB, once)")
    download = Download(
        what="The app",
        expected="the app of this release",
        address=apk.address,
        sha256=apk.sha256,
        most_bytes=apk.bytes,
        otherwise=f"Fetch {apk.address} yourself and give it with --apk FILE.",
        mend="Take a release of the harness whose APK is whole, or build the app as docs/phone.md says.",
    )
    return download.into(kept)


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
