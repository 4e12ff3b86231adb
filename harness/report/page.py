"""`report.html`: one run as one page, complete in itself.

Op and tensor names come from model files that nobody vouches for. Three things keep them inert: every value is escaped
on its way into the page, none is ever placed in a script or a style, and the page's own policy lets no script run but
the one whose hash it names.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from harness.core.errors import UsageError
from harness.core.run_folder import read_run, write_page
from harness.localize.base.result import VERDICT_WORDS
from harness.numerics.metrics import titled
from harness.numerics.tolerance import FACTOR, LOCAL_FACTOR
from harness.remedies.cause import Cause
from harness.report import chart, figures, verdict, wording
from harness.report.benchmark import plots
from harness.report.benchmark.page import of_benchmark
from harness.report.command import next_steps, reproduction
from harness.report.drawn.cards import address, cards
from harness.report.drawn.errors import scale
from harness.report.drawn.views import views
from harness.report.record import BENCHMARKS, Run, parse_run
from harness.report.scene import read_scene
from harness.report.sections import SECTIONS
from harness.report.tables import VERDICTS, OpRow, read_log, read_ops, read_samples
from harness.report.templating import environment, inline
from harness.report.timings import timings

TEMPLATES = Path(__file__).parent / "templates"

# More cards than this are no overview; all culprits are in the table of ops.
_CARDS = 24
# Lines of the table of ops, and marks of each chart: as much as a browser sorts and draws while one waits.
MOST_ROWS = 10_000


def write_report(run: Path) -> Path:
    """Write `report.html` into a run folder, atomically, and return its path.

    Whatever the run came to, there is a page: a run that failed or was interrupted shows what it wrote until then.
    Of tensors so many are read as take a moment.

    Raises:
        UsageError: no run folder, or a file in it is not what this release writes.
        StorageError: the page cannot be written.
    """
    path = run / "report.html"
    write_page(path, render(run, beside=True))
    return path


def render(folder: Path, *, beside: bool = False) -> str:
    """The page of a run folder. Raises UsageError.

    `beside`: it will lie in that folder, so that links to files there hold.
    """
    record = read_run(folder)
    try:
        if record.get("command") in BENCHMARKS:
            values = of_benchmark(folder, record)
        else:
            values = _of_run(folder, record, beside)
    except RecursionError:
        raise UsageError(f"{folder / 'run.json'} is nested too deeply.", "Run the command again.") from None
    values |= {"script": inlined("script.js.j2"), "style": inlined("style.css.j2")}
    sections = [section for section in values["table"] if section.shown(values)]
    return _environment().get_template("report.html.j2").render(**values, sections=sections)


def _of_run(folder: Path, record: Mapping[str, Any], beside: bool) -> dict[str, Any]:
    """What the templates of any other run are given. Raises UsageError."""
    run = parse_run(record)
    ops = read_ops(folder / "ops.csv")
    every = ops.rows
    judged = [row for row in every if row.verdict != "unread"]
    left_out = max(0, len(ops.rows) - MOST_ROWS)
    ops = replace(ops, rows=_worst(ops.rows))
    device = f"{run.device or 'Device'} {run.accelerator.upper()}"
    shown = views(folder, run, ops.rows)
    log, samples = read_log(folder / "log.txt"), timings(read_samples(folder / "samples.csv"))
    found = {"run.json": True, "ops.csv": ops.there, "samples.csv": bool(samples), "log.txt": bool(log.text)}
    return {
        "table": SECTIONS,
        "head": "verdict.html.j2",
        "model_name": run.model_name,
        "state": run.state,
        "sources": [name for name, there in found.items() if there],
        "run": run,
        "verdict": verdict.verdict_of(run),
        "words": VERDICT_WORDS,
        "reproduces": verdict.reproduces(run),
        "headline": verdict.headline(run.outputs),
        "precision": wording.precision(run),
        "storage": wording.storage(run),
        "place": wording.place(run),
        "residency": wording.residency(run),
        "cards": cards(folder, run, _CARDS, ops.rows, shown, record),
        "views": shown,
        "address": partial(address, folder) if beside else lambda path: "",
        "next_steps": next_steps(run),
        "more_cards": len(run.culprits[_CARDS:]),
        "ops": ops,
        "root": figures.common_root(row.output for row in ops.rows),
        "nonfinite": any(row.nonfinite for row in ops.rows),
        "judged": len(judged),
        "left_out": left_out,
        "unconfirmed": _unconfirmed(run, ops.rows),
        "tally": {name: sum(row.verdict == name for row in every) for name in VERDICTS},
        "charts": [chart.draw(ops.rows, "ratio"), chart.draw(ops.rows, "error")] if judged else [],
        "timings": samples,
        "log": log,
        "scene": read_scene(folder, run.scene, device) if run.scene else None,
        "reproduction": reproduction(run),
    }


def _unconfirmed(run: Run, rows: Sequence[OpRow]) -> int:
    """Ops that looked like culprits under a tap and that the finished run does not name."""
    if run.state != "done" or run.command != "localize":
        return 0
    looked = [row.index for row in rows if row.verdict == "culprit"]
    return sum(not any(c.first <= index <= c.last for c in run.culprits) for index in looked)


def _worst(rows: tuple[OpRow, ...]) -> tuple[OpRow, ...]:
    """As many rows as a page takes: culprits first, then those that are furthest off; in their order."""
    if len(rows) <= MOST_ROWS:
        return rows
    ranked = sorted(range(len(rows)), key=lambda place: _badness(rows[place]), reverse=True)
    return tuple(rows[place] for place in sorted(ranked[:MOST_ROWS]))


def _badness(row: OpRow) -> tuple[bool, float]:
    lost = row.nonfinite or (row.ratio is not None and math.isnan(row.ratio))
    return row.verdict == "culprit", math.inf if lost else row.ratio or 0.0


@cache
def _environment() -> Environment:
    made = environment(TEMPLATES)
    made.filters["clock"] = plots.clock
    made.globals |= {
        "further": list(titled().values()),
        "causes": {cause.value: cause.explanation for cause in Cause},
        "rules": wording.RULES,
        "lost": wording.LOST,
        "verdicts": wording.VERDICTS,
        "factor": FACTOR,
        "local_factor": LOCAL_FACTOR,
        "scale": scale(24),
    }
    return made


@cache
def inlined(template: str) -> tuple[Markup, str]:
    """A script or a style as it stands in a page, and the source expression that the page's policy lets through."""
    return inline(_environment(), template)
