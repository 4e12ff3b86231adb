"""Whose a drift is, from answers that were made up, and the parts of a graph with what each is given."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from rich.console import Console

from harness.core.job import Residency
from harness.graph.inputs import random_inputs
from harness.graph.model import Model
from harness.localize.base.op_record import OpRecord
from harness.localize.base.result import Culprit, Localization, ModelFacts, OutputVerdict, Status
from harness.numerics.metrics import compare
from harness.numerics.tolerance import Judgement
from harness.numerics.usefulness import Limits, Shortfall
from harness.remedies.cause import Cause
from harness.sam2.video.drift.measure import GraphDrift
from harness.sam2.video.drift.origin import (
    DRIFT_IS,
    Origin,
    Piece,
    Traced,
    drift_is,
    most_rounded,
    pieces_of,
    trace,
    worst_ratio,
)
from harness.sam2.video.show import show_lost_digits, show_parts
from tests.chains import chain
from tests.localize.planted import InProcess

ACCUSED = Culprit(OpRecord(3, "ADD", 3, "t", 4, (1, 8), "float32", "culprit"), Cause.KERNEL, None, certified=True)


def answer(status: Status, model: str = "m.tflite", *, wrong: bool = False) -> Localization:
    return Localization(
        ModelFacts(model, "0" * 64, 9), {"name": "host"}, status, certified=True, outputs=(),
        culprits=(ACCUSED,) if wrong else (), records=(), residency=Residency(True), device_compiles=1, device_runs=1,
        seconds=1.0,
    )  # fmt: skip


GOOD, BAD, OPEN = answer("pass"), answer("culprits", wrong=True), answer("unresolved")
_ONE = compare(np.ones(4, np.float32), np.ones(4, np.float32))
USELESS = OutputVerdict("y", Judgement(True, 1.0, _ONE, _ONE), 1.0, shortfalls=(Shortfall("spread", 0.5, 0.1),))
BY_PRECISION = replace(BAD, outputs=(USELESS,))


@pytest.mark.parametrize(
    ("found", "origin"),
    [
        ([GOOD], "float16"),
        ([GOOD, GOOD], "float16"),
        ([GOOD, BAD], "op"),
        ([OPEN, BAD], "op"),
        ([GOOD, OPEN], "undecided"),
        ([answer("unresolved", wrong=True)], "op"),
        ([GOOD, BY_PRECISION], "float16"),
        ([BY_PRECISION, BAD], "op"),
        ([], "undecided"),
    ],
)
def test_one_accused_op_makes_it_an_ops_and_only_where_all_passed_is_it_the_formats(
    found: list[Localization], origin: Origin
) -> None:
    assert drift_is(found) == origin


def test_each_origin_has_its_sentence() -> None:
    assert set(DRIFT_IS) == set(get_args(Origin))


def test_of_parts_the_first_with_a_culprit_stands_for_all() -> None:
    runs = ((answer("pass", "a"), Path("1")), (answer("culprits", "b", wrong=True), Path("2")), (GOOD, Path("3")))
    told = Traced(runs).to_json()
    assert (told["drift_is"], told["localized"]["run"]) == ("op", "2")
    assert [(one["model"], one["ratio"], one["culprits"], one["run"]) for one in told["localized_parts"]] == [
        ("a", None, 0, "1"), ("b", None, 1, "2"), ("m.tflite", None, 0, "3"),
    ]  # fmt: skip
    beside = Traced(((BY_PRECISION, Path("rounds")), *runs)).to_json()
    assert (beside["drift_is"], beside["localized"]["run"]) == ("op", "2")
    assert Traced(runs[:1]).to_json() == {
        "drift_is": "float16",
        "localized": runs[0][0].to_json() | {"run": "1"},
        "localized_parts": [],
        "lost_digits": None,
    }
    assert Traced().to_json() == {"drift_is": None, "localized": None, "localized_parts": [], "lost_digits": None}


def judged(*ratios: float) -> Localization:
    compared = compare(np.ones(4, np.float32), np.ones(4, np.float32))
    outputs = tuple(OutputVerdict("y", Judgement(ratio < 16, ratio, compared, compared), 1.0) for ratio in ratios)
    return replace(GOOD, outputs=outputs)


def test_parts_are_shown_with_the_worst_of_their_outputs() -> None:
    assert [worst_ratio(judged(*ratios)) for ratios in ((2.0, 6.5, 3.0), (np.inf, 1.0), ())] == [6.5, None, None]
    screen = Console(record=True, width=80)
    show_parts([(judged(2.0, 6.5), Path()), (replace(BAD, outputs=judged(99.0).outputs), Path())], screen)
    lines = [line.split() for line in screen.export_text().splitlines()[1:]]
    assert lines == [["m", "pass", "6.5x"], ["m", "culprits", "99.0x"]]


def rounded(cosine: float) -> Localization:
    """Passed, with outputs of that cosine and of 1."""
    exact = np.asarray([1.0, 0.0], np.float32)
    seen = np.asarray([cosine, np.sqrt(1 - cosine**2)], np.float32)
    found = [compare(values, exact) for values in (exact, seen)]
    return replace(GOOD, outputs=tuple(OutputVerdict("y", Judgement(True, 1.0, one, one), 1.0) for one in found))


def test_the_part_of_the_least_cosine_is_asked_for_half_of_its_error() -> None:
    found = most_rounded([rounded(0.9999), rounded(0.98), rounded(0.99)])
    assert found is not None
    place, limit = found
    assert place == 1
    assert limit == pytest.approx(0.995, abs=1e-6)
    assert most_rounded([rounded(1.0)]) is None
    assert most_rounded([]) is None


class Asking:
    """Answers for each piece, and keeps what it was asked."""

    def __init__(self, *answers: Localization) -> None:
        self.answers, self.limits = dict(enumerate(answers)), list[tuple[str, Limits]]()

    def __call__(self, piece: Piece, limits: Limits) -> tuple[Localization, Path]:
        self.limits.append((piece[0].name, limits))
        return self.answers[int(piece[0].name) if limits == Limits() else len(self.answers) - 1], Path("run")

    def pieces(self, count: int) -> list[Piece]:
        return [(Path(str(place)), {}) for place in range(count)]


LOST = replace(BAD, culprits=(replace(ACCUSED, signature="coarse steps"),), notes=("A note.",))


def test_where_all_parts_pass_the_least_exact_one_is_asked_for_the_ops_that_lose_the_digits() -> None:
    asking = Asking(rounded(0.9999), rounded(0.98), LOST)
    traced = trace(asking.pieces(2), asking)
    assert [name for name, _ in asking.limits] == ["0", "1", "1"]
    assert asking.limits[2][1].min_cosine == traced.min_cosine == pytest.approx(0.995, abs=1e-6)
    assert traced.to_json()["lost_digits"] == {
        "model": "m.tflite", "min_cosine": traced.min_cosine, "notes": ["A note."], "run": "run",
        "ops": [{"index": 3, "op": "ADD", "signature": "coarse steps"}],
    }  # fmt: skip
    assert traced.origin == "float16"


def test_an_answer_by_precision_has_named_them_and_an_accused_op_needs_no_more() -> None:
    asking = Asking(GOOD, BY_PRECISION)
    traced = trace(asking.pieces(2), asking)
    assert (len(asking.limits), traced.origin, traced.min_cosine) == (2, "float16", None)
    assert traced.lost == (BY_PRECISION, Path("run"))
    asking = Asking(GOOD, BAD)
    assert trace(asking.pieces(2), asking) == Traced(((GOOD, Path("run")), (BAD, Path("run"))))


def test_the_ops_that_lose_the_digits_are_shown_with_the_way_they_do() -> None:
    screen = Console(record=True, width=80)
    show_lost_digits(Traced((), (LOST, Path()), 0.995), screen)
    show_lost_digits(Traced((), (replace(LOST, culprits=()), Path()), 0.995), screen)
    show_lost_digits(Traced((), (LOST, Path())), screen)
    show_lost_digits(Traced(), screen)
    assert screen.export_text().split("\n") == [
        "  half of the error: ADD #3, coarse steps", "  A note.",
        "  lost digits that an output needs: ADD #3, coarse steps", "",
    ]  # fmt: skip


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "graph.tflite"
    path.write_bytes(chain("NEG", "TANH", "ABS", "EXP").to_bytes())
    return path


def test_every_part_is_a_file_with_what_the_ones_before_it_give(model: Path, tmp_path: Path) -> None:
    given = random_inputs(Model.load(model).graph(), 0)
    starter = GraphDrift("memory_encoder", full=True, parts=2, model=model, inputs=given)
    (first, fed), (second, later) = pieces_of(starter, InProcess(), tmp_path / "parts", 2, timeout=60)
    assert [path.name for path in (first, second)] == [
        "memory_encoder-ops-0-to-1.tflite", "memory_encoder-ops-2-to-3.tflite",
    ]  # fmt: skip
    (values,), (exact,) = fed.values(), later.values()
    assert np.array_equal(values, given["x"])
    np.testing.assert_allclose(exact, np.tanh(-given["x"]), rtol=1e-6)
    assert [len(Model.load(path).graph().ops) for path in (first, second)] == [2, 2]


def test_a_graph_that_ran_whole_is_asked_whole_and_one_without_inputs_not_at_all(model: Path, tmp_path: Path) -> None:
    inputs = {"x": np.ones((1, 8), np.float32)}
    whole = GraphDrift("memory_encoder", model=model, inputs=inputs)
    assert pieces_of(whole, InProcess(), tmp_path / "parts", 1, timeout=60) == [(model, inputs)]
    # And so is one that was to be cut and has no place for it.
    model.write_bytes(chain("ABS").to_bytes())
    assert pieces_of(whole, InProcess(), tmp_path / "parts", 4, timeout=60) == [(model, inputs)]
    assert pieces_of(GraphDrift("memory_encoder", parts=3), InProcess(), tmp_path / "parts", 2, timeout=60) == []
    assert not (tmp_path / "parts").exists()
