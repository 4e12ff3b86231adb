"""The catalogue against the support matrices that are kept: nothing that it is certain to be refused was taken."""

from __future__ import annotations

from functools import cache

import pytest

from harness.dashboard.support.document import Support
from harness.graph.forms.catalogue import every_form
from harness.graph.forms.contexts import build, contexts_of
from harness.lint.knowledge.entry import Entry
from harness.lint.knowledge.reading import entries
from harness.lint.knowledge.scene import Scene
from harness.localize.explain.known import target_of_run
from scripts import support_page

KEPT = {support.title: support for support in support_page.kept()}
EACH = pytest.mark.parametrize("support", KEPT.values(), ids=KEPT)
# A place may say of any entry that what it describes is refused there.
REFUSED = [known for known in entries() if "refused" in {known.effect, *(place.effect for place in known.places)}]


@cache
def fitting() -> dict[tuple[str, str], tuple[Entry, ...]]:
    """By form and context: the entries about refusals of which its graph has the pattern."""
    found: dict[tuple[str, str], tuple[Entry, ...]] = {}
    for form in every_form():
        for context in contexts_of(form):
            model = build(form, context).model
            scene = Scene(model, model.graph())
            fits = tuple(known for known in REFUSED if next(iter(known.pattern.matches(scene)), None) is not None)
            found[form.id, context] = fits
    return found


def certain(support: Support, place: tuple[str, str]) -> list[str]:
    """The entries that are certain on a matrix' device that a cell is refused."""
    target = target_of_run(support.device)
    assert target is not None
    return [known.name for known in fitting()[place] if known.at(target) == ("refused", "certain")]


@EACH
def test_nothing_that_is_certain_to_be_refused_was_taken(support: Support) -> None:
    taken = [
        f"{row.op} {row.label}, {cell.context}: {cell.outcome}, for all that {', '.join(names)} says"
        for row, cell in support.cells()
        if cell.outcome not in ("refused", "not asked") and (names := certain(support, (row.id, cell.context)))
    ]
    assert taken == []


@pytest.mark.parametrize("title", ["host 2.1.3", "host 2.3.0", "host 2.4.0.dev20261026"])
def test_what_a_release_refused_is_certain_to_be(title: str) -> None:
    support = KEPT[title]
    missing = [
        f"{row.op} {row.label}, {cell.context}: {cell.words}"
        for row, cell in support.cells()
        if cell.outcome == "refused" and not certain(support, (row.id, cell.context))
    ]
    assert missing == []
