"""What is said beside a verdict: where a passing output lies near its limit, inputs that stand for nothing, lists."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.core.arrays import Array
from harness.core.job import Options, Residency
from harness.core.run_folder import TensorStore
from harness.core.visible import visible
from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from harness.localize.base import remarks as remarking
from harness.localize.base.case import Case
from harness.localize.base.ideals import Ideals
from harness.localize.base.op_record import OpRecord
from harness.localize.base.reference import output_label
from harness.localize.base.remarks import failure_words, images_of, left_open, ratio_and_limit, remarks, sentence
from harness.localize.base.result import Culprit, Localization, ModelFacts, OutputVerdict
from harness.numerics.metrics import compare
from harness.numerics.tolerance import FACTOR, judge
from harness.numerics.usefulness import LOST, LOST_ON_DEVICE, Shortfall
from harness.remedies.cause import Cause
from tests.arrays import f32, normal
from tests.chains import chain

EXACT = normal((1, 64), 3)
SPREAD = float(EXACT.std())
MODEL = chain("RELU", shape=EXACT.shape)


def verdict(actual: Array, exact: Array = EXACT, *, times: float = 1.0) -> OutputVerdict:
    """An output whose error is so many times what an ideal device's is."""
    ideal = exact + (actual - exact) / np.float32(times)
    return OutputVerdict("y", judge(compare(actual, exact), compare(ideal, exact), roundoff=2.0**-24, factor=FACTOR), 1)


def said(
    folder: Path,
    actual: Array,
    exact: Array = EXACT,
    *,
    ideal: Array | None = None,
    output: OutputVerdict | None = None,
    case: Case | None = None,
) -> tuple[str, ...]:
    store = TensorStore(folder)
    store.put(output_label("y"), "reference", exact, "y")
    store.put(output_label("y"), "device", actual, "y")
    case = case or Case(MODEL, {"x": exact}, Options("gpu"), timeout=60)
    ideals = {"y": Ideals([exact if ideal is None else ideal])}
    return remarks(case, [output or verdict(actual, exact)], ideals, store)


def off(share: float) -> Array:
    """The exact values with an error of that share of their spread in each."""
    return EXACT + np.float32(share * SPREAD) * np.where(np.arange(64) % 2, f32(1), f32(-1))


@pytest.mark.parametrize(("share", "told"), [(0.0, False), (0.12, False), (0.13, True), (0.2, True)])
def test_a_passing_output_that_is_off_by_more_than_storage_may_be_is_told(
    share: float, told: bool, tmp_path: Path
) -> None:
    assert LOST == 0.125
    notes = said(tmp_path, off(share), ideal=off(0.01))
    assert notes == (
        (
            f"Output 'y' is off by {100 * share:.2g} % of its spread; storing results as the device does explains 1 %, "
            f"and {100 * LOST_ON_DEVICE:.2g} % is the limit for what its arithmetic adds. Hold it to limits of your "
            "own with --min-cosine, --atol and --rtol.",
        )
        if told
        else ()
    )


def test_a_list_that_is_judged_row_by_row_is_not_measured_by_its_spread(tmp_path: Path) -> None:
    assert said(tmp_path, off(0.2), output=replace(verdict(off(0.2)), rows=(0, 0))) == ()


def test_an_output_that_float32_loses_as_well_is_not_asked_for_its_use(tmp_path: Path) -> None:
    store = TensorStore(tmp_path)
    for side in ("reference", "device"):
        store.put(output_label("y"), side, EXACT, "y")
    case = Case(MODEL, {"x": EXACT}, Options("gpu"), timeout=60)
    for single, noise in ((off(0.5), True), (off(0.01), False)):
        notes = remarks(case, [verdict(EXACT)], {"y": Ideals([EXACT, EXACT, single])}, store)
        assert any("is not asked whether it is of use" in note for note in notes) is noise


@pytest.mark.parametrize(("offset", "half", "told"), [(5000, True, True), (0, True, False), (5000, False, False)])
def test_steps_of_float16_that_are_coarse_against_the_spread_are_told(
    offset: float, half: bool, told: bool, tmp_path: Path
) -> None:
    """Beyond 4096 they are 4 apart, which costs more than an eighth of a spread of 1."""
    exact = EXACT + f32(offset)
    case = Case(MODEL, {"x": exact}, Options("gpu", precision="default" if half else "fp32"), timeout=60)
    notes = said(tmp_path, exact, exact, case=case)
    assert any("is stored in float16 steps that are coarse against its spread" in note for note in notes) is told


SHORT = Shortfall("spread", 0.4, 0.125)


def test_beside_a_wrong_output_one_that_lacks_precision_is_told_to_wait(tmp_path: Path) -> None:
    store = TensorStore(tmp_path)
    graph = GraphBuilder()
    x = graph.input("x", EXACT.shape)
    for name, kind in (("y", "RELU"), ("z", "ABS")):
        graph.output(graph.unary(kind, x), name)
        for side in ("reference", "device"):
            store.put(output_label(name), side, EXACT, name)
    case = Case(graph.build(), {"x": EXACT}, Options("gpu"), timeout=60)
    wrong, useless = verdict(-EXACT, times=100), replace(verdict(EXACT), name="z", shortfalls=(SHORT,))
    ideal = {name: Ideals([EXACT]) for name in ("y", "z")}
    assert remarks(case, [wrong, useless], ideal, store) == (
        f"Output 'z' fails by precision besides ({SHORT.words()}): mend what is wrong first.",
    )
    assert remarks(case, [replace(useless, name="y"), useless], ideal, store) == ()


def shaped(*shapes: tuple[int, ...]) -> Model:
    graph = GraphBuilder()
    for i, shape in enumerate(shapes):
        graph.output(graph.unary("RELU", graph.input(f"x{i}", shape)), f"y{i}")
    return graph.build()


@pytest.mark.parametrize(
    ("shape", "image"),
    [
        ((1, 16, 16, 3), True),
        ((1, 16, 16, 1), True),
        ((1, 224, 16, 4), True),
        ((1, 3, 16, 32), True),
        ((2, 3, 16, 32), True),
        ((1, 15, 16, 3), False),
        ((1, 16, 15, 3), False),
        ((1, 16, 16, 2), False),
        ((1, 16, 16, 5), False),
        ((1, 3, 15, 16), False),
        ((16, 16, 3), False),
        ((1, 1, 16, 16, 3), False),
        ((), False),
    ],
)
def test_an_image_is_told_by_its_sides_and_channels(shape: tuple[int, ...], image: bool) -> None:
    assert images_of(shaped(shape).graph()) == ([("x0", shape)] if image else [])


def test_noise_in_place_of_images_is_told(tmp_path: Path) -> None:
    for model, told in (
        (shaped((1, 16, 16, 3)), "Input 'x0' [1, 16, 16, 3] looks like an image and was fed with noise"),
        (
            shaped((1, 16, 16, 3), (1, 4), (1, 1, 32, 32)),
            "Input 'x0' [1, 16, 16, 3], 'x2' [1, 1, 32, 32] look like images and were fed with noise",
        ),
    ):
        for drawn in (True, False):
            case = Case(model, {}, Options("gpu"), timeout=60, drawn=drawn)
            notes = remarks(case, [], {}, TensorStore(tmp_path))
            assert [note.partition(":")[0] for note in notes] == ([told] if drawn else [])


def test_how_much_precision_is_enough_is_not_known_of_random_numbers(tmp_path: Path) -> None:
    useless = replace(verdict(EXACT), shortfalls=(SHORT,))
    case = Case(MODEL, {"x": EXACT}, Options("gpu"), timeout=60, drawn=True)
    notes = said(tmp_path, EXACT, output=useless, case=case)
    assert notes == (
        "The inputs are random numbers, and how much precision is enough depends on them: give real ones.",
    )
    assert said(tmp_path, EXACT, case=case) == ()


def test_what_a_search_did_not_settle_is_counted() -> None:
    assert left_open(0) == []
    assert left_open(1) == ["1 stretch of ops could not be resolved on the device."]
    assert left_open(2) == ["2 stretches of ops could not be resolved on the device."]


def test_the_sentence_is_of_the_output_that_is_nearest_to_its_limit_or_furthest_beyond() -> None:
    fine, near = (verdict(off(0.2), times=times) for times in (2, 12))
    assert sentence([near, fine], half=True) == "PASS: the error is what float16 rounding predicts (12.0x, limit 16x)."
    assert sentence([near, replace(fine, shortfalls=(SHORT,))], half=False) == (
        "FAIL by precision: the error is what float32 rounding predicts (2.0x, limit 16x), "
        f"but 'y' is of no use: {SHORT.words()}."
    )
    wrong = verdict(off(0.2), times=200)
    assert sentence([fine, wrong], half=True) == (
        "FAIL: output 'y' is wrong by more than float16 rounding predicts (200x, limit 16x)."
    )
    over = replace(wrong, judgement=replace(wrong.judgement, limit=64.0))  # 3 times its limit, and the other 6 times
    assert ratio_and_limit([verdict(off(0.2), times=99), over]) == "99.0x, limit 16x"
    five = [replace(wrong, name=name) for name in "abcde"]
    assert sentence(five, half=True).startswith("FAIL: 5 outputs ('a', 'b', 'c', 'd', …) are wrong by more")
    assert sentence(five[:4], half=True).startswith("FAIL: 4 outputs ('a', 'b', 'c', 'd') are wrong by more")


@pytest.mark.parametrize(("times", "words"), [(2.44, "2.4x"), (99.4, "99.4x"), (12345.0, "1.23e+04x")])
def test_a_ratio_is_told_in_a_few_digits(times: float, words: str) -> None:
    assert ratio_and_limit([verdict(off(0.2), times=times)]) == f"{words}, limit 16x"
    infinite = off(0.2)
    infinite[0, 0] = np.inf
    held = judge(compare(infinite, EXACT), compare(EXACT, EXACT), roundoff=2.0**-24, factor=FACTOR)
    assert ratio_and_limit([OutputVerdict("y", held, 1)]) == "NaN or infinite, limit 16x"


def named(name: str, *, certified: bool) -> Culprit:
    record = OpRecord(3, "MUL", 3, name, 7, (1, 64), "float32", "culprit")
    return Culprit(record, Cause.KERNEL, None, certified=certified)


def answered(**fields: Any) -> Localization:
    answer = Localization(
        ModelFacts("folder/net.tflite", "", 4), {}, "culprits", False, (), (), (), Residency(True), 0, 0, 0.0
    )
    return replace(answer, **fields)


def test_a_failure_is_told_by_its_outputs_its_ops_and_where_the_report_lies() -> None:
    wrong = verdict(off(0.2), times=200)
    culprits = (named("a", certified=True), named("b\n", certified=False))
    answer = answered(outputs=(wrong,), culprits=culprits, notes=("Unsaid.",), folder=Path("kept"), half=False)
    assert failure_words(answer, "a GPU").split("\n") == [
        f"net.tflite on a GPU: {sentence([wrong], half=False)}",
        "  MUL #3 'a': kernel, certified; nothing could be read",
        visible("  MUL #3 'b\n': kernel, not certified; nothing could be read"),
        f"  report: {Path('kept') / 'report.html'}",
    ]


def test_a_failure_without_outputs_or_ops_is_told_by_its_notes() -> None:
    answer = answered(model=ModelFacts("", "", 4), notes=("First.", "Second."))
    assert failure_words(answer, "a GPU").split("\n") == [
        "the model fails.",
        "  No op could be named for it.",
        "  First.",
        "  Second.",
    ]


@pytest.mark.parametrize(
    ("worst", "limit", "words"), [(99.94, 16.0, "99.9x"), (100.0, 16.0, "100x"), (1.0, 2.5, "1.0x")]
)
def test_a_ratio_keeps_one_decimal_below_a_hundred(worst: float, limit: float, words: str) -> None:
    output = verdict(off(0.2))
    at = replace(output, judgement=replace(output.judgement, ratio=worst, limit=limit))
    assert ratio_and_limit([at]) == f"{words}, limit {limit:g}x"


SORTED = (
    "1 row of nearly equal scores in another place than in the reference",
    "2 rows of nearly equal scores in another place than in the reference",
    "1 row at the end of the list that the reference has cut off",
)


@pytest.mark.parametrize(
    ("rows", "words"),
    [((1, 0), SORTED[0]), ((2, 0), SORTED[1]), ((0, 1), SORTED[2]), ((2, 1), f"{SORTED[1]}, {SORTED[2]}")],
)
def test_rows_that_stand_elsewhere_are_counted_by_their_kind(
    rows: tuple[int, int], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remarking, "sorted_by", lambda graph, tensor: "TOPK_V2 #4")
    notes = said(tmp_path, EXACT, output=replace(verdict(EXACT), rows=rows))
    assert notes == (f"Output 'y', which TOPK_V2 #4 sorts, is judged row by row: {words}.",)


def test_a_sorted_list_that_lacks_precision_may_have_changed_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remarking, "sorted_by", lambda graph, tensor: "TOPK_V2 #4")
    assert said(tmp_path, EXACT) == ()  # a list that passes needs no remark
    useless = replace(verdict(EXACT), shortfalls=(SHORT,))
    (note,) = said(tmp_path, EXACT, output=useless)
    assert note.startswith("Output 'y' is in the order in which TOPK_V2 #4 sorts: where two scores are nearly equal,")
    monkeypatch.setattr(remarking, "sorted_by", lambda graph, tensor: None)
    assert said(tmp_path, EXACT, output=useless) == ()
