"""Files that are given for the app and are not it: one sentence each, before any of them goes to a phone."""

from __future__ import annotations

import os
import struct
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.core.errors import UsageError
from harness.devices.android.apk import PACKAGE
from harness.devices.android.apk_file import check_apk
from harness.devices.android.gradle import HOW


def archive(path: Path, manifest: bytes | None = PACKAGE.encode("utf-16-le"), **entries: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        if manifest is not None:
            made.writestr("AndroidManifest.xml", manifest)
        for name, content in entries.items():
            made.writestr(name, content)
    return path


def edited(path: Path, signature: bytes, at: int, value: int, form: str = "<I") -> Path:
    """With one field of the first (or only) record of that signature replaced."""
    raw = bytearray(path.read_bytes())
    struct.pack_into(form, raw, raw.index(signature) + at, value)
    path.write_bytes(raw)
    return path


def cut_short(path: Path) -> Path:
    archive(path, **{"classes.dex": os.urandom(5000)})
    path.write_bytes(path.read_bytes()[:3000])
    return path


def list_of_4_gib(path: Path) -> Path:
    return edited(archive(path), b"PK\x05\x06", 12, 0xFFFFFFFE)


def list_beyond_the_end(path: Path) -> Path:
    return edited(archive(path), b"PK\x05\x06", 16, 1 << 20)


def entries_without_number(path: Path) -> Path:
    return edited(archive(path), b"PK\x05\x06", 10, 0xFFFF, "<H")


def manifest_that_is_not_where_it_is_listed(path: Path) -> Path:
    return edited(archive(path), b"PK\x01\x02", 42, 7)


def unknown_compression(path: Path) -> Path:
    return edited(archive(path), b"PK\x01\x02", 10, 77, "<H")


def locked(path: Path) -> Path:
    return edited(archive(path), b"PK\x01\x02", 8, 1, "<H")


BROKEN: list[Callable[[Path], Path]] = [
    cut_short,
    list_of_4_gib,
    list_beyond_the_end,
    entries_without_number,
    manifest_that_is_not_where_it_is_listed,
    unknown_compression,
    locked,
]


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_archive_is_no_whole_apk(tmp_path: Path, broken: Callable[[Path], Path]) -> None:
    path = broken(tmp_path / "app.apk")
    with pytest.raises(UsageError) as caught:
        check_apk(path, PACKAGE, HOW)
    assert caught.value.message.startswith(f"{path} is no whole APK")
    assert "\n" not in str(caught.value)


def test_another_app_is_not_put_on_the_phone(tmp_path: Path) -> None:
    path = archive(tmp_path / "app.apk", "com.example.game".encode("utf-16-le"))
    with pytest.raises(UsageError, match=f"is another app: its manifest does not name {PACKAGE}"):
        check_apk(path, PACKAGE, HOW)


def test_an_archive_without_a_manifest_is_no_apk(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is no APK: it has no AndroidManifest\.xml"):
        check_apk(archive(tmp_path / "app.apk", None, readme=b""), PACKAGE, HOW)


def test_what_an_entry_claims_to_hold_takes_no_memory(tmp_path: Path) -> None:
    """64 MiB of zeros before and behind the name; the entry says 4 GiB."""
    path = archive(tmp_path / "app.apk", PACKAGE.encode() + bytes(64 << 20))
    edited(path, b"PK\x01\x02", 24, 0xFFFFFFFE)
    tracemalloc.start()
    try:
        check_apk(path, PACKAGE, HOW)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "app.apk")
    began = time.monotonic()
    with pytest.raises(UsageError, match=r"app\.apk is no file\."):
        check_apk(tmp_path / "app.apk", PACKAGE, HOW)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le"])
def test_the_app_is_taken(tmp_path: Path, encoding: str) -> None:
    path = archive(tmp_path / "app.apk", b"\x03\x00" + PACKAGE.encode(encoding) + b"\x00", **{"classes.dex": b"dex"})
    check_apk(path, PACKAGE, HOW)
