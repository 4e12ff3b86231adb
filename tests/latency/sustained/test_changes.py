"""Changes of level in series with and without one. Rates are measured on series drawn with fixed seeds; a bound is the
rate that is stated plus four standard errors of a share of so many series."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from harness.latency.sustained.changes import (
    LEAST,
    LEAST_VALUES,
    Values,
    change_points,
    long_run_variance,
    normal_scores,
    wandering,
)

SERIES = 250
ALPHA = 0.01
Make = Callable[[np.random.Generator, int], Values]


def correlated(share: float) -> Make:
    """A first-order autoregression."""

    def make(rng: np.random.Generator, count: int) -> Values:
        noise = rng.standard_normal(count + 100)
        found = np.zeros(count + 100)
        for i in range(1, count + 100):
            found[i] = share * found[i - 1] + noise[i]
        return found[100:]

    return make


def normal(rng: np.random.Generator, count: int) -> Values:
    return rng.standard_normal(count)


def heavy(rng: np.random.Generator, count: int) -> Values:
    """Student's t with 2 degrees of freedom: no variance at all."""
    return rng.standard_t(2, count)


def stalls(rng: np.random.Generator, count: int) -> Values:
    """One value in ten is a hundred times the scatter off."""
    return rng.standard_normal(count) + 100 * (rng.random(count) < 0.1)


def rate(make: Make, count: int, shift: Callable[[Values], Values] = np.zeros_like) -> float:
    """The share of series in which any change is found; `shift` gets the places as shares of the series."""
    rng = np.random.default_rng(20261129)
    places = np.arange(count) / count
    found = [bool(change_points(make(rng, count) + shift(places), ALPHA)) for _ in range(SERIES)]
    return float(np.mean(found))


def bound(stated: float) -> float:
    return float(stated + 4 * np.sqrt(stated * (1 - stated) / SERIES))


class TestFalseAlarms:
    """At alpha 1 %: 1 % of series of independent values whatever their tails; correlated ones are caught up to what a
    first-order memory of 0.6 does, and beyond that alarms grow in short series."""

    @pytest.mark.parametrize("count", [24, 60, 160])
    @pytest.mark.parametrize("make", [normal, heavy, stalls])
    def test_of_independent_values_are_as_many_as_were_asked_for(self, make: Make, count: int) -> None:
        assert rate(make, count) <= bound(ALPHA)

    @pytest.mark.parametrize(
        ("share", "count", "stated"),
        [
            *((0.3, 24, 0.03), (0.3, 60, 0.04), (0.3, 160, 0.02), (0.6, 24, 0.04), (0.6, 60, 0.045), (0.6, 160, 0.02)),
            *((0.8, 24, 0.05), (0.8, 60, 0.11), (0.8, 160, 0.045)),
        ],
    )
    def test_of_correlated_values_are_as_many_as_are_stated(self, share: float, count: int, stated: float) -> None:
        assert rate(correlated(share), count) <= bound(stated)

    def test_the_scatter_of_a_mean_is_known_with_its_memory(self) -> None:
        """Of an autoregression it is 1 / (1 - r)² a value: 6.25 at 0.6."""
        series = np.stack([correlated(0.6)(np.random.default_rng(i), 160) for i in range(200)])
        assert np.median(long_run_variance(series)) == pytest.approx(6.25, rel=0.3)


class TestFound:
    """Shifts in multiples of the scatter of one value, in 160 of them."""

    @pytest.mark.parametrize("make", [normal, heavy, stalls])
    @pytest.mark.parametrize(
        "shift",
        [
            pytest.param(lambda t: 3.0 * (t >= 0.5), id="step"),
            pytest.param(lambda t: 3.0 * (t >= 1 / 8), id="step after an eighth"),
            pytest.param(lambda t: 4.0 * t, id="ramp"),
            pytest.param(lambda t: 4.0 * np.minimum(t / 0.3, 1), id="ramp to a level"),
        ],
    )
    def test_a_throttle_is_found(self, make: Make, shift: Callable[[Values], Values]) -> None:
        assert rate(make, 160, shift) >= 0.95

    def test_one_that_comes_and_goes_is_found_mostly(self) -> None:
        assert rate(normal, 160, lambda t: 3.0 * (np.floor(t * 6) % 2)) >= 0.8

    def test_a_step_is_found_where_it_is(self) -> None:
        rng = np.random.default_rng(3)
        ats = []
        for _ in range(100):
            points = change_points(rng.standard_normal(160) + 5 * (np.arange(160) >= 64), ALPHA)
            assert points
            ats.append(min(points, key=lambda p: abs(p.at - 64)).at)
        assert max(abs(at - 64) for at in ats) <= 2

    @pytest.mark.parametrize("make", [normal, heavy, stalls])
    def test_a_step_lies_where_both_sides_deviate_least_from_their_medians(self, make: Make) -> None:
        rng = np.random.default_rng(5)
        for count in (120, 121, 150):
            values = make(rng, count) + 4.0 * (np.arange(count) >= count // 3)
            found = change_points(values, ALPHA)
            assert len(found) == 1

            def deviation(part: Values) -> float:
                return float(np.abs(part - np.median(part)).sum())

            places = range(LEAST, count - LEAST + 1)
            costs = [deviation(values[:at]) + deviation(values[at:]) for at in places]
            assert costs[found[0].at - LEAST] == pytest.approx(min(costs), rel=1e-12)

    def test_stairs_are_found_one_by_one(self) -> None:
        values = np.random.default_rng(0).standard_normal(160) / 10 + np.repeat([0, 1, 2, 1], 40)
        found = [point.at for point in change_points(values, ALPHA)]
        assert len(found) == 3
        assert all(abs(at - true) <= 1 for at, true in zip(found, (40, 80, 120), strict=True))


class TestWandering:
    def test_noise_of_a_short_memory_is_none(self) -> None:
        """At 0.8, the most that counts as noise, 1 % are called so; below it none."""
        for share, stated in ((0.0, 0.001), (0.6, 0.001), (0.8, ALPHA)):
            rng = np.random.default_rng(11)
            found = [wandering(correlated(share)(rng, 160)) < ALPHA for _ in range(SERIES)]
            assert float(np.mean(found)) <= bound(stated), share

    def test_four_waves_are_found_where_change_points_are_not(self) -> None:
        rng = np.random.default_rng(11)
        waves = [
            10 * np.sin(np.arange(160) / 160 * 8 * np.pi + rng.uniform(0, 6)) + normal(rng, 160) for _ in range(50)
        ]
        assert all(wandering(wave) < ALPHA for wave in waves)

    def test_too_few_values_wander_nowhere(self) -> None:
        assert wandering(np.arange(LEAST_VALUES - 1, dtype=float)) == 1.0


def test_too_few_values_tell_nothing() -> None:
    assert change_points(np.arange(LEAST_VALUES - 1, dtype=float), ALPHA) == ()


def test_values_that_are_all_alike_have_no_change() -> None:
    assert change_points(np.full(160, 7.0), ALPHA) == ()


def test_only_the_order_of_the_values_counts() -> None:
    values = np.random.default_rng(0).standard_normal(60)
    assert np.array_equal(normal_scores(values), normal_scores(np.exp(values)))
