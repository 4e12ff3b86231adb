"""Ops side by side: a device differs by its own arithmetic, and not by what reached it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.report.across.ops import Meeting, OpAcross, sentences, side_by_side, told, with_meetings
from harness.report.tables import OpRow, Verdict


def row(index: int = 1, verdict: Verdict = "fine", ratio: float | None = 1.0, **changed: Any) -> OpRow:
    plain = OpRow(
        index, index, "ADD", f"t{index}", "4×8", "float32", verdict, False, 0.5, 0.1, 0.5, 0.1, ratio, 0, 1.0, 0.5, ()
    )
    return replace(plain, **changed)


def one(*verdicts: Verdict) -> OpAcross:
    """An op on as many devices, called a, b, ...."""
    read = [(chr(97 + place), [row(verdict=verdict)]) for place, verdict in enumerate(verdicts)]
    (op,) = side_by_side(read)
    return op


@pytest.mark.parametrize(
    ("verdicts", "split", "sentence"),
    [
        (("culprit", "fine"), "differs", "ADD #1 is wrong on a, right on b."),
        (("inherited", "culprit", "fine"), "differs", "ADD #1 is wrong on b, right on a and c."),
        (("culprit", "culprit"), "shared", "ADD #1 is wrong on a and b."),
        (("culprit", "culprit", "unread"), "shared", "ADD #1 is wrong on a and b, not read on c."),
        (("culprit", "unread"), "unread", "ADD #1 is wrong on a, not read on b."),
        (("inherited", "fine"), "alike", "ADD #1 is right wherever it was read."),
        (("unread", "fine"), "alike", "ADD #1 is right wherever it was read."),
    ],
)
def test_an_op_is_told_by_who_gets_it_wrong(verdicts: tuple[Verdict, ...], split: str, sentence: str) -> None:
    op = one(*verdicts)
    assert (op.split, op.sentence()) == (split, sentence)


@pytest.mark.parametrize(
    ("same", "split", "words"), [(True, "shared", "by the same error"), (False, "differs", "by errors that differ")]
)
def test_two_that_are_wrong_agree_where_their_errors_are_the_same(same: bool, split: str, words: str) -> None:
    (op,) = with_meetings([one("culprit", "culprit")], {(1, "t1"): (Meeting(("a", "b"), 0.5, same),)})
    assert op.split == split
    assert op.sentence() == f"ADD #1 is wrong on a and b, {words}."


def test_ops_are_matched_by_number_kind_and_tensor_in_the_graphs_order() -> None:
    ops = side_by_side([("a", [row(7), row(2)]), ("b", [row(2, output="other"), row(7)])])
    assert [(op.index, op.output, op.devices("fine")) for op in ops] == [
        (2, "t2", ("a",)),
        (2, "other", ("b",)),
        (7, "t7", ("a", "b")),
    ]


def test_of_two_readings_of_a_tensor_the_worse_counts() -> None:
    (op,) = side_by_side([("a", [row(verdict="fine"), row(verdict="culprit", ratio=40.0), row(verdict="unread")])])
    assert (op.on[0].verdict, op.on[0].ratio) == ("culprit", 40.0)


def test_figures_are_those_of_the_device_and_what_was_not_read_has_none() -> None:
    (op,) = side_by_side([("a", [row(verdict="culprit", ratio=335.2)]), ("b", [row(verdict="unread")]), ("c", [])])
    assert [each.word for each in op.on] == ["culprit 335×", "not read", "not read"]
    assert [each.ratio for each in op.on] == [335.2, None, None]
    (lost,) = side_by_side([("a", [row(verdict="culprit", ratio=float("nan"), nonfinite=3)])])
    assert lost.on[0].word == "culprit NaN"


def test_what_differs_is_told_first_and_what_is_alike_not_at_all() -> None:
    ops = side_by_side(
        [
            ("a", [row(1, "culprit"), row(2), row(3, "culprit"), row(4, "culprit")]),
            ("b", [row(1, "culprit"), row(2), row(3, "fine")]),
        ]
    )
    assert [op.index for op in told(ops)] == [3, 4, 1]
    assert sentences(ops, most=1) == ["ADD #3 is wrong on a, right on b.", "And 2 more."]
    assert sentences(ops[1:2]) == ["No op differs between the devices by more than rounding explains."]
    assert sentences([]) == []
