"""The loop on ONNX Runtime against `propagate_in_video_iterator`, same weights: mask IoU frame by frame, and each graph
against upstream's own modules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.core.errors import UsageError
from harness.core.progress import SILENT, Progress
from harness.devices.scratch import scratch_folder
from harness.numerics.metrics import mask_iou
from harness.sam2.shared.card import source_request
from harness.sam2.shared.files import read_arrays, write_arrays
from harness.sam2.shared.image import Photo
from harness.sam2.shared.source import Source
from harness.sam2.video.bank import Padding
from harness.sam2.video.contract import GRAPHS, Graph, ports
from harness.sam2.video.conversion.convert import in_torch
from harness.sam2.video.onnx_stages import OnnxStages
from harness.sam2.video.scenario import Event, motion_clip, motion_events
from harness.sam2.video.tracker import Tracked, Tracker

GOAL = 0.999
"""What the worst frame's IoU must reach; the published export states 0.9967."""

FRAMES = 24
STAGE_FRAME = 3
"""On this frame the graphs are compared one by one: its bank is padded."""


@dataclass(frozen=True)
class FrameFigures:
    """One object on one frame, loop against upstream."""

    frame: int
    identity: int
    iou: float
    """Of the masks at the clip's size; 1 where both are empty."""
    area: float
    """Share of the frame that upstream's mask covers."""
    score: float
    """Object score of the loop."""
    upstream_score: float


@dataclass(frozen=True)
class StageFigures:
    """One output of one graph, ONNX Runtime against upstream's modules in PyTorch, on the same inputs."""

    graph: Graph
    output: str
    max_error: float
    peak: float
    """Largest magnitude of upstream's values."""


@dataclass(frozen=True)
class Validation:
    """One clip."""

    provenance: str
    is_random: bool
    side: int
    padding: Padding
    frames: tuple[FrameFigures, ...]
    stages: tuple[StageFigures, ...]

    @property
    def worst(self) -> FrameFigures:
        """The frame and object with the smallest IoU."""
        return min(self.frames, key=lambda one: one.iou)

    @property
    def occluded(self) -> int:
        """On how many of the masks the object is not there."""
        return sum(one.upstream_score <= 0 for one in self.frames)

    @property
    def recovered(self) -> bool:
        """Whether an object that was not there came back."""
        for identity in {one.identity for one in self.frames}:
            there = [one.upstream_score > 0 for one in self.frames if one.identity == identity]
            if any(not now and any(there[at + 1 :]) for at, now in enumerate(there)):
                return True
        return False

    @property
    def ok(self) -> bool:
        """Whether every frame reaches the goal."""
        return self.worst.iou >= GOAL

    def to_json(self) -> dict[str, Any]:
        """Schema 1."""
        return {
            "schema": 1,
            "weights": self.provenance,
            "random_weights": self.is_random,
            "side": self.side,
            "padding": self.padding,
            "ok": self.ok,
            "worst_iou": self.worst.iou,
            "occluded_masks": self.occluded,
            "recovered": self.recovered,
            "frames": [vars(one) for one in self.frames],
            "stages": [vars(one) for one in self.stages],
        }


def each_frame(tracker: Tracker, frames: Sequence[Photo], events: Sequence[Event]) -> Iterator[Tracked]:
    """The loop on a clip from the first event's frame on, in the tracker's direction; a corrected frame comes once."""
    fresh = {event.frame: event.prompts for event in events if not event.again}
    again = {event.frame: event.prompts for event in events if event.again}
    start = events[0].frame
    for number in range(start, -1, -1) if tracker.backward else range(start, len(frames)):
        if number == start:
            seen = tracker.seed(frames[number], fresh[number], number)
        else:
            seen = tracker.step(frames[number], fresh.get(number))
        yield tracker.refine(again[number]) if number in again else seen


def follow(tracker: Tracker, frames: Sequence[Photo], events: Sequence[Event]) -> list[Tracked]:
    """All of `each_frame`."""
    return list(each_frame(tracker, frames, events))


def validate_video(
    source: Source,
    *,
    side: int | None = None,
    frames: int = FRAMES,
    padding: Padding = "marked",
    backward: bool = False,
    events: Sequence[Event] | None = None,
    folder: Path | None = None,
    progress: Progress = SILENT,
) -> Validation:
    """Both sides on the motion clip of `scenario`, and the table of both.

    A random model's object score is first taught when nothing is to be seen; its occlusions would be chance otherwise.
    The graphs stay in `folder` if one is given. Raises `UsageError` for unusable weights or a clip that is too short.
    """
    if not 5 <= frames <= 512:
        raise UsageError(f"A clip of {frames} frames is not one to validate on.", "Give 5 to 512.")
    asked = tuple(motion_events(frames) if events is None else events)

    def tell(what: str) -> None:
        progress.stage(what, 60.0)

    with scratch_folder("harness-sam2-") as where:
        place = folder or where
        settle = {"frames": frames, "path": str(where / "settled.npz")}
        base = {"source": source_request(source), "side": side, "settle": settle}
        told = [event.to_json() for event in asked]
        wanted = {"frames": frames, "events": told, "backward": backward, "path": str(where / "reference.npz")}
        in_torch({**base, "export": {"folder": str(place), "blocks": None}, "reference": wanted}, tell)
        recorder = InputRecorder(STAGE_FRAME)
        stages = OnnxStages(place, record=recorder)
        clip = list(motion_clip(frames))
        progress.stage("the loop on ONNX Runtime", frames * 1.0)
        seen = follow(
            Tracker(stages, total=frames, backward=backward, padding=padding, memories="together", refeed=False),
            clip,
            asked,
        )
        write_arrays(where / "inputs.npz", recorder.inputs)
        given = {"inputs": str(where / "inputs.npz"), "path": str(where / "stages.npz")}
        in_torch({**base, "stages": given}, tell)
        rows = compare_frames(where / "reference.npz", seen)
        figures = compare_stages(where / "stages.npz", OnnxStages(place), recorder.inputs)
    constants = stages.constants
    return Validation(constants.provenance, constants.is_random, constants.sizes.side, padding, rows, figures)


def compare_frames(path: Path, seen: Sequence[Tracked]) -> tuple[FrameFigures, ...]:
    """The loop's masks against the reference's in `path`, both at the clip's size."""
    names = [(f"mask.{t.frame}.{i}", f"score.{t.frame}.{i}") for t in seen for i in t.objects]
    reference = read_arrays(path, [name for pair in names for name in pair])
    rows = []
    for tracked in seen:
        for identity, decoded in tracked.objects.items():
            upstream = reference[f"mask.{tracked.frame}.{identity}"]
            iou = mask_iou(tracked.logits(identity), upstream)
            area = float((upstream > 0).mean())
            score = float(reference[f"score.{tracked.frame}.{identity}"])
            rows.append(FrameFigures(tracked.frame, identity, iou, area, decoded.object_score, score))
    return tuple(rows)


def compare_stages(path: Path, stages: OnnxStages, given: dict[str, NDArray[Any]]) -> tuple[StageFigures, ...]:
    """The graphs' outputs against upstream's in `path`, on the inputs `given` as `<graph>.<name>`."""
    rows = []
    for graph in GRAPHS:
        inputs, outputs = ports(graph, stages.constants.sizes)
        made = stages.run(graph, {port.name: given[f"{graph}.{port.name}"] for port in inputs})
        exact = read_arrays(path, [f"{graph}.{port.name}" for port in outputs])
        for port in outputs:
            wanted = exact[f"{graph}.{port.name}"]
            error = float(np.abs(made[port.name] - wanted).max())
            rows.append(StageFigures(graph, port.name, error, float(np.abs(wanted).max())))
    return tuple(rows)


class InputRecorder:
    """Keeps the inputs of every graph for the first object on frame `frame`, or the last frame before it that ran the
    graph: of several objects, the first prompted is the likeliest to be there."""

    def __init__(self, frame: int) -> None:
        self.inputs: dict[str, NDArray[Any]] = {}
        self._left = frame + 1
        self._ran: set[Graph] = set()

    def __call__(self, graph: Graph, inputs: dict[str, Any]) -> None:
        """Told of every run."""
        if graph == "vision_encoder":
            self._left -= 1
            self._ran.clear()
        if self._left >= 0 and graph not in self._ran:
            self._ran.add(graph)
            self.inputs |= {f"{graph}.{name}": np.asarray(values) for name, values in inputs.items()}
