"""Where along a line of releases the answer changes: a search that knows no device and assumes no monotonicity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

from harness.core.errors import UnresolvedError

State = Literal["right", "wrong", "fails", "unknown", "untestable"]
"""`fails`: the runtime refused the model or crashed; `untestable`: the release cannot be had here; `unknown`: it did
not start, the device was lost, or no answer came in time."""
NO_ANSWER: tuple[State, ...] = ("unknown", "untestable")


@dataclass(frozen=True)
class Change:
    """Two releases next to each other, but for those `between` without an answer, on which the state differs."""

    last: str
    was: State
    first: str
    became: State
    between: tuple[str, ...] = ()

    def __str__(self) -> str:
        verb = {
            ("wrong", "right"): "mended it",
            ("fails", "right"): "mended it",
            ("right", "wrong"): "broke it",
            ("right", "fails"): "broke it: the model no longer runs",
            ("wrong", "fails"): "changed it: the model no longer runs",
            ("fails", "wrong"): "changed it: the model runs, and is wrong",
        }[self.was, self.became]
        untested = f"; not known of {', '.join(self.between)}, which may have been the one" if self.between else ""
        return f"{self.first} {verb} ({self.last}: {self.was}{untested})."

    def to_json(self) -> dict[str, Any]:
        """Its fields."""
        return vars(self) | {"between": list(self.between)}


@dataclass(frozen=True)
class Bisection:
    """What was asked of which release, and what follows from it. `reasons` says why there was no answer."""

    states: dict[str, State]
    changes: tuple[Change, ...]
    not_tested: tuple[str, ...]
    reasons: dict[str, str] = field(default_factory=dict)

    def sentences(self) -> list[str]:
        """The answer, and what it does not cover."""
        said = [str(change) for change in self.changes]
        asked = {release: state for release, state in self.states.items() if state not in NO_ANSWER}
        if not said:
            (state,) = set(asked.values())
            said = [f"{state.capitalize()} on every release that was tested: {', '.join(asked)}."]
        said += [f"Not known of {release}: {reason.rstrip('.')}." for release, reason in self.reasons.items()]
        if self.not_tested:
            said.append(f"Not tested: {', '.join(self.not_tested)}; a change that was undone again may hide there.")
        return said


def bisect(
    releases: Sequence[str],
    ask: Callable[[str], State],
    *,
    every: bool = False,
    why: Callable[[str], str] = lambda release: "",
) -> Bisection:
    """Find the releases where the state changes, oldest first in `releases`.

    Both ends are asked; where they agree, the one in the middle too. Then, as long as two asked neighbours disagree and
    there is one between them that was not asked, the middle one of those is. One without an answer is passed over. So
    every change that shows is traced to its release, and there may be several; what hides between two releases that
    agree is not found, and `not_tested` lists it. With `every` all are asked.

    At most n asks; log2 n + 2 where there is one change. Terminates, for each step asks a new release.

    Raises:
        UnresolvedError: there is no answer for one of the ends; `why` gives the reason.
    """
    states: dict[str, State] = {}
    ends = (releases[0], releases[-1])
    for release in releases if every else ends:
        states[release] = ask(release)
    for release in ends:
        if states[release] in NO_ANSWER:
            reason = f": {why(release).rstrip('.')}" if why(release) else ""
            step = " or raise --timeout" if states[release] == "unknown" else ""
            raise UnresolvedError(
                f"What release {release} makes of it is not known{reason}.",
                f"Choose another end with --from or --to{step}.",
            )
    if not every and states[ends[0]] == states[ends[1]] and len(releases) > 2:
        middle = releases[len(releases) // 2]
        states[middle] = ask(middle)
    while True:
        pairs = _disagreeing(releases, states)
        gaps = [[r for r in between if r not in states] for _, _, between in pairs]
        gap = next((gap for gap in gaps if gap), None)
        if gap is None:
            changes = tuple(Change(a, states[a], b, states[b], between) for a, b, between in pairs)
            ordered = {release: states[release] for release in releases if release in states}
            reasons = {r: why(r) or "it cannot be tested here" for r in ordered if ordered[r] in NO_ANSWER}
            return Bisection(ordered, changes, tuple(r for r in releases if r not in states), reasons)
        states[gap[len(gap) // 2]] = ask(gap[len(gap) // 2])


def _disagreeing(releases: Sequence[str], states: dict[str, State]) -> list[tuple[str, str, tuple[str, ...]]]:
    """Neighbours among those with an answer whose states differ, and all that lies between them."""
    testable = [i for i, r in enumerate(releases) if states.get(r, "unknown") not in NO_ANSWER]
    return [
        (releases[a], releases[b], tuple(releases[a + 1 : b]))
        for a, b in pairwise(testable)
        if states[releases[a]] != states[releases[b]]
    ]
