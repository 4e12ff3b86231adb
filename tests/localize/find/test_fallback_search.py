"""Which suspects stand, and what the outputs have to show of them."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from harness.core.job import Options
from harness.localize.base.op_record import OpRecord
from harness.localize.base.result import Culprit, Impact, OutputVerdict
from harness.localize.find.fallback_search import Budget, resolve
from harness.localize.find.findings import accounts_for, explains
from harness.localize.find.impact import unexplained
from harness.localize.probe.isolation import reproduces_in_isolation
from harness.localize.probe.search import Answer, Window
from harness.numerics.fp16 import SMALLEST_NORMAL, UNIT_ROUNDOFF
from harness.numerics.metrics import compare
from harness.numerics.tolerance import FACTOR, LOCAL_FACTOR, Judgement, judge
from harness.remedies.cause import Cause
from tests.arrays import f32, normal

EXACT = normal((1024,), 1)


def judged(actual: Any, exact: Any = EXACT, *, factor: float = LOCAL_FACTOR) -> Judgement:
    return judge(compare(actual, exact, SMALLEST_NORMAL), compare(exact, exact), roundoff=UNIT_ROUNDOFF, factor=factor)


def off(roundings: float) -> Judgement:
    """A result with every element off by so many roundings of the RMS."""
    return judged(EXACT + f32(roundings * UNIT_ROUNDOFF * np.sqrt(np.mean(EXACT.astype(np.float64) ** 2))))


def flushed(count: int) -> Judgement:
    """A result of which so many elements, below float16's range, came out as zero."""
    exact = EXACT.copy()
    exact[:100] = 1e-6
    actual = exact.copy()
    actual[:count] = 0
    return judged(actual, exact)


def suspect(local: Judgement | None) -> OpRecord:
    return OpRecord(3, "MUL", 3, "y", 7, EXACT.shape, "float32", "culprit", local)


def output(actual: Any, name: str = "y") -> OutputVerdict:
    return OutputVerdict(name, judged(actual, factor=FACTOR), 1.0)


def impact(share: float, actual: Any = EXACT, name: str = "y") -> Impact:
    return Impact(name, judged(actual, factor=FACTOR), 1.0, share)


CASES = {
    "over its limit in the graph and alone": (off(40), off(40), True),
    "over its limit in the graph, right alone": (off(40), off(2), False),
    "over its limit in the graph, near it alone": (off(40), off(20), False),
    "ended the process in the graph, right alone": (None, off(2), False),
    "ended the process in the graph, over its limit alone": (None, off(40), True),
    "near its limit in the graph, over it alone": (off(20), off(40), True),
    "near its limit in the graph and alone": (off(20), off(20), True),
    "near its limit in the graph, far from it alone": (off(20), off(15), False),
    "far from its limit in the graph, near it alone": (off(15), off(20), False),
    "lost a hundred small values, and all of them alone": (flushed(100), flushed(100), True),
    "lost a hundred small values, and half of them alone": (flushed(100), flushed(50), True),
    "lost a hundred small values, and less than half alone": (flushed(100), flushed(49), False),
    "lost small values in the graph, over its limit alone": (flushed(100), off(40), True),
    "lost nothing in the graph nor alone": (flushed(0), flushed(0), False),
    "lost nothing in the graph, and small values alone": (flushed(0), flushed(100), False),
}


@pytest.mark.parametrize("name", CASES)
def test_an_op_fails_alone_as_it_did_in_the_graph_or_not(name: str) -> None:
    local, by_itself, likewise = CASES[name]
    assert reproduces_in_isolation(suspect(local), by_itself) is likewise


def test_an_injection_that_leaves_more_than_half_of_an_outputs_error_does_not_explain_it() -> None:
    wrong = [output(-EXACT)]
    assert explains([impact(0.5)], wrong)
    assert not explains([impact(0.51)], wrong)


def test_a_lying_tap_whose_error_the_outputs_do_not_show_explains_nothing() -> None:
    """Garbage that has nothing to do with the error leaves all of it, and what it adds."""
    device = EXACT + normal(EXACT.shape, 2)
    nothing, _ = unexplained(device, EXACT, EXACT, (EXACT,))
    garbage, _ = unexplained(device, EXACT + normal(EXACT.shape, 3), EXACT, (EXACT,))
    assert nothing == 1.0
    assert garbage == pytest.approx(np.sqrt(2), rel=0.1)
    for share in (nothing, garbage):
        assert not explains([impact(share)], [output(device)])


def test_a_right_output_needs_no_explanation() -> None:
    assert explains([impact(1.0, name="right"), impact(0.0)], [output(EXACT, "right"), output(-EXACT)])


def test_every_wrong_output_has_to_fail_by_the_injected_errors() -> None:
    both = [output(-EXACT, "a"), output(-EXACT, "b")]
    fails = [impact(0.0, -EXACT, "a"), impact(0.0, -EXACT, "b")]
    assert accounts_for(fails, both)
    assert not accounts_for([fails[0], replace(fails[1], judgement=judged(EXACT, factor=FACTOR))], both)
    assert accounts_for([fails[0]], [both[0], output(EXACT, "b")])


class Windows:
    """Six ops, of which every window is right; what a run of ops does by itself is up to the test."""

    items = tuple(range(6))

    def __init__(self, by_itself: Answer) -> None:
        self.by_itself = by_itself

    def ask(self, start: int, stop: int) -> Answer:
        return "good"

    def alone(self, record: OpRecord) -> Answer:
        return self.by_itself


@pytest.mark.parametrize(
    ("by_itself", "rests_on_no_tap", "ops", "stands"),
    [
        ("bad", False, (1, 3), True),
        ("bad", True, (1, 3), True),
        ("good", True, (1, 3), True),
        ("good", False, (1, 3), False),
        ("unresolved", False, (1, 3), False),
        ("bad", False, (0, 4), True),
        ("bad", False, (1, 5), True),
        ("bad", False, (0, 5), False),  # the whole model is no answer
    ],
)
def test_a_run_of_ops_stands_where_it_fails_by_itself_or_rests_on_no_tap(
    by_itself: Answer, rests_on_no_tap: bool, ops: tuple[int, int], stands: bool
) -> None:
    record = replace(suspect(off(40)), first=ops[0], index=ops[1])
    run = Culprit(record, Cause.KERNEL, None, certified=False)
    probe: Any = Windows(by_itself)
    found = resolve(probe, [run], {}, lambda r: rests_on_no_tap, False, lambda what: None)
    assert [(c.record, c.isolated) for c in found.culprits] == ([(record, by_itself == "bad")] if stands else [])


class Listening(Windows):
    """Of which a window is wrong that has one of these ops; keeps what is asked of it, first and last op."""

    def __init__(self, *broken: int) -> None:
        super().__init__("good")
        self.broken = broken
        self.beyond_limit: set[Window] = set()
        self.case = SimpleNamespace(options=Options("gpu"))
        self.asked: list[tuple[int, int]] = []

    def ask(self, start: int, stop: int) -> Answer:
        self.asked.append((start, stop - 1))
        return "bad" if any(start <= op < stop for op in self.broken) else "good"

    def record(self, window: Window) -> OpRecord:
        return replace(suspect(off(40)), first=window.start, index=window.stop - 1)


def standing(*ops: int) -> list[Culprit]:
    records = [replace(suspect(off(40)), first=op, index=op) for op in ops]
    return [Culprit(record, Cause.KERNEL, None, certified=False) for record in records]


def said(asked: tuple[int, int]) -> str:
    first, last = asked
    return f"op {first} by itself" if first == last else f"ops {first} to {last} by themselves"


@pytest.mark.parametrize(
    ("known", "broken", "stretches"),
    [
        ((), (3,), [(0, 5)]),
        ((0,), (3,), [(1, 5)]),
        ((1, 5), (2, 4), [(0, 0), (2, 4)]),
        ((2, 3), (5,), [(0, 1), (4, 5)]),
        ((0, 1, 2, 4, 5), (), [(3, 3)]),
        ((0, 1, 2, 3, 4, 5), (), []),
    ],
)
def test_only_stretches_between_what_stands_are_searched_and_each_question_is_said(
    known: tuple[int, ...], broken: tuple[int, ...], stretches: list[tuple[int, int]]
) -> None:
    windows = Listening(*broken)
    probe: Any = windows
    heard: list[str] = []
    alone = {culprit.record: off(40) for culprit in standing(*known)}
    found = resolve(probe, standing(*known), alone, lambda r: False, False, heard.append)
    assert [(c.record.first, c.record.index) for c in found.culprits] == [(op, op) for op in sorted({*known, *broken})]
    assert all(culprit.isolated and culprit.cause == "kernel" for culprit in found.culprits)
    assert [asked for asked in windows.asked if asked in stretches] == stretches
    assert all(any(a <= first and last <= b for a, b in stretches) for first, last in windows.asked)
    assert heard[:1] == [f"{said(asked)} (windows: at most 200 compiles and 300 s)" for asked in windows.asked[:1]]
    assert heard[1:] == [said(asked) for asked in windows.asked[1:]]
    assert found.notes == []


def test_a_suspect_that_is_right_by_itself_or_cannot_be_run_does_not_stand() -> None:
    probe: Any = Listening()
    right, unknown = standing(1, 2)
    found = resolve(probe, [right, unknown], {right.record: off(2)}, lambda r: False, True, lambda what: None)
    assert found.culprits == []
    assert found.notes == [
        "MUL #1 looked wrong under a tap, but is right by itself.",
        "MUL #2 looked wrong under a tap, but could not be run by itself.",
    ]


def test_what_accounts_for_the_outputs_and_stands_as_a_whole_is_not_searched_beside() -> None:
    windows = Listening(4)
    probe: Any = windows
    found = resolve(probe, standing(1), {standing(1)[0].record: off(40)}, lambda r: False, True, lambda what: None)
    assert (len(found.culprits), windows.asked) == (1, [])


class Clock:
    """Goes on by what each question takes."""

    def __init__(self, *seconds: float) -> None:
        self.now, self.seconds = 5.0, list(seconds)

    def __call__(self) -> float:
        return self.now

    def ask(self) -> Answer:
        self.now += self.seconds.pop(0)
        return "good"


def test_a_budget_is_spent_to_the_last_question_and_no_further() -> None:
    clock = Clock(1, 1, 1)
    budget = Budget(2, 100.0, clock)
    answers = [budget.spend(clock.ask, "unresolved") for _ in range(3)]
    assert answers == ["good", "good", "unresolved"]
    assert (budget.asked, budget.refused) == (2, 1)


@pytest.mark.parametrize(("seconds", "asked"), [(10, 1), (19, 1), (20, 2), (22, 2), (23, 3), (29, 3), (30, 4)])
def test_a_question_is_asked_where_one_as_long_as_the_longest_still_ends_in_time(seconds: float, asked: int) -> None:
    """They would begin after 0, 10, 13 and 20 s, and the longest before the last three took 10 s."""
    clock = Clock(10, 3, 7, 100)
    budget = Budget(100, seconds, clock)
    while budget.spend(clock.ask, "unresolved") == "good":
        pass
    assert (budget.asked, budget.refused) == (asked, 1)


class Fused(Windows):
    """Ops 1 to 4 are one kernel, which is not run: with all of them in it, a window gives zeros. `logged` is whether
    the runtime names a limit then."""

    def __init__(self, *, logged: bool) -> None:
        super().__init__("good")
        self.beyond_limit = {Window(1, 5)} if logged else set()
        self.case = SimpleNamespace(options=Options("gpu"))

    def ask(self, start: int, stop: int) -> Answer:
        return "bad" if start <= 1 and stop >= 5 else "good"

    def record(self, window: Window) -> OpRecord:
        return replace(suspect(judged(np.zeros_like(EXACT))), first=window.start, index=window.stop - 1)


@pytest.mark.parametrize(("logged", "cause"), [(True, "limits"), (False, "context")])
def test_ops_that_only_fail_together_break_a_limit_where_the_runtime_says_so(logged: bool, cause: str) -> None:
    probe: Any = Fused(logged=logged)
    found = resolve(probe, [], {}, lambda r: False, False, lambda what: None)
    assert [(c.record.first, c.record.index, c.cause, c.signature) for c in found.culprits] == [
        (1, 4, cause, "all zeros")
    ]


def run_of(first: int, last: int) -> Culprit:
    return Culprit(replace(suspect(off(40)), first=first, index=last), Cause.KERNEL, None, certified=False)


@pytest.mark.parametrize(("broken", "stands"), [(1, True), (2, False), (3, False), (4, False), (5, True)])
def test_a_run_of_ops_is_not_blamed_where_a_window_in_it_is(broken: int, stands: bool) -> None:
    probe: Any = Listening(broken)
    probe.by_itself = "bad"
    found = resolve(probe, [run_of(2, 4)], {}, lambda r: False, True, lambda what: None)
    runs = [(2, 4)] if stands else []
    assert sorted((c.record.first, c.record.index) for c in found.culprits) == sorted([(broken, broken), *runs])
    assert [c.record.index for c in found.culprits] == sorted(c.record.index for c in found.culprits)


def test_each_suspect_and_each_run_is_asked_for_itself() -> None:
    probe: Any = Windows("bad")
    (single,) = standing(5)
    found = resolve(
        probe,
        [run_of(0, 5), run_of(3, 4), single, run_of(1, 4)],  # the first is the whole model
        {single.record: off(40)},
        lambda r: False,
        True,
        lambda what: None,
    )
    assert [(c.record.first, c.record.index) for c in found.culprits] == [(1, 4), (3, 4), (5, 5)]


def test_a_suspect_that_rests_on_no_tap_stands_and_is_isolated_only_where_it_fails_alone() -> None:
    probe: Any = Windows("good")
    right, unknown, wrong = standing(1, 2, 3)
    alone = {right.record: off(2), wrong.record: off(40)}
    found = resolve(probe, [right, unknown, wrong], alone, lambda r: True, True, lambda what: None)
    assert [(c.record.index, c.isolated) for c in found.culprits] == [(1, False), (2, False), (3, True)]
    assert found.notes == []


def test_a_search_that_may_take_no_more_says_so() -> None:
    windows = Listening(3)
    probe: Any = windows
    found = resolve(probe, [], {}, lambda r: False, False, lambda what: None, Budget(0, 7.5))
    assert (found.culprits, windows.asked) == ([], [])
    assert found.notes[0] == "The search by windows ended with what it may take, at most 0 compiles and 7.5 s."
    assert found.notes[1].endswith("of ops could not be resolved on the device.")
    assert len(found.notes) == 2


def test_a_limit_is_told_of_a_window_behind_what_stands_too() -> None:
    probe: Any = Fused(logged=True)
    (known,) = standing(0)
    found = resolve(probe, [known], {known.record: off(40)}, lambda r: False, False, lambda what: None)
    assert [(c.record.first, c.record.index, c.cause) for c in found.culprits] == [(0, 0, "kernel"), (1, 4, "limits")]
