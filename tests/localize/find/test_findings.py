"""When a finding is certified: a rule over findings alone, which asks no device."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harness.localize.base.op_record import OpRecord
from harness.localize.base.result import Culprit, Impact, OutputVerdict
from harness.localize.find.findings import NOTHING, UNEXPLAINED, Findings, accounts_for, explains
from harness.numerics.metrics import compare
from harness.numerics.tolerance import FACTOR, Judgement, judge
from harness.remedies.cause import Cause
from tests.arrays import f32

EXACT = f32(np.linspace(1, 2, 64))


def judged(actual: Any) -> Judgement:
    none = compare(EXACT, EXACT)
    return judge(compare(f32(actual), EXACT), none, roundoff=2.0**-11, factor=FACTOR)


RIGHT, WRONG = judged(EXACT), judged(-EXACT)


def output(judgement: Judgement, name: str = "y") -> OutputVerdict:
    return OutputVerdict(name, judgement, 1.0)


def culprit(certified: bool = True, isolated: bool = False, index: int = 3) -> Culprit:
    record = OpRecord(index, "MUL", index, "t", 7 + index, (64,), "float32", "culprit", WRONG)
    return Culprit(record, Cause.KERNEL, None, certified, isolated)


def impact(judgement: Judgement = WRONG, left: float = 0.0, name: str = "y") -> Impact:
    return Impact(name, judgement, 1.0, unexplained=left)


SURE = Findings((culprit(),), (impact(),))


@pytest.mark.parametrize(
    ("findings", "unchanged", "certified"),
    [
        (SURE, True, True),
        (SURE, False, False),
        (NOTHING, True, False),
        (SURE.having([culprit(certified=False)]), True, False),
        (SURE.having([culprit(), culprit(certified=False, index=5)]), True, False),
        (replace(SURE, explained=(impact(RIGHT),)), True, False),
        (replace(SURE, explained=(impact(left=0.6),)), True, False),
        (Findings((culprit(isolated=True),), (impact(left=0.6),)), True, True),
        (Findings((culprit(isolated=True), culprit(index=5)), (impact(left=0.6),)), True, False),
    ],
    ids=[
        "sure",
        "reading changed the model",
        "nobody is accused",
        "one reading is in doubt",
        "one of two is in doubt",
        "the errors do no harm",
        "the errors are not the device's",
        "the errors are not the device's, but the op fails in isolation",
        "the errors are not the device's, and one op was not asked in isolation",
    ],
)
def test_a_finding_is_certified_where_all_that_can_be_asked_agrees(
    findings: Findings, unchanged: bool, certified: bool
) -> None:
    assert findings.certified([output(WRONG)], unchanged=unchanged) is certified


def test_every_failing_output_is_to_be_accounted_for() -> None:
    outputs = [output(WRONG), output(WRONG, "z"), output(RIGHT, "right")]
    assert not SURE.certified(outputs, unchanged=True)
    assert SURE.unaccounted(outputs) == ["Output 'z' is wrong, and no culprit accounts for it."]
    both = replace(SURE, explained=(impact(), impact(name="z")))
    assert both.certified(outputs, unchanged=True) and both.unaccounted(outputs) == []


def test_where_nothing_could_be_injected_nothing_is_said_of_outputs() -> None:
    assert replace(SURE, explained=()).unaccounted([output(WRONG)]) == []
    assert replace(SURE, culprits=()).unaccounted([output(WRONG)]) == []


def test_notes_are_added_and_culprits_replaced_in_a_copy() -> None:
    noted = SURE.noting(["one"]).noting(["two"])
    assert noted.notes == ("one", "two") and SURE.notes == ()
    other = noted.having([culprit(index=9)])
    assert [c.record.index for c in other.culprits] == [9] and other.notes == noted.notes
    assert other.named != SURE.named and SURE.having(SURE.culprits).named == SURE.named


@pytest.mark.parametrize(
    ("explained", "outputs", "accounted"),
    [
        ((), (), True),
        ((), (output(RIGHT),), True),  # nothing to account for
        ((), (output(WRONG),), False),
        ((impact(),), (output(WRONG),), True),
        ((impact(RIGHT),), (output(WRONG),), False),
        ((impact(name="z"),), (output(WRONG),), False),
        ((impact(),), (output(WRONG), output(WRONG, "z")), False),
        ((impact(), impact(RIGHT, name="z")), (output(WRONG), output(RIGHT, "z")), True),
    ],
)
def test_errors_account_for_a_failure_where_each_wrong_output_fails_by_them(
    explained: tuple[Impact, ...], outputs: tuple[OutputVerdict, ...], accounted: bool
) -> None:
    assert accounts_for(explained, outputs) is accounted
    assert Findings((culprit(),), explained).account_for(outputs) is accounted
    assert not Findings((), explained).account_for(outputs)


@pytest.mark.parametrize(
    ("explained", "outputs", "known"),
    [
        ((impact(left=UNEXPLAINED),), (output(WRONG),), True),
        ((impact(left=np.nextafter(UNEXPLAINED, 1)),), (output(WRONG),), False),
        ((impact(left=1.0),), (output(RIGHT),), True),  # of an output that is right
        ((impact(), impact(left=1.0, name="z")), (output(WRONG), output(WRONG, "z")), False),
        ((impact(left=1.0), impact(name="z")), (output(WRONG), output(WRONG, "z")), False),
        ((), (output(WRONG),), True),
    ],
)
def test_errors_explain_a_failure_where_they_leave_at_most_half_of_each_wrong_output(
    explained: tuple[Impact, ...], outputs: tuple[OutputVerdict, ...], known: bool
) -> None:
    assert UNEXPLAINED == 0.5
    assert explains(explained, outputs) is known


def test_nothing_is_said_of_an_output_that_is_right() -> None:
    assert SURE.unaccounted([output(RIGHT, "z")]) == []
    assert (NOTHING.culprits, NOTHING.explained, NOTHING.notes, NOTHING.named) == ((), (), (), frozenset())


def test_each_of_several_culprits_has_its_record_among_those_that_are_named() -> None:
    pair = culprit(), culprit(index=5)
    assert SURE.having(iter(pair)).named == {pair[0].record, pair[1].record}
