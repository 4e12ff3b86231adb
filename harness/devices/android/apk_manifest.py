"""What an APK's manifest states, read as the phone reads it: Android's binary XML (`ResourceTypes.h` of AOSP).

A file of it is a chunk with chunks inside, each with its type, the size of its head and its whole size: a pool of
strings, a list that gives attributes' names as Android's own numbers, and one chunk for the start of each element.
Every size and every place is held against what was read before it is followed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

_CHUNK = struct.Struct("<HHI")
_FILE, _POOL, _NUMBERS, _START = 0x0003, 0x0001, 0x0180, 0x0102
_POOL_HEAD = struct.Struct("<5I")  # strings, styles, flags, where strings and styles begin
_UTF_8 = 1 << 8
_ELEMENT = struct.Struct("<ii3H")  # behind 8 bytes of line and comment: namespace, name, attributes: start, size, count
_ATTRIBUTE = struct.Struct("<iiiHBBI")  # namespace, name, text; size, 0, type and data of the value
_TEXT, _FIRST_NUMBER, _LAST_NUMBER, _BOOL = 0x03, 0x10, 0x1F, 0x12
# android.R.attr: an attribute's number holds, whatever its name is called in the file.
_VERSION_CODE, _VERSION_NAME, _DEBUGGABLE, _SHELL = 0x0101021B, 0x0101021C, 0x0101000F, 0x01010594

_WANTED = frozenset({_VERSION_CODE, _VERSION_NAME, _DEBUGGABLE, _SHELL, "package"})
_MOST_TEXT = 4 << 20  # bytes of all the strings that are read: many attributes may name the same long one

Value = str | int | bool


@dataclass(frozen=True)
class Stated:
    """What a manifest says of its app: `debuggable` runs it slower than people have it, `profileable` lets adb's shell
    measure it."""

    package: str
    version: str
    code: int
    debuggable: bool
    profileable: bool


def stated(manifest: bytes) -> Stated:
    """Read the manifest of an APK. Raises ValueError: it is no binary XML, contradicts itself, or has no package."""
    top: dict[int | str, Value] = {}
    debuggable = profileable = False
    for name, attributes in _elements(manifest):
        if name == "manifest":
            top = attributes
        elif name == "application":
            debuggable = attributes.get(_DEBUGGABLE) is True
        elif name == "profileable":
            profileable = attributes.get(_SHELL) is True
    package, version, code = top.get("package"), top.get(_VERSION_NAME, ""), top.get(_VERSION_CODE, 0)
    if not isinstance(package, str) or not isinstance(version, str) or not isinstance(code, int):
        raise ValueError("its manifest names no package")
    return Stated(package, version, code, debuggable, profileable)


def _elements(raw: bytes) -> Iterator[tuple[str, dict[int | str, Value]]]:
    kind, head, size = _CHUNK.unpack_from(raw)
    if kind != _FILE or not _CHUNK.size <= head <= size <= len(raw):
        raise ValueError("its manifest is no binary XML")
    at, pool = head, _Pool(b"")
    numbers: tuple[int, ...] = ()
    while at < size:
        kind, head, length = _CHUNK.unpack_from(raw, at)
        if not _CHUNK.size <= head <= length <= size - at:
            raise ValueError("its manifest contradicts itself")
        chunk = raw[at : at + length]
        if kind == _POOL:
            pool = _Pool(chunk)
        elif kind == _NUMBERS:
            numbers = struct.unpack_from(f"<{(length - head) // 4}I", chunk, head)
        elif kind == _START:
            yield _element(chunk[head:], pool, numbers)
        at += length


def _element(body: bytes, pool: _Pool, numbers: tuple[int, ...]) -> tuple[str, dict[int | str, Value]]:
    _, name, start, size, count = _ELEMENT.unpack_from(body)
    if size < _ATTRIBUTE.size or start + size * count > len(body):
        raise ValueError("its manifest contradicts itself")
    found: dict[int | str, Value] = {}
    for at in range(start, start + size * count, size):
        _, key, _, _, _, kind, data = _ATTRIBUTE.unpack_from(body, at)
        known = numbers[key] if 0 <= key < len(numbers) else pool.text(key)
        if known not in _WANTED:
            continue
        if kind == _TEXT:
            found[known] = pool.text(data)
        elif kind == _BOOL:
            found[known] = data != 0
        elif _FIRST_NUMBER <= kind <= _LAST_NUMBER:
            found[known] = data
    return pool.text(name), found


class _Pool:
    """The strings of a file, each read when it is asked for."""

    def __init__(self, chunk: bytes) -> None:
        self._chunk, self._count, self._utf_8, self._start, self._read = chunk, 0, False, 0, 0
        if chunk:
            self._count, _, flags, self._start, _ = _POOL_HEAD.unpack_from(chunk, _CHUNK.size)
            self._utf_8 = bool(flags & _UTF_8)

    def text(self, index: int) -> str:
        """Raises ValueError: there is no such string."""
        if not 0 <= index < self._count:
            raise ValueError("its manifest names a string that it does not have")
        (offset,) = struct.unpack_from("<I", self._chunk, _CHUNK.size + _POOL_HEAD.size + 4 * index)
        at = self._start + offset
        if self._utf_8:
            _, at = self._length(at, "B")  # in characters, then in bytes
            length, at = self._length(at, "B")
        else:
            length, at = self._length(at, "H")
            length *= 2
        self._read += length
        if self._read > _MOST_TEXT:
            raise ValueError("its manifest names its strings too often")
        if at + length > len(self._chunk):
            raise ValueError("its manifest contradicts itself")
        return self._chunk[at : at + length].decode("utf-8" if self._utf_8 else "utf-16-le", "replace")

    def _length(self, at: int, unit: str) -> tuple[int, int]:
        """A length of one unit, or of two where the first has its highest bit set; and what is behind it."""
        step = struct.calcsize(f"<{unit}")
        (first,) = struct.unpack_from(f"<{unit}", self._chunk, at)
        high = 1 << (8 * step - 1)
        if not first & high:
            return int(first), at + step
        (second,) = struct.unpack_from(f"<{unit}", self._chunk, at + step)
        return (int(first) & (high - 1)) << (8 * step) | int(second), at + 2 * step
