"""The catalogue against the kept support matrices: what it calls wrong, or the end of the process, is so in them."""

from __future__ import annotations

from collections import Counter
from functools import cache

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


def measured(support: Support, certainty: str) -> list[Entry]:
    """The entries that are of that certainty on a matrix's device, and were measured there."""
    target: Target | None = target_of_run(support.device)
    if target is None:
        return []
    found = [entry for entry in entries() if entry.listed and entry.known_at(target)]
    return [entry for entry in found if (there := entry.at(target)) and there[0] in EFFECTS and there[1] == certainty]


def test_no_cell_that_passed_is_certain_to_be_wrong() -> None:
    accused = {
        (title, entry.name): outcomes(entry, support)["pass"]
        for title, support in KEPT.items()
        for entry in measured(support, "certain")
    }
    assert len(accused) > 100
    assert {where: passed for where, passed in accused.items() if passed} == {}


def test_what_is_at_risk_fails_as_often_as_not() -> None:
    doubtful = {
        (title, entry.name): counts
        for title, support in KEPT.items()
        for entry in measured(support, "risk")
        if (counts := outcomes(entry, support))
    }
    assert len(doubtful) > 5
    assert {w: c for w, c in doubtful.items() if c["pass"] > c.total() * (1 - LEAST_AT_RISK)} == {}
