"""Loading a device for minutes: one process after another, a job after the other, without a pause.

A device that goes away is waited for and the load goes on in a new process; the time that it was gone does not count as
measured. What a job timed comes with its end, so that of an interrupted job nothing is known; jobs are short for that.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace

import numpy as np

from harness.core.errors import DeviceError, StorageError
from harness.core.job import Completed, Crashed, Failure, Job, Lost, Rejected, TimedOut
from harness.core.progress import SILENT, Progress
from harness.core.visible import counted
from harness.devices.base import Device
from harness.devices.execute import failure, make_job
from harness.latency.conditions import peak_bytes
from harness.latency.measure import (
    SETTLING,
    Clocked,
    Measured,
    Open,
    Packed,
    Process,
    Round,
    check_times,
    clocked,
    total,
)
from harness.latency.record import Phase, TimedSample
from harness.latency.sustained.judge import MOST_WINDOWS, Batch
from harness.latency.sustained.record import Gap, Interruption
from harness.latency.warmup import warmup_length

JOB_SECONDS = 2.0
"""A job lasts so long, or the share of a window in a short measurement: what an interruption costs at most."""
MOST_TIMED = 128
"""Timed iterations of a job; those before them run untimed. They bound the samples of an hour at 230,400."""
SETTLING_JOBS = 5
"""Which samples are warm-up is told once a process has `SETTLING` of them or has run for so many jobs' seconds: the
first few do not tell by themselves."""
GROWTH = 4
"""A job has at most so many times the iterations of the one before it: the first ones are slow."""
CELSIUS_SECONDS = 10.0
"""How often the device is asked for its temperature, which costs a call between two jobs."""
RETRY_SECONDS = 0.5
WAIT_SECONDS = 120.0
MOST_GAPS = 16
RESTARTED = "the process ended between two jobs"


@dataclass(frozen=True)
class SustainedPlan:
    """`minutes` of load, in so many processes; a device that is gone is waited for up to `wait` seconds."""

    minutes: float
    processes: int = 3
    wait: float = WAIT_SECONDS
    timeout: float = 600.0

    @property
    def seconds(self) -> float:
        """The load in seconds."""
        return self.minutes * 60


@dataclass
class Load:
    """What was seen so far; whole after each job."""

    measured: Measured
    batches: list[Batch] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    processes: list[Stretched] = field(default_factory=list)
    seconds: float = 0.0
    """On this machine's clock, gaps included."""
    away: float = 0.0
    """Of them in gaps."""


@dataclass
class Stretched:
    """A process in its stretch, and when it began and ended."""

    process: Process
    stretch: int
    from_s: float
    until_s: float = 0.0
    warmup: int = 1
    steady: int = 0
    settled: bool = False
    sorted: int = 0


Keep = Callable[[list[TimedSample]], None]


def sustain(load: Load, plan: SustainedPlan, open_device: Open, keep: Keep, progress: Progress = SILENT) -> None:
    """Load the device of `load.measured.subject` and fill `load` as it goes; `keep` gets the samples of each job.

    Raises:
        DeviceError: the device is not there, does not come back in time, or does not complete a job twice running.
        UsageError: its times say nothing of latency. `load` keeps what was seen before that.
    """
    with open_device(load.measured.subject.cell.device) as device:
        check_times(device)
        device.start_anew()
        _Loading(load, plan, device, keep, progress).run()


class _Loading:
    def __init__(self, load: Load, plan: SustainedPlan, device: Device, keep: Keep, progress: Progress) -> None:
        self._load, self._plan, self._device = load, plan, device
        self._keep, self._progress = keep, progress
        subject = load.measured.subject
        self._job = make_job(subject.model, subject.inputs, subject.options, timeout=plan.timeout)
        self._job_seconds = min(JOB_SECONDS, plan.seconds / MOST_WINDOWS)
        self._began = time.monotonic()
        self._stretch = 0
        self._fruitful = False
        self._iterations = 1
        self._gone_at = 0.0
        self._temperature_at = -CELSIUS_SECONDS
        self._celsius: float | None = None
        self._unsorted: list[tuple[Round, float | None]] = []

    def run(self) -> None:
        try:
            self._run()
        except BaseException:  # what was measured is told, also where it is interrupted; a full disk has been told of
            with suppress(StorageError):
                self._settle()
            raise
        self._settle()

    def _run(self) -> None:
        plan = self._plan
        for number in range(plan.processes):
            what = f"sustained load, process {number + 1} of {plan.processes}"
            self._progress.stage(what, plan.seconds / plan.processes)
            if number:
                self._device.stop()
            until, from_ = plan.seconds * (number + 1) / plan.processes, self._active()
            done = self._ask(1, 0)
            if isinstance(done, Completed):
                self._start(done)
            else:
                self._survive(done)
            while self._active() < until:
                self._progress.fraction(max(0.001, (self._active() - from_) / max(until - from_, 1e-9)))
                self._take()

    def _now(self) -> float:
        self._load.seconds = time.monotonic() - self._began
        return self._load.seconds

    def _active(self) -> float:
        return self._now() - self._load.away

    def _ask(self, iterations: int, untimed: int) -> Completed | Failure:
        """Run a job; a completed one becomes the round that it is."""
        job: Job = replace(self._job, iterations=iterations, warmup=untimed)
        self._gone_at = time.monotonic()
        try:
            outcome = clocked(self._device, job, self._began)
            self._gone_at = time.monotonic()
        except DeviceError as error:
            if not self._load.processes:
                raise
            return Lost(error.message.removesuffix("."))
        if not isinstance(outcome, Clocked):
            return outcome
        self._now()
        self._round = replace(outcome.turn, samples=Packed(outcome.turn.samples))
        return replace(outcome.done, samples=())

    def _start(self, first: Completed) -> None:
        """The first inference of a process was made."""
        self._settle()  # the process before it
        load, measured = self._load, self._load.measured
        number = len(load.processes)
        turn = replace(self._round, replication=number)
        process = Process(first, [turn])
        facts = self._device.facts()
        measured.device, measured.system = self._device.described(), facts.system
        measured.log += first.log
        measured.processes.append(process)
        measured.outputs = first.outputs
        load.processes.append(Stretched(process, self._stretch, turn.elapsed_s, self._now(), sorted=len(turn.samples)))
        self._iterations = len(turn.samples) + turn.untimed
        self._keep(self._timed(turn, "first"))

    def _take(self) -> None:
        """One job: as many iterations as its seconds hold."""
        current = self._load.processes[-1]
        last = current.process.rounds[-1]
        each = last.wall_ns / (len(last.samples) + last.untimed) / 1e9
        wanted = int(self._job_seconds / max(each, 1e-7))
        self._iterations = max(1, min(wanted, GROWTH * self._iterations))
        timed = min(self._iterations, MOST_TIMED)
        done = self._ask(timed, self._iterations - timed)
        if not isinstance(done, Completed):
            return self._survive(done)
        if done.compiled:  # the process went and came between two jobs
            self._mark("crashed", RESTARTED, DeviceError(f"{self._device.name}: {RESTARTED}.", "Run `harness doctor`."))
            return self._continue(done, "crashed", RESTARTED)
        turn = replace(self._round, replication=len(self._load.processes) - 1, number=len(current.process.rounds))
        current.process.rounds.append(turn)
        current.process.peak = peak_bytes(self._device.pid)
        current.until_s = self._now()
        self._load.measured.outputs = done.outputs
        self._fruitful = True
        self._unsorted.append((turn, self._temperature()))
        if self._has_settled(current):
            self._settle()

    def _settle(self) -> None:
        """Tell warm-up from steady samples of the last process, which has all that it will be judged by."""
        if not self._unsorted:
            return
        current = self._load.processes[-1]
        if not current.settled:
            settling = [total(s) for r in current.process.rounds for s in r.samples][:SETTLING]
            current.warmup, current.settled = warmup_length(settling), True
        while self._unsorted:
            self._sort(current, *self._unsorted.pop(0))

    def _has_settled(self, current: Stretched) -> bool:
        if current.settled:
            return True
        rounds = current.process.rounds
        long = sum(turn.wall_ns for turn in rounds[1:]) / 1e9 >= SETTLING_JOBS * self._job_seconds
        return long or sum(len(turn.samples) for turn in rounds) >= SETTLING

    def _sort(self, current: Stretched, turn: Round, celsius: float | None) -> None:
        """The samples of a round, each with its phase."""
        before, current.sorted = current.sorted, current.sorted + len(turn.samples)
        cold = min(max(current.warmup - before, 0), len(turn.samples))
        rows = self._timed(turn, "steady")
        rows = [replace(row, phase="warmup") if i < cold else row for i, row in enumerate(rows)]
        current.steady += len(rows) - cold
        self._keep(rows)
        steady = rows[cold:]
        batch = Batch(
            current.stretch,
            turn.replication,
            np.asarray([row.elapsed_s for row in steady], np.float64),
            np.asarray([row.total_ns / 1e6 for row in steady], np.float64),
            turn.conditions.thermal,
            celsius,
        )
        self._load.batches.append(batch)

    def _timed(self, turn: Round, phase: Phase) -> list[TimedSample]:
        """The samples of a round; `elapsed_s` is when each ended, counted back from the round's own end."""
        totals = np.asarray([total(s) for s in turn.samples], np.float64)
        ends = turn.elapsed_s + turn.wall_ns / 1e9 - (np.cumsum(totals[::-1])[::-1] - totals) / 1e9
        return [
            TimedSample(
                phase, i, s.write_ns, s.run_ns, s.read_ns, turn.replication, turn.number, float(end), turn.conditions
            )
            for i, (s, end) in enumerate(zip(turn.samples, ends, strict=True))
        ]

    def _temperature(self) -> float | None:
        if self._now() - self._temperature_at >= CELSIUS_SECONDS:
            self._temperature_at = self._now()
            self._celsius = self._device.celsius()
        return self._celsius

    def _survive(self, outcome: Failure) -> None:
        """Have the device back and start another process on it, in another stretch. Raises DeviceError."""
        load, name = self._load, self._device.name
        error = failure(name, outcome, "measuring sustained latency")
        if isinstance(outcome, Rejected) or not load.processes:
            raise error
        why: Interruption = (
            "crashed" if isinstance(outcome, Crashed) else "timed out" if isinstance(outcome, TimedOut) else "lost"
        )
        load.measured.log += outcome.log
        self._mark(why, outcome.reason, error)
        self._progress.note(f"{name} is gone ({outcome.reason}); it is waited for.")
        self._continue(self._back(outcome), why, outcome.reason)

    def _mark(self, why: Interruption, detail: str, error: DeviceError) -> None:
        """A gap begins. Raises `error` where no job ended since the last one, or there were too many."""
        gaps = self._load.gaps
        gaps.append(Gap(self._load.processes[-1].until_s, None, why, detail))
        if not self._fruitful or len(gaps) > MOST_GAPS:
            often = counted(len(gaps), "time")
            raise DeviceError(f"{error.message.removesuffix('.')}. It was interrupted {often}.", error.next_step)

    def _continue(self, done: Completed, why: Interruption, detail: str) -> None:
        """Go on with what answered after a gap, which is the last one of the load by now."""
        load = self._load
        last = load.processes[-1]
        rebooted = done.boot_id != last.process.rounds[-1].boot_id
        seconds = self._round.elapsed_s - last.until_s
        load.gaps[-1] = Gap(last.until_s, seconds, "rebooted" if rebooted else why, detail)
        load.away += seconds
        self._stretch += 1
        self._fruitful = False
        self._temperature_at = -CELSIUS_SECONDS
        self._start(done)

    def _back(self, outcome: Failure) -> Completed:
        """The first answer of the device after it was seen to be gone. Raises DeviceError: it gives none in time."""
        name, wait = self._device.name, self._plan.wait
        deadline = self._gone_at + wait
        while time.monotonic() < deadline:
            done = self._ask(1, 0)
            if isinstance(done, Completed):
                return done
            if isinstance(done, Rejected):
                raise failure(name, done, "measuring sustained latency, after it was gone")
            outcome = done
            time.sleep(RETRY_SECONDS)
        self._load.measured.log += outcome.log
        why = outcome.reason.removesuffix(".")
        raise DeviceError(f"{name} did not come back within {wait:g} s: {why}.", "Run `harness doctor`.")
