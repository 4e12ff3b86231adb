"""One run as plain facts: run.json, read once and checked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from harness.core.arrays import OpIndex
from harness.core.choices import Accelerator, Precision
from harness.core.errors import UsageError
from harness.core.fields import Fields
from harness.core.job import Options
from harness.numerics.metrics import titled

State = Literal["running", "done", "failed", "interrupted"]
Answer = Literal["", "pass", "fail", "culprits", "unresolved"]


# The folder of a reproducer is named after its op.
_REPRODUCER = re.compile(r"(?:^|/)(\d{1,9})-[^/]*$")


@dataclass(frozen=True)
class Figures:
    """How far one output is from its exact values. What was not measured is None."""

    name: str
    ok: bool | None
    cosine: float | None
    max_abs: float | None
    expected_max_abs: float | None
    ratio: float | None
    relative_rms: float | None
    snr_db: float | None
    iou: float | None
    nonfinite: int | None
    reference_range: tuple[float, ...]
    device_range: tuple[float, ...]
    worst: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: str
    held: bool | None
    """Injected errors: into an ideal device, not into the exact model."""
    verdict: str = ""
    limit: float | None = None
    """What `ratio` may come to."""
    further: tuple[float | None, ...] = ()
    """The metrics of `titled`, in their order."""
    useless: tuple[str, ...] = ()
    """Why it is of no use although rounding explains its error, a clause each."""


@dataclass(frozen=True)
class RemedyFacts:
    """A fix that was tried on the whole model."""

    name: str
    cosine: float | None
    max_abs: float | None
    ratio: float | None
    iou: float | None
    run_ms: float | None
    ok: bool | None
    path: str
    note: str


@dataclass(frozen=True)
class TrialFacts:
    """An experiment on a culprit: what was asked, how it ended, error over expected error."""

    what: str
    ending: str
    ratio: float | None


@dataclass(frozen=True)
class CulpritFacts:
    """An op, or a run of ops, that its own arithmetic does not excuse."""

    first: OpIndex
    last: OpIndex
    op: str
    output: str
    cause: str
    signature: str
    local_error: float | None
    expected_error: float | None
    ratio: float | None
    nonfinite: int
    shape: tuple[int, ...]
    certified: bool
    isolated: bool
    note: str
    reproducer: str
    impact: tuple[Figures, ...]
    remedies: tuple[RemedyFacts, ...]
    trials: tuple[TrialFacts, ...]
    known: str = ""
    """What the catalogue says of it."""

    @property
    def number(self) -> str:
        """`#49`, or `#3–5` for a run of ops."""
        return f"#{self.last}" if self.first == self.last else f"#{self.first}–{self.last}"

    @property
    def stand_in(self) -> str:
        """`#49` where experiments were made with another op of its kind, the worst one; else empty."""
        found = _REPRODUCER.search(self.reproducer)
        return f"#{int(found[1])}" if found and not self.first <= int(found[1]) <= self.last else ""

    @property
    def kind(self) -> str:
        """The op's kind; of a run of ops, that it is one: no single op of it is named."""
        return self.op if self.first == self.last else f"{self.last - self.first + 1} ops"


@dataclass(frozen=True)
class ReleaseFacts:
    """A release of the runtime that was tested: `right`, `wrong` or another word, why it was not judged, and of the
    output that is furthest off, what it is called and how far."""

    release: str
    state: str
    why: str
    output: str
    ratio: float | None
    cosine: float | None
    page: str
    """Its report, from the run folder on; empty where it has no run."""


@dataclass(frozen=True)
class ResidencyFacts:
    """Where the nodes ran; `full` is None when nothing was said about it."""

    full: bool | None
    delegated: int | None
    total: int | None
    partitions: int | None


@dataclass(frozen=True)
class Run:
    """Everything run.json says that the page shows."""

    command: str
    state: State
    started: str
    seconds: float | None
    error: str
    provenance: str
    model_path: str
    model_sha256: str
    model_ops: int | None
    device: str
    kind: str
    runtime: str
    gpu: str
    accelerator: str
    precision: str
    inputs: str
    signature: str
    timeout: float | None
    answer: Answer
    certified: bool
    compiles: int | None
    runs: int | None
    compile_ms: float | None
    outputs: tuple[Figures, ...]
    culprits: tuple[CulpritFacts, ...]
    explained: tuple[Figures, ...]
    residency: ResidencyFacts
    notes: tuple[str, ...]
    scene: Fields | None
    explained_in: int | None
    untouched_ms: float | None
    shapes: tuple[str, ...] = ()
    fallback: str = "none"
    runs_asked: int | None = None
    limits: tuple[tuple[str, float], ...] = ()
    releases: tuple[ReleaseFacts, ...] = ()
    changed: tuple[str, ...] = ()
    """Releases from which on a model is right, or wrong, where it was not before."""

    @property
    def by_precision(self) -> bool:
        """Whether rounding explains every output, and some are of no use."""
        failed = [output for output in self.outputs if output.ok is False]
        return bool(failed) and all(output.verdict == "precision" for output in failed)

    @property
    def remedies(self) -> tuple[RemedyFacts, ...]:
        """What was tried for all culprits at once: the remedies that each of them has."""
        first = self.culprits[0].remedies if self.culprits else ()
        return first if all(culprit.remedies == first for culprit in self.culprits) else ()

    @property
    def half(self) -> bool:
        """Whether the device stores values as float16 under the run's options."""
        return Options(cast(Accelerator, self.accelerator), cast(Precision, self.precision)).half

    @property
    def model_name(self) -> str:
        """The last part of the model's path."""
        return self.model_path.replace("\\", "/").rstrip("/").rpartition("/")[2] or "unknown model"


BENCHMARKS = ("bench", "bench --sustained")
"""Commands whose runs have no ops, and pages of their own."""


def parse_run(record: Mapping[str, Any]) -> Run:
    """Read what `run_folder.read_run` returned. Raises UsageError when a field is of an undocumented type."""
    top = Fields(record)
    result, options = top.child("result"), top.child("options")
    model = result.child("model") if result.values.get("model") else top.child("model")
    device = result.child("device") if result.values.get("device") else top.child("device")
    residency = result.child("residency")
    # An interrupted localization has judged the outputs already and says so at the top level.
    outputs = result.children("outputs") or top.children("outputs")
    return Run(
        command=top.text("command"),
        state=state_of(record),
        started=top.text("started"),
        seconds=top.number("seconds"),
        error=top.text("error"),
        provenance=top.text("provenance"),
        model_path=model.text("path"),
        model_sha256=model.text("sha256"),
        model_ops=model.count("ops"),
        device=device.text("name"),
        kind=device.text("kind"),
        runtime=device.text("runtime"),
        gpu=device.text("gpu"),
        accelerator=options.text("accelerator") or "gpu",
        precision=options.text("precision") or "default",
        inputs=options.text("inputs"),
        signature=options.text("signature"),
        timeout=options.number("timeout_s"),
        answer=_choice(result, "status", Answer),
        certified=result.flag("certified") or False,
        compiles=result.count("device_compiles"),
        runs=result.count("device_runs"),
        compile_ms=result.number("compile_ms"),
        outputs=tuple(map(figures_of, outputs)),
        culprits=tuple(map(_culprit, result.children("culprits"))),
        explained=tuple(figures_of(each, "output") for each in result.children("explained")),
        residency=ResidencyFacts(
            residency.flag("full"),
            residency.count("delegated"),
            residency.count("total"),
            residency.count("partitions"),
        ),
        notes=result.texts("notes"),
        scene=top.child("scene") if top.values.get("scene") else None,
        explained_in=result.child("explanation").count("device_compiles"),
        untouched_ms=result.child("explanation").number("run_ms"),
        shapes=tuple(f"{name}={_sizes(options.child('shapes'), name)}" for name in options.child("shapes").values),
        fallback=options.text("fallback") or "none",
        runs_asked=options.count("runs"),
        limits=tuple(_limits(options.child("limits"))),
        releases=tuple(map(_release, result.children("releases") or top.children("releases"))),
        changed=tuple(change.text("first") for change in result.children("changes")),
    )


def state_of(record: Mapping[str, Any]) -> State:
    """How a run stands, by its run.json. Raises UsageError."""
    state: State = _choice(Fields(record), "status", State)
    return state


def _release(fields: Fields) -> ReleaseFacts:
    outputs = [figures_of(each) for each in fields.children("outputs")]
    worst = max(outputs, key=lambda o: (o.ok is False, o.ratio or 0.0), default=None)
    return ReleaseFacts(
        release=fields.text("release"),
        state=fields.text("state"),
        why=fields.text("why"),
        output=worst.name if worst else "",
        ratio=worst.ratio if worst else None,
        cosine=worst.cosine if worst else None,
        page=f"{run}/report.html" if (run := _inside(fields.text("run"), "releases/")) else "",
    )


def _limits(limits: Fields) -> Iterator[tuple[str, float]]:
    for name in ("min_cosine", "atol", "rtol", "min_iou"):
        if (value := limits.number(name)) is not None:
            yield name, value


def _sizes(shapes: Fields, name: str) -> str:
    return ",".join(f"{size:.0f}" for size in shapes.numbers(name))


def _choice(fields: Fields, key: str, kind: Any) -> Any:
    value, known = fields.text(key), kind.__args__
    if value not in known:
        raise UsageError(f"{fields.where}: {key} is {value[:40]!r}, not one of {', '.join(filter(None, known))}.")
    return value


def figures_of(fields: Fields, name: str = "name") -> Figures:
    """One output's figures. Raises UsageError."""
    return Figures(
        name=fields.text(name),
        ok=fields.flag("ok"),
        cosine=fields.number("cosine"),
        max_abs=fields.number("max_abs"),
        expected_max_abs=fields.number("expected_max_abs"),
        ratio=fields.number("ratio"),
        further=tuple(fields.number(name) for name in titled()),
        relative_rms=fields.number("relative_rms"),
        snr_db=fields.number("snr_db"),
        iou=fields.number("iou"),
        nonfinite=fields.count("nonfinite"),
        reference_range=fields.numbers("reference_range"),
        device_range=fields.numbers("device_range") or fields.numbers("range"),
        worst=_whole(fields, "worst"),
        shape=_whole(fields, "shape"),
        dtype=fields.text("dtype"),
        held=fields.flag("held"),
        verdict=fields.text("verdict"),
        limit=fields.number("limit"),
        useless=tuple(each.text("words") for each in fields.children("shortfalls")),
    )


def _culprit(fields: Fields) -> CulpritFacts:
    ops = _whole(fields, "ops")
    if len(ops) != 2:
        raise UsageError(f"{fields.where}: ops is {list(ops)}, not the first and the last op.")
    return CulpritFacts(
        first=ops[0],
        last=ops[1],
        op=fields.text("op"),
        output=fields.text("output"),
        cause=fields.text("cause"),
        signature=fields.text("signature"),
        local_error=fields.number("local_error"),
        expected_error=fields.number("expected_error"),
        ratio=fields.number("ratio"),
        nonfinite=fields.count("nonfinite") or 0,
        shape=_whole(fields, "shape"),
        certified=fields.flag("certified") or False,
        isolated=fields.flag("isolated") or False,
        note=fields.text("note"),
        reproducer=_inside(fields.text("reproducer")),
        impact=tuple(figures_of(each, "output") for each in fields.children("impact")),
        remedies=tuple(
            RemedyFacts(
                name=r.text("name"),
                cosine=r.number("cosine"),
                max_abs=r.number("max_abs"),
                ratio=r.number("ratio"),
                iou=r.number("iou"),
                run_ms=r.number("run_ms"),
                ok=r.flag("ok"),
                path=_inside(r.text("path")),
                note=r.text("note"),
            )
            for r in fields.children("remedies")
        ),
        trials=tuple(
            TrialFacts(t.text("what"), t.text("ending"), t.number("ratio")) for t in fields.children("trials")
        ),
        known=_known(fields.child("known")),
    )


def _known(fields: Fields) -> str:
    """What the catalogue said, and what helps; empty where a run is from before it."""
    return " ".join(filter(None, (fields.text("sentence"), fields.text("helps"))))


def _inside(path: str, *folders: str) -> str:
    """A path of a run folder, from that folder on: the page lies there too."""
    for folder in folders or ("reproducers/", "remedies/"):
        before, found, rest = path.rpartition(f"/{folder}")
        if found and before:
            return folder + rest
    return path


def _whole(fields: Fields, key: str) -> tuple[int, ...]:
    values = fields.numbers(key)
    if any(value % 1 for value in values):  # NaN and infinity have no remainder of 0 either
        raise UsageError(f"{fields.where}: {key} is {list(values)}, not whole numbers.")
    return tuple(int(value) for value in values)
