"""The values of ops and outputs as a page shows them: which, how their errors are spread, or what would write them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.core.arrays import OpIndex
from harness.report import figures
from harness.report.command import Reproduction, reproduction
from harness.report.drawn.errors import Errors, errors_of
from harness.report.drawn.values import Kept, Unusable, chosen, kept_values, read_pair, read_steps
from harness.report.record import Run
from harness.report.tables import OpRow

ASKED = ("compare", "dump", "localize")
"""Commands whose runs have values from both sides."""


@dataclass(frozen=True)
class View:
    """The values of one op or output: its `title`, the tensor's name, the op's row in the table of ops, what its
    errors are, or why they are not shown."""

    title: str
    op: OpIndex | None
    name: str
    row: int | None
    verdict: str
    errors: Errors | None
    problem: str = ""


@dataclass(frozen=True)
class Views:
    """All that are shown, how many more are kept, and the command that writes every op's, where this run did not."""

    shown: tuple[View, ...]
    more: int
    command: Reproduction | None

    def of_op(self, index: OpIndex) -> int | None:
        """The place of an op's values among those that are shown."""
        return next((at for at, view in enumerate(self.shown) if view.op == index), None)


def views(folder: Path, run: Run, rows: Sequence[OpRow]) -> Views | None:
    """What a run folder has of values; None for a command that has none. `rows` are those of the page's table."""
    if run.command not in ASKED:
        return None
    kept = kept_values(folder)
    taken = chosen(kept, (culprit.last for culprit in run.culprits), run.outputs, rows)
    steps = read_steps(folder / "quantized.csv") if taken else {}
    shown = tuple(_view(each, run, rows, steps) for each in taken)
    command = reproduction(run, "dump") if run.command != "dump" else None
    return Views(shown, len(kept) - len(taken), command)


def _view(kept: Kept, run: Run, rows: Sequence[OpRow], steps: dict[tuple[int, str], tuple[float, float]]) -> View:
    name = kept.label.removeprefix("output-") if kept.op is None else ""
    errors, problem = None, ""
    try:
        pair = read_pair(kept, steps)
        name = pair.name
        row = _row_of(kept, name, rows)
        found = None if row is None else rows[row]
        output = next((o for o in run.outputs if kept.op is None and o.name == name), None)
        ideal = output.expected_max_abs if output else found.expected_max if found else None
        errors = errors_of(pair.device, pair.reference, ideal)
        problem = "" if errors else "It has no elements."
    except Unusable as error:
        row, problem = _row_of(kept, name, rows), str(error)
    title = f"output {figures.name(name, 60)}"
    if kept.op is not None:
        title = f"{figures.name(kept.label.partition('-')[2], 60)} #{kept.op}"
    return View(title, kept.op, name, row, rows[row].verdict if row is not None else "", errors, problem)


def _row_of(kept: Kept, name: str, rows: Sequence[OpRow]) -> int | None:
    """The row of an op's tensor: the one that names it, else the first of the op."""
    if kept.op is None:
        return None
    places = [place for place, row in enumerate(rows) if row.index == kept.op]
    return next((place for place in places if rows[place].output == name), next(iter(places), None))
