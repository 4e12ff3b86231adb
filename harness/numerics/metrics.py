"""Comparing tensors, in chunks and in float64, with names, units and directions for every figure."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from harness.core.arrays import Array

CHUNK = 1 << 18
# An error of more times the reference's RMS is told as that: how many times more says nothing further.
MOST_SHARE = 10.0
# Two errors are one where they differ by no more than this share of the smaller (RMS): then three quarters of either's
# power is common to both, while unrelated errors differ by more than either.
ONE_FAULT = 0.5


@dataclass(frozen=True)
class Comparison:
    """The figures of one comparison; differences are taken over elements finite on both sides.

    `nonfinite` counts elements that are NaN or infinite where the reference is finite; `nonfinite_mismatch` those where
    the reference is not finite and the other side is anything but the same. `worst` is the position of `max_abs`, or of
    the first element counted in `nonfinite`. `flushed` counts elements below a smallest magnitude that shrank on the
    way, and `max_abs_unflushed` and `rms_unflushed` are the errors without theirs. Ranges are over each side's own
    finite elements.
    """

    count: int
    finite: int
    nonfinite: int
    nonfinite_mismatch: int
    reference_nonfinite: int
    max_abs: float
    mean_abs: float
    rms: float
    flushed: int
    max_abs_unflushed: float
    rms_unflushed: float
    reference_rms: float
    cosine: float
    range: tuple[float, float]
    reference_range: tuple[float, float]
    worst: tuple[int, ...]

    @property
    def relative_rms(self) -> float:
        """RMS of the difference over RMS of the reference; 0 when both are 0, infinite when only the latter is."""
        if self.rms == 0:
            return 0.0
        return self.rms / self.reference_rms if self.reference_rms else math.inf

    @property
    def snr_db(self) -> float:
        """Signal-to-noise ratio in dB; infinite when there is no difference."""
        if self.rms == 0:
            return math.inf
        return 20 * math.log10(self.reference_rms / self.rms) if self.reference_rms else -math.inf

    @property
    def identical(self) -> bool:
        """No difference at all, non-finite elements included."""
        return self.max_abs == 0 and self.nonfinite == 0 and self.nonfinite_mismatch == 0


@dataclass(frozen=True)
class Metric:
    """What a figure is measured in, which way is better, and how it is read off a comparison; None for one that is
    computed elsewhere. One with a `title` has a column of that name in reports and data frames besides; the others'
    columns are laid out by hand there. To add a metric: its entry in `METRICS`, and what it needs in `Comparison`."""

    unit: str
    better: Literal["lower", "higher"]
    meaning: str
    of: Callable[[Comparison], float] | None = None
    title: str = ""


METRICS: dict[str, Metric] = {
    "max_abs": Metric("tensor units", "lower", "largest absolute difference", lambda c: c.max_abs),
    "mean_abs": Metric("tensor units", "lower", "mean absolute difference", lambda c: c.mean_abs),
    "relative_rms": Metric("1", "lower", "RMS of the difference over RMS of the reference", lambda c: c.relative_rms),
    "cosine": Metric("1", "higher", "cosine of the angle between the two tensors taken as vectors", lambda c: c.cosine),
    "snr_db": Metric("dB", "higher", "20·log10 of RMS of the reference over RMS of the difference", lambda c: c.snr_db),
    "nonfinite": Metric("elements", "lower", "NaN or infinite where the reference is finite", lambda c: c.nonfinite),
    "iou": Metric("1", "higher", "intersection over union of the masks `values > 0`"),
}
"""Every metric by its name in JSON."""


def figures(comparison: Comparison) -> dict[str, float]:
    """The metrics of a comparison by name."""
    return {name: metric.of(comparison) for name, metric in METRICS.items() if metric.of is not None}


def titled() -> dict[str, Metric]:
    """The metrics that have a column because of their title."""
    return {name: metric for name, metric in METRICS.items() if metric.title}


class Comparator:
    """Accumulates a comparison over chunks of the flattened tensors, in order. Values below `smallest` in magnitude may
    be flushed towards zero; 0 allows none."""

    def __init__(self, shape: tuple[int, ...], smallest: float = 0.0) -> None:
        self._shape = shape
        self._smallest = smallest
        self._flushed = 0
        self._loud_max = self._loud_sq = 0.0
        self._count = self._finite = self._nonfinite = self._nonfinite_mismatch = self._reference_nonfinite = 0
        self._max_abs = -1.0
        self._worst = 0
        self._sum_abs = self._sum_sq = self._dot = self._actual_sq = self._reference_sq = 0.0
        self._range = [math.inf, -math.inf]
        self._reference_range = [math.inf, -math.inf]

    def update(self, actual: Array, reference: Array) -> None:
        """Add the next elements of both tensors; equal sizes.

        Raises:
            ValueError: the sizes differ.
        """
        if actual.size != reference.size:
            raise ValueError(f"{actual.size} elements cannot be compared with {reference.size}")
        if not actual.size:
            return
        with np.errstate(invalid="ignore"):  # what a device leaves in memory may be a signalling NaN
            a = actual.reshape(-1).astype(np.float64)
            r = reference.reshape(-1).astype(np.float64)
        good, expected = np.isfinite(a), np.isfinite(r)
        both = good & expected
        if good.any():
            _widen(self._range, a[good])
        if expected.any():
            _widen(self._reference_range, r[expected])
        fresh = expected & ~good
        if self._nonfinite == 0 and fresh.any():
            self._worst = self._count + int(np.argmax(fresh))
        self._nonfinite += int(fresh.sum())
        self._nonfinite_mismatch += int((~expected & (a != r) & ~(np.isnan(a) & np.isnan(r))).sum())
        self._reference_nonfinite += int((~expected).sum())
        a, r = (a, r) if both.all() else (a[both], r[both])
        if a.size:
            error = np.abs(a - r)
            peak = int(np.argmax(error))
            if error[peak] > self._max_abs:
                self._max_abs = float(error[peak])
                if self._nonfinite == 0:
                    self._worst = self._count + int(np.flatnonzero(both)[peak])
            self._add_loud(error, a, r)
            self._sum_abs += float(error.sum())
            self._sum_sq += _dot(error, error)
            self._dot += _dot(a, r)
            self._actual_sq += _dot(a, a)
            self._reference_sq += _dot(r, r)
        self._count += actual.size
        self._finite += int(both.sum())

    def _add_loud(self, error: Array, a: Array, r: Array) -> None:
        lost = flushed(a, r, self._smallest)
        count = int(np.count_nonzero(lost))
        self._flushed += count
        loud = error[~lost] if count else error
        if loud.size:
            self._loud_max = max(self._loud_max, float(loud.max()))
            self._loud_sq += _dot(loud, loud)

    def result(self) -> Comparison:
        """The figures.

        Raises:
            ValueError: nothing was compared; agreement about nothing is no agreement.
        """
        if self._count == 0:
            raise ValueError("a comparison of no elements says nothing")
        n = max(self._finite, 1)
        norm = math.sqrt(self._actual_sq) * math.sqrt(self._reference_sq)
        if norm > 0:
            cosine = min(1.0, self._dot / norm) if self._sum_sq else 1.0
        else:
            cosine = 1.0 if self._actual_sq == self._reference_sq and self._finite else 0.0
        return Comparison(
            count=self._count,
            finite=self._finite,
            nonfinite=self._nonfinite,
            nonfinite_mismatch=self._nonfinite_mismatch,
            reference_nonfinite=self._reference_nonfinite,
            max_abs=max(self._max_abs, 0.0),
            mean_abs=self._sum_abs / n,
            rms=math.sqrt(self._sum_sq / n),
            flushed=self._flushed,
            max_abs_unflushed=self._loud_max,
            rms_unflushed=math.sqrt(self._loud_sq / n),
            reference_rms=math.sqrt(self._reference_sq / n),
            cosine=cosine,
            range=(self._range[0], self._range[1]),
            reference_range=(self._reference_range[0], self._reference_range[1]),
            worst=tuple(int(i) for i in np.unravel_index(self._worst, self._shape)) if self._shape else (),
        )


def _dot(a: Array, b: Array) -> float:
    # Not `a @ b`: BLAS splits it among threads that spin, and on a busy machine wait for each other's time slices.
    return float(np.einsum("i,i->", a, b))


def compare(actual: Array, reference: Array, smallest: float = 0.0) -> Comparison:
    """Compare two tensors of equal shape, `CHUNK` elements at a time. Complex ones count as pairs of reals, in a last
    axis of 2.

    Raises:
        ValueError: the shapes differ, or there are no elements.
    """
    if actual.shape != reference.shape:
        raise ValueError(f"shape {list(actual.shape)} cannot be compared with {list(reference.shape)}")
    actual, reference = _real(actual), _real(reference)
    comparator = Comparator(actual.shape, smallest)
    a, r = np.ascontiguousarray(actual).reshape(-1), np.ascontiguousarray(reference).reshape(-1)
    for start in range(0, a.size, CHUNK):
        comparator.update(a[start : start + CHUNK], r[start : start + CHUNK])
    return comparator.result()


def rms(values: Array) -> float:
    """The root of the mean square, in float64; 0 for no values."""
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64)))) if values.size else 0.0


def one_error(first: Array, second: Array) -> bool:
    """Whether two errors of one tensor are the same, up to what `ONE_FAULT` allows; both finite."""
    if first.dtype.kind != "f" or not first.size or not (np.isfinite(first).all() and np.isfinite(second).all()):
        return False
    first, second = first.astype(np.float64), second.astype(np.float64)
    return rms(first - second) <= ONE_FAULT * min(rms(first), rms(second))


def flushed(actual: Array, reference: Array, smallest: float) -> Array:
    """Where a value below `smallest` in magnitude came out nearer to zero: flushing does that."""
    return np.asarray((np.abs(reference) < smallest) & (actual * reference >= 0) & (np.abs(actual) < np.abs(reference)))


def slice_rms(error: Array, axis: int) -> Array:
    """RMS of each slice along an axis, in float64."""
    others = tuple(i for i in range(error.ndim) if i != axis)
    squares: Array = np.square(error, dtype=np.float64)
    return np.asarray(np.sqrt(squares.mean(axis=others, dtype=np.float64)))


def mask_iou(actual: Array, reference: Array) -> float:
    """Intersection over union of `actual > 0` and `reference > 0`; 1 when both masks are empty. NaN is outside."""
    a, r = actual > 0, reference > 0
    union = int(np.count_nonzero(a | r))
    return float(np.count_nonzero(a & r)) / union if union else 1.0


def is_mask(name: str) -> bool:
    """Whether an output's sign is a mask, going by its name: only then does its IoU mean anything."""
    return "mask" in name.lower()


def finite_range(values: Array) -> tuple[float, float]:
    """Smallest and largest finite value (or part of a complex one), NaN when there is none."""
    values = _real(values)
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if not finite.size:
        return float("nan"), float("nan")
    return float(finite.min()), float(finite.max())


def _real(values: Array) -> Array:
    return np.stack([values.real, values.imag], -1) if values.dtype.kind == "c" else values


def _widen(bounds: list[float], values: Array) -> None:
    bounds[0] = min(bounds[0], float(values.min()))
    bounds[1] = max(bounds[1], float(values.max()))


def share_of_rms(relative: float) -> str:
    """`8.49% of its RMS`, in words that stay readable however far a value is off: an injected error has no bound, where
    the device's is bounded by its type."""
    return f"{relative:.2%} of its RMS" if not relative > MOST_SHARE else f"more than {MOST_SHARE:.0f} times its RMS"
