"""The gate through which every probe of a localization goes: a device that answers finished probes from the journal.

A probe is known by what decides its outcome: the model, the inputs, the options, the outputs that are wanted, the runs,
and how often the very same was asked before in this search (a second run of the untouched model is a probe of its own).
Who asks need not know: the search of a continued run asks the same questions in the same order, and gets the recorded
outcomes until it comes to one that is not there.

- Cut short by a kill: asked again, and nothing is held against it.
- The worker was killed from outside: asked again, up to `MOST_KILLS` times, and then `Lost`, which names no op.
- Crashed or hung: asked once more, in a fresh process. Twice makes it quarantined: the failure is its answer from then
  on, in continued runs too, and the device is spared a third time.
- Completed or refused: finished, never asked again.

Host CPU work is not journaled: it is done again in seconds.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from harness.core.arrays import Array
from harness.core.errors import UsageError
from harness.core.job import Completed, Crashed, Job, Lost, Outcome, Rejected, TimedOut
from harness.core.safe_files import size_of
from harness.core.signals import OUTSIDE
from harness.devices.base import Device, DeviceFacts, Sink
from harness.devices.execute import NO_ROOM
from harness.devices.worker import NO_READING
from harness.localize.base.result import Probes, Quarantined
from harness.localize.probe.journal.log import Ending, History, Journal, RecordedFailure
from harness.localize.probe.journal.outputs import (
    OutputWriter,
    completed_from,
    deliver,
    facts_of,
    is_whole,
    keepable,
    rejected_from,
)

# Bytes of outputs that one run's journal keeps. What comes beyond is asked again when the run is continued.
JOURNAL_BUDGET = 4 << 30
MOST_FAILURES = 2
# Refusals that say nothing of the model: no room for it, or a runtime's own short patience.
_PASSING = (NO_ROOM, NO_READING)
MOST_KILLS = 3


class Journaled(Device):
    """A device behind a journal. Counts of compiles and runs include those that the journal answers for."""

    asks_again = True

    def __init__(self, inner: Device, journal: Journal, *, budget: int = JOURNAL_BUDGET) -> None:
        super().__init__(inner.name, inner.kind, inner._launcher)
        self.times_each = inner.times_each
        self.elsewhere = inner.elsewhere
        self._inner = inner
        self._journal = journal
        self._left = budget - sum(map(size_of, journal.folder.glob("*.safetensors")))
        self._asked: Counter[str] = Counter()
        self._replayed = 0
        self._quarantined: dict[str, Quarantined] = {}
        self._state = _Compiled()
        self._stops = 0
        self.failed = False
        """Whether the last probe ended in a failure that is the device's own answer."""

    def close(self) -> None:
        """End the process."""
        self._inner.close()

    def stop(self) -> None:
        """End the process so that its memory is free. From another thread, during a run: nothing is asked again."""
        self._stops += 1
        self._state = _Compiled()
        self._inner.stop()

    @property
    def serial(self) -> str:
        """The device's own."""
        return self._inner.serial

    @property
    def user(self) -> int:
        """The device's own."""
        return self._inner.user

    @property
    def host(self) -> str:
        """The device's own."""
        return self._inner.host

    def facts(self) -> DeviceFacts:
        """What the device says of itself."""
        return self._inner.facts()

    def probes(self) -> Probes:
        """What was asked so far, and what the journal answered."""
        return Probes(self._asked.total(), self._replayed, self._journal.sessions, tuple(self._quarantined.values()))

    def forget(self) -> None:
        """Remove the recorded outputs: the answer is in, and nobody will continue this run."""
        self._journal.drop_outputs()

    def run(self, job: Job, sink: Sink | None = None) -> Outcome:
        """The recorded outcome of a finished or quarantined probe, else the device's own, written down.

        Raises:
            DeviceError: the device cannot be reached. StorageError: the journal cannot be written. UsageError: the GPU
                is another one than this run was begun on.
        """
        plain = key_of(job)
        self._asked[plain] += 1
        probe = f"{plain}-{self._asked[plain]}"
        history = self._journal.of(probe)
        outputs: dict[str, Array] = {}
        take = sink or outputs.__setitem__
        known, stops = self._recorded(probe, history, job, take, outputs), self._stops
        outcome = known or self._live(probe, history, job, take, outputs)
        if isinstance(outcome, Completed):
            self.compiles += outcome.compiled
            self.runs += job.warmup + job.iterations
        self.failed = isinstance(outcome, Rejected | Crashed | TimedOut) and self._stops == stops
        self._state = self._state.after(job, outcome, live=known is None)
        return outcome

    def _recorded(
        self, probe: str, history: History, job: Job, take: Sink, outputs: dict[str, Array]
    ) -> Completed | Rejected | None:
        """A finished probe's outcome; None for one that is to be asked, also when its outputs are damaged or gone."""
        if history.end is None:
            return None
        path = self._journal.folder / f"{probe}.safetensors"
        outcome = _outcome_of(history.end, path, job, outputs)
        if outcome is None:
            self._left += size_of(path)
            with suppress(OSError):  # what cannot be removed, such as a folder of that name, is not asked for again
                path.unlink(missing_ok=True)
            return None
        self._replayed += 1
        if isinstance(outcome, Completed) and job.outputs:
            deliver(path, job.outputs, take)
        return outcome

    def _live(self, probe: str, history: History, job: Job, take: Sink, outputs: dict[str, Array]) -> Outcome:
        """Ask the device, and again when it fails, until there is an outcome to stay with."""
        arrived: set[str] = set()

        def once(name: str, values: Array) -> None:
            if name not in arrived:
                arrived.add(name)
                take(name, values)

        kills, stops = 0, self._stops
        outcome: Outcome | None = None
        while len(history.failures) < MOST_FAILURES and kills < MOST_KILLS:
            outcome = self._attempt(probe, job, once, outputs)
            if self._stops != stops:
                return outcome
            match outcome:
                case Rejected() if outcome.reason.startswith(NO_READING):
                    kills += 1
                case Completed() | Rejected():
                    return outcome
                case Crashed() if outcome.signal in OUTSIDE:
                    kills += 1
                    outcome = Lost(f"the worker was killed from outside each of {kills} times", outcome.log)
                case Lost():
                    kills += 1
            self._state = _Compiled()
        if len(history.failures) < MOST_FAILURES:
            assert outcome is not None
            return outcome
        self._quarantined[probe] = _quarantined(job, history.failures)
        last = history.failures[-1]
        log = getattr(outcome, "log", "")
        return Crashed(last.reason, "", log) if last.cause == "crash" else TimedOut(job.timeout, log)

    def _attempt(self, probe: str, job: Job, take: Sink, outputs: dict[str, Array]) -> Outcome:
        size = sum(port.nbytes for port in job.outputs)
        self._journal.begin(probe, outputs=len(job.outputs), bytes=size, options=vars(job.options))
        keeper, stops = None, self._stops
        if job.outputs and size <= self._left and keepable(job):
            keeper = OutputWriter(self._journal.folder / f"{probe}.safetensors", job.outputs)
        try:
            warm = self._state.runs_to_make_up(job)
            outcome = self._inner.run(replace(job, warmup=job.warmup + warm), _both(keeper, take))
            if self._stops != stops and not isinstance(outcome, Completed):
                return outcome  # what was ended from here is no word of the device's: begun, and asked again
            checksums = keeper.checksums if keeper else []
            if keeper is not None and isinstance(outcome, Completed):
                keeper.finish()
                self._left -= size
                keeper = None
        finally:
            if keeper is not None:
                keeper.abandon()
        if isinstance(outcome, Completed):
            self._check_adapter(outcome)
            outcome = replace(outcome, outputs=outputs)
            self._journal.finish(probe, "completed", outcome=facts_of(outcome), checksums=checksums)
        elif isinstance(outcome, Rejected):
            ending: Ending = "lost" if is_passing(outcome) else "rejected"
            self._journal.finish(probe, ending, outcome=facts_of(outcome))
        else:
            self._journal.finish(probe, _ending(outcome), reason=outcome.reason)
        return outcome

    def _check_adapter(self, done: Completed) -> None:
        before = self._journal.adapter
        if before and done.adapter and done.adapter != before:
            raise UsageError(
                f"The GPU is now '{done.adapter}'; this run was begun on '{before}'.", "Start anew with --fresh."
            )


@dataclass(frozen=True)
class _Compiled:
    """The model that the worker of the recorded search would have compiled by now, and its runs: in all, and by the
    worker that is there. A run that is not the first one must not become it only because the search was continued."""

    key: tuple[Any, ...] = ()
    runs: int = 0
    live: int = 0

    def runs_to_make_up(self, job: Job) -> int:
        return self.runs - self.live if self.key == _compile_key(job) else 0

    def after(self, job: Job, outcome: Outcome, *, live: bool) -> _Compiled:
        if not isinstance(outcome, Completed) or job.final:
            return _Compiled()
        key, made = _compile_key(job), job.warmup + job.iterations
        before = self if self.key == key else _Compiled(key)
        runs = before.runs + made
        return _Compiled(key, runs, runs if live else before.live)


def _compile_key(job: Job) -> tuple[Any, ...]:
    return (job.sha256, job.options)


def _outcome_of(end: dict[str, Any], path: Path, job: Job, outputs: dict[str, Array]) -> Completed | Rejected | None:
    """What a line of the journal says; None where it is not what this release writes, or the outputs are not."""
    try:
        if end["ending"] == "rejected":
            return rejected_from(end["outcome"])
        whole = not job.outputs or is_whole(path, job.outputs, end.get("checksums"))
        return completed_from(end["outcome"], job.iterations, outputs) if whole else None
    except UsageError:
        return None


def _both(keeper: OutputWriter | None, take: Sink) -> Callable[[str, Array], None]:
    def sink(name: str, values: Array) -> None:
        if keeper is not None:
            keeper.put(name, values)
        take(name, values)

    return sink


def is_passing(refusal: Rejected) -> bool:
    """Whether a refusal says nothing of the model, but of the device's moment."""
    return refusal.reason.startswith(_PASSING)


def _ending(outcome: Crashed | TimedOut | Lost) -> Ending:
    if isinstance(outcome, TimedOut):
        return "hung"
    return "crashed" if isinstance(outcome, Crashed) and outcome.signal not in OUTSIDE else "lost"


def _quarantined(job: Job, failures: list[RecordedFailure]) -> Quarantined:
    causes: list[Literal["crash", "hang"]] = [failure.cause for failure in failures]
    cause: Literal["crash", "hang"] = "crash" if "crash" in causes else "hang"
    reason = next(failure.reason for failure in reversed(failures) if failure.cause == cause)
    return Quarantined(job.sha256, tuple(port.name for port in job.outputs), cause, reason)


def key_of(job: Job) -> str:
    """What decides a probe's outcome, as a digest. The timeout does not: it may be raised when a run is continued."""
    facts = {
        "model": job.sha256,
        "inputs": inputs_digest(job.inputs),
        "options": vars(job.options),
        "outputs": [[p.name, p.position, p.dtype.name, list(p.shape)] for p in job.outputs],
        "runs": [job.warmup, job.iterations],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def inputs_digest(inputs: dict[str, Array]) -> str:
    """sha256 of named arrays, with their types and shapes."""
    digest = hashlib.sha256()
    for name, values in sorted(inputs.items()):
        digest.update(json.dumps([name, values.dtype.str, list(values.shape)]).encode())
        digest.update(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data if values.size else b"")
    return digest.hexdigest()
