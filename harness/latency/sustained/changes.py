"""Where the level of a series changes, for values that are neither independent nor normal.

The statistic of a candidate is the difference of the means after and before it, over what that difference scatters by:
the long-run variance of the series, which counts its autocorrelation. The largest one over all candidates, each in
windows of many lengths around it (nested windows: Zhao, Jiang and Shao, "Segmenting time series via
self-normalisation", JRSS B 84, 2022), is held against the largest ones of series of as many independent normal values,
drawn with a fixed seed: no threshold is anybody's choice. Where it is larger, the series is split there and each part
looked at again (binary segmentation, Vostrikova 1981).

The long-run variance must not take the change itself for noise. It comes from differences of values a few places apart,
in which a step shows a few times and a slow ramp hardly (Tecuapetla-Gómez and Munk, "Autocovariance estimation in
regression with a discontinuous signal and m-dependent errors", Scand. J. Statist. 44, 2017), and from a first-order
autoregression, v·(1 + r) / (1 - r) (Andrews, "Heteroskedasticity and autocorrelation consistent covariance matrix
estimation", Econometrica 59, 1991).

Values are ranked first (van der Waerden's normal scores), which keeps the order and takes the tails off: one stalled
window has the largest rank and no more.

What it does on series without and with a change is measured in `tests/latency/sustained/test_changes.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from heapq import heappush, heappushpop

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]

TRIM = 0.05
"""The shortest level that is looked for, as a share of the series; also the unit of the windows around a candidate."""
LEAST = 4
"""The shortest level in values."""
LEAST_VALUES = 20
"""Fewer values cannot tell a change from their scatter."""
DRAWS = 2000
"""Series behind a p: at 1 % it is known to sqrt(0.01 × 0.99 / 2000) = 0.2 percentage points."""
MOST_CORRELATION = 0.95
"""A first-order autocorrelation above this is no noise around a level any more."""
NOISE_MEMORY = 0.8
"""What counts as noise around a level at most: a disturbance is down to a tenth after ten values."""


@dataclass(frozen=True)
class ChangePoint:
    """The level changes before value `at`. `p` is the chance of a statistic as large anywhere in a series of as many
    independent values; at least 1 / (DRAWS + 1)."""

    at: int
    p: float


def change_points(values: Values, alpha: float) -> tuple[ChangePoint, ...]:
    """Where the level of a series changes, ascending; none in fewer than `LEAST_VALUES` values. `alpha` is the chance
    of any change in a series of independent values without one."""
    count = len(values)
    if count < LEAST_VALUES:
        return ()
    scores = normal_scores(values)[None, :]
    scale = np.sqrt(long_run_variance(scores))
    unit = least_level(count)
    under_null = _under_null(count)
    found: list[ChangePoint] = []
    waiting = [(0, count)]
    while waiting:
        start, stop = waiting.pop()
        if stop - start < 2 * unit:
            continue
        at, contrast = _largest(scores[:, start:stop], unit)
        p = float((1 + np.sum(under_null >= contrast[0] / scale[0])) / (1 + DRAWS))
        if p <= alpha:
            split = start + int(at[0])
            found.append(ChangePoint(split, p))
            waiting += [(start, split), (split, stop)]
    return _refined(values, sorted(found, key=lambda change: change.at))


def _refined(values: Values, found: list[ChangePoint]) -> tuple[ChangePoint, ...]:
    """Each change where it parts the values between its neighbours best, by the sum of absolute deviations from the
    medians of both sides (Bai, "Least absolute deviation estimation of a shift", Econometric Theory 11, 1995): of
    levels far apart ranks tell that they differ, and not where."""
    edges = [0, *(change.at for change in found), len(values)]
    refined = []
    for i, change in enumerate(found):
        own = values[edges[i] : edges[i + 2]]
        before, after = _deviations(own), _deviations(own[::-1])[::-1]
        costs = before[LEAST - 1 : len(own) - LEAST] + after[LEAST : len(own) - LEAST + 1]
        edges[i + 1] = edges[i] + LEAST + int(np.argmin(costs))
        refined.append(ChangePoint(edges[i + 1], change.p))
    return tuple(refined)


def _deviations(values: Values) -> Values:
    """Of each beginning of the values, from one of them to all, the sum of absolute deviations from its median. The
    lower half lies in one heap, negated, and the upper half in another."""
    low: list[float] = []
    high: list[float] = []
    found, spread = np.empty(len(values)), 0.0
    for i, value in enumerate(values.tolist()):
        if len(low) > len(high):  # the middle one of an odd number is the largest in `low`
            spread += abs(value + low[0])
            heappush(high, -heappushpop(low, -value))
        else:
            moved = heappushpop(high, value)
            heappush(low, -moved)
            spread += (value - moved) + (-low[0] - moved)
        found[i] = spread
    return found


def normal_scores(values: Values) -> Values:
    """The normal quantiles of the ranks along the last axis; ties share one."""
    from scipy.stats import norm, rankdata

    scores: Values = norm.ppf(rankdata(values, axis=-1) / (values.shape[-1] + 1))
    return scores


def long_run_variance(series: Values) -> Values:
    """For each row, `count` times the variance of its mean were it without changes: [rows, count] to [rows]."""
    count = series.shape[1]
    most = max(5, count // 16)

    def half_square(lag: int) -> Values:
        found: Values = np.mean((series[:, lag:] - series[:, :-lag]) ** 2, axis=1) / 2
        return found

    # At lags beyond the noise's memory this is its variance; several of them, for a steadier figure.
    variance = np.mean([half_square(lag) for lag in range(most // 2 + 1, most + 2)], axis=0)
    variance = np.maximum(variance, 1e-9)
    memory = np.clip(1 - half_square(1) / variance, 0, MOST_CORRELATION)
    found: Values = variance * (1 + memory) / (1 - memory)
    return found


def wandering(values: Values) -> float:
    """The chance of so much slow variation in noise that remembers `NOISE_MEMORY` of itself from one value to the next:
    small where the values differ far more over the whole series than over two to four places, as in slow waves, which
    have no levels and look like a memory of nearly 1 to `long_run_variance`. The ratio of the two variances is that of
    von Neumann ("Distribution of the ratio of the mean square successive difference to the variance", Ann. Math.
    Statist. 12, 1941) with longer lags; 1 for fewer than `LEAST_VALUES` values."""
    if len(values) < LEAST_VALUES:
        return 1.0
    ratio = _slow_share(normal_scores(values)[None, :])[0]
    return float((1 + np.sum(_remembering(len(values)) >= ratio)) / (1 + DRAWS))


def _slow_share(scores: Values) -> Values:
    near = [np.mean((scores[:, lag:] - scores[:, :-lag]) ** 2, axis=1) / 2 for lag in (2, 3, 4)]
    found: Values = np.var(scores, axis=1) / np.maximum(np.mean(near, axis=0), 1e-9)
    return found


@cache
def _remembering(count: int) -> Values:
    noise = np.random.default_rng(count).standard_normal((DRAWS, count))
    noise[:, 0] /= np.sqrt(1 - NOISE_MEMORY**2)  # as if it had begun long ago
    for i in range(1, count):
        noise[:, i] += NOISE_MEMORY * noise[:, i - 1]
    return _slow_share(normal_scores(noise))


@cache
def _under_null(count: int) -> Values:
    """The largest statistic of each of `DRAWS` series of `count` independent values."""
    rng = np.random.default_rng(count)
    scores = normal_scores(rng.standard_normal((DRAWS, count)))
    found: Values = _largest(scores, least_level(count))[1] / np.sqrt(long_run_variance(scores))
    return found


def least_level(count: int) -> int:
    """The shortest level that is looked for in so many values."""
    return max(LEAST, round(TRIM * count))


def _spans(count: int, unit: int) -> Iterator[tuple[int, int, int]]:
    """(start, candidate, stop) of every nested window."""
    for middle in range(unit, count - unit + 1):
        for left in range(unit, middle + 1, unit):
            for right in range(unit, count - middle + 1, unit):
                yield middle - left, middle, middle + right


@cache
def _span_table(count: int, unit: int) -> Places:
    return np.array(list(_spans(count, unit)), np.int64).T


def _largest(series: Values, unit: int) -> tuple[Places, Values]:
    """For each row its candidate with the largest contrast, and that contrast, in standard deviations of one value."""
    rows = np.arange(len(series))
    sums = np.concatenate([np.zeros((len(series), 1)), np.cumsum(series, axis=1)], axis=1)
    table = _span_table(series.shape[1], unit)
    where, best = np.zeros(len(series), np.int64), np.full(len(series), -1.0)
    for first in range(0, table.shape[1], 1024):  # in pieces that stay in the processor's cache
        start, middle, stop = table[:, first : first + 1024]
        before, after = middle - start, stop - middle
        rise = (sums[:, stop] - sums[:, middle]) / after - (sums[:, middle] - sums[:, start]) / before
        contrasts = np.abs(rise) * np.sqrt(before * after / (before + after))
        at = np.argmax(contrasts, axis=1)
        better = contrasts[rows, at] > best
        best = np.where(better, contrasts[rows, at], best)
        where = np.where(better, middle[at], where)
    return where, best
