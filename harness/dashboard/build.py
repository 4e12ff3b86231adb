"""Writing the site: every page that changed, nothing else, and nothing that is not the site's own.

The cache in the site's folder holds the facts of every run, a digest of what each page shows and a stamp of each file
that was written. A history is drawn anew when one of its runs changed or its file is not the one that was written: a
site may come from elsewhere with its cache. The overview, the matrix and the list of runs are cheap and always written.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from harness.core.errors import UsageError
from harness.core.progress import SILENT, Progress
from harness.core.run_folder import to_json, write_page, writing
from harness.core.safe_files import is_file, same_content, stamp_of
from harness.core.visible import visible
from harness.dashboard import pages
from harness.dashboard.facts import RunFacts
from harness.dashboard.index import build_index, code_digest, of_this_release, read_cache, to_cache
from harness.dashboard.pages import Site
from harness.dashboard.series import Series, group, row_id
from harness.report.page import render

CACHE = ".cache.json"
_ALWAYS = ("index.html", "matrix.html", "runs.html", "runs.csv")
_OWN = {*_ALWAYS, "history", "reports", CACHE}
_SECONDS_A_PAGE = 0.3
_OWN_FILE = re.compile(r"(?:(?:history|reports)/)?[A-Za-z0-9_][A-Za-z0-9_.-]*")
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
    known, listed = _part(before, "pages"), _listed(left)
    ours = {name for name, stamp in listed.items() if stamp and stamp_of(site / name) == stamp}  # nobody touched them
    dirty = [s for s in series if known.get(s.slug) != digests[s.slug] or not ours.issuperset(_history_files(s))]
    shown = {_report_file(run): index.stamps[run] for run in index.facts if is_file(results / run / "report.html")}
    rendered = _part(before, "reports")
    stale = (
        {name for name, stamp in shown.items() if rendered.get(name) != stamp or name not in ours} if bundle else set()
    )
    gone = set(_part(before, "runs")) - set(index.facts)
    if not (dirty or stale or index.read or gone) and ours.issuperset(_ALWAYS):
        return Built(site, len(index.facts), len(series), 0, 0, 0)
    progress.stage(f"drawing {len(dirty)} of {len(series)} histories", 1.0 + _SECONDS_A_PAGE * len(dirty))
    for place, each in enumerate(dirty):
        progress.fraction(place / len(dirty))
        _draw(made, each, site / "history")
    kept = {name for each in series for name in _history_files(each)}
    if bundle:
        progress.stage(f"writing {len(stale)} reports", _SECONDS_A_PAGE * len(stale))
        _bundle(results, site, [run for run in index.runs if _report_file(run.run) in stale])
        kept |= set(shown)
    aside = {} if bundle else {name: stamp for name, stamp in listed.items() if name.startswith("reports/")}
    left_over = listed.keys() - kept - aside.keys() - set(_ALWAYS)
    _sweep(site, {name for name in left_over if same_content(stamp_of(site / name), listed[name])})
    progress.stage("writing the overview", 2.0)
    write_page(site / "matrix.html", pages.matrix(made))
    write_page(site / "runs.html", pages.runs(made))
    write_page(site / "runs.csv", as_csv(index.runs))
    write_page(site / "index.html", pages.overview(made))
    written = {name: stamp_of(site / name) for name in sorted({*kept, *_ALWAYS})} | aside
    made_of = {"pages": digests, "written": written, "reports": shown if bundle else rendered}
    write_page(site / CACHE, json.dumps(to_cache(index) | made_of))
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


def _bundle(results: Path, site: Path, runs: Sequence[RunFacts]) -> None:
    """The reports of these runs, made here: what lies in a folder from elsewhere under that name may be anything."""
    with writing(site / "reports"):
        (site / "reports").mkdir(exist_ok=True)
    for run in runs:
        try:
            page = render(results / run.run)
        except UsageError as error:
            page = f"<!doctype html><meta charset=utf-8><title>No report</title><p>{escape(visible(str(error)))}</p>\n"
        write_page(site / _report_file(run.run), page)


def _history_files(series: Series) -> tuple[str, str]:
    return f"history/{series.slug}.html", f"history/{series.slug}.csv"


def _report_file(run: str) -> str:
    return f"reports/{row_id(run)}.html"


def _part(cached: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = cached.get(name)
    return part if isinstance(part, dict) else {}


def _listed(cached: Mapping[str, Any]) -> dict[str, str]:
    """The files of the site that an earlier build wrote, by its list, with their stamps of then."""
    written = _part(cached, "written").items()
    return {name: stamp for name, stamp in written if isinstance(stamp, str) and _OWN_FILE.fullmatch(name)}


def _sweep(site: Path, gone: Iterable[str]) -> None:
    """Remove pages of what is gone."""
    for name in sorted(gone):
        with writing(site / name):
            (site / name).unlink(missing_ok=True)
