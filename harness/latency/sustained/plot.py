"""The staircase as a picture: latency over time, its levels, gaps and processes."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from harness.core.run_folder import write_page
from harness.core.visible import visible
from harness.latency.stats import TOLERANCE
from harness.latency.sustained.record import SustainedResult

_INK, _QUIET, _BAD, _HEAT = "#4477aa", "#888888", "#cc3311", "#aa7711"


def write_plot(result: SustainedResult, path: Path) -> None:
    """Write the picture, an SVG with a white ground that needs nothing else. Raises StorageError."""
    settings: dict[Any, Any] = {
        "svg.hashsalt": "harness",
        "svg.fonttype": "none",
        "font.size": 10,
        "text.parse_math": False,
    }
    with rc_context(settings):
        figure = Figure(figsize=(8.4, 4.2), dpi=100)
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        long = result.seconds >= 120
        _draw(axes, result, 60.0 if long else 1.0)
        axes.set(xlabel="minutes since the beginning" if long else "seconds since the beginning", ylabel="ms")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#dddddd", lw=0.8)
        axes.set_axisbelow(True)
        axes.set_title(_title(result), fontsize=10, loc="left")
        axes.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncol=4)
        text = io.StringIO()
        figure.savefig(text, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
    write_page(path, text.getvalue())


def _draw(axes: Axes, result: SustainedResult, unit: float) -> None:
    for number in dict.fromkeys(w.stretch for w in result.windows):
        own = [w for w in result.windows if w.stretch == number]
        middles = [(w.at_s + w.seconds / 2) / unit for w in own]
        named = number == result.windows[0].stretch
        axes.fill_between(middles, [w.p10_ms for w in own], [w.p90_ms for w in own], color=_INK, alpha=0.2, lw=0,
                          label="10th to 90th percentile" if named else None)  # fmt: skip
        axes.plot(
            middles, [w.p50_ms for w in own], color=_INK, lw=0.9, marker=".", ms=3, label="median" if named else None
        )
    for i, level in enumerate(result.levels):
        earlier = [other.p50_ms for other in result.levels[:i] if other.stretch == level.stretch]
        bad = bool(earlier) and level.p50_ms >= (1 + TOLERANCE) * min(earlier)
        axes.plot([level.from_s / unit, level.until_s / unit], [level.p50_ms] * 2, color=_BAD if bad else "#222222",
                  lw=2.2, solid_capstyle="butt", label="level" if i == 0 else None)  # fmt: skip
    for i, gap in enumerate(result.gaps):
        end = gap.at_s + gap.seconds if gap.seconds is not None else max(result.seconds, gap.at_s)
        axes.axvspan(gap.at_s / unit, end / unit, color=_QUIET, alpha=0.3, lw=0, label="gone" if i == 0 else None)
        axes.annotate(gap.why, (gap.at_s / unit, 1.0), xycoords=("data", "axes fraction"), color=_QUIET, fontsize=8,
                      va="bottom")  # fmt: skip
    for i, process in enumerate(result.processes[1:]):
        axes.axvline(process.from_s / unit, color=_QUIET, lw=0.8, ls=":", label="new process" if i == 0 else None)
    axes.set_ylim(0, 1.15 * max((w.p90_ms for w in result.windows), default=1.0))
    told = [(w.at_s / unit, w.celsius) for w in result.windows if w.celsius is not None]
    if told:
        heat = axes.twinx()
        heat.plot(*zip(*told, strict=True), color=_HEAT, lw=1, ls="--")
        heat.set_ylabel("°C, the device's own word", color=_HEAT)
        heat.spines["top"].set_visible(False)


def _title(result: SustainedResult) -> str:
    cell = result.cell
    named = visible(f"{Path(cell.model).stem[:40]}, {cell.device} {cell.label}")
    mode = ", fixed-performance mode" if result.fixed_performance else ""
    return f"{named}{mode}: {result.status}"
