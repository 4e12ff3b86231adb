"""What the measurements say of themselves; the measurements are made in device_tests and in the slow tests."""

from __future__ import annotations

import io
import math
import re
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

from harness.core.errors import UsageError
from harness.core.job import Job, Options, Outcome, Residency, TimedOut
from harness.core.progress import SILENT
from harness.devices.base import Sink
from harness.graph.build import GraphBuilder
from harness.graph.ops.audit import Audit
from harness.localize.base.case import Case
from harness.localize.base.op_record import OpRecord
from harness.localize.base.result import Culprit
from harness.remedies.cause import Cause
from harness.sam2.image_path import ablate as module
from harness.sam2.image_path.ablate import Ablated, Ablation, ablate
from harness.sam2.image_path.accuracy import Accuracy, SceneAccuracy
from harness.sam2.image_path.fidelity import Fidelity, Figure, FileFacts, Scores, fidelity
from harness.sam2.image_path.scenes import Scene
from harness.sam2.image_path.show import ablation_table, show_ablation, show_accuracy, show_fidelity, variant_name
from harness.sam2.shared.clicks import Tap
from harness.sam2.shared.contract import CARD, PUBLISHED_V1, RECOMMENDED, VARIANTS, DecoderVariant
from tests.localize.planted import InProcess

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
        "candidates": "three",
    }
    assert {row["variant"]["batch"] for row in told["variants"][12:]} == {"dropped"}
    assert told["random_weights"] is True
    without = replace(found, rows=found.rows[1:])
    assert without.card_millis == 150.0, "without the card's variant, the first one"


def test_a_variant_that_does_not_run_when_it_is_timed_has_no_time_and_costs_the_others_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graph = GraphBuilder()
    graph.output(graph.unary("TANH", graph.input("x", (1, 4))), "y")
    right = Case(graph.build(), {"x": np.ones((1, 4), np.float32)}, Options(), timeout=60)
    slow = replace(right, timeout=1)

    class Impatient(InProcess):
        def run(self, job: Job, sink: Sink | None = None) -> Outcome:
            return TimedOut(1) if job.timeout == 1 else super().run(job, sink)

    monkeypatch.setattr(module, "open_device", lambda name: nullcontext(Impatient()))
    first, lost, last = module._times("host", [right, slow, right], SILENT)
    assert math.isfinite(first) and math.isfinite(last) and math.isnan(lost)
    rows = [replace(row, millis=time) for row, time in zip(ablation().rows, (100.0, lost, 200.0), strict=False)]
    screen = io.StringIO()
    Console(file=screen, width=100).print(ablation_table(replace(ablation(), rows=tuple(rows))))
    assert [line.split()[-1] for line in screen.getvalue().splitlines()[1:]] == ["1.00", "–", "2.00"]


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


def culprit(op: str, index: int, cause: str) -> Culprit:
    return Culprit(OpRecord(index, op, index, "t", index, (8, 8, 16), "float32", "culprit"), Cause(cause), None, True)


def shown(*rows: Ablated, width: int = 80) -> list[str]:
    written = io.StringIO()
    show_ablation(
        replace(ablation(), rows=rows), Console(file=written, width=width, force_terminal=True, no_color=True)
    )
    return re.sub(r"\x1b\[[0-9;]*m", "", written.getvalue()).splitlines()


def test_an_ablation_fits_80_columns_whatever_is_compared() -> None:
    blamed = tuple(culprit("BATCH_MATMUL", 1000 + i, "accumulation") for i in range(2))
    (first,) = ablation().rows[:1]
    far_off = replace(SCENE, max_error=99.9, ideal_max_error=0.1)
    worst = replace(first, ops=1250, accuracy=far_off, culprits=blamed, status="culprits", millis=1234.0)
    rows = [replace(worst, variant=variant) for variant in (*VARIANTS, PUBLISHED_V1)]
    lines = shown(*rows)
    assert max(map(len, lines)) <= 80
    names = [variant_name(row.variant) for row in rows]
    assert [line.split() for line in lines[1 : 1 + len(rows)]] == [
        [name, "1250", "0.999990", "0.9960", "0.9900", "999.0x", "1.00"] for name in names
    ]


def test_an_ablation_puts_culprits_of_one_kind_together_and_says_what_is_in_doubt() -> None:
    (row,) = ablation().rows[:1]
    found = (culprit("ADD", 3, "kernel"), culprit("BATCH_MATMUL", 50, "accumulation"), culprit("ADD", 37, "kernel"))
    blamed = replace(row, variant=PUBLISHED_V1, culprits=found, status="culprits", certified=False)
    part = replace(row, variant=RECOMMENDED, status="unresolved", residency=Residency(False))
    lines = shown(row, blamed, part, width=100)
    first = lines.index("card: none")
    assert lines[first : first + 7] == [
        "card: none",
        "  worst op CONV_2D #7, 9x what its arithmetic explains",
        "published-v1: 2 ADD #3, #37 (kernel); 1 BATCH_MATMUL #50 (accumulation); not certified",
        "  worst op CONV_2D #7, 9x what its arithmetic explains",
        "recommended: unresolved",
        "  worst op CONV_2D #7, 9x what its arithmetic explains",
        "  the GPU took only a part",
    ]


@pytest.mark.parametrize("variant", [*VARIANTS, PUBLISHED_V1])
def test_a_variant_is_shown_by_a_name_that_the_command_takes(variant: DecoderVariant) -> None:
    assert DecoderVariant.named(variant_name(variant)) == variant


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
