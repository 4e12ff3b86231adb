"""Where the warm-up ends: change points in the order the samples came, not a number that somebody guessed.

Binary segmentation with a quadratic cost on the logarithm of the times (Scott & Knott 1974; the use for warm-up after
Barrett et al., "Virtual machine warmup blows hot and cold", OOPSLA 2017). A split is accepted where it lowers the cost
by more than `PENALTY`·log(n) times the noise's variance, which is taken from differences of neighbours, so that a step
does not count as noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

PENALTY = 12.0
LEAST = 3
"""Samples in a segment, at least; the first inference alone may be one."""

TOLERANCE = 0.05
"""A leading segment within this share of the steady level is steady already."""

MOST_SAMPLES = 4096
"""Longer series are looked at up to here: what takes longer to settle is a trend, and said to be one."""


def change_points(times: Sequence[float] | npt.NDArray[np.float64]) -> tuple[int, ...]:
    """Indices at which the level of a series of times changes, ascending."""
    logs = np.log(np.maximum(np.asarray(times, np.float64), 1e-9))
    if len(logs) < 2 * LEAST:
        return ()
    smooth = _median_of_three(logs)
    steps = np.abs(np.diff(logs))
    noise = max(float(np.median(steps)) / 0.9539, 0.002)  # the median of |N(0,1) - N(0,1)| is 0.9539
    threshold = PENALTY * np.log(len(logs)) * noise**2
    found: list[int] = []
    waiting = [(0, len(logs))]
    while waiting:
        start, stop = waiting.pop()
        split, gain = _best_split(smooth[start:stop])
        if gain > threshold:
            found.append(start + split)
            waiting += [(start, start + split), (start + split, stop)]
    return tuple(sorted(found))


def warmup_length(times: Sequence[float] | npt.NDArray[np.float64]) -> int:
    """How many of the first samples are warm-up: the leading segments whose level is not the steady one, which is the
    median of the second half. At most half of the samples; at least one, the first inference, where there are two."""
    values = np.asarray(times, np.float64)[:MOST_SAMPLES]
    if len(values) < 2:
        return 0
    half = len(values) // 2
    steady = float(np.median(values[half:]))
    edges = [1, *(1 + p for p in change_points(values[1:])), len(values)]
    length = 1
    for start, stop in pairwise(edges):
        level = float(np.median(values[start:stop]))
        if stop > half or abs(level / steady - 1) <= TOLERANCE:
            break
        length = stop
    return length


def _median_of_three(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """One interrupted sample is no change of level."""
    inner = np.median(np.stack([values[:-2], values[1:-1], values[2:]]), axis=0)
    return np.concatenate([values[:1], inner, values[-1:]])


def _best_split(values: npt.NDArray[np.float64]) -> tuple[int, float]:
    """The split that lowers the sum of squares most, and by how much."""
    n = len(values)
    if n < 2 * LEAST:
        return 0, 0.0
    sums = np.cumsum(values - values.mean())
    left = np.arange(LEAST, n - LEAST + 1)
    gains = sums[left - 1] ** 2 * n / (left * (n - left))
    best = int(np.argmax(gains))
    return int(left[best]), float(gains[best])
