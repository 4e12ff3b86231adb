"""Looks up anew what the catalogue knows of the kept support matrices, and writes what docs/support.md shows of them:
`python -m scripts.support_page`. No device is asked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from harness.api.sweep.known import known_as
from harness.api.sweep.sweep import digest_of, form_digest
from harness.dashboard.support import markdown
from harness.dashboard.support.differences import differences, in_order
from harness.dashboard.support.document import FormRow, Support, read, write
from harness.graph.forms.catalogue import every_form
from harness.graph.forms.contexts import build, contexts_of
from harness.graph.forms.form import Form
from harness.lint.knowledge.reading import entries
from harness.lint.knowledge.target import Target
from harness.localize.explain.known import target_of_run

ROOT = Path(__file__).resolve().parent.parent
PAGE, KEPT = ROOT / "docs" / "support.md", ROOT / "docs" / "support"


def kept() -> list[Support]:
    """The matrices that are kept, a device's releases oldest first."""
    return in_order([read(path) for path in sorted(KEPT.glob("*.json"))])


def looked_up(support: Support) -> Support:
    """The matrix with what the catalogue says now of each cell. A form that is another one by now, or is there no more,
    keeps what was said when it was asked."""
    forms, target = {form.id: form for form in every_form()}, target_of_run(support.device)
    return replace(support, rows=tuple(_looked_up(row, forms, target) for row in support.rows))


def _looked_up(row: FormRow, forms: Mapping[str, Form], target: Target | None) -> FormRow:
    form = forms.get(row.id)
    if form is None or all(cell.outcome == "pass" for cell in row.cells):
        return row
    built = {context: build(form, context) for context in contexts_of(form)}
    if form_digest([digest_of(each) for each in built.values()]) != row.digest:
        return row
    cells = (
        replace(cell, known=known_as(built[context].model, cell.outcome, target, far=form.far))
        for cell, context in zip(row.cells, built, strict=True)
    )
    return replace(row, cells=tuple(cells))


def filled(page: str, supports: list[Support]) -> str:
    """The page with each part between `<!-- NAME -->` and `<!-- end -->` written anew."""
    hosts = [support for support in supports if support.device["kind"] == "host"]
    parts = {
        "totals": markdown.totals(supports),
        "changes": "\n\n".join(markdown.changes(differences(one, other)) for one, other in pairwise(hosts)),
        "named": markdown.named(hosts[-1], {entry.name: entry.title for entry in entries()}),
        "finds": markdown.finds(hosts[-1]),
    }
    for name, text in parts.items():
        block = re.compile(rf"(<!-- {name} -->\n).*?(\n<!-- end -->)", re.DOTALL)
        page = block.sub(lambda found, text=text: f"{found[1]}\n{text}\n{found[2]}", page)  # type: ignore[misc]
    return page


if __name__ == "__main__":
    for path in sorted(KEPT.glob("*.json")):
        write(looked_up(read(path)), path)
    PAGE.write_text(filled(PAGE.read_text("utf-8"), kept()), encoding="utf-8")
