"""Who is a suspect: a rule over the records of a run alone."""

from __future__ import annotations

from typing import Literal

import numpy as np

from harness.localize.base.op_record import OpRecord, OpVerdict
from harness.localize.find.accuse import MOST_TRIED, suspects
from harness.numerics.fp16 import SMALLEST_NORMAL, UNIT_ROUNDOFF
from harness.numerics.metrics import compare
from harness.numerics.tolerance import FACTOR, LOCAL_FACTOR, judge
from tests.arrays import f32

EXACT = f32(np.linspace(1, 2, 256))
SIZE = float(np.sqrt(np.mean(EXACT.astype(np.float64) ** 2)))


def record(
    index: int,
    roundings: float,
    verdict: OpVerdict = "fine",
    reading: Literal["copy", "output"] = "copy",
    tensor: int | None = None,
    lost: int = 0,
) -> OpRecord:
    """An op whose result is off by so many roundings, with `lost` values that came out as zero."""
    exact = EXACT.copy()
    exact[:lost] = SMALLEST_NORMAL / 8
    actual = exact + f32(roundings * UNIT_ROUNDOFF * SIZE)
    actual[:lost] = 0
    found = compare(actual, exact, SMALLEST_NORMAL)
    local = judge(found, compare(exact, exact), roundoff=UNIT_ROUNDOFF, factor=LOCAL_FACTOR)
    t = index if tensor is None else tensor
    return OpRecord(index, "MUL", index, f"t{t}", t, EXACT.shape, "float32", verdict, local, reading=reading)


def test_those_over_their_limit_in_the_order_of_the_graph() -> None:
    late, early = record(7, 50, "culprit"), record(2, 40, "culprit")
    near = record(4, (FACTOR + LOCAL_FACTOR) / 2)
    assert suspects([late, near, early]) == [early, late]


def test_of_one_tensor_the_reading_that_other_ops_have() -> None:
    """A tensor that is read as an own output and by a copy for its readers counts once, by the copy."""
    output, copy = record(3, 60, "culprit", "output", tensor=9), record(3, 50, "culprit", "copy", tensor=9)
    assert suspects([copy, output]) == suspects([output, copy]) == [copy]


def test_without_any_those_that_come_near_or_lost_small_values() -> None:
    near, far = record(1, (FACTOR + LOCAL_FACTOR) / 2), record(2, FACTOR / 2)
    lost = record(3, 0, lost=4)
    unread = OpRecord(4, "MUL", 4, "t", 4, EXACT.shape, "float32", "unread")
    assert suspects([far, lost, unread, near]) == [near, lost]
    assert suspects([far, unread]) == []


def test_no_more_of_those_are_tried_than_the_host_has_time_for() -> None:
    near = [record(index, (FACTOR + LOCAL_FACTOR) / 2) for index in range(MOST_TRIED + 5)]
    assert suspects(near) == near[:MOST_TRIED]
    over = [record(index, 50, "culprit") for index in range(MOST_TRIED + 5)]
    assert suspects(over) == over
