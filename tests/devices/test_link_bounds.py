"""The wire at its bounds: what is just allowed passes, in as many pieces as it should, and waits are just as long."""

from __future__ import annotations

import json
import select
import socket
import struct
import time
import zlib
from typing import Any

import numpy as np
import pytest

from harness.core.arrays import Array
from harness.devices import link as module
from harness.devices.link import (
    MAX_HEADER,
    MAX_PAYLOAD_BYTES,
    MAX_PAYLOADS,
    Link,
    LinkError,
    LinkExcess,
    LinkTimeout,
)


class Sock:
    """A socket that takes and gives what it is told to; notes each piece. `full` times it would have blocked."""

    def __init__(self, gives: bytes = b"", full: int = 0, takes: int = 1 << 30, fails: OSError | None = None) -> None:
        self.gives, self.full, self.takes, self.fails = gives, full, takes, fails
        self.pieces: list[bytes] = []
        self.asked: list[int] = []

    def setblocking(self, flag: bool) -> None:
        assert flag is False

    def _blocks(self) -> None:
        if self.fails:
            raise self.fails
        if self.full:
            self.full -= 1
            raise BlockingIOError

    def send(self, data: memoryview) -> int:
        self._blocks()
        self.pieces.append(bytes(data[: self.takes]))
        return len(self.pieces[-1])

    def recv_into(self, view: memoryview) -> int:
        self._blocks()
        self.asked.append(len(view))
        count = min(len(view), len(self.gives), self.takes)
        view[:count] = self.gives[:count]
        self.gives = self.gives[count:]
        return count

    def recv(self, size: int, flags: int) -> bytes:
        assert (size, flags) == (1, socket.MSG_PEEK)
        self._blocks()
        return self.gives[:1]


def linked(sock: Sock) -> Link:
    return Link(sock)  # type: ignore[arg-type]


def frame(header: dict[str, Any], payloads: bytes = b"") -> bytes:
    raw = json.dumps(header).encode()
    return b"LDH1" + struct.pack(">I", len(raw)) + raw + payloads


def announced(array: Array, **changes: Any) -> dict[str, Any]:
    entry = {"name": "x", "dtype": array.dtype.name, "shape": list(array.shape), "bytes": array.nbytes}
    return {"type": "run", "id": 1, "payloads": [entry | {"crc32": zlib.crc32(array.tobytes())} | changes]}


@pytest.mark.parametrize(
    ("sizes", "pieces"),
    [
        ([], 1),
        ([10], 1),
        ([0, 0], 1),
        ([(1 << 16) - 1000], 1),
        ([1 << 16], 2),  # together with the header it is over 64 KiB
        ([(1 << 16) + 1], 2),
        ([1 << 17], 2),
        ([1 << 15, 1 << 15], 2),
        ([1 << 17, 10], 3),
        ([1 << 17, 1 << 17], 3),
        ([(1 << 20) + 1], 3),  # at most 1 MiB in a piece
        ([1 << 20], 2),
    ],
)
def test_what_is_small_goes_in_one_piece(sizes: list[int], pieces: int) -> None:
    sock = Sock()
    sender = linked(sock)
    arrays = [np.full(size, 7, np.uint8) for size in sizes]
    sender.send("run", 1, None, [(f"n{i}", array) for i, array in enumerate(arrays)])
    assert len(sock.pieces) == pieces
    assert all(len(piece) <= 1 << 20 for piece in sock.pieces)
    whole = b"".join(sock.pieces)
    assert sender.sent_bytes == len(whole)
    got = linked(Sock(whole)).receive()
    assert [values.tobytes() for values in got.payloads.values()] == [array.tobytes() for array in arrays]


@pytest.mark.parametrize(("header", "pieces"), [((1 << 16) - 1, 1), (1 << 16, 1), ((1 << 16) + 1, 2)])
def test_a_piece_has_at_most_64_kib_where_a_payload_would_join_it(header: int, pieces: int) -> None:
    sock = Sock()
    values = np.zeros(8, np.uint8)
    bare = len(frame(announced(values) | {"note": ""})) + values.nbytes
    linked(sock).send("run", 1, None, [("x", values)], note="n" * (header - bare))
    assert (len(sock.pieces), sum(map(len, sock.pieces))) == (pieces, header)


def test_a_header_of_just_1_mib_and_just_as_many_payloads_as_may_be_pass() -> None:
    sock = Sock()
    bare = len(json.dumps({"note": "", "type": "run", "id": 1, "payloads": []}))
    linked(sock).send("run", 1, note="n" * (MAX_HEADER - bare))
    whole = b"".join(sock.pieces)
    assert whole[:8] == b"LDH1" + struct.pack(">I", 1 << 20)
    assert len(linked(Sock(whole)).receive().fields["note"]) == MAX_HEADER - bare
    with pytest.raises(LinkError, match=r"^a header of 1048577 bytes is over the limit of 1048576$"):
        linked(Sock()).send("run", 1, note="n" * (MAX_HEADER - bare + 1))
    assert (MAX_PAYLOADS, MAX_PAYLOAD_BYTES) == (4096, 2147483647)


def test_what_is_no_number_is_in_no_header() -> None:
    with pytest.raises(ValueError, match="JSON"):
        linked(Sock()).send("run", 1, note=float("nan"))


def test_bytes_are_read_in_pieces_of_256_kib_and_summed() -> None:
    values = np.arange((1 << 18) + 5, dtype=np.uint32).astype(np.uint8)
    sock = Sock(frame(announced(values), values.tobytes()))
    receiver = linked(sock)
    assert np.array_equal(receiver.receive().payloads["x"], values)
    assert sock.asked[0] == 8
    assert sock.asked[2:] == [1 << 18, 5]
    assert receiver.received_bytes == len(frame(announced(values))) + values.nbytes


@pytest.mark.parametrize("takes", [1, 3])
def test_pieces_that_go_and_come_in_part_are_put_together(takes: int) -> None:
    values = np.arange(100, dtype=np.int16)
    sock = Sock(takes=takes)
    linked(sock).send("run", 1, None, [("x", values)])
    got = linked(Sock(b"".join(sock.pieces), takes=takes)).receive()
    assert got.payloads["x"].tolist() == list(range(100))


@pytest.mark.parametrize(("limit", "passes"), [(23, False), (24, True)])
def test_the_limit_is_of_all_payloads_together(limit: int, passes: bool) -> None:
    values = np.arange(3, dtype=np.float32)
    header = announced(values)
    header["payloads"].append(header["payloads"][0] | {"name": "y"})
    receiver = linked(Sock(frame(header, values.tobytes() * 2)))
    if passes:
        assert list(receiver.receive(limit=limit).payloads) == ["x", "y"]
    else:
        with pytest.raises(LinkExcess, match=r"^24 bytes of payload are announced where at most 23 are expected$"):
            receiver.receive(limit=limit)


def entry(**changes: Any) -> dict[str, Any]:
    return {"name": "x", "dtype": "uint8", "shape": [3], "bytes": 3, "crc32": 0} | changes


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [1] * 7 + [3]},
        {"shape": [0] * 8, "bytes": 0},
        {"shape": [MAX_PAYLOAD_BYTES], "bytes": MAX_PAYLOAD_BYTES},
        {"shape": [], "bytes": 1},
        {"shape": [0, (1 << 60) - 1], "bytes": 0},
        {"name": ""},
        {"crc32": -1},
    ],
)
def test_an_announcement_at_the_bounds_is_taken(changes: dict[str, Any]) -> None:
    told = entry(**changes)
    found = module._check_announcement(told)
    assert found == (told["name"], np.dtype(np.uint8), tuple(told["shape"]), told["bytes"], told["crc32"])


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"shape": [1] * 8 + [3]}, "payload 'x' is announced with shape [1, 1, 1, 1, 1, 1, 1, 1, 3]"),
        ({"shape": [0, 1 << 60], "bytes": 0}, "payload 'x' is announced with shape [0, 1152921504606846976]"),
        ({"shape": ["3"]}, "payload 'x' is announced with shape ['3']"),
        ({"shape": None}, "payload 'x' is announced with shape None"),
        ({"shape": [100] * 50}, f"payload 'x' is announced with shape {str([100] * 50)[:80]}"),
        ({"bytes": MAX_PAYLOAD_BYTES + 1}, "payload 'x' is announced with 2147483648 bytes, checksum 0"),
        ({"bytes": None}, "payload 'x' is announced with None bytes, checksum 0"),
        ({"crc32": "0"}, "payload 'x' is announced with 3 bytes, checksum '0'"),
        ({"bytes": 4}, "payload 'x' is announced with 4 bytes for shape [3] of uint8"),
        ({"bytes": 2}, "payload 'x' is announced with 2 bytes for shape [3] of uint8"),
        ({"dtype": None}, "a payload is announced as 'x' of type None"),
        ({"name": None}, "a payload is announced as None of type 'uint8'"),
    ],
)
def test_an_announcement_beyond_the_bounds_says_which(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(LinkError) as caught:
        module._check_announcement(entry(**changes))
    assert str(caught.value) == why


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int | None]]:
    """What is polled for, and how long in milliseconds. The clock stands at 64 s."""
    found: list[tuple[int, int | None]] = []

    class Poll:
        def register(self, sock: Sock, events: int) -> None:
            self.events = events

        def poll(self, milliseconds: int | None) -> bool:
            found.append((self.events, milliseconds))
            return len(found) < 3

    monkeypatch.setattr(select, "poll", Poll)
    monkeypatch.setattr(time, "monotonic", lambda: 64.0)
    return found


def test_a_wait_is_as_long_as_is_left_rounded_up(waits: list[tuple[int, int | None]]) -> None:
    values = frame({"type": "has", "id": 1, "payloads": []})
    assert linked(Sock(values, full=1)).receive(64.0001).id == 1
    linked(Sock(full=1)).send("has", 1)
    assert waits == [(select.POLLIN, 1), (select.POLLOUT, None)]
    with pytest.raises(LinkTimeout):
        linked(Sock(full=1)).send("has", 1, 66.5)
    assert waits[2] == (select.POLLOUT, 2500)


@pytest.mark.parametrize("deadline", [64.0, 63.0])
def test_at_the_deadline_nothing_is_waited_for_any_more(deadline: float, waits: list[tuple[int, int | None]]) -> None:
    with pytest.raises(LinkTimeout, match=r"^the deadline passed$"):
        linked(Sock(full=1)).receive(deadline)
    assert waits == []


def test_a_connection_that_breaks_says_while_what() -> None:
    broken = Sock(fails=ConnectionResetError(104, "Connection reset by peer"))
    with pytest.raises(LinkError, match=r"^the connection broke while sending \(Connection reset by peer\)$"):
        linked(broken).send("has", 1)
    with pytest.raises(LinkError, match=r"^the connection broke while receiving \(Connection reset by peer\)$"):
        linked(broken).receive()


@pytest.mark.parametrize(
    ("sock", "ended"),
    [(Sock(b""), True), (Sock(b"x"), False), (Sock(full=1), False), (Sock(fails=OSError(9, "closed")), True)],
)
def test_a_link_has_ended_where_it_is_closed_or_broken(sock: Sock, ended: bool) -> None:
    assert linked(sock).ended() is ended


def test_a_new_link_has_carried_nothing() -> None:
    fresh = linked(Sock())
    assert (fresh.sent_bytes, fresh.received_bytes) == (0, 0)
