"""Whether a file can be the harness's app, told before any of it goes to a phone. Nothing in it is unpacked but its
manifest, of which a MiB is read at most: what it claims to hold takes no memory here.

Whether a signature holds is for the phone to say. Here it is read that there is one, and whose: the SHA-256 of the
signer's certificate, as `apksigner verify --print-certs` prints it.
"""

from __future__ import annotations

import hashlib
import stat
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from harness.core.errors import UsageError
from harness.devices.android.apk_manifest import Stated, stated

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
# The block of signatures before the list of entries (APK Signature Scheme v2 and v3), and what it calls each scheme.
_BLOCK_MAGIC = b"APK Sig Block 42"
_MOST_BLOCK = 4 << 20
_SCHEMES = (0x1B93AD61, 0xF05368C0, 0x7109871A)


@dataclass(frozen=True)
class ApkFile:
    """What an APK says of itself. `signer` is the SHA-256 of its signer's certificate, empty where only the oldest kind
    of signature (of a JAR) is there."""

    stated: Stated
    signer: str


def check_apk(path: Path, package: str, next_step: str) -> ApkFile:
    """Raises UsageError: it cannot be read, is no APK or not a whole one, is not of `package`, or is not signed."""

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
            list_at = _list_of(file.read(), size)
            if list_at is None:
                raise refused("is no whole APK: it is cut short, or its list of entries is out of bounds")
            with zipfile.ZipFile(file) as archive:
                with archive.open(_MANIFEST) as entry:
                    found = stated(entry.read(_MOST_MANIFEST))
                names = archive.namelist()
            signer = _signer(file, list_at)
    except OSError as error:
        raise refused(f"cannot be read ({error.strerror or error})") from None
    except KeyError:
        raise refused(f"is no APK: it has no {_MANIFEST}") from None
    except _BROKEN as error:
        raise refused(f"is no whole APK ({' '.join(str(error).split())[:120]})") from None
    if found.package != package:
        raise refused(f"is another app: its manifest does not name {package}")
    if signer is None and not any(_signs_a_jar(name) for name in names):
        raise refused("is not signed: no phone takes it")
    return ApkFile(found, signer or "")


def _list_of(tail: bytes, size: int) -> int | None:
    """Where the list of entries begins; None where it does not lie within the file."""
    at = tail.rfind(_END_MAGIC)
    if at < 0 or at + _END.size > len(tail):
        return None
    _, _, _, _, count, length, offset, _ = _END.unpack_from(tail, at)
    return offset if 0 < count < 0xFFFF and length <= _MOST_LIST and offset + length <= size else None


def _signs_a_jar(name: str) -> bool:
    folder, _, file = name.partition("/")
    return folder == "META-INF" and file.endswith((".RSA", ".DSA", ".EC"))


def _signer(file: IO[bytes], list_at: int) -> str | None:
    """SHA-256 of the first signer's certificate, by the newest scheme that the file has; None without a block of
    signatures. Raises ValueError or struct.error: the block contradicts itself."""
    if list_at < 32:
        return None
    file.seek(list_at - 24)
    (size,), magic = struct.unpack("<Q", file.read(8)), file.read(16)
    if magic != _BLOCK_MAGIC:
        return None
    if not 24 <= size <= min(_MOST_BLOCK, list_at - 8):
        raise ValueError("its block of signatures is out of bounds")
    file.seek(list_at - size)
    pairs, at = file.read(size - 24), 0
    schemes: dict[int, bytes] = {}
    while at < len(pairs):
        length, scheme = struct.unpack_from("<QI", pairs, at)
        if not 4 <= length <= len(pairs) - at - 8:
            raise ValueError("its block of signatures contradicts itself")
        schemes[scheme] = pairs[at + 12 : at + 8 + length]
        at += 8 + length
    for scheme in _SCHEMES:
        if scheme in schemes:
            signed = _first(_first(_first(schemes[scheme])))  # the signers, the first of them, what it signed
            _, certificates = _split(signed)  # behind the digests
            return hashlib.sha256(_first(_first(certificates))).hexdigest()
    return None


def _split(raw: bytes) -> tuple[bytes, bytes]:
    """A part with its length before it, and what is behind it."""
    (length,) = struct.unpack_from("<I", raw)
    if length > len(raw) - 4:
        raise ValueError("its block of signatures contradicts itself")
    return raw[4 : 4 + length], raw[4 + length :]


def _first(raw: bytes) -> bytes:
    return _split(raw)[0]
