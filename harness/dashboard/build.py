"""Writing the site: every page that changed, nothing else, and nothing that is not the site's own.

The cache in the site's folder holds the facts of every run and a digest of what each page shows. A history is drawn
anew when one of its runs changed; the overview, the matrix and the list of runs are cheap and always written.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from harness.dashboard import pages
from harness.dashboard.facts import RunFacts
from harness.dashboard.index import build_index, code_digest, of_this_release, read_cache, to_cache
from harness.dashboard.pages import Site
from harness.dashboard.series import Series, group, row_id
from harness.errors import UsageError
from harness.foreign_files import is_file
from harness.progress import SILENT, Progress
from harness.report.figures import visible
from harness.report.page import render
from harness.results import to_json, write_page, writing

CACHE = ".cache.json"
_ALWAYS = ("index.html", "matrix.html", "runs.html", "runs.csv")
_OWN = {*_ALWAYS, "history", "reports", CACHE}
_SECONDS_A_PAGE = 0.3
_CSV_COLUMNS = tuple(field.name for field in fields(RunFacts))


@dataclass(frozen=True)
class Built:
    """What a build did: the runs and series there are, runs read and histories drawn anew, runs that are gone."""

    site: Path
    runs: int
    series: int
    read: int
    drawn: int
    gone: int

    @property
    def changed(self) -> bool:
        """Whether the pages say something else than before."""
        return bool(self.read or self.drawn or self.gone)


def build(results: Path, site: Path, *, bundle: bool = False, progress: Progress = SILENT) -> Built:
    """Make or update the site over the runs of `results`; nothing is written where nothing changed.

    `bundle` copies every report into the site, so that the folder can be sent by itself.

    Raises:
        UsageError: no such results folder, or the site's folder holds something else.
        StorageError: the site cannot be written.
    """
    if not results.is_dir():
        raise UsageError(
            f"{results} is no folder.", "Give the folder that holds the runs (--out of the other commands)."
        )
    _check_own(site)
    left = read_cache(site / CACHE)
    before = of_this_release(left)
    progress.stage("reading runs", 5.0)
    index = build_index(results, before)
    series = group(index.runs)
    made = Site(results.resolve().name, _to_runs(results, site), bundle, series, index.runs)
    with writing(site):
        (site / "history").mkdir(parents=True, exist_ok=True)
    digests = {each.slug: _digest(each, made) for each in series}
    known = _pages_of(before)
    dirty = [
        s for s in series if known.get(s.slug) != digests[s.slug] or not (site / "history" / f"{s.slug}.html").is_file()
    ]
    gone = set(_runs_of(before)) - set(index.facts)
    if not (dirty or index.read or gone) and all((site / name).is_file() for name in _ALWAYS):
        return Built(site, len(index.facts), len(series), 0, 0, 0)
    progress.stage(f"drawing {len(dirty)} of {len(series)} histories", 1.0 + _SECONDS_A_PAGE * len(dirty))
    for place, each in enumerate(dirty):
        progress.fraction(place / len(dirty))
        _draw(made, each, site / "history")
    _sweep(site / "history", _history_files(_pages_of(left)), _history_files(s.slug for s in series))
    progress.stage("writing the overview", 2.0)
    if bundle:
        _bundle(results, site, index.runs, _runs_of(left))
    write_page(site / "matrix.html", pages.matrix(made))
    write_page(site / "runs.html", pages.runs(made))
    write_page(site / "runs.csv", as_csv(index.runs))
    write_page(site / "index.html", pages.overview(made))
    write_page(site / CACHE, json.dumps(to_cache(index) | {"pages": digests}))
    return Built(site, len(index.facts), len(series), len(index.read), len(dirty), len(gone))


def as_csv(runs: Iterable[RunFacts]) -> str:
    """One row for each run; times in milliseconds, lists joined by `; `. A text that a spreadsheet would take for a
    formula gets an apostrophe before it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_CSV_COLUMNS)
    for run in runs:
        writer.writerow([_cell(value) for value in asdict(run).values()])
    return text.getvalue()


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, tuple | list):
        value = "; ".join(value)
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{value}"
    return value


def _check_own(site: Path) -> None:
    """Nobody else's folder is written into, nor through a link. Raises UsageError."""
    for folder in (site, site / "history", site / "reports"):
        if folder.is_symlink():
            raise UsageError(f"{folder} is a link.", "Give a folder of the site's own with --site.")
    if site.exists() and not site.is_dir():
        raise UsageError(f"{site} is a file.", "Give a folder with --site.")
    if site.is_dir() and not (site / CACHE).is_file():
        others = sorted(p.name for p in site.iterdir() if p.name not in _OWN)
        if others:
            raise UsageError(f"{site} holds other things ({others[0][:60]!r}).", "Give an empty folder with --site.")


def _to_runs(results: Path, site: Path) -> str:
    """The address of the results folder as seen from the site."""
    relative = os.path.relpath(results.resolve(), site.resolve())
    return quote(Path(relative).as_posix().encode("utf-8", "surrogateescape")) + "/"


def _digest(series: Series, site: Site) -> str:
    """Of everything that a history shows."""
    shown = {
        "code": code_digest(),
        "site": [site.results, site.to_runs, site.bundled],
        "runs": [asdict(run) for run in series.runs],
    }
    return sha256(json.dumps(to_json(shown)).encode()).hexdigest()


def _draw(site: Site, series: Series, folder: Path) -> None:
    """One history and its CSV. Raises StorageError."""
    write_page(folder / f"{series.slug}.csv", as_csv(series.runs))
    write_page(folder / f"{series.slug}.html", pages.history(site, series))


def _bundle(results: Path, site: Path, runs: Sequence[RunFacts], before: Iterable[str]) -> None:
    """The report of every run that has one, made here where the run's is newer than the one there: what lies in a
    folder from elsewhere under that name may be anything."""
    folder = site / "reports"
    with writing(folder):
        folder.mkdir(exist_ok=True)
    for run in runs:
        source, target = results / run.run / "report.html", folder / f"{row_id(run.run)}.html"
        if not is_file(source):
            continue
        if not is_file(target) or os.lstat(target).st_mtime_ns < os.lstat(source).st_mtime_ns:
            try:
                page = render(results / run.run)
            except UsageError as error:
                page = (
                    f"<!doctype html><meta charset=utf-8><title>No report</title><p>{escape(visible(str(error)))}</p>\n"
                )
            write_page(target, page)
    _sweep(folder, {f"{row_id(name)}.html" for name in before}, {f"{row_id(run.run)}.html" for run in runs})


def _history_files(slugs: Iterable[str]) -> set[str]:
    return {f"{slug}{kind}" for slug in slugs for kind in (".html", ".csv")}


def _pages_of(cached: Mapping[str, Any]) -> Mapping[str, Any]:
    pages = cached.get("pages")
    return pages if isinstance(pages, dict) else {}


def _runs_of(cached: Mapping[str, Any]) -> Mapping[str, Any]:
    runs = cached.get("runs")
    return runs if isinstance(runs, dict) else {}


def _sweep(folder: Path, written: set[str], kept: set[str]) -> None:
    """Remove pages of what is gone: of those that an earlier build wrote, by its own list."""
    with writing(folder):
        for name in sorted(written - kept):
            if Path(name).name == name:  # the list may have been edited
                (folder / name).unlink(missing_ok=True)
