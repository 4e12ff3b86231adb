"""Android's binary XML, written by itself: a manifest for files that stand for APKs, and for those that lie."""

from __future__ import annotations

import struct

# android.R.attr
NUMBERS = {"versionCode": 0x0101021B, "versionName": 0x0101021C, "debuggable": 0x0101000F, "shell": 0x01010594}

Value = str | int | bool


def chunk(kind: int, head: bytes, body: bytes = b"") -> bytes:
    return struct.pack("<HHI", kind, 8 + len(head), 8 + len(head) + len(body)) + head + body


def pool(strings: list[str], utf_8: bool) -> bytes:
    data, offsets = b"", []
    for text in strings:
        offsets.append(len(data))
        raw = text.encode("utf-8" if utf_8 else "utf-16-le")
        data += length(len(text), utf_8) + (length(len(raw), utf_8) + raw + b"\0" if utf_8 else raw + b"\0\0")
    data += bytes(-len(data) % 4)
    head = struct.pack("<5I", len(strings), 0, 256 if utf_8 else 0, 28 + 4 * len(strings), 0)
    return chunk(0x0001, head, struct.pack(f"<{len(offsets)}I", *offsets) + data)


def length(value: int, utf_8: bool) -> bytes:
    unit, bits = ("B", 7) if utf_8 else ("H", 15)
    if value < 1 << bits:
        return struct.pack(f"<{unit}", value)
    return struct.pack(f"<2{unit}", 1 << bits | value >> (bits + 1), value & ((2 << bits) - 1))


def document(elements: list[tuple[str, dict[str, Value]]], utf_8: bool = False) -> bytes:
    """One element after another, each closed by nobody: what reads a manifest asks for the starts alone."""
    numbered = [name for name in NUMBERS if any(name in attributes for _, attributes in elements)]
    strings = list(numbered)
    for name, attributes in elements:
        for text in (name, *attributes, *(value for value in attributes.values() if isinstance(value, str))):
            if text not in strings:
                strings.append(text)
    body = pool(strings, utf_8) + chunk(
        0x0180, b"", struct.pack(f"<{len(numbered)}I", *(NUMBERS[name] for name in numbered))
    )
    for name, attributes in elements:
        rows = b""
        for key, value in attributes.items():
            kind, data = (
                (0x03, strings.index(value))
                if isinstance(value, str)
                else (0x12, 0xFFFFFFFF if value else 0)
                if isinstance(value, bool)
                else (0x10, value)
            )
            rows += struct.pack("<iiiHBBI", -1, strings.index(key), -1, 8, 0, kind, data)
        head = struct.pack("<Ii", 1, -1)
        start = struct.pack("<ii6H", -1, strings.index(name), 20, 20, len(attributes), 0, 0, 0)
        body += chunk(0x0102, head, start + rows)
    return chunk(0x0003, b"", body)


def manifest(
    package: str,
    version: str = "1",
    code: int = 1,
    *,
    debuggable: bool = False,
    shell: bool = True,
    utf_8: bool = False,
) -> bytes:
    """The manifest of an app, as far as the harness reads it."""
    return document(
        [
            ("manifest", {"versionCode": code, "versionName": version, "package": package}),
            ("application", {"debuggable": debuggable}),
            ("profileable", {"shell": shell}),
        ],
        utf_8,
    )
