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
from harness.devices.android.apk_file import _list_is_whole, check_apk
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


def end(count: int = 1, length: int = 46, offset: int = 40) -> bytes:
    """An end record: of so many entries, in a list of that length at that place."""
    return struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, count, count, length, offset, 0)


@pytest.mark.parametrize(
    ("tail", "size", "whole"),
    [
        (end(), 86, True),
        (end(), 85, False),  # the list would go on beyond the file
        (end(count=0), 86, False),
        (end(count=0xFFFE), 86, True),
        (end(count=0xFFFF), 86, False),
        (end(length=4 << 20), 1 << 30, True),
        (end(length=(4 << 20) + 1), 1 << 30, False),
        (end(length=0, offset=0), 22, True),
        (b"before" + end() + b"a comment", 200, True),
        (end()[:-1], 86, False),
        (end() + end(count=0), 200, False),  # the last one counts
        (b"nothing", 7, False),
        (b"", 0, False),
    ],
)
def test_a_list_of_entries_lies_within_its_file(tail: bytes, size: int, whole: bool) -> None:
    assert _list_is_whole(tail, size) is whole


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is no APK."),
        (b"P", "is no APK."),
        (b"PX", "is no APK."),
        (b"PK", "is no whole APK: it is cut short, or its list of entries is out of bounds."),
    ],
)
def test_what_is_no_archive_is_told_from_one_cut_short(content: bytes, why: str, tmp_path: Path) -> None:
    path = tmp_path / "app.apk"
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        check_apk(path, PACKAGE, HOW)
    assert (caught.value.message, caught.value.next_step) == (f"{path} {why}", HOW)


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        check_apk(tmp_path / "none.apk", PACKAGE, HOW)
    assert caught.value.message == f"{tmp_path}/none.apk cannot be read (No such file or directory)."


@pytest.mark.parametrize("comment", [0, 0xFFFF])
def test_an_archive_may_have_a_comment_as_long_as_any(comment: int, tmp_path: Path) -> None:
    path = archive(tmp_path / "app.apk", **{"classes.dex": os.urandom(1 << 17)})
    with zipfile.ZipFile(path, "a") as made:
        made.comment = b"c" * comment
    check_apk(path, PACKAGE, HOW)


@pytest.mark.parametrize(("before", "named"), [((1 << 20) - len(PACKAGE), True), ((1 << 20) - len(PACKAGE) + 1, False)])
def test_of_a_manifest_the_first_mib_is_read(before: int, named: bool, tmp_path: Path) -> None:
    path = archive(tmp_path / "app.apk", bytes(before) + PACKAGE.encode())
    if named:
        check_apk(path, PACKAGE, HOW)
    else:
        with pytest.raises(UsageError, match="is another app"):
            check_apk(path, PACKAGE, HOW)
