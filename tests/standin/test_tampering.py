"""What a broken connection does to payloads on their way, in each direction, and who may connect at all."""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest

from harness.core.job import Completed, Job, Lost, Options
from harness.devices.android.adb import Adb
from harness.devices.android.device import AndroidDevice, PhoneOptions
from harness.devices.execute import make_job
from harness.devices.link import MAGIC, Link, LinkError
from harness.devices.registry import find_phone
from harness.graph.build import GraphBuilder
from tests.standin.phone import Phone

COUNT = 1 << 18  # values each way: a megabyte, so that the middle of a payload is easy to hit
MIDDLE = 1 << 19
_NUMBERS = itertools.count()

Tamper = Callable[[bytes], bytes]


class Middle:
    """Sits between the host and adb; one direction goes through a function once its payload is under way."""

    def __init__(self, outside: socket.socket, direction: str, tamper: Tamper) -> None:
        self.inside, near = socket.socketpair()
        self._ends = (near, outside)
        outside.setblocking(True)
        ways = {"to_phone": (near, outside), "to_host": (outside, near)}
        self._threads = [
            threading.Thread(target=self._relay, args=(*ends, tamper if way == direction else None), daemon=True)
            for way, ends in ways.items()
        ]
        for thread in self._threads:
            thread.start()

    def _relay(self, source: socket.socket, sink: socket.socket, tamper: Tamper | None) -> None:
        passed = 0
        with suppress(OSError):
            while data := source.recv(1 << 16):
                passed += len(data)
                if tamper is not None and passed > MIDDLE:
                    data, tamper = tamper(data), None
                    if not data:
                        break
                sink.sendall(data)
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Both connections have ended by now."""
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()
        for end in self._ends:
            end.close()


def flip(data: bytes) -> bytes:
    return bytes([data[0] ^ 0x10]) + data[1:]


def cut(data: bytes) -> bytes:
    return b""


@pytest.fixture
def job() -> Job:
    """A job with inputs that no other test has sent: the app keeps them."""
    graph = GraphBuilder()
    graph.output(graph.binary("ADD", graph.input("x", (COUNT,)), graph.constant([1.0])), "y")
    return make_job(
        graph.build(), {"x": np.arange(COUNT, dtype=np.float32) + next(_NUMBERS)}, Options("cpu"), timeout=30
    )


@pytest.fixture(scope="module")
def device(phone: Phone, apk: Path) -> Iterator[AndroidDevice]:
    with AndroidDevice("pixel8a", find_phone(phone.serial), PhoneOptions(apk)) as opened:
        assert isinstance(opened, AndroidDevice)
        yield opened


@pytest.mark.parametrize(
    ("direction", "tamper"),
    [
        ("to_phone", flip),
        ("to_host", cut),
        pytest.param("to_phone", cut, marks=pytest.mark.slow),
        pytest.param("to_host", flip, marks=pytest.mark.slow),
    ],
)
def test_a_payload_that_is_damaged_on_its_way_loses_the_job_and_no_other(
    phone: Phone,
    device: AndroidDevice,
    job: Job,
    monkeypatch: pytest.MonkeyPatch,
    direction: str,
    tamper: Tamper,
) -> None:
    device.stop()
    plain = Adb.stream
    between: list[Middle] = []

    def through(adb: Adb, service: str, deadline: float) -> socket.socket:
        between.append(Middle(plain(adb, service, deadline), direction, tamper))
        return between[-1].inside

    with monkeypatch.context() as patch:
        patch.setattr(Adb, "stream", through)
        outcome = device.run(job)
    for middle in between:
        middle.close()
    assert isinstance(outcome, Lost), outcome
    why = "the checksum of payload 'y' does not match: it was corrupted on the way"
    if (direction, tamper) == ("to_host", flip):
        assert outcome.reason == f"{why}; {phone.serial} is attached and did not reboot"
    else:
        assert outcome.reason.endswith(f"; {phone.serial} is attached and did not reboot")
    if (direction, tamper) == ("to_phone", flip):
        assert "the checksum of payload" in outcome.log
    done = device.run(job)
    assert isinstance(done, Completed)
    assert np.array_equal(done.outputs["y"], job.inputs["x"] + 1)


@pytest.mark.parametrize("announced", ["payload", "header"])
def test_an_enormous_announcement_takes_no_memory(
    phone: Phone, device: AndroidDevice, job: Job, announced: str
) -> None:
    device.stop()
    assert isinstance(device.run(job), Completed)
    process = psutil.Process(phone.pid)
    before = process.memory_info().rss
    with find_phone(phone.serial).stream(f"localabstract:{device.launcher.socket_name}", time.monotonic() + 20) as sock:
        if announced == "header":
            sock.sendall(MAGIC + struct.pack(">I", 0xFFFFFFFF))
        else:
            entry = '{"name": "model", "dtype": "uint8", "shape": [1099511627776], "bytes": 1099511627776, "crc32": 0}'
            header = f'{{"type": "put", "id": 1, "sha256": "{"0" * 64}", "payloads": [{entry}]}}'.encode()
            sock.sendall(MAGIC + struct.pack(">I", len(header)) + header)
        link = Link(sock)
        try:
            answer = link.receive(time.monotonic() + 20)
            assert answer.type == "failed"
        except LinkError as error:
            assert str(error) in ("the other side closed the connection",) or "reset" in str(error)
    assert process.memory_info().rss - before < 64 << 20
    assert phone.pid == process.pid
    device.stop()
    assert isinstance(device.run(job), Completed)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_another_user_is_refused_and_the_log_says_so(phone: Phone, device: AndroidDevice, job: Job) -> None:
    assert isinstance(device.run(job), Completed)
    setpriv = shutil.which("setpriv")
    assert setpriv is not None
    script = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.settimeout(10); "
        f"s.connect('\\0{device.launcher.socket_name}'); sys.exit(len(s.recv(1)))"
    )
    stranger = [setpriv, "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable, "-IS", "-c", script]
    done = subprocess.run(stranger, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr  # connected, and at once at the end of the stream
    outcome = device.run(job)
    assert isinstance(outcome, Completed)
    assert "refused uid 65534" in device.launcher.log(0)
