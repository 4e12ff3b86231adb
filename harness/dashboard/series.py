"""Runs grouped into histories: a series is one model on one device, its lanes are the ways of running it there."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from harness.dashboard.facts import Judgement, RunFacts
from harness.dashboard.steps import Level, Step, levels, steps
from harness.report import figures

_ORDER = {"cpu": 0, "reference": 1, "gpu": 2, "npu": 3}


@dataclass(frozen=True)
class LaneKey:
    """An accelerator, how it computes, by which back end, and the threads asked for (0: the runtime chose)."""

    accelerator: str
    precision: str
    backend: str = "default"
    threads: int = 0

    @property
    def label(self) -> str:
        """`CPU, 4 threads`; `CPU plain`; `GPU fp16`. Made visible here: drawings take it as it is."""
        words = [self.accelerator.upper() if len(self.accelerator) <= 3 else self.accelerator]
        words += [] if self.accelerator in ("cpu", "reference") else [self.precision]
        words += [self.backend] if self.backend != "default" else []
        threads = f", {self.threads} thread{'' if self.threads == 1 else 's'}" if self.threads else ""
        return figures.name(f"{' '.join(words)}{threads}", 80)

    @property
    def order(self) -> tuple[int, str, bool, str, int, str]:
        """CPU first, GPU beside it."""
        plain = self.backend == "default"
        return _ORDER.get(self.accelerator, 9), self.precision, not plain, self.backend, self.threads, self.accelerator


@dataclass(frozen=True)
class ComparableRuns:
    """Benchmarks whose medians may be compared: the same model file and inputs on the same hardware. `runs` are places
    in the lane; levels and steps count within them."""

    runs: tuple[int, ...]
    levels: tuple[Level, ...]

    @property
    def steps(self) -> tuple[Step, ...]:
        """Changes of level, at places in `runs`."""
        return steps(self.levels)


@dataclass(frozen=True)
class Lane:
    """The runs of one series and key, oldest first."""

    key: LaneKey
    runs: tuple[RunFacts, ...]

    @cached_property
    def stretches(self) -> tuple[ComparableRuns, ...]:
        """Valid benchmarks by what makes them comparable; an invalid run is in none of them."""
        alike: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for place, run in enumerate(self.runs):
            if run.valid:
                alike[comparable(run)].append(place)
        found = [ComparableRuns(tuple(p), levels([self.runs[i].p50_ms or 1.0 for i in p])) for p in alike.values()]
        return tuple(sorted(found, key=lambda stretch: stretch.runs[-1]))

    @cached_property
    def latest(self) -> RunFacts | None:
        """The newest benchmark that counts."""
        return next((run for run in reversed(self.runs) if run.valid), None)

    @cached_property
    def newest(self) -> RunFacts | None:
        """The newest benchmark, valid or not."""
        return next((run for run in reversed(self.runs) if run.benchmark), None)

    @cached_property
    def judgements(self) -> tuple[Judgement, ...]:
        """How each run's outputs were judged: by the run itself, or else by the nearest run before it, or after it, of
        the same model file, runtime and hardware."""
        own: dict[tuple[str, str, str], Judgement] = {}
        found: list[Judgement] = []
        first: dict[tuple[str, str, str], Judgement] = {}
        for run in self.runs:
            what = _identity(run)
            if run.judgement != "nothing":
                own[what] = run.judgement
                first.setdefault(what, run.judgement)
            found.append(own.get(what, "nothing"))
        return tuple(
            first.get(_identity(run), "nothing") if judgement == "nothing" else judgement
            for run, judgement in zip(self.runs, found, strict=True)
        )

    @cached_property
    def judgement(self) -> Judgement:
        """Of the latest valid benchmark; of the newest judged run where there is none."""
        if self.latest is not None:
            return self.judgements[self.runs.index(self.latest)]
        return next((run.judgement for run in reversed(self.runs) if run.judgement != "nothing"), "nothing")

    @cached_property
    def judged(self) -> RunFacts | None:
        """The newest run whose outputs were judged."""
        return next((run for run in reversed(self.runs) if run.judgement != "nothing"), None)

    @property
    def last_step(self) -> Step | None:
        """The change that led to the present level, where there was one."""
        return self.stretches[-1].steps[-1] if self.stretches and self.stretches[-1].steps else None

    @property
    def step_run(self) -> RunFacts | None:
        """The first run of the present level."""
        step = self.last_step
        return None if step is None else self.runs[self.stretches[-1].runs[step.at]]


def lane_key(run: RunFacts) -> LaneKey:
    """The lane that a run belongs to."""
    return LaneKey(run.accelerator, run.precision, run.backend, run.threads)


def comparable(run: RunFacts) -> tuple[str, ...]:
    """Benchmarks of one lane that differ in this are incomparable."""
    return run.sha256, run.inputs, run.system, run.gpu if run.accelerator != "cpu" else ""


def _identity(run: RunFacts) -> tuple[str, str, str]:
    return run.sha256, run.runtime, run.gpu


@dataclass(frozen=True)
class Series:
    """One model on one device."""

    model: str
    device: str
    lanes: tuple[Lane, ...]

    @cached_property
    def slug(self) -> str:
        """A file name of its own, whatever the names hold."""
        return slug(self.model, self.device)

    @cached_property
    def runs(self) -> tuple[RunFacts, ...]:
        """All runs, newest first."""
        return tuple(sorted((r for lane in self.lanes for r in lane.runs), key=_when, reverse=True))

    def best(self, accelerator: str) -> Lane | None:
        """The fastest lane of an accelerator; the first one where none is benchmarked."""
        lanes = [lane for lane in self.lanes if lane.key.accelerator == accelerator]
        timed = [lane for lane in lanes if lane.latest is not None]
        if timed:
            return min(timed, key=lambda lane: (lane.latest and lane.latest.p50_ms) or 0.0)
        return lanes[0] if lanes else None


def group(runs: Sequence[RunFacts]) -> tuple[Series, ...]:
    """Series of all runs that name a model and a device, the one with the newest run first."""
    lanes: dict[tuple[str, str], dict[LaneKey, list[RunFacts]]] = defaultdict(lambda: defaultdict(list))
    for run in sorted(runs, key=_when):
        if run.model and run.device:
            lanes[run.model, run.device][lane_key(run)].append(run)
    found = [
        Series(model, device, tuple(Lane(k, tuple(r)) for k, r in sorted(by_key.items(), key=lambda kv: kv[0].order)))
        for (model, device), by_key in lanes.items()
    ]
    return tuple(sorted(found, key=lambda series: _when(series.runs[0]), reverse=True))


def _when(run: RunFacts) -> tuple[str, str]:
    return run.started, run.run


def slug(*words: str) -> str:
    """Letters, digits and dashes, told apart from others of the same letters by a digest."""
    text = "-".join(word.lower().removesuffix(".tflite") for word in words)
    plain = re.sub(r"[^a-z0-9]+", "-", text)[:60].strip("-") or "model"
    digest = hashlib.sha256("\0".join(words).encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{plain}-{digest}"


def row_id(run: str) -> str:
    """The id of a run's row on a page."""
    return "r-" + hashlib.sha256(run.encode("utf-8", "surrogatepass")).hexdigest()[:12]
