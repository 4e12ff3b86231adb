"""`harness matrix`: many runs as one page and one table; with --device, every op on a device."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from harness.cli import screen
from harness.cli.options import JsonOption
from harness.core.choices import Precision
from harness.core.errors import UsageError
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
        Path | None,
        typer.Option(
            "--out",
            metavar="PATH",
            help="The page; default matrix.html beside the runs. With --device the folder; default results/support.",
        ),
    ] = None,
    device: Annotated[
        list[str] | None,
        typer.Option("--device", help="Ask every form of every op of this device instead; repeatable."),
    ] = None,
    runtime: Annotated[
        list[str] | None,
        typer.Option("--runtime", metavar="RELEASE", help="With --device: a release of its runtime; repeatable."),
    ] = None,
    kept: Annotated[
        list[Path] | None,
        typer.Option("--kept", metavar="FILE", help="A matrix of --device written before, as another column."),
    ] = None,
    ops: Annotated[str, typer.Option("--ops", metavar="ADD,PAD", help="With --device: these kinds of op alone.")] = "",
    precision: Annotated[Precision, typer.Option("--precision", help="With --device: how it computes.")] = "default",
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.1, max=86400, help="With --device: seconds until a cell is given up.")
    ] = 60.0,
    minutes: Annotated[
        float | None,
        typer.Option("--minutes", min=0, max=10000, help="With --device: stop after so long, to go on another time."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show many runs as one matrix of models and devices; or, with --device, what a device makes of every op.

    It exits with 0 whatever the runs or the cells say, and with 4 where --minutes left cells unasked.
    """
    if device or kept:
        if runs:
            raise UsageError(
                f"RUN ({runs[0]}) does not go with --{'device' if device else 'kept'}.",
                "Leave out one of them: RUN shows what was run, --device asks a device.",
            )
        from harness.cli.across.support import SupportWords, support_command

        words = SupportWords(
            tuple(device or ()), tuple(runtime or ()), tuple(kept or ()), ops, precision, timeout, minutes,
            out or Path("results/support"),
        )  # fmt: skip
        support_command(words, as_json=as_json)
        return
    if runtime or ops or minutes is not None:
        given = "--runtime" if runtime else "--ops" if ops else "--minutes"
        raise UsageError(f"{given} goes with --device.", "Give the device to ask, as in --device host.")
    matrix_of_runs(runs or [], results, out, as_json=as_json)


def matrix_of_runs(words: list[str], results: Path, out: Path | None, *, as_json: bool) -> None:
    """The matrix of run folders, as a page and a table."""
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
