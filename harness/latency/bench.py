"""`harness bench`: measure all cells, judge each, write a run folder for each, compare."""

from __future__ import annotations

import hashlib
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

import numpy as np

from harness.core.arrays import Array
from harness.core.progress import SILENT, Progress
from harness.core.run_folder import RunFolder, read_run
from harness.devices.execute import output_ports
from harness.latency.accuracy import Judge
from harness.latency.compare import Baseline, Rounds, compare_across_runs, compare_within_run, same_choices
from harness.latency.conditions import worst
from harness.latency.measure import Measured, Open, Plan, Subject, measure
from harness.latency.per_op import per_op as stretches
from harness.latency.profiler import LEAST_INFERENCES, profile
from harness.latency.record import (
    SAMPLES_COLUMNS,
    Against,
    BenchResult,
    Distribution,
    Replication,
    TimedPart,
    TimedSample,
)
from harness.latency.stats import distribution
from harness.latency.validity import flaws, steady_rounds

COOL_DOWN_SECONDS = 30.0


@dataclass(frozen=True)
class BenchRequest:
    """What to measure, and what to make of it. `tries` above 1 waits `cool_down` seconds and measures everything again
    while a cell is invalid."""

    subjects: tuple[Subject, ...]
    plan: Plan
    out: Path = Path("results")
    inputs: str = ""
    against: tuple[Baseline, ...] = ()
    tries: int = 1
    cool_down: float = COOL_DOWN_SECONDS
    accuracy: bool = True


@dataclass(frozen=True)
class Benched:
    """One cell of one try: its result, its folder, and what `--against` came to."""

    result: BenchResult
    folder: Path
    rounds: Rounds = field(repr=False, default_factory=dict)


def bench(
    trial: BenchRequest, open_device: Open, progress: Progress = SILENT, *, per_op: bool = False
) -> list[tuple[Benched, ...]]:
    """Every try, the last one last; each try's cells are in the order of `trial.subjects`. `per_op` times stretches of
    ops of the last try's cells too, and asks the runtime's profiler.

    Raises:
        HarnessError: a device is not there or does not complete, or a folder cannot be written. The folders of cells
            that were not done say so, and keep the samples they have.
    """
    commit = current_commit()
    judge = Judge(trial.plan.timeout)
    tries: list[tuple[Benched, ...]] = []
    for number in range(1, trial.tries + 1):
        tries.append(_once(trial, number, commit, judge, open_device, progress))
        if all(one.result.valid for one in tries[-1]) or number == trial.tries:
            break
        progress.stage(f"cooling down for {trial.cool_down:g} s", trial.cool_down)
        time.sleep(trial.cool_down)
    if per_op:
        tries[-1] = tuple(
            _with_stretches(one, subject, trial, open_device, progress)
            for one, subject in zip(tries[-1], trial.subjects, strict=True)
        )
    return tries


def _with_stretches(
    one: Benched, subject: Subject, trial: BenchRequest, open_device: Open, progress: Progress
) -> Benched:
    plan = replace(trial.plan, samples=max(trial.plan.samples // 4, 48), seconds=trial.plan.seconds / 4)
    found = stretches(subject, plan, open_device, progress)
    total = one.result.latency.get("total")
    seconds = max(plan.seconds, LEAST_INFERENCES * total.p50.value / 1e3 if total else 0)
    progress.stage(f"the runtime's profiler, {subject.cell.label}", 2 + seconds)
    result = replace(one.result, per_op=found, profile=profile(subject, plan))
    RunFolder(one.folder, read_run(one.folder)).save(result=result.to_json())
    return replace(one, result=result)


def _once(
    trial: BenchRequest, number: int, commit: str, judge: Judge, open_device: Open, progress: Progress
) -> tuple[Benched, ...]:
    with ExitStack() as stack:
        folders = [
            stack.enter_context(start_folder("bench", trial.out, subject, trial.inputs, trial.plan.timeout))
            for subject in trial.subjects
        ]
        ident = folders[0].path.name
        place = {subject.cell: folder for subject, folder in zip(trial.subjects, folders, strict=True)}

        def keep(measured: Measured) -> None:
            place[measured.subject.cell].replace_rows(
                "samples.csv", SAMPLES_COLUMNS, [sample.row() for sample in measured.timed()]
            )

        began = time.monotonic()
        all_measured = measure(trial.subjects, trial.plan, open_device, progress, keep)
        seconds = time.monotonic() - began
        done: list[Benched] = []
        for measured, folder in zip(all_measured, folders, strict=True):
            if trial.accuracy:
                progress.stage(f"accuracy of {measured.subject.cell.label}", 5.0)
            found = judge.errors(measured.subject, measured.outputs) if trial.accuracy else None
            timed = measured.timed()
            result = replace(
                summarize(measured, timed),
                accuracy=found,
                commit=commit,
                attempt=number,
                bench_id=ident,
                seconds=seconds,
            )
            rounds = steady_rounds(timed)
            result = replace(result, against=_comparisons(result, rounds, done, trial.against))
            folder.log(measured.log)
            device = measured.device | {"name": result.cell.device, "runtime": result.runtime, "gpu": result.gpu}
            folder.save(status="done", device=device, seconds=seconds, result=result.to_json())
            done.append(Benched(result, folder.path, rounds))
        return tuple(done)


def _comparisons(
    result: BenchResult, rounds: Rounds, before: Sequence[Benched], baselines: Sequence[Baseline]
) -> tuple[Against, ...]:
    """With the first cell of the same model, and with the runs that were named: those of the same choices, or all
    where none has them."""
    first = [one for one in before if one.result.cell.model_sha256 == result.cell.model_sha256][:1]
    found = [compare_within_run(result, rounds, Baseline(one.folder, one.result, one.rounds)) for one in first]
    alike = [b for b in baselines if same_choices(result.cell, b.result.cell)]
    return (*found, *(compare_across_runs(result, rounds, b) for b in alike or baselines))


def start_folder(command: str, out: Path, subject: Subject, inputs: str, timeout: float) -> RunFolder:
    """The run folder of a cell, with what is asked. Raises StorageError."""
    cell = subject.cell
    folder = RunFolder.create(out, command, cell.model, f"{cell.device}-{cell.label}")
    folder.save(
        model={"path": cell.model, "sha256": cell.model_sha256, "ops": len(subject.model.graph().ops)}
        | ({"file_sha256": subject.file_sha256} if subject.file_sha256 else {}),
        device={"name": cell.device, "kind": "", "runtime": "", "gpu": ""},
        options={
            "accelerator": cell.accelerator,
            "precision": cell.precision,
            "backend": cell.backend,
            "threads": cell.threads,
            "inputs": inputs,
            "signature": None,
            "timeout_s": timeout,
        },
        provenance=None,
    )
    return folder


def summarize(measured: Measured, timed: Sequence[TimedSample]) -> BenchResult:
    """What the samples of a cell come to; accuracy and comparisons are added by the caller."""
    subject = measured.subject
    steady = [s for s in timed if s.phase == "steady"]
    first = measured.processes[0].first
    residency = first.residency
    peaks = [p.peak for p in measured.processes if p.peak is not None]
    on_cpu = subject.options.accelerator in ("cpu", "reference")
    found = flaws(measured, list(timed))
    return BenchResult(
        cell=subject.cell,
        invalid=found,
        latency=latency(steady),
        replications=_replications(measured),
        rounds=len({(s.replication, s.round) for s in steady}),
        seconds=0.0,
        peak_bytes=max(peaks, default=None),
        written_bytes=sum(values.nbytes for values in subject.inputs.values()),
        read_bytes=sum(port.nbytes for port in output_ports(subject.model)),
        delegated=residency.delegated,
        nodes=residency.total,
        resident=None if on_cpu else residency.full and not any(f.reason == "fallback" for f in found),
        accuracy=None,
        conditions=worst([r.conditions for r in measured.rounds[1:]]),
        inputs_sha256=inputs_sha256(subject.inputs),
        runtime=first.runtime,
        gpu=first.adapter,
        system=measured.system,
        boot_id=first.boot_id,
        commit="",
    )


def latency(steady: Sequence[TimedSample]) -> dict[TimedPart, Distribution]:
    """Percentiles of each part, in milliseconds. Raises ValueError when there is no sample."""
    take: dict[TimedPart, Callable[[TimedSample], int]] = {
        "write": lambda s: s.write_ns,
        "run": lambda s: s.run_ns,
        "readback": lambda s: s.read_ns,
        "total": lambda s: s.total_ns,
    }
    found: dict[TimedPart, Distribution] = {}
    for part, time_of in take.items():
        rounds: dict[tuple[int, int], list[float]] = {}
        for sample in steady:
            rounds.setdefault((sample.replication, sample.round), []).append(time_of(sample) / 1e6)
        found[part] = distribution([np.asarray(values) for values in rounds.values()])
    return found


def _replications(measured: Measured) -> tuple[Replication, ...]:
    found = []
    for process in measured.processes:
        totals = [s.total_ns for s in process.timed() if s.phase == "steady"]
        opening = process.rounds[0]
        found.append(
            Replication(
                compile_ms=process.first.compile_ns / 1e6,
                first_ms=sum(s.write_ns + s.run_ns + s.read_ns for s in opening.samples) / 1e6,
                warmup=process.warmup,
                samples=len(totals),
                p50_ms=median(totals) / 1e6 if totals else float("nan"),
                peak_bytes=process.peak,
                boot_id=opening.boot_id,
                runtime=opening.runtime,
            )
        )
    return tuple(found)


def inputs_sha256(inputs: dict[str, Array]) -> str:
    """A digest of the arrays with their names, types and shapes."""
    digest = hashlib.sha256()
    for name in sorted(inputs):
        values = inputs[name]
        digest.update(f"{name}\0{values.dtype.str}\0{values.shape}\0".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def current_commit() -> str:
    """The commit that the working folder is at; empty where there is no git repository."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
