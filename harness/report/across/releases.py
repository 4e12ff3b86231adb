"""What a release of the runtime changed, from one model's answers on several of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from harness.core.errors import UsageError
from harness.devices.host.releases import version_of
from harness.report.across.ops import side_by_side
from harness.report.tables import OpRow, Verdict


@dataclass(frozen=True)
class OnRelease:
    """The answer on one release: a word such as `pass` or `fail`, and each op's verdict by its title. `ops` is empty
    where they were not read."""

    release: str
    state: str
    ops: Mapping[str, Verdict] = field(default_factory=dict)

    @property
    def culprits(self) -> frozenset[str]:
        """Ops that are wrong."""
        return frozenset(op for op, verdict in self.ops.items() if verdict == "culprit")

    def is_right(self, op: str) -> bool:
        """Whether the op is known to be right: it was read, or the whole model passes."""
        return self.ops.get(op, "unread") in ("fine", "inherited") or (self.state == "pass" and op not in self.culprits)


@dataclass(frozen=True)
class Change:
    """Between two releases that follow each other among those tested: the states, and the ops that were mended and
    broken."""

    before: str
    after: str
    was: str
    now: str
    mended: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()

    def sentence(self) -> str:
        """`2.1.5 → 2.2.0: fail → pass; mended ADD #2.`"""
        said = f"{self.was} → {self.now}" if self.was != self.now else f"{self.now} as before"
        for word, ops in (("mended", self.mended), ("broke", self.broken)):
            said += f"; {word} {', '.join(ops)}" if ops else ""
        return f"{self.before} → {self.after}: {said}."

    def to_json(self) -> dict[str, Any]:
        """Its fields."""
        return vars(self) | {"mended": list(self.mended), "broken": list(self.broken)}


def changes(tested: Iterable[OnRelease]) -> tuple[Change, ...]:
    """What changed from each release to the next one tested, oldest first; nothing where nothing did. What is no
    release, and the second answer of one, is left out."""
    found: dict[str, OnRelease] = {}
    for each in tested:
        if _is_release(each.release):
            found.setdefault(each.release, each)
    ordered = sorted(found.values(), key=lambda each: version_of(each.release))
    made = (_change(one, other) for one, other in pairwise(ordered))
    return tuple(each for each in made if each.was != each.now or each.mended or each.broken)


FAMILIES = ("host", "web")
"""Devices of which `NAME@RELEASE` has another release of the runtime."""


def family(device: str) -> str:
    """The device whose runtimes are compared: `host` for every `host@RELEASE`, `web` likewise, any other by its own
    name."""
    kind, at, _ = device.partition("@")
    return kind if at and kind in FAMILIES else device


def _change(one: OnRelease, other: OnRelease) -> Change:
    mended = _in_order(op for op in one.culprits if other.is_right(op))
    broken = _in_order(op for op in other.culprits if one.is_right(op))
    return Change(one.release, other.release, one.state, other.state, mended, broken)


def _in_order(ops: Iterable[str]) -> tuple[str, ...]:
    """By their numbers, `ADD #2` before `ADD #10`."""

    def number(op: str) -> tuple[int, str]:
        digits = op.rpartition("#")[2].split("–")[0]
        return (int(digits) if digits.isdecimal() else 0, op)

    return tuple(sorted(ops, key=number))


def _is_release(word: str) -> bool:
    try:
        version_of(word)
    except UsageError:
        return False
    return True


def sentences(found: Sequence[Change]) -> list[str]:
    """Each change in a sentence."""
    return [change.sentence() for change in found]


def release_changes(answers: Iterable[tuple[str, str, str, Sequence[OpRow]]]) -> tuple[Change, ...]:
    """What releases of the host's runtime changed, of devices' names, releases, words of their answers and ops."""
    tested = []
    for device, release, state, rows in answers:
        if family(device) == "host":
            ops = {op.title: op.on[0].verdict for op in side_by_side([("", rows)])}
            tested.append(OnRelease(release, state, ops))
    return changes(tested)
