"""The published card's tracking loop, written from its text alone, on the exported graphs: a reader that knows nothing
of this project gets the tracker's masks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from harness.sam2.shared.clicks import Tap
from harness.sam2.shared.image import Photo
from harness.sam2.video.bank import from_bfloat16, to_bfloat16
from harness.sam2.video.onnx_stages import OnnxStages
from harness.sam2.video.scenario import motion_clip
from harness.sam2.video.tracker import Tracker

# The first test waits until the graphs are exported.
pytestmark = pytest.mark.timeout(900)

FRAMES = 20
"""More than 16: an object pointer is dropped."""
STEP = 2.0**-8
"""Between two bfloat16 numbers, relative."""


def by_the_card(
    folder: Path, frames: list[Photo], points: list[tuple[float, float]], keep: Callable[[Any], Any]
) -> Iterator[tuple[Any, float]]:
    """Each frame's high_res_mask and object score, for square frames of the model's side and clicks on the first one.
    `keep` is what becomes of a memory that is stored."""
    import onnxruntime as ort

    told = json.loads((folder / "constants.json").read_text())
    table = np.array(told["memory_temporal_positional_encoding"], np.float32)
    mean, std = (np.array(told["normalization"][name], np.float32) for name in ("mean", "std"))
    names = ("vision_encoder", "mask_decoder", "memory_encoder", "memory_attention", "pointer_tpos")
    graphs = {name: ort.InferenceSession(str(folder / "onnx" / f"{name}.onnx")) for name in names}

    def run(graph: str, **inputs: Any) -> dict[str, Any]:
        outputs = [port.name for port in graphs[graph].get_outputs()]
        return dict(zip(outputs, graphs[graph].run(outputs, inputs), strict=True))

    def rows(image: Any) -> Any:
        return np.ascontiguousarray(image.reshape(image.shape[1], -1).T[:, None])

    memories: dict[int, tuple[Any, Any]] = {}  # by frame: tokens and pointer
    places: Any = None
    for now, frame in enumerate(frames):
        pixels = ((frame / np.float32(255) - mean) / std).astype(np.float32).transpose(2, 0, 1)[None]
        seen = run("vision_encoder", pixel_values=pixels)
        asked, labels, cond = np.array([[points]], np.float32), np.ones((1, 1, len(points)), np.int32), None
        if now == 0:
            cond = seen["feats2_no_mem"]
        else:
            recent = range(max(1, now - 6), now)
            bank = [(memories[0][0], table[6])] + [(memories[at][0], table[now - at - 1]) for at in recent]
            bank += [bank[-1]] * (7 - len(bank))
            pointers = [(now, memories[0][1])] + [(now - at, memories[at][1]) for at in range(max(1, now - 15), now)]
            pointers += [pointers[-1]] * (16 - len(pointers))
            ages = np.array([age for age, _ in pointers], np.float32) / np.float32(min(len(frames), 16) - 1)
            ages = run("pointer_tpos", normalized_diffs=ages)["pointer_pos"]
            split = np.stack([pointer for _, pointer in pointers]).reshape(-1, 1, 64)
            cond = run(
                "memory_attention",
                current_vision_features=rows(seen["feats2"]),
                current_vision_position_embeddings=rows(seen["vision_pos_embed"]),
                memory=np.concatenate([tokens for tokens, _ in bank] + [split]),
                memory_pos=np.concatenate(
                    [places + row for _, row in bank] + [np.repeat(ages, len(split) // 16, 0)[:, None]]
                ),
            )["conditioned_feats"]
            asked, labels = np.zeros((1, 1, 1, 2), np.float32), np.full((1, 1, 1), -1, np.int32)
        feats = {name: seen[name] for name in ("feats0", "feats1")}
        made = run("mask_decoder", **feats, feats2_cond=cond, input_points=asked, input_labels=labels)
        score, high = made["object_score_logits"], made["high_res_mask"]
        binarize = np.array(float(now == 0), np.float32)
        memory = run(
            "memory_encoder", feats2=seen["feats2"], high_res_mask=high,
            object_score_logits=score[0], binarize=binarize,
        )  # fmt: skip
        memories[now], places = (keep(memory["memory_tokens"]), made["object_pointer"][0, 0]), memory["memory_pos"]
        yield high[0, 0], float(score[0, 0, 0])


def rounded(values: Any) -> Any:
    return from_bfloat16(to_bfloat16(values))


@pytest.fixture(scope="module")
def frames(exported: Path) -> list[Photo]:
    """Of the model's own side, so that nothing is resized on the way in or out."""
    side = OnnxStages(exported).constants.sizes.side
    return [np.array(Image.fromarray(frame).resize((side, side))) for frame in motion_clip(FRAMES)]


def tracked(exported: Path, frames: list[Photo], tap: Tap) -> list[tuple[NDArray[np.float32], float]]:
    tracker = Tracker(OnnxStages(exported), total=len(frames), padding="duplicate")
    seen = [tracker.seed(frames[0], {1: tap}), *(tracker.step(frame) for frame in frames[1:])]
    return [(one.logits(1), one.objects[1].object_score) for one in seen]


def test_a_reader_of_the_card_alone_gets_the_trackers_masks(exported: Path, frames: list[Photo]) -> None:
    """But for what the card does not say: upstream keeps memories as bfloat16, as the tracker does. A value halfway
    between two of them may be rounded to either side."""
    click = (56.0, 48.0)
    found, wanted = list(by_the_card(exported, frames, [click], rounded)), tracked(exported, frames, Tap.at(*click))
    assert len(found) == len(wanted) == FRAMES
    for (high, score), (logits, exact) in zip(found, wanted, strict=True):
        bound = STEP * float(np.abs(logits).max())
        assert abs(score - exact) <= STEP * max(abs(other) for _, other in wanted)
        assert float(np.abs(high - logits).max()) <= bound
        sure = np.abs(logits) > bound
        np.testing.assert_array_equal(high[sure] > 0, logits[sure] > 0)
    assert {score > 0 for _, score in wanted} == {True, False}
