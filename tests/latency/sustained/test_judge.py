"""From samples to a word: throttles of several shapes, none, and gaps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from harness.latency.stats import TOLERANCE
from harness.latency.sustained.judge import MOST_WINDOWS, Batch, clock, judge, ratio_of, windows
from harness.latency.sustained.record import Window

SECONDS = 600.0


def batches(
    ms: Callable[[float], float],
    *,
    noise: Callable[[np.random.Generator], float] = lambda rng: rng.normal(0, 0.02),
    seconds: float = SECONDS,
    at: float = 0.0,
    stretch: int = 0,
    seed: int = 0,
    processes: int = 1,
) -> list[Batch]:
    """Jobs of some twenty iterations; each takes `ms` at its own time and the noise, a share of it."""
    rng = np.random.default_rng(seed)
    found, now = [], at
    while now < at + seconds:
        ends, totals = [], []
        for _ in range(20):
            total = ms(now - at) * max(1 + noise(rng), 0.2)
            now += total / 1e3
            ends.append(now)
            totals.append(total)
        process = int((now - at) / seconds * processes)
        found.append(Batch(stretch, process, np.asarray(ends), np.asarray(totals)))
    return found


def word(**options: object) -> str:
    return judge(windows(batches(**options))).word  # type: ignore[arg-type]


class TestWindows:
    def test_are_of_equal_time_and_hold_every_sample_once(self) -> None:
        given = batches(lambda t: 100.0 if t < 300 else 200.0)
        seen = windows(given)
        assert len(seen) == MOST_WINDOWS
        assert sum(w.samples for w in seen) == sum(len(b.ends_s) for b in given)
        assert len({round(w.seconds, 9) for w in seen}) == 1
        assert seen[0].p10_ms <= seen[0].p50_ms <= seen[0].p90_ms
        assert seen[-1].p50_ms == pytest.approx(200, rel=0.05)

    def test_few_samples_make_few_windows(self) -> None:
        given = batches(lambda t: 6000.0)
        assert len(windows(given)) <= sum(len(b.ends_s) for b in given) // 3 + 1

    def test_none_lies_across_a_gap(self) -> None:
        given = batches(lambda t: 100.0, seconds=200) + batches(lambda t: 100.0, seconds=200, at=300.0, stretch=1)
        assert all(w.at_s + w.seconds <= 201.9 or w.at_s >= 299 for w in windows(given))

    def test_of_nothing_are_none(self) -> None:
        assert windows([]) == ()
        assert judge(()).word == "undecided"


class TestThrottled:
    def test_a_step_says_when_and_by_how_much(self) -> None:
        found = judge(windows(batches(lambda t: 196.0 if t < 240 else 400.0)))
        slow = found.slowdown
        assert found.word == "slower" and slow is not None
        assert slow.at_s == pytest.approx(240, abs=3 * SECONDS / MOST_WINDOWS)
        assert slow.ratio.value == pytest.approx(400 / 196, rel=0.01)
        assert slow.quickest_ratio == pytest.approx(400 / 196, rel=0.03)
        assert slow.sustained_ratio == pytest.approx(400 / 196, rel=0.02)
        assert slow.peak_ms == pytest.approx(196, rel=0.02)
        assert slow.worst_ms == pytest.approx(400, rel=0.02)
        assert found.why.startswith("From 19")

    def test_a_ramp_is_a_staircase_that_goes_up(self) -> None:
        found = judge(windows(batches(lambda t: 196 + 204 * t / SECONDS)))
        assert found.word == "slower"
        stairs = [level.p50_ms for level in found.levels]
        assert len(stairs) >= 3 and stairs == sorted(stairs)
        assert found.slowdown is not None and 1.5 <= found.slowdown.ratio.value <= 400 / 196

    def test_one_that_comes_and_goes_ends_where_it_ends(self) -> None:
        found = judge(windows(batches(lambda t: 200.0 if t % 240 < 120 else 300.0)))
        assert found.word == "slower" and found.slowdown is not None
        assert found.slowdown.ratio.value == pytest.approx(1.5, rel=0.05)
        assert len(found.changes) >= 3

    def test_heavy_tails_and_stalls_hide_nothing(self) -> None:
        def noise(rng: np.random.Generator) -> float:
            return float(abs(rng.standard_t(2)) * 0.05 + 20 * (rng.random() < 0.01))

        assert word(ms=lambda t: 100.0 if t < 300 else 125.0, noise=noise) == "slower"

    def test_clocks_that_come_and_go_leave_the_quickest_samples(self) -> None:
        """From half of the time on seven iterations in ten are twice as slow."""
        rng = np.random.default_rng(5)
        found = judge(windows(batches(lambda t: 200.0 if t > 300 and rng.random() < 0.7 else 100.0)))
        assert found.slowdown is not None
        assert found.slowdown.quickest_ratio < 1.1 < found.slowdown.ratio.value

    def test_where_a_process_began_is_told(self) -> None:
        found = judge(windows(batches(lambda t: 100.0 if t < 300 else 120.0, processes=2)))
        assert [change.restart for change in found.changes] == [True]
        found = judge(windows(batches(lambda t: 100.0 if t < 300 else 120.0, processes=3)))
        assert [change.restart for change in found.changes] == [False]


class TestSteady:
    def test_a_device_that_holds_its_speed(self) -> None:
        found = judge(windows(batches(lambda t: 100.0)))
        assert (found.word, found.slowdown) == ("steady", None)
        assert found.drift is not None and found.drift.high <= 1 + TOLERANCE

    def test_what_matters_to_nobody_is_no_slowdown(self) -> None:
        """3 %, told with certainty, is under the floor of 5 %."""
        found = judge(windows(batches(lambda t: 100.0 if t < 300 else 103.0)))
        assert (len(found.changes), found.word) == (1, "steady")

    def test_one_that_gets_faster(self) -> None:
        assert word(ms=lambda t: 150.0 if t < 100 else 100.0) == "steady"

    def test_scatter_that_hides_more_than_the_floor_is_undecided(self) -> None:
        noise = lambda rng: float(rng.lognormal(0, 1.5))  # noqa: E731
        assert word(ms=lambda t: 5000.0, noise=noise) == "undecided"

    def test_too_few_samples_are_undecided(self) -> None:
        found = judge(windows(batches(lambda t: 100.0, seconds=3)))
        assert (found.word, found.drift) == ("undecided", None)
        assert found.why.endswith("a stretch needs 20 to be judged.")

    def test_false_alarms_are_under_one_in_a_hundred(self) -> None:
        """Of steady devices whose iterations scatter by 5 % with a memory of 0.9 from one to the next. 100 runs: of a
        rate of 1 % more than 5 are seen once in 1,800 times (binomial)."""

        def noise() -> Callable[[np.random.Generator], float]:
            last = [0.0]

            def next_one(rng: np.random.Generator) -> float:
                last[0] = 0.9 * last[0] + rng.normal(0, 0.05 * np.sqrt(1 - 0.81))
                return last[0]

            return next_one

        words = [word(ms=lambda t: 100.0, noise=noise(), seconds=60, seed=seed) for seed in range(100)]
        assert words.count("slower") + words.count("unsteady") <= 5


class TestUnsteady:
    def test_slow_waves_are_told_though_they_have_no_levels(self) -> None:
        found = judge(windows(batches(lambda t: 100 + 20 * np.sin(t / 20))))
        assert found.word == "unsteady" and found.swing is not None
        assert found.swing.ratio == pytest.approx(1.5, rel=0.1)

    def test_small_ones_are_no_matter(self) -> None:
        assert word(ms=lambda t: 100 + np.sin(t / 20)) == "steady"


class TestGaps:
    def test_the_speed_after_a_reboot_is_no_recovery(self) -> None:
        hot = batches(lambda t: 100.0 if t < 100 else 200.0, seconds=300)
        cool = batches(lambda t: 100.0, seconds=300, at=340.0, stretch=1, seed=1)
        found = judge(windows(hot + cool))
        assert found.word == "slower" and found.slowdown is not None
        assert found.slowdown.stretch == 0
        assert found.slowdown.sustained_ratio == pytest.approx(2, rel=0.05)
        assert all(change.ratio > 1 for change in found.changes)
        assert [level.stretch for level in found.levels] == [0, 0, 1]

    def test_a_slower_device_after_a_gap_is_no_slowdown_either(self) -> None:
        given = batches(lambda t: 100.0, seconds=300) + batches(lambda t: 130.0, seconds=300, at=340, stretch=1, seed=1)
        assert judge(windows(given)).changes == ()


def test_a_ratio_has_the_interval_that_scatter_makes() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(100):
        found = ratio_of(1.2 * rng.lognormal(0, 0.1, 60), rng.lognormal(0, 0.1, 60))
        inside += found.low <= 1.2 <= found.high
    assert inside >= 86  # of 95 expected, four standard deviations (binomial)


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.5, "0.5 s"), (59.0, "59 s"), (60.0, "1 min 00 s"), (1805.0, "30 min 05 s")]
)
def test_a_time_is_said_as_a_person_says_it(seconds: float, said: str) -> None:
    assert clock(seconds) == said


class TestABeginning:
    """Windows of one percent scatter, of 11.25 s each."""

    def windows(self, quick: int, seed: int) -> tuple[Window, ...]:
        rng = np.random.default_rng(seed)
        found = []
        for i in range(MOST_WINDOWS):
            p50 = (196.0 if i < quick else 400.0) * (1 + rng.normal(0, 0.01))
            found.append(Window(i * 11.25, 11.25, 0, 0, 50, 0.98 * p50, p50, 1.05 * p50, "none", None))
        return tuple(found)

    @pytest.mark.parametrize("seed", range(3))
    @pytest.mark.parametrize("quick", [3, 4, 5, 6])
    def test_too_short_for_a_level_is_no_steadiness(self, quick: int, seed: int) -> None:
        found = judge(self.windows(quick, seed))
        assert found.word in ("undecided", "slower")
        if found.word == "undecided":
            assert found.why.startswith("The second half is +10")

    @pytest.mark.parametrize("seed", range(20))
    def test_as_quick_as_the_rest_is_steady(self, seed: int) -> None:
        assert judge(self.windows(0, seed)).word == "steady"


def test_a_step_of_some_percent_with_a_new_process_is_no_slowdown() -> None:
    rng = np.random.default_rng(5)
    found = []
    for i in range(MOST_WINDOWS):
        p50 = (100.0 if i < 53 else 106.0) * (1 + rng.normal(0, 0.005))
        found.append(Window(i * 11.25, 11.25, 0, int(i >= 53), 50, p50, p50, p50, "none", None))
    judged = judge(found)
    assert (judged.word, judged.slowdown) == ("undecided", None)
    assert [change.restart for change in judged.changes] == [True]
