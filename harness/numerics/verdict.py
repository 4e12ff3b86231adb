"""Is an error more than the arithmetic explains? One rule for whole models and for single ops.

The *expected* error is what an ideal device would show against the exact result: see `harness.numerics.fp16`. A
tensor is wrong when it holds NaN or infinity where the exact result does not, or when its error, by largest element or
by RMS, is over a factor times the expected one: `FACTOR` for a model's outputs, `LOCAL_FACTOR` for a single op.

Why these: matrix products that accumulate in float16 show 3-13 times the ideal error each over 16 to 2,048 products,
and that is what float16 arithmetic costs; over a whole model such errors average out, so that a healthy one stays below
4 times, while the faults this tool is for show from 40 times upward in the outputs and from 250 in the op. Underflow is
not a fault: an absolute error below 2^-14, the smallest normal float16, is always accepted under float16 storage.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from harness.numerics.fp16 import SMALLEST_NORMAL
from harness.numerics.metrics import Comparison

FACTOR = 16.0
LOCAL_FACTOR = 32.0


@dataclass(frozen=True)
class Judgement:
    """A tensor against its exact values. `ratio` is error over expected error, the larger of maximum and RMS."""

    ok: bool
    ratio: float
    actual: Comparison
    expected: Comparison

    @property
    def expected_max_abs(self) -> float:
        """Largest absolute error that an ideal device shows."""
        return self.expected.max_abs


def judge(
    actual: Comparison, expected: Comparison, *, half: bool, roundoff: float, factor: float = FACTOR
) -> Judgement:
    """Judge `actual` (device against exact) by `expected` (ideal against exact).

    `roundoff` is the relative precision of one stored value; it is the least error expected of any tensor, relative to
    its RMS, since an ideal run may round luckily.
    """
    floor = roundoff * actual.reference_rms
    ratios = (
        _ratio(actual.max_abs, max(expected.max_abs, floor), half),
        _ratio(actual.rms, max(expected.rms, floor), half),
    )
    ratio = math.inf if actual.nonfinite else max(ratios)
    return Judgement(ratio <= factor, ratio, actual, expected)


def _ratio(error: float, expected: float, half: bool) -> float:
    if error == 0:
        return 0.0
    if half and error < SMALLEST_NORMAL:
        return min(1.0, error / expected) if expected else 1.0
    return error / expected if expected else math.inf
