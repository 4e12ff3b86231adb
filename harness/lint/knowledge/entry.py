"""An entry of the catalogue: a pattern, what comes of it, where that is known, by what, and what helps."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.lint.knowledge.expression import UNKNOWN, Expression
from harness.lint.knowledge.functions import FUNCTIONS
from harness.lint.knowledge.pattern import Match, Pattern
from harness.lint.knowledge.scene import TensorView
from harness.lint.knowledge.target import Platform, Target, compare_releases
from harness.lint.wording import called, dims

Effect = Literal["refused", "silent", "precision", "crash", "slow"]
Sure = Literal["certain", "risk"]


@dataclass(frozen=True)
class Place:
    """Where an effect is known: a kind of runtime, GPU families (none: all), and releases: `since` the oldest and
    `until` the newest that were asked and have it, `not_yet` the last that was asked and has it not yet, `fixed` the
    first that was asked and has it no more. `certain`: it was measured there, on forms of this pattern. `planted`: the
    bug of a planted phone. `effect`: another one than the entry's, there."""

    platform: Platform
    families: frozenset[str] = frozenset()
    since: str | None = None
    until: str | None = None
    not_yet: str | None = None
    fixed: str | None = None
    certain: bool = False
    planted: str = ""
    effect: Effect | None = None

    def sure(self, target: Target) -> Sure | None:
        """How sure it is of a target; None where it is known not to be."""
        if self.platform != target.platform:
            return None
        if self.platform == "planted":
            return ("certain" if self.certain else "risk") if self.planted in target.planted else None
        if self.families and target.family is not None and target.family not in self.families:
            return None
        if self.families and target.family is None:
            return "risk"
        if target.release is None or self.since is None or self.until is None:
            return "risk"
        if self.fixed is not None and compare_releases(target.release, self.fixed) >= 0:
            return None
        if self.not_yet is not None and compare_releases(target.release, self.not_yet) <= 0:
            return None
        asked = compare_releases(self.since, target.release) <= 0 and compare_releases(target.release, self.until) <= 0
        return "certain" if asked and self.certain else "risk"

    def asked(self, target: Target) -> bool:
        """Whether the effect is known of this very target: its release is among those that were asked, or, where a
        report names none, its GPU is of a family that the report names."""
        if self.platform == "planted":
            return self.sure(target) is not None
        if self.sure(target) is None or (self.families and target.family is None):
            return False
        if self.since is None or self.until is None:
            return bool(self.families)  # a report of such GPUs; that a parser is the same is no report
        return target.release is not None and (
            compare_releases(self.since, target.release) <= 0 and compare_releases(target.release, self.until) <= 0
        )


@dataclass(frozen=True)
class Evidence:
    """A public report (`issue`, its address), or a run of ours (`run`, in words) with its date and versions. `corpus`
    are the graphs in `device_tests/corpus` that show it, `forms` the entry's forms in `device_tests/lint_forms.py`,
    `planted` the planted phone that has it."""

    says: str
    issue: str = ""
    date: str = ""
    versions: tuple[str, ...] = ()
    corpus: tuple[str, ...] = ()
    forms: str = ""
    planted: str = ""

    def to_json(self) -> dict[str, Any]:
        """Its fields."""
        return {"says": self.says, "issue": self.issue or None, "date": self.date or None, "versions": [*self.versions]}


@dataclass(frozen=True)
class Signs:
    """How a culprit shows that it is this: the causes that it may have, and what its wrong values look like, each a
    pattern for the whole signature. With `none` a culprit without a signature fits as well."""

    causes: frozenset[str] = frozenset()
    signatures: tuple[re.Pattern[str], ...] = ()
    none: bool = False

    def fit(self, cause: str, signature: str | None) -> bool:
        """Whether a culprit looks so."""
        if cause not in self.causes:
            return False
        return self.none if signature is None else any(known.fullmatch(signature) for known in self.signatures)


@dataclass(frozen=True)
class Entry:
    """One thing that is known. `about` names the pattern's tensor that a finding is about. `listed`: the file alone
    tells; else it depends on values that are only there when the model runs, and only a culprit is looked up in it.
    `half_only`: right in float32. `remedy` is the name of a rewrite of `harness.remedies` that helps. `helps_of`: what
    helps for an accused op of that kind, where it is another thing than `helps`."""

    name: str
    title: str
    effect: Effect
    about: str
    sentence: str
    why: str
    helps: str
    pattern: Pattern
    places: tuple[Place, ...]
    evidence: tuple[Evidence, ...]
    signs: Signs = field(default_factory=Signs)
    remedy: str | None = None
    listed: bool = True
    half_only: bool = False
    helps_of: Mapping[str, str] = field(default_factory=dict)

    @property
    def releases(self) -> tuple[str, ...]:
        """Releases of ai-edge-litert on which it was measured."""
        return next((each.versions for each in self.evidence if each.corpus or each.forms), ())

    @property
    def issues(self) -> tuple[str, ...]:
        """Addresses of public reports."""
        return tuple(dict.fromkeys(each.issue for each in self.evidence if each.issue))

    def at(self, target: Target) -> tuple[Effect, Sure] | None:
        """What comes of it on a target, and how sure that is; None where nothing does."""
        found: list[tuple[Effect, Sure]] = []
        for place in self.places:
            sure = place.sure(target)
            if sure is not None:
                found.append((place.effect or self.effect, sure))
        return next((each for each in found if each[1] == "certain"), next(iter(found), None))

    def known_at(self, target: Target) -> bool:
        """Whether it was seen on this very target: its kind, its GPU's family, its release."""
        return any(place.asked(target) for place in self.places)

    def help(self, match: Match) -> str:
        """What helps where a graph has the pattern."""
        return self.tell(self.helps_of.get(match.op.name, self.helps), match)

    def tell(self, text: str, match: Match) -> str:
        """A sentence about a match: what stands in braces is filled in."""
        names = self.pattern.values(match)
        return _BRACES.sub(lambda found: shown(Expression(found[1]).value(names, FUNCTIONS)), text)


_BRACES = re.compile(r"\{([^{}]+)\}")


def braces(text: str) -> list[Expression]:
    """The expressions of a sentence. Raises ExpressionError."""
    return [Expression(found) for found in _BRACES.findall(text)]


def shown(value: Any) -> str:
    """A value in a sentence: a tensor by its name and shape, a shape as `[4x8]`."""
    if isinstance(value, TensorView):
        return called(value.tensor)
    if isinstance(value, tuple):
        return dims(value)
    if value is UNKNOWN:
        return "?"
    return f"{value:g}" if isinstance(value, float) else str(value)


EFFECTS: Mapping[Effect, str] = {
    "refused": "refused",
    "silent": "wrong, without a word",
    "precision": "loses precision",
    "crash": "ends the process",
    "slow": "slow",
}
"""An effect in words."""
