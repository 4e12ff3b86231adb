"""A model's outputs on several devices: which of them give the same result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from harness.report import figures
from harness.report.across.ops import listed


@dataclass(frozen=True)
class OutputMeeting:
    """One output on two devices: whether they agree up to rounding (`why` says by how much they do not), the largest
    difference in the output's unit, and whether both are wrong by the same error."""

    output: str
    devices: tuple[str, str]
    agree: bool
    why: str
    max_abs: float
    same_error: bool

    def to_json(self) -> dict[str, Any]:
        """Its fields."""
        return vars(self) | {"devices": list(self.devices)}


def groups(met: Sequence[OutputMeeting], output: str) -> list[list[str]]:
    """The devices by their results of one output: those of a group all agree with each other, or are wrong by the same
    error."""
    here = [each for each in met if each.output == output]
    alike = {frozenset(each.devices) for each in here if each.agree or each.same_error}
    found: list[list[str]] = []
    for device in dict.fromkeys(device for each in here for device in each.devices):
        for group in found:
            if all(frozenset((device, other)) in alike for other in group):
                group.append(device)
                break
        else:
            found.append([device])
    return found


def sentences(met: Sequence[OutputMeeting], wrong: Mapping[str, AbstractSet[str]]) -> list[str]:
    """A sentence for each output; `wrong` has the devices on which it is off by more than rounding explains."""
    said = []
    for output in dict.fromkeys(each.output for each in met):
        bad = wrong.get(output, frozenset())
        told = []
        for group in groups(met, output):
            one = len(group) == 1
            if not bad & set(group):
                told.append(f"{listed(group)} {'is right' if one else 'agree within rounding'}")
            else:
                alone = "is wrong by an error of its own" if len(bad) > 1 else "is wrong"
                told.append(f"{listed(group)} {alone if one else 'are wrong by one error'}")
        said.append(f"Output '{figures.name(output, 60)}': {'; '.join(told)}.")
    return said
