"""The story that the demo tells is that of the answer: what is right is called right, whatever was expected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from harness.cli import demo
from harness.cli.demo import Story, TapScene, told
from harness.cli.sam2_options import DecoderWords
from harness.core.arrays import Array
from harness.core.job import Residency
from harness.core.progress import SILENT
from harness.core.run_folder import RunFolder
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
from harness.sam2.image_path.workload import Workload

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


def test_what_did_not_run_is_not_told() -> None:
    assert told(answer((remedy(FLOAT32.name, ok=False, ran=False),))) == []


def test_each_step_has_its_mask_its_iou_and_its_verdict(run: RunFolder) -> None:
    scene = TapScene(workload())
    drawn = scene.draw(run, answer((remedy(FLOAT32.name, ok=False), remedy(KEEP_BATCH.name, ok=True))))
    assert [(s.title, round(s.iou, 3), round(s.least_iou, 3), s.ok) for s in scene.steps] == [
        ("CPU, float32", 1.0, 1.0, True),
        ("GPU, float16", 0.6, 0.6, False),
        ("GPU, float32: wrong too, so not precision", 1.0, 1.0, False),
        ("GPU, float16, batch dimension kept", 1.0, 1.0, True),
    ]
    assert [(t["mask"], t["ok"]) for t in drawn["tried"]] == [("scene/mask-0.png", False), ("scene/mask-1.png", True)]
    mask = np.asarray(Image.open(run.path / "scene/mask-1.png"))
    assert (mask > 127).mean() == 0.5


def test_a_decoder_that_is_right_is_not_called_wrong(run: RunFolder) -> None:
    scene = TapScene(workload())
    scene.draw(run, answer((), right=True))
    assert [step.ok for step in scene.steps] == [True, True]


@pytest.mark.parametrize(("random", "candidate"), [(True, 0), (False, 1)])
def test_random_weights_scores_choose_no_mask(run: RunFolder, random: bool, candidate: int) -> None:
    drawn = TapScene(workload(random=random)).draw(run, answer(()))
    assert drawn["candidate"] == candidate
    assert ("the scores mean nothing" in drawn["label"]) is random


def test_the_story_says_what_the_weights_are_and_states_the_rule(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = TapScene(workload())
    found = answer((remedy(KEEP_BATCH.name, ok=True),))
    scene.draw(run, found)
    demo.show(Story(workload(), found, scene, run.path))
    said = " ".join(capsys.readouterr().out.split())
    assert "Random weights, seed 0: the masks mean nothing" in said
    assert "The rule. LiteRT's parser lays a computed tensor [a, b] out with a as the batch" in said
    assert "harness localize decoder/*.tflite --inputs decoder/inputs.npz --device pixel8a" in said


@pytest.mark.parametrize(
    ("published", "words", "wanted"),
    [
        (True, {}, ("published", None)),
        (False, {}, "converted"),
        (True, {"weights": "random"}, "converted"),
        (True, {"layernorm": "plain"}, "converted"),
        (True, {"models": "own"}, "converted"),
        (False, {"models": "published"}, ("published", None)),
        (True, {"models": "FOLDER"}, ("FOLDER", "v1")),
    ],
)
def test_files_that_can_be_had_come_before_a_conversion(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, published: bool, words: dict[str, str], wanted: object
) -> None:
    (tmp_path / "sam2_tiny_mask_decoder_v2_fp16.tflite").write_text("")
    (tmp_path / "sam2_tiny_mask_decoder_fp16.tflite").write_text("")
    given: dict[str, Any] = {"models": None, "weights": None, "layernorm": None} | words
    if given["models"] == "FOLDER":
        given["models"] = str(tmp_path)

    def files(source: str | None, words: DecoderWords, _: object) -> tuple[str, str | None] | None:
        return None if source in (None, "own") else (source.replace(str(tmp_path), "FOLDER"), words.variant)

    monkeypatch.setattr(demo, "have_published", lambda *_: published)
    monkeypatch.setattr(demo, "published_models", files)
    monkeypatch.setattr(demo, "workload_of", lambda models, **_: models)
    monkeypatch.setattr(demo, "make_workload", lambda *_: "converted")
    assert demo.demo_workload(**given, timeout=1.0, progress=SILENT) == wanted
