"""What two support matrices differ in: cell by cell, by the form's id and its context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from packaging.version import InvalidVersion, Version

from harness.dashboard.support.document import Outcome, Support

Kind = Literal["mended", "broken", "taken", "refused", "other"]
_GROUP: Mapping[Outcome, str] = {
    "pass": "right", "precision": "wrong", "wrong": "wrong", "crash": "wrong", "refused": "refused", "not asked": "",
}  # fmt: skip
_KINDS: Mapping[tuple[str, str], Kind] = {
    ("wrong", "right"): "mended",
    ("right", "wrong"): "broken",
    ("refused", "right"): "taken",
    ("right", "refused"): "refused",
}
_RELEASES = "before", "now"
_DEVICES = "on the first", "on the second"


@dataclass(frozen=True)
class Difference:
    """A cell that is not the same on two devices."""

    op: str
    form: str
    label: str
    context: str
    before: Outcome
    after: Outcome

    @property
    def kind(self) -> Kind:
        """What became of it, from the first to the second."""
        return _KINDS.get((_GROUP[self.before], _GROUP[self.after]), "other")

    def to_json(self) -> dict[str, Any]:
        """Its fields."""
        return vars(self) | {"kind": self.kind}


@dataclass(frozen=True)
class Differences:
    """All cells that are not the same, of those that both have. `compared` counts these; `releases` is whether both are
    of one device."""

    before: str
    after: str
    compared: int
    cells: tuple[Difference, ...]
    releases: bool

    @property
    def words(self) -> Mapping[Kind, str]:
        """Each kind in words."""
        first, second = _RELEASES if self.releases else _DEVICES
        told = {kind: f"{was} {first}, {became} {second}" for (was, became), kind in _KINDS.items()}
        return {**told, "other": "otherwise"}

    def of(self, kind: Kind) -> tuple[Difference, ...]:
        """Those of a kind."""
        return tuple(cell for cell in self.cells if cell.kind == kind)

    def sentence(self) -> str:
        """The figures in a sentence."""
        told = [f"{len(self.of(kind))} {words}" for kind, words in self.words.items() if self.of(kind)]
        said = f": {', '.join(told)}" if told else ""
        return f"{self.before} to {self.after}: {len(self.cells)} of {self.compared} cells differ{said}."

    def to_json(self) -> dict[str, Any]:
        """Its fields."""
        cells = [cell.to_json() for cell in self.cells]
        return {"before": self.before, "after": self.after, "compared": self.compared, "cells": cells}


def differences(before: Support, after: Support) -> Differences:
    """The cells of which the outcome is another; what only one of them has does not count."""
    found, compared = [], 0
    for row, cell in after.cells():
        was = before.by_place.get((row.id, cell.context))
        if was is None:
            continue
        compared += 1
        if was.outcome != cell.outcome:
            found.append(Difference(row.op, row.id, row.label, cell.context, was.outcome, cell.outcome))
    releases = _device(before) == _device(after)
    return Differences(before.title, after.title, compared, tuple(found), releases)


def in_order(supports: Sequence[Support]) -> list[Support]:
    """Devices as they were given, each device's releases from the oldest to the newest: what is told of two is what
    the later one changed. A release that is none, as a phone's app may name one, comes first."""
    names = [_device(support) for support in supports]

    def key(support: Support) -> tuple[int, Version]:
        try:
            release = Version(support.device.get("runtime", ""))
        except InvalidVersion:
            release = Version("0")
        return names.index(_device(support)), release

    return sorted(supports, key=key)


def _device(support: Support) -> str:
    """Its name, whatever the release."""
    name: str = support.device["name"]
    return name.partition("@")[0]
