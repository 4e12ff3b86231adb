"""`python -m benchmarks quantized`: healthy and faulty quantized models, on this machine's CPU and GPU.

40 models of five kinds, made by LiteRT's quantizer in four ways (`benchmarks.quantized_models`), are localized as they
are, on both accelerators: whatever is named there is a false accusation. Then a fault is planted in each of them, at an
op drawn at random, into the model that the device gets: its kernels and their rounding are the real ones. A fault
counts where it moves an output of the device by more than `HARM` of its RMS; one that does not, or that the GPU refuses
to run, is drawn anew. It is named where the answer has its op, and no other.

The GPU takes no 16-bit activations; these models run on the CPU alone.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console

from benchmarks.quantized_models import Quantized, quantized_models
from harness.core.arrays import Array
from harness.core.choices import Accelerator
from harness.core.job import Completed, Job, Options, Outcome
from harness.core.run_folder import RunFolder
from harness.devices.base import Sink
from harness.devices.execute import make_job
from harness.devices.host.device import HostDevice
from harness.graph.model import Model
from harness.graph.surgery import MOVING_OPS
from harness.localize.base.case import Case
from harness.localize.base.comparison import Workbench
from harness.localize.base.result import Localization
from harness.localize.find.localizer import localize
from harness.numerics.metrics import compare
from tests.localize.planted import GROUP, OPERAND, SCALED, SHIFTED, Fault, applies, with_faults

HARM = 0.05
FAULTS = (SCALED, OPERAND, GROUP, SHIFTED)
TIMEOUT = 120.0
MOST_DRAWS = 40
LEAST_NAMED = 38


class Faulty(HostDevice):
    """This machine, with a fault wherever it computes one tensor of a model."""

    def __init__(self, original: Model, tensor: int, fault: Fault) -> None:
        super().__init__("host")
        self._original, self._faults = original.graph(), {tensor: fault}

    def run(self, job: Job, sink: Sink | None = None) -> Outcome:
        model = with_faults(Model.from_bytes(job.model), self._original, self._faults)
        made = make_job(model, job.inputs, job.options, timeout=job.timeout)
        return super().run(replace(job, model=made.model, sha256=made.sha256), sink)


@dataclass(frozen=True)
class Planted:
    """Where a fault sits, and how far it moves the worst output, as a share of its RMS."""

    op: int
    tensor: int
    fault: Fault
    moved: float


def answered(device: HostDevice, host: HostDevice, quantized: Quantized, accelerator: Accelerator) -> Localization:
    """`harness localize` of one model, without explanations."""
    case = Case(quantized.model, quantized.inputs, Options(accelerator), TIMEOUT, quantized.seed)
    with tempfile.TemporaryDirectory() as folder, RunFolder.create(Path(folder), "localize", "m", "host") as run:
        return localize(Workbench(device, host, run), case)


def outputs_on(device: HostDevice, quantized: Quantized, accelerator: Accelerator) -> dict[str, Array] | None:
    """A model's outputs in real numbers; None where the device does not run it."""
    job = make_job(quantized.model, quantized.inputs, Options(accelerator), timeout=TIMEOUT)
    outcome = device.run(job)
    device.stop()
    if not isinstance(outcome, Completed):
        return None
    case = Case(quantized.model, quantized.inputs, Options(accelerator), TIMEOUT)
    return {n: v if (grid := case.grid_of(n)) is None else grid.real(v) for n, v in outcome.outputs.items()}


def plant(quantized: Quantized, right: dict[str, Array], accelerator: Accelerator, number: int) -> Planted | None:
    """The first harmful fault of a random sequence of them."""
    graph = quantized.model.graph()
    rng = np.random.default_rng(number)
    ops = [op for op in graph.ops if op.index not in graph.constant_ops and op.name not in MOVING_OPS]
    for draw in range(MOST_DRAWS):
        op = ops[int(rng.integers(len(ops)))]
        fault = FAULTS[(number + draw) % len(FAULTS)]
        if not applies(fault, quantized.model, graph, op.outputs[0]):
            continue
        device = Faulty(quantized.model, op.outputs[0], fault)
        try:
            wrong = outputs_on(device, quantized, accelerator)
        finally:
            device.close()
        moved = 0.0 if wrong is None else max(compare(wrong[n], right[n]).relative_rms for n in right)
        if moved > HARM:
            return Planted(op.index, op.outputs[0], fault, moved)
    return None


def main(words: list[str]) -> int:
    """The command; 0 when nothing healthy is accused and enough faults are named."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks quantized", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="models whose name has this in it")
    given = parser.parse_args(words)
    console = Console(width=None if sys.stdout.isatty() else 160)
    host, device = HostDevice("host"), HostDevice("host")
    began = time.monotonic()
    looked, accused, planted, named = 0, 0, 0, 0
    for number, quantized in enumerate(quantized_models()):
        if given.only not in quantized.name:
            continue
        title = f"{quantized.name}, seed {quantized.seed}"
        ran: list[tuple[Accelerator, dict[str, Array]]] = []
        accelerators: tuple[Accelerator, ...] = ("cpu", "gpu")
        for accelerator in accelerators:
            outputs = outputs_on(device, quantized, accelerator)
            if outputs is None:
                console.print(f"[dim]{title}: not taken by the {accelerator.upper()}[/]")
                continue
            ran.append((accelerator, outputs))
            answer = answered(device, host, quantized, accelerator)
            looked += 1
            worst = max(output.judgement.ratio for output in answer.outputs)
            quiet = answer.status == "pass"
            accused += not quiet
            word = "[green]right[/]" if quiet else f"[red]ACCUSED[/] {answer!r} {answer.notes}"
            console.print(f"{title} on the {accelerator.upper()}: {word}, worst output {worst:.2f}x")
        accelerator, right = ran[-1]
        found = plant(quantized, right, accelerator, number)
        if found is None:
            console.print(f"[dim]{title}: no fault that can be planted does harm[/]")
            continue
        planted += 1
        faulty = Faulty(quantized.model, found.tensor, found.fault)
        try:
            answer = answered(faulty, host, quantized, accelerator)
        finally:
            faulty.close()
        exact = [(c.record.first, c.record.index) for c in answer.culprits] == [(found.op, found.op)]
        named += exact
        op = quantized.model.graph().ops[found.op].name
        word = "[green]named[/]" if exact else f"[red]MISSED[/] {answer!r} {answer.notes}"
        sure = "" if answer.certified else ", not certified"
        what = f"{op} #{found.op} {found.fault.name} on the {accelerator.upper()}, {found.moved:.0%} off"
        console.print(f"{title}, {what}: {word}{sure}")
    for each in (host, device):
        each.close()
    met = not accused and named >= min(LEAST_NAMED, planted)
    console.print(
        f"[{'green' if met else 'red'}]{'met' if met else 'MISSED'}[/] {accused} accusations in {looked} localizations "
        f"of healthy models; {named} of {planted} faults named; {time.monotonic() - began:.0f} s"
    )
    return 0 if met else 1
