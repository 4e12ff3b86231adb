"""A slow line to the phone, and its daemons killed while a command is at work: a right answer, or one sentence."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from harness.devices.adb import Adb, Server
from harness.devices.android import AndroidDevice, PhoneOptions
from harness.devices.execute import make_job
from harness.devices.registry import find_phone
from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from harness.job import Completed, Job, Options, TimedOut
from tests.standin.conftest import MakePhone
from tests.standin.phone import Phone
from tests.standin.throttle import Throttle

CPU = Options("cpu")
SLOW = 100_000.0  # bytes a second: a bad Wi-Fi, or a USB hub that fell back


def plus_one(count: int) -> Model:
    graph = GraphBuilder()
    graph.output(graph.binary("ADD", graph.input("x", (1, count)), graph.constant([1.0])), "y")
    return graph.build()


def job(count: int, timeout: float) -> Job:
    return make_job(plus_one(count), {"x": np.arange(count, dtype=np.float32).reshape(1, -1)}, CPU, timeout=timeout)


@pytest.fixture(scope="module")
def own(make_phone: MakePhone) -> Iterator[Phone]:
    """A phone of these tests' own, whose lines may be cut."""
    phone = make_phone("tokay")
    yield phone
    phone.stop_adbd()
    Adb(Server()).call("disconnect", phone.serial)


class TestASlowLink:
    @pytest.fixture(scope="class")
    def slow(self, own: Phone) -> Iterator[Throttle]:
        link = Throttle(own.port, SLOW)
        Adb(Server()).call("connect", f"127.0.0.1:{link.port}")
        yield link
        Adb(Server()).call("disconnect", f"127.0.0.1:{link.port}")
        link.close()

    @pytest.fixture(scope="class")
    def device(self, slow: Throttle, apk: Path) -> Iterator[AndroidDevice]:
        serial = f"127.0.0.1:{slow.port}"
        with AndroidDevice(serial, find_phone(serial), PhoneOptions(apk)) as opened:
            yield opened  # type: ignore[misc]

    def test_takes_its_time_and_gives_the_right_answer(self, device: AndroidDevice) -> None:
        began = time.monotonic()
        outcome = device.run(job(50_000, timeout=60))
        took = time.monotonic() - began
        assert isinstance(outcome, Completed), outcome
        assert np.array_equal(outcome.outputs["y"][0], np.arange(1, 50_001, dtype=np.float32))
        assert took > 2 * 200_000 / SLOW - 1

    def test_that_is_too_slow_ends_at_the_deadline_and_the_next_job_works(self, device: AndroidDevice) -> None:
        began = time.monotonic()
        outcome = device.run(job(1_000_000, timeout=5))
        took = time.monotonic() - began
        assert isinstance(outcome, TimedOut), outcome
        assert took < 5 + 12  # then the app is stopped, with a deadline of its own
        after = device.run(job(4, timeout=60))
        assert isinstance(after, Completed), after
