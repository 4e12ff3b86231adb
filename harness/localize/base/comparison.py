"""The untouched model on the device against the reference: shared by `compare`, `dump` and `localize`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from harness.core.arrays import Array, TensorIndex
from harness.core.beside import beside
from harness.core.errors import DeviceRefused, NoReference, UnresolvedError, UsageError
from harness.core.job import Completed
from harness.core.progress import SILENT, Progress
from harness.core.run_folder import RunFolder
from harness.core.visible import html_table, visible
from harness.devices.base import Device
from harness.devices.refusal import shader_fault
from harness.devices.residency import other_backend
from harness.graph import surgery
from harness.localize.base.case import Case
from harness.localize.base.host_runs import run_ideal
from harness.localize.base.ideals import Ideals
from harness.localize.base.outputs import judge_outputs, judge_run
from harness.localize.base.reference import Peaks, output_label, run_device, run_reference
from harness.localize.base.remarks import remarks, sentence
from harness.localize.base.result import OutputVerdict, at, residency_json
from harness.localize.base.tails import Tails
from harness.numerics import fp16, fp32
from harness.numerics.metrics import compare, one_error

# Guesses for the time left, from a two-core machine with a software GPU: seconds for each op compiled and tapped.
COMPILE_SECONDS = 0.07
TAP_SECONDS = 0.05

# Runs of a model of which two differed, as long as the further ones take no longer than this.
UNSTEADY_RUNS = 8
MOST_SECONDS = 30.0


@dataclass(frozen=True)
class Workbench:
    """Where models are measured: the device under test, the host for references, the run folder, the listener."""

    device: Device
    host: Device
    run: RunFolder
    progress: Progress = SILENT


@dataclass(frozen=True, repr=False)
class ModelComparison:
    """The model's outputs judged. `ideal` holds an ideal device's outputs, `beyond` the tensors whose exact values
    leave float16's range (in float32: that cannot be rounded). `differs` tells in a clause by which output a second
    run of the same differed from the first by more than rounding; it is empty when none did. Where one did,
    `wrong_runs` has the outputs of the runs that were wrong. `folder` is where the run is kept. `notes` are
    sentences on what the comparison rests on, and on what weakens it; `half`: the device stores float16; `drawn`:
    the inputs are random numbers."""

    outputs: tuple[OutputVerdict, ...]
    done: Completed
    ideal: dict[str, Ideals]
    beyond: frozenset[TensorIndex]
    differs: str = ""
    wrong_runs: tuple[dict[str, Array], ...] = ()
    notes: tuple[str, ...] = ()
    half: bool = True
    drawn: bool = False
    folder: Path | None = None

    def __repr__(self) -> str:
        return visible(f"<ModelComparison: {self.sentence()}{at(self.folder)}>")

    def _repr_html_(self) -> str:
        rows = [(o.name, o.verdict, f"{o.judgement.ratio:.3g}", f"{o.judgement.limit:g}") for o in self.outputs]
        return html_table(self.sentence(), ("output", "verdict", "error over expected", "limit"), rows, self.notes)

    def sentence(self) -> str:
        """The verdict in a sentence."""
        return sentence(self.outputs, half=self.half)

    @property
    def ok(self) -> bool:
        """Whether every output passes, both times."""
        return all(output.ok for output in self.outputs) and not self.differs

    @property
    def explained(self) -> bool:
        """Whether rounding explains every output, both times."""
        return all(output.explained for output in self.outputs) and not self.differs

    def to_json(self) -> dict[str, Any]:
        """`compare --json`, schema 1."""
        return {
            "schema": 1,
            "status": "pass" if self.ok else "fail",
            "outputs": [output.to_json() for output in self.outputs],
            "residency": residency_json(self.done.residency),
            "repeatable": not self.differs,
            "notes": list(self.notes),
        }


def compare_model(
    bench: Workbench, case: Case, *, keep: bool = False, runs: int = 2, first: Completed | None = None
) -> ModelComparison:
    """Reference, ideal device, device twice: one that is right only the first time, or never the same, is not right.
    Where two runs differ, some more tell how often it is wrong; `runs` asks for as many in any case, and `first` is
    the untouched model's run where it was made before. With `keep` the reference's intermediates stay in the folder.

    Raises:
        UsageError: an output has no elements. DeviceError: the reference or the untouched model does not complete.
    """
    for port in case.graph.outputs:
        if case.graph.tensors[port.tensor].shape is not None and not case.graph.tensors[port.tensor].elements:
            raise UsageError(f"Output '{port.name}' has no elements.", "A comparison of nothing says nothing.")
    with _first_run(bench, case, first) as first_run:
        known = references(bench, case, keep)
        bench.progress.stage(f"untouched model on {bench.device.name}", 2 + len(case.graph.ops) * COMPILE_SECONDS)
        done = first_run()
    ideal, beyond = known.ideal, known.beyond
    if case.placement is not None:
        done = replace(done, residency=case.placement.counted)
    bench.run.log(done.log)
    bench.run.save(
        shader=shader_fault(done.log), other_backend=other_backend(done.log, case.options.backend, done.adapter)
    )
    bench.run.samples(done.samples, "first")
    outputs = judge_outputs(case, done.outputs, ideal, bench.run.tensors)
    with_tails = Tails(bench.host, case, beyond).beside(ideal, outputs, known.exact)
    if with_tails is not ideal:
        ideal, outputs = with_tails, judge_run(case, done.outputs, with_tails, bench.run.tensors)
        bench.host.stop()
    bench.run.save(outputs=[output.to_json() for output in outputs])
    said = remarks(case, outputs, ideal, bench.run.tensors)
    found = ModelComparison(outputs, done, ideal, beyond, notes=said, half=case.options.half, drawn=case.drawn)
    seconds = (done.samples[0].run_ns + done.samples[0].read_ns) / 1e9
    bench.progress.stage(f"the same again on {bench.device.name}", 0.5 + seconds / 2)
    again = run_device(bench.device, case)
    bench.run.samples(again.samples, "second")
    return _asked_again(bench, case, found, again.outputs, runs)


@dataclass(frozen=True)
class References:
    """What the device is compared with: ideal devices' outputs, tensors beyond its range, the exact outputs, and the
    largest magnitude of each tensor."""

    ideal: dict[str, Ideals]
    beyond: frozenset[TensorIndex]
    exact: dict[str, Array]
    peaks: Peaks


@contextmanager
def _first_run(bench: Workbench, case: Case, made: Completed | None) -> Iterator[Callable[[], Completed]]:
    """The untouched model's run on the device, when it is called for; while the block goes on where that is another
    machine."""
    if made is not None:
        yield lambda: made
        return
    run = partial(run_device, bench.device, case)
    if not bench.device.elsewhere:
        yield run
        return
    # What may take minutes and cannot be ended from here comes first: waiting for the phone, building, installing.
    bench.device.facts()
    with beside(run, bench.device.stop) as future:
        yield future.result


def references(bench: Workbench, case: Case, keep: bool) -> References:
    """The host's own runs, for which the bench needs no device under test. Raises as :func:`compare_model`."""
    tensors = surgery.tappable(case.graph)
    size = sum(case.graph.tensors[t].nbytes for t in tensors)
    bench.progress.stage("reference on the host CPU", 1 + size / 150e6)
    peaks = run_reference(bench.host, case, bench.run.tensors, tensors, keep=keep)
    _check_reference(bench, case)
    largest = fp16.LARGEST if case.options.half else fp32.LARGEST
    beyond = frozenset(t for t, peak in peaks.finite.items() if peak > largest)
    if not case.options.half:
        beyond |= peaks.unbounded
    bench.progress.stage(f"what float{16 if case.options.half else 32} explains", 1 + len(case.graph.ops) / 200)
    as_given = frozenset(port.name for port in case.graph.inputs if port.tensor in case.never_stored)
    try:
        ideal = run_ideal(
            case, bench.host, case.model, case.inputs, beyond | case.never_stored, "running the ideal device", as_given
        )
    except DeviceRefused as error:
        half = case.options.half
        rounds = "float16 rounds whole numbers above 2,048" if half else "A GPU may round large whole numbers"
        raise NoReference(
            f"The model does not run on these inputs once they are rounded as a GPU stores them: "
            f"{error.reason.rstrip('.')}.",
            f"{rounds}: take ids and places as integers when exporting"
            f"{', or compare with --precision fp32' if half else ''}.",
            error.log,
        ) from None
    exact = {port.name: bench.run.tensors.get(output_label(port.name), "reference") for port in case.graph.outputs}
    ideal = case.with_single(bench.host, ideal, exact, beyond | peaks.unbounded)
    bench.host.stop()  # its memory is wanted on the device's side now
    return References(ideal, beyond, exact, peaks)


def _asked_again(
    bench: Workbench, case: Case, found: ModelComparison, second: dict[str, Array], runs: int
) -> ModelComparison:
    """With what the second run says, and further ones."""
    sample = found.done.samples[0]
    # By the first run's time as it was recorded, so that a continued run asks as many.
    affordable = 2 + int(MOST_SECONDS / max((sample.write_ns + sample.run_ns + sample.read_ns) / 1e9, 1e-3))
    verdicts, wrong_runs, differs = [found.outputs], [], ""
    if not all(o.explained for o in found.outputs):
        wrong_runs.append(found.done.outputs)
    outputs = second
    while True:
        verdict = judge_run(case, outputs, found.ideal, bench.run.tensors)
        verdicts.append(verdict)
        if not all(o.explained for o in verdict):
            wrong_runs.append(outputs)
        differs = differs or changed_output(bench, case, found, outputs) or _other_verdict(found.outputs, verdict)
        if len(verdicts) >= max(runs, min(UNSTEADY_RUNS, affordable) if differs else 2):
            break
        bench.progress.stage(f"run {len(verdicts) + 1} on {bench.device.name}", 1.0)
        outputs = run_device(bench.device, case).outputs
    if len(verdicts) == 2 and not differs:
        return found
    wrong = [sum(not run[i].explained for run in verdicts) for i in range(len(found.outputs))]
    counted = tuple(replace(o, runs=(k, len(verdicts))) for o, k in zip(found.outputs, wrong, strict=True))
    bench.run.save(outputs=[output.to_json() for output in counted])
    return replace(found, outputs=counted, differs=differs, wrong_runs=tuple(wrong_runs) if differs else ())


def _other_verdict(first: Sequence[OutputVerdict], again: Sequence[OutputVerdict]) -> str:
    """Which output was right in one run and wrong in the other, in a clause."""
    for one, other in zip(first, again, strict=True):
        if one.explained != other.explained:
            return f"'{one.name}' (right in one run, wrong in another)"
    return ""


def changed_output(
    bench: Workbench,
    case: Case,
    first: ModelComparison,
    outputs: dict[str, Array],
    against: dict[str, Array] | None = None,
    *,
    fused_otherwise: bool = False,
) -> str:
    """Which output differs by more than rounding from the untouched model's first run, or from the run `against`, in a
    clause; empty when none. Another compile may be `fused_otherwise`: it rounds otherwise from the first op on, a sum
    that loses digits makes more of that, and an output that is wrong by the same error is not changed."""
    for name, values in outputs.items():
        before = (against or first.done.outputs)[name]
        seen = compare(values, before)
        if seen.identical:
            continue
        grid = case.grid_of(name)
        if (values.dtype.kind != "f" and grid is None) or seen.nonfinite_mismatch:
            return f"'{name}'"
        exact, held, now = bench.run.tensors.get(output_label(name), "reference"), before, values
        if grid is not None:
            exact, held, now = grid.real(exact), grid.real(before), grid.real(values)
        change = case.judge(values, first.ideal[name].around(held, exact), before, grid=grid)
        if fused_otherwise and not change.ok:
            wrong = next(o for o in first.outputs if o.name == name)
            with np.errstate(invalid="ignore", over="ignore"):
                if not wrong.ok and one_error(held - exact, now - exact):
                    continue
        if not change.ok:
            times = f"{change.ratio:.0f}x" if math.isfinite(change.ratio) else "far more than"
            return f"'{name}' ({times} what rounding explains)"
    return ""


def _check_reference(bench: Workbench, case: Case) -> None:
    """A reference that is nowhere finite has nothing to compare with. Raises UnresolvedError."""
    for port in case.graph.outputs:
        exact = bench.run.tensors.get(output_label(port.name), "reference")
        if exact.dtype.kind == "f" and not np.isfinite(exact).any():
            raise UnresolvedError(
                f"The host's own result for output '{port.name}' is NaN or infinite throughout.",
                "Give other inputs with --inputs, or mend the model.",
            )
