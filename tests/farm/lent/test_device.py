"""A lent device answers as the device itself does: the host's end of a loan in a thread here, with a real runtime.

Only the way between them is short: a socket pair in place of Dask. `test_session.py` has the whole way.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import psutil
import pytest

pytest.importorskip("distributed")

from harness.core.arrays import Array
from harness.core.errors import DeviceError, StorageError, UsageError
from harness.core.job import Completed, Crashed, Job, Lost, Options, Rejected
from harness.devices.android.device import PhoneOptions
from harness.devices.execute import make_job
from harness.devices.host.device import HostDevice
from harness.devices.link import Link
from harness.farm.lent import device as lent
from harness.farm.lent.device import Borrowed, FarmDevice
from harness.farm.lent.pins import Pin
from harness.farm.lent.serve import Server
from harness.farm.node import Farm
from harness.farm.store import Store
from harness.graph.build import GraphBuilder
from harness.graph.inputs import random_inputs
from harness.graph.model import Model
from harness.latency.measure import Clocked, clocked
from tests import models


class ShortLine:
    """A line whose two ends are in this process. `made` has each one that was opened."""

    made: ClassVar[list[ShortLine]] = []
    store: Path
    fails = ""

    def __init__(self, farm: Farm, pin: Pin) -> None:
        here, self.there = socket.socketpair()
        self.link, self.server = Link(here), Server(Link(self.there), Store(self.store))
        self.thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self) -> None:
        self.server.serve()
        self.there.close()  # as a process that ends does

    def open(self) -> Link:
        if self.fails:
            raise DeviceError(self.fails)
        self.made.append(self)
        self.thread.start()
        return self.link

    def close(self) -> None:
        with suppress(OSError):  # it has ended
            self.there.shutdown(socket.SHUT_RDWR)
        for device in list(self.server._devices.values()):
            device.stop()  # as the leash does, by a signal
        self.thread.join(30)
        self.link.close()

    def abandon(self) -> None:
        self.close()

    def why(self, otherwise: str) -> str:
        return f"the lab burnt down ({otherwise})"


@pytest.fixture
def borrowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Borrowed]:
    monkeypatch.setattr(ShortLine, "made", [])
    monkeypatch.setattr(ShortLine, "store", tmp_path, raising=False)
    monkeypatch.setattr(lent, "Line", ShortLine)
    made = Borrowed(Farm("tls://lab1:8786"), Pin("host", "lab1", "host", ""))
    yield made
    made.give_back()


def wide() -> Model:
    """Its input is larger than what goes along with a job."""
    graph = GraphBuilder()
    x = graph.input("x", (64, 512))
    graph.output(graph.fully_connected(x, np.eye(512, dtype=np.float32) * 2, np.zeros(512, np.float32)), "y")
    return graph.build()


def job(model: Model, accelerator: str = "cpu", warmup: int = 0, iterations: int = 1) -> Job:
    options = Options(accelerator=accelerator)  # type: ignore[arg-type]
    return replace(
        make_job(model, random_inputs(model.graph(), 0), options, timeout=60), warmup=warmup, iterations=iterations
    )


def long_job() -> Job:
    """Minutes, for a test that ends it."""
    return job(wide(), "reference", warmup=900_000)


def test_a_job_gives_what_the_host_s_own_device_gives(borrowed: Borrowed) -> None:
    asked = job(wide(), warmup=1, iterations=3)
    with HostDevice() as own:
        wanted = own.run(asked)
        facts = own.facts()
    with FarmDevice(borrowed, PhoneOptions()) as device:
        found = device.run(asked)
        assert isinstance(found, Completed) and isinstance(wanted, Completed)
        np.testing.assert_array_equal(found.outputs["y"], wanted.outputs["y"])
        assert (found.residency, found.runtime, found.compiled) == (wanted.residency, wanted.runtime, True)
        assert len(found.samples) == 3 and (device.compiles, device.runs) == (1, 4)
        assert device.facts() == facts
        assert device.described() == {"name": "host", "kind": "host", "runtime": "", "gpu": "", "host": "lab1"}
        again = device.run(asked)
        assert isinstance(again, Completed) and not again.compiled and (device.compiles, device.runs) == (1, 8)


def test_a_model_and_a_large_input_are_sent_once(borrowed: Borrowed) -> None:
    asked = job(wide())
    with FarmDevice(borrowed, PhoneOptions()) as device:
        device.run(asked)
        before = device.sent_bytes
        assert before > len(asked.model) + asked.inputs["x"].nbytes
        assert isinstance(device.run(asked), Completed)
        assert device.sent_bytes - before < 2000
    borrowed.give_back()
    with FarmDevice(borrowed, PhoneOptions()) as device:  # nor again, when it is borrowed another time
        assert isinstance(device.run(asked), Completed)
        assert device.sent_bytes < 4000


def test_what_the_host_has_lost_is_sent_again(borrowed: Borrowed, tmp_path: Path) -> None:
    asked = job(wide())
    with FarmDevice(borrowed, PhoneOptions()) as device:
        device.run(asked)
        files = list((tmp_path / "files").iterdir())
        assert len(files) == 2
        for file in files:
            file.write_bytes(b"damaged")
        ShortLine.made[0].server._model = "", b""
        found = device.run(asked)
        assert isinstance(found, Completed)
        np.testing.assert_allclose(found.outputs["y"], asked.inputs["x"] * 2, rtol=1e-6)


def test_outputs_arrive_one_by_one(borrowed: Borrowed) -> None:
    taken: dict[str, Array] = {}
    with FarmDevice(borrowed, PhoneOptions()) as device:
        done = device.run(job(models.right()), taken.__setitem__)
    assert isinstance(done, Completed) and not done.outputs
    assert set(taken) == {"y"}


def test_a_refusal_is_an_outcome_and_the_device_goes_on(borrowed: Borrowed) -> None:
    with FarmDevice(borrowed, PhoneOptions()) as device:
        done = device.run(job(models.right(), "npu"))
        assert isinstance(done, Rejected) and "no accelerator 'npu'" in done.reason
        assert isinstance(device.run(job(models.right())), Completed)
    assert not ShortLine.made[0].server.trouble


def test_a_sink_that_fails_returns_the_device_and_the_next_job_borrows_it_anew(borrowed: Borrowed) -> None:
    def full(name: str, values: Array) -> None:
        raise StorageError("The disk is full.")

    with FarmDevice(borrowed, PhoneOptions()) as device:
        with pytest.raises(StorageError):
            device.run(job(models.right()), full)
        assert isinstance(device.run(job(models.right())), Completed)
        assert (len(ShortLine.made), device.compiles) == (2, 1)


def test_a_line_that_breaks_is_lost_in_one_clause(borrowed: Borrowed) -> None:
    with FarmDevice(borrowed, PhoneOptions()) as device:
        device.facts()
        threading.Timer(1.0, ShortLine.made[0].there.shutdown, (socket.SHUT_RDWR,)).start()
        began = time.monotonic()
        done = device.run(long_job())
        assert isinstance(done, Lost) and done.reason.startswith("the lab burnt down")
        assert time.monotonic() - began < 30
        assert isinstance(device.run(job(models.right())), Completed)


def test_a_job_is_ended_from_another_thread(borrowed: Borrowed) -> None:
    with FarmDevice(borrowed, PhoneOptions()) as device:
        device.facts()
        began = time.monotonic()
        threading.Timer(1.0, device.stop).start()
        assert isinstance(device.run(long_job()), Lost)
        assert time.monotonic() - began < 30


def test_a_process_that_dies_is_a_crash_of_the_host_s_device(borrowed: Borrowed) -> None:
    with FarmDevice(borrowed, PhoneOptions()) as device:
        device.facts()
        (own,) = ShortLine.made[0].server._devices.values()
        threading.Timer(1.0, own._launcher.kill).start()
        done = device.run(long_job())
        assert isinstance(done, Crashed) and done.signal == "SIGKILL"
        assert ShortLine.made[0].server.trouble == "cpu"


def test_several_that_are_open_share_the_line(borrowed: Borrowed) -> None:
    with FarmDevice(borrowed, PhoneOptions()) as one, FarmDevice(borrowed, PhoneOptions()) as two:
        assert isinstance(one.run(job(models.right())), Completed)
        assert isinstance(two.run(job(models.right())), Completed)
        assert (one.compiles, two.compiles) == (1, 1)
    assert len(ShortLine.made) == 1
    assert not ShortLine.made[0].server._devices


def test_time_passes_by_the_clock_of_the_host(borrowed: Borrowed, monkeypatch: pytest.MonkeyPatch) -> None:
    """The way to the host is no part of a round: with it, a fast model's samples would not account for the time."""
    answer = Borrowed.answer

    def slow(self: Borrowed, deadline: float, limit: int) -> object:
        time.sleep(0.3)
        return answer(self, deadline, limit)

    with FarmDevice(borrowed, PhoneOptions()) as device:
        device.run(job(models.right()))
        monkeypatch.setattr(Borrowed, "answer", slow)
        found = clocked(device, job(models.right(), iterations=5), time.monotonic())
    assert isinstance(found, Clocked)
    assert 0 < found.turn.wall_ns < 0.3e9
    assert found.turn.conditions.waited is not None


def test_a_benchmark_s_process_there_is_no_copy_of_another(borrowed: Borrowed) -> None:
    with FarmDevice(borrowed, PhoneOptions()) as device:
        assert isinstance(device.run(job(wide())), Completed)
        (inner,) = ShortLine.made[-1].server._devices.values()
        first = inner.pid
        device.start_anew()
        for _ in range(2):
            assert isinstance(device.run(job(wide())), Completed)
        assert inner.pid is not None and psutil.Process(inner.pid).ppid() == os.getpid() != first
        again = inner.pid
        assert isinstance(device.run(job(wide())), Completed) and inner.pid == again  # and stays


def test_a_name_that_the_host_does_not_know_is_its_sentence(borrowed: Borrowed) -> None:
    borrowed.pin = Pin("planted:nothing", "lab1", "host", "")
    with pytest.raises(UsageError, match="nothing"):
        FarmDevice(borrowed, PhoneOptions())


def test_a_farm_that_does_not_lend_is_not_asked_for_every_test(
    borrowed: Borrowed, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FarmDevice(borrowed, PhoneOptions()) as device:
        borrowed.give_back()
        monkeypatch.setattr(ShortLine, "fails", "The scheduler is not reached.")
        for _ in range(2):
            with pytest.raises(DeviceError, match="The scheduler is not reached"):
                device.run(job(models.right()))
        monkeypatch.setattr(ShortLine, "fails", "")
        with pytest.raises(DeviceError, match="The scheduler is not reached"):
            device.run(job(models.right()))
        monkeypatch.setattr(lent, "AGAIN_SECONDS", 0.0)
        assert isinstance(device.run(job(models.right())), Completed)


def test_nonsense_ends_the_loan(borrowed: Borrowed) -> None:
    with FarmDevice(borrowed, PhoneOptions()):
        with pytest.raises(lent.Told, match="asked for nonsense"):
            borrowed.ask("run", 30, device=1, ask={"sha256": "x"})
        ShortLine.made[0].thread.join(30)
        assert not ShortLine.made[0].thread.is_alive()
