"""`harness matrix`: many runs as one page and one table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from harness.cli import screen
from harness.cli.options import JsonOption
from harness.core.markup import escape
from harness.dashboard.matrix.cells import Line
from harness.dashboard.matrix.collect import collect
from harness.dashboard.matrix.matrix import Matrix, build_matrix
from harness.dashboard.matrix.page import write_matrix
from harness.dashboard.plots import milliseconds
from harness.report import figures

# Of a table in a terminal; the page and --json have all.
MOST_LINES = 200

_COLOURS = {"bad": "red", "good": "green", "open": "yellow", "plain": "dim"}


def matrix_command(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN]...", help="Run folders, their names, or folders of runs; default all of DIR."),
    ] = None,
    results: Annotated[Path, typer.Option("--runs-in", metavar="DIR", help="Where run folders are looked for.")] = Path(
        "results"
    ),
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="The page; default matrix.html beside the runs.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show many runs as one matrix of models and devices, with the ops that differ, as a page and a table.

    It asks no device: it exits with 0 whatever the runs say.
    """
    words = runs or []
    with screen.ProgressBar() as progress:
        progress.stage("reading runs", 3.0)
        matrix = build_matrix(collect(words, results))
        place = _place(words, results)
        page = write_matrix(matrix, out or place / "matrix.html", place.resolve().name)
    if as_json:
        screen.print_json(matrix.to_json() | {"page": str(page)})
        return
    show_matrix(matrix)
    screen.out.print(f"[dim]{escape(str(page))}[/]")


def show_matrix(matrix: Matrix) -> None:
    """The table, the sentences, and what was left out."""
    for line in matrix.skipped[:MOST_LINES]:
        screen.err.print(f"[yellow]{escape(line)}[/]")
    lines = [(row.name, line) for row in matrix.rows for line in row.lines]
    screen.out.print(_table(matrix, lines[:MOST_LINES]))
    if len(lines) > MOST_LINES:
        screen.say(f"And {len(lines) - MOST_LINES} more on the page.")
    verdict = matrix.verdict()
    colour = _COLOURS[verdict.tone]
    how = f" ({matrix.how})" if matrix.how else ""
    screen.say(f"\n[{colour}]{escape(verdict.sentence.removesuffix('.') + how)}.[/]")
    for sentence in verdict.support:
        screen.say(escape(sentence))


def _table(matrix: Matrix, lines: list[tuple[str, Line]]) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("model", overflow="fold", min_width=10, ratio=3)
    table.add_column("device", overflow="fold", min_width=8, ratio=3)
    table.add_column("", overflow="fold", min_width=8, ratio=4)
    for title in ("error", "p50"):
        table.add_column(title, justify="right", no_wrap=True)
    before = ""
    for model, line in lines:
        more = [] if matrix.how else [line.key.how.label]
        more += [f"LiteRT {line.key.runtime}"] if line.key.runtime and not _tells(matrix, line.device) else []
        device = ", ".join([figures.name(line.device, 40), *more])
        notes = f": {line.finding.notes[0]}" if line.finding.notes else ""
        word = f"[{_COLOURS[line.tone]}]{line.mark} {escape(figures.name(line.finding.word, 40))}[/]"
        said = f"{word}{escape(figures.name(notes, 90))}"
        shown = "" if model == before else escape(figures.name(model.removesuffix(".tflite"), 60))
        time = "invalid" if line.slow else milliseconds(line.p50_ms)
        table.add_row(shown, escape(device), said, line.figure, time)
        before = model
    return table


def _tells(matrix: Matrix, device: str) -> bool:
    """Whether all runs of a device have one runtime, which then need not be told in every line."""
    return any(column.runtime for column in matrix.devices if column.name == device)


def _place(words: list[str], results: Path) -> Path:
    """The folder that the runs are in: where the page goes."""
    if not words or not Path(words[0]).is_dir():
        return results
    first = Path(words[0])
    return first.resolve().parent if (first / "run.json").exists() else first
