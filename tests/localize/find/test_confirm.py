"""When culprits are asked in isolation, and which of them are left where some are right there."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from harness.core.progress import SILENT
from harness.localize.base.op_record import OpRecord
from harness.localize.base.result import Culprit, Impact, OutputVerdict
from harness.localize.find import confirm as confirming
from harness.localize.find.confirm import Confirmed, confirm, search_beside
from harness.localize.find.fallback_search import Resolved
from harness.localize.find.findings import Findings
from harness.numerics.metrics import compare
from harness.numerics.tolerance import FACTOR, LOCAL_FACTOR, Judgement, judge
from harness.remedies.cause import Cause
from tests.arrays import f32, normal

EXACT = normal((64,), 1)


def judged(actual: Any, factor: float = LOCAL_FACTOR) -> Judgement:
    return judge(compare(actual, EXACT), compare(EXACT, EXACT), roundoff=2.0**-11, factor=factor)


BAD, GOOD = judged(-EXACT), judged(EXACT)
OUTPUTS = (OutputVerdict("y", judged(-EXACT, FACTOR), 1.0),)
EXPLAINED = (Impact("y", judged(-EXACT, FACTOR), 1.0),)
UNFELT = (Impact("y", judged(EXACT, FACTOR), 1.0),)  # no output fails by it
SHARED = (Impact("y", judged(-EXACT, FACTOR), 1.0, unexplained=0.6),)  # more than half of the error is left


def culprit(op: int, *, certified: bool = True, first: int | None = None) -> Culprit:
    start = op if first is None else first
    record = OpRecord(op, "MUL", start, "t", op, EXACT.shape, "float32", "culprit", judged(f32(0) * EXACT))
    return Culprit(record, Cause.KERNEL, None, certified=certified)


class Asked:
    """Evidence of ops that each read what `feeds` says, and give `alone` in isolation. Keeps what was asked."""

    def __init__(
        self,
        alone: dict[int, Judgement] | None = None,
        *,
        feeds: dict[int, set[int]] | None = None,
        redundant: bool = False,
        together: tuple[Impact, ...] = EXPLAINED,
    ) -> None:
        self.by_op, self.feeds, self.redundant, self.together = alone or {}, feeds or {}, redundant, together
        self.asked: list[int] = []
        self.without: list[frozenset[int]] = []
        self.first = SimpleNamespace(outputs=OUTPUTS)
        self.isolation = SimpleNamespace(ask=self.ask)
        self.impact = SimpleNamespace(
            has_redundant_culprit=lambda readings, explained: self.redundant,
            impact_on_outputs=lambda readings, outputs: self.together,
        )

    def readings_of(self, culprits: Any, without: frozenset[int] = frozenset()) -> dict[OpRecord, Any]:
        self.without.append(without)
        return {
            c.record: SimpleNamespace(
                tensor=c.record.tensor,
                feeds=self.feeds.get(c.record.index, set()),
                ops=tuple(range(c.record.first, c.record.index + 1)),
            )
            for c in culprits
        }

    def ask(self, readings: dict[OpRecord, Any]) -> dict[OpRecord, Judgement]:
        self.asked += [record.index for record in readings]
        return {record: self.by_op[record.index] for record in readings if record.index in self.by_op}


def confirmed(asked: Any, findings: Findings) -> Confirmed:
    return confirm(asked, findings)


def found(*culprits: Culprit, explained: tuple[Impact, ...] = EXPLAINED) -> Findings:
    return Findings(culprits, explained, ("Before.",))


@pytest.mark.parametrize(
    ("asked", "findings", "doubt"),
    [
        (Asked(), found(), False),
        (Asked(), found(culprit(1), culprit(3)), False),
        (Asked(), found(culprit(1), culprit(3, certified=False)), True),
        (Asked(), found(culprit(1), explained=UNFELT), True),
        (Asked(), found(culprit(1), explained=SHARED), True),
        (Asked(feeds={3: {1}}), found(culprit(1), culprit(3)), True),
        (Asked(feeds={3: {2}}), found(culprit(1), culprit(3)), False),
        (Asked(redundant=True), found(culprit(1), culprit(3)), True),
    ],
)
def test_culprits_are_asked_in_isolation_where_there_is_a_doubt_and_only_there(
    asked: Asked, findings: Findings, doubt: bool
) -> None:
    assert confirmed(asked, findings) == Confirmed(findings, {})  # who gives no answer is left as it is
    assert asked.asked == ([c.record.index for c in findings.culprits] if doubt else [])


def test_what_all_fail_in_isolation_stand_as_they_are_isolated() -> None:
    pair = culprit(1), culprit(3)
    answer = confirmed(Asked({1: BAD, 3: BAD}, redundant=True), found(*pair))
    assert answer.findings == found(*(replace(c, isolated=True) for c in pair))
    assert answer.alone == {c.record: BAD for c in pair}


def test_ops_that_were_judged_as_one_are_not_asked() -> None:
    asked = Asked({1: BAD, 4: BAD}, redundant=True)
    answer = confirmed(asked, found(culprit(1), culprit(4, first=3)))
    assert asked.asked == [1]
    assert [c.record.index for c in answer.findings.culprits] == [1]


def test_what_is_right_alone_is_dropped_where_the_others_explain_the_outputs() -> None:
    left, dropped = culprit(1), culprit(3)
    asked = Asked({1: BAD, 3: GOOD}, redundant=True)
    answer = confirmed(asked, found(left, dropped))
    assert answer.findings == Findings(
        (replace(left, isolated=True),),
        EXPLAINED,
        ("Before.", "MUL #3 looked wrong under both taps, but is right alone."),
    )
    assert answer.alone == {left.record: BAD, dropped.record: GOOD}
    assert asked.without == [frozenset(), frozenset({3})]


@pytest.mark.parametrize("together", [UNFELT, SHARED])
def test_nothing_is_dropped_where_the_others_do_not_explain_the_outputs(together: tuple[Impact, ...]) -> None:
    findings = found(culprit(1), culprit(3))
    assert confirmed(Asked({1: BAD, 3: GOOD}, redundant=True, together=together), findings).findings == findings


@pytest.mark.parametrize(
    ("alone", "findings"),
    [
        ({1: GOOD, 3: GOOD}, found(culprit(1), culprit(3))),
        ({1: BAD, 3: BAD}, found(culprit(1), culprit(3, certified=False))),
        ({1: BAD, 3: GOOD}, found(culprit(1), culprit(3), explained=UNFELT)),
    ],
)
def test_nothing_changes_where_none_fails_alone_or_the_taps_were_not_sure(
    alone: dict[int, Judgement], findings: Findings
) -> None:
    answer = confirmed(Asked(alone, redundant=True), findings)
    assert answer.findings == findings
    assert answer.alone == {c.record: alone[c.record.index] for c in findings.culprits}


class Beside:
    """Evidence on a model with the inputs 100 and 101, of ops that each read what `feeds` says, `direct` ones as an
    output. Keeps what is given to the search by windows, which finds `resolved`."""

    def __init__(self, feeds: dict[int, set[int]], direct: set[int], resolved: Resolved) -> None:
        self.feeds, self.direct, self.resolved = feeds, direct, resolved
        self.asked: list[int] = []
        self.given: list[Any] = []
        ports = [SimpleNamespace(tensor=100), SimpleNamespace(tensor=101)]
        case = SimpleNamespace(graph=SimpleNamespace(inputs=ports))
        self.local = SimpleNamespace(case=case, store="store")
        self.bench = SimpleNamespace(device="device", host="host", progress=SILENT)
        self.first = SimpleNamespace(outputs=OUTPUTS, beyond="beyond")
        self.isolation = SimpleNamespace(ask=self.ask)

    def readings_of(self, culprits: Any) -> dict[OpRecord, Any]:
        return {
            c.record: SimpleNamespace(
                tensor=c.record.tensor,
                feeds=self.feeds.get(c.record.index, set()),
                from_output="y" if c.record.index in self.direct else None,
                ops=tuple(range(c.record.first, c.record.index + 1)),
            )
            for c in culprits
        }

    def ask(self, readings: dict[OpRecord, Any]) -> dict[OpRecord, Judgement]:
        self.asked += [record.index for record in readings]
        return dict.fromkeys(readings, GOOD)

    def resolve(self, *given: Any) -> Resolved:
        self.given = list(given)
        return self.resolved


def beside(
    monkeypatch: pytest.MonkeyPatch,
    confirmed: Confirmed,
    feeds: dict[int, set[int]] | None = None,
    direct: set[int] | None = None,
    resolved: Resolved | None = None,
) -> tuple[Findings, Beside]:
    known: Any = Beside(feeds or {}, direct or set(), resolved or Resolved([], []))
    monkeypatch.setattr(confirming, "resolve", known.resolve)
    monkeypatch.setattr(confirming, "WindowProbe", lambda *given: given)
    return search_beside(known, confirmed), known


def as_output(op: int) -> Culprit:
    made = culprit(op)
    return replace(made, record=replace(made.record, reading="output"))


def test_what_windows_find_takes_the_place_of_what_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    other = culprit(5, certified=False)
    findings, known = beside(monkeypatch, Confirmed(found(culprit(1)), {}), resolved=Resolved([other], ["After."]))
    assert findings == Findings((other,), EXPLAINED, ("Before.", "After."))
    probe, culprits, _, _, enough, _ = known.given
    assert probe == ("device", "host", known.local.case, "store", "beyond")
    assert (culprits, enough) == ((culprit(1),), True)


@pytest.mark.parametrize(
    ("findings", "enough"),
    [(found(culprit(1)), True), (found(culprit(1), explained=UNFELT), False), (found(), False)],
)
def test_windows_know_whether_culprits_account_for_the_failure(
    findings: Findings, enough: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert beside(monkeypatch, Confirmed(findings, {}))[1].given[4] is enough


def test_culprits_are_asked_in_isolation_unless_they_have_been(monkeypatch: pytest.MonkeyPatch) -> None:
    findings = found(culprit(1), culprit(4, first=3))
    _, known = beside(monkeypatch, Confirmed(findings, {}))
    assert (known.asked, known.given[2]) == ([1], {culprit(1).record: GOOD})  # not what was judged as one
    _, known = beside(monkeypatch, Confirmed(findings, {culprit(1).record: BAD}))
    assert (known.asked, known.given[2]) == ([], {culprit(1).record: BAD})


@pytest.mark.parametrize(
    ("suspect", "feeds", "direct", "stands"),
    [
        (as_output(1), {100, 101}, True, True),
        (as_output(1), {100}, True, True),
        (as_output(1), {100, 7}, True, False),  # a tap read what feeds it
        (as_output(1), {100}, False, False),
        (culprit(1), {100}, True, False),  # a copy of the same tensor
    ],
)
def test_a_verdict_rests_on_no_tap_where_an_output_is_made_of_inputs_alone(
    suspect: Culprit, feeds: set[int], direct: bool, stands: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, known = beside(monkeypatch, Confirmed(found(suspect), {}), {1: feeds}, {1} if direct else set())
    assert known.given[3](suspect.record) is stands


def test_each_question_of_the_windows_is_told_as_a_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    _, known = beside(monkeypatch, Confirmed(found(culprit(1)), {}))
    known.bench.progress = SimpleNamespace(stage=lambda what, seconds: told.append(what))
    known.given[5]("ops 1 to 3")
    assert told == ["ops 1 to 3"]
