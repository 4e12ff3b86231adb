"""The catalogue against the kept support matrices: what it calls wrong, or the end of the process, is so in them."""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest

from harness.dashboard.support.document import FAILING, Outcome, Support
from harness.graph.forms.catalogue import every_form
from harness.graph.forms.contexts import Context, build, contexts_of
from harness.lint.knowledge.entry import Entry
from harness.lint.knowledge.reading import entries
from harness.lint.knowledge.scene import Scene
from harness.lint.knowledge.target import Target
from harness.localize.explain.known import target_of_run
from scripts.support_page import kept

KEPT = {support.title: support for support in kept()}
EFFECTS = ("silent", "crash")
JUDGED: tuple[Outcome, ...] = ("pass", *FAILING)
# Of what is at risk on a release that was measured, values decide: of the sweep's, so many fail at least.
LEAST_AT_RISK = 0.5
each_matrix = pytest.mark.parametrize("title", KEPT)


@cache
def patterns() -> dict[tuple[str, Context], frozenset[str]]:
    """Names of the entries on silent bugs and crashes whose pattern each form has in each context."""
    of = [entry for entry in entries() if entry.listed and entry.effect in EFFECTS]
    found = {}
    for form in every_form():
        for context in contexts_of(form):
            model = build(form, context).model
            scene = Scene(model, model.graph())
            found[form.id, context] = frozenset(e.name for e in of if next(e.pattern.matches(scene), None) is not None)
    return found


def outcomes(entry: Entry, support: Support) -> Counter[Outcome]:
    """What became of the cells that have an entry's pattern; those that were refused or not asked say nothing."""
    has = patterns()
    cells = (c.outcome for row, c in support.cells() if entry.name in has[row.id, c.context])  # type: ignore[index]
    return Counter(outcome for outcome in cells if outcome in JUDGED)


def sure(entry: Entry, target: Target | None) -> str | None:
    """`certain` or `risk`, of what was measured on the target; None for another effect."""
    there = entry.at(target) if target is not None and entry.known_at(target) else None
    return there[1] if there is not None and there[0] in EFFECTS else None


@each_matrix
def test_no_cell_that_passed_is_certain_to_be_wrong(title: str) -> None:
    support = KEPT[title]
    target = target_of_run(support.device)
    accused = [entry for entry in entries() if entry.listed and sure(entry, target) == "certain"]
    found = {entry.name: outcomes(entry, support) for entry in accused}
    assert {name: passed for name, counts in found.items() if (passed := counts["pass"])} == {}


@each_matrix
def test_what_is_at_risk_fails_as_often_as_not(title: str) -> None:
    support = KEPT[title]
    target = target_of_run(support.device)
    doubtful = [entry for entry in entries() if entry.listed and sure(entry, target) == "risk"]
    shares = {}
    for entry in doubtful:
        counts = outcomes(entry, support)
        if counts:
            shares[entry.name] = 1 - counts["pass"] / counts.total()
    assert {name: share for name, share in shares.items() if share < LEAST_AT_RISK} == {}
