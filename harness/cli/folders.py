"""`runs`, `report`, `export`, `dashboard`: the run folders of a results folder, and the site over all of them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from harness.cli import screen
from harness.cli.options import JsonOption, OutOption
from harness.core.errors import UsageError
from harness.core.markup import escape
from harness.core.private import as_the_user
from harness.core.run_folder import find_run, list_runs, read_run, writing
from harness.dashboard.build import Built, build
from harness.dashboard.watch import watch
from harness.report import figures
from harness.report.export import Format, export
from harness.report.page import write_report

RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="A run folder, its name (or how that begins) as in `runs`, or latest.")
]
ResultsOption = Annotated[Path, typer.Option("--runs-in", metavar="DIR", help="Where run folders are looked for.")]


def runs(out: OutOption = Path("results"), as_json: JsonOption = False) -> None:
    """List the runs in a results folder, newest first."""
    rows = []
    for path in list_runs(out):
        try:
            rows.append((path, read_run(path)))
        except UsageError as error:
            screen.err.print(f"[yellow]{escape(str(error))}[/]")
    if as_json:
        screen.print_json({"schema": 1, "runs": [_entry(path, record) for path, record in rows]})
        return
    if not rows:
        screen.say(f"No runs in {escape(str(out))}; --out names another folder.")
        return
    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("run", overflow="fold", min_width=16)
    table.add_column("model", overflow="fold", min_width=8)
    for title in ("device", "command"):
        table.add_column(title, no_wrap=True)
    table.add_column("answer", overflow="fold", min_width=12)
    for path, record in rows:
        entry = _entry(path, record)
        said = entry["result"] or entry["status"]
        if entry["error"]:
            said = f"{entry['status']}: {entry['error']}"
        words = (Path(entry["model"]).name, entry["device"], entry["command"], said)
        table.add_row(escape(path.name), *(escape(figures.name(word, 60)) for word in words))
    # A person sees as much as fits; a program gets one line a run.
    screen.out.print(table, width=None if screen.out.is_terminal else 1000, crop=False)


def _entry(path: Path, record: dict[str, object]) -> dict[str, str]:
    """One run as `runs --json` has it. `result` is the word of its answer, `error` why it has none."""
    result, model, device = (record.get(name) for name in ("result", "model", "device"))
    return {
        "path": str(path),
        "command": str(record.get("command")),
        "status": str(record.get("status")),
        "result": str(result.get("status", "")) if isinstance(result, dict) else "",
        "model": str(model.get("path", "")) if isinstance(model, dict) else "",
        "device": str(device.get("name", "")) if isinstance(device, dict) else "",
        "error": str(record.get("error") or ""),
    }


def report(run: RunArgument, results: ResultsOption = Path("results"), as_json: JsonOption = False) -> None:
    """Write a run's report.html anew."""
    page = write_report(find_run(run, results))
    if as_json:
        screen.print_json({"schema": 1, "report": str(page)})
    else:
        screen.out.print(escape(str(page)))


def export_command(
    run: RunArgument,
    form: Annotated[
        Format,
        typer.Option("--format", help="For pandas, Model Explorer, LiteRT's mixed_precision tool, or a browser."),
    ],
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="A file; default stdout.")] = None,
    results: ResultsOption = Path("results"),
    as_json: JsonOption = False,
) -> None:
    """Write a run's ops in the form that another tool takes. With --json, what was written where, or the text itself
    in a field of a document."""
    folder = find_run(run, results)
    made = export(folder, form)
    if made.note and not as_json:
        screen.err.print(f"[yellow]{escape(made.note)}[/]")
    if out is not None:
        with writing(out), as_the_user():
            out.write_text(made.text, encoding="utf-8", errors="backslashreplace")
    if as_json:
        said = {"file": str(out)} if out is not None else {"text": made.text}
        screen.print_json({"schema": 1, "run": str(folder), "format": form, "note": made.note, **said})
    elif out is None:
        screen.print_text(made.text)
    else:
        screen.out.print(escape(str(out)))


def dashboard_command(
    out: OutOption = Path("results"),
    site: Annotated[
        Path | None, typer.Option("--site", metavar="DIR", help="Where the site goes; default DIR/dashboard in --out.")
    ] = None,
    follow: Annotated[bool, typer.Option("--watch", help="Rebuild whenever a run changes, until interrupted.")] = False,
    bundle: Annotated[bool, typer.Option("--bundle", help="Copy the runs' reports into the site, to send it.")] = False,
    serving: Annotated[
        bool, typer.Option("--serve", help="Serve it to this machine's browsers, rebuilt as runs come, until Ctrl-C.")
    ] = False,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, metavar="N", help="Of --serve; 0, the default: any that is free.")
    ] = 0,
    as_json: JsonOption = False,
) -> None:
    """Build a static site over all runs of a results folder; open its index.html."""
    folder = site if site is not None else out / "dashboard"
    if serving:
        raise typer.Exit(_serve(out, folder, bundle, port, as_json))
    if port:
        raise UsageError(f"--port {port} is of --serve.", "Give both, or neither.")
    if follow:
        for again in watch(out, folder, bundle=bundle):
            _show_site(again, as_json)
    with screen.ProgressBar() as progress:
        built = build(out, folder, bundle=bundle, progress=progress)
    _show_site(built, as_json)


def _serve(results: Path, site: Path, bundle: bool, port: int, as_json: bool) -> int:
    from harness.dashboard.serve import open_site

    with screen.ProgressBar() as progress:
        opened = open_site(results, site, port=port, bundle=bundle, progress=progress)
    _show_site(opened.built, as_json, opened.url)
    sys.stdout.flush()
    return opened.serve(lambda built: None if as_json else _show_built(built))


def _show_site(built: Built, as_json: bool, address: str = "") -> None:
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
            | ({"address": address} if address else {})
        )
        return
    _show_built(built)
    screen.out.print(escape(address or str(built.site / "index.html")), soft_wrap=True)
    if address:
        screen.out.print("Served to this machine's user alone, until Ctrl-C.")


def _show_built(built: Built) -> None:
    screen.out.print(
        f"{built.runs} runs in all, {built.read} read anew; {built.series} histories, {built.drawn} drawn anew"
    )
