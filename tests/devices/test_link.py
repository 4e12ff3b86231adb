"""The wire: everything that may be sent arrives as it was, and everything else ends in a LinkError, soon."""

from __future__ import annotations

import json
import random
import resource
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.devices.link import (
    DTYPES,
    MAGIC,
    MAX_HEADER,
    MAX_PAYLOAD_BYTES,
    MAX_PAYLOADS,
    Link,
    LinkError,
    LinkTimeout,
    Message,
)
from tests.arrays import f32


class Wire:
    """A link, and the bare socket at its other end."""

    def __init__(self) -> None:
        here, self.there = socket.socketpair()
        self.link = Link(here)

    def close(self) -> None:
        self.link.close()
        self.there.close()

    def receive(self, data: bytes, seconds: float = 1.0, **limits: int) -> Message:
        """What the link makes of bytes from the other side, which then closes."""
        sender = threading.Thread(target=self._send, args=(data,))
        sender.start()
        try:
            return self.link.receive(time.monotonic() + seconds, **limits)
        finally:
            self.link.close()
            sender.join()

    def _send(self, data: bytes) -> None:
        try:
            self.there.sendall(data)
            self.there.shutdown(socket.SHUT_WR)
        except OSError:  # the link gave up before it had read all
            pass


@pytest.fixture
def wire() -> Iterator[Wire]:
    made = Wire()
    yield made
    made.close()


def frame(header: Any, payloads: bytes = b"") -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return MAGIC + struct.pack(">I", len(raw)) + raw + payloads


def announced(array: NDArray[Any], **changes: Any) -> dict[str, Any]:
    """A header that announces one payload, some of its facts changed."""
    raw = array.tobytes()
    entry = {"name": "x", "dtype": array.dtype.name, "shape": list(array.shape), "bytes": len(raw)}
    return {"type": "run", "id": 1, "payloads": [entry | {"crc32": zlib.crc32(raw)} | changes]}


VALUES = f32([1.0, 2.0, 3.0])


class TestArrivesAsItWas:
    @pytest.mark.parametrize("shape", [(), (1,), (0,), (3, 0, 2), (2, 3), (1, 2, 3, 4, 5, 6, 7, 1)])
    @pytest.mark.parametrize("dtype", sorted(DTYPES))
    def test_every_type_and_shape(self, wire: Wire, dtype: str, shape: tuple[int, ...]) -> None:
        values = np.random.default_rng(0).integers(0, 2, shape).astype(dtype) * np.ones((), dtype)
        values = np.asarray(values, dtype).reshape(shape)
        other = Link(wire.there)
        other.send("output", 7, payloads=[("x", values)], note="with it")
        got = wire.link.receive(time.monotonic() + 1)
        assert (got.type, got.id, got.fields) == ("output", 7, {"note": "with it"})
        assert list(got.payloads) == ["x"]
        assert got.payloads["x"].dtype == values.dtype
        assert got.payloads["x"].shape == shape
        assert np.array_equal(got.payloads["x"], values)

    def test_nan_infinity_and_the_sign_of_zero(self, wire: Wire) -> None:
        values = f32([np.nan, np.inf, -np.inf, -0.0, 1e-45])
        Link(wire.there).send("output", 1, payloads=[("x", values)])
        assert wire.link.receive(time.monotonic() + 1).payloads["x"].tobytes() == values.tobytes()

    def test_an_array_in_another_order_is_sent_in_its_own(self, wire: Wire) -> None:
        values = np.asfortranarray(np.arange(12, dtype=np.int32).reshape(3, 4))
        Link(wire.there).send("output", 1, payloads=[("x", values), ("y", values[::2, ::-1])])
        got = wire.link.receive(time.monotonic() + 1).payloads
        assert np.array_equal(got["x"], values)
        assert np.array_equal(got["y"], values[::2, ::-1])

    def test_many_payloads_keep_their_order_and_names(self, wire: Wire) -> None:
        payloads = [(f"n{i}", np.full(i % 5, i, np.int64)) for i in range(MAX_PAYLOADS)]
        sender = threading.Thread(target=Link(wire.there).send, args=("run", 1), kwargs={"payloads": payloads})
        sender.start()
        got = wire.link.receive(time.monotonic() + 10)
        sender.join()
        assert list(got.payloads) == [name for name, _ in payloads]
        assert all(np.array_equal(got.payloads[name], values) for name, values in payloads)

    def test_a_payload_larger_than_the_sockets_buffer(self, wire: Wire) -> None:
        values = np.random.default_rng(1).integers(0, 256, 20_000_000, np.uint8)
        other = Link(wire.there)
        sender = threading.Thread(target=other.send, args=("put", 1), kwargs={"payloads": [("model", values)]})
        sender.start()
        got = wire.link.receive(time.monotonic() + 10)
        sender.join()
        assert np.array_equal(got.payloads["model"], values)
        assert other.sent_bytes == wire.link.received_bytes > values.nbytes

    def test_frames_follow_each_other(self, wire: Wire) -> None:
        other = Link(wire.there)
        for i in range(5):
            other.send("has", i, sha256=str(i))
        assert [wire.link.receive(time.monotonic() + 1).id for _ in range(5)] == [0, 1, 2, 3, 4]

    def test_descriptors_above_1023_work(self) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
        held: list[socket.socket] = []
        try:
            while not held or held[-1].fileno() < 1100:
                held.append(socket.socket())
            wire = Wire()
            with pytest.raises(LinkTimeout):
                wire.link.receive(time.monotonic() + 0.05)
            wire.close()
        finally:
            for sock in held:
                sock.close()
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class TestIsRefused:
    @pytest.mark.parametrize(
        ("data", "why"),
        [
            (b"HTTP/1.1 200 OK\r\n", "a frame starts with b'HTTP', not b'LDH1'"),
            (b"\0" * 8, "a frame starts with"),
            (MAGIC + struct.pack(">I", MAX_HEADER + 1), "a header of 1048577 bytes is announced, over the limit"),
            (MAGIC + struct.pack(">I", 0xFFFFFFFF), "a header of 4294967295 bytes is announced, over the limit"),
            (frame(b"not json"), "a header is not JSON"),
            (frame(b"\xff\xfe{}"), "a header is not JSON"),
            (frame(b"[" * 100_000), "a header is not JSON"),
            (frame(b'{"type": "has", "id": ' + b"9" * 5000 + b', "payloads": []}'), "a header is not JSON"),
            (frame([]), "a header is not a JSON object"),
            (frame(b"null"), "a header is not a JSON object"),
            (frame(b'"text"'), "a header is not a JSON object"),
            (frame({}), "a header lacks type, id or payloads"),
            (frame({"type": 1, "id": 1, "payloads": []}), "a header lacks type, id or payloads"),
            (frame({"type": "has", "id": "1", "payloads": []}), "a header lacks type, id or payloads"),
            (frame({"type": "has", "id": 1, "payloads": {}}), "a header lacks type, id or payloads"),
            (frame({"type": "has", "id": 1, "payloads": [{}] * (MAX_PAYLOADS + 1)}), "4097 payloads are announced"),
            (frame({"type": "has", "id": 1, "payloads": [3]}), "announcement is not an object"),
            (frame(announced(VALUES, name=3)), "a payload is announced as 3 of type 'float32'"),
            (frame(announced(VALUES, dtype="float128")), "of type 'float128'"),
            (frame(announced(VALUES, dtype="object")), "of type 'object'"),
            (frame(announced(VALUES, dtype=["float32"])), "a payload is announced as"),
            (frame(announced(VALUES, shape=3)), "is announced with shape 3"),
            (frame(announced(VALUES, shape=[-3])), r"is announced with shape \[-3\]"),
            (frame(announced(VALUES, shape=[-1, -3])), "is announced with shape"),
            (frame(announced(VALUES, shape=[3.0])), "is announced with shape"),
            (frame(announced(VALUES, shape=[True, 3])), "is announced with shape"),
            (frame(announced(VALUES, shape=[3] + [1] * 8)), "is announced with shape"),
            (frame(announced(VALUES, shape=[0, 10**400], bytes=0)), "is announced with shape"),
            (frame(announced(VALUES, shape=[0, 1 << 40, 1 << 40], bytes=0)), "is announced with shape"),
            (frame(announced(VALUES, shape=[4])), r"12 bytes for shape \[4\] of float32"),
            (frame(announced(VALUES, dtype="float64")), "12 bytes for shape"),
            (frame(announced(VALUES, bytes=8)), "8 bytes for shape"),
            (frame(announced(VALUES, bytes="12")), "is announced with '12' bytes"),
            (frame(announced(VALUES, bytes=-12)), "is announced with -12 bytes"),
            (frame(announced(VALUES, crc32=None)), "checksum None"),
            (frame(announced(VALUES, bytes=1 << 40, shape=[1 << 38])), "is announced with 1099511627776 bytes"),
            (frame(announced(VALUES, bytes=MAX_PAYLOAD_BYTES + 1)), "is announced with 2147483648 bytes"),
        ],
    )
    def test_what_breaks_a_rule(self, wire: Wire, data: bytes, why: str) -> None:
        with pytest.raises(LinkError, match=why):
            wire.receive(data)

    @pytest.mark.parametrize("place", [0, 5, 11])
    def test_corrupted_bytes(self, wire: Wire, place: int) -> None:
        raw = bytearray(VALUES.tobytes())
        raw[place] ^= 1
        with pytest.raises(LinkError, match="the checksum of payload 'x' does not match"):
            wire.receive(frame(announced(VALUES), bytes(raw)))

    def test_more_bytes_than_expected(self, wire: Wire) -> None:
        header = announced(VALUES)
        header["payloads"].append(dict(header["payloads"][0], name="y"))
        with pytest.raises(LinkError, match="24 bytes of payload are announced where at most 23 are expected"):
            wire.receive(frame(header, VALUES.tobytes() * 2), limit=23)

    def test_exactly_as_many_as_expected_is_fine(self, wire: Wire) -> None:
        assert wire.receive(frame(announced(VALUES), VALUES.tobytes()), limit=12).payloads["x"].tolist() == [1, 2, 3]

    def test_a_type_that_the_wire_does_not_carry_is_not_sent(self, wire: Wire) -> None:
        for values in (np.asarray(["text"]), np.asarray([1j]), VALUES.astype(">f4")):
            with pytest.raises(LinkError, match="which the wire does not carry"):
                wire.link.send("run", 1, payloads=[("x", values)])
        assert wire.link.sent_bytes == 0

    def test_what_this_machine_has_no_room_for_is_a_link_error(
        self, wire: Wire, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = np.empty

        def full(size: int, dtype: Any) -> Any:
            if size == VALUES.nbytes:
                raise MemoryError
            return made(size, dtype)

        monkeypatch.setattr(np, "empty", full)
        with pytest.raises(LinkError, match="12 bytes are announced, more than this machine has room for"):
            wire.receive(frame(announced(VALUES), VALUES.tobytes()))

    def test_a_header_over_the_limit_is_not_sent(self, wire: Wire) -> None:
        with pytest.raises(LinkError, match="is over the limit of 1048576"):
            wire.link.send("run", 1, note="n" * MAX_HEADER)
        with pytest.raises(LinkError, match="4097 payloads are over the limit of 4096"):
            wire.link.send("run", 1, payloads=[("x", VALUES)] * 4097)
        assert wire.link.sent_bytes == 0


class TestTheOtherSideFails:
    @pytest.mark.parametrize("length", range(0, 120, 7))
    def test_closing_in_the_middle_of_a_frame(self, wire: Wire, length: int) -> None:
        whole = frame(announced(VALUES), VALUES.tobytes())
        assert len(whole) > 120
        with pytest.raises(LinkError, match="the other side closed the connection") as caught:
            wire.receive(whole[:length])
        assert not isinstance(caught.value, LinkTimeout)

    @pytest.mark.parametrize("length", [0, 3, 8, 40, 100, -1])
    def test_falling_silent_in_the_middle_of_a_frame(self, wire: Wire, length: int) -> None:
        wire.there.sendall(frame(announced(VALUES), VALUES.tobytes())[:length])
        began = time.monotonic()
        with pytest.raises(LinkTimeout, match="the deadline passed"):
            wire.link.receive(began + 0.1)
        assert 0.09 < time.monotonic() - began < 1

    def test_dripping_bytes_do_not_move_the_deadline(self, wire: Wire) -> None:
        stop = threading.Event()

        def drip() -> None:
            for byte in frame(announced(VALUES), VALUES.tobytes()):
                if stop.wait(0.02):
                    return
                wire.there.send(bytes([byte]))

        dripper = threading.Thread(target=drip)
        dripper.start()
        began = time.monotonic()
        with pytest.raises(LinkTimeout):
            wire.link.receive(began + 0.3)
        assert time.monotonic() - began < 1
        stop.set()
        dripper.join()

    def test_not_reading_ends_a_send_at_its_deadline(self, wire: Wire) -> None:
        began = time.monotonic()
        with pytest.raises(LinkTimeout):
            wire.link.send("put", 1, began + 0.2, [("model", np.zeros(50_000_000, np.uint8))])
        assert time.monotonic() - began < 2

    def test_gone_while_sending(self, wire: Wire) -> None:
        wire.there.close()
        with pytest.raises(LinkError, match="the connection broke while sending"):
            wire.link.send("put", 1, time.monotonic() + 1, [("model", np.zeros(50_000_000, np.uint8))])

    def test_a_closed_link_says_so(self, wire: Wire) -> None:
        wire.link.close()
        with pytest.raises(LinkError, match="the connection broke while receiving"):
            wire.link.receive(time.monotonic() + 1)

    def test_an_announcement_alone_takes_no_memory(self, wire: Wire) -> None:
        size = MAX_PAYLOAD_BYTES
        header = announced(VALUES, dtype="uint8", shape=[size], bytes=size)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(LinkError, match="the other side closed the connection"):
            wire.receive(frame(header, b"\0" * 1000), limit=size)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


def test_10000_fuzzed_frames_end_in_a_link_error_or_a_message() -> None:
    rng = random.Random(0)
    whole = frame(announced(VALUES), VALUES.tobytes())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes = {"message": 0, "error": 0}
    for _ in range(10_000):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            kind, place = rng.randrange(4), rng.randrange(len(data))
            if kind == 0:
                data[place] ^= 1 << rng.randrange(8)
            elif kind == 1:
                data[place : place + rng.randrange(1, 9)] = rng.randbytes(rng.randrange(9))
            elif kind == 2:
                del data[place:]
            else:
                number = rng.choice([b"-1", b"1e999", b"NaN", b"99999999999999999999", b"null", b"[]", b"{}", b'""'])
                data[place : place + 1] = number
            data = data or bytearray(b"L")
        here, there = socket.socketpair()
        link = Link(here)
        there.sendall(bytes(data))
        there.shutdown(socket.SHUT_WR)
        try:
            link.receive(time.monotonic() + 30, limit=1 << 20)
            outcomes["message"] += 1
        except LinkError as error:
            assert not isinstance(error, LinkTimeout)  # nothing hangs
            outcomes["error"] += 1
        link.close()
        there.close()
    assert outcomes["error"] > 7500
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


def test_a_link_tells_that_the_other_side_went_while_nothing_was_asked(wire: Wire) -> None:
    assert not wire.link.ended()
    wire.there.sendall(b"x")
    assert not wire.link.ended()  # and the byte is still to be read
    assert bytes(wire.link._read(1, time.monotonic() + 1)[0]) == b"x"
    wire.there.close()
    assert wire.link.ended()
    wire.link.close()
    assert wire.link.ended()
