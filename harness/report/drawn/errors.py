"""How the errors of a tensor are spread: over its places, its sizes and its channels.

An error is the difference of the device's value to that of the CPU's run of the whole model; where either is NaN or
infinite and the other is not the same, the element is lost, and is in no bar and no colour but its own.
"""

from __future__ import annotations

import io
import math
from base64 import b64encode
from dataclasses import dataclass

import numpy as np
from PIL import Image

from harness.core.arrays import Array

MOST_ROWS, MOST_COLUMNS = 96, 144
MOST_BARS = 96
NAMED_CHANNELS = 5
_A_DECADE = 3
_MOST_DECADES = 8
# From small to large; lightness alone tells them apart, for whoever sees no colours and on both schemes.
SCALE = ((24, 56, 122), (62, 92, 130), (112, 118, 120), (176, 158, 92), (252, 214, 60))
LOST = (214, 40, 60)


@dataclass(frozen=True)
class Spread:
    """How large the errors are: bars from small to large, each the share of the elements in it, 0 to 1; the powers of
    ten between them with their places, 0 to 1; and where the error is that an ideal device shows, if it is in there."""

    bars: tuple[float, ...]
    decades: tuple[tuple[float, int], ...]
    expected: float | None
    smaller: int
    """Elements that are off, by less than the first bar."""

    @property
    def most(self) -> float:
        """The largest share."""
        return max(self.bars)


@dataclass(frozen=True)
class HeatMap:
    """The largest error at each place of two axes, as a picture: what its sides are, the value of its first and last
    colour, and where the worst element is, in shares of the sides."""

    picture: str
    rows: str
    columns: str
    over: str
    least: float
    most: float
    worst: tuple[float, float]
    height: int


@dataclass(frozen=True)
class Channel:
    """A channel: its number, its largest error and RMS over elements that are not lost, and how many are."""

    number: int
    largest: float
    rms: float
    lost: int


@dataclass(frozen=True)
class Channels:
    """The largest error of each channel, or of each few of them, on `axis`; the worst ones by number. `bars` are shares
    of the largest, and whether an element of it is lost."""

    axis: int
    count: int
    together: int
    bars: tuple[tuple[float, bool], ...]
    largest: float
    worst: tuple[Channel, ...]
    alone: bool
    """There is no other axis: each channel is an element."""


@dataclass(frozen=True)
class Errors:
    """All of it. `worst_at` is the element with the largest error, or the first lost one, with both sides' values."""

    shape: tuple[int, ...]
    count: int
    equal: int
    lost: int
    both: int
    """Elements that are NaN or the same infinity on both sides."""
    largest: float
    rms: float
    worst_at: tuple[int, ...]
    device_there: float
    reference_there: float
    spread: Spread | None
    heat: HeatMap | None
    channels: Channels | None


def errors_of(device: Array, reference: Array, expected: float | None = None) -> Errors | None:
    """The errors of a tensor; None for one without elements. `expected` is an ideal device's error, where known."""
    if device.size == 0:
        return None
    sound = np.isfinite(device) & np.isfinite(reference)
    with np.errstate(invalid="ignore", over="ignore"):
        both = ~sound & ((device == reference) | (np.isnan(device) & np.isnan(reference)))
        error = np.where(sound, np.abs(device - reference), 0.0)
    sound &= np.isfinite(error)
    error = np.where(sound, error, 0.0)
    lost = ~sound & ~both
    worst = int(np.argmax(lost) if lost.any() else np.argmax(error))
    there = np.unravel_index(worst, device.shape) if device.shape else ()
    counted = int(np.count_nonzero(sound))
    with np.errstate(over="ignore"):
        squares = float(np.sum(np.square(error, dtype=np.float64)))
    return Errors(
        shape=device.shape,
        count=device.size,
        equal=int(np.count_nonzero(sound & (error == 0))),
        lost=int(np.count_nonzero(lost)),
        both=int(np.count_nonzero(both)),
        largest=float(error.max()),
        rms=math.sqrt(squares / counted) if counted else 0.0,
        worst_at=tuple(map(int, there)),
        device_there=float(device.reshape(-1)[worst]),
        reference_there=float(reference.reshape(-1)[worst]),
        spread=_spread(error[sound], expected),
        heat=_heat(error, lost, tuple(map(int, there))),
        channels=_channels(error, lost),
    )


def _spread(error: Array, expected: float | None) -> Spread | None:
    off = error[error > 0]
    if not off.size:
        return None
    last = math.floor(math.log10(float(off.max()))) + 1
    first = max(last - _MOST_DECADES, math.floor(math.log10(float(off.min()))))
    number = (last - first) * _A_DECADE
    places = np.floor((np.log10(off.astype(np.float64)) - first) * _A_DECADE).astype(np.int64)
    counts = np.bincount(np.clip(places[places >= 0], 0, number - 1), minlength=number)
    at = (math.log10(expected) - first) / (last - first) if expected and 0 < expected < math.inf else None
    return Spread(
        bars=tuple(float(count) / error.size for count in counts),
        decades=tuple(((power - first) / (last - first), power) for power in range(first, last + 1)),
        expected=at if at is not None and 0 <= at <= 1 else None,
        smaller=int(np.count_nonzero(places < 0)),
    )


def _axes(shape: tuple[int, ...]) -> tuple[int, int] | None:
    """The two axes of a map: of a tensor with channels, those before them."""
    long = [axis for axis, size in enumerate(shape) if size > 1]
    if len(long) < 2:
        return None
    return (long[0], long[1]) if len(long) == 2 else (long[-3], long[-2])


def _heat(error: Array, lost: Array, worst: tuple[int, ...]) -> HeatMap | None:
    axes = _axes(error.shape)
    if axes is None:
        return None
    over = tuple(axis for axis in range(error.ndim) if axis not in axes)
    left = [axis for axis in over if error.shape[axis] > 1]
    values, gone = _pooled(error.max(axis=over)), _pooled(lost.max(axis=over))
    most = float(values.max())
    positive = values[values > 0]
    least = max(float(positive.min()), most * 1e-6) if positive.size else 0.0
    levels = np.zeros(values.shape, np.uint8)
    if positive.size:
        span = math.log(most / least) or 1.0
        with np.errstate(divide="ignore"):
            share = np.clip(np.log(np.maximum(values, least).astype(np.float64) / least) / span, 0, 1)
        levels = np.where(values > 0, 1 + np.rint(share * 253), 0).astype(np.uint8)
    levels[gone] = 255
    rows, columns = (error.shape[axis] for axis in axes)
    return HeatMap(
        picture=_picture(levels),
        rows=f"axis {axes[0]}, {rows:,}",
        columns=f"axis {axes[1]}, {columns:,}",
        over=" and ".join(f"axis {axis}" for axis in left),
        least=least,
        most=most,
        worst=((worst[axes[1]] + 0.5) / columns, (worst[axes[0]] + 0.5) / rows),
        height=round(min(320.0, max(72.0, 420 * rows / columns))),
    )


def _pooled(values: Array) -> Array:
    """So many places as a picture has, each the largest of what falls on it."""
    for axis, most in enumerate((MOST_ROWS, MOST_COLUMNS)):
        size = values.shape[axis]
        if size > most:
            starts = np.unique(np.arange(most) * size // most)
            values = np.maximum.reduceat(values, starts, axis=axis)
    return values


def _picture(levels: Array) -> str:
    image = Image.frombytes("P", levels.shape[::-1], np.ascontiguousarray(levels).tobytes())
    image.putpalette([channel for colour in _palette() for channel in colour])
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True, transparency=bytes([0, *[255] * 255]))
    return "data:image/png;base64," + b64encode(buffer.getvalue()).decode("ascii")


def _palette() -> list[tuple[int, int, int]]:
    return [(0, 0, 0), *_between(254), LOST]


def _between(number: int) -> list[tuple[int, int, int]]:
    at = np.linspace(0, len(SCALE) - 1, number)
    parts = [np.interp(at, range(len(SCALE)), [colour[part] for colour in SCALE]) for part in range(3)]
    return [(round(r), round(g), round(b)) for r, g, b in zip(*map(list, parts), strict=True)]


def scale(number: int) -> list[str]:
    """The colours of a heat map from small to large, as CSS has them."""
    return ["rgb({} {} {})".format(*colour) for colour in _between(number)]


def _channels(error: Array, lost: Array) -> Channels | None:
    long = [axis for axis, size in enumerate(error.shape) if size > 1]
    if not long:
        return None
    axis = long[-1]
    over = tuple(other for other in range(error.ndim) if other != axis)
    largest, gone = error.max(axis=over), np.count_nonzero(lost, axis=over)
    counted = error.size // error.shape[axis] - gone
    with np.errstate(over="ignore"):
        squares = np.square(error, dtype=np.float64).sum(axis=over)
    rms = np.sqrt(squares / np.maximum(counted, 1))
    order = np.lexsort((-largest, -gone))[:NAMED_CHANNELS]
    worst = [Channel(int(c), float(largest[c]), float(rms[c]), int(gone[c])) for c in order]
    together = math.ceil(largest.size / MOST_BARS)
    starts = np.arange(0, largest.size, together)
    top = float(largest.max())
    bars = np.maximum.reduceat(largest, starts) / (top or 1.0)
    broken = np.add.reduceat(gone, starts) > 0
    return Channels(
        axis=axis,
        count=largest.size,
        together=together,
        bars=tuple((float(bar), bool(b)) for bar, b in zip(bars, broken, strict=True)),
        largest=top,
        worst=tuple(each for each in worst if each.lost or each.largest > 0),
        alone=len(long) == 1,
    )
