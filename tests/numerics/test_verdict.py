"""The one rule: error against expected error, with its exceptions."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.numerics.fp16 import FLOAT32_ROUNDOFF, LARGEST, SMALLEST_NORMAL, UNIT_ROUNDOFF
from harness.numerics.metrics import compare
from harness.numerics.verdict import FACTOR, LOCAL_FACTOR, judge
from tests.arrays import f32, normal


def judged(
    error: float,
    expected: float,
    *,
    size: float = 1.0,
    half: bool = True,
    roundoff: float = UNIT_ROUNDOFF,
    factor: float = FACTOR,
) -> tuple[bool, float]:
    """Constant tensors of `size`, off by `error` on the device and by `expected` on an ideal one."""
    exact = np.full(64, size, np.float64)
    judgement = judge(
        compare(exact + error, exact), compare(exact + expected, exact), half=half, roundoff=roundoff, factor=factor
    )
    return judgement.ok, judgement.ratio


def test_the_constants_are_those_of_binary16() -> None:
    assert np.finfo(np.float16).max == LARGEST
    assert np.finfo(np.float16).smallest_normal == SMALLEST_NORMAL
    assert np.finfo(np.float16).eps / 2 == UNIT_ROUNDOFF
    assert (FACTOR, LOCAL_FACTOR) == (16, 32)


def test_an_error_up_to_the_factor_times_the_expected_one_is_right() -> None:
    ok, ratio = judged(0.159, 0.01)
    assert ok
    assert ratio == pytest.approx(15.9)
    assert judged(0.1601, 0.01)[0] is False
    assert judged(0.31, 0.01, factor=LOCAL_FACTOR)[0] is True
    assert judged(0.33, 0.01, factor=LOCAL_FACTOR)[0] is False


def test_the_larger_of_maximum_and_rms_decides() -> None:
    exact = np.zeros(10_000)
    ideal = exact + 0.01
    ideal[0] = 1.0
    spread = exact + 0.5  # half the largest error expected, 35 times the RMS expected
    peaked = exact.copy()
    peaked[5] = 100.0  # 100 times the largest, 71 times the RMS
    for actual, ratio in ((spread, 0.5 / np.sqrt(0.01**2 + 1.0 / 10_000 - 1e-8)), (peaked, 100.0)):
        judgement = judge(compare(actual, exact), compare(ideal, exact), half=True, roundoff=UNIT_ROUNDOFF)
        assert not judgement.ok
        assert judgement.ratio == pytest.approx(ratio, rel=1e-6)


def test_a_lucky_ideal_run_expects_a_rounding_at_least() -> None:
    ok, ratio = judged(1.0 * UNIT_ROUNDOFF, 0.0)
    assert ok
    assert ratio == pytest.approx(1)
    assert judged(17.0 * UNIT_ROUNDOFF, 0.0)[0] is False
    assert judged(17.0 * UNIT_ROUNDOFF, 0.0, size=10.0)[0] is True


def test_single_precision_expects_far_less() -> None:
    assert judged(15 * FLOAT32_ROUNDOFF, 0.0, half=False, roundoff=FLOAT32_ROUNDOFF)[0] is True
    assert judged(17 * FLOAT32_ROUNDOFF, 0.0, half=False, roundoff=FLOAT32_ROUNDOFF)[0] is False


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_nan_or_infinity_is_wrong_whatever_the_rest(bad: float) -> None:
    exact = normal((1000,))
    actual = exact.copy()
    actual[17] = bad
    for half in (True, False):
        judgement = judge(compare(actual, exact), compare(exact * 2, exact), half=half, roundoff=UNIT_ROUNDOFF)
        assert (judgement.ok, judgement.ratio) == (False, math.inf)


def test_an_error_below_the_smallest_normal_half_is_no_fault_under_half_storage() -> None:
    tiny = f32([1e-8, 5e-6, -3e-5])
    exact = compare(tiny, tiny)
    vanished = compare(np.zeros(3, np.float32), tiny)
    assert judge(vanished, exact, half=True, roundoff=UNIT_ROUNDOFF).ok
    assert not judge(vanished, exact, half=False, roundoff=FLOAT32_ROUNDOFF).ok
    above = compare(f32([0, 0, 1.01 * SMALLEST_NORMAL]), np.zeros(3, np.float32))
    assert not judge(above, compare(f32([0, 0, 0]), f32([0, 0, 0])), half=True, roundoff=UNIT_ROUNDOFF).ok


def test_no_error_is_right_even_where_none_is_expected() -> None:
    zeros = np.zeros(4, np.float32)
    assert judge(compare(zeros, zeros), compare(zeros, zeros), half=False, roundoff=FLOAT32_ROUNDOFF).ratio == 0


def test_any_error_of_a_tensor_of_zeros_is_wrong_in_single_precision() -> None:
    zeros = np.zeros(4, np.float32)
    judgement = judge(compare(zeros + f32(1e-30), zeros), compare(zeros, zeros), half=False, roundoff=FLOAT32_ROUNDOFF)
    assert (judgement.ok, judgement.ratio) == (False, math.inf)


def test_the_expected_error_is_told() -> None:
    exact = f32([1, 2])
    judgement = judge(compare(exact, exact), compare(f32([1, 2.5]), exact), half=True, roundoff=UNIT_ROUNDOFF)
    assert judgement.expected_max_abs == 0.5
