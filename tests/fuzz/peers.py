"""The other side of the wire, played by somebody who means no good: an honest worker whose answers are spoiled."""

from __future__ import annotations

import json
import random
import socket
import struct
import threading
import time
import zlib
from contextlib import suppress
from typing import Any

import numpy as np

from harness.devices.link import MAGIC, PROTOCOL, Link, LinkError, Message

ODD_TEXT = (
    "\x1b[2J\x1b]0;owned\x07", "\x1b]8;;http://x\x07y\x1b]8;;\x07", "a\u202eb\u2066c", "x\x9b31my", "a\ud800b",
    "[red]x[/oops]", "<script>alert(1)</script>", "\"><img src=x onerror=alert(1)>", "N" * 200_000, "a\nb\r\nc",
    "a\x00b", "nan", "9" * 400, "\u200b\u2028", "",
)  # fmt: skip
ODD_NUMBERS = (-1, 0, 2**31, 2**63, 2**64, 10**400, -(10**400), float("nan"), float("inf"), 1e308, 0.5)
ODD: tuple[Any, ...] = (*ODD_TEXT, *ODD_NUMBERS, None, True, [], {}, [[1, 2]], {"a": [0]}, ["\x1b[31m"] * 3)
LOGS = ("", *ODD_TEXT, "ERROR: " + "\x1b[5m\u202e" * 50, "FATAL: Check failed: \x1b]0;x\x07\n", "\n" * 10_000)
# What is done to one answer. The first ones keep its frame whole.
KINDS = (
    "field", "field", "field", "fields", "announcement", "announcement", "id", "type", "failed", "failed", "many",
    "magic", "length", "cut", "hang", "drip", "twice", "garbage", "endless", "endless outputs", "deep", "no text",
    "flip", "close",
)  # fmt: skip
FACTS: dict[str, Any] = {"runtime": "9.9.9", "system": "scripted", "cpu": "", "boot_id": "b"}


class HostilePeer:
    """A launcher whose process is a thread: it answers as a worker with zeros for outputs would, and spoils the answers
    from the `at`th on, as the seed says. Everything that it was told and did is forgotten at each start."""

    def __init__(self, seed: int, outputs: dict[str, np.ndarray[Any, Any]]) -> None:
        self.draw = random.Random(seed)
        self.kind = self.draw.choice(KINDS)
        self.at = self.draw.choice((0, 1, 2, 2, 3, 3))
        self.always = self.draw.random() < 0.5
        self.words = self.draw.choice(LOGS)
        self.died = self.draw.choice((None, None, ("the app ended\x1b[2J", "SIG\u202eX")))
        self._outputs = outputs
        self._stop = threading.Event()
        self._answers = 0

    def start(self) -> Link:
        """A connection to a new thread."""
        here, there = socket.socketpair()
        self._stop = threading.Event()
        threading.Thread(target=self._serve, args=(there, self._stop), daemon=True).start()
        return Link(here)

    def death(self) -> tuple[str, str] | None:
        """How it says that it ended."""
        return self.died

    def lost(self, reason: str) -> str:
        """Nothing to add."""
        return reason

    def kill(self) -> None:
        """End the thread at its next step."""
        self._stop.set()

    def close(self) -> None:
        """The same."""
        self.kill()

    def log(self, mark: int) -> str:
        """What it logged."""
        return self.words[mark:][-(1 << 20) :]

    def log_mark(self) -> int:
        """The beginning."""
        return 0

    def _serve(self, there: socket.socket, stop: threading.Event) -> None:
        with suppress(LinkError, OSError), there:
            link = Link(there)
            while not stop.is_set():
                request = link.receive(time.monotonic() + 30)
                if request.type == "bye":
                    return
                for header, payloads in self._honest(request):
                    spoiled = self._answers == self.at or (self.always and self._answers > self.at)
                    self._answers += 1
                    there.setblocking(True)
                    there.settimeout(30)
                    if not spoiled:
                        there.sendall(frame(header, payloads))
                    elif not self._spoil(there, header, payloads, stop):
                        return
                    there.setblocking(False)

    def _honest(self, request: Message) -> list[tuple[dict[str, Any], list[Any]]]:
        same: dict[str, Any] = {"id": request.id}
        if request.type == "hello":
            return [({"type": "hello", **same, "protocol": PROTOCOL, "facts": dict(FACTS)}, [])]
        if request.type == "has":
            return [({"type": "has", **same, "present": self.draw.random() < 0.5}, [])]
        if request.type == "put":
            return [({"type": "put", **same}, [])]
        wanted = request.fields["outputs"]
        answers: list[tuple[dict[str, Any], list[Any]]] = [
            ({"type": "output", **same}, [(name, self._outputs[name])]) for name in wanted if name in self._outputs
        ]
        samples = [[1000, 2000, 3000]] * int(request.fields["iterations"])
        end = {"samples": samples, "compile_ns": 5, "compiled": True, "full": True, "thermal": "none"}
        return [*answers, ({"type": "completed", **same, **end}, [])]

    def _spoil(self, there: socket.socket, header: dict[str, Any], payloads: list[Any], stop: threading.Event) -> bool:
        """Send something else; whether the connection goes on."""
        header, draw = dict(header), self.draw
        match self.kind:
            case "field" | "fields":
                for _ in range(1 if self.kind == "field" else 5):
                    place = header
                    if isinstance(header.get("facts"), dict) and draw.random() < 0.8:
                        place = header["facts"] = dict(header["facts"])
                    place[draw.choice([*place, "payloads", "reason"])] = draw.choice(ODD)
            case "id":
                header["id"] = draw.choice((-1, 0, 10**400, True, "1", None, 1.5))
            case "type":
                header["type"] = draw.choice(("bye", "run", "completed", "output", "failed", "hello", *ODD))
            case "failed":
                header = {"type": "failed", "id": header["id"], "kind": draw.choice(ODD), "reason": draw.choice(ODD)}
                payloads = []
        raw = frame(header, payloads, self._announced if self.kind in ("announcement", "many") else None)
        match self.kind:
            case "magic":
                raw = b"HTTP" + raw[4:]
            case "length":
                raw = raw[:4] + struct.pack(">I", draw.choice((0, 1, 1 << 20, (1 << 20) + 1, 2**32 - 1))) + raw[8:]
            case "garbage":
                raw = draw.randbytes(draw.choice((1, 8, 4096))) + raw
            case "deep":
                raw = whole(b"[" * 500_000)
            case "no text":
                raw = whole(b'{"type": "\xff\xfe\xed\xa0\x80", "id": 1, "payloads": []}')
            case "flip":
                at = draw.randrange(len(raw))
                raw = raw[:at] + bytes([raw[at] ^ (1 << draw.randrange(8))]) + raw[at + 1 :]
            case "twice":
                raw *= draw.choice((2, 3))
            case "cut" | "close":
                there.sendall(raw[: draw.randrange(len(raw)) if self.kind == "cut" else 0])
                return False
            case "hang":
                there.sendall(raw[: draw.randrange(len(raw))])
                stop.wait(30)
                return False
            case "drip":
                for byte in raw:
                    if stop.wait(0.02):
                        return False
                    there.sendall(bytes([byte]))
                return True
            case "endless" | "endless outputs":
                raw = bytes(1 << 16) if self.kind == "endless" else raw
                while not stop.is_set():
                    there.sendall(raw)
                return False
        there.sendall(raw)
        return True

    def _announced(self, entries: list[dict[str, Any]]) -> list[Any]:
        draw = self.draw
        if self.kind == "many":
            one = {"name": "y", "dtype": "float32", "shape": [0], "bytes": 0, "crc32": 0}
            return [*entries, *[one] * draw.choice((1, 4096, 5000))]
        entries = entries or [{"name": "y", "dtype": "float32", "shape": [1], "bytes": 4, "crc32": 0}]
        key = draw.choice(("name", "dtype", "shape", "bytes", "crc32", "all"))
        if key == "all":
            return [draw.choice(ODD)]
        large: tuple[Any, ...] = ([2**31 - 1], [-4], [1 << 62, 0], [10**300] * 8, [1] * 9, [True], ["4"], [4.0])
        value = draw.choice(large) if key == "shape" and draw.random() < 0.7 else draw.choice(ODD)
        entries[0] = entries[0] | {key: value}
        if draw.random() < 0.3:  # an announcement that agrees with itself
            entries[0] |= {"shape": [(1 << 31) - 4], "dtype": "uint8", "bytes": (1 << 31) - 4}
        return list(entries)


def frame(header: dict[str, Any], payloads: list[Any], announced: Any = None) -> bytes:
    """A message as it goes over the wire; what JSON has no number for goes as Python writes it."""
    entries = [
        {"name": n, "dtype": a.dtype.name, "shape": list(a.shape), "bytes": a.nbytes, "crc32": zlib.crc32(a.tobytes())}
        for n, a in payloads
    ]
    header = {"payloads": announced(entries) if announced else entries} | header
    return whole(json.dumps(header).encode()) + b"".join(a.tobytes() for _, a in payloads)


def whole(header: bytes) -> bytes:
    """A header with its frame."""
    return MAGIC + struct.pack(">I", len(header)) + header
