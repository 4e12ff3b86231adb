"""Devices that say what a test has them say, and small models to measure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from harness.core.job import Completed, Job, Options, Outcome, Residency, Sample
from harness.devices.base import Device, DeviceFacts, Sink
from harness.graph.build import GraphBuilder
from harness.graph.inputs import random_inputs
from harness.graph.model import Model
from harness.latency.measure import Subject
from harness.latency.record import Cell, Conditions, Phase, TimedSample


@dataclass(frozen=True)
class Saying:
    """What a scripted device says of one job; `total_ns` is of its n-th iteration since the process began."""

    total_ns: Callable[[int], float] = lambda n: 1e6
    thermal: str = ""
    boot_id: str = "b00t"
    runtime: str = "2.3.0"
    full: bool = True
    delegated: int | None = None
    log: str = ""
    outcome: Outcome | None = None


@dataclass
class Script:
    """Makes devices, and remembers which of them ran what: (device, iterations)."""

    say: Callable[[int, int], Saying] = lambda process, job: Saying()
    jobs: list[tuple[str, int]] = field(default_factory=list)
    opened: int = 0

    def open(self, name: str) -> Device:
        self.opened += 1
        return Scripted(name, self, self.opened - 1)


class Scripted(Device):
    """Completes every job at once; the numbers are the script's. It runs no model: outputs are its inputs' mean."""

    def __init__(self, name: str, script: Script, process: int) -> None:
        self.name, self.kind = name, "scripted"
        self._script, self._process = script, process
        self._jobs = self._iterations = 0

    def facts(self) -> DeviceFacts:
        return DeviceFacts(self.name, self.kind, "2.3.0", "", "nowhere")

    def close(self) -> None:
        pass

    def run(self, job: Job, sink: Sink | None = None) -> Outcome:
        said = self._script.say(self._process, self._jobs)
        self._script.jobs.append((self.name, job.iterations))
        self._jobs += 1
        if said.outcome is not None:
            return said.outcome
        times = [int(said.total_ns(self._iterations + i)) for i in range(job.iterations)]
        self._iterations += job.iterations
        outputs = {port.name: np.zeros(port.shape, port.dtype) for port in job.outputs}
        residency = Residency(said.full, said.delegated, None if said.delegated is None else 2, None)
        return Completed(
            outputs=outputs,
            residency=residency,
            samples=tuple(Sample(t // 10, t - 2 * (t // 10), t // 10) for t in times),
            compile_ns=5_000_000 if self._jobs == 1 else 0,
            compiled=self._jobs == 1,
            runtime=said.runtime,
            adapter="",
            log=said.log,
            boot_id=said.boot_id,
            thermal=said.thermal,
        )


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture(scope="session")
def layers() -> Callable[[int], Model]:
    """A stack of fully connected layers with a TANH each."""

    def make(count: int) -> Model:
        graph = GraphBuilder()
        hidden = graph.input("x", (1, 64, 256))
        rng = np.random.default_rng(0)
        for _ in range(count):
            weights = (rng.standard_normal((256, 256)) / 16).astype(np.float32)
            hidden = graph.unary("TANH", graph.fully_connected(hidden, weights))
        graph.output(hidden, "y")
        return graph.build()

    return make


@pytest.fixture(scope="session")
def subject(layers: Callable[[int], Model]) -> Callable[..., Subject]:
    """A cell of a stack of layers."""

    def make(device: str = "here", count: int = 1, model: Model | None = None, **choices: str) -> Subject:
        model = layers(count) if model is None else model
        options = Options(**({"accelerator": "cpu"} | choices))  # type: ignore[arg-type]
        cell = Cell(f"layers{count}.tflite", model.sha256, device, options.accelerator, options.precision)
        return Subject(cell, model, random_inputs(model.graph(), 0), options)

    return make


def timed(
    levels: list[list[list[float]]], phase: Phase = "steady", conditions: Conditions | None = None
) -> list[TimedSample]:
    """Samples from total milliseconds by replication and round; a round begins each second."""
    seen = conditions or Conditions()
    return [
        TimedSample(phase, i, 0, int(ms * 1e6), 0, replication, number, float(number), seen)
        for replication, rounds in enumerate(levels)
        for number, values in enumerate(rounds)
        for i, ms in enumerate(values)
    ]


def write_model(folder: Path, model: Model, name: str = "model") -> Path:
    path = folder / f"{name}.tflite"
    path.write_bytes(model.to_bytes())
    return path
