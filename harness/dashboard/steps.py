"""Where a history of medians changes its level.

Levels are piecewise constant in the logarithm of latency, so that a step is a ratio. The partition is optimal, not
greedy: among all of them it minimises the squared deviations from each level plus a price for every step (Jackson et
al. 2005, "An algorithm for optimal partitioning of data on an interval"; the price is a multiple of Yao's BIC, 1988).
Spikes are clipped first, so that a single odd run is no step, and a step is told only once enough runs stand on both of
its sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from harness.core.arrays import Array

# Runs that a level needs: two odd runs in a row are no new level.
LEAST_RUNS = 3
# Smaller changes are not worth anyone's morning, and lie within what a rebuilt machine does.
LEAST_CHANGE = 0.03
# Spread that is assumed even where the medians agree better than any clock.
_LEAST_SPREAD = 0.004
_CLIP = 2.0
_PRICE = 5.0
# The cost is quadratic in the number of runs: of a longer history, the newest ones get levels.
MOST_RUNS = 1000


@dataclass(frozen=True)
class Level:
    """Runs `first` to `last` (both counted) share a level; `value` is their median, in the unit of the input."""

    first: int
    last: int
    value: float


@dataclass(frozen=True)
class Step:
    """The level changes at run `at`: `ratio` is the level after over the level before; over 1 is slower."""

    at: int
    before: float
    after: float

    @property
    def ratio(self) -> float:
        """Level after over level before."""
        return self.after / self.before


def levels(values: Sequence[float]) -> tuple[Level, ...]:
    """The levels of a history of positive values, oldest first; one level where nothing changed, none of nothing."""
    count = len(values)
    if count == 0:
        return ()
    skipped = max(0, count - MOST_RUNS)
    exact = np.asarray(values[skipped:], np.float64)
    bounds = _partition(_clipped(np.log(exact)))
    found = [Level(a, b - 1, float(np.median(exact[a:b]))) for a, b in pairwise(bounds)]
    merged = found[:1]
    for level in found[1:]:
        last = merged[-1]
        if abs(level.value / last.value - 1) < LEAST_CHANGE:
            merged[-1] = Level(last.first, level.last, float(np.median(exact[last.first : level.last + 1])))
        else:
            merged.append(level)
    return tuple(Level(level.first + skipped, level.last + skipped, level.value) for level in merged)


def steps(found: Sequence[Level]) -> tuple[Step, ...]:
    """The changes between neighbouring levels."""
    return tuple(Step(b.first, a.value, b.value) for a, b in pairwise(found))


def _clipped(logs: Array) -> Array:
    """Each value no further from the median of its neighbourhood than a few spreads."""
    width = 2 * LEAST_RUNS - 1
    if len(logs) < width:
        return logs
    # At the ends the nearest whole neighbourhood counts, so that fewer runs than a level needs cannot outvote it.
    middle = np.median(np.lib.stride_tricks.sliding_window_view(logs, width), axis=1)
    around = np.pad(middle, LEAST_RUNS - 1, mode="edge")
    room = _CLIP * _spread(logs)
    return np.clip(logs, around - room, around + room)


def _spread(logs: Array) -> float:
    """Standard deviation of the noise, from neighbouring differences: steps hardly touch their median."""
    typical = float(np.median(np.abs(np.diff(logs)))) if len(logs) > 1 else 0.0
    return max(_LEAST_SPREAD, 1.4826 * typical / float(np.sqrt(2)))


def _partition(logs: Array) -> list[int]:
    """Bounds of the cheapest partition into segments of at least `LEAST_RUNS`, from 0 to the number of values."""
    size = len(logs)
    if size < 2 * LEAST_RUNS:
        return [0, size]
    price = _PRICE * _spread(logs) ** 2 * np.log(size)
    sums = np.concatenate([[0.0], np.cumsum(logs - logs.mean())])
    squares = np.concatenate([[0.0], np.cumsum((logs - logs.mean()) ** 2)])
    best = np.full(size + 1, np.inf)
    best[0] = -price
    origin = np.zeros(size + 1, np.int64)
    for end in range(LEAST_RUNS, size + 1):
        starts = np.arange(0, end - LEAST_RUNS + 1)
        inside = squares[end] - squares[starts] - (sums[end] - sums[starts]) ** 2 / (end - starts)
        cost = best[starts] + inside + price
        origin[end] = int(np.argmin(cost))
        best[end] = cost[origin[end]]
    bounds = [size]
    while bounds[-1] > 0:
        bounds.append(int(origin[bounds[-1]]))
    return bounds[::-1]
