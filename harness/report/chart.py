"""Where the marks of the local-error charts go.

Across, places are percentages, so that the chart fills any width while its text keeps its size; down, they are pixels.
Both axes of value are logarithmic. Values that a logarithm cannot show have lanes of their own: infinite ones above
the plot, zero and unread ones below it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from harness.core.arrays import OpIndex
from harness.numerics.tolerance import LOCAL_FACTOR
from harness.report.figures import figure, name, times
from harness.report.tables import OpRow, Verdict

Kind = Literal["ratio", "error"]

TOP, LANE, PLOT = 18.0, 34.0, 268.0
# A label of eleven-pixel letters, as a share of the narrowest chart.
_LETTER = 100 * 6.7 / 640
_LINE = 14.0
# Room for half an axis label at either end, in percent.
_MARGIN = 2.0


@dataclass(frozen=True)
class Mark:
    """One op. `tick` is where the expected error lies, in the chart of errors; `pinned` marks a value off the scale."""

    x: float
    y: float
    verdict: Verdict
    pinned: bool
    title: str
    tick: float | None = None


@dataclass(frozen=True)
class Tick:
    """A place on an axis."""

    at: float
    label: str


@dataclass(frozen=True)
class Label:
    """A culprit's name beside its mark."""

    x: float
    y: float
    anchor: Literal["start", "middle", "end"]
    text: str


@dataclass(frozen=True)
class Chart:
    """One chart. `threshold` and `unity` are heights; None in the chart of errors."""

    kind: Kind
    height: float
    plot_top: float
    plot_bottom: float
    marks: tuple[Mark, ...]
    labels: tuple[Label, ...]
    values: tuple[Tick, ...]
    ops: tuple[Tick, ...]
    infinite: float | None
    zero: float
    threshold: float | None
    unity: float | None


def draw(rows: Sequence[OpRow], kind: Kind) -> Chart:
    """Lay out one mark for each row, in the order of the rows."""
    value = _ratio if kind == "ratio" else _local
    seen = [v for row in rows if (v := value(row)) is not None]
    pinned = any(map(math.isinf, seen))
    top = TOP + (LANE if pinned else 0)
    bottom = top + PLOT
    scaled = [v for v in seen if 0 < v < math.inf]
    if kind == "error":
        scaled += [row.expected_max for row in rows if row.expected_max and row.expected_max < math.inf]
    else:
        scaled += [0.5, 2 * LOCAL_FACTOR]
    low, high = _decades(scaled)

    def height(v: float) -> float:
        if not low < v:
            return bottom
        return round(bottom - PLOT * math.log10(min(v, high) / low) / math.log10(high / low), 1)

    zero = bottom + LANE * 0.6
    end = 1 + max((row.index for row in rows), default=0)
    marks = tuple(_mark(row, kind, value(row), end, height, TOP, zero) for row in rows)
    return Chart(
        kind=kind,
        height=zero + 40,
        plot_top=top,
        plot_bottom=bottom,
        marks=marks,
        labels=_labels(rows, marks),
        values=tuple(_value_ticks(low, high, height, kind)),
        ops=tuple(_op_ticks(end)),
        infinite=TOP if pinned else None,
        zero=zero,
        threshold=height(LOCAL_FACTOR) if kind == "ratio" else None,
        unity=height(1.0) if kind == "ratio" else None,
    )


def _ratio(row: OpRow) -> float | None:
    return row.ratio


def _local(row: OpRow) -> float | None:
    return math.inf if row.nonfinite else row.local_max


def _mark(
    row: OpRow, kind: Kind, value: float | None, end: int, height: Callable[[float], float], top: float, zero: float
) -> Mark:
    x = _across(row.index, end)
    if value is None or math.isnan(value):
        return Mark(x, zero, row.verdict, False, f"#{row.number} {name(row.op, 80)}: not read")
    local = f"{row.nonfinite} elements NaN or infinite" if row.nonfinite else figure(row.local_max)
    said = f"local error {local}, expected {figure(row.expected_max)}"
    title = f"#{row.number} {name(row.op, 80)}: {times(row.ratio)} ({said}), {row.verdict}"
    tick = height(row.expected_max) if kind == "error" and row.expected_max else None
    if math.isinf(value):
        return Mark(x, top, row.verdict, True, title, tick)
    return Mark(x, height(value) if value > 0 else zero, row.verdict, False, title, tick)


def _across(index: OpIndex, end: int) -> float:
    return round(_MARGIN + (100 - 2 * _MARGIN) * (index + 0.5) / end, 2)


def _decades(values: Sequence[float]) -> tuple[float, float]:
    """The powers of ten around some values; at most twelve decades, for a chart of fifty shows nothing."""
    low = math.floor(math.log10(min(values, default=1e-3)))
    high = math.ceil(math.log10(max(values, default=1.0)))
    high = max(high, low + 1)
    return 10.0 ** max(low, high - 12), 10.0**high


def _value_ticks(low: float, high: float, height: Callable[[float], float], kind: Kind) -> Iterable[Tick]:
    first, last = round(math.log10(low)), round(math.log10(high))
    step = 1 + (last - first) // 8
    for power in range(last, first - 1, -step):
        label = f"{10**power:,}" if power >= 0 else f"{10.0**power:.{-power}f}"
        if not -4 <= power < 5:
            label = f"1e{power}".replace("-", "\N{MINUS SIGN}")
        yield Tick(height(10.0**power), f"{label}×" if kind == "ratio" else label)


def _op_ticks(end: int) -> Iterable[Tick]:
    step = next(n * 10**e for e in range(12) for n in (1, 2, 5) if end <= 12 * n * 10**e)
    for index in range(0, end, step):
        yield Tick(_across(index, end), str(index))


def _labels(rows: Sequence[OpRow], marks: Sequence[Mark]) -> tuple[Label, ...]:
    """Names for as many culprits as have room, the worst first: in full, else by number, else none."""
    placed: list[tuple[float, float, float]] = []
    labels = []
    culprits = [(row, mark) for row, mark in zip(rows, marks, strict=True) if row.verdict == "culprit"]
    for row, mark in sorted(culprits, key=lambda pair: -(pair[0].ratio or 0)):
        for text in (f"{name(row.op, 24)} #{row.number}", f"#{row.number}"):
            width = _LETTER * len(text)
            for y in (mark.y + 4, mark.y - 10, mark.y + 19):
                start = _start(mark.x, width, beside=y == mark.y + 4)
                if start is None or any(_overlap((start, y, width), other) for other in placed):
                    continue
                placed.append((start, y, width))
                labels.append(_label(mark.x, start, width, y, text))
                break
            else:
                continue
            break
    return tuple(labels)


def _start(x: float, width: float, *, beside: bool) -> float | None:
    """Where a label begins: right or left of its mark, or centred above or below it; None when it would not fit."""
    gap = 1.3
    if not beside:
        return x - width / 2 if width / 2 < x < 100 - width / 2 else None
    if x + gap + width <= 100:
        return x + gap
    return x - gap - width if x - gap - width >= 0 else None


def _label(x: float, start: float, width: float, y: float, text: str) -> Label:
    if start > x:
        return Label(x, y, "start", text)
    return Label(x, y, "end" if start + width < x else "middle", text)


def _overlap(a: tuple[float, float, float], b: tuple[float, float, float]) -> bool:
    return abs(a[1] - b[1]) < _LINE and a[0] < b[0] + b[2] and b[0] < a[0] + a[2]
