"""The drawings of a history: latency with its percentile bands and steps, accuracy beneath, lanes side by side."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from harness.dashboard.facts import RunFacts
from harness.dashboard.series import Lane, comparable, row_id
from harness.dashboard.vector import Ink, drawing, vector
from harness.numerics.tolerance import FACTOR
from harness.report.figures import duration

# More runs than this are a smear; the table and the CSV have all of them.
MOST_POINTS = 240
_WIDTH = 640
_PERCENTILES = ("p50_ms", "p90_ms", "p99_ms")
# In milliseconds, as the facts are.
_UNITS = (("s", 1e3), ("ms", 1.0), ("µs", 1e-3))
# Labels nearer to each other than this share of the width would overlap.
_APART = 0.16


def history(lane: Lane, prefix: str) -> Markup | None:
    """Latency and accuracy of a lane's newest runs; None where no run has either."""
    start = max(0, len(lane.runs) - MOST_POINTS)
    shown = range(start, len(lane.runs))
    timed = [i for i in shown if lane.runs[i].benchmark and lane.runs[i].p50_ms is not None]
    judged = [i for i in shown if lane.runs[i].judgement != "nothing"]
    if not timed and not judged:
        return None
    heights = ([200] if timed else []) + ([72] if judged else [])
    with drawing(_WIDTH, 58 + sum(heights) + 14 * (len(heights) - 1)) as figure_:
        parts = figure_.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
        total = 58 + sum(heights) + 14 * (len(heights) - 1)
        figure_.subplots_adjust(left=0.1, right=0.985, top=1 - 26 / total, bottom=32 / total, hspace=0.22)
        if timed:
            _latency(parts[0], lane, timed, start)
        if judged:
            _accuracy(parts[-1], lane, judged)
        parts[-1].set_xlim(start - 0.7, max(len(lane.runs) - 0.3, start + 5.3))
        _dates(parts[-1], lane.runs, start)
        return vector(figure_, prefix, _told(lane))


def side_by_side(lanes: Sequence[Lane], prefix: str) -> Markup | None:
    """The latest valid benchmark of every lane on one axis from zero: dot at p50, bar to p90, line to p99."""
    timed = [(lane, lane.latest) for lane in lanes if lane.latest is not None and lane.latest.p50_ms is not None]
    if not timed:
        return None
    height = 44 + 30 * len(timed)
    most = max(run.p99_ms or run.p50_ms or 0.0 for _, run in timed)
    unit, size = _unit(most)
    with drawing(_WIDTH, height) as figure_:
        axes = figure_.subplots()
        figure_.subplots_adjust(left=0.235, right=0.75, top=1 - 6 / height, bottom=30 / height)
        for place, (lane, run) in enumerate(timed):
            p50 = run.p50_ms or 0.0
            p90, p99 = run.p90_ms or p50, run.p99_ms or p50
            wrong = lane.judgement == "fail"
            colour = (Ink.BAD if wrong else _ink(lane.key.accelerator)).value
            axes.plot([0, p50 / size], [place, place], color=colour, lw=7, alpha=0.16, solid_capstyle="butt")
            axes.plot([p50 / size, p99 / size], [place, place], color=colour, lw=1.4)
            axes.plot([p50 / size, p90 / size], [place, place], color=colour, lw=6, alpha=0.55, solid_capstyle="butt")
            axes.scatter([p50 / size], [place], s=46, color=colour, marker="D" if wrong else "o", zorder=3)
            said = f"{milliseconds(p50)}{', fail' if wrong else ''}"
            axes.annotate(said, (1.015, place), xycoords=("axes fraction", "data"), va="center", weight="bold",
                          color=colour if wrong else Ink.INK.value)  # fmt: skip
        axes.set_yticks(range(len(timed)), [lane.key.label for lane, _ in timed])
        axes.tick_params(axis="y", labelcolor=Ink.INK.value)
        axes.set_ylim(len(timed) - 0.5, -0.5)
        axes.set_xlim(0, most / size * 1.04)
        axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value, unit)))
        axes.grid(axis="x", lw=0.8)
        told = "; ".join(f"{lane.key.label} {milliseconds(run.p50_ms)}" for lane, run in timed)
        return vector(figure_, prefix, f"Latest valid benchmarks: {told}")


def sparkline(lane: Lane, width: int = 120, height: int = 26, most: int = 40) -> Markup:
    """The medians of the newest comparable benchmarks as a line, the last one as a dot; by hand, for there are hundreds
    on one page."""
    values = [lane.runs[i].p50_ms or 0.0 for i in lane.stretches[-1].runs[-most:]] if lane.stretches else []
    if len(values) < 2:
        return Markup("")
    least, span = min(values), max(max(values) - min(values), 0.06 * max(values))
    x = [4 + (width - 8) * i / (len(values) - 1) for i in range(len(values))]
    y = [height - 4 - (height - 8) * (value - least) / span for value in values]
    line = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    ink = "bad" if lane.judgement == "fail" else _ink(lane.key.accelerator).name.lower()
    return Markup(
        '<svg class="spark" viewBox="0 0 {0} {1}" width="{0}" height="{1}" aria-hidden="true">'
        '<polyline points="{2}" fill="none" stroke="var(--{3})"/>'
        '<circle cx="{4}" cy="{5}" r="2.6" fill="var(--{3})"/></svg>'
    ).format(width, height, line, ink, f"{x[-1]:.1f}", f"{y[-1]:.1f}")


def _latency(axes: Axes, lane: Lane, timed: Sequence[int], start: int) -> None:
    runs, ink = lane.runs, _ink(lane.key.accelerator).value
    valid = [i for i in timed if runs[i].valid]
    least, most = _limits([runs[i] for i in valid or timed])
    unit, size = _unit(most)
    for stretch in lane.stretches:
        places = [i for i in stretch.runs if i >= start]
        p50, p90, p99 = (np.array([_percentile(runs[i], name) for i in places]) / size for name in _PERCENTILES)
        axes.fill_between(places, p50, p90, color=ink, alpha=0.3, lw=0)
        axes.fill_between(places, p90, p99, color=ink, alpha=0.13, lw=0)
        axes.plot(places, p50, color=ink, lw=1.5)
        for level in stretch.levels if len(stretch.levels) > 1 else ():
            ends = [stretch.runs[level.first] - 0.4, stretch.runs[level.last] + 0.4]
            axes.plot(ends, [level.value / size] * 2, color=Ink.INK.value, lw=1.1, alpha=0.75)
    _points(axes, lane, [i for i in valid if lane.judgements[i] != "fail"], size, most, "o", ink)
    _points(axes, lane, [i for i in valid if lane.judgements[i] == "fail"], size, most, "D", Ink.BAD.value)
    _points(axes, lane, [i for i in timed if not runs[i].valid], size, most, "x", Ink.UNREAD.value)
    axes.set_ylim(least / size, most / size)
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value, unit)))
    axes.grid(axis="y", lw=0.8)
    axes.tick_params(axis="x", length=0, labelbottom=False)
    _changes(axes, lane, start)


def _points(axes: Axes, lane: Lane, places: Sequence[int], size: float, most: float, marker: str, colour: str) -> None:
    """One mark for each run, each a link to its row; what lies above the frame is drawn at its edge."""
    if not places:
        return
    high = [min(lane.runs[i].p50_ms or 0.0, most * 0.995) / size for i in places]
    area = {"o": 30, "D": 46, "x": 34}[marker]
    edge = {"linewidths": 1.6} if marker == "x" else {"edgecolors": Ink.PAGE.value, "linewidths": 0.7}
    marks = axes.scatter(places, high, s=area, marker=marker, color=colour, zorder=4, clip_on=False, **edge)
    marks.set_urls([f"#{row_id(lane.runs[i].run)}" for i in places])


def _changes(axes: Axes, lane: Lane, start: int) -> None:
    """Steps, and what changed under the numbers: the model file, the runtime."""
    marks: list[tuple[float, str, str, str]] = []
    for stretch in lane.stretches:
        for step in stretch.steps:
            worse = step.ratio > 1
            said = f"{'▲' if worse else '▼'} {percent(step.ratio)}"
            marks.append((stretch.runs[step.at] - 0.5, said, (Ink.INK if worse else Ink.GOOD).value, "--"))
    benches = [i for i, run in enumerate(lane.runs) if run.valid]
    for before, after in pairwise(benches):
        old, new = lane.runs[before], lane.runs[after]
        other = _other(old, new)
        if other:
            marks.append((after - 0.5, other, Ink.QUIET.value, ":"))
        elif old.runtime != new.runtime and new.runtime:
            marks.append((after - 0.5, f"LiteRT {new.runtime[:16]}", Ink.QUIET.value, ":"))
    width = max(len(lane.runs) - start, 6)
    # Steps come first: where labels would overlap, theirs is the one to keep.
    labelled: list[float] = []
    for mark in sorted((m for m in marks if m[0] >= start), key=lambda m: (m[3] == ":", m[0])):
        axes.axvline(mark[0], color=mark[2], lw=1.1, ls=mark[3])
        room = _APART * (1.0 if mark[3] == "--" else 1.6) * width
        if all(abs(mark[0] - other) > room for other in labelled):
            labelled.append(mark[0])
            right = mark[0] > start + 0.82 * width
            axes.annotate(mark[1], (mark[0], 1.02), xycoords=("data", "axes fraction"), color=mark[2], va="bottom",
                          ha="right" if right else "left", weight="bold" if mark[3] == "--" else "normal")  # fmt: skip


def _other(old: RunFacts, new: RunFacts) -> str:
    """Why two benchmarks that follow each other are incomparable; empty when they are not."""
    if old.sha256 != new.sha256:
        return "other model file"
    if old.inputs != new.inputs:
        return "other inputs"
    return "other machine" if comparable(old) != comparable(new) else ""


def _accuracy(axes: Axes, lane: Lane, judged: Sequence[int]) -> None:
    """Error of the worst output over what the arithmetic explains, on a logarithmic axis, with the limit."""
    ratios = [min(max(lane.runs[i].ratio or 0.0, 0.1), 1e6) for i in judged]
    top = max(100.0, 2.5 * max(ratios))
    axes.set_yscale("log")
    axes.set_ylim(0.06, top)
    axes.axhline(FACTOR, color=Ink.BAD.value, lw=1, ls="--")
    for verdict, marker, ink in (("pass", "o", Ink.GOOD), ("fail", "D", Ink.BAD)):
        places = [(i, r) for i, r in zip(judged, ratios, strict=True) if lane.runs[i].judgement == verdict]
        if places:
            x, y = zip(*places, strict=True)
            # A run can be wrong without a ratio: by NaN, or by a culprit.
            y = tuple(max(v, FACTOR * 1.2) if verdict == "fail" and lane.runs[i].ratio is None else v
                      for i, v in places)  # fmt: skip
            marks = axes.scatter(x, y, s=24, marker=marker, color=ink.value, zorder=3, clip_on=False,
                                 edgecolors=Ink.PAGE.value, linewidths=0.6)  # fmt: skip
            marks.set_urls([f"#{row_id(lane.runs[i].run)}" for i in x])
    ticks = [1.0, FACTOR, *([1e4] if top > 2e4 else [])]
    axes.set_yticks(ticks, [f"{tick:,.0f}×" for tick in ticks])
    axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(axis="y", lw=0.8)
    axes.annotate("error over what the arithmetic explains", (0.0, 1.03), xycoords="axes fraction", va="bottom",
                  color=Ink.QUIET.value)  # fmt: skip


def _dates(axes: Axes, runs: Sequence[RunFacts], start: int) -> None:
    count = len(runs) - start
    places = sorted({start + round(i * (count - 1) / 4) for i in range(5)}) if count > 5 else range(start, len(runs))
    days = {runs[i].started[:10] for i in range(start, len(runs))}
    axes.set_xticks(places, [_date(runs[i].started, len(days) > 2) for i in places])


def _date(started: str, by_day: bool) -> str:
    try:
        when = datetime.fromisoformat(started)
    except ValueError:
        return "?"
    return f"{when.day} {when:%b}" if by_day else f"{when:%H:%M}"


def _limits(runs: Sequence[RunFacts]) -> tuple[float, float]:
    """A frame that holds every median and p90, and p99 where it does not dwarf them."""
    p50, p90, p99 = ([_percentile(run, name) for run in runs] for name in _PERCENTILES)
    top = max(max(p90), min(max(p99), 1.5 * max(p50)))
    bottom = min(p50)
    room = max(0.06 * (top - bottom), 0.02 * top)
    return max(0.0, bottom - room), top + room


def _percentile(run: RunFacts, name: str) -> float:
    value: float | None = getattr(run, name)
    return (run.p50_ms or 0.0) if value is None else value


def _unit(most: float) -> tuple[str, float]:
    return next(((unit, size) for unit, size in _UNITS if most >= size), _UNITS[-1])


def _tick(value: float, unit: str) -> str:
    return f"{value:,.4g} {unit}"


def percent(ratio: float) -> str:
    """`+12 %`, `−34 %`; a factor from twofold on."""
    if ratio >= 2:
        return f"{ratio:.3g}×"
    change = (ratio - 1) * 100
    digits = 0 if abs(change) >= 9.95 else 1
    return f"{'+' if change >= 0 else '−'}{abs(change):.{digits}f} %"


def milliseconds(value: float | None) -> str:
    """A time given in milliseconds, in the unit that suits it."""
    return duration(None if value is None else value * 1e6)


def _ink(accelerator: str) -> Ink:
    return {"gpu": Ink.GPU, "npu": Ink.NPU}.get(accelerator, Ink.CPU)


def _told(lane: Lane) -> str:
    step = lane.last_step
    parts = [f"{lane.key.label}: {len(lane.runs)} runs"]
    if lane.latest is not None:
        parts.append(f"latest median {milliseconds(lane.latest.p50_ms)}")
    if step is not None:
        parts.append(f"last step {percent(step.ratio)}")
    return ", ".join(parts)
