"""What a localization finds: plain facts, and their JSON (schema 1)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from harness.graph.grid import Grid
from harness.job import Residency
from harness.localize.steps import in_steps
from harness.numerics.usefulness import Shortfall
from harness.numerics.verdict import Judgement
from harness.visible import visible

Verdict = Literal["pass", "wrong", "precision"]
Status = Literal["pass", "culprits", "unresolved"]
OpVerdict = Literal["fine", "inherited", "culprit", "unread"]


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
        return self.judgement.ok and actual.odd == 0 and actual.finite > 0

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
            "cosine": actual.cosine,
            "max_abs": actual.max_abs,
            "expected_max_abs": expected.max_abs,
            "nonfinite": actual.nonfinite,
            "ok": self.ok,
            "verdict": self.verdict,
            "shortfalls": [shortfall.to_json() for shortfall in self.shortfalls],
            "reference_nonfinite": actual.reference_nonfinite,
            "ratio": self.judgement.ratio,
            "limit": self.judgement.limit,
            "mean_abs": actual.mean_abs,
            "relative_rms": actual.relative_rms,
            "snr_db": actual.snr_db,
            "reference_range": actual.reference_range,
            "device_range": actual.range,
            "worst": actual.worst,
            "iou": self.iou,
            "step": self.judgement.step,
            **seldom,
        }


@dataclass(frozen=True)
class OpRecord:
    """One tensor made by an op, judged. `local` compares the device's value with the op re-run on the device's own
    inputs; `reference_…` with the host's run of the whole model. Figures of a quantized tensor, which is on a `grid`,
    are of the real numbers that its integers stand for."""

    index: int
    op: str
    first: int
    output: str
    tensor: int
    shape: tuple[int, ...]
    dtype: str
    verdict: OpVerdict
    local: Judgement | None = None
    reference_max_abs: float = 0.0
    reference_cosine: float = 1.0
    reading: Literal["copy", "output", "window"] = "copy"
    grid: Grid | None = None

    HEADER = (
        "index", "first", "op", "output", "shape", "dtype", "verdict", "reading", "local_max_abs", "local_rms",
        "expected_max_abs", "expected_rms", "ratio", "nonfinite", "cosine_vs_reference", "max_abs_vs_reference",
        "device_min", "device_max",
    )  # fmt: skip
    """Columns of ops.csv. Ops `first` to `index` were judged together where they differ. Errors are in tensor units;
    `ratio` is local error over expected error; `nonfinite` counts elements; the two `_vs_reference` columns compare
    with the host's run of the whole model."""

    @property
    def title(self) -> str:
        """The op; of a run of ops how many they are, for which of them is wrong is not known."""
        return self.op if self.first == self.index else f"{self.index - self.first + 1} ops"

    @property
    def number(self) -> str:
        """`#49`, or `#3-5` for a run of ops."""
        return f"#{self.index}" if self.first == self.index else f"#{self.first}-{self.index}"

    def row(self) -> tuple[Any, ...]:
        """The line of ops.csv."""
        head = (
            self.index,
            self.first,
            self.op,
            self.output,
            "x".join(map(str, self.shape)),
            self.dtype,
            self.verdict,
        )
        if self.local is None:
            return (*head, self.reading, *[""] * 6, self.reference_cosine, self.reference_max_abs, "", "")
        actual, expected = self.local.actual, self.local.expected
        figures = (
            actual.max_abs,
            actual.rms,
            expected.max_abs,
            expected.rms,
            self.local.ratio,
            actual.nonfinite,
        )
        return (*head, self.reading, *figures, self.reference_cosine, self.reference_max_abs, *actual.range)


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
    runs of what was cut out differ, in how many of how many it was wrong."""

    record: OpRecord
    cause: str
    signature: str | None
    certified: bool
    isolated: bool = False
    note: str = ""
    impact: tuple[Impact, ...] = ()
    trials: tuple[Trial, ...] = ()
    reproducer: str | None = None
    remedies: tuple[Remedy, ...] = ()
    window: tuple[int, ...] = ()
    runs: tuple[int, int] | None = None

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

    @property
    def by_precision(self) -> bool:
        """Whether it fails by precision: rounding explains every output, and some are of no use."""
        verdicts = {output.verdict for output in self.outputs}
        return "precision" in verdicts and "wrong" not in verdicts

    def __repr__(self) -> str:
        named = ", ".join(f"{c.record.title} {c.record.number} ({c.cause})" for c in self.culprits)
        return visible(f"<Localization: {self.status}{': ' + named if named else ''}>")

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
