"""Whether a file can be the harness's app, told before any of it goes to a phone. Nothing in it is unpacked but the
start of its manifest: what it claims to hold takes no memory here."""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from pathlib import Path

from harness.core.errors import UsageError

# An APK's list of entries and its end record (PKZIP's APPNOTE, 4.3.16), which a comment of 65,535 bytes may follow.
_END = struct.Struct("<4s4H2IH")
_END_MAGIC = b"PK\x05\x06"
_MOST_COMMENT = 0xFFFF
# The app's own has some hundred entries, in 20 KiB.
_MOST_LIST = 4 << 20
_MOST_MANIFEST = 1 << 20
# What zipfile raises for a file that contradicts itself, or wants what it does not have.
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    ValueError,
    OverflowError,
    NotImplementedError,
    RuntimeError,
)
_MANIFEST = "AndroidManifest.xml"


def check_apk(path: Path, package: str, next_step: str) -> None:
    """Raises UsageError: it cannot be read, is no APK or not a whole one, or is not of `package`."""

    def refused(why: str) -> UsageError:
        return UsageError(f"{path} {why}.", next_step)

    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for
            raise refused("is no file")
        with path.open("rb") as file:
            if file.read(2) != b"PK":
                raise refused("is no APK")
            size = file.seek(0, 2)
            file.seek(max(0, size - _END.size - _MOST_COMMENT))
            if not _list_is_whole(file.read(), size):
                raise refused("is no whole APK: it is cut short, or its list of entries is out of bounds")
            with zipfile.ZipFile(file) as archive, archive.open(_MANIFEST) as entry:
                manifest = entry.read(_MOST_MANIFEST)
    except OSError as error:
        raise refused(f"cannot be read ({error.strerror or error})") from None
    except KeyError:
        raise refused(f"is no APK: it has no {_MANIFEST}") from None
    except _BROKEN as error:
        raise refused(f"is no whole APK ({' '.join(str(error).split())[:120]})") from None
    # Binary XML keeps each name once, in UTF-8 or UTF-16: a manifest without it is of another package.
    if package.encode("utf-16-le") not in manifest and package.encode() not in manifest:
        raise refused(f"is another app: its manifest does not name {package}")


def _list_is_whole(tail: bytes, size: int) -> bool:
    at = tail.rfind(_END_MAGIC)
    if at < 0 or at + _END.size > len(tail):
        return False
    _, _, _, _, count, length, offset, _ = _END.unpack_from(tail, at)
    return bool(0 < count < 0xFFFF and length <= _MOST_LIST and offset + length <= size)
