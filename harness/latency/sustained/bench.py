"""`harness bench --sustained`: load one cell for minutes, judge it, and write its run folder as it goes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import HarnessError, UsageError
from harness.core.progress import SILENT, Progress
from harness.core.run_folder import RunFolder
from harness.devices.android.ready import MODERATE
from harness.latency.accuracy import Judge
from harness.latency.bench import current_commit, inputs_sha256, start_folder
from harness.latency.conditions import severity, worst
from harness.latency.measure import Measured, Open, Subject, total
from harness.latency.record import SAMPLES_COLUMNS, OutputError, TimedSample
from harness.latency.sustained.judge import judge, windows
from harness.latency.sustained.record import Stint, SustainedResult, Warmth, Window
from harness.latency.sustained.run import Load, Stretched, SustainedPlan, sustain
from harness.latency.validity import sustained_flaws

COMMAND = "bench --sustained"
PICTURE = "staircase.svg"
SAVE_SECONDS = 60.0
"""What the samples come to by now is written where a process begins, at most so often: for who finds the folder after a
kill. It takes a second, in which the device has nothing to do."""


@dataclass(frozen=True)
class Sustained:
    """The result and its folder."""

    result: SustainedResult
    folder: Path


@dataclass(frozen=True)
class SustainedRequest:
    """What to load, for how long, and where to write it."""

    subjects: tuple[Subject, ...]
    plan: SustainedPlan
    out: Path = Path("results")
    inputs: str = ""
    accuracy: bool = True

    @property
    def subject(self) -> Subject:
        """The one cell. Raises UsageError where there are several: each would heat the device for the next."""
        if len(self.subjects) != 1:
            raise UsageError(
                f"--sustained loads one cell, and these are {len(self.subjects)}.",
                "Give one model, one device and one of each choice, and let the device cool down in between.",
            )
        return self.subjects[0]


class StoppedShort(HarnessError):
    """The load ended early by the device's fault; what was measured is in `sustained`."""

    def __init__(self, error: HarnessError, sustained: Sustained) -> None:
        minutes = sustained.result.measured_minutes
        kept = f"{minutes:.3g} of {sustained.result.minutes:g} minutes are kept in {sustained.folder}."
        super().__init__(f"{error.message} {kept}", error.next_step)
        self.exit_code = error.exit_code
        self.sustained = sustained


def bench_sustained(asked: SustainedRequest, open_device: Open, progress: Progress = SILENT) -> Sustained:
    """Load the cell and judge it. A run that is interrupted or that the device ends keeps its samples, its staircase
    and what they come to.

    Raises:
        UsageError: there are several cells, or the device's times say nothing of latency.
        StoppedShort: the device went away for longer than it is waited for, or fails again and again.
        DeviceError: it is not there at all, or refuses the model.
    """
    subject, commit = asked.subject, current_commit()
    load, saved = Load(Measured(subject)), 0.0
    with start_folder(COMMAND, asked.out, subject, asked.inputs, asked.plan.timeout) as folder:

        def keep(rows: Sequence[TimedSample]) -> None:
            nonlocal saved
            folder.rows("samples.csv", SAMPLES_COLUMNS, [row.row() for row in rows])
            if rows[0].phase == "first" and load.batches and load.seconds - saved >= SAVE_SECONDS:
                saved = load.seconds
                _kept(folder, load, asked.plan, None, commit, complete=False)

        try:
            sustain(load, asked.plan, open_device, keep, progress)
        except HarnessError as error:
            if not load.batches:
                raise
            kept = _kept(folder, load, asked.plan, None, commit, complete=False)
            raise StoppedShort(error, kept) from None
        except BaseException:  # Ctrl-C
            if load.batches:
                with suppress(HarnessError):
                    kept = _kept(folder, load, asked.plan, None, commit, complete=False)
                    minutes = f"{kept.result.measured_minutes:.3g} of {kept.result.minutes:g} minutes"
                    progress.note(f"After {minutes}: {kept.result.status}. {kept.result.why} See {kept.folder}.")
            raise
        finally:
            with suppress(HarnessError):
                folder.log(load.measured.log)
        kept = _kept(folder, load, asked.plan, None, commit, complete=True)
        if not asked.accuracy:
            return kept
        progress.stage(f"accuracy of {subject.cell.label}", 5.0)
        found = Judge(asked.plan.timeout).errors(subject, load.measured.outputs)
        return _kept(folder, load, asked.plan, found, commit, complete=True)


def _kept(
    folder: RunFolder,
    load: Load,
    plan: SustainedPlan,
    accuracy: tuple[OutputError, ...] | None,
    commit: str,
    *,
    complete: bool,
) -> Sustained:
    result = summarize(load, plan, accuracy, commit, complete=complete)
    from harness.latency.sustained.plot import write_plot  # matplotlib takes a second, and other benchmarks have no use

    write_plot(result, folder.path / PICTURE)
    device = load.measured.device | {"name": result.cell.device, "runtime": result.runtime, "gpu": result.gpu}
    folder.save(device=device, seconds=result.seconds, result=result.to_json())
    return Sustained(result, folder.path)


def summarize(
    load: Load, plan: SustainedPlan, accuracy: tuple[OutputError, ...] | None, commit: str, *, complete: bool
) -> SustainedResult:
    """What was seen so far. There is at least one process."""
    measured, seen = load.measured, windows(load.batches)
    found = judge(seen)
    first = measured.processes[0].first
    return SustainedResult(
        cell=measured.subject.cell,
        status=found.word,
        why=found.why,
        complete=complete,
        invalid=sustained_flaws(measured),
        minutes=plan.minutes,
        measured_minutes=(load.seconds - load.away - _still_away(load)) / 60,
        seconds=load.seconds,
        samples=sum(w.samples for w in seen),
        drift=found.drift,
        slowdown=found.slowdown,
        swing=found.swing,
        levels=found.levels,
        changes=found.changes,
        gaps=tuple(load.gaps),
        processes=tuple(_stint(one) for one in load.processes),
        windows=seen,
        warmth=_warmth(seen, found.word in ("slower", "unsteady")),
        fixed_performance=worst([r.conditions for r in measured.rounds]).fixed_performance,
        delegated=first.residency.delegated,
        nodes=first.residency.total,
        accuracy=accuracy,
        inputs_sha256=inputs_sha256(measured.subject.inputs),
        runtime=first.runtime,
        gpu=first.adapter,
        system=measured.system,
        boot_id=first.boot_id,
        commit=commit,
    )


def _still_away(load: Load) -> float:
    """Seconds of a gap that has no end yet."""
    return load.seconds - load.gaps[-1].at_s if load.gaps and load.gaps[-1].seconds is None else 0.0


def _stint(one: Stretched) -> Stint:
    opening, first = one.process.rounds[0], one.process.first
    return Stint(
        stretch=one.stretch,
        from_s=one.from_s,
        until_s=one.until_s,
        compile_ms=first.compile_ns / 1e6,
        first_ms=next(map(total, opening.samples), 0) / 1e6,
        warmup=one.warmup,
        samples=one.steady,
        boot_id=opening.boot_id,
        runtime=opening.runtime,
    )


def _warmth(seen: Sequence[Window], slower: bool) -> Warmth:
    states = tuple(dict.fromkeys(w.thermal for w in seen if w.thermal))
    told = [w.celsius for w in seen if w.celsius is not None]
    hottest = max((severity(state) for state in states), default=-1)
    return Warmth(
        states=states,
        first_celsius=told[0] if told else None,
        highest_celsius=max(told, default=None),
        last_celsius=told[-1] if told else None,
        silent=slower and bool(states) and hottest < MODERATE,
    )
