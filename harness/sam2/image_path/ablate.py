"""Every way of writing the decoder, on one device and one tap: its cost, its error, and the ops to blame."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from harness.core.errors import UsageError
from harness.core.job import Completed, Residency
from harness.core.progress import SILENT, Progress
from harness.devices.execute import make_job
from harness.devices.registry import check_device, open_device
from harness.localize.base.case import Case
from harness.localize.base.comparison import Workbench, compare_model
from harness.localize.base.op_record import OpRecord
from harness.localize.base.reference import output_label
from harness.localize.base.result import Culprit, residency_json
from harness.localize.find.localizer import localize
from harness.localize.probe.local_error import LocalError, plan
from harness.localize.probe.taps import TAP_BUDGET, choose, outputs_under_taps, read_copies
from harness.report.page import write_report
from harness.sam2.image_path.accuracy import SceneAccuracy, bench, decoder_case, scene_accuracy, scene_features
from harness.sam2.image_path.convert import make_missing
from harness.sam2.image_path.pipeline import Models, millis
from harness.sam2.image_path.scenes import Scene, portrait
from harness.sam2.shared.contract import CARD, VARIANTS, DecoderVariant, WeightKind

ROUNDS = 2
"""Rounds of timing; every round times every variant, so that a busy minute does not fall on one alone."""
RUNS = 2
"""Timed runs in each round, after one untimed."""


@dataclass(frozen=True)
class Ablated:
    """One variant on the device."""

    variant: DecoderVariant
    ops: int
    accuracy: SceneAccuracy
    residency: Residency
    status: str
    """`pass`, `culprits` or `unresolved`, as `localize` has it."""
    certified: bool
    culprits: tuple[Culprit, ...]
    worst_ratio: float
    """The largest local error of any op over what its arithmetic explains; NaN when no op could be judged."""
    worst_op: str
    run: Path
    """The run folder, with report and ops.csv."""
    millis: float = math.nan
    """Writing, running and reading, warm: the fastest."""

    def to_json(self, card_millis: float) -> dict[str, Any]:
        """One entry of the ablation."""
        return {
            "variant": asdict(self.variant),
            "ops": self.ops,
            "residency": residency_json(self.residency),
            **{k: v for k, v in self.accuracy.to_json().items() if k not in ("scene", "fully_delegated")},
            "status": self.status,
            "certified": self.certified,
            "culprits": [culprit.to_json() for culprit in self.culprits],
            "worst_local_ratio": self.worst_ratio,
            "worst_op": self.worst_op,
            "ms": self.millis,
            "ms_over_card": self.millis / card_millis,
            "run": str(self.run),
        }


@dataclass(frozen=True)
class Ablation:
    """All variants, in the order they were asked for."""

    rows: tuple[Ablated, ...]
    scene: str
    device: dict[str, str]
    provenance: str
    is_random: bool

    @property
    def card_millis(self) -> float:
        """The time that the others are compared with: the card's variant's, or the first one's without it."""
        return next((row.millis for row in self.rows if row.variant == CARD), self.rows[0].millis)

    def to_json(self) -> dict[str, Any]:
        """Schema 1."""
        return {
            "schema": 1,
            "scene": self.scene,
            "device": self.device,
            "weights": self.provenance,
            "random_weights": self.is_random,
            "variants": [row.to_json(self.card_millis) for row in self.rows],
        }


def ablate(
    device: str = "host",
    *,
    cache_dir: Path,
    out: Path,
    source: str | None = None,
    seed: int = 0,
    weights: WeightKind = "float32",
    variants: Sequence[DecoderVariant] = VARIANTS,
    scene: Scene | None = None,
    timeout: float = 600.0,
    progress: Progress = SILENT,
) -> Ablation:
    """Compare and localize every variant on the GPU of `device`, then time them in turns.

    `scene` is the sample portrait, tapped on the face, unless given; its features come from the encoder on the host's
    CPU. Each variant leaves a run folder under `out`. A software GPU on two cores takes one to two minutes for each.
    Raises `UsageError` for unusable weights or no variants, `DeviceError` when the device does not complete.
    """
    if not variants:
        raise UsageError("There is no variant to run.", "Name at least one.")
    check_device(device, lambda what: progress.stage(what, 20.0))
    chosen = portrait() if scene is None else scene
    every = [Models.of(cache_dir, source, seed, variant, weights) for variant in variants]
    features = scene_features(every[0], chosen, timeout, progress)
    rows: list[Ablated] = []
    cases: list[Case] = []
    facts: dict[str, str] = {}
    for models in every:
        make_missing([models.decoder(chosen.tap.tokens)], lambda what: progress.stage(what, 20.0))
        case = decoder_case(models, chosen, features, timeout)
        with bench(device, "sam2 ablate", progress, out) as at:
            row, facts = _examine(at, case, models, chosen)
        rows.append(row)
        cases.append(case)
    times = _times(device, cases, progress)
    rows = [replace(row, millis=time) for row, time in zip(rows, times, strict=True)]
    settled = every[0].source
    return Ablation(tuple(rows), chosen.name, facts, settled.provenance, settled.is_random)


def _examine(at: Workbench, case: Case, models: Models, scene: Scene) -> tuple[Ablated, dict[str, str]]:
    variant = models.variant
    at.run.save(
        model={"path": str(case.model.path or ""), "sha256": case.model.sha256, "ops": len(case.graph.ops)},
        options={"accelerator": "gpu", "precision": "default", "inputs": scene.name, "variant": str(variant)},
        provenance=models.source.provenance,
    )
    answer = localize(at, case)
    found = scene_accuracy(scene.name, answer.outputs, answer.residency, at.run)
    records: Sequence[OpRecord] = answer.records
    if answer.status == "pass":
        # `localize` stops where nothing is wrong; the worst op is wanted all the same.
        records = _every_op(at, case)
    judged = [record for record in records if record.local is not None]
    worst = max(judged, key=lambda record: record.local.ratio if record.local else 0.0, default=None)
    at.run.save(status="done", device=answer.device, seconds=answer.seconds, result=answer.to_json())
    write_report(at.run.path)
    row = Ablated(
        variant,
        len(case.graph.ops),
        found,
        answer.residency,
        answer.status,
        answer.certified,
        answer.culprits,
        worst.local.ratio if worst and worst.local else math.nan,
        f"{worst.op} #{worst.index}" if worst else "",
        at.run.path,
    )
    return row, dict(answer.device)


def _every_op(at: Workbench, case: Case) -> list[OpRecord]:
    """Each op's local error, as `localize` would have it for a model that is wrong."""
    tensors = at.run.tensors
    found = compare_model(at, case, keep=True)
    taps = choose(case.graph, TAP_BUDGET)
    at.progress.stage(f"{len(taps)} tensors read on {at.device.name}", 60.0)
    tapped = read_copies(at.device, case, tensors, taps, budget=TAP_BUDGET, advance=at.progress.fraction)
    at.device.stop()
    read = frozenset(tapped.read)
    at.progress.stage("each op re-run on the device's own inputs", 30.0)
    own, _ = outputs_under_taps(at, case, found, tapped)
    local = LocalError(at.host, case, tensors, found.beyond, own)
    records = list(local.judge(plan(case.graph, read), at.progress.fraction))
    tensors.keep_only([output_label(port.name) for port in case.graph.outputs])
    at.run.replace_rows("ops.csv", OpRecord.HEADER, [record.row() for record in records])
    return records


def _times(device: str, cases: Sequence[Case], progress: Progress) -> list[float]:
    """Milliseconds of each case's fastest warm run, the cases timed in turns; NaN for one that does not complete, which
    is no reason to lose what the others were found to be."""
    best = [math.inf] * len(cases)
    with open_device(device) as opened:
        for number in range(ROUNDS):
            for index, case in enumerate(cases):
                progress.stage(f"timing, round {number + 1} of {ROUNDS}", 10.0)
                job = make_job(case.model, case.inputs, case.options, timeout=case.timeout, warmup=1, iterations=RUNS)
                outcome = opened.run(job)
                best[index] = min(best[index], millis(outcome)) if isinstance(outcome, Completed) else math.nan
    return best
