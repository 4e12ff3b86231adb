"""The one rule: error against expected error, with its exceptions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from harness.numerics.fp16 import FLOAT32_ROUNDOFF, LARGEST, SMALLEST_NORMAL, UNIT_ROUNDOFF
from harness.numerics.metrics import compare
from harness.numerics.tolerance import FACTOR, LOCAL_FACTOR, Granted, channel_ratio, judge, worst_case
from tests.arrays import f32, normal


def judged(
    error: float, expected: float, *, size: float = 1.0, roundoff: float = UNIT_ROUNDOFF, factor: float = FACTOR
) -> tuple[bool, float]:
    """Constant tensors of `size`, off by `error` on the device and by `expected` on an ideal one."""
    exact = np.full(64, size, np.float64)
    judgement = judge(compare(exact + error, exact), compare(exact + expected, exact), roundoff=roundoff, factor=factor)
    return judgement.ok, judgement.ratio


def test_the_constants_are_those_of_binary16() -> None:
    assert np.finfo(np.float16).max == LARGEST
    assert np.finfo(np.float16).smallest_normal == SMALLEST_NORMAL
    assert np.finfo(np.float16).eps / 2 == UNIT_ROUNDOFF
    assert (FACTOR, LOCAL_FACTOR) == (16, 32)


def test_single_precision_on_a_device_is_four_bits_short_of_binary32() -> None:
    """16 units in the last place: as many as Vulkan allows exp of x at |x| = 6.5, and the last 4 of 24 bits."""
    assert 16 * np.finfo(np.float32).eps / 2 == FLOAT32_ROUNDOFF


def test_an_error_up_to_the_factor_times_the_expected_one_is_right() -> None:
    ok, ratio = judged(0.159, 0.01)
    assert ok
    assert ratio == pytest.approx(15.9)
    assert judged(0.1601, 0.01)[0] is False
    assert judged(0.31, 0.01, factor=LOCAL_FACTOR)[0] is True
    assert judged(0.33, 0.01, factor=LOCAL_FACTOR)[0] is False


@pytest.mark.parametrize(("off", "ratio"), [(0.5, 0.0), (0.6, 10.0), (0.65, 15.0), (0.7, 20.0)])
def test_what_a_grid_explains_is_taken_off_the_maximum_and_off_the_rms(off: float, ratio: float) -> None:
    """Half a step of 1 explains 0.5 of either; float16 explains 0.01 of the rest."""
    exact = np.zeros(64)
    granted = Granted(0.5, 0.5)
    judgement = judge(compare(exact + off, exact), compare(exact + 0.01, exact), roundoff=UNIT_ROUNDOFF, grid=granted)
    assert judgement.ratio == pytest.approx(ratio)
    assert judgement.ok is (ratio <= FACTOR)


def test_the_larger_of_maximum_and_rms_decides() -> None:
    exact = np.zeros(10_000)
    ideal = exact + 0.01
    ideal[0] = 1.0
    spread = exact + 0.5  # half the largest error expected, 35 times the RMS expected
    peaked = exact.copy()
    peaked[5] = 100.0  # 100 times the largest, 71 times the RMS
    for actual, ratio in ((spread, 0.5 / np.sqrt(0.01**2 + 1.0 / 10_000 - 1e-8)), (peaked, 100.0)):
        judgement = judge(compare(actual, exact), compare(ideal, exact), roundoff=UNIT_ROUNDOFF)
        assert not judgement.ok
        assert judgement.ratio == pytest.approx(ratio, rel=1e-6)


def test_a_lucky_ideal_run_expects_a_rounding_at_least() -> None:
    ok, ratio = judged(1.0 * UNIT_ROUNDOFF, 0.0)
    assert ok
    assert ratio == pytest.approx(1)
    assert judged(17.0 * UNIT_ROUNDOFF, 0.0)[0] is False
    assert judged(17.0 * UNIT_ROUNDOFF, 0.0, size=10.0)[0] is True


def test_single_precision_expects_far_less() -> None:
    assert judged(15 * FLOAT32_ROUNDOFF, 0.0, roundoff=FLOAT32_ROUNDOFF)[0] is True
    assert judged(17 * FLOAT32_ROUNDOFF, 0.0, roundoff=FLOAT32_ROUNDOFF)[0] is False


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_nan_or_infinity_is_wrong_whatever_the_rest(bad: float) -> None:
    exact = normal((1000,))
    actual = exact.copy()
    actual[17] = bad
    judgement = judge(compare(actual, exact), compare(exact * 2, exact), roundoff=UNIT_ROUNDOFF)
    assert (judgement.ok, judgement.ratio) == (False, math.inf)


def test_a_value_below_the_smallest_normal_half_may_come_out_nearer_to_zero() -> None:
    tiny = f32([1e-8, 5e-6, -3e-5])
    exact = compare(tiny, tiny)
    for kept in (0.0, 0.5):
        flushed = compare(tiny * f32(kept), tiny, SMALLEST_NORMAL)
        assert judge(flushed, exact, roundoff=UNIT_ROUNDOFF).ok
        assert flushed.flushed == 3
    assert not judge(compare(tiny * 0, tiny), exact, roundoff=UNIT_ROUNDOFF).ok


@pytest.mark.parametrize("factor", [-1.0, 3.0], ids=["turned around", "grown"])
def test_a_small_value_that_is_simply_another_is_wrong(factor: float) -> None:
    tiny = f32([1e-8, 5e-6, -3e-5])
    other = compare(tiny * f32(factor), tiny, SMALLEST_NORMAL)
    assert not judge(other, compare(tiny, tiny), roundoff=UNIT_ROUNDOFF).ok


@pytest.mark.parametrize("exact", [np.arange(100, dtype=np.int32) % 2, np.arange(100, dtype=np.int64)])
def test_a_flag_or_a_number_of_a_class_is_right_or_wrong(exact: np.ndarray[Any, Any]) -> None:
    assert judge(compare(exact, exact), compare(exact, exact), roundoff=UNIT_ROUNDOFF).ok
    assert not judge(compare(exact[::-1], exact), compare(exact, exact), roundoff=UNIT_ROUNDOFF).ok
    off = exact.copy()
    off[3] -= 1
    assert not judge(compare(off, exact), compare(exact, exact), roundoff=UNIT_ROUNDOFF).ok


def test_a_wrong_channel_is_not_hidden_by_a_loud_one() -> None:
    exact = normal((100, 8)).astype(np.float32)
    exact[:, 0] *= 1000
    ideal = exact * f32(1 + UNIT_ROUNDOFF)
    actual = ideal.copy()
    actual[:, 5] = 0
    ratio = channel_ratio(actual, [ideal], exact, UNIT_ROUNDOFF)
    assert ratio == pytest.approx(1 / UNIT_ROUNDOFF, rel=1e-3)
    whole = judge(compare(actual, exact), compare(ideal, exact), roundoff=UNIT_ROUNDOFF)
    assert whole.ok
    by_channel = judge(compare(actual, exact), compare(ideal, exact), roundoff=UNIT_ROUNDOFF, channels=ratio)
    assert not by_channel.ok


def test_a_few_elements_are_no_channel() -> None:
    exact = normal((10, 8)).astype(np.float32)
    assert channel_ratio(exact * 2, [exact], exact, UNIT_ROUNDOFF) == 0.0


def test_a_tensor_without_a_batch_has_no_channels() -> None:
    """Its one axis is what its values lie along: a slice of it is a single value."""
    exact = normal((4096,)).astype(np.float32)
    assert channel_ratio(exact * 2, [exact], exact, UNIT_ROUNDOFF) == 0.0


def test_integers_and_values_that_are_not_finite_have_no_channels() -> None:
    exact = normal((100, 8)).astype(np.float32)
    spoilt = exact.copy()
    spoilt[3, 3] = np.nan
    counts = np.arange(800, dtype=np.int32).reshape(100, 8)
    for actual, right in ((spoilt, exact), (exact * 2, spoilt), (counts + 9, counts)):
        assert channel_ratio(actual, [right], right, UNIT_ROUNDOFF) == 0.0


@pytest.mark.parametrize("axis", [1, 2])
def test_channels_lie_along_the_last_axis_or_the_one_behind_the_batch(axis: int) -> None:
    exact = normal((2, 8, 64) if axis == 1 else (2, 64, 8)).astype(np.float32)
    ideal = exact * f32(1 + UNIT_ROUNDOFF)
    actual = ideal.copy()
    actual[:, 5 if axis == 1 else slice(None), slice(None) if axis == 1 else 5] = 0
    assert channel_ratio(actual, [ideal], exact, UNIT_ROUNDOFF) == pytest.approx(1 / UNIT_ROUNDOFF, rel=1e-3)


def test_the_worst_of_several_ideal_runs_is_expected() -> None:
    exact = np.zeros(4)
    spread, peaked = compare(exact + 0.5, exact), compare(np.array([0.9, 0, 0, 0]), exact)
    worst = worst_case([spread, peaked])
    assert (worst.max_abs, worst.rms) == (0.9, 0.5)


def test_no_error_is_right_even_where_none_is_expected() -> None:
    zeros = np.zeros(4, np.float32)
    assert judge(compare(zeros, zeros), compare(zeros, zeros), roundoff=FLOAT32_ROUNDOFF).ratio == 0


def test_any_error_of_a_tensor_of_zeros_is_wrong_in_single_precision() -> None:
    zeros = np.zeros(4, np.float32)
    judgement = judge(compare(zeros + f32(1e-30), zeros), compare(zeros, zeros), roundoff=FLOAT32_ROUNDOFF)
    assert (judgement.ok, judgement.ratio) == (False, math.inf)


def test_the_expected_error_is_told() -> None:
    exact = f32([1, 2])
    judgement = judge(compare(exact, exact), compare(f32([1, 2.5]), exact), roundoff=UNIT_ROUNDOFF)
    assert judgement.expected_max_abs == 0.5


def test_values_below_the_range_may_be_flushed_in_a_channel_too() -> None:
    """A mask's row of probabilities near 1e-6 is no channel of its own, and a GPU that flushes them is right."""
    exact = np.full((1, 128, 256, 2), 0.5, np.float32)
    exact[:, 0] = 1e-6
    device = exact.copy()
    device[:, 0] = 0
    assert channel_ratio(device, [exact], exact, UNIT_ROUNDOFF, SMALLEST_NORMAL) == 0.0
    assert channel_ratio(device, [exact], exact, UNIT_ROUNDOFF) == pytest.approx(1 / UNIT_ROUNDOFF)


def test_one_channel_that_the_ideal_rounds_luckily_is_held_to_the_whole_tensors_relative_error() -> None:
    exact = np.ones((1, 128, 64), np.float32)
    ideal = exact * np.float32(1.01)
    ideal[:, 5] = exact[:, 5]
    device = exact * np.float32(1.05)
    assert channel_ratio(device, [ideal], exact, UNIT_ROUNDOFF) == pytest.approx(5.0, rel=0.01)


@pytest.mark.parametrize(
    ("shape", "channel", "counts"),
    [
        ((1, 64, 64, 3), 3, True),
        ((1, 64, 64, 3), 1, False),
        ((1, 3, 64, 64), 1, True),
        ((1, 3, 64, 64), 3, False),
        ((1, 84, 200), 1, True),
        ((1, 200, 84), 2, True),
        ((1, 60, 64, 3), 1, True),
    ],
)
def test_a_row_or_column_of_a_square_image_is_no_channel(shape: tuple[int, ...], channel: int, counts: bool) -> None:
    exact = np.ones(shape, np.float32)
    quiet = tuple(slice(0, 1) if axis == channel else slice(None) for axis in range(len(shape)))
    exact[quiet] = 1e-3
    device = exact.copy()
    device[quiet] *= 2
    assert (channel_ratio(device, [exact], exact, UNIT_ROUNDOFF) > 1000) == counts
