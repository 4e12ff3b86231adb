"""Where a judgement's limits lie, and which slices of a tensor are channels."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from harness.numerics.metrics import compare
from harness.numerics.tolerance import Granted, Judgement, channel_ratio, judge
from tests.arrays import f32

ONES = np.ones(64)


def judged(error: float, *, channels: float = 0.0, grid: float = 0.0) -> Judgement:
    """Ones that are off by `error`, and an ideal device's off by a half."""
    granted, ideal = Granted(grid, grid), compare(ONES + 0.5, ONES)
    return judge(compare(ONES + error, ONES), ideal, roundoff=0.25, factor=4.0, channels=channels, grid=granted)


@pytest.mark.parametrize(("error", "grid", "ok"), [(2.0, 0.0, True), (2.25, 0.0, False), (3.0, 1.0, True)])
def test_an_error_at_the_limit_is_right_and_the_limit_is_told(error: float, grid: float, ok: bool) -> None:
    found = judged(error, grid=grid)
    assert found.ok is ok
    assert found.ratio == (error - grid) / 0.5
    assert found.limits(4.0, 0.25) == (grid + 2.0, grid + 2.0)
    assert (found.expected_max_abs, found.limit, found.grid.rms) == (0.5 + grid, 4.0, grid)


def test_a_limit_rests_on_a_rounding_at_least() -> None:
    assert judged(0.0).limits(4.0, 0.75) == (3.0, 3.0)


@pytest.mark.parametrize(("channels", "ok"), [(4.0, True), (4.5, False), (math.inf, False)])
def test_the_worst_channel_counts_as_the_whole_does(channels: float, ok: bool) -> None:
    found = judged(0.5, channels=channels)
    assert (found.ok, found.ratio) == (ok, channels)


@pytest.mark.parametrize(("first", "second"), [(1.0, 3.0), (3.0, 1.0)])
def test_of_two_judgements_the_worse_one_holds(first: float, second: float) -> None:
    one, other = judged(first), judged(second)
    both = one.and_by(other)
    assert both == replace(one, ok=False, ratio=6.0)
    assert one.and_by(one) == one


@pytest.mark.parametrize(
    ("shape", "counts"),
    [
        ((64, 2), True),
        ((63, 2), False),  # 63 elements a channel
        ((128, 1), False),  # one channel
        ((64, 4096), True),
        ((64, 4097), False),
    ],
)
def test_a_channel_has_64_elements_and_is_one_of_2_to_4096(shape: tuple[int, ...], counts: bool) -> None:
    exact = np.ones(shape, np.float32)
    assert channel_ratio(exact * 2, [exact], exact, 0.125) == (8.0 if counts else 0.0)


def test_the_ideal_run_that_is_finite_and_furthest_off_tells_what_a_channel_may_lose() -> None:
    exact = np.ones((64, 2), np.float32)
    spoilt = exact * f32([1, math.nan])
    ideals = [spoilt, exact * f32(1.25), exact * f32(1.125)]
    assert channel_ratio(exact * 2, ideals, exact, 0.125) == 4.0
    assert channel_ratio(exact * 2, ideals[:1], exact, 0.125) == 8.0


def test_a_channel_of_zeros_may_lose_what_the_ideal_run_loses_there_and_nothing_else() -> None:
    exact = np.ones((64, 2), np.float32) * f32([1, 0])
    assert channel_ratio(exact + f32([0, 1]), [exact], exact, 0.125) == math.inf
    assert channel_ratio(exact, [exact], exact, 0.125) == 0.0
    assert channel_ratio(exact + f32([0, 1]), [exact + f32([0, 0.5])], exact, 0.125) == 2.0
