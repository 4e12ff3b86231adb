"""A clock that only the devices here move, so that half an hour passes at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from harness.core.errors import DeviceError
from harness.core.job import Completed, Job, Lost, Outcome, Residency, Sample
from harness.devices.base import Device, DeviceFacts, Sink
from harness.latency import measure
from harness.latency.measure import Subject
from harness.latency.sustained import run as module
from harness.latency.sustained.run import SustainedPlan


class Clock:
    """In the place of the module `time`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def perf_counter_ns(self) -> int:
        return int(self.now * 1e9)

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Pixel:
    """A phone whose iterations take `ms(t)`, t in seconds since the first one; it is gone in `away`, spans of such
    times, and comes back with another boot id. `noise` is the share that an iteration scatters by; a process
    compiles for so long, and one that `forgets` ends after each job."""

    clock: Clock
    ms: Callable[[float], float] = lambda t: 100.0
    noise: float = 0.02
    away: tuple[tuple[float, float], ...] = ()
    thermal: Callable[[float], str] = lambda t: "none"
    outcome: Callable[[float], Outcome | None] = lambda t: None
    compiling: float = 1.0
    forgets: bool = False
    opened: int = 0
    starts: int = 0
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(7))

    def open(self, name: str) -> Device:
        self.opened += 1
        return _Phone(name, self)

    @property
    def time(self) -> float:
        return self.clock.now - 1000.0

    def boot(self) -> str:
        return f"b{sum(end <= self.time for _, end in self.away)}"

    def gone(self) -> bool:
        return any(begin <= self.time < end for begin, end in self.away)


class _Phone(Device):
    own_process = False

    def __init__(self, name: str, pixel: Pixel) -> None:
        self.name, self.kind, self._pixel = name, "scripted", pixel
        self._running = ""

    def facts(self) -> DeviceFacts:
        pixel = self._pixel
        if pixel.gone():
            pixel.clock.sleep(5.0)
            if pixel.gone():
                raise DeviceError("S0 is not there: adb says offline.", "Look at its cable.")
        return DeviceFacts(self.name, self.kind, "2.3.0", "", "nowhere")

    def celsius(self) -> float | None:
        return 30.0 + self._pixel.time / 60

    def stop(self) -> None:
        self._running = ""

    def close(self) -> None:
        self.stop()

    def run(self, job: Job, sink: Sink | None = None) -> Outcome:
        pixel = self._pixel
        said = pixel.outcome(pixel.time)
        if said is not None:
            self._running = ""
            return said
        compiled = self._running != pixel.boot()
        if compiled:
            pixel.starts += 1
            pixel.clock.sleep(pixel.compiling)
        self._running = pixel.boot()
        samples = []
        for i in range(job.warmup + job.iterations):
            ms = pixel.ms(pixel.time) * (1 + abs(pixel.rng.normal(0, pixel.noise)))
            pixel.clock.sleep(ms / 1e3)
            if pixel.gone():
                self._running = ""
                return Lost("the connection broke")
            if i >= job.warmup:
                samples.append(Sample(int(ms * 1e5), int(ms * 8e5), int(ms * 1e5)))
        if pixel.forgets:
            self._running = ""
        outputs = {port.name: np.zeros(port.shape, port.dtype) for port in job.outputs}
        return Completed(
            outputs,
            Residency(True),
            tuple(samples),
            1_000_000_000 if compiled else 0,
            compiled,
            "2.3.0",
            "",
            "",
            pixel.boot(),
            pixel.thermal(pixel.time),
        )


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(module, "time", found)
    monkeypatch.setattr(measure, "time", found)
    return found


@pytest.fixture
def pixel(clock: Clock) -> Pixel:
    return Pixel(clock)


@pytest.fixture
def plan() -> SustainedPlan:
    return SustainedPlan(minutes=30, processes=3, wait=120)


Subjects = Callable[..., Subject]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "results"
