"""The support matrix as a document: for each op its forms, and for each form what became of it in each context.

It is written with a form in each line, so that the difference of two is readable where they are kept.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

from harness.core import safe_files, safe_json
from harness.core.errors import UsageError
from harness.core.run_folder import writing

SCHEMA = 1
MOST_BYTES = 64 << 20
"""Of a document; one of all forms has under one megabyte."""

Outcome = Literal["pass", "precision", "wrong", "refused", "crash", "not asked"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
FAILING: tuple[Outcome, ...] = ("wrong", "crash", "precision")
"""What a user would not notice, or not survive."""

# What a form is unless its line says otherwise: with thousands of lines, that counts.
USUAL_FAMILY, USUAL_TYPE = "op", "float32"

NOT_IN_CATALOGUE = ""
"""`known` of a cell that the catalogue has no entry for."""


@dataclass(frozen=True)
class Cell:
    """A form in a context. `words` are the device's own where it refused, else what the comparison says; `ratio` the
    worst output's error over what its arithmetic explains; `unsteady`: asked again, it was otherwise; `known` the entry
    of the catalogue that says so, None where nothing has to be known."""

    context: str
    outcome: Outcome
    words: str = ""
    ratio: float | None = None
    unsteady: bool = False
    known: str | None = None

    @property
    def find(self) -> bool:
        """Whether it fails and nobody has named it yet."""
        return self.outcome in ("wrong", "crash") and self.known == NOT_IN_CATALOGUE

    @property
    def said(self) -> str:
        """The words with the ratio, where there is one that says something."""
        if self.ratio is None or not math.isfinite(self.ratio):
            return self.words
        return f"{self.words}, {self.ratio:,.3g} times what rounding explains" if self.words else ""


def in_context_only(cells: Sequence[Cell]) -> bool:
    """Whether a form with these cells is right alone and wrong beside other ops."""
    outcomes = {cell.context: cell.outcome for cell in cells}
    return outcomes.get("alone") == "pass" and not {"wrong", "crash"}.isdisjoint(outcomes.values())


@dataclass(frozen=True)
class FormRow:
    """One form with its cells. `digest` is of the models of all its contexts."""

    id: str
    op: str
    label: str
    family: str
    dtype: str
    rank: int
    digest: str
    cells: tuple[Cell, ...]

    @property
    def in_context_only(self) -> bool:
        """Whether it is right alone and wrong beside other ops."""
        return in_context_only(self.cells)


@dataclass(frozen=True)
class Support:
    """What one device makes of every form."""

    device: Mapping[str, str]
    date: str
    harness: str
    precision: str
    minutes: float
    rows: tuple[FormRow, ...]
    not_asked: Mapping[str, str] = field(default_factory=dict)
    whole: bool = True

    @cached_property
    def title(self) -> str:
        """`host 2.3.0`."""
        name = self.device.get("name", "").partition("@")[0]
        precision = "" if self.precision == "default" else f", {self.precision}"
        return f"{name} {self.device.get('runtime', '')}".strip() + precision

    @property
    def counts(self) -> dict[Outcome, int]:
        """How many cells there are of each outcome."""
        found = Counter(cell.outcome for _, cell in self.cells())
        return {outcome: found[outcome] for outcome in OUTCOMES}

    def cells(self) -> Iterator[tuple[FormRow, Cell]]:
        """Every cell with its form."""
        for row in self.rows:
            for cell in row.cells:
                yield row, cell

    @cached_property
    def by_place(self) -> dict[tuple[str, str], Cell]:
        """Every cell by its form's id and its context."""
        return {(row.id, cell.context): cell for row, cell in self.cells()}

    @cached_property
    def ops(self) -> dict[str, tuple[FormRow, ...]]:
        """The forms of each op, in the order of their names; pairs and patterns behind the single ops."""
        found: dict[str, list[FormRow]] = {}
        for row in sorted(self.rows, key=lambda r: (_FAMILIES.index(r.family), r.op)):
            found.setdefault(row.op, []).append(row)
        return {op: tuple(rows) for op, rows in found.items()}

    def finds(self) -> list[tuple[FormRow, Cell]]:
        """The cells that fail and are not in the catalogue."""
        return [(row, cell) for row, cell in self.cells() if cell.find]

    def to_json(self) -> dict[str, Any]:
        """The document, schema 1."""
        return {
            "schema": SCHEMA,
            "device": dict(self.device),
            "date": self.date,
            "harness": self.harness,
            "precision": self.precision,
            "minutes": self.minutes,
            "whole": self.whole,
            "counts": self.counts,
            "forms": [_row_json(row) for row in self.rows],
            "not_asked": [{"op": op, "why": why} for op, why in self.not_asked.items()],
        }


_FAMILIES = ("op", "pair", "pattern")


def write(support: Support, path: Path) -> None:
    """Write the document, a form in each line. Raises StorageError."""
    document = support.to_json()
    lines = [json.dumps(form, separators=(",", ":"), ensure_ascii=False) for form in document.pop("forms")]
    head = json.dumps(document, indent=1, ensure_ascii=False)
    text = head.removesuffix("\n}") + ',\n "forms": [\n' + ",\n".join(lines) + "\n ]\n}\n"
    with writing(path), safe_files.replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


_GIVE = "Give a file that `harness matrix --device` wrote."


def read(path: Path) -> Support:
    """A document that was written before. Raises UsageError."""
    try:
        document = safe_json.loads(safe_files.read(path, MOST_BYTES))
        return of_json(document)
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror or error}).", _GIVE) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} is no support matrix ({error}).", _GIVE) from None


def of_json(document: Any) -> Support:
    """The document as an object. Raises ValueError, KeyError, TypeError or AttributeError for what is none."""
    if document["schema"] != SCHEMA:
        raise ValueError(f"schema {document['schema']!r}; this release reads {SCHEMA}")
    device = {str(key): str(value) for key, value in document["device"].items()}
    told = {str(each["op"]): str(each["why"]) for each in document["not_asked"]}
    return Support(
        device, str(document["date"]), str(document["harness"]), str(document["precision"]), float(document["minutes"]),
        tuple(_row(form) for form in document["forms"]), told, bool(document["whole"]),
    )  # fmt: skip


def _row_json(row: FormRow) -> dict[str, Any]:
    told = [_told(cell) for cell in row.cells if _told(cell).keys() > {"context"}]
    made: dict[str, Any] = {"id": row.id, "op": row.op, "label": row.label, "rank": row.rank, "digest": row.digest}
    usual = {"family": (row.family, USUAL_FAMILY), "type": (row.dtype, USUAL_TYPE)}
    made |= {name: value for name, (value, plain) in usual.items() if value != plain}
    made |= {"cells": {cell.context: cell.outcome for cell in row.cells}}
    return made | ({"told": told} if told else {})


def _told(cell: Cell) -> dict[str, Any]:
    seldom: dict[str, Any] = {"context": cell.context}
    if cell.words:
        seldom["words"] = cell.words
    if cell.ratio is not None:
        seldom["ratio"] = cell.ratio if cell.ratio < math.inf else "inf"
    if cell.unsteady:
        seldom["unsteady"] = True
    if cell.known is not None:
        seldom["known"] = cell.known
    return seldom


def _row(form: Mapping[str, Any]) -> FormRow:
    told = {str(each["context"]): each for each in form.get("told", ())}
    cells = tuple(_cell(str(context), outcome, told.get(context, {})) for context, outcome in form["cells"].items())
    family = _one_of(form.get("family", USUAL_FAMILY), _FAMILIES)
    id, op, label = (str(form[name]) for name in ("id", "op", "label"))
    dtype = str(form.get("type", USUAL_TYPE))
    return FormRow(id, op, label, family, dtype, int(form["rank"]), str(form["digest"]), cells)


def _cell(context: str, outcome: str, told: Mapping[str, Any]) -> Cell:
    ratio, known = told.get("ratio"), told.get("known")
    return Cell(
        context, _one_of(outcome, OUTCOMES), str(told.get("words", "")), None if ratio is None else float(ratio),
        bool(told.get("unsteady", False)), None if known is None else str(known),
    )  # fmt: skip


def _one_of(word: Any, words: Sequence[Any]) -> Any:
    if word not in words:
        raise ValueError(f"{word!r} is none of {', '.join(words)}")
    return word
