"""`harness dashboard`: build the site, say where it is, and go on with --watch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli import screen
from harness.cli.options import JsonOption, OutOption
from harness.core.markup import escape
from harness.dashboard.build import Built, build
from harness.dashboard.watch import watch


def dashboard_command(
    out: OutOption = Path("results"),
    site: Annotated[
        Path | None, typer.Option("--site", metavar="DIR", help="Where the site goes; default DIR/dashboard in --out.")
    ] = None,
    follow: Annotated[bool, typer.Option("--watch", help="Rebuild whenever a run changes, until interrupted.")] = False,
    bundle: Annotated[bool, typer.Option("--bundle", help="Copy the runs' reports into the site, to send it.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Build a static site over all runs of a results folder; open its index.html."""
    folder = site if site is not None else out / "dashboard"
    if follow:
        for again in watch(out, folder, bundle=bundle):
            _show(again, as_json)
    with screen.ProgressBar() as progress:
        built = build(out, folder, bundle=bundle, progress=progress)
    _show(built, as_json)


def _show(built: Built, as_json: bool) -> None:
    if as_json:
        screen.print_json(
            {
                "schema": 1,
                "page": str(built.site / "index.html"),
                "runs": built.runs,
                "histories": built.series,
                "read": built.read,
                "drawn": built.drawn,
                "gone": built.gone,
            }
        )
        return
    screen.out.print(
        f"{built.runs} runs in all, {built.read} read anew; {built.series} histories, {built.drawn} drawn anew"
    )
    screen.out.print(escape(str(built.site / "index.html")), soft_wrap=True)
