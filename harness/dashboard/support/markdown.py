"""Support matrices in figures, as Markdown: what the documentation shows of the documents that are kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from harness.dashboard.support.differences import Differences
from harness.dashboard.support.document import FAILING, OUTCOMES, Cell, FormRow, Support
from harness.dashboard.support.page import finds_by_op

# Of the finds of one device, so that a page stays one; the kept document has all.
MOST_OPS = 60


def totals(supports: Sequence[Support]) -> str:
    """A row for each device."""
    head = ["device", "GPU", "asked", "forms", "cells", *OUTCOMES, "not in the catalogue", "minutes"]
    rows = []
    for support in supports:
        counts = support.counts
        figures = [len(support.rows), sum(counts.values()), *counts.values(), len(support.finds())]
        about = [support.title, support.device.get("gpu", ""), support.date]
        rows.append([*about, *(f"{n:,}" for n in figures), f"{support.minutes:.0f}"])
    return _table(head, rows)


def changes(compared: Differences) -> str:
    """What became of the cells from one device to the other, by op."""
    found: dict[str, Counter[str]] = {}
    for cell in compared.cells:
        found.setdefault(cell.op, Counter())[cell.kind] += 1
    kinds = [kind for kind in compared.words if compared.of(kind)]
    rows = [[op, *(str(counts[kind] or "") for kind in kinds)] for op, counts in found.items()]
    return f"{compared.sentence()}\n\n" + _table(["op", *(compared.words[kind] for kind in kinds)], rows)


def named(support: Support, titles: Mapping[str, str]) -> str:
    """The cells that are wrong or end the process, by the entry that knows them; `titles` are the entries'."""
    found: dict[str, list[tuple[FormRow, Cell]]] = {}
    for row, cell in support.cells():
        if cell.outcome in FAILING and cell.known:
            found.setdefault(cell.known, []).append((row, cell))
    rows = [
        [f"`{name}`", titles.get(name, ""), f"{len(cells):,}", f"`{cells[0][0].id}`"]
        for name, cells in sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))
    ]
    return _table(["entry", "what it is of", "cells", "first form"], rows)


def finds(support: Support) -> str:
    """The cells that fail and are not in the catalogue: a row for each op, with the first of its forms."""
    if not support.finds():
        return "None."
    rows = []
    for op, cells in finds_by_op(support).items():
        first = cells[0][0]
        rows.append([op, str(len(cells)), f"`{first.label}`", f"`{first.id}`"])
    more = f"\n\nAnd {len(rows) - MOST_OPS} more ops." if len(rows) > MOST_OPS else ""
    return _table(["op", "cells", "such as", "form"], rows[:MOST_OPS]) + more


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', ' ') for cell in line)} |" for line in lines)
