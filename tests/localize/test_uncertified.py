"""Which suspects stand, and what the outputs have to show of them."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from harness.job import Options
from harness.localize.alone import fails_likewise
from harness.localize.impact import unexplained
from harness.localize.result import Culprit, Impact, OpRecord, OutputVerdict
from harness.localize.search import Answer, Window
from harness.localize.uncertified import accounts_for, explains, resolve
from harness.numerics.fp16 import SMALLEST_NORMAL, UNIT_ROUNDOFF
from harness.numerics.metrics import compare
from harness.numerics.verdict import FACTOR, LOCAL_FACTOR, Judgement, judge
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
    assert fails_likewise(suspect(local), by_itself) is likewise


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
    ("by_itself", "rests_on_no_tap", "first", "stands"),
    [
        ("bad", False, 1, True),
        ("bad", True, 1, True),
        ("good", True, 1, True),
        ("good", False, 1, False),
        ("unresolved", False, 1, False),
        ("bad", False, 0, False),  # the whole model is no answer
    ],
)
def test_a_run_of_ops_stands_where_it_fails_by_itself_or_rests_on_no_tap(
    by_itself: Answer, rests_on_no_tap: bool, first: int, stands: bool
) -> None:
    record = replace(suspect(off(40)), first=first, index=3 if first else 5)
    run = Culprit(record, "kernel", None, certified=False)
    probe: Any = Windows(by_itself)
    found = resolve(probe, [run], {}, lambda r: rests_on_no_tap, False, lambda what: None)
    assert [(c.record, c.isolated) for c in found.culprits] == ([(record, by_itself == "bad")] if stands else [])


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
