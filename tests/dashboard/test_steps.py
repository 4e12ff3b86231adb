"""Levels and steps of a history: found where they were planted, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from harness.dashboard.steps import LEAST_RUNS, MOST_RUNS, Level, levels, steps


def noisy(count: int, spread: float, seed: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return 10 * np.exp(np.random.default_rng(seed).normal(0, spread, count))


def test_a_planted_step_is_told_with_its_place_and_ratio() -> None:
    values = [10.0, 10.1, 9.9, 10.0, 10.05, 12.0, 12.1, 11.9, 12.0]
    found = levels(values)
    assert found == (Level(0, 4, 10.0), Level(5, 8, 12.0))
    (step,) = steps(found)
    assert (step.at, step.before, step.after) == (5, 10.0, 12.0)
    assert step.ratio == pytest.approx(1.2)


def test_getting_faster_is_a_step_too() -> None:
    (step,) = steps(levels([10.0] * 6 + [7.0] * 6))
    assert step.at == 6 and step.ratio == pytest.approx(0.7)


def test_two_steps_make_three_levels() -> None:
    assert [(level.first, level.last) for level in levels([10.0] * 8 + [11.0] * 8 + [10.0] * 8)] == [
        (0, 7), (8, 15), (16, 23)]  # fmt: skip


@pytest.mark.parametrize("values", [[10.0] * 12, [10.0] * 5 + [30.0] + [10.0] * 6, [10.0] * 10 + [20.0, 20.0]])
def test_no_change_a_single_spike_and_two_new_runs_are_no_step(values: list[float]) -> None:
    assert steps(levels(values)) == ()


def test_the_third_run_on_a_new_level_confirms_it() -> None:
    assert LEAST_RUNS == 3
    (step,) = steps(levels([10.0] * 10 + [20.0] * 3))
    assert step.at == 10


def test_a_change_below_three_percent_is_not_told() -> None:
    assert steps(levels([10.0] * 20 + [10.25] * 20)) == ()


@pytest.mark.parametrize("spread", [0.005, 0.02, 0.05])
def test_noise_alone_has_a_step_in_at_most_three_of_a_hundred_histories(spread: float) -> None:
    assert sum(bool(steps(levels(list(noisy(60, spread, seed))))) for seed in range(100)) <= 3


@pytest.mark.parametrize("spread", [0.005, 0.02])
def test_ten_percent_are_found_within_two_runs_in_95_of_a_hundred(spread: float) -> None:
    found = 0
    for seed in range(100):
        values = noisy(60, spread, seed)
        values[30:] *= 1.1
        told = steps(levels(list(values)))
        found += len(told) == 1 and abs(told[0].at - 30) <= 2
    assert found >= 95


def test_of_a_very_long_history_the_newest_runs_have_levels() -> None:
    values = [5.0] * 50 + [10.0] * MOST_RUNS
    assert levels(values) == (Level(50, 49 + MOST_RUNS, 10.0),)


def test_an_empty_history_has_no_level() -> None:
    assert levels([]) == ()
    assert levels([3.0]) == (Level(0, 0, 3.0),)
