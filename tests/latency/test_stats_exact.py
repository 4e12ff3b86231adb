"""Figures of a comparison that arithmetic gives: intervals, p, sizes, and the sentence for each word."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.latency.record import Interval
from harness.latency.stats import Values, _word, compare_apart, compare_interleaved, distribution, trend, two_modes


def rounds(*quickest: float, more: tuple[float, ...] = ()) -> list[Values]:
    """A round for each figure, with further samples."""
    return [np.asarray([value, *more]) for value in quickest]


# All above one, and no two alike.
ABOVE = tuple(1.2 + 0.01 * i for i in range(8))
BELOW = tuple(1.0 + 0.001 * i for i in range(8))


class TestDistribution:
    @pytest.mark.parametrize(("name", "share"), [("p50", 0.5), ("p90", 0.9)])
    def test_an_interval_ends_where_the_binomial_puts_its_ranks(self, name: str, share: float) -> None:
        """A percentile lies at the rank that Wilson's interval of the share ends at: the rank whose own binomial puts
        it 1.96 deviations off. A thousand draws find an end to 0.085 deviations; three of those are allowed."""
        found = getattr(distribution(rounds(*map(float, range(1, 401)))), name)
        z, n = 1.96, 400
        centre = (share + z * z / (2 * n)) / (1 + z * z / n)
        half = z * math.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2) / (1 + z * z / n)
        allowed = 0.26 * math.sqrt(n * share * (1 - share)) + 1
        assert found.low == pytest.approx(n * (centre - half), abs=allowed)
        assert found.high == pytest.approx(n * (centre + half), abs=allowed)

    def test_the_samples_of_a_single_round_are_resampled(self) -> None:
        """Half are 1 and half are 2: the middle is either about as often."""
        found = distribution([np.repeat([1.0, 2.0], 50)])
        assert (found.p50.low, found.p50.value, found.p50.high) == (1.0, 1.5, 2.0)
        assert (found.p99.low, found.p99.value, found.p99.high) == (2.0, 2.0, 2.0)


class TestComparisons:
    def test_eight_rounds_that_are_all_slower_have_the_p_of_one_of_the_signs(self) -> None:
        """All eight signs alike, in either direction: 2 of 2^8."""
        found = compare_interleaved(rounds(*ABOVE), rounds(*[1.0] * 8))
        assert found.p == pytest.approx(2 / 2**8)
        assert found.effect == 1.0
        assert found.ratio is not None
        assert found.ratio.value == pytest.approx(math.sqrt(ABOVE[3] * ABOVE[4]))
        assert ABOVE[0] < found.ratio.low < ABOVE[3] < ABOVE[4] < found.ratio.high < ABOVE[7]

    def test_runs_apart_have_the_p_of_one_of_the_orders(self) -> None:
        """All of one side above all of the other, or below: 2 of 16 over 8."""
        found = compare_apart([rounds(*ABOVE)], [rounds(*BELOW)])
        assert found.p == pytest.approx(2 / math.comb(16, 8))
        assert found.effect == 1.0
        assert found.ratio is not None
        middle = [math.sqrt(side[3] * side[4]) for side in (ABOVE, BELOW)]
        assert found.ratio.value == pytest.approx(middle[0] / middle[1])
        assert ABOVE[0] / BELOW[7] < found.ratio.low < found.ratio.value < found.ratio.high < ABOVE[7] / BELOW[0]

    @pytest.mark.parametrize("turned", [False, True])
    def test_the_side_with_longer_rounds_gets_no_more_chances(self, turned: bool) -> None:
        """A third sample of half the time would make that side twice as fast."""
        long, short = rounds(*[1.0] * 8, more=(1.0, 0.5)), rounds(*[1.0] * 8, more=(1.0,))
        new, old = (long, short) if turned else (short, long)
        for found in (compare_interleaved(new, old), compare_apart([new], [old])):
            assert (found.verdict, found.effect) == ("same", 0.0)

    @pytest.mark.parametrize(("ours", "theirs"), [(7, 8), (8, 7), (7, 9)])
    def test_the_side_with_fewer_rounds_says_whether_they_are_enough(self, ours: int, theirs: int) -> None:
        found = compare_apart([rounds(*[2.0] * ours)], [rounds(*[1.0] * theirs)])
        assert (found.verdict, found.why) == ("cannot tell", "7 rounds on one side; 8 are needed")
        assert (found.ratio, found.p, found.effect) == (None, None, None)

    def test_a_round_without_a_partner_is_an_error(self) -> None:
        with pytest.raises(ValueError, match="shorter"):
            compare_interleaved(rounds(*[1.0] * 9), rounds(*[1.0] * 8))

    @pytest.mark.parametrize(
        ("ratio", "p", "why"),
        [
            (Interval(1.1, 1.05, 1.2), 0.001, "+10.0% [+5.0%, +20.0%]"),
            (Interval(0.8, 0.75, 0.9), 0.001, "-20.0% [-25.0%, -10.0%]"),
            (Interval(1.01, 0.98, 1.02), 0.5, "+1.0% [-2.0%, +2.0%], within 5%"),
            (Interval(1.1, 0.9, 1.2), 0.5, "+10.0% [-10.0%, +20.0%]: the interval is too wide for a word"),
        ],
    )
    def test_each_word_has_its_change_and_interval(self, ratio: Interval, p: float, why: str) -> None:
        assert _word(ratio, p, 0.0).why == why


class TestShapes:
    @pytest.mark.parametrize(
        ("lower", "found"), [(2, None), (3, (1, 2, 0.85)), (17, (1, 2, 0.15)), (18, None)], ids=str
    )
    def test_a_heap_has_more_than_a_tenth_of_twenty_values(
        self, lower: int, found: tuple[float, float, float] | None
    ) -> None:
        """Split at three, two of one value and one of the other have a spread that half the gap does not exceed."""
        told = two_modes(np.asarray([2.0] * (20 - lower) + [1.0] * lower))
        assert told == (None if found is None else pytest.approx(found))

    def test_heaps_of_different_spread_share_the_mean_of_their_variances(self) -> None:
        """One heap has no spread and the other one of 0.1: the root of their mean square is 0.0707, four times which is
        0.283."""
        for apart, there in ((0.27, False), (0.30, True)):
            logs = np.concatenate([np.zeros(30), apart + np.tile([-0.1, 0.1], 3)])
            assert (two_modes(np.exp(logs)) is not None) is there
            assert (two_modes(np.exp(-logs)) is not None) is there

    @pytest.mark.parametrize("sign", [1, -1])
    def test_the_split_leaves_the_least_sum_of_squares_in_both_heaps(self, sign: int) -> None:
        """Ten logarithms of 0, and thirty that are 0.1 to either side of 0.35. Split between these the squares sum up
        to 30 x 0.01 = 0.3; within the thirty, to 10 x 15 / 25 x 0.25^2 = 0.375."""
        logs = sign * np.concatenate([np.zeros(10), np.repeat([0.25, 0.45], 15)])
        right = (1, math.exp(0.35), 0.75) if sign > 0 else (math.exp(-0.35), 1, 0.25)
        assert two_modes(np.exp(logs)) == pytest.approx(right)

    def test_a_time_of_zero_is_no_error(self) -> None:
        assert two_modes(np.repeat([0.0, 1.0], 10)) == pytest.approx((1e-9, 1, 0.5))
        growth, p = trend(np.arange(8.0), np.zeros(8))
        assert (growth, p) == (0.0, 1.0)

    @pytest.mark.parametrize("slope", [0.1, -0.1])
    @pytest.mark.parametrize(("start", "step"), [(0.0, 1.0), (50.0, 3.0)])
    def test_a_trend_is_the_growth_from_the_first_time_to_the_last(
        self, slope: float, start: float, step: float
    ) -> None:
        places = np.arange(8.0)
        growth, p = trend(start + step * places, np.exp(slope * places))
        assert growth == pytest.approx(math.expm1(7 * slope))
        assert p == pytest.approx(2 / math.factorial(8))
