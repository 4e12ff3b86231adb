"""What float16 does to the tracker over time: each graph in turn on the GPU, the others on the CPU, against all on the
CPU, frame after frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.core.errors import DeviceError
from harness.core.progress import SILENT, Progress
from harness.devices.base import Device
from harness.graph.model import Model
from harness.numerics.metrics import mask_iou
from harness.sam2.shared.image import Photo
from harness.sam2.shared.unit import Unit
from harness.sam2.video.contract import REWRITTEN, Constants, FloatArray, Rewritten
from harness.sam2.video.conversion.convert import VideoModels
from harness.sam2.video.drift.answers import KeptAnswers
from harness.sam2.video.litert_stages import DeviceRunner, LiteRtStages, MixedStages, PointerPositions, Runner
from harness.sam2.video.scenario import Event
from harness.sam2.video.tracker import Tracked, Tracker
from harness.sam2.video.validate import each_frame, follow

LIMIT = 0.99
"""A mask below this IoU has drifted; a sound graph in float16 stays above 0.995 on a single frame."""
SMALLEST = 100
"""Pixels from which on a mask's IoU says something: on what is left of a hidden object a few decide it."""


@dataclass(frozen=True)
class TrackedMask:
    """One object on one frame."""

    frame: int
    identity: int
    iou: float
    """Of the masks at the clip's size, against all graphs on the CPU; 1 where both are empty."""
    pixels: int
    """In either of the two masks."""

    @property
    def tells(self) -> bool:
        """Whether it is large enough for its IoU to say something."""
        return self.pixels >= SMALLEST

    @property
    def drifted(self) -> bool:
        """Whether it is large enough to tell, and below `LIMIT`."""
        return self.tells and self.iou < LIMIT


@dataclass(frozen=True)
class GraphDrift:
    """The loop with one graph on the GPU. `failure` is the sentence of a graph that the device did not complete."""

    graph: Rewritten
    masks: tuple[TrackedMask, ...] = ()
    full: bool = False
    """Whether the GPU took every op."""
    parts: int = 1
    """In how many it was run, each fed with what the ones before it made."""
    failure: str = ""
    model: Path | None = None
    """The graph's file, and what it was given where the drift starts; for `harness localize`."""
    inputs: dict[str, FloatArray] = field(default_factory=dict, repr=False)

    @property
    def start(self) -> TrackedMask | None:
        """The worst mask on the first frame with one that drifted."""
        below = [mask for mask in self.masks if mask.drifted]
        return min(below, key=lambda mask: (mask.frame, mask.iou), default=None)

    @property
    def worst(self) -> float | None:
        """The smallest IoU of masks that are large enough to tell; None without any."""
        return min(self.by_frame().values(), default=None)

    def by_frame(self) -> dict[int, float]:
        """The smallest IoU of each frame that has a mask large enough to tell."""
        found: dict[int, float] = {}
        for mask in self.masks:
            if mask.tells:
                found[mask.frame] = min(found.get(mask.frame, 1.0), mask.iou)
        return found


@dataclass(frozen=True)
class Drift:
    """One clip on one device."""

    provenance: str
    is_random: bool
    side: int
    device: str
    adapter: str
    gated: bool
    graphs: tuple[GraphDrift, ...]

    @property
    def starter(self) -> GraphDrift | None:
        """The graph whose masks drift first; of several on one frame, the one that drifts most there."""
        begun = [(start.frame, start.iou, one) for one in self.graphs if (start := one.start) is not None]
        return min(begun, key=lambda found: found[:2])[2] if begun else None

    def to_json(self) -> dict[str, Any]:
        """drift.json, schema 1."""
        starter = self.starter
        return {
            "schema": 1,
            "weights": self.provenance,
            "random_weights": self.is_random,
            "side": self.side,
            "device": self.device,
            "gpu": self.adapter,
            "precision": "fp16",
            "object_always_there": not self.gated,
            "limit": LIMIT,
            "smallest_mask": SMALLEST,
            "starter": None if starter is None else starter.graph,
            "graphs": [
                {
                    "graph": one.graph,
                    "full": one.full,
                    "parts": one.parts,
                    "failure": one.failure or None,
                    "worst_iou": one.worst,
                    "start": None if (start := one.start) is None else vars(start),
                    "masks": [vars(mask) for mask in one.masks],
                }
                for one in self.graphs
            ],
        }


def measure_drift(
    device: Device,
    host: Device,
    models: VideoModels,
    constants: Constants,
    pointer_positions: PointerPositions,
    clip: Sequence[Photo],
    events: Sequence[Event],
    *,
    graphs: Sequence[Rewritten] = REWRITTEN,
    unit: Unit = "gpu",
    gated: bool = True,
    in_parts: Callable[[Model], int] | None = None,
    answers: Path | None = None,
    timeout: float = 600.0,
    progress: Progress = SILENT,
) -> Drift:
    """The loop on `clip` once with all graphs on the CPU of `host`, then with each of `graphs` on the `unit` of
    `device`. `models` are prepared for every prompt length of `events` and for 2 tokens.

    `gated` as in `LiteRtStages`, `in_parts` as in `DeviceRunner`. What is asked is kept in the folder `answers`, if one
    is given, and not asked again. A graph that the device does not complete is told of, not
    raised. Raises as `Tracker.seed`, and `StorageError` for `answers` that cannot be written.
    """

    def stages(where: Device, **options: Any) -> LiteRtStages:
        runner: Runner = DeviceRunner(where, timeout, in_parts)
        if answers is not None:
            runner = KeptAnswers(runner, where, answers)
        return LiteRtStages(runner, models, constants, pointer_positions, gated=gated, **options)

    plain = stages(host)
    progress.stage("the loop, all on the CPU", 2.0 * len(clip))
    exact = follow(Tracker(plain, total=len(clip)), clip, events)
    adapter, found = "", []
    for graph in graphs:
        progress.stage(f"the loop, {graph} on the {unit.upper()}", 20.0 * len(clip))
        recorder = DriftRecorder()
        tried = stages(device, units={graph: unit}, seen=recorder)
        tracker = Tracker(MixedStages(plain, tried, frozenset({graph})), total=len(clip))
        masks: list[TrackedMask] = []
        try:
            for seen, wanted in zip(each_frame(tracker, clip, events), exact, strict=True):
                masks += compare(seen, wanted)
                recorder.end_frame(graph, masks, list(seen.objects))
        except DeviceError as error:
            found.append(GraphDrift(graph, failure=error.message))
            continue
        adapter = tried.adapter or adapter
        full, parts = tried.residency[graph].full, tried.parts[graph]
        found.append(GraphDrift(graph, tuple(masks), full, parts, "", recorder.model(models, graph), recorder.kept))
    source = models.source
    side = constants.sizes.side
    return Drift(source.provenance, source.is_random, side, device.name, adapter, gated, tuple(found))


def compare(seen: Tracked, exact: Tracked) -> list[TrackedMask]:
    """Every object's mask on one frame."""
    masks = []
    for identity in seen.objects:
        ours, theirs = seen.logits(identity), exact.logits(identity)
        pixels = int(((ours > 0) | (theirs > 0)).sum())
        masks.append(TrackedMask(seen.frame, identity, mask_iou(ours, theirs), pixels))
    return masks


class DriftRecorder:
    """Keeps what a graph was given where its drift starts, and no more than two frames' inputs until then."""

    def __init__(self) -> None:
        self.kept: dict[str, FloatArray] = {}
        self._now: list[dict[str, FloatArray]] = []
        self._before: list[dict[str, FloatArray]] = []

    def __call__(self, graph: Rewritten, unit: Unit, inputs: dict[str, FloatArray]) -> None:
        """Told of every run."""
        self._now.append(inputs)

    def end_frame(self, graph: Rewritten, masks: Sequence[TrackedMask], identities: Sequence[int]) -> None:
        """A frame is done, with these masks so far, the objects in the order they ran."""
        # A frame's memories are made after its masks: what they spoil is the next frame.
        runs = self._before if graph == "memory_encoder" else self._now
        below = [mask for mask in masks[-len(identities) :] if mask.drifted]
        if below and runs and not self.kept:
            worst = min(below, key=lambda mask: mask.iou)
            self.kept = runs[min(identities.index(worst.identity), len(runs) - 1)]
        self._before, self._now = self._now, []

    def model(self, models: VideoModels, graph: Rewritten) -> Path | None:
        """The file of the graph that was given what is kept."""
        if not self.kept:
            return None
        prompt = self.kept.get("sparse_prompt")
        return models.plan(graph, 2 if prompt is None else prompt.shape[1]).model
