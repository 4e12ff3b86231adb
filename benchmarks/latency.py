"""Does `bench` tell the truth? Three measurements, each by ratios within one run.

    python -m benchmarks.latency bare      its p50 against a bare CompiledModel loop in the same process, CPU and GPU
    python -m benchmarks.latency verdicts  40 comparisons of a model with itself, 40 with a planted 10 % slowdown
    python -m benchmarks.latency models    SAM 2.1's graphs on the host's CPU, beside ONNX Runtime

`bare` runs bench's own worker in a thread, and the loop in turns with it. `verdicts` plants the slowdown as a tenth
more layers. The runtime logs to stderr; send that elsewhere.
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from harness.core.job import Completed, Job, Options, Outcome, Residency, Sample
from harness.devices.base import Device, Sink
from harness.devices.host.device import HostDevice
from harness.devices.link import Link
from harness.devices.worker import Worker
from harness.graph.build import GraphBuilder
from harness.graph.inputs import random_inputs
from harness.graph.model import Model
from harness.latency.compare import compare_interleaved_rounds
from harness.latency.measure import Measured, Plan, Subject, measure
from harness.latency.record import Cell
from harness.latency.stats import Compared
from harness.latency.validity import flaws, steady_rounds

console = Console(highlight=False, soft_wrap=True)

LIMITS = {"cpu": 0.02, "gpu": 0.05}
BARE_LAYERS = {"cpu": 160, "gpu": 4}
BARE_SAMPLES = {"cpu": 900, "gpu": 360}
PROCESSES = 6
"""Where a compiled model lies in memory makes one up to 5 % slower than the next, of the same loop too."""
FALSE_LIMIT, FOUND_LIMIT = 2, 38


def layers(count: int, width: int = 256) -> Model:
    """A stack of fully connected layers with a TANH each: time is proportional to their number."""
    graph = GraphBuilder()
    hidden = graph.input("x", (1, 64, width))
    rng = np.random.default_rng(0)
    for _ in range(count):
        weights = (rng.standard_normal((width, width)) / np.sqrt(width)).astype(np.float32)
        hidden = graph.unary("TANH", graph.fully_connected(hidden, weights))
    graph.output(hidden, "y")
    return graph.build()


def subject(model: Model, device: str, accelerator: str, inputs: dict[str, Any] | None = None) -> Subject:
    options = Options(accelerator="gpu" if accelerator == "gpu" else "cpu", threads=1 if accelerator == "cpu" else 0)
    cell = Cell("layers", model.sha256, device, accelerator, threads=options.threads)
    return Subject(cell, model, random_inputs(model.graph(), 0) if inputs is None else inputs, options)


class Inside:
    """A launcher whose worker is a thread of this process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._there: Link | None = None

    def start(self) -> Link:
        here, there = socket.socketpair()
        self._there = Link(there)
        threading.Thread(target=Worker(self._there, self._folder).serve, daemon=True).start()
        return Link(here)

    def death(self) -> tuple[str, str] | None:
        return None

    def lost(self, reason: str) -> str:
        return reason

    def kill(self) -> None:
        if self._there is not None:
            self._there.close()

    def log(self, mark: int) -> str:
        return ""

    def log_mark(self) -> int:
        return 0


class Bare(Device):
    """What a person would write: a CompiledModel, and a clock around write, run and read."""

    def __init__(self, folder: Path) -> None:
        super().__init__("bare", "bare", Inside(folder))
        self._folder = folder
        self._model: Any = None

    def run(self, job: Job, sink: Sink | None = None) -> Outcome:
        from ai_edge_litert import compiled_model as cm

        compiled = self._model is None
        if compiled:
            path = self._folder / "bare.tflite"
            path.write_bytes(job.model)
            if job.options.accelerator == "gpu":
                options = cm.Options(cm.HardwareAccelerator.GPU, gpu_options=cm.GpuOptions(enforce_f32=False))
            else:
                threads = cm.CpuOptions(num_threads=job.options.threads)
                options = cm.Options(cm.HardwareAccelerator.CPU, cpu_options=threads)
            self._model = cm.CompiledModel.from_file(str(path), options=options)
            self._ins, self._outs = self._model.create_input_buffers(0), self._model.create_output_buffers(0)
        (values,) = job.inputs.values()
        (port,) = job.outputs
        flat = np.ascontiguousarray(values).reshape(-1)
        count = port.nbytes // port.dtype.itemsize
        samples = []
        result: Any = None
        for i in range(job.warmup + job.iterations):
            began = time.perf_counter_ns()
            self._ins[0].write(flat)
            self._model.run_by_index(0, self._ins, self._outs)
            result = self._outs[0].read(count, np.float32)
            if i >= job.warmup:
                samples.append(Sample(0, time.perf_counter_ns() - began, 0))
        outputs = {port.name: np.asarray(result).reshape(port.shape)}
        return Completed(outputs, Residency(True), tuple(samples), 0, compiled, "", "", "")


def bare(seconds: float) -> bool:
    """bench's p50 and the loop's, in turns in one process; several processes, in which each comes first as often."""
    met = True
    for accelerator, limit in LIMITS.items():
        ratios, medians = [], []
        for number in range(PROCESSES):
            words = ["-m", "benchmarks.latency", "once", "--accelerator", accelerator, "--seconds", str(seconds)]
            words += ["--swap"] if number % 2 else []
            done = subprocess.run([sys.executable, *words], stdout=subprocess.PIPE, text=True, timeout=900, check=False)
            if done.returncode:
                raise SystemExit(f"A process of `bare` ended with exit code {done.returncode}; see above.")
            told = json.loads(done.stdout.strip().splitlines()[-1])
            ratios.append(told["ratio"])
            medians.append(told["p50"])
        off = float(np.exp(np.mean(np.log(ratios)))) - 1
        met &= abs(off) <= limit
        ours, loop = np.median(medians, axis=0)
        console.print(
            f"[{'green' if abs(off) <= limit else 'red'}]{'met' if abs(off) <= limit else 'MISSED'}[/] {accelerator}: "
            f"bench's p50 is off the loop's by {off:+.2%} in the same rounds, over {PROCESSES} processes "
            f"({min(ratios) - 1:+.1%} to {max(ratios) - 1:+.1%}; limit {limit:.0%}); p50 {ours:.4g} and {loop:.4g} ms"
        )
    return met


def once(accelerator: str, seconds: float, swap: bool) -> None:
    """One process of `bare`: the median over the rounds of the ratio of their medians, and both p50 in ms, as JSON."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        kinds: dict[str, Callable[[], Device]] = {
            "bench": lambda: Device("bench", "host", Inside(folder)),
            "bare": lambda: Bare(folder),
        }
        model = layers(BARE_LAYERS[accelerator])
        pair = [subject(model, name, accelerator) for name in sorted(kinds, reverse=not swap)]
        plan = Plan(samples=BARE_SAMPLES[accelerator], seconds=seconds, rounds=36, replications=1)
        found = {one.subject.cell.device: one for one in measure(pair, plan, lambda name: kinds[name]())}
    ours, loop = (steady_rounds(found[name].timed()) for name in ("bench", "bare"))
    ratio = float(np.median([np.median(ours[r]) / np.median(loop[r]) for r in ours if r in loop]))
    p50 = [float(np.median(np.concatenate(list(rounds.values())))) / 1e6 for rounds in (ours, loop)]
    sys.stdout.write(json.dumps({"ratio": ratio, "p50": p50}) + "\n")


def compared(new: Measured, old: Measured) -> Compared:
    """Two cells that had their turns in the same rounds."""
    return compare_interleaved_rounds(steady_rounds(new.timed()), steady_rounds(old.timed()))


def verdicts(count: int, plan: Plan, keep: Path | None) -> bool:
    """A model against itself and against one with a tenth more layers, all three in turns, `count` times."""
    model, slower = layers(20), layers(22)
    same: list[str] = []
    planted: list[str] = []
    ratios: list[float] = []
    invalid: list[str] = []
    kept: list[Any] = []
    for number in range(count):
        cells = [subject(model, "host", "cpu"), subject(model, "host", "cpu"), subject(slower, "host", "cpu")]
        first, again, more = measure(cells, plan, lambda name: HostDevice(name))
        same.append(compared(again, first).verdict)
        found = compared(more, first)
        planted.append(found.verdict)
        ratios.append(found.ratio.value if found.ratio else float("nan"))
        invalid.append(", ".join(dict.fromkeys(flaw.reason for flaw in flaws(first, first.timed()))) or "valid")
        kept.append(
            [[list(map(float, v)) for v in steady_rounds(one.timed()).values()] for one in (first, again, more)]
        )
        console.print(f"[dim]{number + 1}: {same[-1]}; planted {planted[-1]} {found.why}; the run is {invalid[-1]}[/]")
    if keep is not None:
        keep.write_text(json.dumps(kept))
    wrong = sum(word in ("faster", "slower") for word in same)
    right = planted.count("slower")
    words = ", ".join(f"{same.count(word)} {word}" for word in dict.fromkeys(same))
    console.print(f"Against itself: {words}. With a tenth more layers: {right} of {count} slower.")
    console.print(f"Planted ratio as measured: median {np.median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}.")
    console.print(f"Runs as `bench` would mark them: {sum(word == 'valid' for word in invalid)} of {count} valid.")
    met = [(f"false verdicts {wrong}, limit {FALSE_LIMIT} of 40", wrong * 40 <= FALSE_LIMIT * count)]
    met += [(f"slowdowns found {right}, limit {FOUND_LIMIT} of 40", right * 40 >= FOUND_LIMIT * count)]
    for sentence, ok in met:
        console.print(f"[{'green' if ok else 'red'}]{'met' if ok else 'MISSED'}[/] {sentence}")
    return all(ok for _, ok in met)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("what", choices=["bare", "verdicts", "models", "once"], help="`once`: a process of `bare`")
    parser.add_argument("--count", type=int, default=40, help="comparisons of each kind")
    parser.add_argument("--seconds", type=float, default=None, help="for each cell")
    parser.add_argument(
        "--which", nargs="+", choices=["image", "video"], default=["image", "video"], help="of `models`"
    )
    parser.add_argument("--keep", type=Path, default=None, help="write the rounds of `verdicts` there, as JSON")
    parser.add_argument("--accelerator", choices=sorted(LIMITS), default="cpu", help="of `once`")
    parser.add_argument("--swap", action="store_true", help="the other one first, in `once`")
    given = parser.parse_args()
    plan = Plan(samples=720, seconds=1.0, rounds=36, replications=1)
    if given.seconds is not None:
        plan = replace(plan, seconds=given.seconds)
    if given.what == "once":
        once(given.accelerator, given.seconds or 2.0, given.swap)
        return 0
    if given.what == "bare":
        return 0 if bare(given.seconds or 2.0) else 1
    if given.what == "verdicts":
        return 0 if verdicts(given.count, plan, given.keep) else 1
    from benchmarks.latency_models import compare_models

    return 0 if compare_models(console, given.seconds or 10.0, given.which) else 1


if __name__ == "__main__":
    sys.exit(main())
