"""The story that the demo tells is that of the answer: what is right is called right, whatever was expected."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from harness.core.arrays import Array
from harness.core.job import Options, Residency
from harness.core.run_folder import RunFolder
from harness.devices.base import Device
from harness.localize.base.case import Case
from harness.localize.base.comparison import Workbench
from harness.localize.base.misreadings import ROW_0
from harness.localize.base.op_record import OpRecord
from harness.localize.base.reference import output_label
from harness.localize.base.result import Culprit, Localization, ModelFacts, OutputVerdict, Remedy
from harness.localize.explain.remedy_trials import remedy_label
from harness.numerics.metrics import compare
from harness.numerics.tolerance import Judgement
from harness.remedies.catalogue import KEEP_BATCH, SPLIT_SUM
from harness.remedies.cause import Cause
from harness.remedies.options import FLOAT32
from harness.sam2.image_path.story.scene import StoryScene
from harness.sam2.image_path.story.second import Versions
from harness.sam2.image_path.story.steps import mended, told
from harness.sam2.image_path.workload import Workload
from tests import models

PHOTO = np.full((16, 16, 3), 90, np.uint8)
EXACT = np.where(np.arange(16) < 8, 1.0, -1.0).astype(np.float32) * np.ones((1, 3, 16, 16), np.float32)
SHIFTED = np.roll(EXACT, 2, axis=3)


def remedy(name: str, *, ok: bool, ran: bool = True) -> Remedy:
    return Remedy(name, 0.9, 0.1, 20.0, 0.9, 5.0 if ran else None, ok)


def workload(*, random: bool = True) -> Workload:
    where = "random weights, seed 0" if random else "weights of a folder"
    return Workload(Path("decoder.tflite"), {}, PHOTO, (4.0, 5.0), where, random)


def answer(remedies: tuple[Remedy, ...], *, right: bool = False) -> Localization:
    compared = compare(SHIFTED, EXACT)
    output = OutputVerdict("pred_masks", Judgement(right, 1.0 if right else 99.0, compared, compared), 0.8)
    record = OpRecord(37, "ADD", 37, "placed", 40, (4096, 256), "float32", "culprit")
    culprit = Culprit(record, Cause.KERNEL, ROW_0, certified=True, remedies=remedies)
    device = {"name": "host", "kind": "host", "runtime": "2.3.0", "gpu": "a GPU"}
    return Localization(
        model=ModelFacts("decoder.tflite", "0" * 64, 351), device=device, status="pass" if right else "culprits",
        certified=True, outputs=(output,), culprits=() if right else (culprit,), records=(), residency=Residency(True),
        device_compiles=3, device_runs=4, seconds=1.0,
    )  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Outputs of both sides, and of a remedy."""
    folder = RunFolder.create(tmp_path, "localize", "decoder", "host")
    scores = np.asarray([[0.1, 0.9, 0.2]], np.float32)
    values: dict[str, tuple[Array, Array]] = {"pred_masks": (EXACT, SHIFTED), "iou_scores": (scores, scores)}
    for name, (reference, device) in values.items():
        folder.tensors.put(output_label(name), "reference", reference, name)
        folder.tensors.put(output_label(name), "device", device, name)
    for name in (FLOAT32.name, KEEP_BATCH.name):
        folder.tensors.put(remedy_label(name, "pred_masks"), "device", EXACT, "pred_masks")
    return folder


def drawn(
    run: RunFolder, found: Localization, *, random: bool = True, note: str = "", localized: str = "v1"
) -> tuple[StoryScene, dict[str, Any]]:
    """The story of one tap and one version: nothing is asked of a device."""
    scene = StoryScene(workload(random=random), Versions(localized, None, note), {})
    nobody = cast("Device", None)
    case = Case(models.right(), {}, Options("gpu"), 60.0)
    return scene, scene.draw(Workbench(nobody, nobody, run), case, found)


def test_the_remedies_are_told_in_the_storys_order_whatever_order_their_parts_have() -> None:
    both = f"{SPLIT_SUM.name}; {KEEP_BATCH.name}"
    tried = (
        remedy(both, ok=True), remedy("the op in rank 4", ok=True), remedy(KEEP_BATCH.name, ok=False),
        remedy(FLOAT32.name, ok=False),
    )  # fmt: skip
    assert [(title, r.name) for title, r in told(answer(tried))] == [
        ("GPU, float32: wrong too, so not precision", FLOAT32.name),
        ("GPU, float16, batch dimension kept", KEEP_BATCH.name),
        ("GPU, float16, kept and long sums split", both),
    ]


def test_where_float32_mends_it_nobody_says_that_precision_does_not_matter() -> None:
    assert [title for title, _ in told(answer((remedy(FLOAT32.name, ok=True),)))] == ["GPU, float32"]


def test_where_float32_computes_nothing_nobody_says_that_it_is_wrong_too(run: RunFolder) -> None:
    empty = replace(remedy(FLOAT32.name, ok=False), cosine=0.0)
    assert [title for title, _ in told(answer((empty,)))] == ["GPU, float32: zeros, or no numbers"]
    scene, _ = drawn(run, answer((empty,)))
    said = " ".join(scene.chapters[1].sentences)
    assert "tells nothing of precision" in said and "wrong too" not in said


def test_what_did_not_run_is_not_told() -> None:
    assert told(answer((remedy(FLOAT32.name, ok=False, ran=False),))) == []


def test_each_step_has_its_mask_its_iou_and_its_verdict(run: RunFolder) -> None:
    scene, found = drawn(run, answer((remedy(FLOAT32.name, ok=False), remedy(KEEP_BATCH.name, ok=True))))
    assert [(s.title, round(s.iou, 3), round(s.least_iou, 3), s.ok) for s in scene.steps] == [
        ("CPU, float32", 1.0, 1.0, True),
        ("GPU, float16", 0.6, 0.6, False),
        ("GPU, float32: wrong too, so not precision", 1.0, 1.0, False),
        ("GPU, float16, batch dimension kept", 1.0, 1.0, True),
    ]
    assert [(t["mask"], t["ok"]) for t in found["tried"]] == [("scene/mask-0.png", False), ("scene/mask-1.png", True)]
    mask = np.asarray(Image.open(run.path / "scene/mask-1.png"))
    assert (mask > 127).mean() == 0.5


def test_a_decoder_that_is_right_is_not_called_wrong(run: RunFolder) -> None:
    scene, _ = drawn(run, answer((), right=True))
    assert [step.ok for step in scene.steps] == [True, True]


@pytest.mark.parametrize(("random", "candidate"), [(True, 0), (False, 1)])
def test_random_weights_scores_choose_no_mask(run: RunFolder, random: bool, candidate: int) -> None:
    scene, found = drawn(run, answer(()), random=random)
    assert found["candidate"] == scene.rows[0].candidate == candidate
    assert ("the scores mean nothing" in found["label"]) is random
    compared = " ".join(scene.chapters[1].sentences)
    assert ("Random weights: the masks mean nothing" in compared) is random


def test_the_mended_model_is_the_storys_own_before_others_and_one_file() -> None:
    chain = replace(remedy("these ops on the CPU", ok=True), path="remedies/these-ops")
    other = replace(remedy("the op in rank 4", ok=True), path="remedies/rank-4.tflite")
    wrong = replace(remedy(KEEP_BATCH.name, ok=False), path="remedies/kept.tflite")
    kept = replace(wrong, ok=True)
    assert mended(answer((chain, other, kept))) == kept
    assert mended(answer((chain, other, wrong))) == other
    assert mended(answer((chain, wrong))) is None


def test_where_nothing_mends_it_the_story_says_so(run: RunFolder) -> None:
    scene, _ = drawn(run, answer((remedy(KEEP_BATCH.name, ok=False),)), note="There is no second version.")
    said = {chapter.key: " ".join(chapter.sentences) for chapter in scene.chapters}
    assert said["fix"].endswith("Nothing that was tried makes it right.")
    assert "LiteRT's parser lays a computed tensor [a, b] out with a as the batch" in said["why"]
    assert said["second"] == "There is no second version."


def test_of_the_second_version_by_itself_the_story_says_once_that_the_first_is_missing(run: RunFolder) -> None:
    scene, _ = drawn(run, answer((), right=True), note="Only the second version is there.", localized="v2")
    said = [sentence for chapter in scene.chapters for sentence in chapter.sentences]
    assert said.count("Only the second version is there.") == 1
    assert list(scene.rows[0].ious) == ["CPU", "GPU, v2"]
    assert scene.chapters[5].sentences == ("It is the one that was run, and no first one stands beside it.",)


def test_a_model_that_never_ran_has_no_pictures_and_all_the_words(tmp_path: Path) -> None:
    empty = RunFolder.create(tmp_path, "localize", "decoder", "host")
    scene, found = drawn(empty, replace(answer(()), outputs=()))
    assert found == {} and scene.steps == [] and len(scene.chapters) == 7
    assert "The model did not run to its end." in scene.chapters[1].sentences
