"""The untouched model on the device against the reference: shared by `compare`, `dump` and `localize`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.devices.base import Device
from harness.graph import surgery
from harness.job import Array, Completed
from harness.localize.baseline import Case, judge_outputs, run_device, run_ideal, run_reference
from harness.localize.result import OutputVerdict, residency_json
from harness.numerics.fp16 import LARGEST
from harness.progress import SILENT, Progress
from harness.results import RunFolder

# Guesses for the time left, from a two-core machine with a software GPU: seconds for each op compiled and tapped.
COMPILE_SECONDS = 0.07
TAP_SECONDS = 0.05


@dataclass(frozen=True)
class Bench:
    """Where models are measured: the device under test, the host for references, the run folder, the listener."""

    device: Device
    host: Device
    run: RunFolder
    progress: Progress = SILENT


@dataclass(frozen=True)
class Comparison:
    """The model's outputs judged. `ideal` holds an ideal device's outputs, `beyond` the tensors whose exact values
    leave float16's range."""

    outputs: tuple[OutputVerdict, ...]
    done: Completed
    ideal: dict[str, Array]
    beyond: frozenset[int]

    @property
    def ok(self) -> bool:
        """Whether every output is as right as the arithmetic allows."""
        return all(output.ok for output in self.outputs)

    def to_json(self) -> dict[str, Any]:
        """`compare --json`, schema 1."""
        return {
            "schema": 1,
            "status": "pass" if self.ok else "fail",
            "outputs": [output.to_json() for output in self.outputs],
            "residency": residency_json(self.done.residency),
        }


def compare_model(bench: Bench, case: Case, *, keep: bool = False) -> Comparison:
    """Reference, ideal device, device. With `keep` the reference's intermediates stay in the run folder.

    Raises:
        DeviceError: the reference or the untouched model does not complete.
    """
    tensors = surgery.tappable(case.graph)
    size = sum(case.graph.tensors[t].nbytes for t in tensors)
    bench.progress.stage("reference on the host CPU", 1 + size / 150e6)
    peaks = run_reference(bench.host, case, bench.run.tensors, tensors, keep=keep)
    beyond = frozenset(t for t, peak in peaks.items() if case.options.half and peak > LARGEST)
    bench.progress.stage(f"what float{16 if case.options.half else 32} explains", 1 + len(case.graph.ops) / 200)
    ideal = run_ideal(bench.host, case, beyond)
    bench.host.rest()  # its memory is wanted on the device's side now
    bench.progress.stage(f"untouched model on {bench.device.name}", 2 + len(case.graph.ops) * COMPILE_SECONDS)
    done = run_device(bench.device, case)
    bench.run.log(done.log)
    bench.run.samples(done.samples, "first")
    outputs = judge_outputs(case, done.outputs, ideal, bench.run.tensors)
    bench.run.save(outputs=[output.to_json() for output in outputs])
    return Comparison(outputs, done, ideal, beyond)
