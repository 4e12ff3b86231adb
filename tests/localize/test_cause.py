"""Causes by values alone."""

from __future__ import annotations

import numpy as np
import pytest

from harness.localize.cause import cause_of
from harness.localize.result import OpRecord
from harness.numerics.metrics import compare
from harness.numerics.verdict import LOCAL_FACTOR, judge

EXACT = np.linspace(1, 2, 64, dtype=np.float32)
# Off by 100 of float16's roundings, and by 20; both of a cosine near 1.
OVER, NEAR = (EXACT * np.linspace(1, 1 + n * 2.0**-11, 64, dtype=np.float32) for n in (100, 20))


def record(op: str, actual: object = OVER, *, first: int = 4) -> OpRecord:
    right = compare(EXACT, EXACT)
    local = judge(compare(np.asarray(actual, np.float32), EXACT), right, roundoff=2.0**-11, factor=LOCAL_FACTOR)
    return OpRecord(4, op, first, "y", 9, EXACT.shape, "float32", "culprit", local)


CASES = {
    "a long sum": (record("BATCH_MATMUL"), True, "accumulation"),
    "a long sum in float32": (record("BATCH_MATMUL"), False, "rounding"),
    "a function that is computed in steps": (record("TANH"), True, "rounding"),
    "a quotient": (record("DIV"), True, "rounding"),
    "a difference that is squared": (record("SQUARED_DIFFERENCE"), True, "rounding"),
    "a choice of values": (record("MAX_POOL_2D"), True, "kernel"),
    "values moved": (record("DYNAMIC_UPDATE_SLICE"), True, "kernel"),
    "values moved, in float32": (record("DYNAMIC_UPDATE_SLICE"), False, "kernel"),
    "one product": (record("LEAKY_RELU"), True, "kernel"),
    "one product within the limit": (record("LEAKY_RELU", NEAR), True, "rounding"),
    "places": (record("TOPK_V2"), True, "kernel"),
    "one product behind others": (record("MUL", first=2), True, "rounding"),
    "another result altogether": (record("TANH", -EXACT), True, "kernel"),
    "infinity": (record("MUL", np.full(64, np.inf)), True, "overflow"),
}


@pytest.mark.parametrize("name", CASES)
def test_the_values_suggest_the_cause(name: str) -> None:
    found, half, cause = CASES[name]
    assert cause_of(found, half=half, reduction=None)[0] == cause


@pytest.mark.parametrize(
    ("actual", "exact", "half", "found"),
    [
        (
            [1, np.inf], [1, 65504], True,
            ("overflow", "results stay below 6.55e+04, but a step on the way leaves float16's range"),
        ),
        ([1, np.inf], [1, 70000], True, ("overflow", "results reach 7e+04, beyond float16's 65504")),
        ([1, 2], [1, 70000], True, ("overflow", "results reach 7e+04, beyond float16's 65504")),
        ([1, np.inf], [1, 70000], False, ("kernel", "NaN or infinity from finite inputs")),
        ([0, 0], [1, 2], True, ("kernel", "all zeros")),
        ([-1, -2], [1, 2], True, ("kernel", None)),
    ],
)  # fmt: skip
def test_values_that_leave_float16s_range_are_told_from_steps_that_do_and_from_another_result(
    actual: list[float], exact: list[float], half: bool, found: tuple[str, str | None]
) -> None:
    right, wrong = np.asarray(exact, np.float32), np.asarray(actual, np.float32)
    local = judge(compare(wrong, right), compare(right, right), roundoff=2.0**-11, factor=LOCAL_FACTOR)
    record = OpRecord(4, "TANH", 4, "y", 9, (2,), "float32", "culprit", local)
    assert cause_of(record, half=half, reduction=None) == found


@pytest.mark.parametrize(("actual", "cause"), [([0, 0], "limits"), ([-1, -2], "kernel")])
def test_zeros_alone_are_put_down_to_a_limit_of_which_the_runtime_spoke(actual: list[float], cause: str) -> None:
    right, wrong = np.asarray([1, 2], np.float32), np.asarray(actual, np.float32)
    local = judge(compare(wrong, right), compare(right, right), roundoff=2.0**-11, factor=LOCAL_FACTOR)
    record = OpRecord(4, "TANH", 4, "y", 9, (2,), "float32", "culprit", local)
    assert cause_of(record, half=True, reduction=None, beyond=True)[0] == cause
