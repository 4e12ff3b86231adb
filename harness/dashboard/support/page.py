"""The support matrices of several devices or releases as one page, complete in itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.run_folder import write_page
from harness.dashboard.pages import environment_of_pages, inlined
from harness.dashboard.support.differences import Differences
from harness.dashboard.support.document import OUTCOMES, Cell, FormRow, Outcome, Support, in_context_only

MARKS: Mapping[Outcome, str] = {
    "pass": "✓",
    "precision": "≈",
    "wrong": "✗",
    "refused": "–",
    "crash": "!",
    "not asked": "·",
}
TONES: Mapping[Outcome, str] = {
    "pass": "good", "precision": "open", "wrong": "bad", "refused": "plain", "crash": "bad", "not asked": "quiet",
}  # fmt: skip
WORDS: Mapping[Outcome, str] = {
    "pass": "Every output is within what rounding explains, both times.",
    "precision": "Rounding explains the error, and the output is of no use: the device is innocent.",
    "wrong": "An output is off by more than rounding explains, and again when asked once more.",
    "refused": "The device did not take the model, in its own words.",
    "crash": "The process ended, or gave no answer in time.",
    "not asked": "The CPU does not compute it, so there is nothing to compare with.",
}
# What is shown of one device's finds and of two devices' differences; the JSON has all.
MOST_LISTED = 400


@dataclass(frozen=True)
class OpLine:
    """An op on every device: for each, how many cells have which outcome, and its forms."""

    op: str
    family: str
    counts: tuple[Mapping[Outcome, int], ...]
    forms: tuple[FormLine, ...]

    @property
    def by_type(self) -> list[tuple[str, tuple[Mapping[Outcome, int], ...]]]:
        """The counts by type and rank, as (words, counts on each device)."""
        keys = sorted({(form.dtype, form.rank) for form in self.forms})
        return [(f"{t}, rank {r}", self._counted(lambda f, t=t, r=r: (f.dtype, f.rank) == (t, r))) for t, r in keys]

    def _counted(self, wanted: Any) -> tuple[Mapping[Outcome, int], ...]:
        return tuple(
            Counter(cell.outcome for form in self.forms if wanted(form) for cell in form.on[i])
            for i in range(len(self.counts))
        )


@dataclass(frozen=True)
class FormLine:
    """A form with its cells on every device."""

    id: str
    label: str
    dtype: str
    rank: int
    on: tuple[tuple[Cell, ...], ...]

    @property
    def find(self) -> bool:
        """Whether it fails somewhere, and nobody has named it."""
        return any(cell.find for cells in self.on for cell in cells)

    @property
    def states(self) -> str:
        """The outcomes that occur, for the filter."""
        seen = {cell.outcome for cells in self.on for cell in cells}
        more = [*(["find"] if self.find else []), *(["context"] if self.beside_others else [])]
        return " ".join([*(o.replace(" ", "-") for o in OUTCOMES if o in seen), *more])

    @property
    def beside_others(self) -> bool:
        """Whether some device has it right alone and wrong beside other ops."""
        return any(in_context_only(cells) for cells in self.on)

    @property
    def told(self) -> list[str]:
        """What is said of it, each sentence once."""
        said = []
        for cells in self.on:
            for cell in cells:
                known = f" ({cell.known})" if cell.known else ""
                if cell.outcome != "pass" and (cell.said or known):
                    said.append(f"{cell.said}{known}")
        return list(dict.fromkeys(said))[:4]


def write_support(supports: Sequence[Support], compared: Sequence[Differences], path: Path) -> Path:
    """Write the page. Raises StorageError."""
    write_page(path, render_support(supports, compared))
    return path


def render_support(supports: Sequence[Support], compared: Sequence[Differences]) -> str:
    """The page."""
    values: dict[str, Any] = {
        "here": "",
        "root": "",
        "results": "",
        "bundled": False,
        "supports": supports,
        "lines": op_lines(supports),
        "finds_by_op": finds_by_op,
        "compared": compared,
        "outcomes": OUTCOMES,
        "marks": MARKS,
        "tones": TONES,
        "words": WORDS,
        "most": MOST_LISTED,
        "sentence": sentence(supports[-1]),
        "style": inlined("support.css.j2"),
        "script": inlined("support.js.j2"),
    }
    return environment_of_pages().get_template("support.html.j2").render(**values)


def sentence(support: Support) -> str:
    """What a matrix says, in a sentence."""
    counts, finds = support.counts, len(support.finds())
    total = sum(counts.values())
    fails = counts["wrong"] + counts["crash"]
    new = (
        f", {finds} of which the catalogue does not know"
        if finds
        else ", all of which the catalogue knows"
        if fails
        else ""
    )
    return (
        f"Of {total:,} cells on {support.title}, {counts['pass']:,} pass, {fails:,} are wrong or crash{new}, "
        f"and {counts['refused']:,} are refused."
    )


def finds_by_op(support: Support) -> dict[str, list[tuple[FormRow, Cell]]]:
    """The cells that fail and are not in the catalogue, by op."""
    found: dict[str, list[tuple[FormRow, Cell]]] = {}
    for row, cell in support.finds():
        found.setdefault(row.op, []).append((row, cell))
    return found


def op_lines(supports: Sequence[Support]) -> list[OpLine]:
    """Every op that any device was asked about."""
    order: dict[str, str] = {}
    for support in supports:
        for op, rows in support.ops.items():
            order.setdefault(op, rows[0].family)
    return [_line(op, family, supports) for op, family in order.items()]


def _line(op: str, family: str, supports: Sequence[Support]) -> OpLine:
    forms: dict[str, FormRow] = {}
    for support in supports:
        for row in support.ops.get(op, ()):
            forms.setdefault(row.id, row)
    of = [{row.id: row.cells for row in support.ops.get(op, ())} for support in supports]
    lines = tuple(
        FormLine(f.id, f.label, f.dtype, f.rank, tuple(on.get(f.id, ()) for on in of)) for f in forms.values()
    )
    counts = tuple(Counter(cell.outcome for line in lines for cell in line.on[i]) for i in range(len(supports)))
    return OpLine(op, family, counts, lines)
