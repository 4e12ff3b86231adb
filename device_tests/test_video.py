"""The video tracker's graphs on the chosen device, at published widths on 256-pixel images: 256 tokens a frame and 1856
in the memory bank, where the full size has 4096 and 28736."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.graph.model import Model
from harness.inputs import random_inputs
from harness.on_device import OnDevice
from harness.sam2.source import resolve
from harness.sam2.video.contract import PADDED, Rewritten
from harness.sam2.video.convert import VideoModels

GRAPHS: tuple[Rewritten, ...] = ("mask_decoder", "memory_encoder", "memory_attention")
SIDE = 256
FRAME_TOKENS = 256
PADDED_FRAMES = slice(5 * FRAME_TOKENS, 7 * FRAME_TOKENS)
PADDED_POINTERS = slice(-40, None)


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> VideoModels:
    """Published widths and heads, fewer blocks in the image encoder; random weights."""
    from transformers import Sam2HieraDetConfig, Sam2VideoConfig, Sam2VisionConfig

    from harness.sam2.weights import random_video_model, resized

    backbone = Sam2HieraDetConfig(blocks_per_stage=[1, 1, 3, 1], global_attention_blocks=[3, 4])
    config = Sam2VideoConfig(vision_config=Sam2VisionConfig(backbone_config=backbone))
    folder: Path = tmp_path_factory.mktemp("video") / "reduced"
    random_video_model(resized(config, SIDE), seed=5).save_pretrained(folder)
    models = VideoModels(tmp_path_factory.mktemp("graphs"), resolve(str(folder)))
    models.prepare([2], lambda _: None, GRAPHS)
    return models


def inputs_of(path: Path) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    """Standard-normal ones; a mask of -10 and 10, and a bank of which two frames and ten pointers are padding."""
    made = random_inputs(Model.load(path).graph(), 0)
    if "mask" in made:
        made["mask"] = np.sign(made["mask"]) * np.float32(10)
    if "bias" in made:
        made["bias"] = np.zeros_like(made["bias"])
        made["bias"][:, PADDED_FRAMES] = made["bias"][:, PADDED_POINTERS] = PADDED
    return made


@pytest.mark.parametrize("graph", GRAPHS)
def test_the_gpu_takes_every_op_and_is_right_in_float16(
    on_device: OnDevice, video: VideoModels, graph: Rewritten
) -> None:
    path = video.plan(graph).model
    assert on_device.audit(path).unsupported == ()
    found = on_device.compare(path, inputs_of(path))
    assert found.done.residency.full
    for output in found.outputs:
        assert output.ok, (output.name, output.judgement.ratio)
