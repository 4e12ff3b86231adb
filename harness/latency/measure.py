"""Timing cells in rounds: every cell has its turn in each round, so that drift of the machine hits all alike.

A replication starts a process for each cell, compiles, times the first inference and a stretch after it, and goes on in
rounds until the cell with the fewest samples has its share of the samples wanted and the one with the least time its
share of the seconds. The order within a round rotates. Nothing is left out: what is warm-up is decided afterwards.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from harness.core.arrays import Array
from harness.core.errors import UsageError
from harness.core.job import Completed, Failure, Job, Options, Sample
from harness.core.progress import SILENT, Progress
from harness.core.typed_json import read_as
from harness.core.visible import counted
from harness.devices.base import Device
from harness.devices.execute import failure, make_job, patiently
from harness.graph.model import Model
from harness.latency.conditions import between, peak_bytes, read_moment
from harness.latency.record import Cell, Conditions, Phase, TimedSample
from harness.latency.warmup import warmup_length

MOST_IN_ROUND = 512
"""Timed iterations in one round. A model that is faster than that allows runs untimed until the round is over."""

LEAST_IN_ROUND = 4
"""The first iteration of a round finds cold caches and does not count; three that do make a median."""

SETTLING_SECONDS = 1.0
"""The stretch after the first inference, in which the end of the warm-up is looked for, lasts so long or `SETTLING`
iterations, whichever is less."""
SETTLING = 200

Open = Callable[[str], Device]


@dataclass(frozen=True)
class Plan:
    """When it is enough: both so many samples and so many seconds, over all replications, in about so many rounds."""

    samples: int = 1024
    seconds: float = 60.0
    rounds: int = 24
    replications: int = 3
    timeout: float = 600.0


QUICK = Plan(samples=96, seconds=3.0, rounds=16, replications=2)


@dataclass(frozen=True)
class Subject:
    """A cell with what it takes to run it."""

    cell: Cell
    model: Model
    inputs: dict[str, Array]
    options: Options
    file_sha256: str = ""


class Packed:
    """Samples in 24 bytes each, where there are many: as objects they take 200."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self._ns = array("q", (ns for s in samples for ns in (s.write_ns, s.run_ns, s.read_ns)))

    def __len__(self) -> int:
        return len(self._ns) // 3

    def __iter__(self) -> Iterator[Sample]:
        return (Sample(*self._ns[at : at + 3]) for at in range(0, len(self._ns), 3))


@dataclass(frozen=True)
class Round:
    """A stretch of iterations without a pause. `untimed` ones ran before the samples; `wall_ns` is what passed on this
    side from the request to the last result."""

    replication: int
    number: int
    elapsed_s: float
    samples: tuple[Sample, ...] | Packed
    untimed: int
    wall_ns: int
    conditions: Conditions
    boot_id: str
    runtime: str


@dataclass
class Process:
    """What one process of a cell gave: its compile, its rounds in order."""

    first: Completed
    rounds: list[Round] = field(default_factory=list)
    peak: int | None = None

    @property
    def warmup(self) -> int:
        """Iterations before the samples settled, the first inference among them. Looked for in the first two rounds,
        the only ones without a pause between them."""
        return warmup_length([total(s) for r in self.rounds[:2] for s in r.samples])

    def timed(self) -> list[TimedSample]:
        """Every sample with its phase."""
        found = []
        left = self.warmup
        for turn in self.rounds:
            for i, sample in enumerate(turn.samples):
                phase: Phase = "steady"
                if turn.number == 0:
                    phase = "first"
                elif left > 0:
                    phase = "warmup"
                elif i == 0 and turn.number > 1 and not turn.untimed:
                    phase = "resume"
                left -= 1
                write, run, read = sample.write_ns, sample.run_ns, sample.read_ns
                when = turn.elapsed_s
                found.append(
                    TimedSample(phase, i, write, run, read, turn.replication, turn.number, when, turn.conditions)
                )
        return found


@dataclass
class Measured:
    """All that was seen of a cell."""

    subject: Subject
    processes: list[Process] = field(default_factory=list)
    log: str = ""
    device: dict[str, str] = field(default_factory=dict)
    """As documents have it."""
    system: str = ""
    outputs: dict[str, Array] = field(default_factory=dict)

    @property
    def rounds(self) -> list[Round]:
        """The rounds of all processes."""
        return [turn for process in self.processes for turn in process.rounds]

    def timed(self) -> list[TimedSample]:
        """The samples of all processes, in order."""
        return [sample for process in self.processes for sample in process.timed()]


def total(sample: Sample) -> int:
    """Write, run and readback, in nanoseconds."""
    return sample.write_ns + sample.run_ns + sample.read_ns


def measure(
    subjects: Sequence[Subject],
    plan: Plan,
    open_device: Open,
    progress: Progress = SILENT,
    keep: Callable[[Measured], None] = lambda _: None,
) -> tuple[Measured, ...]:
    """Time all subjects in turns. `keep` gets each one whenever a replication of it has ended, however it ended.

    Raises:
        DeviceError: a device is not there, or does not complete a job.
    """
    found = tuple(Measured(subject) for subject in subjects)
    began = time.monotonic()
    share = replace(
        plan, samples=-(-plan.samples // plan.replications), seconds=plan.seconds / plan.replications, replications=1
    )
    for number in range(plan.replications):
        what = f"replication {number + 1} of {plan.replications}, {counted(len(subjects), 'cell')}"
        progress.stage(what, 1 + len(subjects) * (2 + share.seconds))
        with ExitStack() as stack:
            devices = _devices(subjects, open_device, stack)
            turns = [_Turns(one, number, plan, device, began) for one, device in zip(found, devices, strict=True)]
            for turn in turns:
                stack.callback(keep, turn.measured)
                turn.start()
            while (done := min(turn.done(share) for turn in turns)) < 1:
                progress.fraction(max(done, 0.001))
                turns.append(turns.pop(0))
                for turn in turns:
                    turn.take(share)
    return found


def _devices(subjects: Sequence[Subject], open_device: Open, stack: ExitStack) -> list[Device]:
    """A process for each cell on the host, so that its model stays compiled. A phone has one app, which keeps one
    compiled model: its cells share the device, and compile anew in each turn."""
    phones: dict[str, Device] = {}
    devices: list[Device] = []
    for name in (subject.cell.device for subject in subjects):
        if name not in phones:
            device = stack.enter_context(open_device(name))
            check_times(device)
            device.start_anew()
            if device.own_process:
                devices.append(device)
                continue
            phones[name] = device
        devices.append(phones[name])
    return devices


def check_times(device: Device) -> None:
    """Raises UsageError: its times say nothing of latency."""
    if device.no_latency is not None:
        why, step = device.no_latency
        raise UsageError(f"{device.name} {why}.", step)


class _Turns:
    """One cell in one replication."""

    def __init__(self, measured: Measured, replication: int, plan: Plan, device: Device, began: float) -> None:
        self.measured = measured
        self._replication = replication
        self._plan = plan
        self._device = device
        self._began = began
        self._process: Process | None = None
        subject = measured.subject
        self._job = make_job(subject.model, subject.inputs, subject.options, timeout=plan.timeout)

    def start(self) -> None:
        """Compile, the first inference, and the stretch in which it settles."""
        first, turn = self._run(0, 1, 0)
        self._process = Process(first, [turn])
        self.measured.processes.append(self._process)
        self.measured.log += first.log
        facts = self._device.facts()
        self.measured.device, self.measured.system = self._device.described(), facts.system
        if not self.measured.outputs:
            self.measured.outputs = first.outputs
        _, turn = self._run(1, LEAST_IN_ROUND, 0)
        guess = turn.wall_ns / len(turn.samples) / 1e9
        more = min(SETTLING, int(SETTLING_SECONDS / max(guess, 1e-6))) - LEAST_IN_ROUND
        if more > 0:
            _, longer = self._run(1, more, 0)
            turn = replace(longer, samples=(*turn.samples, *longer.samples), wall_ns=turn.wall_ns + longer.wall_ns)
        self._keep(turn)

    def take(self, share: Plan) -> None:
        """One round: as many iterations as its share of the seconds holds."""
        assert self._process is not None
        last = self._process.rounds[-1]
        # By the clock on this side: a device that stops its own too early would be asked for far too much.
        recent = last.wall_ns / (len(last.samples) + last.untimed) / 1e9
        seconds = share.seconds / max(self._plan.rounds // self._plan.replications, 1)
        wanted = max(int(seconds / max(recent, 1e-7)), -(-share.samples * self._plan.replications // self._plan.rounds))
        timed = min(max(wanted, LEAST_IN_ROUND), MOST_IN_ROUND)
        untimed = min(max(int(seconds / max(recent, 1e-7)) - timed, 0), 1 << 19)
        _, turn = self._run(len(self._process.rounds), timed, untimed)
        self._keep(turn)

    def done(self, share: Plan) -> float:
        """The share of the work that is behind; 1 when both the samples and the seconds are there."""
        assert self._process is not None
        later = self._process.rounds[2:]
        samples = sum(len(turn.samples) - (not turn.untimed) for turn in later)
        return min(
            samples / max(share.samples, 1), sum(turn.wall_ns for turn in later) / 1e9 / max(share.seconds, 1e-9)
        )

    def _keep(self, turn: Round) -> None:
        assert self._process is not None
        self._process.rounds.append(turn)
        self._process.peak = peak_bytes(self._pid)

    @property
    def _pid(self) -> int | None:
        return self._device.pid

    def _run(self, number: int, iterations: int, untimed: int) -> tuple[Completed, Round]:
        job: Job = replace(self._job, warmup=untimed, iterations=iterations)
        outcome = patiently(self._device, lambda: clocked(self._device, job, self._began))
        if not isinstance(outcome, Clocked):
            raise failure(self._device.name, outcome, f"timing {self.measured.subject.cell.label}")
        return outcome.done, replace(outcome.turn, replication=self._replication, number=number)


@dataclass(frozen=True)
class Clocked:
    """A job that completed, and the round that it was: of replication 0, number 0."""

    done: Completed
    turn: Round


def clocked(device: Device, job: Job, began: float) -> Clocked | Failure:
    """Run a job by the clock on this side; `began` is when the measurement did, by `time.monotonic`.

    Raises:
        DeviceError: the device cannot be reached.
    """
    device.facts()  # starting the process is no part of the round
    before = read_moment(device.pid, beside=device.beside)
    elapsed, started = time.monotonic() - began, time.perf_counter_ns()
    done = device.run(job)
    if not isinstance(done, Completed):
        return done
    wall, after = time.perf_counter_ns() - started, read_moment(device.pid, beside=device.beside)
    seen = between(before, after, done.thermal)
    there = device.clocked_there()
    if there is not None:  # what passed here has the way there in it
        wall, seen = int(there["wall_ns"] or 0), read_as(Conditions, {**there, "thermal": done.thermal})
    seen = replace(seen, fixed_performance=device.fixed_performance)
    return Clocked(done, Round(0, 0, elapsed, done.samples, job.warmup, wall, seen, done.boot_id, done.runtime))
