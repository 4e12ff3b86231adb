"""Cells of a matrix: what became of one model on one device.

A cell is as bad as the worst of its newest runs, one of each command: a comparison that passes does not outweigh a
localization that did not come to its end. And it passes only where a finished run judged the outputs, all values are
finite, and the accelerator took the whole model.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from harness.core.errors import EXIT_DEVICE, EXIT_UNRESOLVED
from harness.core.visible import counted
from harness.dashboard.facts import RunFacts
from harness.dashboard.matrix.collect import Collected, Found, Job
from harness.dashboard.series import LaneKey, lane_key
from harness.report.across.releases import family
from harness.report.figures import times
from harness.report.verdict import Tone

State = Literal[
    "fail", "precision", "unclear", "trouble", "unfinished", "partial", "waiting", "pass", "unjudged", "skipped"
]
STATES: tuple[State, ...] = (
    "fail", "precision", "unclear", "trouble", "unfinished", "partial", "waiting", "pass", "unjudged", "skipped",
)  # fmt: skip
"""The worst first, as they outweigh each other in a cell."""

TONES: dict[State, Tone] = {
    "fail": "bad",
    "precision": "open",
    "unclear": "open",
    "trouble": "plain",
    "unfinished": "plain",
    "partial": "open",
    "waiting": "plain",
    "pass": "good",
    "unjudged": "plain",
    "skipped": "plain",
}
MARKS: dict[State, str] = {
    "fail": "◆",
    "precision": "◇",
    "unclear": "◈",
    "trouble": "×",
    "unfinished": "…",
    "partial": "◐",
    "waiting": "–",
    "pass": "✓",
    "unjudged": "–",
    "skipped": "∅",
}
SKIPPED = "skipped"
"""A farm's word for a job that means nothing."""
_MOST_NAMED = 3
_PRECISIONS = {"": "fp16", "default": "fp16", "fp16-fp32acc": "fp16 with fp32 sums"}


@dataclass(frozen=True)
class Finding:
    """What one run, or one job without one, says of a cell. `word` is its answer, `ratio` the worst output's error over
    what the arithmetic explains, `notes` what is to be known besides."""

    state: State
    word: str
    command: str
    ratio: float | None = None
    notes: tuple[str, ...] = ()
    found: Found | None = None
    repetition: int = 0


@dataclass(frozen=True)
class CellKey:
    """What tells the lines of a cell apart: the runtime's release, empty where it is not known, and how it ran."""

    runtime: str
    how: LaneKey


@dataclass(frozen=True)
class Line:
    """One line of a cell: the worst finding, how many there are, and the latency of the newest benchmark. `slow` says
    why that does not count, where it does not. `read` is the newest run of which the ops were read."""

    key: CellKey
    device: str
    gpu: str
    finding: Finding
    runs: int
    p50_ms: float | None
    slow: str
    read: Found | None

    @property
    def tone(self) -> Tone:
        """Its colour."""
        return TONES[self.finding.state]

    @property
    def mark(self) -> str:
        """Its shape, besides the colour."""
        return MARKS[self.finding.state]

    @property
    def figure(self) -> str:
        """The error over what is explained; nothing where it was not judged."""
        finding = self.finding
        return times(finding.ratio) if finding.ratio is not None and finding.state not in ("trouble", "waiting") else ""

    @property
    def report(self) -> Path | None:
        """The page of the run that the line rests on."""
        found = self.finding.found
        return found.folder / "report.html" if found and found.facts.report else None

    def to_json(self) -> dict[str, Any]:
        """Its fields."""
        found = self.finding.found
        return {
            "device": self.device,
            "gpu": self.gpu,
            "runtime": self.key.runtime,
            "how": self.key.how.label,
            "state": self.finding.state,
            "word": self.finding.word,
            "ratio": self.finding.ratio,
            "notes": list(self.finding.notes),
            "runs": self.runs,
            "p50_ms": self.p50_ms,
            "invalid": self.slow,
            "run": str(found.folder) if found else None,
        }


def lines_of(collected: Collected) -> dict[tuple[str, str], dict[str, list[Line]]]:
    """The lines of every cell: by model (name, SHA-256), then by device."""
    known: dict[str, set[str]] = defaultdict(set)
    for found in collected.runs:
        if found.facts.runtime:
            known[found.facts.device].add(found.facts.runtime)
    findings: dict[tuple[tuple[str, str], str, CellKey], list[Finding]] = defaultdict(list)
    runs: dict[tuple[tuple[str, str], str, CellKey], list[Found]] = defaultdict(list)
    for found in collected.runs:
        facts = found.facts
        runtime = facts.runtime or _runtime(facts.device, known)
        place = ((facts.model, facts.sha256), facts.device or "unknown device", CellKey(runtime, lane_key(facts)))
        runs[place].append(found)
        findings[place].append(finding_of(found))
    models = {name: (name, sha) for name, sha in sorted({place[0] for place in runs})}
    for job in collected.jobs:
        how = LaneKey("gpu", _PRECISIONS.get(job.precision, job.precision)[:40])
        runtime = job.runtime or _runtime(job.device, known)
        findings[models.get(job.model, (job.model, "")), job.device, CellKey(runtime, how)].append(_unrun(job))
    cells: dict[tuple[str, str], dict[str, list[Line]]] = defaultdict(lambda: defaultdict(list))
    for (model, device, key), found_here in findings.items():
        cells[model][device].append(_line(device, key, found_here, runs[model, device, key]))
    for devices in cells.values():
        for lines in devices.values():
            lines.sort(key=lambda line: (line.key.how.order, line.key.runtime))
    return cells


def finding_of(found: Found) -> Finding:
    """What a run says."""
    facts = found.facts
    made = Finding("unjudged", "not judged", facts.command, facts.ratio, (), found, found.repetition)
    if facts.state in ("running", "interrupted"):
        return replace(made, state="unfinished", word=facts.state, ratio=None)
    if facts.state == "failed":
        return _failed(made, found)
    if facts.judgement == "nothing":
        return replace(made, ratio=None)
    lost = _lost(facts)
    partial = _partial(found)
    if facts.judgement == "fail":
        notes = tuple(filter(None, (_culprits(found), lost, partial)))
        if found.by_precision and not lost:
            return replace(made, state="precision", word="precision", notes=notes)
        return replace(made, state="fail", word="fail", notes=notes)
    notes = tuple(filter(None, (lost, partial, _untold(found))))
    if lost:
        return replace(made, state="unclear", word="NaN", notes=notes)
    if partial:
        return replace(made, state="partial", word="right in part", notes=notes)
    if notes:
        return replace(made, state="unclear", word="right, but where?", notes=notes)
    return replace(made, state="pass", word="pass")


def _failed(made: Finding, found: Found) -> Finding:
    why = (found.facts.error,) if found.facts.error else ()
    if found.code == EXIT_UNRESOLVED:
        return replace(made, state="unclear", word="unresolved", ratio=None, notes=why)
    word = "device trouble" if found.code == EXIT_DEVICE else "failed"
    return replace(made, state="trouble", word=word, ratio=None, notes=why)


def _lost(facts: RunFacts) -> str:
    """What is not finite, in a clause."""
    if facts.nonfinite:
        return f"{counted(facts.nonfinite, 'value')} NaN or infinite"
    if any(value is not None and math.isnan(value) for value in (facts.ratio, facts.cosine, facts.max_abs)):
        return "the error is NaN"
    return ""


def _partial(found: Found) -> str:
    """How much of the model the accelerator did not take, in a clause; empty where it took all, and where that is not
    known."""
    facts = found.facts
    if facts.accelerator in ("cpu", "reference"):
        return ""
    if facts.delegated is not None and facts.nodes is not None:
        if facts.delegated == facts.nodes and found.whole is not False:
            return ""
        return f"{facts.delegated} of {facts.nodes} nodes on the {facts.accelerator.upper()}"
    return f"not all on the {facts.accelerator.upper()}" if found.whole is False else ""


def _untold(found: Found) -> str:
    """That nobody knows what the accelerator took, in a clause."""
    facts = found.facts
    known = found.whole is not None or (facts.delegated is not None and facts.nodes is not None)
    return (
        ""
        if known or facts.accelerator in ("cpu", "reference")
        else f"not known what the {facts.accelerator.upper()} took"
    )


def _culprits(found: Found) -> str:
    """The ops that are wrong, with their causes where they are known."""
    named = found.facts.culprits or tuple(f"{row.op} #{row.number}" for row in found.ops if row.verdict == "culprit")
    if not named and found.facts.answer == "unresolved":
        return "no op could be named"
    more = f" and {len(named) - _MOST_NAMED} more" if len(named) > _MOST_NAMED else ""
    return ", ".join(named[:_MOST_NAMED]) + more


def _unrun(job: Job) -> Finding:
    """What a job says that left no run: it was skipped because it means nothing, or it should have run."""
    why = (job.reason,) if job.reason else ()
    if job.state == SKIPPED:
        return Finding("skipped", job.state, job.command, notes=why, repetition=job.repetition)
    if job.code == EXIT_DEVICE:
        return Finding("trouble", "device trouble", job.command, notes=why, repetition=job.repetition)
    return Finding("waiting", job.state or "not run", job.command, notes=why, repetition=job.repetition)


def _line(device: str, key: CellKey, findings: Sequence[Finding], runs: Sequence[Found]) -> Line:
    """Both newest first."""
    counted_here = _newest(findings)
    # Of two that say the same, the one that has a page of its own.
    worst = min(counted_here, key=lambda each: (STATES.index(each.state), each.command == "bench"))
    notes = worst.notes
    alike = [each for each in counted_here if each.command == worst.command]
    same = sum(each.state == worst.state for each in alike)
    if len(alike) > same:
        notes = (f"in {same} of {len(alike)} runs", *notes)
    others = [each for each in counted_here if each.command != worst.command and each.state != "unjudged"]
    if worst.state in ("unfinished", "trouble", "waiting"):
        notes += tuple(f"{each.command}: {each.word}" for each in others if each.state == "pass")
    bench = next((found.facts for found in runs if found.facts.benchmark and found.facts.p50_ms is not None), None)
    slow = bench.invalid[0] if bench is not None and bench.invalid else ""
    gpu = next((found.facts.gpu for found in runs if found.facts.gpu), "")
    read = next((found for found in runs if found.ops and found.facts.state == "done"), None)
    p50 = bench.p50_ms if bench is not None else None
    return Line(key, device, gpu, replace(worst, notes=notes), len(findings), p50, slow, read)


def _newest(findings: Iterable[Finding]) -> list[Finding]:
    """The newest of each command, of a farm's repetitions each; a job that left no run is not outweighed by one of
    another night."""
    found: dict[tuple[str, int, bool], Finding] = {}
    for each in findings:
        found.setdefault((each.command, each.repetition, each.found is None), each)
    return list(found.values())


def _runtime(device: str, known: dict[str, set[str]]) -> str:
    """The release that a device without an answer has: as its name tells, or the only one that its other runs have."""
    if family(device) != device:
        return device.partition("@")[2][:40]
    return next(iter(known[device])) if len(known[device]) == 1 else ""
