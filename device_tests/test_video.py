"""The video tracker's graphs on the chosen device, at published widths on 256-pixel images: 256 tokens a frame and 1856
in the memory bank, where the full size has 4096 and 28736."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.api.on_device import OnDevice
from harness.core.job import Options
from harness.devices.base import Device
from harness.devices.cache import cache_folder
from harness.devices.execute import completed, make_job
from harness.devices.host.device import HostDevice
from harness.graph.inputs import random_inputs
from harness.graph.model import Model
from harness.graph.ops.audit import audit
from harness.numerics.metrics import compare
from harness.sam2.shared.in_parts import parts_needed, run
from harness.sam2.shared.source import resolve
from harness.sam2.video.contract import PADDED, Rewritten
from harness.sam2.video.conversion.convert import VideoModels

GRAPHS: tuple[Rewritten, ...] = ("mask_decoder", "memory_encoder", "memory_attention")
SIDE = 256
PADDED_POINTERS = 40
FULL_SIZE_RMS = 0.02
"""The largest root mean square error of memory attention, as a share; 0.008 was measured on the software GPU."""


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> VideoModels:
    """Published widths and heads, fewer blocks in the image encoder; random weights."""
    from transformers import Sam2HieraDetConfig, Sam2VideoConfig, Sam2VisionConfig

    from harness.sam2.shared.weights import random_video_model, resized

    backbone = Sam2HieraDetConfig(blocks_per_stage=[1, 1, 3, 1], global_attention_blocks=[3, 4])
    config = Sam2VideoConfig(vision_config=Sam2VisionConfig(backbone_config=backbone))
    folder: Path = tmp_path_factory.mktemp("video") / "reduced"
    random_video_model(resized(config, SIDE), seed=5).save_pretrained(folder)
    return VideoModels(cache_folder() / "sam2", resolve(str(folder)))


def inputs_of(path: Path) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    """Standard-normal ones; a mask of -10 and 10, and a bank of which two frames and ten pointers are padding."""
    made = random_inputs(Model.load(path).graph(), 0)
    if "mask" in made:
        made["mask"] = np.sign(made["mask"]) * np.float32(10)
    if "bias" in made:
        made["bias"] = np.zeros_like(made["bias"])
        frames = made["bias"].shape[1] - 64  # seven of them, and 16 pointers of four tokens
        made["bias"][:, frames * 5 // 7 : frames] = made["bias"][:, -PADDED_POINTERS:] = PADDED
    return made


@pytest.mark.parametrize(
    "graph", [pytest.param(graph, marks=[pytest.mark.slow] * (graph == "memory_attention")) for graph in GRAPHS]
)
def test_the_gpu_takes_every_op_and_is_right_in_float16(
    on_device: OnDevice, video: VideoModels, graph: Rewritten
) -> None:
    video.prepare([2], lambda _: None, (graph,))
    path = video.plan(graph).model
    assert audit(Model.load(path)).unsupported == ()
    found = on_device.compare(path, inputs_of(path))
    assert found.done.residency.full
    for output in found.outputs:
        assert output.ok, (output.name, output.judgement.ratio)


@pytest.fixture(scope="session")
def published() -> VideoModels:
    """The graphs at full size; random weights where none can be had."""
    models = VideoModels(cache_folder() / "sam2", resolve())
    models.prepare([2], lambda _: None, GRAPHS)
    return models


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("graph", ("mask_decoder", "memory_encoder"))
def test_at_full_size_too(on_device: OnDevice, published: VideoModels, graph: Rewritten) -> None:
    path = published.plan(graph).model
    found = on_device.compare(path, inputs_of(path))
    assert found.done.residency.full
    assert found.ok


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_memory_attention_at_full_size_in_parts(device: Device, published: VideoModels) -> None:
    path = published.plan("memory_attention").model
    model, inputs = Model.load(path), inputs_of(path)
    ran = run(device, model, inputs, "gpu", parts_needed(model), timeout=600, doing="running memory attention")
    assert ran.residency.full
    with HostDevice() as host:
        job = make_job(model, inputs, Options("cpu"), timeout=1200)
        exact = completed(host, job, "memory attention on the CPU").outputs["conditioned"]
    seen = compare(ran.outputs["conditioned"], exact)
    assert not seen.nonfinite
    assert seen.relative_rms < FULL_SIZE_RMS
