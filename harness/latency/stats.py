"""From samples to figures with intervals, and from two sets of figures to one word.

Samples of one round share what disturbed the round, so they are no independent evidence. Intervals come from
resampling whole rounds, and a comparison rests on one figure for each round: its quickest sample, the time of the model
when nothing interrupts it. On a machine whose cores other work took 60-75 % of the time, the median of a round
scattered by 32 % from one to the next, its tenth percentile by 5 %, its quickest sample by 4 %. What the quickest
sample cannot see (some iterations slow, others not) makes a run invalid as bimodal, and an invalid run is not compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.core.visible import counted
from harness.latency.record import Distribution, Interval, Verdict

Values = npt.NDArray[np.float64]

RESAMPLES = 1000
CONFIDENCE = 0.95
LEVELS = (50.0, 90.0, 99.0)

TOLERANCE = 0.05
"""A difference below this share is no reason for a word: two processes of one program differ by as much."""
SIGNIFICANCE = 0.01
LEAST_ROUNDS = 8


@dataclass(frozen=True)
class Compared:
    """Two sets of rounds: the word, a sentence, and what they rest on. See `record.Against`."""

    verdict: Verdict
    why: str
    ratio: Interval | None = None
    p: float | None = None
    effect: float | None = None


def distribution(rounds: Sequence[Values]) -> Distribution:
    """The samples of all rounds, in the rounds' unit; percentiles with bootstrap intervals over rounds. With a single
    round its samples are resampled instead.

    Raises:
        ValueError: there is no sample.
    """
    groups = [np.asarray(r, np.float64) for r in rounds if len(r)]
    if not groups:
        raise ValueError("there is no sample")
    values = np.concatenate(groups)
    owner = np.repeat(np.arange(len(groups)), [len(g) for g in groups])
    if len(groups) == 1:
        owner = np.arange(len(values))
    order = np.argsort(values, kind="stable")
    values, owner = values[order], owner[order]
    rng = np.random.default_rng(0)
    count = int(np.max(owner)) + 1
    draws = np.empty((RESAMPLES, len(LEVELS)))
    for i in range(RESAMPLES):
        weights = np.bincount(rng.integers(0, count, count), minlength=count)[owner].cumsum()
        places = np.searchsorted(weights, np.asarray(LEVELS) / 100 * weights[-1])
        draws[i] = values[places]
    low, high = np.percentile(draws, _edges(), axis=0)
    exact = np.percentile(values, LEVELS)
    p50, p90, p99 = (
        Interval(float(v), min(float(a), float(v)), max(float(b), float(v)))
        for v, a, b in zip(exact, low, high, strict=True)
    )
    return Distribution(len(values), float(values.mean()), float(values[0]), float(values[-1]), p50, p90, p99)


def quickest(rounds: Sequence[Values], size: int | None = None) -> Values:
    """The quickest of the first `size` samples of each round; of as many as the shortest round has, when not given. The
    least of more samples is less, so rounds are compared at one size."""
    size = smallest(rounds) if size is None else size
    return np.asarray([np.min(r[:size]) for r in rounds if len(r)], np.float64)


def smallest(*sides: Sequence[Values]) -> int:
    """The size of the shortest round that has samples."""
    return min((len(r) for rounds in sides for r in rounds if len(r)), default=1)


def compare_interleaved(new: Sequence[Values], old: Sequence[Values]) -> Compared:
    """Two cells measured in turns: round i of one beside round i of the other, so that what disturbed both cancels.
    Both have as many rounds.

    `p` is of Wilcoxon's signed-rank test.
    """
    from scipy.stats import wilcoxon

    pairs = [(a, b) for a, b in zip(new, old, strict=True) if len(a) and len(b)]
    n = len(pairs)
    if n < LEAST_ROUNDS:
        return _too_few(n)
    size = smallest([a for a, _ in pairs], [b for _, b in pairs])
    ours, theirs = (np.log(quickest([pair[side] for pair in pairs], size)) for side in (0, 1))
    differences = ours - theirs
    p = float(wilcoxon(differences).pvalue) if np.any(differences) else 1.0
    rng = np.random.default_rng(0)
    draws = np.median(differences[rng.integers(0, n, (RESAMPLES, n))], axis=1)
    ratio = _interval(float(np.median(differences)), draws)
    return _word(ratio, p, cliffs_delta(ours, theirs))


def compare_apart(new: Sequence[Sequence[Values]], old: Sequence[Sequence[Values]]) -> Compared:
    """Two runs of different times or places, each a list of replications that are lists of rounds. Replications are
    resampled, and rounds in them: how much one process differs from the next is part of the doubt.

    `p` is of Mann and Whitney's test over the rounds.
    """
    from scipy.stats import mannwhitneyu

    size = smallest(*new, *old)
    ours, theirs = ([np.log(quickest(r, size)) for r in side if r] for side in (new, old))
    n = min(sum(map(len, ours)), sum(map(len, theirs)))
    if n < LEAST_ROUNDS:
        return _too_few(n)
    all_ours, all_theirs = np.concatenate(ours), np.concatenate(theirs)
    p = float(mannwhitneyu(all_ours, all_theirs).pvalue)
    rng = np.random.default_rng(0)
    draws = np.asarray([_redraw(ours, rng) - _redraw(theirs, rng) for _ in range(RESAMPLES)])
    ratio = _interval(float(np.median(all_ours) - np.median(all_theirs)), draws)
    return _word(ratio, p, cliffs_delta(all_ours, all_theirs))


def cliffs_delta(new: Values, old: Values) -> float:
    """The chance that a value of `new` is above one of `old`, less the chance that it is below (Cliff 1993)."""
    below = np.searchsorted(np.sort(old), new, side="left")
    upto = np.searchsorted(np.sort(old), new, side="right")
    return float((below - (len(old) - upto)).sum() / (len(new) * len(old)))


def two_modes(values: Values) -> tuple[float, float, float] | None:
    """(lower centre, upper centre, share of the upper) where values lie in two heaps: the best split of the sorted
    logarithms in two has Ashman's D above 4, a gap of 10 % or more, and a tenth of the values on either side. A normal
    distribution cut in two has D = 2.7, a uniform one 3.5."""
    logs = np.sort(np.log(np.maximum(values, 1e-9)))
    n = len(logs)
    if n < 20:
        return None
    left = np.arange(n // 10 + 1, n - n // 10)
    sums, squares = np.cumsum(logs), np.cumsum(logs**2)
    below, above = sums[left - 1] / left, (sums[-1] - sums[left - 1]) / (n - left)
    spread_below = squares[left - 1] / left - below**2
    spread_above = (squares[-1] - squares[left - 1]) / (n - left) - above**2
    best = int(np.argmin(left * spread_below + (n - left) * spread_above))
    noise = np.sqrt(max((spread_below[best] + spread_above[best]) / 2, 1e-12))
    gap = above[best] - below[best]
    if gap < np.log(1.1) or gap / noise < 4:
        return None
    return float(np.exp(below[best])), float(np.exp(above[best])), float(1 - left[best] / n)


def trend(times: Values, values: Values) -> tuple[float, float]:
    """(growth over the whole time as a share, p): Theil and Sen's slope of the logarithms, Kendall's test."""
    from scipy.stats import kendalltau, theilslopes

    if len(values) < LEAST_ROUNDS or np.ptp(times) == 0:
        return 0.0, 1.0
    logs = np.log(np.maximum(values, 1e-9))
    p = float(kendalltau(times, logs).pvalue)
    slope = float(theilslopes(logs, times).slope)
    return float(np.expm1(slope * np.ptp(times))), 1.0 if np.isnan(p) else p


def _word(ratio: Interval, p: float, effect: float) -> Compared:
    change = f"{ratio.value - 1:+.1%} [{ratio.low - 1:+.1%}, {ratio.high - 1:+.1%}]"
    verdict: Verdict = "cannot tell"
    why = f"{change}: the interval is too wide for a word"
    if p < SIGNIFICANCE and ratio.low > 1 and ratio.value >= 1 + TOLERANCE:
        verdict, why = "slower", change
    elif p < SIGNIFICANCE and ratio.high < 1 and ratio.value <= 1 / (1 + TOLERANCE):
        verdict, why = "faster", change
    elif ratio.low >= 1 / (1 + TOLERANCE) and ratio.high <= 1 + TOLERANCE:
        verdict, why = "same", f"{change}, within {TOLERANCE:.0%}"
    return Compared(verdict, why, ratio, p, effect)


def _too_few(rounds: int) -> Compared:
    return Compared("cannot tell", f"{counted(rounds, 'round')} on one side; {LEAST_ROUNDS} are needed")


def _interval(centre: float, draws: Values) -> Interval:
    low, high = np.percentile(draws, _edges())
    value, low, high = (float(np.exp(v)) for v in (centre, low, high))
    return Interval(value, min(low, value), max(high, value))


def _redraw(groups: Sequence[Values], rng: np.random.Generator) -> float:
    chosen = [groups[i] for i in rng.integers(0, len(groups), len(groups))]
    return float(np.median(np.concatenate([g[rng.integers(0, len(g), len(g))] for g in chosen])))


def _edges() -> list[Any]:
    rest = (1 - CONFIDENCE) / 2 * 100
    return [rest, 100 - rest]
