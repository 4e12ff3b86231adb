"""Files that are given for the app and are not it: one sentence each, before any of them goes to a phone."""

from __future__ import annotations

import hashlib
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
from harness.devices.android.apk_file import _list_of, check_apk
from harness.devices.android.apk_manifest import Stated, stated
from harness.devices.android.gradle import HOW
from tests.binary_xml import chunk, document, manifest


def archive(
    path: Path, xml: bytes | None = manifest(PACKAGE), signature: bytes | None = b"of somebody", **entries: bytes
) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        if xml is not None:
            made.writestr("AndroidManifest.xml", xml)
        if signature:
            made.writestr("META-INF/CERT.RSA", signature)
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
    path = archive(tmp_path / "app.apk", manifest("com.example.game", PACKAGE))
    with pytest.raises(UsageError, match=f"is another app: its manifest does not name {PACKAGE}"):
        check_apk(path, PACKAGE, HOW)


def test_an_archive_without_a_manifest_is_no_apk(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is no APK: it has no AndroidManifest\.xml"):
        check_apk(archive(tmp_path / "app.apk", None, readme=b""), PACKAGE, HOW)


def test_what_an_entry_claims_to_hold_takes_no_memory(tmp_path: Path) -> None:
    """64 MiB of zeros behind the manifest; the entry says 4 GiB."""
    path = archive(tmp_path / "app.apk", manifest(PACKAGE) + bytes(64 << 20))
    edited(path, b"PK\x01\x02", 24, 0xFFFFFFFE)
    tracemalloc.start()
    try:
        check_apk(path, PACKAGE, HOW)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_a_long_string_that_many_attributes_name_takes_no_memory() -> None:
    named: dict[str, str | int | bool] = {f"a{number}": "x" * 100_000 for number in range(2000)}
    tracemalloc.start()
    try:
        assert stated(document([("manifest", {"package": PACKAGE, **named})])).package == PACKAGE
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_a_manifest_whose_elements_share_a_long_name_is_refused_before_it_is_read_to_its_end() -> None:
    elements: list[tuple[str, dict[str, str | int | bool]]] = [("x" * 100_000, {})] * 50
    with pytest.raises(ValueError, match="names its strings too often"):
        stated(document([*elements, ("manifest", {"package": PACKAGE})]))


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "app.apk")
    began = time.monotonic()
    with pytest.raises(UsageError, match=r"app\.apk is no file\."):
        check_apk(tmp_path / "app.apk", PACKAGE, HOW)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("utf_8", [False, True], ids=["utf-16", "utf-8"])
@pytest.mark.parametrize("debuggable", [False, True])
def test_the_app_is_taken_and_says_what_it_is(tmp_path: Path, utf_8: bool, debuggable: bool) -> None:
    version = (
        "1.2" + "é" * 40_000 if debuggable and not utf_8 else "1.2é" + "x" * 300
    )  # long ones have two units of length
    xml = manifest(PACKAGE, version, 7, debuggable=debuggable, shell=not debuggable, utf_8=utf_8)
    found = check_apk(archive(tmp_path / "app.apk", xml, **{"classes.dex": b"dex"}), PACKAGE, HOW)
    assert found.stated == Stated(PACKAGE, version, 7, debuggable, not debuggable)


def test_one_that_nobody_signed_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "app.apk", signature=None, **{"META-INF/MANIFEST.MF": b"", "assets/META-INF/A.RSA": b""})
    with pytest.raises(UsageError) as caught:
        check_apk(path, PACKAGE, HOW)
    assert caught.value.message == f"{path} is not signed: no phone takes it."


def test_of_a_manifest_no_more_than_what_it_states_is_believed() -> None:
    """Each byte of it changed, and each length it can be cut to, is a sentence or a reading, in no time."""
    whole = manifest(PACKAGE, "1.2", 7)
    read = 0
    for at in range(len(whole)):
        for value in (0, 1, 0x7F, 0xFF):
            try:
                read += bool(stated(whole[:at] + bytes([value]) + whole[at + 1 :]))
            except (ValueError, struct.error):
                continue
        with pytest.raises((ValueError, struct.error)):
            stated(whole[:at])
    assert read > len(whole)


@pytest.mark.parametrize(
    ("xml", "why"),
    [
        (PACKAGE.encode("utf-16-le"), "its manifest is no binary XML"),
        (b"<manifest package='dev.litertharness'/>", "its manifest is no binary XML"),
        (document([("manifest", {"versionCode": 1})]), "its manifest names no package"),
        (document([("manifest", {"package": 7})]), "its manifest names no package"),
        (chunk(0x0003, b"", chunk(0x0102, bytes(8), struct.pack("<ii6H", -1, 0, 20, 20, 0, 0, 0, 0))), "does not have"),
        (chunk(0x0003, b"", struct.pack("<HHI", 0x0102, 16, 1 << 30)), "its manifest contradicts itself"),
        (chunk(0x0003, b"", struct.pack("<HHI", 0x0102, 0, 0)), "its manifest contradicts itself"),
    ],
)
def test_a_manifest_that_is_none_says_why(tmp_path: Path, xml: bytes, why: str) -> None:
    with pytest.raises(UsageError, match=rf"app\.apk is no whole APK \(.*{why}"):
        check_apk(archive(tmp_path / "app.apk", xml), PACKAGE, HOW)


def block(size: int, *pairs: tuple[int, bytes], claimed: int = 0) -> bytes:
    raw = b"".join(struct.pack("<QI", 4 + len(value), scheme) + value for scheme, value in pairs)
    size = size or len(raw) + 24
    return struct.pack("<Q", size) + raw + struct.pack("<Q", claimed or size) + b"APK Sig Block 42"


def with_block(path: Path, raw: bytes) -> Path:
    """The archive with these bytes before its list of entries."""
    whole = archive(path, signature=None).read_bytes()
    end = whole.rindex(b"PK\x05\x06")
    (at,) = struct.unpack_from("<I", whole, end + 16)
    tail = bytearray(whole[end:])
    struct.pack_into("<I", tail, 16, at + len(raw))
    path.write_bytes(whole[:at] + raw + whole[at:end] + tail)
    return path


def prefixed(*parts: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(part)) + part for part in parts)


def signature(certificate: bytes) -> bytes:
    return prefixed(prefixed(prefixed(prefixed(b"digests", prefixed(certificate, b"its issuer")), b"signatures")))


@pytest.mark.parametrize(
    ("pairs", "signer"),
    [
        (((0x7109871A, signature(b"mine")),), b"mine"),
        (((0x42726577, bytes(50)), (0x7109871A, signature(b"old")), (0xF05368C0, signature(b"new"))), b"new"),
    ],
)
def test_the_signer_is_read_by_the_newest_scheme(
    tmp_path: Path, pairs: tuple[tuple[int, bytes], ...], signer: bytes
) -> None:
    found = check_apk(with_block(tmp_path / "app.apk", block(0, *pairs)), PACKAGE, HOW)
    assert found.signer == hashlib.sha256(signer).hexdigest()


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (block(0), "is not signed"),
        (block(0, (0x42726577, bytes(50))), "is not signed"),
        (block(0, claimed=1 << 40), "its block of signatures is out of bounds"),
        (block(0, claimed=7), "its block of signatures is out of bounds"),
        (block(0, (0x7109871A, struct.pack("<I", 1 << 31))), "its block of signatures contradicts itself"),
        (block(0, (0x7109871A, b"")), "is no whole APK"),
    ],
)
def test_a_block_of_signatures_that_lies_is_one_sentence(tmp_path: Path, raw: bytes, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        check_apk(with_block(tmp_path / "app.apk", raw), PACKAGE, HOW)


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
    assert (_list_of(tail, size) is not None) is whole


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


@pytest.mark.parametrize(("text", "read"), [((1 << 19) - 500, True), (1 << 19, False)])
def test_of_a_manifest_the_first_mib_is_read(text: int, read: bool, tmp_path: Path) -> None:
    path = archive(tmp_path / "app.apk", manifest(PACKAGE, "1" * text))
    if read:
        assert len(check_apk(path, PACKAGE, HOW).stated.version) == text
    else:
        with pytest.raises(UsageError, match="its manifest is no binary XML"):
            check_apk(path, PACKAGE, HOW)
