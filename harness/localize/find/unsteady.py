"""Devices that change their mind: how often an output is wrong, and a wrong run whose intermediates were read.

All values that one run gives belong together. So an op's error on the device's own inputs means as much on a device
that is never the same as on one that always is, provided that the run was a wrong one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from harness.core.arrays import Array
from harness.localize.base.case import Case
from harness.localize.base.comparison import ModelComparison, Workbench, changed_output
from harness.localize.base.op_record import OpRecord
from harness.localize.base.outputs import judge_outputs, judge_run
from harness.localize.base.result import Culprit
from harness.localize.probe.taps import Tapped

# Tapped runs until one is wrong.
MOST_ATTEMPTS = 6
# From so many runs on, one right one before all others says something.
LEAST_RUNS = 4
# With so few results, most of them may be wrong.
LEAST_RECORDS = 4


@dataclass(frozen=True)
class WrongRun:
    """What was read of a run in which an output is wrong; `found` has that run's outputs, `own` their values. `seen`:
    the untouched model was wrong in the same way in one of its runs; else it may be the reading that made it wrong."""

    tapped: Tapped
    found: ModelComparison
    own: dict[str, Array]
    seen: bool


def wrong_run(bench: Workbench, case: Case, first: ModelComparison, tap: Callable[[int], Tapped]) -> WrongRun | None:
    """A wrong run to be explained; None where none of `MOST_ATTEMPTS` is. `tap` reads the intermediates after so many
    runs of the compiled model: first runs and later ones are asked in turn, for a device may be right the first time
    only."""
    for attempt in range(MOST_ATTEMPTS):
        tapped = tap(attempt % 2)
        own = tapped.own
        if own.keys() != {port.name for port in case.graph.outputs}:
            return None  # some could not be read, and will not be the next time
        if all(o.explained for o in judge_run(case, own, first.ideal, bench.run.tensors)):
            continue
        judged = zip(judge_outputs(case, own, first.ideal, bench.run.tensors), first.outputs, strict=True)
        outputs = tuple(replace(now, runs=before.runs) for now, before in judged)
        seen = any(not changed_output(bench, case, first, own, run) for run in first.wrong_runs)
        return WrongRun(tapped, replace(first, outputs=outputs), own, seen)
    return None


def notes(first: ModelComparison) -> list[str]:
    """How the runs differ, and how often each output is wrong."""
    counted = [(o.name, *o.runs) for o in first.outputs if o.runs]
    failing = [(wrong, runs) for _, wrong, runs in counted if wrong]
    once = all(o.explained for o in first.outputs) and all(
        runs >= LEAST_RUNS and wrong == runs - 1 for wrong, runs in failing
    )
    when = "right only the first time" if once else "nondeterministic"
    return [
        f"Two runs of the untouched model gave different outputs: the device is {when}. It was output {first.differs}.",
        *(f"Output '{name}' was {rate(wrong, runs)}." for name, wrong, runs in counted),
    ]


def wrong_all_over(records: Sequence[OpRecord]) -> bool:
    """Whether most of what was read is wrong, or all of it zeros: then it is what the device gives back that changes,
    and no op."""
    if len(records) < LEAST_RECORDS:
        return False
    wrong = sum(record.verdict == "culprit" for record in records)
    unwritten = all(record.local is not None and record.local.actual.range == (0.0, 0.0) for record in records)
    return unwritten or 2 * wrong > len(records)


def standing(culprits: Sequence[Culprit]) -> list[Culprit]:
    """Culprits that a second reading, or the op by itself, confirms: one run of a device that changes its mind is not
    enough to blame an op."""
    return [culprit for culprit in culprits if culprit.certified or culprit.isolated]


def rate(wrong: int, runs: int) -> str:
    """`wrong in 2 of 8 runs (95 % interval 7 % to 59 %)`: Wilson's score interval (Wilson 1927)."""
    from scipy.stats import binomtest  # takes a second to load

    interval = binomtest(wrong, runs).proportion_ci(confidence_level=0.95, method="wilson")
    return f"wrong in {wrong} of {runs} runs (95 % interval {interval.low:.0%} to {interval.high:.0%})"
