"""`harness matrix --device`: every form of every op on a device, as one document, one page and one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import typer
from rich.table import Table

from harness.api.sweep.sweep import SweepRequest, Swept, sweep
from harness.cli import screen
from harness.core.errors import EXIT_UNRESOLVED, UsageError
from harness.core.job import Options
from harness.core.markup import escape
from harness.core.private import make_folder
from harness.core.run_folder import writing
from harness.core.visible import counted
from harness.dashboard.support.differences import Differences, differences, in_order
from harness.dashboard.support.document import OUTCOMES, Cell, FormRow, Support, read
from harness.dashboard.support.page import MARKS, finds_by_op, sentence, write_support
from harness.lint.knowledge.target import target_of
from harness.report import figures

# Of the finds, in a terminal of 80 columns; the page and the JSON have all.
_MOST_FINDS, _MOST_OF_AN_OP = 60, 2
_WIDTH = 78


@dataclass(frozen=True)
class SupportWords:
    """What the command's options say."""

    devices: tuple[str, ...]
    runtimes: tuple[str, ...]
    kept: tuple[Path, ...]
    ops: str
    precision: str
    timeout: float
    minutes: float | None
    out: Path


def support_command(words: SupportWords, *, as_json: bool) -> None:
    """Ask each device, and show all of them beside each other.

    Exit code 0 whatever the cells say; 4 where cells are left for another time.
    """
    if words.ops and not words.devices:
        raise UsageError("--ops chooses what a --device is asked; what was kept is shown whole.", "Leave --ops out.")
    names = device_names(words.devices, words.runtimes)
    before = [read(path) for path in words.kept]
    options = Options(precision=words.precision)  # type: ignore[arg-type]
    ops = tuple(word for word in words.ops.split(",") if word.strip())
    swept: list[Swept] = []
    with screen.ProgressBar() as progress:
        for name in names:
            request = SweepRequest(name, words.out, options, ops, words.timeout, words.minutes)
            swept.append(sweep(request, progress))
        supports = in_order([*before, *(each.support for each in swept)])
        compared = [differences(a, b) for a, b in pairwise(supports)]
        with writing(words.out):
            make_folder(words.out)
        page = write_support(supports, compared, words.out / "support.html")
    if as_json:
        screen.print_json(support_json(supports, compared, page, swept))
    else:
        show(supports, compared)
        for each in swept:
            screen.out.print(f"[dim]{escape(str(each.path))}[/]")
        screen.out.print(f"[dim]{escape(str(page))}[/]")
    left = sum(each.left for each in swept)
    if left:
        screen.err.print(f"{counted(left, 'cell')} left: the same command again goes on.")
        raise typer.Exit(EXIT_UNRESOLVED)


def device_names(devices: Sequence[str], runtimes: Sequence[str]) -> list[str]:
    """The devices to ask: each with each release, the installed one under its plain name. Raises UsageError where a
    name has a release already."""
    if not runtimes:
        return list(dict.fromkeys(devices))
    found, installed = [], target_of("host").release
    for device in devices:
        if device not in ("host", "web"):
            raise UsageError(f"--runtime goes with host or web, not with --device {device}.", "Leave --runtime out.")
        found += [
            device if device == "host" and release == installed else f"{device}@{release}" for release in runtimes
        ]
    return list(dict.fromkeys(found))


def support_json(
    supports: Sequence[Support], compared: Sequence[Differences], page: Path, swept: Sequence[Swept]
) -> dict[str, object]:
    """`matrix --device --json`, schema 1."""
    return {
        "schema": 1,
        "page": str(page),
        "documents": [str(each.path) for each in swept],
        "asked": sum(each.asked for each in swept),
        "kept": sum(each.kept for each in swept),
        "left": sum(each.left for each in swept),
        "supports": [support.to_json() for support in supports],
        "differences": [each.to_json() for each in compared],
    }


def show(supports: Sequence[Support], compared: Sequence[Differences]) -> None:
    """A row for each op with its counts, then what is wrong and not in the catalogue, then the differences."""
    for support in supports:
        screen.out.print(f"[bold]{escape(support.title)}[/]  {escape(support.device.get('gpu', ''))}")
        screen.out.print(_table(support))
        screen.say(escape(sentence(support)))
        _show_finds(support)
        screen.out.print()
    for each in compared:
        screen.say(escape(each.sentence()))


def _show_finds(support: Support) -> None:
    """Some of each op, so that one with many does not hide the others."""
    shown = [each for of_op in finds_by_op(support).values() for each in of_op[:_MOST_OF_AN_OP]][:_MOST_FINDS]
    for row, cell in shown:
        screen.out.print(f"  [red]{MARKS[cell.outcome]}[/] {escape(_told(row, cell))}")
    if (left := len(support.finds()) - len(shown)) > 0:
        screen.say(f"  And {left} more on the page.")


def _told(row: FormRow, cell: Cell) -> str:
    where = "" if cell.context == "alone" else f" ({cell.context})"
    return figures.name(f"{row.op}{where} {row.label}", _WIDTH - 4)


def _table(support: Support) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("op", overflow="ellipsis", no_wrap=True, max_width=30)
    table.add_column("forms", justify="right")
    every = {cell.outcome for row in support.rows for cell in row.cells}
    outcomes = [outcome for outcome in OUTCOMES if outcome in every]
    for outcome in outcomes:
        table.add_column(_SHORT.get(outcome, outcome), justify="right", no_wrap=True)
    table.add_column("unknown", justify="right", no_wrap=True)
    for op, rows in _shown_rows(support).items():
        cells = [cell for row in rows for cell in row.cells]
        counts = [sum(cell.outcome == outcome for cell in cells) for outcome in outcomes]
        new = sum(cell.find for cell in cells)
        shown = [_coloured(outcome, n) for outcome, n in zip(outcomes, counts, strict=True)]
        table.add_row(escape(figures.name(op, 30)), str(len(rows)), *shown, f"[red]{new}[/]" if new else "")
    return table


def _shown_rows(support: Support) -> dict[str, list[FormRow]]:
    """The forms of each op; those of all pairs are one row, and those of all patterns."""
    found: dict[str, list[FormRow]] = {}
    for op, rows in support.ops.items():
        title = op if rows[0].family == "op" else f"({rows[0].family}s)"
        found.setdefault(title, []).extend(rows)
    return found


_SHORT = {"precision": "prec."}


def _coloured(outcome: str, count: int) -> str:
    if not count:
        return "[dim]·[/]"
    colour = {"pass": "green", "wrong": "red", "crash": "red", "precision": "yellow"}.get(outcome, "dim")
    return f"[{colour}]{count}[/]"
