"""The untouched model on the device: what passes, how often it is asked, and which output changed."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from harness.core.arrays import Array
from harness.core.errors import UnresolvedError
from harness.core.job import Completed, Options, Outcome, Residency, Sample
from harness.core.run_folder import RunFolder
from harness.localize.base.case import Case
from harness.localize.base.comparison import ModelComparison, Workbench, _other_verdict, changed_output, compare_model
from harness.localize.base.ideals import Ideals
from harness.numerics.fp16 import UNIT_ROUNDOFF
from tests.arrays import f32
from tests.chains import chain
from tests.localize.planted import InProcess

MODEL = chain("ABS", "NEG")
EXACT = f32(np.linspace(-2, -1, 8))[None]
ROUNDING = f32(UNIT_ROUNDOFF * 2)


def compared(*outputs: tuple[bool, bool], differs: str = "") -> ModelComparison:
    """Of outputs that are (explained, of use)."""
    told: Any = tuple(
        SimpleNamespace(explained=explained, ok=explained and useful, to_json=lambda: "output")
        for explained, useful in outputs
    )
    done = Completed({}, Residency(True, 2, 2, 1), (), 1, True, "2.3.0", "in process", "")
    return ModelComparison(told, done, {}, frozenset(), differs, notes=("A note.",))


@pytest.mark.parametrize(
    ("found", "ok", "explained"),
    [
        (compared((True, True)), True, True),
        (compared((True, True), (True, False)), False, True),
        (compared((True, True), (False, True)), False, False),
        (compared((True, True), differs="'y'"), False, False),
        (compared((True, False), differs="'y'"), False, False),
    ],
)
def test_a_comparison_passes_where_every_output_does_each_time(
    found: ModelComparison, ok: bool, explained: bool
) -> None:
    assert (found.ok, found.explained) == (ok, explained)
    assert found.to_json() == {
        "schema": 1,
        "status": "pass" if ok else "fail",
        "outputs": ["output"] * len(found.outputs),
        "residency": {"delegated": 2, "total": 2, "partitions": 1, "full": True},
        "repeatable": not found.differs,
        "notes": ["A note."],
    }


class Giving(InProcess):
    """Gives one result after another, the last one for ever; takes 1 ms."""

    def __init__(self, *results: Array) -> None:
        super().__init__("giving")
        self.results = list(results)

    def run(self, job: Any, sink: Any = None) -> Outcome:
        done = super().run(job)
        assert isinstance(done, Completed)
        values = self.results.pop(0) if len(self.results) > 1 else self.results[0]
        return replace(done, outputs={"y": values}, samples=(Sample(0, 1_000_000, 0),))


def asked(tmp_path: Path, *results: Array, runs: int = 2) -> tuple[ModelComparison, int]:
    case = Case(MODEL, {"x": EXACT}, Options("gpu"), timeout=60)
    device = Giving(*results)
    with RunFolder.create(tmp_path, "compare", "abs", "giving") as run:
        return compare_model(Workbench(device, InProcess(), run), case, runs=runs), len(device.jobs)


RIGHT, WRONG, WORSE = EXACT, EXACT + 1, EXACT + 2


@pytest.mark.parametrize(
    ("results", "runs", "count", "rate", "wrong"),
    [
        ((RIGHT,), 2, 2, None, []),
        ((WRONG,), 2, 2, None, []),
        ((RIGHT,), 3, 3, (0, 3), []),
        ((WRONG,), 3, 3, (3, 3), []),
        ((RIGHT, WRONG), 2, 8, (7, 8), [1] * 7),
        ((WRONG, RIGHT), 2, 8, (1, 8), [1]),
        ((WRONG, WORSE), 2, 8, (8, 8), [1] + [2] * 7),
        ((RIGHT, WRONG, RIGHT), 10, 10, (1, 10), [1]),
        ((RIGHT, RIGHT, RIGHT, WRONG, RIGHT), 5, 8, (1, 8), [1]),
    ],
)
def test_a_device_that_changes_its_mind_is_asked_more_often_and_its_wrong_runs_are_kept(
    results: tuple[Array, ...], runs: int, count: int, rate: tuple[int, int] | None, wrong: list[int], tmp_path: Path
) -> None:
    found, jobs = asked(tmp_path, *results, runs=runs)
    assert (jobs, [output.runs for output in found.outputs]) == (count, [rate])
    assert [float(np.max(run["y"] - EXACT)) for run in found.wrong_runs] == wrong
    assert bool(found.differs) is bool(wrong)


class Elsewhere(InProcess):
    """On a machine of its own: a run begins, and waits until `let_go` is set or the device is stopped."""

    elsewhere = True

    def __init__(self) -> None:
        super().__init__("elsewhere")
        self.begun, self.let_go = threading.Event(), threading.Event()

    def run(self, job: Any, sink: Any = None) -> Outcome:
        self.begun.set()
        if not self.let_go.wait(20):
            raise AssertionError("nobody waited for this run, and nobody stopped it")
        return super().run(job)

    def stop(self) -> None:
        self.let_go.set()


class AtTheSameTime(InProcess):
    """A host that answers once the device has begun to work, and lets it go on then."""

    def __init__(self, device: Elsewhere, *, lets_go: bool) -> None:
        super().__init__()
        self.device, self.lets_go = device, lets_go

    def run(self, job: Any, sink: Any = None) -> Outcome:
        assert self.device.begun.wait(20), "the device waits for the reference"
        if self.lets_go:
            self.device.let_go.set()
        return super().run(job, sink)


def test_a_device_on_another_machine_runs_while_the_reference_is_made(tmp_path: Path) -> None:
    case, device = Case(MODEL, {"x": EXACT}, Options("gpu"), timeout=60), Elsewhere()
    with RunFolder.create(tmp_path, "compare", "abs", "elsewhere") as run:
        found = compare_model(Workbench(device, AtTheSameTime(device, lets_go=True), run), case)
    assert (found.ok, len(device.jobs)) == (True, 2)


def test_where_there_is_no_reference_its_run_is_stopped(tmp_path: Path) -> None:
    case, device = Case(chain("SQRT"), {"x": -1 - EXACT**2}, Options("gpu"), timeout=60), Elsewhere()
    with (
        pytest.raises(UnresolvedError, match="NaN or infinite throughout"),
        RunFolder.create(tmp_path, "compare", "sqrt", "elsewhere") as run,
    ):
        compare_model(Workbench(device, AtTheSameTime(device, lets_go=False), run), case)
    assert (device.let_go.is_set(), len(device.jobs)) == (True, 1)


def test_a_reference_that_is_nowhere_finite_has_nothing_to_compare_with(tmp_path: Path) -> None:
    model = chain("SQRT")
    case = Case(model, {"x": np.full((1, 8), -1, np.float32)}, Options("gpu"), timeout=60)
    with (
        pytest.raises(UnresolvedError, match="'y' is NaN or infinite throughout"),
        RunFolder.create(tmp_path, "compare", "sqrt", "host") as run,
    ):
        compare_model(Workbench(InProcess(), InProcess(), run), case)
    case.inputs["x"][0, 3] = 4
    with RunFolder.create(tmp_path, "compare", "sqrt", "host") as run:
        assert compare_model(Workbench(InProcess(), InProcess(), run), case).ok


def changed(
    tmp_path: Path, before: Array, now: Array, *, against: Array | None = None, wrong: bool = False, fused: bool = False
) -> str:
    case = Case(MODEL, {"x": EXACT}, Options("gpu"), timeout=60)
    done = Completed({"y": before}, Residency(True), (), 1, True, "2.3.0", "in process", "")
    outputs: Any = (SimpleNamespace(name="y", ok=not wrong),)
    first = ModelComparison(outputs, done, {"y": Ideals([EXACT + ROUNDING])}, frozenset())
    with RunFolder.create(tmp_path, "compare", "abs", "host") as run:
        run.tensors.put("output-y", "reference", EXACT, "y")
        bench = Workbench(InProcess(), InProcess(), run)
        other = None if against is None else {"y": against}
        return changed_output(bench, case, first, {"y": now}, other, fused_otherwise=fused)


NAN = np.where(np.arange(8) == 3, np.nan, EXACT).astype(np.float32)
INFINITE = np.where(np.arange(8) == 3, np.inf, EXACT).astype(np.float32)


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        (EXACT, EXACT, ""),
        (WRONG, WRONG, ""),
        (NAN, NAN, ""),
        (EXACT, EXACT + 15 * ROUNDING, ""),
        (EXACT, EXACT + 17 * ROUNDING, "'y' (17x what rounding explains)"),
        (EXACT, NAN, "'y' (far more than what rounding explains)"),
        (NAN, EXACT, "'y'"),
        (NAN, INFINITE, "'y'"),
    ],
)
def test_an_output_is_changed_that_differs_by_more_than_rounding(
    before: Array, now: Array, said: str, tmp_path: Path
) -> None:
    assert changed(tmp_path, before, now) == said


def test_a_run_may_be_held_against_another_than_the_first(tmp_path: Path) -> None:
    assert changed(tmp_path, EXACT, WRONG, against=WRONG) == ""
    assert changed(tmp_path, WRONG, WRONG, against=EXACT).startswith("'y' (")


@pytest.mark.parametrize(
    ("wrong", "fused", "now", "same"),
    [
        (True, True, EXACT + 1.02, True),
        (True, False, EXACT + 1.02, False),
        (False, True, EXACT + 1.02, False),
        (True, True, EXACT - 1, False),  # another error
    ],
)
def test_another_compile_may_be_wrong_by_the_same_error(
    wrong: bool, fused: bool, now: Array, same: bool, tmp_path: Path
) -> None:
    said = changed(tmp_path, EXACT + 1, now.astype(np.float32), wrong=wrong, fused=fused)
    assert (said == "") is same


def test_integers_are_changed_by_any_difference(tmp_path: Path) -> None:
    one = np.ones((1, 8), np.int32)
    assert changed(tmp_path, one, one) == ""
    assert changed(tmp_path, one, one + (np.arange(8) == 2).astype(np.int32)) == "'y'"


@pytest.mark.parametrize(
    ("first", "again", "name"),
    [
        ((True, True), (True, True), None),
        ((False, False), (False, False), None),
        ((True, True), (True, False), "y1"),
        ((False, True), (True, False), "y0"),  # the first of them
    ],
)
def test_an_output_is_told_that_is_right_in_one_run_and_wrong_in_another(
    first: tuple[bool, ...], again: tuple[bool, ...], name: str | None
) -> None:
    runs: Any = [[SimpleNamespace(name=f"y{i}", explained=ok) for i, ok in enumerate(run)] for run in (first, again)]
    assert _other_verdict(*runs) == (f"'{name}' (right in one run, wrong in another)" if name else "")
