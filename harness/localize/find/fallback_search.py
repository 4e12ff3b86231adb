"""When reading intermediates cannot be trusted, or does not account for the failure: ask windows instead.

A suspect stands when it fails by itself on the reference's inputs, or when its verdict rests on no tap at all. Where
the suspects that stand do not make every failing output fail, the stretches between them are searched by windows; so
are ops that were judged as one, unless no window in them fails.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from harness.localize.base.causes import cause_of
from harness.localize.base.op_record import OpRecord
from harness.localize.base.remarks import left_open
from harness.localize.base.result import Culprit
from harness.localize.find.windows import WindowProbe
from harness.localize.probe.isolation import reproduces_in_isolation
from harness.localize.probe.search import Answer, find_windows
from harness.numerics.tolerance import Judgement
from harness.remedies.cause import Cause

# Of the search by windows as a whole. A compile of a part of a model takes seconds on a software GPU.
WINDOW_COMPILES, WINDOW_SECONDS = 200, 300.0


@dataclass
class Budget:
    """Questions and seconds from now on. `refused` counts the questions that were not asked."""

    compiles: int = WINDOW_COMPILES
    seconds: float = WINDOW_SECONDS
    clock: Callable[[], float] = time.monotonic
    asked: int = 0
    refused: int = 0
    _longest: float = 0.0
    _began: float = field(init=False)

    def __post_init__(self) -> None:
        self._began = self.clock()

    def __str__(self) -> str:
        return f"at most {self.compiles} compiles and {self.seconds:g} s"

    def spend(self, ask: Callable[[], Answer], instead: Answer) -> Answer:
        """The answer to a question; `instead`, where it is not asked, since one as long as the longest so far would end
        after the time that is left."""
        begun = self.clock()
        if self.asked >= self.compiles or begun - self._began + self._longest > self.seconds:
            self.refused += 1
            return instead
        self.asked += 1
        answer = ask()
        self._longest = max(self._longest, self.clock() - begun)
        return answer


@dataclass(frozen=True)
class Resolved:
    """Culprits that stand, and what could not be resolved, in words."""

    culprits: list[Culprit]
    notes: list[str]


def resolve(
    probe: WindowProbe,
    suspects: Sequence[Culprit],
    alone: Mapping[OpRecord, Judgement],
    rests_on_no_tap: Callable[[OpRecord], bool],
    accounted: bool,
    listen: Callable[[str], None],
    budget: Budget | None = None,
) -> Resolved:
    """Keep the suspects that stand without taps, and search for others where they do not explain the failure. `alone`
    has what each of them does by itself, `budget` what the search may take; `listen` hears both said and done."""
    notes: list[str] = []
    standing: list[Culprit] = []
    runs = [s for s in suspects if s.record.first < s.record.index]
    for suspect in suspects:
        record = suspect.record
        if suspect in runs:
            continue  # ops judged as one, for want of taps between them: the search takes them apart
        by_itself = alone.get(record)
        fails = by_itself is not None and reproduces_in_isolation(record, by_itself)
        if fails or rests_on_no_tap(record):
            standing.append(replace(suspect, isolated=fails))
        else:
            word = "is right" if by_itself is not None else "could not be run"
            notes.append(f"{record.title} {record.number} looked wrong under a tap, but {word} by itself.")
    if accounted and len(standing) == len(suspects):
        return Resolved(standing, notes)
    budget = budget or Budget()
    found, unresolved = _search(probe, standing, listen, budget)
    if budget.refused:
        notes.append(f"The search by windows ended with what it may take, {budget}.")
    notes += left_open(unresolved)
    for run in runs:
        record = run.record
        whole = record.first <= probe.items[0] and record.index >= probe.items[-1]
        if whole or any(record.first <= f.record.index and f.record.first <= record.index for f in found):
            continue  # the whole model is no answer
        answer = probe.alone(record)
        if answer == "bad" or rests_on_no_tap(record):
            standing.append(replace(run, isolated=answer == "bad"))
    culprits = sorted([*standing, *found], key=lambda c: (c.record.index, c.record.first))
    return Resolved(culprits, notes)


def _search(
    probe: WindowProbe, standing: Sequence[Culprit], listen: Callable[[str], None], budget: Budget
) -> tuple[list[Culprit], int]:
    places = {op: i for i, op in enumerate(probe.items)}
    taken = sorted((places[c.record.first], places[c.record.index] + 1) for c in standing)
    begin, stretches = 0, []
    for start, stop in [*taken, (len(probe.items), len(probe.items))]:
        if begin < start:
            stretches.append((begin, start))
        begin = max(begin, stop)
    culprits: list[Culprit] = []
    unresolved = 0
    for begin, end in stretches:

        def ask(start: int, stop: int, begin: int = begin) -> Answer:
            first, last = probe.items[begin + start], probe.items[begin + stop - 1]
            what = f"ops {first} to {last} by themselves" if first != last else f"op {first} by itself"
            listen(what if budget.asked else f"{what} (windows: {budget})")
            return budget.spend(lambda: probe.ask(begin + start, begin + stop), "unresolved")

        found = find_windows(end - begin, ask)
        unresolved += len(found.unresolved)
        for window in found.failing:
            place = replace(window, start=window.start + begin, stop=window.stop + begin)
            record = probe.record(place)
            beyond = place in probe.beyond_limit
            cause, signature = cause_of(record, half=probe.case.options.half, reduction=None, beyond=beyond)
            # What a delegate makes one kernel of can ask for more operands than a kernel may have: nothing is written.
            if len(window) > 1 and cause != "limits":
                cause = Cause.CONTEXT
            culprits.append(Culprit(record, cause, signature, certified=False, isolated=True))
    return culprits, unresolved
