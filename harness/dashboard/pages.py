"""The pages of the site: what each shows, and the templates that show it.

Names come from model files and run folders that nobody vouches for: every value is escaped on its way into a page, none
is placed in a script or a style, and each page's policy lets no script run but the one whose hash it names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment
from markupsafe import Markup

from harness.dashboard import findings as found_by
from harness.dashboard import plots
from harness.dashboard.facts import Judgement, RunFacts
from harness.dashboard.findings import against_cpu, run_states, series_states, speed
from harness.dashboard.series import Lane, Series, lane_key, row_id
from harness.dashboard.steps import Step
from harness.report import page as report_page
from harness.report.figures import name, times
from harness.report.templating import environment, inline

TEMPLATES = Path(__file__).parent / "templates"
# The first page stays far below a megabyte, whatever the folder holds.
MOST_SERIES = 300
MOST_FINDINGS = 12
MOST_ROWS = 5000
MOST_HISTORY_ROWS = 1000
MOST_CELLS = 6000
_NEWEST = 12


@dataclass(frozen=True)
class Site:
    """What all pages share: the folder's name, where its reports are seen from the site, and every run and series."""

    results: str
    to_runs: str
    bundled: bool
    series: tuple[Series, ...]
    runs: tuple[RunFacts, ...]

    @property
    def where(self) -> dict[str, str]:
        """The page that shows a run, by the run's name; empty for one that belongs to no series."""
        return {run.run: "" for run in self.runs} | {r.run: s.slug for s in self.series for r in s.runs}


def overview(site: Site) -> str:
    """`index.html`."""
    found = found_by.findings(site.series, site.runs)
    lanes = [lane for series in site.series for lane in series.lanes]
    accelerators = [a for a in ("gpu", "npu") if a == "gpu" or any(lane.key.accelerator == a for lane in lanes)]
    totals = [
        ("Models", len({series.model for series in site.series})),
        ("Devices", len({series.device for series in site.series})),
        ("Runs", len(site.runs)),
        ("Benchmarks", sum(run.valid for run in site.runs)),
        ("Benchmarks that do not count", sum(run.benchmark and not run.valid for run in site.runs)),
    ]
    return _render(
        "overview.html.j2",
        site,
        "index.html",
        verdict=found_by.site_verdict(found, site.series),
        totals=totals,
        last=site.runs[0] if site.runs else None,
        findings=found[:MOST_FINDINGS],
        more_findings=len(found[MOST_FINDINGS:]),
        accelerators=accelerators,
        rows=[_row(series, accelerators) for series in site.series[:MOST_SERIES]],
        more_rows=len(site.series[MOST_SERIES:]),
        devices=sorted({series.device for series in site.series[:MOST_SERIES]}),
        newest=site.runs[:_NEWEST],
    )


def history(site: Site, series: Series) -> str:
    """`history/<slug>.html`."""
    newest = next((run for run in series.runs if run.gpu), None)
    runtime = next((run.runtime for run in series.runs if run.runtime), "")
    return _render(
        "history.html.j2",
        site,
        "",
        root="../",
        series=series,
        gpu=newest.gpu if newest else "",
        runtime=f"LiteRT {runtime}" if runtime else "",
        verdict=found_by.series_verdict(series),
        beside=plots.side_by_side(series.lanes, "beside"),
        now=[_now(lane, f"lane{place}") for place, lane in enumerate(series.lanes)],
        table=series.runs[:MOST_HISTORY_ROWS],
        older_rows=len(series.runs[MOST_HISTORY_ROWS:]),
        hows=[lane.key.label for lane in series.lanes],
    )


def matrix(site: Site) -> str:
    """`matrix.html`: models down, devices across."""
    devices = sorted({series.device for series in site.series})
    by_place = {(series.model, series.device): series for series in site.series}
    models = sorted({series.model for series in site.series})[: max(1, MOST_CELLS // max(1, len(devices)))]
    rows = []
    for model in models:
        here = [by_place.get((model, device)) for device in devices]
        states = {word for series in here if series for word in series_states(series)}
        rows.append(_MatrixRow(model, tuple(w for w in found_by.STATES if w in states), [_cell(s) for s in here]))
    return _render("matrix.html.j2", site, "matrix.html", devices=devices, rows=rows)


def runs(site: Site) -> str:
    """`runs.html`: every run, newest first."""
    shown = site.runs[:MOST_ROWS]
    return _render(
        "runs.html.j2",
        site,
        "runs.html",
        table=shown,
        older_rows=len(site.runs[MOST_ROWS:]),
        commands=sorted({run.command for run in shown if run.command}),
        devices=sorted({run.device for run in shown if run.device}),
    )


@dataclass(frozen=True)
class _Cell:
    accelerator: str
    p50_ms: float | None
    wrong: bool
    invalid: bool
    step: Step | None
    against: float | None


@dataclass(frozen=True)
class _Row:
    series: Series
    gpu: str
    states: tuple[str, ...]
    cells: list[_Cell]
    spark: Markup
    judgement: Judgement
    ratio: float | None


@dataclass(frozen=True)
class _Now:
    lane: Lane
    run: RunFacts | None
    valid: int
    invalid: int
    figure: Markup | None
    shown: int
    older: int


@dataclass(frozen=True)
class _Line:
    label: str
    tone: str
    p50_ms: float | None
    against: float | None
    ratio: float | None
    word: str


@dataclass(frozen=True)
class _MatrixCell:
    slug: str
    lines: list[_Line]


@dataclass(frozen=True)
class _MatrixRow:
    model: str
    states: tuple[str, ...]
    cells: list[_MatrixCell | None]


def _row(series: Series, accelerators: Sequence[str]) -> _Row:
    best = {accelerator: series.best(accelerator) for accelerator in ("cpu", *accelerators)}
    # What the row says of outputs and trend is of the accelerator: nobody doubts the CPU.
    lead = next((best[a] for a in accelerators if best[a]), None) or best["cpu"] or series.lanes[0]
    cells = []
    for accelerator, lane in best.items():
        latest = lane.latest if lane else None
        newest = lane.newest if lane else None
        cells.append(
            _Cell(
                accelerator,
                latest.p50_ms if latest else None,
                bool(lane and latest and lane.judgement == "fail"),
                bool(newest and newest.invalid),
                lane.last_step if lane else None,
                against_cpu(series, lane),
            )
        )
    gpu = next((run.gpu for run in series.runs if run.gpu), "")
    ratio = lead.judged.ratio if lead.judged else None
    return _Row(series, gpu, series_states(series), cells, plots.sparkline(lead), lead.judgement, ratio)


def _now(lane: Lane, prefix: str) -> _Now:
    valid = sum(run.valid for run in lane.runs)
    benches = sum(run.benchmark for run in lane.runs)
    shown = min(len(lane.runs), plots.MOST_POINTS)
    return _Now(lane, lane.latest, valid, benches - valid, plots.history(lane, prefix), shown, len(lane.runs) - shown)


def _cell(series: Series | None) -> _MatrixCell | None:
    if series is None:
        return None
    lines = []
    for lane in series.lanes:
        stale = lane.newest is not None and bool(lane.newest.invalid)
        tone, word = "", ""
        if lane.judgement == "fail":
            tone, word = "bad", "◆ fail"
        elif stale:
            tone, word = "open", "× newest is invalid"
        elif lane.judgement == "pass":
            tone = "good"
        p50 = lane.latest.p50_ms if lane.latest else None
        ratio = lane.judged.ratio if lane.judged else None
        lines.append(_Line(lane.key.label, tone, p50, against_cpu(series, lane), ratio, word))
    return _MatrixCell(series.slug, lines)


def _render(template: str, site: Site, here: str, root: str = "", **values: Any) -> str:
    made = environment_of_pages()
    return made.get_template(template).render(
        here=here,
        root=root,
        results=site.results,
        bundled=site.bundled,
        to_runs=site.to_runs,
        all_runs=len(site.runs),
        where=site.where if "run_cells" in _source(template) else {},
        states=found_by.STATES,
        style=inlined("dashboard.css.j2"),
        script=inlined("dashboard.js.j2"),
        **values,
    )


def report_address(run: str, to_runs: str, bundled: bool, root: str = "") -> str:
    """Where a run's report is, from a page that has `root` before the site's own addresses."""
    if bundled:
        return f"{root}reports/{row_id(run)}.html"
    return file_address(run, "report.html", to_runs, root)


def file_address(run: str, file: str, to_runs: str, root: str = "") -> str:
    """Where a file of a run's folder is, from such a page."""
    return f"{root}{to_runs}{quote(run.encode('utf-8', 'surrogateescape'), safe='')}/{file}"


def _when(started: str) -> str:
    """`20 Nov 2026 14:31`, in UTC; what is no date as it is."""
    try:
        when = datetime.fromisoformat(started)
    except ValueError:
        return name(started, 40)
    return f"{when.day} {when:%b %Y %H:%M}"


def _bytes(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value / 1e9:.2f} GB" if value >= 1e9 else f"{value / 1e6:.0f} MB"


def _tip(run: RunFacts) -> str:
    """A run in one line, for the mark under the pointer."""
    parts = [_when(run.started)]
    if run.p50_ms is not None:
        parts.append(f"p50 {plots.milliseconds(run.p50_ms)}, p90 {plots.milliseconds(run.p90_ms)}")
    if run.judgement != "nothing":
        off = f" ({times(run.ratio)} what is explained)" if run.ratio is not None else ""
        parts.append(f"outputs {run.judgement}{off}")
    parts += [f"does not count: {name(run.invalid[0], 120)}"] if run.invalid else []
    parts += [f"LiteRT {name(run.runtime, 24)}"] if run.runtime else []
    return " · ".join(parts)


@cache
def _source(template: str) -> str:
    return (TEMPLATES / template).read_text(encoding="utf-8")


@cache
def environment_of_pages() -> Environment:
    """The templates of the site, and of the pages that look like it."""
    made = environment(TEMPLATES, report_page.TEMPLATES)
    made.filters |= {
        "ms": plots.milliseconds,
        "percent": plots.percent,
        "speed": speed,
        "bytes": _bytes,
        "when": _when,
        "row_id": row_id,
        "lane_label": lambda run: lane_key(run).label if run.device else "",
        "states": run_states,
        "tip": _tip,
    }
    made.globals |= {"report_address": report_address, "file_address": file_address}
    return made


@cache
def inlined(template: str) -> tuple[Markup, str]:
    """A script or a style as it stands in a page, and the source expression that the page's policy lets through."""
    return inline(environment_of_pages(), template)
