"""Tables of several devices in a terminal, 80 columns wide where that is all there is."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from harness.core.markup import escape
from harness.core.visible import best_at_one
from harness.localize.base.result import VERDICT_WORDS, OutputVerdict
from harness.report import figures
from harness.report.across.ops import OpAcross, OpOnDevice, told

# Of a table in a terminal; a page and --json have all.
MOST_OPS = 20
# More devices than this do not fit beside each other.
_MOST_BESIDE = 4

_COLOURS = {"culprit": "red", "inherited": "yellow", "fine": "green", "unread": "dim"}


def verdicts_table(rows: Sequence[tuple[str, OutputVerdict]]) -> Table:
    """Each device's outputs and their verdicts, with the figures that it rests on."""
    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("device", overflow="fold", min_width=8)
    table.add_column("output", overflow="fold", min_width=6)
    for title in ("cosine", "max error", "error/expected"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("")
    for device, output in rows:
        actual = output.judgement.actual
        word = f"[{'green' if output.ok else 'red'}]{VERDICT_WORDS[output.verdict]}[/]"
        lost = f"{actual.nonfinite} NaN/inf" if actual.nonfinite else f"{actual.max_abs:.3g}"
        shown = (best_at_one(actual.cosine), lost, figures.times(output.judgement.ratio))
        table.add_row(escape(device), escape(output.name), *shown, word)
    return table


def ops_table(ops: Sequence[OpAcross]) -> Table:
    """The ops that are wrong somewhere, a column a device; with many devices, a line for each op and device."""
    wrong = told(ops)[:MOST_OPS]
    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("op", overflow="fold", min_width=10)
    devices = [each.device for each in wrong[0].on]
    beside = len(devices) <= _MOST_BESIDE
    for title in devices if beside else ("device", ""):
        table.add_column(escape(figures.name(title, 40)), overflow="fold", min_width=10)
    for op in wrong:
        if beside:
            table.add_row(escape(op.title), *map(_cell, op.on))
            continue
        for place, each in enumerate(op.on):
            table.add_row("" if place else escape(op.title), escape(each.device), _cell(each))
    return table


def _cell(each: OpOnDevice) -> str:
    return f"[{_COLOURS[each.verdict]}]{each.mark} {each.word}[/]"
