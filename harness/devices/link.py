"""The wire: framed messages between the host and whatever runs a model.

A frame is

    magic    4 bytes   `LDH1`
    length   4 bytes   big-endian byte count of the header, at most 1 MiB
    header   JSON      an object with `type`, `id`, and `payloads`: a list of {name, dtype, shape, bytes, crc32}
    payloads           the announced bytes, in that order, little-endian, C order

The host speaks first; every answer repeats the `id` of its request.

    hello {protocol}                 -> hello {protocol, facts, abilities}, or failed and the connection closes on a
                                        mismatch
    has {sha256}                     -> has {present}
    put {sha256} + payload `model` or `input`
                                     -> put {}; the receiver recomputes the digest
    run {sha256, options, outputs, positions, warmup, iterations, final, narrow, inputs} + one payload for each input
        that `inputs` does not name  -> output {} + one payload, once for each wanted output, then
                                        completed {samples, compile_ns, compiled, full, thermal}
    any of them                      -> failed {kind, reason}; the connection stays usable
    bye {}                           -> the worker ends

Inputs come in the runtime's order and `positions` are places in it: LiteRT's Kotlin API gives no names. `options` are
accelerator, precision and threads, and where they are chosen backend, storage and priority of a phone's GPU. `facts`
are runtime, system, cpu and boot_id, from a phone also app, model, product, soc, fingerprint, sdk, memory_total and
memory_available (bytes), thermal, thermal_headroom (1.0: throttling), battery (percent), charging and screen_on;
`hello` may be asked again for new ones. `thermal` is a phone's status after the run. With `narrow`, which a phone is
asked and other devices are not, an output of float32 comes as float16 where each of its values is one, bit for bit.

`abilities` is a list of words, absent where there are none. With `inputs-by-digest` an input may be `put` beforehand,
and a run then names it: `inputs` has an entry for each, in order: null for the next payload, or what would announce the
input as one, with its `sha256` besides. If the receiver has it no more, or damaged, the run is `failed` of the kind
`missing`, before anything is compiled; each other failure is `rejected`.

Each side treats the other as untrusted: sizes are bounded before memory is taken, shapes must multiply to the bytes
announced, checksums must match, every read has a deadline.
"""

from __future__ import annotations

import json
import math
import select
import socket
import struct
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.core import safe_json
from harness.core.arrays import Array

PROTOCOL = 1
MAGIC = b"LDH1"
MAX_HEADER = 1 << 20
MAX_PAYLOADS = 4096
MAX_PAYLOAD_BYTES = (1 << 31) - 1
MAX_RANK = 8
_NUMBERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
DTYPES = {name: np.dtype(name) for name in ("float16", "float32", "float64", "bool", "complex64", *_NUMBERS)}

_HEAD = struct.Struct(">4sI")
PIECE = 1 << 16
"""Bytes. What is smaller goes in one piece with what it belongs to: adb acknowledges each piece before it takes the
next, so that a question costs as much as so many bytes."""
_CHUNK = 1 << 18


class LinkError(Exception):
    """The other side closed the connection or broke the wire's rules."""


class LinkTimeout(LinkError):
    """The deadline passed."""


class LinkExcess(LinkError):
    """More bytes of payload are announced than are expected."""


@dataclass
class Message:
    """A decoded frame: the header's own fields and the arrays by name."""

    type: str
    id: int
    fields: dict[str, Any] = field(default_factory=dict)
    payloads: dict[str, Array] = field(default_factory=dict)


class Link:
    """Frames over a connected stream socket.

    `counted` tells the bytes that went each way, which a test of "no model bytes the second time" reads.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        sock.setblocking(False)
        self.sent_bytes = 0
        self.received_bytes = 0

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()

    def ended(self) -> bool:
        """Whether the other side has gone. To be asked while nothing is on its way."""
        try:
            return self._sock.recv(1, socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    def send(
        self,
        kind: str,
        ident: int,
        /,
        deadline: float | None = None,
        payloads: Sequence[tuple[str, Array]] = (),
        **fields: Any,
    ) -> None:
        """Send one frame. `deadline` is on `time.monotonic()`'s clock, None waits for ever.

        Raises:
            LinkTimeout, LinkError: the deadline passed; the other side is gone.
        """
        if len(payloads) > MAX_PAYLOADS:
            raise LinkError(f"{len(payloads)} payloads are over the limit of {MAX_PAYLOADS}")
        # Not ascontiguousarray, which gives a scalar an axis.
        arrays = [(name, np.asarray(array, order="C")) for name, array in payloads]
        header = dict(fields, type=kind, id=ident)
        header["payloads"] = [announce(name, array) for name, array in arrays]
        raw = json.dumps(header, allow_nan=False).encode()
        if len(raw) > MAX_HEADER:
            raise LinkError(f"a header of {len(raw)} bytes is over the limit of {MAX_HEADER}")
        piece = bytearray(_HEAD.pack(MAGIC, len(raw)) + raw)
        for _, array in arrays:
            if len(piece) + array.nbytes > PIECE:
                self._write(memoryview(piece), deadline)
                piece = bytearray()
            if array.nbytes > PIECE:
                self._write(_bytes_of(array), deadline)
            else:
                piece += _bytes_of(array)
        self._write(memoryview(piece), deadline)

    def receive(self, deadline: float | None = None, limit: int = 1 << 32) -> Message:
        """Read one frame whose payloads have at most `limit` bytes in all.

        Raises:
            LinkTimeout, LinkError: the deadline passed; the stream ended or broke a rule.
        """
        magic, length = _HEAD.unpack(self._read(_HEAD.size, deadline)[0].tobytes())
        if magic != MAGIC:
            raise LinkError(f"a frame starts with {magic!r}, not {MAGIC!r}")
        if length > MAX_HEADER:
            raise LinkError(f"a header of {length} bytes is announced, over the limit of {MAX_HEADER}")
        header = _parse(self._read(length, deadline)[0].tobytes())
        announced = [_check_announcement(entry) for entry in header.pop("payloads")]
        total = sum(size for _, _, _, size, _ in announced)
        if total > limit:
            raise LinkExcess(f"{total} bytes of payload are announced where at most {limit} are expected")
        message = Message(header.pop("type"), header.pop("id"), header)
        for name, dtype, shape, size, crc in announced:
            raw, found = self._read(size, deadline)
            if found != crc:
                raise LinkError(f"the checksum of payload '{name}' does not match: it was corrupted on the way")
            message.payloads[name] = raw.view(dtype).reshape(shape)
        return message

    def _wait(self, *, write: bool, deadline: float | None) -> None:
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            raise LinkTimeout("the deadline passed")
        if not ready(self._sock, left, write=write):
            raise LinkTimeout("the deadline passed")

    def _write(self, data: memoryview, deadline: float | None) -> None:
        while data:
            try:
                done = self._sock.send(data[: 1 << 20])
            except BlockingIOError:
                self._wait(write=True, deadline=deadline)
                continue
            except OSError as error:
                raise LinkError(f"the connection broke while sending ({error.strerror})") from None
            data = data[done:]
            self.sent_bytes += done

    def _read(self, size: int, deadline: float | None) -> tuple[Array, int]:
        # Bytes and their checksum, summed while more are on their way. Pages of the array that nothing was written to
        # take no memory, so that an announcement alone does not either.
        try:
            whole, crc, got = np.empty(size, np.uint8), 0, 0
        except MemoryError:
            raise LinkError(f"{size} bytes are announced, more than this machine has room for") from None
        view = whole.data
        while got < size:
            try:
                count = self._sock.recv_into(view[got : got + _CHUNK])
            except BlockingIOError:
                self._wait(write=False, deadline=deadline)
                continue
            except OSError as error:
                raise LinkError(f"the connection broke while receiving ({error.strerror})") from None
            if not count:
                raise LinkError("the other side closed the connection")
            crc = zlib.crc32(view[got : got + count], crc)
            got += count
            self.received_bytes += count
        return whole, crc


def ready(sock: socket.socket, seconds: float | None, *, write: bool = False) -> bool:
    """Whether a socket can be read from, or written to, within so many seconds; None waits until it can."""
    watched = select.poll()  # select() itself stops at descriptor 1023
    watched.register(sock, select.POLLOUT if write else select.POLLIN)
    return bool(watched.poll(None if seconds is None else math.ceil(1000 * seconds)))


def announce(name: str, array: Array) -> dict[str, Any]:
    """What a header says of a payload, an array in C order. Raises LinkError for a type that the wire lacks."""
    if DTYPES.get(array.dtype.name) != array.dtype:  # a type by name, or one of the other byte order
        raise LinkError(f"'{name}' has type {array.dtype}, which the wire does not carry")
    return {
        "name": name,
        "dtype": array.dtype.name,
        "shape": list(array.shape),
        "bytes": array.nbytes,
        "crc32": zlib.crc32(_bytes_of(array)),
    }


def _bytes_of(array: Array) -> memoryview:
    return memoryview(array.reshape(-1).view(np.uint8).data) if array.size else memoryview(b"")


def _parse(raw: bytes) -> dict[str, Any]:
    try:
        header = safe_json.loads(raw)
    except ValueError:
        raise LinkError("a header is not JSON") from None
    if not isinstance(header, dict):
        raise LinkError("a header is not a JSON object")
    kind, ident, payloads = header.get("type"), header.get("id"), header.get("payloads")
    if not isinstance(kind, str) or not isinstance(ident, int) or not isinstance(payloads, list):
        raise LinkError("a header lacks type, id or payloads")
    if len(payloads) > MAX_PAYLOADS:
        raise LinkError(f"{len(payloads)} payloads are announced, over the limit of {MAX_PAYLOADS}")
    return header


def _check_announcement(entry: Any) -> tuple[str, np.dtype[Any], tuple[int, ...], int, int]:
    if not isinstance(entry, dict):
        raise LinkError("a payload's announcement is not an object")
    name, dtype, shape, size, crc = (entry.get(key) for key in ("name", "dtype", "shape", "bytes", "crc32"))
    if not isinstance(name, str) or not isinstance(dtype, str) or dtype not in DTYPES:
        raise LinkError(f"a payload is announced as {name!r} of type {dtype!r}")
    if not isinstance(shape, list) or len(shape) > MAX_RANK or not _is_shape(shape):
        raise LinkError(f"payload '{name}' is announced with shape {str(shape)[:80]}")
    if not isinstance(size, int) or not isinstance(crc, int) or not 0 <= size <= MAX_PAYLOAD_BYTES:
        raise LinkError(f"payload '{name}' is announced with {size!r} bytes, checksum {crc!r}")
    if math.prod(shape) * DTYPES[dtype].itemsize != size:
        raise LinkError(f"payload '{name}' is announced with {size} bytes for shape {shape} of {dtype}")
    return name, DTYPES[dtype], tuple(shape), size, crc


def _is_shape(sizes: list[Any]) -> bool:
    """Sizes that an array can have: numpy counts the others of one without elements too."""
    if not all(isinstance(d, int) and not isinstance(d, bool) and d >= 0 for d in sizes):
        return False
    return bool(math.prod(d for d in sizes if d) < 1 << 60)


class KeptPayloads:
    """The receiver's side of `inputs-by-digest`, in memory: at most `most` bytes, of which the oldest go first."""

    def __init__(self, most: int = 1 << 26) -> None:
        self._most = most
        self._kept: dict[object, Array] = {}

    def __contains__(self, sha256: object) -> bool:
        return sha256 in self._kept

    def put(self, sha256: str, data: bytes) -> None:
        """Keep bytes that were found to have this digest. Raises ValueError where there is no room for them."""
        if len(data) > self._most:
            raise ValueError(f"an input of {len(data)} bytes is not kept, only up to {self._most}")
        self._kept[sha256] = np.frombuffer(data, np.uint8)
        while sum(kept.nbytes for kept in self._kept.values()) > self._most:
            del self._kept[next(iter(self._kept))]

    def fill(self, run: Message) -> bool:
        """Put the inputs that a run names among those that it brings, in order; False where one is not here.

        Raises:
            LinkError: they are not told as the wire has it.
        """
        entries = run.fields.get("inputs")
        if entries is None:
            return True
        brought = iter(list(run.payloads.items()))
        if not isinstance(entries, list) or sum(entry is None for entry in entries) != len(run.payloads):
            raise LinkError("a run tells of other inputs than it brings")
        run.payloads = {}
        for entry in entries:
            if entry is None:
                name, values = next(brought)
            else:
                name, dtype, shape, size, _ = _check_announcement(entry)
                kept = self._kept.get(str(entry.get("sha256")))
                if kept is None or kept.nbytes != size:
                    return False
                values = kept.view(dtype).reshape(shape)
            run.payloads[name] = values
        return True


@dataclass(frozen=True)
class RunEnd:
    """What ends a run; of each sample the nanoseconds of writing, running and reading."""

    samples: tuple[tuple[int, ...], ...]
    compile_ns: int
    compiled: bool
    full: bool
    thermal: str

    @classmethod
    def of(cls, message: Message, iterations: int) -> RunEnd:
        """Raises LinkError where something lacks, or the samples are not as many as the iterations."""
        fields = message.fields
        try:
            samples = tuple(tuple(map(_nanoseconds, row)) for row in fields["samples"])
            compile_ns, thermal = _nanoseconds(fields["compile_ns"]), str(fields.get("thermal", ""))
            if any(len(row) != 3 for row in samples):
                raise ValueError
            found = cls(samples, compile_ns, bool(fields["compiled"]), bool(fields["full"]), thermal)
        except (KeyError, TypeError, ValueError, OverflowError):
            raise LinkError("the run's end came without samples, compile_ns, compiled and full") from None
        if len(samples) != iterations:
            raise LinkError(f"{len(samples)} samples came for {iterations} iterations")
        return found


def _nanoseconds(value: Any) -> int:
    """Raises LinkError for what no clock can have counted, TypeError, ValueError or OverflowError for no number."""
    counted = int(value)
    if not 0 <= counted < 1 << 63:
        raise LinkError(f"a time of {str(counted)[:24]} ns came")
    return counted
