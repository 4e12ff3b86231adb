"""The matrix: models down, devices across, and for each model what differs between the devices."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from harness.core.errors import UsageError
from harness.core.visible import counted
from harness.dashboard.matrix.cells import STATES, Line, State, lines_of
from harness.dashboard.matrix.collect import Collected
from harness.devices.host.releases import version_of
from harness.report import figures
from harness.report.across.ops import OpAcross, side_by_side, told
from harness.report.across.releases import Change, OnRelease, changes, family
from harness.report.verdict import Tone, Verdict

# Beyond these a page is no overview any more; --json has all cells.
MOST_CELLS = 4000
MOST_OPS = 40
MOST_SAID = 8

SHOWN: dict[State, str] = {
    "fail": "fail",
    "precision": "fail by precision",
    "unclear": "unclear",
    "trouble": "device trouble",
    "unfinished": "not finished",
    "partial": "right with a part on the CPU",
    "waiting": "not run",
    "pass": "pass",
    "unjudged": "not judged",
    "skipped": "skipped",
}
_JUDGED = ("pass", "fail", "precision")


@dataclass(frozen=True)
class ReleaseChange:
    """What changed on one device from release to release: how it ran, and the changes."""

    device: str
    gpu: str
    how: str
    changes: tuple[Change, ...]

    def sentences(self) -> list[str]:
        """Each in a sentence."""
        where = figures.name(self.device, 60)
        return [f"{where}, LiteRT {change.sentence()}" for change in self.changes]


@dataclass(frozen=True)
class ModelRow:
    """One model: the lines of its cells in the order of the matrix's devices, its ops side by side, and what releases
    changed. `sha256` is empty where no run tells it."""

    name: str
    sha256: str
    cells: tuple[tuple[Line, ...], ...]
    ops: tuple[OpAcross, ...]
    releases: tuple[ReleaseChange, ...]

    @property
    def lines(self) -> list[Line]:
        """Of all its cells."""
        return [line for cell in self.cells for line in cell]

    @property
    def told(self) -> list[OpAcross]:
        """The ops that are wrong on some device."""
        return told(self.ops)

    def to_json(self) -> dict[str, Any]:
        """Its fields."""
        return {
            "model": self.name,
            "sha256": self.sha256,
            "cells": [line.to_json() for line in self.lines],
            "ops": [op.to_json() for op in self.ops],
            "releases": [
                {
                    "device": each.device,
                    "gpu": each.gpu,
                    "how": each.how,
                    "changes": [c.to_json() for c in each.changes],
                }
                for each in self.releases
            ],
        }


@dataclass(frozen=True)
class DeviceColumn:
    """One device: its GPU and its runtime's release, as far as all its runs agree on them."""

    name: str
    gpu: str
    runtime: str


@dataclass(frozen=True)
class Matrix:
    """Everything that the page, the table and the document tell. `how` is the one way in which all runs ran; empty
    where there are several, which the lines tell then."""

    devices: tuple[DeviceColumn, ...]
    rows: tuple[ModelRow, ...]
    how: str
    runs: int
    skipped: tuple[str, ...]

    @property
    def read(self) -> list[str]:
        """The devices whose ops were read, of one model at least of which some op is wrong."""
        return list(dict.fromkeys(each.device for row in self.rows for op in row.told[:1] for each in op.on))

    @cached_property
    def tally(self) -> dict[State, int]:
        """How many lines there are of each state, the worst first."""
        seen = Counter(line.finding.state for row in self.rows for line in row.lines)
        return {state: seen[state] for state in STATES if seen[state]}

    def verdict(self) -> Verdict:
        """In a sentence how many pass of those that mean something, and what the others do; below it the ops that tell
        devices apart."""
        cells = sum(number for state, number in self.tally.items() if state != "skipped")
        said = f"{counted(len(self.rows), 'model')} on {counted(len(self.devices), 'device')}: "
        said += f"{self.tally.get('pass', 0)} of {cells} pass"
        others = [f"{number} {SHOWN[state]}" for state, number in self.tally.items() if state != "pass"]
        said += f"; {', '.join(others)}." if others else "."
        wrong = self.tally.get("fail", 0) + self.tally.get("precision", 0)
        tone: Tone = "bad" if wrong else "good" if self.tally.get("pass", 0) == cells > 0 else "open"
        mark = {"bad": "Fail", "good": "Pass", "open": "Incomplete"}[tone]
        return Verdict(tone, mark, said, tuple(self.said()))

    def said(self) -> list[str]:
        """The ops that are wrong, and on which devices, those that differ first; then what releases changed."""
        ops = sorted(((row, op) for row in self.rows for op in row.told), key=lambda each: each[1].split != "differs")
        wrong = [f"{figures.name(row.name, 60)}: {op.sentence()}" for row, op in ops]
        changed = [
            f"{figures.name(row.name, 60)}: {sentence}"
            for row in self.rows
            for each in row.releases
            for sentence in each.sentences()
        ]
        more = [f"And {len(wrong) - MOST_SAID} more below."] if len(wrong) > MOST_SAID else []
        return [*wrong[:MOST_SAID], *more, *changed[:MOST_SAID]]

    def to_json(self) -> dict[str, Any]:
        """`matrix --json`, schema 1, without where the page is."""
        return {
            "schema": 1,
            "runs": self.runs,
            "tally": dict(self.tally),
            "devices": [vars(device) for device in self.devices],
            "models": [row.to_json() for row in self.rows],
            "skipped": list(self.skipped),
        }


def build_matrix(collected: Collected) -> Matrix:
    """The matrix of what was collected."""
    cells = lines_of(collected)
    names = sorted({device for devices in cells.values() for device in devices}, key=_device_order(cells))
    columns = tuple(
        _column(name, [line for devices in cells.values() for line in devices.get(name, ())]) for name in names
    )
    title_of = _titles([line for devices in cells.values() for lines in devices.values() for line in lines])
    rows = [_row(model, names, cells[model], title_of) for model in sorted(cells)]
    kept = rows[: max(1, MOST_CELLS // max(1, len(names)))]
    skipped = list(collected.skipped)
    if len(kept) < len(rows):
        skipped.append(f"{len(rows) - len(kept)} models beyond {MOST_CELLS:,} cells are left out.")
    hows = {line.key.how.label for row in kept for line in row.lines}
    how = hows.pop() if len(hows) == 1 else ""
    return Matrix(columns, tuple(kept), how, len(collected.runs), tuple(skipped))


def _row(
    model: tuple[str, str],
    names: Sequence[str],
    devices: Mapping[str, Sequence[Line]],
    title_of: Callable[[Line], str],
) -> ModelRow:
    cells = tuple(tuple(devices.get(name, ())) for name in names)
    lines = [line for cell in cells for line in cell]
    ops = side_by_side([(title_of(line), line.read.ops) for line in lines if line.read])
    return ModelRow(*model, cells, ops, tuple(_releases(lines)))


def _titles(lines: Sequence[Line]) -> Callable[[Line], str]:
    """What each line is called beside the others: the device, and as much more as tells them apart."""
    runtimes: dict[str, set[str]] = defaultdict(set)
    for line in lines:
        runtimes[line.device].add(line.key.runtime)
    several = len({line.key.how for line in lines}) > 1

    def title(line: Line) -> str:
        more = [f"LiteRT {line.key.runtime or '?'}"] if len(runtimes[line.device]) > 1 else []
        more += [line.key.how.label] if several else []
        return ", ".join([line.device, *more])

    return title


def _releases(lines: Sequence[Line]) -> Iterable[ReleaseChange]:
    groups: dict[tuple[str, str, str], list[OnRelease]] = defaultdict(list)
    for line in lines:
        if line.finding.state in _JUDGED:
            rows = line.read.ops if line.read else ()
            ops = {op.title: op.on[0].verdict for op in side_by_side([("", rows)])}
            where = (family(line.device), line.gpu, line.key.how.label)
            groups[where].append(OnRelease(line.key.runtime, line.finding.state, ops))
    for (device, gpu, how), tested in groups.items():
        if found := changes(tested):
            yield ReleaseChange(device, gpu, how, found)


def _column(name: str, lines: Sequence[Line]) -> DeviceColumn:
    gpus = {line.gpu for line in lines if line.gpu}
    runtimes = {line.key.runtime for line in lines if line.key.runtime and line.finding.state != "skipped"}
    return DeviceColumn(name, gpus.pop() if len(gpus) == 1 else "", runtimes.pop() if len(runtimes) == 1 else "")


def _device_order(cells: Mapping[tuple[str, str], Mapping[str, Sequence[Line]]]) -> Any:
    """Releases of one device beside each other, the oldest first; `host` where its own release has its place."""
    newest: dict[str, str] = {}
    for devices in cells.values():
        for device, lines in devices.items():
            newest[device] = max([newest.get(device, ""), *(line.key.runtime for line in lines)])

    def order(device: str) -> tuple[bool, str, Any, str]:
        try:
            release = version_of(newest[device])
        except UsageError:
            release = version_of("0")
        return family(device) != "host", family(device), release, device

    return order
