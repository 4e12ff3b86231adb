"""What a localization finds: plain facts, and their JSON (schema 1)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from harness.core.arrays import OpIndex
from harness.core.job import Residency
from harness.core.visible import html_table, visible
from harness.lint.knowledge.lookup import Known
from harness.localize.base.op_record import OpRecord, in_steps
from harness.numerics.metrics import figures
from harness.numerics.tolerance import Judgement
from harness.numerics.usefulness import Shortfall
from harness.remedies.cause import Cause

Verdict = Literal["pass", "wrong", "precision"]
VERDICT_WORDS = {"pass": "pass", "wrong": "fail", "precision": "fail by precision"}
"""What a person is told of an output, in the terminal and on the page."""
Status = Literal["pass", "culprits", "unresolved"]

MOST_NAMED = 5
"""Culprits that a short form names."""


@dataclass(frozen=True)
class ModelFacts:
    """The model under test."""

    path: str
    sha256: str
    ops: int


@dataclass(frozen=True)
class OutputVerdict:
    """One of the model's own outputs on the device, against the host's reference. `iou` is that of the masks
    `values > 0`; `runs`, where more than two were asked, in how many of how many runs it was wrong; `shortfalls` is
    what makes it useless, however well rounding explains it; `rows`, of a list that is judged row by row, how many
    stand elsewhere than in the reference, and how many are not in that."""

    name: str
    judgement: Judgement
    iou: float
    integer: bool = False
    runs: tuple[int, int] | None = None
    shortfalls: tuple[Shortfall, ...] = ()
    rows: tuple[int, int] | None = None

    @property
    def explained(self) -> bool:
        """Right as far as the arithmetic allows; finite somewhere, and not finite where the reference is not either."""
        actual = self.judgement.actual
        return self.judgement.ok and actual.nonfinite_mismatch == 0 and actual.finite > 0

    @property
    def verdict(self) -> Verdict:
        """`wrong`: more than rounding explains. `precision`: rounding explains it, and it is of no use. Else `pass`."""
        if not self.explained:
            return "wrong"
        return "precision" if self.shortfalls else "pass"

    @property
    def ok(self) -> bool:
        """Whether it passes."""
        return self.verdict == "pass"

    def to_json(self) -> dict[str, Any]:
        """The contract's fields, and a few more."""
        actual, expected = self.judgement.actual, self.judgement.expected
        seldom: dict[str, Any] = {} if self.runs is None else {"runs": {"wrong": self.runs[0], "of": self.runs[1]}}
        if self.rows is not None:
            seldom["rows"] = {"moved": self.rows[0], "new": self.rows[1]}
        return {
            "name": self.name,
            **figures(actual),
            "expected_max_abs": expected.max_abs,
            "ok": self.ok,
            "verdict": self.verdict,
            "shortfalls": [shortfall.to_json() for shortfall in self.shortfalls],
            "reference_nonfinite": actual.reference_nonfinite,
            "ratio": self.judgement.ratio,
            "limit": self.judgement.limit,
            "reference_range": actual.reference_range,
            "device_range": actual.range,
            "worst": actual.worst,
            "iou": self.iou,
            "step": self.judgement.step,
            **seldom,
        }


@dataclass(frozen=True)
class Impact:
    """What local errors, injected into the exact model, do to one of its outputs. `unexplained` is the share of the
    device's error there that they leave over, by RMS; `left` that RMS itself. `held`: injected into an ideal device
    instead, whose range alone lets them do harm. `useless`: rounding explains what it comes to, and it is of no use."""

    output: str
    judgement: Judgement
    iou: float
    unexplained: float = 0.0
    left: float = 0.0
    held: bool = False
    useless: bool = False

    @property
    def into(self) -> str:
        """What the errors were injected into, in words."""
        return "an ideal device" if self.held else "the exact model"

    def to_json(self) -> dict[str, Any]:
        """Its figures."""
        actual = self.judgement.actual
        return {
            "output": self.output,
            "cosine": actual.cosine,
            "max_abs": actual.max_abs,
            "relative_rms": actual.relative_rms,
            "nonfinite": actual.nonfinite,
            "iou": self.iou,
            "ok": self.judgement.ok and not self.useless,
            "unexplained": self.unexplained,
            "held": self.held,
        }


@dataclass(frozen=True)
class Trial:
    """One experiment on a culprit: what was asked, how it ended, error over expected error (0 if it did not run)."""

    what: str
    ending: str
    ratio: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Its fields."""
        return {"what": self.what, "ending": self.ending, "ratio": self.ratio}


@dataclass(frozen=True)
class Remedy:
    """A fix that was tried on the whole model: figures against the host's run of the original, each that of the output
    for which it is worst, median run in ms, and where the model that has it lies. `iou` is that of the masks
    `values > 0`; `declares` says which inputs and outputs have another shape in it."""

    name: str
    cosine: float
    max_abs: float
    ratio: float
    iou: float
    run_ms: float | None
    ok: bool
    path: str | None = None
    note: str = ""
    declares: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The contract's fields, and a few more."""
        return {
            "name": self.name,
            "cosine": self.cosine,
            "max_abs": self.max_abs,
            "run_ms": self.run_ms,
            "ok": self.ok,
            "ratio": self.ratio,
            "iou": self.iou,
            "path": self.path,
            "note": self.note,
            "declares": list(self.declares),
        }


@dataclass(frozen=True)
class Explanation:
    """What explaining the culprits took beside finding them, and the median run of the untouched model in ms."""

    device_compiles: int
    device_runs: int
    seconds: float
    run_ms: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Its fields."""
        return {
            "device_compiles": self.device_compiles,
            "device_runs": self.device_runs,
            "seconds": round(self.seconds, 3),
            "run_ms": self.run_ms,
        }


@dataclass(frozen=True)
class Culprit:
    """An op (or the smallest readable run of ops) whose error its own arithmetic does not explain, or, in a failure by
    precision, where float16 loses what the outputs need. `impact` is what its local error alone does to the outputs;
    `window` has the ops between which the lost digits would have to be kept, in a failure by precision; `runs`, where
    runs of what was cut out differ, in how many of how many it was wrong; `known` what the catalogue says of it, once
    it was asked."""

    record: OpRecord
    cause: Cause
    signature: str | None
    certified: bool
    isolated: bool = False
    note: str = ""
    impact: tuple[Impact, ...] = ()
    trials: tuple[Trial, ...] = ()
    reproducer: str | None = None
    remedies: tuple[Remedy, ...] = ()
    window: tuple[OpIndex, ...] = ()
    runs: tuple[int, int] | None = None
    known: Known | None = None

    def to_json(self) -> dict[str, Any]:
        """The contract's fields, and a few more."""
        local = self.record.local  # None where the op ended the process
        runs = {} if self.runs is None else {"runs": {"wrong": self.runs[0], "of": self.runs[1]}}
        return {
            "ops": [self.record.first, self.record.index],
            "op": self.record.title,
            "output": self.record.output,
            "cause": self.cause,
            "signature": self.signature,
            "local_error": local.actual.max_abs if local else None,
            "expected_error": local.expected.max_abs if local else None,
            "ratio": local.ratio if local else None,
            "isolated": self.isolated,
            "reproducer": self.reproducer,
            "remedies": [remedy.to_json() for remedy in self.remedies],
            "trials": [trial.to_json() for trial in self.trials],
            "certified": self.certified,
            "nonfinite": local.actual.nonfinite if local else 0,
            "shape": list(self.record.shape),
            "note": self.note,
            "impact": [impact.to_json() for impact in self.impact],
            "window": list(self.window),
            "quantized": in_steps(self.record),
            "known": None if self.known is None else self.known.to_json(),
            **runs,
        }


@dataclass(frozen=True)
class Quarantined:
    """A probe that took the device down twice: the model it ran, the outputs it wanted, and how it failed."""

    model: str
    outputs: tuple[str, ...]
    cause: Literal["crash", "hang"]
    reason: str

    def __str__(self) -> str:
        what = ", ".join(self.outputs[:3]) + (f" and {len(self.outputs) - 3} more" if len(self.outputs) > 3 else "")
        ended = "crashed" if self.cause == "crash" else "hung"
        return f"The probe that reads {what or 'nothing'} {ended} the device twice and is left out: {self.reason}."


@dataclass(frozen=True)
class Probes:
    """Jobs that the search asked of the device, how many of them a journal answered, in how many sessions."""

    asked: int
    recorded: int = 0
    sessions: int = 1
    quarantined: tuple[Quarantined, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Its fields."""
        left_out = [vars(probe) | {"outputs": list(probe.outputs)} for probe in self.quarantined]
        return {"asked": self.asked, "recorded": self.recorded, "sessions": self.sessions, "quarantined": left_out}


@dataclass(frozen=True, repr=False)
class Localization:
    """The answer."""

    model: ModelFacts
    device: dict[str, str]
    status: Status
    certified: bool
    outputs: tuple[OutputVerdict, ...]
    culprits: tuple[Culprit, ...]
    records: tuple[OpRecord, ...]
    residency: Residency
    device_compiles: int
    device_runs: int
    seconds: float
    notes: tuple[str, ...] = field(default=())
    explained: tuple[Impact, ...] = ()
    probes: Probes | None = None
    explanation: Explanation | None = None
    differs: str = ""
    half: bool = True
    folder: Path | None = None

    @property
    def by_precision(self) -> bool:
        """Whether it fails by precision: rounding explains every output, and some are of no use."""
        verdicts = {output.verdict for output in self.outputs}
        return "precision" in verdicts and "wrong" not in verdicts

    def __repr__(self) -> str:
        named = ", ".join(f"{c.record.title} {c.record.number} ({c.cause})" for c in self.culprits[:MOST_NAMED])
        more = f" and {len(self.culprits) - MOST_NAMED} more" if len(self.culprits) > MOST_NAMED else ""
        return visible(f"<Localization: {self.status}{': ' + named + more if named else ''}{at(self.folder)}>")

    def _repr_html_(self) -> str:
        rows = [
            (f"{c.record.title} {c.record.number}", c.cause, error_words(c.record), "yes" if c.certified else "no")
            for c in self.culprits
        ]
        return html_table(f"{self.status}", ("op", "cause", "error", "certified"), rows, self.notes)

    def to_json(self) -> dict[str, Any]:
        """`localize --json`, schema 1."""
        return {
            "schema": 1,
            "model": {"path": self.model.path, "sha256": self.model.sha256, "ops": self.model.ops},
            "device": self.device,
            "status": self.status,
            "certified": self.certified,
            "device_compiles": self.device_compiles,
            "device_runs": self.device_runs,
            "seconds": round(self.seconds, 3),
            "outputs": [output.to_json() for output in self.outputs],
            "culprits": [culprit.to_json() for culprit in self.culprits],
            "residency": residency_json(self.residency) if self.outputs else None,  # it never ran otherwise
            "notes": list(self.notes),
            "explained": [impact.to_json() for impact in self.explained],
            "probes": None if self.probes is None else self.probes.to_json(),
            "explanation": None if self.explanation is None else self.explanation.to_json(),
        }


def at(folder: Path | None) -> str:
    """Where a run is kept, as the end of a sentence; nothing where it is not."""
    return f" (report: {folder / 'report.html'})" if folder is not None else ""


def error_words(record: OpRecord) -> str:
    """An op's error against its limit in words."""
    if record.local is None:
        return "nothing could be read"
    ratio = f"{record.local.ratio:.3g}x" if math.isfinite(record.local.ratio) else "NaN or infinite, beyond all"
    return f"{ratio} what rounding explains, limit {record.local.limit:g}x"


def residency_json(residency: Residency) -> dict[str, Any]:
    """The contract's residency object; where the CPU may take what the GPU does not, also the ops that it ran."""
    on_cpu = {} if residency.on_cpu is None else {"on_cpu": list(residency.on_cpu)}
    return {
        "delegated": residency.delegated,
        "total": residency.total,
        "partitions": residency.partitions,
        "full": residency.full,
        **on_cpu,
    }
