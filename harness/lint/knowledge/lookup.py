"""Is a culprit known? By its pattern, by the look of its wrong values, and by the release and the GPU it was seen on.

The kind of op alone says nothing, and neither does any one of the three: an op that has the pattern of an entry may be
wrong for another reason, or on a release that nobody asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from harness.core.arrays import OpIndex
from harness.graph.model import Model
from harness.lint.knowledge.entry import Entry
from harness.lint.knowledge.pattern import Match
from harness.lint.knowledge.reading import entries
from harness.lint.knowledge.scene import Scene
from harness.lint.knowledge.target import Target

_ISSUE = re.compile(r"https://github\.com/[\w.-]+/([\w.-]+)/issues/(\d+)")
# Causes that an experiment shows, whatever the wrong values look like.
_TELLING = frozenset({"accumulation"})
# Ops of a culprit's window beyond those of a pattern in it: integers between them cannot be read.
_BESIDE = 2


@dataclass(frozen=True)
class Seen:
    """A culprit as a localization has it: its ops, its cause, what its wrong values look like, None where they look
    like nothing in particular; `explained`: whether they were asked about at all; `half`: whether float16 computed."""

    first: OpIndex
    last: OpIndex
    cause: str
    signature: str | None
    explained: bool
    half: bool


@dataclass(frozen=True)
class Known:
    """What the catalogue says of a culprit: the entry that it is, or None; a sentence; what helps, about these tensors;
    and the rewrite that does it."""

    entry: Entry | None
    sentence: str
    helps: str = ""

    def to_json(self) -> dict[str, Any]:
        """`known` of a culprit in `localize --json`."""
        entry = self.entry
        return {
            "entry": None if entry is None else entry.name,
            "sentence": self.sentence,
            "issues": [] if entry is None else list(entry.issues),
            "helps": self.helps or None,
            "remedy": None if entry is None else entry.remedy,
        }


def look_up(model: Model, seen: Seen, target: Target | None) -> Known:
    """The entry that a culprit of a model is, if its pattern, its looks and its release all fit one."""
    nearest: list[str] = []
    scene = Scene(model, model.graph())
    for entry in entries():
        if entry.effect == "refused":
            continue
        for match in _at(scene, entry, seen):
            missing = _misfit(entry, match, seen, target)
            if not missing:
                return Known(entry, _is(entry, target), entry.help(match))
            if entry.listed:
                nearest.append(f"it has the pattern of {entry.name}, but {missing}")
    why = "; ".join(dict.fromkeys(nearest)) or "no entry of the catalogue has its pattern"
    return Known(None, f"Not known: {why}.")


def _at(scene: Scene, entry: Entry, seen: Seen) -> Iterator[Match]:
    return entry.pattern.matches(scene, scene.graph.ops[seen.first : seen.last + 1])


def _misfit(entry: Entry, match: Match, seen: Seen, target: Target | None) -> str:
    """What of a culprit does not fit an entry whose pattern it has; empty where all does."""
    if target is None or not entry.known_at(target):
        return f"that was not seen on {target.words if target else 'such a device'}"
    if entry.half_only and not seen.half:
        return "that is right in float32"
    if seen.signature is None and not seen.explained:
        return "what its wrong values look like was not asked (--no-explain)"
    if not entry.signs.fit(seen.cause, seen.signature):
        return "its wrong values look otherwise"
    there = entry.at(target)
    told = seen.cause in _TELLING or (there is not None and there[1] == "certain")
    if seen.signature is None and not told:
        return "its wrong values look like nothing in particular"
    width = seen.last - seen.first + 1
    if width > len(entry.pattern.ops) + _BESIDE and (match.op.index != seen.last or seen.signature is None):
        return "more ops than those are wrong together"
    return ""


def _is(entry: Entry, target: Target | None) -> str:
    called = [entry.name, *(f"{name} #{number}" for name, number in map(_numbered, entry.issues) if name)]
    releases = entry.releases
    seen = f"in every release asked ({releases[0]} to {releases[-1]})" if releases else ""
    if releases and any(place.fixed for place in entry.places):
        fixed = next(place.fixed for place in entry.places if place.fixed)
        seen = f"in {releases[0]} to {releases[-1]}, mended in {fixed}"
    if target is not None and target.platform == "planted":
        seen = "planted here as it was reported"
    elif target is not None and target.platform != "host":
        seen = f"seen on {target.words}"
    return f"Known: {', '.join(filter(None, (*called, seen)))}."


def _numbered(address: str) -> tuple[str, str]:
    found = _ISSUE.fullmatch(address)
    return (found[1], found[2]) if found else ("", "")
