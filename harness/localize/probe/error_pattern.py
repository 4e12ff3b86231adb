"""What the wrong values look like beside the right ones: the shape of a fault often names the line that has it.

A signature is claimed only where it explains nearly all of the error: the values it predicts lie closer to the device's
than `CLOSE` of the error that they explain. The most telling are tried first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import Literal

import numpy as np

from harness.core.arrays import Array
from harness.numerics.fp16 import LARGEST, UNIT_ROUNDOFF
from harness.numerics.metrics import rms

Kind = Literal[
    "zeros", "constant", "saturated", "nonfinite", "operand", "stale", "transposed", "shifted", "permuted",
    "scaled", "offset", "channels", "slices", "block", "tail",
]  # fmt: skip

# A prediction's distance from the device's values, over the error that it is to explain (both RMS).
CLOSE = 0.1
# Roundings from which on a value is another one, and not the same with its rounding.
PLACES = 16
# Axes longer than this are not searched for shifts one by one.
MOST_SHIFTS = 512


@dataclass(frozen=True)
class Signature:
    """`kind` for programs, `text` for people."""

    kind: Kind
    text: str


def signature_of(
    actual: Array,
    exact: Array,
    operands: Mapping[str, Array] | None = None,
    others: Mapping[str, Array] | None = None,
) -> Signature | None:
    """The signature of a wrong tensor, if it has one.

    `operands` are what the op read, `others` further tensors of the graph that memory might still have held; both by
    name. Shapes of `actual` and `exact` are equal.
    """
    if actual.dtype.kind != "f" or not actual.size:
        return None
    finite = np.isfinite(actual)
    if not finite.all():
        return _nonfinite(actual, exact, finite)
    error = rms(actual - np.nan_to_num(exact))
    if not error:
        return None
    for signature, predicted in _predictions(actual, exact, operands or {}, others or {}):
        if rms(actual - predicted) <= CLOSE * error:
            return signature
    return _confined(actual, exact)


def predicts(predicted: Array, actual: Array, exact: Array) -> bool:
    """Whether predicted values, all finite, explain nearly all of a wrong tensor's error; shapes are equal."""
    if not all(np.isfinite(values).all() for values in (predicted, actual, exact)):
        return False
    error = rms(actual - exact)
    return error > 0 and rms(actual - predicted) <= CLOSE * error


def _nonfinite(actual: Array, exact: Array, finite: Array) -> Signature | None:
    fresh = ~finite & np.isfinite(exact)
    if not fresh.any():
        return None
    where = np.argwhere(fresh)
    nan, infinite = int(np.isnan(actual[fresh]).sum()), int(np.isinf(actual[fresh]).sum())
    what = " and ".join(f"{n} {word}" for n, word in ((infinite, "infinite"), (nan, "NaN")) if n)
    first = [int(i) for i in where[0]]
    smallest = float(np.abs(exact[fresh]).min())
    if infinite and smallest > LARGEST / 2:
        return Signature("nonfinite", f"{what}, where the exact result is beyond {smallest:.3g}")
    return Signature("nonfinite", f"{what} of {actual.size} values, the first at {first}")


def _predictions(
    actual: Array, exact: Array, operands: Mapping[str, Array], others: Mapping[str, Array]
) -> Iterator[tuple[Signature, Array]]:
    exact = np.nan_to_num(exact)
    if not actual.any():
        yield Signature("zeros", "all zeros"), actual
    first = actual.reshape(-1)[0]
    yield Signature("constant", f"{float(first):.4g} everywhere"), np.full_like(actual, first)
    if np.abs(exact).max() > LARGEST:
        yield Signature("saturated", f"saturated at {LARGEST:.0f}"), np.clip(exact, -LARGEST, LARGEST)
    for kind, named in (("operand", operands), ("stale", others)):
        for name, values in named.items():
            if values.size == actual.size and values.dtype.kind == "f":
                text = f"the operand '{name}' returned as it is" if kind == "operand" else f"the values of '{name}'"
                yield Signature(kind, text), values.reshape(actual.shape)  # type: ignore[arg-type]
    yield from _transposed(exact)
    yield from _shifted(actual, exact)
    yield from _scaled(actual, exact)
    if _same_extremes(actual, exact):
        # Among those alone that differ: a few other values among many hardly change what the sorted ones look like.
        moved = np.abs(actual - exact) > PLACES * UNIT_ROUNDOFF * np.abs(exact)
        wrong = actual[moved]
        same, back = actual.copy(), np.empty_like(wrong)
        back[np.argsort(wrong, kind="stable")] = np.sort(exact[moved])
        same[moved] = back
        if wrong.size > 1:
            yield Signature("permuted", "the right values in another order"), same


def _same_extremes(actual: Array, exact: Array) -> bool:
    """Any two large samples of one distribution look alike when sorted, but for their largest and smallest values; and
    those tell nothing where they are few numbers many times over, as at the ends of a coarse grid."""
    a, e = np.sort(actual, axis=None), np.sort(exact, axis=None)
    count = min(32, a.size // 2)
    ends = np.r_[0:count, a.size - count : a.size]
    telling = 2 * np.unique(e[ends]).size >= ends.size
    return telling and bool(np.allclose(a[ends], e[ends], rtol=2.0**-9, atol=0.0))


def _transposed(exact: Array) -> Iterator[tuple[Signature, Array]]:
    if not 2 <= exact.ndim <= 4:
        return
    for order in permutations(range(exact.ndim)):
        if order != tuple(range(exact.ndim)):
            moved = exact.transpose(order).reshape(exact.shape)
            yield Signature("transposed", f"axes in the order {list(order)}"), moved


def _shifted(actual: Array, exact: Array) -> Iterator[tuple[Signature, Array]]:
    """Shifts along each axis, by up to half of it; as they are, and with what moved in from the edge as it is."""
    for axis in range(exact.ndim):
        length = exact.shape[axis]
        for n in _likely_shifts(actual, exact, axis, length):
            rolled = np.roll(exact, n, axis)
            text = f"shifted by {n} along axis {axis}"
            yield Signature("shifted", text), rolled
            edge = [slice(None)] * exact.ndim
            edge[axis] = slice(0, n) if n > 0 else slice(length + n, length)
            rolled = rolled.copy()
            rolled[tuple(edge)] = actual[tuple(edge)]
            yield Signature("shifted", text), rolled


def _likely_shifts(actual: Array, exact: Array, axis: int, length: int) -> list[int]:
    """The few shifts at which the means over the other axes, and the first lines, fit best."""
    if length < 2 or length > MOST_SHIFTS:
        return []
    a, e = (np.moveaxis(x, axis, 0).reshape(length, -1)[:, :256].astype(np.float64) for x in (actual, exact))
    # Circular correlation of every column at once, by FFT.
    score = np.fft.irfft((np.fft.rfft(a, axis=0) * np.fft.rfft(e, axis=0).conj()).sum(axis=1), n=length)
    best = [int(n) for n in np.argsort(score)[::-1][:3] if n]
    return [n if n <= length // 2 else n - length for n in best]


def _scaled(actual: Array, exact: Array) -> Iterator[tuple[Signature, Array]]:
    a, e = actual.astype(np.float64), exact.astype(np.float64)
    power = float((e * e).sum())
    if power and (factor := float((a * e).sum()) / power):
        yield Signature("scaled", f"{factor:.4g} times the exact result"), exact * np.float32(factor)
    offset = float((a - e).mean())
    yield Signature("offset", f"the exact result plus {offset:.4g}"), exact + np.float32(offset)


def _confined(actual: Array, exact: Array) -> Signature | None:
    """An error that sits in some slices of an axis, all others being right: every fourth channel, the end of a row."""
    squares = np.square(actual.astype(np.float64) - np.nan_to_num(exact))
    narrower = _block(squares) or _tail(squares)
    if narrower is not None:
        return narrower
    for axis in reversed(range(actual.ndim)):
        length = actual.shape[axis]
        if length < 2:
            continue
        by_slice = np.moveaxis(squares, axis, 0).reshape(length, -1).sum(axis=1)
        wrong = np.flatnonzero(by_slice > CLOSE**2 * by_slice.max())
        if by_slice[wrong].sum() < (1 - CLOSE**2) * by_slice.sum() or len(wrong) > length // 2:
            continue
        lanes = set((wrong % 4).tolist())
        if length >= 8 and len(lanes) == 1 and len(wrong) == len(range(min(lanes), length, 4)):
            return Signature("channels", f"wrong in every fourth slice of axis {axis}, from {min(lanes)} on")
        first, last = int(wrong[0]), int(wrong[-1])
        if len(wrong) == last - first + 1:
            where = f"slice {first}" if first == last else f"slices {first} to {last}"
            return Signature("slices", f"wrong in {where} of axis {axis} only")
    return None


def _block(squares: Array) -> Signature | None:
    """An error that fills, by at least half, a block of up to half of the elements, along two axes or more."""
    wrong = squares > CLOSE**2 * squares.max()
    places = [
        np.flatnonzero(wrong.any(axis=tuple(a for a in range(wrong.ndim) if a != axis))) for axis in range(wrong.ndim)
    ]
    ranges = [(int(p[0]), int(p[-1]) + 1) for p in places]
    inside = tuple(slice(first, stop) for first, stop in ranges)
    size, block = wrong.size, wrong[inside]
    partial = sum(stop - first < length for (first, stop), length in zip(ranges, wrong.shape, strict=True))
    if partial < 2 or 2 * block.size > size or 2 * block.sum() < block.size or not _holds(squares[inside], squares):
        return None
    return Signature("block", f"wrong in the block [{', '.join(f'{a}:{b}' for a, b in ranges)}] only")


def _tail(squares: Array) -> Signature | None:
    """An error that fills, by at least half, what comes from some element on, in the order of memory; not one that
    begins with a slice of the first axis."""
    each = squares.size // next((d for d in squares.shape if d > 1), 1)
    squares = squares.reshape(-1)
    first = int(np.flatnonzero(squares > CLOSE**2 * squares.max())[0])
    rest = squares[first:]
    if first < max(squares.size // 16, 16) or (each > 1 and first % each == 0) or not _holds(rest, squares):
        return None  # an error all over may be small in the first few elements
    if 2 * np.count_nonzero(rest > CLOSE**2 * squares.max()) < rest.size:
        return None
    return Signature("tail", f"wrong from element {first:,} of {squares.size:,} on, in the order of memory")


def _holds(part: Array, squares: Array) -> bool:
    """Whether nearly all of an error is in a part of it."""
    return bool(part.sum() >= (1 - CLOSE**2) * squares.sum())
