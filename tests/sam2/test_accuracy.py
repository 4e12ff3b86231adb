"""What the measurements say of themselves; the measurements are made in device_tests and in the slow tests."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

from harness.errors import UsageError
from harness.graph.audit import Audit
from harness.job import Residency
from harness.sam2.ablate import Ablated, Ablation, ablate
from harness.sam2.accuracy import Accuracy, SceneAccuracy
from harness.sam2.contract import CARD, PUBLISHED_V1, RECOMMENDED, VARIANTS
from harness.sam2.fidelity import Fidelity, Figure, FileFacts, Scores, fidelity
from harness.sam2.scenes import Scene
from harness.sam2.show import show_ablation, show_accuracy, show_fidelity
from harness.sam2.taps import Tap

# The slow one converts four models.
pytestmark = pytest.mark.timeout(900)

SCENE = SceneAccuracy("portrait", 0.996, 0.99, 0.99999, 0.2, 0.1, 0, True)
RANDOM = "random weights, seed 0 (realistic scale)"
CLEAN = Audit({"BATCH_MATMUL": 15, "SOFTMAX": 7, "GELU": 2, "CONV_2D": 2}, 26, 4, 0, (), 1, ())


def ablation() -> Ablation:
    facts = {"name": "host", "gpu": "llvmpipe", "runtime": "2.3.0"}
    full = Residency(True)
    rows = tuple(
        Ablated(variant, 300, SCENE, full, "pass", True, (), 9.0, "CONV_2D #7", Path("run"), 100.0 + 50 * number)
        for number, variant in enumerate(VARIANTS)
    )
    return Ablation(rows, "portrait", facts, RANDOM, True)


def table(**changes: object) -> Fidelity:
    figure = Figure("mask IoU", 0.9997, goal=0.9996)
    scores = Scores("float32", (0.1, 0.2, 0.3), (0.1, 0.2, 0.3))
    whole = Fidelity(CARD, RANDOM, True, "portrait", (figure,), (scores,), (FileFacts("decoder float32", 9, CLEAN),))
    return replace(whole, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "ok"),
    [
        ({}, True),
        ({"best_iou": 0.995, "max_error": 0.3, "ideal_max_error": 0.1000001}, True),
        ({"best_iou": 0.9949}, False),
        ({"max_error": 0.31}, False),
        ({"nonfinite": 1}, False),
        ({"ideal_max_error": 0.0}, False),
        ({"best_iou": math.nan}, False),
        ({"best_iou": 0.991, "ideal_iou": 0.99}, False),
        ({"best_iou": 0.9949, "ideal_iou": 0.999}, False),
    ],
)
def test_a_scene_is_right_when_mask_and_logits_are_close_enough(changes: dict[str, float], ok: bool) -> None:
    scene = replace(SCENE, **changes)  # type: ignore[arg-type]
    assert scene.ok is ok
    assert scene.to_json()["ok"] is ok


def test_no_scene_at_all_is_not_right() -> None:
    none = Accuracy(CARD, "host", "", "", RANDOM, True, ())
    assert not none.ok
    assert replace(none, scenes=(SCENE,)).ok
    assert not replace(none, scenes=(SCENE, replace(SCENE, best_iou=0.5))).ok


def test_an_ablation_tells_times_as_ratios_to_the_cards() -> None:
    found = ablation()
    told = found.to_json()
    assert found.card_millis == 100.0
    assert [row["ms_over_card"] for row in told["variants"]][:3] == [1.0, 1.5, 2.0]
    assert told["variants"][0]["variant"] == {
        "layernorm": "safe",
        "attention": "rank3",
        "reductions": "whole",
        "batch": "kept",
        "upsampler": "pad",
        "prompt": "pixels",
    }
    assert {row["variant"]["batch"] for row in told["variants"][12:]} == {"dropped"}
    assert told["random_weights"] is True
    without = replace(found, rows=found.rows[1:])
    assert without.card_millis == 150.0, "without the card's variant, the first one"


def test_an_ablation_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no variant"):
        ablate(cache_dir=tmp_path, out=tmp_path, variants=())


@pytest.mark.parametrize(
    ("figure", "ok"),
    [
        (Figure("x", 0.5), None),
        (Figure("x", 0.5, goal=0.5), True),
        (Figure("x", 0.4, goal=0.5), False),
        (Figure("x", 0.4, goal=0.5, better="lower"), True),
        (Figure("x", 0.6, goal=0.5, better="lower"), False),
        (Figure("x", math.nan, goal=0.5, better="lower"), False),
    ],
)
def test_a_figure_knows_its_direction(figure: Figure, ok: bool | None) -> None:
    assert figure.ok is ok


def test_the_table_fails_with_any_goal_any_refused_op_or_another_histogram() -> None:
    assert table().ok
    assert not table(figures=(Figure("x", 0.4, goal=0.5),)).ok
    refused = replace(CLEAN, unsupported=("CUSTOM: no",))
    assert not table(files=(FileFacts("decoder float32", 9, refused),)).ok
    more = replace(CLEAN, ops={**CLEAN.ops, "BATCH_MATMUL": 16})
    assert table(files=(FileFacts("decoder float32", 9, more),)).histogram_ok is False
    assert table(files=(FileFacts("decoder float32", 9, more),), variant=RECOMMENDED).histogram_ok is None


def test_the_ablations_table_names_what_else_differs() -> None:
    written = io.StringIO()
    (row,) = (replace(row, variant=PUBLISHED_V1) for row in ablation().rows[:1])
    show_ablation(replace(ablation(), rows=(*ablation().rows[:1], row)), Console(file=written, width=250))
    _, card, published = written.getvalue().splitlines()[:3]
    assert card.split()[:6] == ["safe", "rank3", "whole", "as", "the", "card"]
    assert published.split()[:6] == ["scaled", "rank3", "whole", "dropped,", "resize,", "image"]


def test_every_table_says_that_weights_are_random() -> None:
    written = io.StringIO()
    out = Console(file=written, width=200)
    show_ablation(ablation(), out)
    show_accuracy(Accuracy(CARD, "host", "", "", RANDOM, True, (SCENE,)), out)
    show_fidelity(table(), out)
    assert written.getvalue().count(RANDOM) == 3
    assert written.getvalue().count("Random weights: the masks mean nothing") == 3


@pytest.mark.slow
def test_the_small_models_table_meets_its_goals(small_folder: Path, photo: NDArray[np.uint8], tmp_path: Path) -> None:
    found = fidelity(cache_dir=tmp_path, source=str(small_folder), scene=Scene("noise", photo, Tap.at(40, 50)))
    assert [figure.name for figure in found.figures if figure.ok is False and "float16" not in figure.name] == []
    assert found.histogram_ok
    assert {file.name for file in found.files} == {
        "decoder float32",
        "decoder float16",
        "encoder float32",
        "encoder float16",
    }
    for scores in found.scores:
        assert scores.got == pytest.approx(scores.reference, abs=2e-3)
