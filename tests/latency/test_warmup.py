"""Where the warm-up ends."""

from __future__ import annotations

import numpy as np
import pytest

from harness.latency.warmup import change_points, warmup_length


def noisy(level: float, count: int, seed: int, noise: float = 0.02) -> list[float]:
    return list(level * np.exp(np.random.default_rng(seed).normal(0, noise, count)))


def test_a_level_series_has_no_change_point() -> None:
    assert [change_points(noisy(5.0, 200, seed)) for seed in range(20)] == [()] * 20


@pytest.mark.parametrize("at", [10, 40, 120])
def test_a_step_is_found_where_it_is(at: int) -> None:
    (found,) = change_points(noisy(7.0, at, 1) + noisy(5.0, 200 - at, 2))
    assert abs(found - at) <= 1


def test_two_steps_are_both_found() -> None:
    first, second = change_points(noisy(9.0, 30, 1) + noisy(7.0, 30, 2) + noisy(5.0, 100, 3))
    assert (abs(first - 30) <= 1, abs(second - 60) <= 1) == (True, True)


def test_one_interrupted_sample_is_no_change() -> None:
    times = noisy(5.0, 100, 4)
    times[50] = 80.0
    assert change_points(times) == ()


@pytest.mark.parametrize("length", [1, 8, 25])
def test_the_warm_up_is_the_first_inference_and_the_slow_stretch_after_it(length: int) -> None:
    times = [400.0, *noisy(8.0, length - 1, 5), *noisy(5.0, 150, 6)]
    assert abs(warmup_length(times) - length) <= (0 if length == 1 else 1)


def test_a_stretch_that_is_quicker_than_the_steady_state_is_warm_up_too() -> None:
    # Clocks that boost at first: those samples are no promise.
    assert abs(warmup_length([9.0, *noisy(4.0, 20, 7), *noisy(5.0, 100, 8)]) - 21) <= 1


def test_a_change_in_the_second_half_is_not_called_warm_up() -> None:
    assert warmup_length([9.0, *noisy(8.0, 80, 9), *noisy(5.0, 40, 10)]) == 1


@pytest.mark.parametrize(("times", "length"), [([], 0), ([5.0], 0), ([5.0, 5.0], 1), ([9.0, 5.0, 5.0, 5.0], 1)])
def test_a_handful_of_samples(times: list[float], length: int) -> None:
    assert warmup_length(times) == length
