"""Is an error more than the arithmetic explains? One rule for whole models and for single ops.

The *expected* error is what an ideal device would show against the exact result: see `harness.numerics.fp16`. A
tensor is wrong when it holds NaN or infinity where the exact result does not, or when its error, by largest element or
by RMS, is over a factor times the expected one: `FACTOR` for a model's outputs, `LOCAL_FACTOR` for a single op. A
model's outputs are held to this by channel as well, so that boxes in the hundreds do not hide scores below one.

Why these: matrix products that accumulate in float16 show 3-13 times the ideal error each over 16 to 2,048 products,
and that is what float16 arithmetic costs; over a whole model such errors average out, so that a healthy one stays below
5 times, while the faults this tool is for show from 40 times upward in the outputs and from 240 in the op. Underflow is
not a fault: a value below 2^-14, the smallest normal float16, may come out nearer to zero. Where that harms an output,
the output says so. Integers without a grid are identifiers, counts and flags: one step is as wrong as a thousand, but
for what an op that jumps explains (`harness.localize.base.ideals`).

A quantized tensor is judged by the real numbers that its integers stand for. Rounding to a grid is no error of the
arithmetic, and no multiple of it: what it explains is taken off the error first, and only the rest is held to the
factor times what float16 explains.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.core.arrays import Array
from harness.numerics.metrics import Comparison, flushed, slice_rms

FACTOR = 16.0
LOCAL_FACTOR = 32.0

# A slice with fewer elements may be near zero by chance, and its ideal error too.
LEAST_SLICE = 64
MOST_SLICES = 4096


@dataclass(frozen=True)
class Granted:
    """What rounding to the grids of quantized tensors explains of an error, by largest element and by RMS, in real
    units."""

    max_abs: float = 0.0
    rms: float = 0.0


NOTHING = Granted()


@dataclass(frozen=True)
class Judgement:
    """A tensor against its exact values. `ratio` is error over expected error, the largest of maximum, RMS and, for a
    model's outputs, RMS of a channel; of a quantized tensor, of both without what rounding to its `grid` explains.
    `limit` is what it may come to. `step` is one step of the grid: figures are in real units, and over it in steps."""

    ok: bool
    ratio: float
    actual: Comparison
    expected: Comparison
    limit: float = FACTOR
    grid: Granted = NOTHING
    step: float | None = None

    @property
    def expected_max_abs(self) -> float:
        """Largest absolute error that an ideal device shows."""
        return self.expected.max_abs

    def and_by(self, other: Judgement) -> Judgement:
        """The same, unless another judgement of the tensor is worse."""
        return replace(self, ok=self.ok and other.ok, ratio=max(self.ratio, other.ratio))

    def limits(self, factor: float, roundoff: float) -> tuple[float, float]:
        """The largest error and the largest RMS error at which :func:`judge` calls it right."""
        floor = roundoff * self.actual.reference_rms
        pairs = (self.expected.max_abs, self.grid.max_abs), (self.expected.rms, self.grid.rms)
        most, rms = (granted + factor * max(expected - granted, floor) for expected, granted in pairs)
        return most, rms


def judge(
    actual: Comparison,
    expected: Comparison,
    *,
    roundoff: float,
    factor: float = FACTOR,
    channels: float = 0.0,
    grid: Granted = NOTHING,
    step: float | None = None,
) -> Judgement:
    """Judge `actual` (device against exact) by `expected` (ideal against exact).

    `roundoff` is the relative precision of one stored value; it is the least error expected of any tensor, relative to
    its RMS, since an ideal run may round luckily. `channels` is the ratio of the worst channel. `grid` is taken off the
    error first; `step` is told by the judgement.
    """
    floor = roundoff * actual.reference_rms
    ratios = (
        _ratio(max(actual.max_abs_unflushed - grid.max_abs, 0.0), max(expected.max_abs, floor)),
        _ratio(max(actual.rms_unflushed - grid.rms, 0.0), max(expected.rms, floor)),
        channels,
    )
    ratio = math.inf if actual.nonfinite else max(ratios)
    explained = replace(expected, max_abs=expected.max_abs + grid.max_abs, rms=expected.rms + grid.rms)
    return Judgement(ratio <= factor, ratio, actual, explained, factor, grid, step)


def worst_case(comparisons: Sequence[Comparison]) -> Comparison:
    """The larger error of several ideal runs, by maximum and by RMS."""
    first = max(comparisons, key=lambda c: c.rms)
    return replace(first, max_abs=max(c.max_abs for c in comparisons))


def channel_ratio(
    actual: Array, ideals: Sequence[Array], exact: Array, roundoff: float, smallest: float = 0.0
) -> float:
    """Error over expected error of the worst channel, by RMS.

    A channel is a slice along the last axis or along axis 1 (where detectors keep boxes beside scores), with at least
    `LEAST_SLICE` elements that are finite throughout; not a row or a column of an image. Some of hundreds are rounded
    luckily in the ideal runs, so relative to its own size a channel may be off as far as the whole tensor is relative
    to its size. Values below `smallest` may be flushed towards zero, as `metrics.Comparator` has it.
    """
    if actual.dtype.kind != "f" or not np.isfinite(exact).all() or not np.isfinite(actual).all():
        return 0.0
    worst = 0.0
    tiny = float(np.finfo(np.float64).tiny)
    for axis in _channel_axes(actual.shape):
        if not 2 <= actual.shape[axis] <= MOST_SLICES:
            continue
        if actual.size // actual.shape[axis] < LEAST_SLICE:
            continue
        sizes = slice_rms(exact, axis)
        relative = roundoff
        allowed = np.full_like(sizes, roundoff * smallest)
        for ideal in ideals:
            if np.isfinite(ideal).all():
                explained = slice_rms(ideal - exact, axis)
                allowed = np.maximum(allowed, explained)
                # Slices are of one length: the RMS over them is the whole tensor's.
                relative = max(relative, float(np.linalg.norm(explained)) / max(float(np.linalg.norm(sizes)), tiny))
        allowed = np.maximum(allowed, relative * sizes)
        error = slice_rms(np.where(flushed(actual, exact, smallest), 0, actual - exact), axis)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios = np.where(error == 0, 0.0, error / allowed)
        worst = max(worst, float(ratios.max()))
    return worst


def _channel_axes(shape: tuple[int, ...]) -> set[int]:
    """Axes that may hold channels. In rank 4 two equal neighbours are an image's height and width, and the third axis
    is the channels'."""
    if len(shape) == 4 and shape[1] == shape[2] != shape[3]:
        return {3}
    if len(shape) == 4 and shape[2] == shape[3] != shape[1]:
        return {1}
    return {len(shape) - 1, 1} if len(shape) > 1 else set()


def _ratio(error: float, expected: float) -> float:
    if error == 0:
        return 0.0
    return error / expected if expected else math.inf
