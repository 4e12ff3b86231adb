"""The ops of one model on several devices, side by side: which device gets which op wrong.

An op is judged on each device by its local error, on that device's own inputs. So two devices that both stay within
what rounding explains do not differ at that op, however far apart their values are by then: that is inherited. An op
differs between devices where it is a culprit on one of them and none on another, or on several by different errors.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from harness.core.arrays import OpIndex
from harness.report import figures
from harness.report.tables import OpRow, Verdict

Split = Literal["differs", "shared", "alike", "unread"]
"""`differs`: a culprit on some and none on others, or on several by different errors; `shared`: a culprit wherever it
was read, on two devices at least, by errors that are the same as far as they were compared; `alike`: no culprit;
`unread`: a culprit on one device, and read on no other."""

_WORSE = ("culprit", "inherited", "fine", "unread")
_WORDS = {"culprit": "culprit", "inherited": "inherited", "fine": "fine", "unread": "not read"}
MARKS = {"culprit": "◆", "inherited": "○", "fine": "●", "unread": "×"}


@dataclass(frozen=True)
class OpOnDevice:
    """An op on one device. `ratio` is its local error over the expected one; None where it was not read."""

    device: str
    verdict: Verdict
    ratio: float | None = None
    local_error: float | None = None
    expected_error: float | None = None
    nonfinite: int = 0

    @property
    def word(self) -> str:
        """`culprit 335×`, `fine 0.9×`, `not read`."""
        said = _WORDS[self.verdict]
        if self.verdict == "unread":
            return said
        return f"{said} NaN" if self.nonfinite else f"{said} {figures.times(self.ratio)}"

    @property
    def mark(self) -> str:
        """The verdict's shape, which it has on every page."""
        return MARKS[self.verdict]

    def to_json(self) -> dict[str, Any]:
        """Its fields."""
        return vars(self).copy()


@dataclass(frozen=True)
class Meeting:
    """Two devices' values of one op, compared with each other: the largest difference, in the tensor's unit, and
    whether both are wrong by the same error."""

    devices: tuple[str, str]
    max_abs: float
    same_error: bool

    def to_json(self) -> dict[str, Any]:
        """Its fields."""
        return {"devices": list(self.devices), "max_abs": self.max_abs, "same_error": self.same_error}


@dataclass(frozen=True)
class OpAcross:
    """One op on several devices, in the order in which they were named. `meetings` are those of its culprits whose
    values were kept."""

    index: OpIndex
    first: OpIndex
    op: str
    output: str
    shape: str
    on: tuple[OpOnDevice, ...]
    meetings: tuple[Meeting, ...] = ()

    @property
    def title(self) -> str:
        """`ADD #49`, or `ops #3–5` where they were judged together."""
        return f"{self.op} #{self.index}" if self.first == self.index else f"ops #{self.first}–{self.index}"

    def devices(self, *verdicts: Verdict) -> tuple[str, ...]:
        """Those on which it is one of these."""
        return tuple(each.device for each in self.on if each.verdict in verdicts)

    @property
    def split(self) -> Split:
        """Whether the devices agree."""
        wrong, right = self.devices("culprit"), self.devices("fine", "inherited")
        if not wrong:
            return "alike"
        if right or any(not meeting.same_error for meeting in self.meetings):
            return "differs"
        return "shared" if len(wrong) > 1 else "unread"

    @property
    def spread(self) -> float:
        """The largest ratio over the smallest, of the devices on which it was read; 1 for fewer than two."""
        told = [max(each.ratio, 1e-3) for each in self.on if each.ratio is not None]
        return max(told) / min(told) if len(told) > 1 else 1.0

    def sentence(self) -> str:
        """Who gets it wrong, who right, and whether those who do err alike."""
        wrong, right, unread = self.devices("culprit"), self.devices("fine", "inherited"), self.devices("unread")
        if not wrong:
            return f"{self.title} is right wherever it was read."
        said = f"{self.title} is wrong on {listed(wrong)}"
        if len(wrong) > 1 and self.meetings:
            apart = [meeting for meeting in self.meetings if not meeting.same_error]
            said += ", by errors that differ" if apart else ", by the same error"
        said += f", right on {listed(right)}" if right else ""
        said += f", not read on {listed(unread)}" if unread else ""
        return f"{said}."

    def to_json(self) -> dict[str, Any]:
        """Its fields; `split` says whether the devices agree."""
        return {
            "ops": [self.first, self.index],
            "op": self.op,
            "output": self.output,
            "shape": self.shape,
            "split": self.split,
            "on": [each.to_json() for each in self.on],
            "between": [meeting.to_json() for meeting in self.meetings],
        }


def side_by_side(read: Sequence[tuple[str, Sequence[OpRow]]]) -> tuple[OpAcross, ...]:
    """Every op that was read on one of the devices at least, in the graph's order. `read` has each device's name and
    the rows of its ops.csv; none of a device whose ops were not read."""
    found: dict[tuple[OpIndex, str, str], dict[str, OpRow]] = {}
    for device, rows in read:
        for row in rows:
            here = found.setdefault((row.index, row.op, row.output), {})
            # A tensor that was read twice counts as the worse reading has it.
            if device not in here or _WORSE.index(row.verdict) < _WORSE.index(here[device].verdict):
                here[device] = row
    devices = [device for device, _ in read]
    return tuple(_across(devices, found[key]) for key in sorted(found, key=lambda key: key[0]))


def told(ops: Iterable[OpAcross]) -> list[OpAcross]:
    """The ops that are wrong on some device: those that differ first, each in the graph's order."""
    wrong = [op for op in ops if op.split != "alike"]
    return sorted(wrong, key=lambda op: ("differs", "unread", "shared").index(op.split))


def with_meetings(
    ops: Sequence[OpAcross], meet: dict[tuple[OpIndex, str], tuple[Meeting, ...]]
) -> tuple[OpAcross, ...]:
    """The ops with what a comparison of their values found, by index and output."""
    return tuple(replace(op, meetings=meet.get((op.index, op.output), ())) for op in ops)


def sentences(ops: Sequence[OpAcross], most: int = 12) -> list[str]:
    """What there is to say of them: each op that is wrong somewhere, and that of the others rounding explains all."""
    wrong = told(ops)
    said = [op.sentence() for op in wrong[:most]]
    if len(wrong) > most:
        said.append(f"And {len(wrong) - most} more.")
    if not wrong and ops:
        said.append("No op differs between the devices by more than rounding explains.")
    return said


def _across(devices: Sequence[str], rows: dict[str, OpRow]) -> OpAcross:
    one = next(iter(rows.values()))
    on = tuple(_on(device, rows.get(device)) for device in devices)
    first = min(row.first for row in rows.values())
    return OpAcross(one.index, first, one.op, one.output, one.shape, on)


def _on(device: str, row: OpRow | None) -> OpOnDevice:
    if row is None or row.verdict == "unread":
        return OpOnDevice(device, "unread")
    return OpOnDevice(device, row.verdict, row.ratio, row.local_max, row.expected_max, row.nonfinite or 0)


def listed(names: Sequence[str]) -> str:
    """Names in a sentence: `a`, `a and b`, `a, b and c`."""
    shown = [figures.name(each, 60) for each in names]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
