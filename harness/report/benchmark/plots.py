"""The drawings of a benchmark's page, in shares of their width and pixels of their height."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from harness.report.benchmark.record import Gap, Level, Window
from harness.report.figures import figure
from harness.report.tables import TimedRow

BARS = 48
MOST_ROUNDS = 160
HIGH = 150
"""Pixels between the top and the foot of a drawing."""


@dataclass(frozen=True)
class Tick:
    """A place on an axis, in percent or pixels, and what stands there."""

    at: float
    label: str


@dataclass(frozen=True)
class Distribution:
    """How the times are spread: bars from `least` to `most` milliseconds in percent of the width, with the share of the
    samples in each; how many are beyond; marks at percentiles."""

    bars: tuple[float, ...]
    least: float
    most: float
    beyond: int
    marks: tuple[Tick, ...]
    ticks: tuple[Tick, ...]
    count: int

    @property
    def fullest(self) -> float:
        """The largest share."""
        return max(self.bars)


@dataclass(frozen=True)
class Bar:
    """A round or a window: its place and width in percent, tenth, fiftieth and ninetieth percentile in pixels from the
    top, whether it belongs to an odd process or stretch, and what it is in words."""

    at: float
    wide: float
    p10: float
    p50: float
    p90: float
    odd: bool
    told: str


@dataclass(frozen=True)
class Line:
    """A level: from where to where, in percent, and how far from the top, in pixels."""

    begin: float
    end: float
    y: float


@dataclass(frozen=True)
class Course:
    """Times in the order they were measured, over an axis that begins at 0."""

    bars: tuple[Bar, ...]
    levels: tuple[Line, ...]
    gaps: tuple[Line, ...]
    values: tuple[Tick, ...]
    ticks: tuple[Tick, ...]
    together: int = 1


def distribution(rows: Iterable[TimedRow], percentiles: Sequence[tuple[str, float]]) -> Distribution | None:
    """Of the steady samples; `percentiles` are names and milliseconds. None where there is no sample."""
    times = np.asarray([row.total / 1e6 for row in rows if row.phase == "steady"])
    if not times.size:
        return None
    least, most = float(np.min(times)), float(np.percentile(times, 99))
    longest = float(np.max(times))
    most = longest if longest <= 1.5 * most or most <= least else most
    span = (most - least) or max(most, 1e-6) * 0.1
    places = np.floor((times - least) / span * BARS).astype(np.int64)
    inside = places[(times <= most) & (places <= BARS)]
    counts = np.bincount(np.minimum(inside, BARS - 1), minlength=BARS)

    def across(value: float) -> float:
        return 100 * (value - least) / span

    marks = [Tick(across(value), name) for name, value in percentiles if least <= value <= least + span]
    ticks = [Tick(across(value), milliseconds(value)) for value in _round_values(least, least + span, 5)]
    bars = tuple(float(count) / times.size for count in counts)
    return Distribution(
        bars, least, least + span, int(times.size - inside.size), tuple(marks), tuple(ticks), times.size
    )


def rounds(rows: Iterable[TimedRow]) -> Course | None:
    """The steady samples by process and round, in their order; many rounds are drawn together."""
    by_round: dict[tuple[int, int], list[float]] = {}
    for row in rows:
        if row.phase == "steady":
            by_round.setdefault((row.process, row.round), []).append(row.total / 1e6)
    if not by_round:
        return None
    keys = sorted(by_round)
    together = math.ceil(len(keys) / MOST_ROUNDS)
    groups = [keys[at : at + together] for at in range(0, len(keys), together)]
    figures = []
    for group in groups:
        times = np.asarray([time for key in group for time in by_round[key]])
        figures.append((group[0], tuple(float(p) for p in np.percentile(times, (10, 50, 90))), times.size))
    top = max(percentiles[2] for _, percentiles, _ in figures)
    wide = 100 / len(figures)
    bars = tuple(
        Bar(
            at=place * wide,
            wide=wide,
            p10=_down(p10, top),
            p50=_down(p50, top),
            p90=_down(p90, top),
            odd=key[0] % 2 == 1,
            told=f"process {key[0] + 1}, round {key[1]}: {_told(p50, p90)}, {count} samples",
        )
        for place, (key, (p10, p50, p90), count) in enumerate(figures)
    )
    starts = [place for place, (key, _, _) in enumerate(figures) if not place or figures[place - 1][0][0] != key[0]]
    ticks = tuple(Tick(place * wide, f"process {figures[place][0][0] + 1}") for place in starts[:12])
    return Course(bars, (), (), _heights(top), ticks, together)


def staircase(windows: Sequence[Window], levels: Sequence[Level], gaps: Sequence[Gap]) -> Course | None:
    """The windows of a sustained benchmark over its time, with the levels that were found, and when it was gone. What
    holds NaN or infinity, as no benchmark writes it, is left out."""
    windows = [w for w in windows if all(map(math.isfinite, (w.at, w.seconds, w.p10, w.p50, w.p90)))]
    levels = [each for each in levels if all(map(math.isfinite, (each.begin, each.end, each.p50)))]
    gaps = [gap for gap in gaps if math.isfinite(gap.at) and math.isfinite(gap.seconds or 0.0)]
    if not windows:
        return None
    ends = [w.at + w.seconds for w in windows] + [gap.at + (gap.seconds or 0.0) for gap in gaps]
    end = max(*ends, 1e-9)
    top = max(window.p90 for window in windows)

    def across(seconds: float) -> float:
        return min(100.0, max(0.0, 100 * seconds / end))

    bars = tuple(
        Bar(
            at=across(w.at),
            wide=across(w.at + w.seconds) - across(w.at),
            p10=_down(w.p10, top),
            p50=_down(w.p50, top),
            p90=_down(w.p90, top),
            odd=w.stretch % 2 == 1,
            told=f"{clock(w.at)}: {_told(w.p50, w.p90)}",
        )
        for w in windows
    )
    lines = tuple(Line(across(level.begin), across(level.end), _down(level.p50, top)) for level in levels)
    gone = tuple(Line(across(g.at), 100.0 if g.seconds is None else across(g.at + g.seconds), 0.0) for g in gaps)
    unit = 60.0 if end > 120 else 1.0
    ticks = [
        Tick(across(value * unit), f"{value:g} {'min' if unit == 60 else 's'}")
        for value in _round_values(0, end / unit, 6)
    ]
    return Course(bars, lines, gone, _heights(top), tuple(ticks))


def milliseconds(value: float) -> str:
    """`11.9 ms`, `0.302 ms`, `1.25 s`; NaN and infinity in words."""
    return f"{figure(value / 1e3)} s" if 1000 <= value < math.inf else f"{figure(value)} ms"


def _told(p50: float, p90: float) -> str:
    return f"p50 {milliseconds(p50)}, p90 {milliseconds(p90)}"


def clock(seconds: float) -> str:
    """`1:05` after the beginning."""
    if not math.isfinite(seconds):
        return figure(seconds)
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def _down(value: float, top: float) -> float:
    return round(8 + HIGH * (1 - value / top), 1) if top > 0 else 8.0 + HIGH


def _heights(top: float) -> tuple[Tick, ...]:
    return tuple(Tick(_down(value, top), milliseconds(value)) for value in _round_values(0, top, 4)) if top > 0 else ()


def _round_values(least: float, most: float, number: int) -> list[float]:
    """Values that a person would choose, about so many, between two."""
    if not most > least or not math.isfinite(most - least):
        return []
    rough = (most - least) / number
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first = math.ceil(least / step - 1e-9)
    return [place * step for place in range(first, math.floor(most / step + 1e-9) + 1)]
