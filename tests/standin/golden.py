"""Frames that both sides write and read alike, kept under golden/; run by itself it writes the host's part anew.

`frames.json` says what is in each, values as hexadecimal bytes; `host/` is how the host writes them, `device/` how the
app does (its own tests write those: `-Dgolden.write=true`); `broken/` are frames that either side must refuse, with
what each says in `broken.json`.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.core.arrays import Array
from harness.devices.kept import BY_DIGEST
from harness.devices.link import DTYPES, MAGIC, Link, Message, announce

FOLDER = Path(__file__).parent / "golden"


@dataclass(frozen=True)
class Frame:
    """What one frame carries."""

    name: str
    type: str
    id: int
    fields: dict[str, Any]
    payloads: dict[str, Array]


def frames() -> list[Frame]:
    """All of them, as `frames.json` has them."""
    return [
        Frame(
            entry["name"],
            entry["type"],
            entry["id"],
            entry["fields"],
            {
                p["name"]: np.frombuffer(bytes.fromhex(p["hex"]), DTYPES[p["dtype"]]).reshape(p["shape"])
                for p in entry["payloads"]
            },
        )
        for entry in json.loads((FOLDER / "frames.json").read_text("utf-8"))
    ]


def broken() -> dict[str, dict[str, str]]:
    """File name -> what the host and the device say of it."""
    found: dict[str, dict[str, str]] = json.loads((FOLDER / "broken.json").read_text("utf-8"))
    return found


def written(frame: Frame) -> bytes:
    """The bytes that the host writes."""
    here, there = socket.socketpair()
    link = Link(here)

    def send() -> None:
        link.send(frame.type, frame.id, time.monotonic() + 10, list(frame.payloads.items()), **frame.fields)
        link.close()

    sender = threading.Thread(target=send)
    sender.start()
    with there, there.makefile("rb") as stream:
        raw = stream.read()
    sender.join()
    return raw


def read(raw: bytes) -> Message:
    """What the host reads."""
    here, there = socket.socketpair()

    def send() -> None:
        with here:
            here.sendall(raw)

    sender = threading.Thread(target=send)
    sender.start()
    link = Link(there)
    try:
        return link.receive(time.monotonic() + 10)
    finally:
        link.close()
        sender.join()


def _scenes() -> list[Frame]:
    values: dict[str, Array] = {
        "floats": np.asarray([[1.5, -0.0, np.nan], [np.inf, -np.inf, 1e-45]], np.float32),
        "ints": np.asarray([2**31 - 1, -(2**31)], np.int32),
        "longs": np.asarray([2**63 - 1, -(2**63)], np.int64),
        "bytes": np.asarray([127, -128], np.int8),
        "flags": np.asarray([[True], [False]]),
        "scalar": np.asarray(2.5, np.float32),
        "nothing": np.zeros((0, 3), np.float32),
    }
    rest = [name for name in DTYPES if name not in {"float32", "int32", "int64", "int8", "bool"}]
    others: dict[str, Array] = {name: np.arange(3).astype(name) for name in rest}
    options = {"accelerator": "gpu", "precision": "fp16-fp32acc", "threads": 0, "backend": "opencl"}
    run = {"sha256": "0" * 64, "options": options, "outputs": ["y"], "positions": [0]}
    facts = {"runtime": "2.3.0", "system": "Androïd \U0001f4f1", "thermal_headroom": None, "charging": True}
    stored = announce("floats", values["floats"]) | {"sha256": "e" * 64}
    end = {"samples": [[1, 2, 3], [2**40, 0, 7]], "compile_ns": 2**40, "compiled": True, "full": False}
    return [
        Frame("hello", "hello", 1, {"protocol": 1}, {}),
        Frame("facts", "hello", 1, {"protocol": 1, "facts": facts}, {}),
        Frame("able", "hello", 1, {"protocol": 1, "facts": facts, "abilities": [BY_DIGEST]}, {}),
        Frame("put", "put", 2, {"sha256": "f" * 64}, {"model": np.arange(256, dtype=np.uint8)}),
        Frame("run", "run", 3, run | {"warmup": 0, "iterations": 1, "final": False}, values),
        Frame("kept", "run", 3, run | {"inputs": [None, stored]}, {"scalar": values["scalar"]}),
        Frame("others", "run", 4, {}, others),
        Frame("output", "output", 3, {}, values),
        Frame("completed", "completed", 3, end | {"thermal": "none"}, {}),
        Frame("failed", "failed", 2**40, {"kind": "rejected", "reason": 'said "no"\n\tand </so on>: ✗'}, {}),
    ]


def _broken() -> dict[str, tuple[bytes, str, str]]:
    """File name -> (bytes, words of the host, words of the device)."""
    data = b"abcd"
    entry = {"name": "model", "dtype": "uint8", "shape": [4], "bytes": 4, "crc32": zlib.crc32(data)}

    def announcing(**changes: Any) -> bytes:
        return _frame({"type": "put", "id": 1, "payloads": [entry | changes]}) + data

    size = "is announced with 1099511627776 bytes"
    return {
        "magic": (b"LDH2" + announcing()[4:], "a frame starts with", "a frame starts with"),
        "length": (MAGIC + struct.pack(">I", (1 << 20) + 1), "over the limit of 1048576", "over the limit of 1048576"),
        "cut_head": (announcing()[:6], "closed the connection", "closed the connection"),
        "cut_header": (announcing()[:40], "closed the connection", "closed the connection"),
        "cut_payload": (announcing()[:-1], "closed the connection", "closed the connection"),
        "corrupted": (announcing()[:-1] + b"e", "the checksum of payload 'model'", "the checksum of payload 'model'"),
        "no_json": (MAGIC + struct.pack(">I", 3) + b"{{{", "a header is not JSON", "a header is not a JSON object"),
        "a_list": (MAGIC + struct.pack(">I", 2) + b"[]", "not a JSON object", "not a JSON object"),
        "no_type": (_frame({"id": 1, "payloads": []}), "lacks type, id or payloads", "lacks type, id or payloads"),
        "text_id": (_frame({"type": "has", "id": "1", "payloads": []}), "lacks type", "lacks type"),
        "deep": (MAGIC + struct.pack(">I", 20_005) + b'{"a":' + b"[" * 20_000, "a header is", "a header is"),
        "many": (
            _frame({"type": "put", "id": 1, "payloads": [0] * 4097}),
            "4097 payloads are announced",
            "4097 payloads are announced",
        ),
        "a_terabyte": (announcing(bytes=1 << 40, shape=[1 << 40]), "1099511627776 bytes", size),
        "other_size": (announcing(bytes=8), "with 8 bytes for shape", "with 8 bytes for shape"),
        "overflow": (announcing(shape=[1 << 62, 1 << 62, 4]), "is announced with shape", "with 4 bytes for shape"),
        "negative": (announcing(shape=[-4]), "is announced with shape", "is announced with another shape"),
        "rank_9": (announcing(shape=[4, *[1] * 8]), "is announced with shape", "is announced with another shape"),
        "text_type": (announcing(dtype="str"), "is announced as", "of another type than known"),
        "text_crc": (announcing(crc32="7"), "is announced with", "is announced with"),
    }


def _frame(header: dict[str, Any]) -> bytes:
    text = json.dumps(header).encode()
    return MAGIC + struct.pack(">I", len(text)) + text


def _write() -> None:
    for name in ("host", "device", "broken"):
        (FOLDER / name).mkdir(parents=True, exist_ok=True)
    table = []
    for frame in _scenes():
        (FOLDER / "host" / f"{frame.name}.bin").write_bytes(written(frame))
        payloads = [
            {"name": name, "dtype": array.dtype.name, "shape": list(array.shape), "hex": array.tobytes().hex()}
            for name, array in frame.payloads.items()
        ]
        own = {"name": frame.name, "type": frame.type, "id": frame.id, "fields": frame.fields}
        table.append(own | {"payloads": payloads})
    said = {}
    for name, (raw, host, device) in _broken().items():
        (FOLDER / "broken" / f"{name}.bin").write_bytes(raw)
        said[name] = {"host": host, "device": device}
    for name, document in (("frames.json", table), ("broken.json", said)):
        (FOLDER / name).write_text(json.dumps(document, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    _write()
