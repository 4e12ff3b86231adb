"""Percentiles with intervals, and the words for a comparison."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from harness.latency.record import Interval
from harness.latency.stats import (
    Values,
    _word,
    cliffs_delta,
    compare_apart,
    compare_interleaved,
    distribution,
    quickest,
    smallest,
    trend,
    two_modes,
)


def disturbed(count: int, seed: int, level: float = 1.0, shared: Values | None = None) -> list[Values]:
    """Rounds as on a machine whose cores other work takes most of the time: lognormal noise, a slow wave that both
    sides share, and a third of the samples interrupted for one to fifteen times as long (as measured here)."""
    rng = np.random.default_rng(seed)
    wave = np.zeros(count) if shared is None else shared
    rounds = []
    for i in range(count):
        values = level * np.exp(rng.normal(0, 0.03, 20) + wave[i])
        interrupted = rng.random(20) < 0.35
        rounds.append(values * np.where(interrupted, rng.uniform(2, 15, 20), 1.0))
    return rounds


def wave(count: int, seed: int) -> Values:
    return np.asarray(np.cumsum(np.random.default_rng(seed).normal(0, 0.02, count)))


class TestDistribution:
    def test_the_percentiles_are_numpys(self) -> None:
        rng = np.random.default_rng(0)
        rounds = [rng.lognormal(0, 0.5, 50) for _ in range(20)]
        found = distribution(rounds)
        everything = np.concatenate(rounds)
        assert found.count == 1000
        assert [found.p50.value, found.p90.value, found.p99.value] == [
            pytest.approx(np.percentile(everything, q)) for q in (50, 90, 99)
        ]
        assert (found.min, found.max) == (np.min(everything), np.max(everything))

    def test_the_interval_covers_the_truth_about_as_often_as_it_says(self) -> None:
        covered = 0
        for seed in range(40):
            rng = np.random.default_rng(seed)
            found = distribution([rng.lognormal(0, 0.3, 10) for _ in range(30)]).p50
            covered += found.low <= 1.0 <= found.high
        assert 34 <= covered <= 40

    def test_samples_that_share_their_rounds_disturbance_give_a_wider_interval(self) -> None:
        rng = np.random.default_rng(1)
        moved = [np.exp(rng.normal(0, 0.02, 30) + shift) for shift in rng.normal(0, 0.3, 20)]
        mixed = np.random.default_rng(2).permutation(np.concatenate(moved)).reshape(20, 30)
        together, apart = distribution(moved).p50, distribution(list(mixed)).p50
        assert together.high - together.low > 2 * (apart.high - apart.low)

    def test_a_single_sample_is_its_own_interval(self) -> None:
        found = distribution([np.asarray([4.0])])
        assert (found.p99.low, found.p99.value, found.p99.high) == (4.0, 4.0, 4.0)

    def test_no_sample_is_an_error(self) -> None:
        with pytest.raises(ValueError, match="no sample"):
            distribution([np.asarray([])])

    def test_rounds_without_samples_count_for_nothing(self) -> None:
        found = distribution([np.asarray([3.0, 1.0]), np.asarray([]), np.asarray([8.0])])
        assert (found.count, found.mean, found.min, found.p50.value, found.max) == (3, 4.0, 1.0, 3.0, 8.0)

    def test_of_two_rounds_the_middle_may_be_either(self) -> None:
        """Drawn twice with a chance of a quarter each, far above the fortieth that the interval leaves out."""
        found = distribution([np.full(5, 1.0), np.full(5, 2.0)]).p50
        assert (found.low, found.value, found.high) == (1.0, 1.5, 2.0)


class TestQuickest:
    ROUNDS = (np.asarray([5.0, 4.0, 1.0]), np.asarray([]), np.asarray([7.0, 6.0]))

    def test_rounds_are_compared_at_the_size_of_the_shortest(self) -> None:
        assert smallest(self.ROUNDS) == 2
        assert quickest(self.ROUNDS).tolist() == [4.0, 6.0]

    @pytest.mark.parametrize(("size", "least"), [(1, [5.0, 7.0]), (2, [4.0, 6.0]), (3, [1.0, 6.0])])
    def test_a_size_that_is_given_holds(self, size: int, least: list[float]) -> None:
        assert quickest(self.ROUNDS, size).tolist() == least

    def test_the_shortest_of_several_sides_counts_and_of_none_it_is_one(self) -> None:
        assert smallest(self.ROUNDS, [np.ones(1)]) == 1
        assert smallest([np.ones(4)], self.ROUNDS) == 2
        assert smallest() == smallest([np.asarray([])]) == 1


class TestWords:
    @pytest.mark.parametrize(
        ("low", "value", "high", "p", "word"),
        [
            (1.01, 1.05, 1.2, 0.009, "slower"),
            (1.01, 1.05, 1.2, 0.01, "cannot tell"),
            (1.0, 1.05, 1.2, 0.009, "cannot tell"),
            (1.01, 1.049, 1.2, 0.009, "cannot tell"),
            (0.8, 1 / 1.05, 0.99, 0.009, "faster"),
            (0.8, 1 / 1.05, 0.99, 0.01, "cannot tell"),
            (0.8, 1 / 1.05, 1.0, 0.009, "cannot tell"),
            (0.8, 0.953, 0.99, 0.009, "cannot tell"),
            (1 / 1.05, 1.0, 1.05, 1.0, "same"),
            (1 / 1.05, 1.0, 1.051, 1.0, "cannot tell"),
            (0.952, 1.0, 1.05, 1.0, "cannot tell"),
            (1.01, 1.02, 1.03, 0.001, "same"),
        ],
    )
    def test_a_word_needs_its_size_its_interval_and_its_p(
        self, low: float, value: float, high: float, p: float, word: str
    ) -> None:
        ratio = Interval(value, low, high)
        found = _word(ratio, p, 0.5)
        assert (found.verdict, found.ratio, found.p, found.effect) == (word, ratio, p, 0.5)

    def test_eight_rounds_are_enough(self) -> None:
        slow, plain = [np.full(3, 1.2)] * 8, [np.full(3, 1.0)] * 8
        turns = compare_interleaved(slow, plain)
        assert (turns.verdict, turns.effect) == ("slower", 1.0)
        assert compare_interleaved(plain, slow).verdict == "faster"
        apart = compare_apart([slow[:4], [], slow[4:]], [plain])
        assert (apart.verdict, apart.why, apart.effect) == ("slower", "+20.0% [+20.0%, +20.0%]", 1.0)

    def test_a_round_without_samples_on_one_side_is_no_pair(self) -> None:
        full, none = [np.ones(3)] * 8, np.asarray([])
        for new, old in (([none, *full[1:]], full), (full, [none, *full[1:]])):
            assert compare_interleaved(new, old).why == "7 rounds on one side; 8 are needed"

    @pytest.mark.parametrize(("new", "delta"), [([2, 3], 0.75), ([1, 2], 0.0), ([0, 0], -1.0), ([3, 3], 1.0)])
    def test_equal_values_count_for_neither_side(self, new: list[float], delta: float) -> None:
        assert cliffs_delta(np.asarray(new, float), np.asarray([1.0, 2.0])) == delta

    def test_a_model_against_itself_in_turns_is_never_called_faster_or_slower(self) -> None:
        words = []
        for seed in range(40):
            shared = wave(40, seed)
            ours, theirs = disturbed(40, 1000 + seed, 1.0, shared), disturbed(40, 2000 + seed, 1.0, shared)
            words.append(compare_interleaved(ours, theirs).verdict)
        assert sum(word in ("faster", "slower") for word in words) == 0
        assert words.count("same") >= 35

    def test_a_tenth_more_is_called_slower_and_a_tenth_less_faster(self) -> None:
        slower, faster = [], []
        for seed in range(40):
            shared = wave(40, seed)
            plain = disturbed(40, 1000 + seed, 1.0, shared)
            slower.append(compare_interleaved(disturbed(40, 2000 + seed, 1.1, shared), plain).verdict)
            faster.append(compare_interleaved(plain, disturbed(40, 2000 + seed, 1.1, shared)).verdict)
        assert slower.count("slower") >= 38
        assert faster.count("faster") >= 38

    def test_runs_of_different_times_give_the_same_words(self) -> None:
        same, slower = [], []
        for seed in range(8):
            old = [disturbed(12, 3000 + 10 * seed + r) for r in range(3)]
            same.append(compare_apart([disturbed(12, 7000 + 10 * seed + r) for r in range(3)], old).verdict)
            slower.append(compare_apart([disturbed(12, 9000 + 10 * seed + r, 1.1) for r in range(3)], old).verdict)
        assert set(same) <= {"same", "cannot tell"}
        assert slower.count("slower") == 8

    def test_processes_that_differ_among_themselves_leave_it_open(self) -> None:
        # Each of three processes sits at its own level: 10 % between two runs is no news then.
        old = [disturbed(12, 1, 1.0), disturbed(12, 2, 1.2), disturbed(12, 3, 0.9)]
        new = [disturbed(12, 4, 1.1), disturbed(12, 5, 1.3), disturbed(12, 6, 0.95)]
        assert compare_apart(new, old).verdict == "cannot tell"

    def test_too_few_rounds_give_no_word(self) -> None:
        rounds = disturbed(7, 0)
        assert compare_interleaved(rounds, rounds).verdict == "cannot tell"
        assert compare_apart([rounds], [rounds]).why == "7 rounds on one side; 8 are needed"

    def test_identical_rounds_are_the_same(self) -> None:
        rounds = disturbed(20, 0)
        found = compare_interleaved(rounds, rounds)
        assert (found.verdict, found.p, found.effect) == ("same", 1.0, 0.0)
        assert found.ratio is not None
        assert (found.ratio.low, found.ratio.value, found.ratio.high) == (1.0, 1.0, 1.0)

    @pytest.mark.parametrize("often", [0.99, 1 / 0.99], ids=["mostly a hundredth less", "mostly a hundredth more"])
    def test_an_interval_that_reaches_far_to_one_side_is_not_called_the_same(self, often: float) -> None:
        """Seven rounds alike and six half as slow, or half as fast, again: the median may be either, so that the
        interval has one end within the tolerance and one far out."""
        rare = 1.5 if often < 1 else 1 / 1.5
        theirs = [np.full(4, 1.0) for _ in range(13)]
        found = compare_interleaved([np.full(4, often if i < 7 else rare) for i in range(13)], theirs)
        assert found.ratio is not None
        ends = sorted((often, rare))
        assert (found.ratio.low, found.ratio.value, found.ratio.high) == pytest.approx((ends[0], often, ends[1]))
        told = "-1.0% [-1.0%, +50.0%]" if often < 1 else "+1.0% [-33.3%, +1.0%]"
        assert (found.verdict, found.why) == ("cannot tell", f"{told}: the interval is too wide for a word")

    def test_cliffs_delta_is_mann_whitneys_u_rescaled(self) -> None:
        rng = np.random.default_rng(3)
        ours, theirs = rng.integers(0, 20, 30).astype(float), rng.integers(3, 25, 40).astype(float)
        u = mannwhitneyu(ours, theirs).statistic
        assert cliffs_delta(ours, theirs) == pytest.approx(2 * u / (30 * 40) - 1)


class TestShapes:
    def test_one_heap_of_any_shape_is_not_two(self) -> None:
        rng = np.random.default_rng(0)
        for _ in range(20):
            assert two_modes(rng.normal(10, 1, 500)) is None
            assert two_modes(rng.uniform(5, 10, 500)) is None
            assert two_modes(rng.lognormal(0, 0.4, 500)) is None

    def test_two_heaps_are_told_with_their_places(self) -> None:
        rng = np.random.default_rng(1)
        values = np.concatenate([rng.normal(5, 0.1, 300), rng.normal(7, 0.1, 100)])
        found = two_modes(values)
        assert found is not None
        assert found == pytest.approx((5, 7, 0.25), rel=0.02)

    def test_a_rare_second_heap_is_the_tails_business(self) -> None:
        rng = np.random.default_rng(1)
        assert two_modes(np.concatenate([rng.normal(5, 0.1, 390), rng.normal(7, 0.1, 10)])) is None

    @pytest.mark.parametrize("lower", [True, False], ids=["below", "above"])
    def test_no_heap_is_told_that_has_less_than_a_tenth_of_the_values(self, lower: bool) -> None:
        rng = np.random.default_rng(1)
        small, large = (5, 7) if lower else (7, 5)
        found = {}
        for count in (6, 19, 23):  # of 200
            values = np.concatenate([rng.normal(small, 0.05, count), rng.normal(large, 0.05, 200 - count)])
            found[count] = two_modes(values)
        assert found[6] is None
        assert all(each is None or 0.1 <= each[2] <= 0.9 for each in found.values())
        assert found[23] == pytest.approx((5, 7, 177 / 200 if lower else 23 / 200), rel=0.02)

    def test_two_heaps_less_than_a_tenth_apart_are_one(self) -> None:
        rng = np.random.default_rng(1)
        for apart, there in ((1.09, False), (1.11, True)):
            values = np.exp(np.concatenate([rng.normal(0, 0.001, 100), np.log(apart) + rng.normal(0, 0.001, 100)]))
            assert (two_modes(values) is not None) is there

    def test_two_heaps_lie_four_times_their_own_spread_apart(self) -> None:
        """Each of two values that are a twentieth to either side of its centre, in logarithms."""
        for apart, there in ((3.9, False), (4.1, True)):
            centres = np.repeat([0.0, 0.05 * apart], 50)
            values = np.exp(centres + np.tile([-0.05, 0.05], 50))
            assert (two_modes(values) is not None) is there

    def test_a_few_values_have_no_heaps(self) -> None:
        assert two_modes(np.asarray([1.0, 2.0] * 9 + [1.0])) is None
        assert two_modes(np.asarray([1.0, 2.0] * 10)) == pytest.approx((1, 2, 0.5))

    def test_a_drift_has_its_size_and_no_drift_has_none(self) -> None:
        rng = np.random.default_rng(2)
        times = np.arange(40.0)
        growth, p = trend(times, np.exp(0.2 * times / 39 + rng.normal(0, 0.01, 40)))
        assert growth == pytest.approx(np.expm1(0.2), abs=0.03)
        assert p < 1e-6
        assert trend(times, np.full(40, 3.0)) == (0.0, 1.0)
        assert trend(times[:7], np.exp(times[:7])) == (0.0, 1.0)  # too few to tell
        assert trend(np.full(40, 5.0), np.exp(times)) == (0.0, 1.0)  # all at once

    def test_eight_values_are_enough_for_a_trend(self) -> None:
        """All in order, as two of the 8! orders are."""
        times = np.arange(8.0)
        assert trend(times, np.exp(0.1 * times)) == pytest.approx((np.expm1(0.7), 2 / 40320))
