"""The loop: the memory bank as upstream assembles it, and masks as `propagate_in_video_iterator` gives them."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from harness.core.errors import UsageError
from harness.sam2.shared.clicks import Tap
from harness.sam2.shared.source import Source
from harness.sam2.video.bank import Memory, ObjectMemory, assemble, from_bfloat16, to_bfloat16
from harness.sam2.video.contract import MARK
from harness.sam2.video.conversion import upstream
from harness.sam2.video.conversion.reference import propagate
from harness.sam2.video.onnx_stages import OnnxStages
from harness.sam2.video.scenario import Event, motion_clip, motion_frame
from harness.sam2.video.tracker import Memories, Tracked, Tracker
from harness.sam2.video.validate import follow, validate_video

if TYPE_CHECKING:
    from transformers import Sam2VideoModel

# The first test waits until the graphs are exported.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def stages(exported: Path) -> OnnxStages:
    return OnnxStages(exported, threads=1)


def memory_of(stages: OnnxStages, value: float) -> Memory:
    sizes = stages.constants.sizes
    tokens = np.full((sizes.tokens, sizes.memory_channels), value, np.float32)
    return Memory(to_bfloat16(tokens), np.full(sizes.channels, -value, np.float32))


def test_a_bank_holds_the_conditioning_memory_then_recent_ones_then_marked_duplicates(stages: OnnxStages) -> None:
    sizes, table = stages.constants.sizes, stages.constants.temporal
    memory = ObjectMemory()
    memory.remember(0, memory_of(stages, 1.0), stages.constants, conditioning=True)
    for frame in (1, 2, 3):
        memory.remember(frame, memory_of(stages, 1.0 + frame), stages.constants, conditioning=False)
    positions = np.zeros((sizes.tokens, sizes.memory_channels), np.float32)
    tokens, places = assemble(memory, 4, stages, positions, total=24, backward=False)
    blocks = tokens[: 7 * sizes.tokens].reshape(7, sizes.tokens, -1)
    assert blocks[:, 0, 0].tolist() == [1, 2, 3, 4, 4, 4, 4]
    rows = places[: 7 * sizes.tokens].reshape(7, sizes.tokens, -1)[:, 0]
    # The conditioning memory has row 6, one r frames back row r - 1.
    for block, row in enumerate((6, 2, 1, 0)):
        np.testing.assert_array_equal(rows[block], table[row])
    assert (rows[4:, 0] == MARK).all()
    pointers = tokens[7 * sizes.tokens :].reshape(16, sizes.splits, -1)
    assert pointers[:, 0, 0].tolist() == [-1, -4, -3, -2] + [-4] * 12
    marked = places[7 * sizes.tokens :, 0] == MARK
    assert marked.tolist() == [False] * (4 * sizes.splits) + [True] * (12 * sizes.splits)
    ages = np.array([4, 1, 2, 3], np.float32) / np.float32(15)
    np.testing.assert_allclose(
        places[7 * sizes.tokens :].reshape(16, sizes.splits, -1)[:4, 0], stages.pointer_positions(ages), atol=1e-6
    )
    _, published = assemble(memory, 4, stages, positions, total=24, backward=False, padding="duplicate")
    assert not (published == MARK).any()


def test_bfloat16_is_rounded_as_torch_rounds_it() -> None:
    values = np.random.default_rng(0).normal(0, 3, 4096).astype(np.float32)
    values[:3] = [0.0, 1.00390625, 1.01171875]  # exact, and two ties
    wanted = torch.from_numpy(values).to(torch.bfloat16).float().numpy()
    np.testing.assert_array_equal(from_bfloat16(to_bfloat16(values)), wanted)


def test_what_is_remembered_does_not_grow_with_the_clip(stages: OnnxStages) -> None:
    memory = ObjectMemory()
    for frame in range(100):
        memory.remember(frame, memory_of(stages, frame), stages.constants, conditioning=frame % 10 == 0)
    assert sorted(memory.recent) == [*range(84, 90), *range(91, 100)]
    assert sorted(memory.conditioning) == [0, 50, 60, 70, 80, 90]


@pytest.mark.parametrize(
    ("name", "events", "backward"),
    [
        ("an object more", (Event(0, {1: Tap.at(140, 90)}), Event(3, {2: Tap.at(100, 140)})), False),
        ("an object anchored anew", (Event(0, {1: Tap.at(140, 90)}), Event(3, {1: Tap.at(220, 84)})), False),
        ("backward", (Event(5, {1: Tap.at(300, 80), 2: Tap(box=(90, 60, 160, 150))}),), True),
    ],
)
def test_the_loop_follows_as_upstream_does(
    stages: OnnxStages, video_model: Sam2VideoModel, name: str, events: tuple[Event, ...], backward: bool
) -> None:
    clip = list(motion_clip(6))
    seen = follow(Tracker(stages, total=len(clip), backward=backward, memories="together"), clip, events)
    reference = list(propagate(video_model, clip, events, backward=backward))
    assert [tracked.frame for tracked in seen] == [number for number, _, _ in reference]
    for tracked, (number, masks, scores) in zip(seen, reference, strict=True):
        assert tracked.objects.keys() == masks.keys()
        for identity, decoded in tracked.objects.items():
            assert decoded.object_score == pytest.approx(scores[identity], abs=2e-3)
            wanted = masks[identity] > 0
            got = tracked.mask(identity)
            union = int((got | wanted).sum())
            assert union == 0 or int((got & wanted).sum()) / union >= 0.995, (name, number, identity)


@pytest.mark.parametrize(
    ("memories", "fresh", "again"),
    [("each", [(1, False), (2, True)], [(1, True)]), ("together", [(1, True), (2, True)], [(1, True), (2, True)])],
)
def test_a_prompt_for_one_object_leaves_the_memories_of_others_alone_unless_upstreams_way_is_asked_for(
    exported: Path, memories: Memories, fresh: list[tuple[int, bool]], again: list[tuple[int, bool]]
) -> None:
    encoded: list[tuple[float, bool]] = []

    def record(graph: str, inputs: dict[str, Any]) -> None:
        if graph == "memory_encoder":
            encoded.append((float(np.sum(inputs["high_res_mask"])), bool(inputs["binarize"] > 0.5)))

    tracker = Tracker(OnnxStages(exported, threads=1, record=record), memories=memories)
    tracker.seed(motion_frame(0), {1: Tap.at(140, 90)})

    def told(tracked: Tracked) -> list[tuple[int, bool]]:
        of = {float(np.sum(one.high_res_mask)): identity for identity, one in tracked.objects.items()}
        return [(of[mask], binary) for mask, binary in encoded]

    encoded.clear()
    assert told(tracker.step(motion_frame(1), {2: Tap.at(100, 140)})) == fresh
    tracker.step(motion_frame(2))
    encoded.clear()
    assert sorted(told(tracker.refine({1: Tap.at(141, 90)}))) == again


@pytest.mark.parametrize("loud", [1.0, 40.0])
def test_a_correction_is_told_the_mask_that_it_corrects(
    exported: Path, video_model: Sam2VideoModel, loud: float
) -> None:
    """As Meta's predictor tells it, its logits within 32; what then comes is what upstream's modules make of it."""
    told: list[dict[str, Any]] = []

    def record(graph: str, inputs: dict[str, Any]) -> None:
        if graph == "mask_decoder_with_prompt":
            told.append(inputs)

    tracker = Tracker(OnnxStages(exported, threads=1, record=record))
    tracker.seed(motion_frame(0), {1: Tap.at(140, 90), 2: Tap.at(100, 140)})
    before = tracker.step(motion_frame(1))
    before.objects[1].low_res_mask[:] *= np.float32(loud)
    found = tracker.refine({1: Tap.at(150, 95)}).objects[1]
    (inputs,) = told
    np.testing.assert_array_equal(inputs["mask_input"], before.objects[1].low_res_mask)
    with torch.inference_mode():
        low, _, _, score, pointer = upstream.run(
            video_model, "mask_decoder_with_prompt", [torch.from_numpy(value) for value in inputs.values()]
        )
    np.testing.assert_allclose(found.low_res_mask, low.numpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.pointer, pointer.numpy().reshape(-1), rtol=1e-4, atol=1e-4)
    assert found.object_score == pytest.approx(float(score), abs=1e-4)
    # A new object has no mask to correct.
    tracker.refine({3: Tap.at(200, 60)})
    assert len(told) == 1


def test_without_the_graph_for_it_a_correction_is_a_prompt_by_itself(exported: Path, tmp_path: Path) -> None:
    """As in the published five, and in `transformers`."""
    shutil.copytree(exported, tmp_path / "five")
    (tmp_path / "five" / "onnx" / "mask_decoder_with_prompt.onnx").unlink()

    def corrected(folder: Path, **words: Any) -> NDArray[np.float32]:
        tracker = Tracker(OnnxStages(folder, threads=1), **words)
        tracker.seed(motion_frame(0), {1: Tap.at(140, 90)})
        return tracker.refine({1: Tap.at(150, 95)}).logits(1)

    five = corrected(tmp_path / "five")
    np.testing.assert_array_equal(five, corrected(exported, refeed=False))
    assert not np.array_equal(five, corrected(exported))


def test_one_command_validates_occlusion_recovery_two_objects_and_a_second_click(video_source: Source) -> None:
    found = validate_video(video_source, frames=17)
    assert {one.identity for one in found.frames} == {1, 2}
    assert len(found.frames) == 34
    assert found.worst.iou >= 0.9967, found.worst
    assert {stage.graph for stage in found.stages} == {
        "vision_encoder", "mask_decoder", "memory_encoder", "memory_attention", "pointer_tpos",
    }  # fmt: skip
    assert all(stage.max_error <= 2e-4 * (1 + stage.peak) for stage in found.stages), found.stages


def test_a_tracker_refuses_what_makes_no_sense(stages: OnnxStages) -> None:
    tracker = Tracker(stages)
    with pytest.raises(UsageError, match="Nothing is tracked yet"):
        tracker.step(motion_frame(0))
    with pytest.raises(UsageError, match="nothing to track"):
        tracker.seed(motion_frame(0), {})
    with pytest.raises(UsageError, match=r"tap \(900, 20\) is outside"):
        tracker.seed(motion_frame(0), {1: Tap.at(900, 20)})
    tracker.seed(motion_frame(0), {1: Tap.at(140, 90)})
    with pytest.raises(UsageError, match=r"Frame 1 has 320 x 120 pixels, the first 320 x 240"):
        tracker.step(motion_frame(1)[:120])


def test_the_loop_needs_no_torch(exported: Path) -> None:
    import subprocess

    program = (
        "import sys; from pathlib import Path; from harness.sam2.shared.clicks import Tap\n"
        "from harness.sam2.video.onnx_stages import OnnxStages; from harness.sam2.video.tracker import Tracker\n"
        "from harness.sam2.video.scenario import motion_frame\n"
        f"tracker = Tracker(OnnxStages(Path({str(exported)!r})))\n"
        f"tracker.seed(motion_frame(0), {{1: Tap.at(140, 90)}})\n"
        "tracker.step(motion_frame(1)); assert 'torch' not in sys.modules and 'transformers' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
