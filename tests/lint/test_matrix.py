"""The catalogue against the support matrices that are kept: what it is certain of was so, and no cell that a device
took or had right is accused with certainty."""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest

from harness.dashboard.support.document import FAILING, Outcome, Support
from harness.graph.forms.catalogue import every_form
from harness.graph.forms.contexts import build, contexts_of
from harness.lint.knowledge.entry import Entry
from harness.lint.knowledge.reading import entries
from harness.lint.knowledge.scene import Scene
from harness.localize.explain.known import target_of_run
from scripts import support_page

KEPT = {support.title: support for support in support_page.kept()}
EACH = pytest.mark.parametrize("support", KEPT.values(), ids=KEPT)
WRONG = ("silent", "crash")
JUDGED: tuple[Outcome, ...] = ("pass", *FAILING)
# Of what is at risk on a release that was measured, values decide: of the matrix' cells, so many fail at least.
LEAST_AT_RISK = 0.5
# A place may say of any entry that what it describes is refused there.
ASKED = [
    known
    for known in entries()
    if "refused" in {known.effect, *(place.effect for place in known.places)}
    or (known.listed and known.effect in WRONG)
]


@cache
def fitting() -> dict[tuple[str, str], tuple[Entry, ...]]:
    """By form and context: the entries of which its graph has the pattern."""
    found: dict[tuple[str, str], tuple[Entry, ...]] = {}
    for form in every_form():
        for context in contexts_of(form):
            model = build(form, context).model
            scene = Scene(model, model.graph())
            fits = tuple(known for known in ASKED if next(iter(known.pattern.matches(scene)), None) is not None)
            found[form.id, context] = fits
    return found


def refusing(support: Support, place: tuple[str, str]) -> list[str]:
    """The entries that are certain on a matrix' device that a cell is refused."""
    target = target_of_run(support.device)
    assert target is not None
    return [known.name for known in fitting()[place] if known.at(target) == ("refused", "certain")]


def outcomes(certainty: str) -> dict[tuple[str, str], Counter[Outcome]]:
    """By matrix and entry, of those that say that something is wrong with that certainty: what became of the cells with
    its pattern. Those that were refused or not asked say nothing."""
    found: dict[tuple[str, str], Counter[Outcome]] = {}
    for title, support in KEPT.items():
        target = target_of_run(support.device)
        assert target is not None
        of = {
            known.name
            for known in ASKED
            if known.listed
            and known.known_at(target)
            and (there := known.at(target))
            and there[0] in WRONG
            and there[1] == certainty
        }
        for row, cell in support.cells():
            if cell.outcome in JUDGED:
                for known in fitting()[row.id, cell.context]:
                    if known.name in of:
                        found.setdefault((title, known.name), Counter())[cell.outcome] += 1
    return found


@EACH
def test_nothing_that_is_certain_to_be_refused_was_taken(support: Support) -> None:
    taken = [
        f"{row.op} {row.label}, {cell.context}: {cell.outcome}, for all that {', '.join(names)} says"
        for row, cell in support.cells()
        if cell.outcome not in ("refused", "not asked") and (names := refusing(support, (row.id, cell.context)))
    ]
    assert taken == []


@pytest.mark.parametrize("title", ["host 2.1.3", "host 2.3.0", "host 2.4.0.dev20261026"])
def test_what_a_release_refused_is_certain_to_be(title: str) -> None:
    support = KEPT[title]
    missing = [
        f"{row.op} {row.label}, {cell.context}: {cell.words}"
        for row, cell in support.cells()
        if cell.outcome == "refused" and not refusing(support, (row.id, cell.context))
    ]
    assert missing == []


def test_no_cell_that_passed_is_certain_to_be_wrong() -> None:
    accused = outcomes("certain")
    assert len(accused) > 100
    assert {where: counts["pass"] for where, counts in accused.items() if counts["pass"]} == {}


def test_what_is_at_risk_fails_as_often_as_not() -> None:
    doubtful = outcomes("risk")
    assert len(doubtful) > 5
    assert {w: c for w, c in doubtful.items() if c["pass"] > c.total() * (1 - LEAST_AT_RISK)} == {}
