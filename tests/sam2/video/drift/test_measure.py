"""Drift over time: masks of a mixture against all on the CPU, the graph that starts it, and the picture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from harness.core.job import Completed, Job, Outcome, Rejected
from harness.devices.base import Device, Sink
from harness.devices.host.device import HostDevice
from harness.sam2.shared.clicks import Tap
from harness.sam2.shared.source import Source
from harness.sam2.video.contract import REWRITTEN_PORTS, Rewritten
from harness.sam2.video.conversion.convert import VideoModels
from harness.sam2.video.drift.measure import LIMIT, SMALLEST, Drift, GraphDrift, TrackedMask, measure_drift
from harness.sam2.video.drift.plot import write_plots
from harness.sam2.video.onnx_stages import OnnxStages
from harness.sam2.video.scenario import Event, motion_clip
from harness.sam2.video.show import show_drift
from tests.sam2.video.in_torch import InTorch, write_standins

if TYPE_CHECKING:
    from transformers import Sam2VideoModel

EVENTS = (Event(0, {1: Tap.at(140, 90), 2: Tap(box=(72, 118, 128, 162))}),)


class Zeroing(InTorch):
    """Gives zeros."""

    def run(self, job: Job, sink: Sink | None = None) -> Outcome:
        done = super().run(job, sink)
        assert isinstance(done, Completed)
        return replace(done, outputs={name: np.zeros_like(values) for name, values in done.outputs.items()})


class Refusing(InTorch):
    """Takes nothing."""

    def run(self, job: Job, sink: Sink | None = None) -> Outcome:
        return Rejected("no")


Graphs = dict[str, tuple[Rewritten, Any]]


@pytest.fixture(scope="module")
def models(video_source: Source, tmp_path_factory: pytest.TempPathFactory) -> VideoModels:
    return VideoModels(tmp_path_factory.mktemp("standins"), video_source)


@pytest.fixture(scope="module")
def graphs(models: VideoModels, video_model: Sam2VideoModel) -> Graphs:
    return write_standins(models, video_model, (2, 3))


def measured(
    device: Device, host: Device, models: VideoModels, exported: Path, graphs: tuple[Rewritten, ...], frames: int = 3
) -> Drift:
    onnx = OnnxStages(exported, threads=1)
    clip = list(motion_clip(frames))
    return measure_drift(
        device, host, models, onnx.constants, onnx.pointer_positions, clip, EVENTS,
        graphs=graphs, unit="cpu", gated=False,
    )  # fmt: skip


@pytest.mark.slow
def test_the_converted_graphs_do_not_drift_from_themselves(litert_models: VideoModels, exported: Path) -> None:
    with HostDevice() as host:
        found = measured(host, host, litert_models, exported, ("memory_encoder", "memory_attention"))
    assert {mask.iou for one in found.graphs for mask in one.masks} == {1.0}


def test_the_same_arithmetic_does_not_drift(graphs: Graphs, models: VideoModels, exported: Path) -> None:
    host = InTorch(graphs)
    found = measured(host, host, models, exported, ("memory_encoder", "memory_attention"))
    assert [len(one.masks) for one in found.graphs] == [6, 6]
    assert {mask.iou for one in found.graphs for mask in one.masks} == {1.0}
    assert found.starter is None
    assert [one.model for one in found.graphs] == [None, None]


def test_a_wrong_memory_is_seen_on_the_frame_after_with_what_the_graph_was_given(
    graphs: Graphs, models: VideoModels, exported: Path
) -> None:
    found = measured(Zeroing(graphs), InTorch(graphs), models, exported, ("memory_encoder",))
    (one,) = found.graphs
    assert [mask.iou for mask in one.masks if mask.frame == 0] == [1.0, 1.0]
    assert one.start is not None
    assert one.start.frame == 1
    assert found.starter is one
    assert set(one.inputs) == set(REWRITTEN_PORTS["memory_encoder"][0])
    assert one.model == models.plan("memory_encoder").model


def test_a_wrong_mask_is_seen_at_once_with_the_decoder_of_that_prompt(
    graphs: Graphs, models: VideoModels, exported: Path
) -> None:
    found = measured(Zeroing(graphs), InTorch(graphs), models, exported, ("mask_decoder",), frames=2)
    (one,) = found.graphs
    assert one.start is not None
    assert one.start.frame == 0
    tokens = one.inputs["sparse_prompt"].shape[1]
    assert tokens == {1: 2, 2: 3}[one.start.identity]
    assert one.model == models.plan("mask_decoder", tokens).model


def test_a_graph_that_the_device_refuses_is_told_of(graphs: Graphs, models: VideoModels, exported: Path) -> None:
    found = measured(Refusing(graphs), InTorch(graphs), models, exported, ("memory_encoder",), frames=2)
    (one,) = found.graphs
    assert "rejected the model while running memory_encoder" in one.failure
    assert (one.masks, one.worst, found.starter) == ((), None, None)


def drifting(graph: Rewritten, *ious: float) -> GraphDrift:
    return GraphDrift(graph, tuple(TrackedMask(frame, 1, iou, 500) for frame, iou in enumerate(ious)), full=True)


def test_a_mask_of_a_few_pixels_is_no_drift(tmp_path: Path) -> None:
    masks = (TrackedMask(0, 1, 0.995, 2000), TrackedMask(1, 1, 0.5, SMALLEST - 1), TrackedMask(2, 1, 0.992, SMALLEST))
    one = GraphDrift("mask_decoder", masks, full=True)
    assert (one.start, one.worst, one.by_frame()) == (None, 0.992, {0: 0.995, 2: 0.992})
    nothing = GraphDrift("memory_encoder", masks[1:2], full=True)
    found = Drift("random weights", True, 128, "host", "a GPU", False, (one, nothing))
    screen = Console(record=True, width=120)
    show_drift(found, screen)
    text = screen.export_text()
    assert "2 masks of fewer than 100 pixels are left out" in text
    assert "no drift" in text
    assert all(path.is_file() for path in write_plots(found, tmp_path))


@pytest.mark.parametrize(
    ("others", "said"), [((), "nothing measured: "), (("mask_decoder",), "no drift in the others: ")]
)
def test_a_graph_that_was_not_run_has_not_drifted_and_has_not_stood_the_test(
    others: tuple[Rewritten, ...], said: str
) -> None:
    failed = GraphDrift("vision_encoder", failure="host gave no answer while running vision_encoder.")
    found = Drift("random weights", True, 128, "host", "", True, (failed, *(drifting(one, 1.0) for one in others)))
    screen = Console(record=True, width=80)
    show_drift(found, screen)
    text = screen.export_text()
    assert "vision_encoder: host gave no answer while running vision_encoder.\n" in text
    assert f"\n{said}masks against all graphs on the CPU" in text
    assert "128 pixels, host; random weights." in text


def test_the_starter_is_the_first_to_fall_below_the_limit_and_of_those_the_worst(tmp_path: Path) -> None:
    graphs = (
        drifting("vision_encoder", 1.0, 1.0, 0.2),
        drifting("mask_decoder", 1.0, 0.98, 0.97),
        drifting("memory_encoder", 1.0, 0.95, 0.99),
        drifting("memory_attention", 1.0, LIMIT, LIMIT),
    )
    found = Drift("random weights", True, 128, "host", "a GPU", False, graphs)
    assert found.starter is graphs[2]
    told = found.to_json()
    assert told["starter"] == "memory_encoder"
    assert [one["start"] and one["start"]["frame"] for one in told["graphs"]] == [2, 1, 1, None]
    svg, png = write_plots(found, tmp_path)
    text = svg.read_text()
    assert "random weights" in text
    assert all(words in text for words in ("memory attention (worst 0.9900)", "mask IoU against all on the CPU"))
    with Image.open(png) as picture:
        assert picture.size == (864, 504)
