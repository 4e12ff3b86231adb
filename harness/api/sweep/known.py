"""Whether the catalogue of `harness lint` knows what a form does on a device."""

from __future__ import annotations

from collections.abc import Mapping

from harness.dashboard.support.document import NOT_IN_CATALOGUE, Outcome
from harness.graph.model import Model
from harness.lint.knowledge.reading import entries
from harness.lint.knowledge.scene import Scene
from harness.lint.knowledge.target import Target

# What an entry has to say for it to be the reason of an outcome.
_EFFECTS: Mapping[Outcome, frozenset[str]] = {
    "wrong": frozenset({"silent", "precision"}),
    "precision": frozenset({"silent", "precision"}),
    "crash": frozenset({"crash", "silent"}),
    "refused": frozenset({"refused"}),
}


def known_as(model: Model, outcome: Outcome, target: Target | None, *, far: bool = False) -> str | None:
    """The entry that says so of a model on a target, of several that are certain the one of most ops;
    `NOT_IN_CATALOGUE` where none does; None where there is nothing to be known. Entries that values decide count where
    these are `far` from one."""
    effects = _EFFECTS.get(outcome)
    if effects is None:
        return None
    if target is None:
        return NOT_IN_CATALOGUE
    scene = Scene(model, model.graph())
    found = []
    for entry in entries():
        there = entry.at(target) if entry.listed or far else None
        if there is not None and there[0] in effects and next(iter(entry.pattern.matches(scene)), None) is not None:
            certain = there[1] == "certain"
            found.append((not certain, -len(entry.pattern.ops) * certain, entry.name))
    return min(found)[-1] if found else NOT_IN_CATALOGUE
