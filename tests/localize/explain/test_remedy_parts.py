"""What a remedy's figures are of, how often it is timed, and what a chain of models holds back from the GPU."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.core.arrays import Array
from harness.core.choices import Precision
from harness.core.job import Completed, Crashed, Job, Options, Outcome, Rejected, Residency, Sample
from harness.core.run_folder import RunFolder
from harness.devices.base import Sink
from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from harness.localize.base.case import Case
from harness.localize.base.comparison import Workbench
from harness.localize.base.host_runs import run_ideal
from harness.localize.base.result import Remedy
from harness.localize.explain.remedy_trials import (
    ON_CPU,
    RUNS,
    SLOW_NS,
    SLOW_RUNS,
    TrialPlan,
    Truth,
    Whole,
    _failed,
    _median_ms,
    _slug,
    held_back,
    other_shapes,
    ranked,
    remedy_label,
)
from harness.remedies.options import FLOAT32
from harness.remedies.rescale import LEAST_PEAK, MOST_PEAK
from tests.arrays import f32
from tests.chains import chain
from tests.localize.explains import A, B
from tests.localize.planted import InProcess

MODEL = chain("ABS", "NEG", "ABS", "NEG", shape=(4,))
MADE = [op.outputs[0] for op in MODEL.graph().ops]
X = f32([1, 2, 4, 8])


def case_of(precision: Precision = "fp16") -> Case:
    return Case(MODEL, {"x": X}, Options("gpu", precision=precision), timeout=60)


@pytest.mark.parametrize(
    ("peaks", "precision", "held"),
    [
        ({}, "fp16", {1}),  # of what is not known nothing is held back
        ({MADE[1]: MOST_PEAK}, "fp16", {1}),
        ({MADE[1]: MOST_PEAK * 1.01}, "fp16", {1, 2}),
        ({MADE[1]: LEAST_PEAK}, "fp16", {1}),
        ({MADE[1]: LEAST_PEAK * 0.99}, "fp16", {1, 2}),
        ({MADE[1]: 1e9, MADE[2]: 1e9, MADE[3]: 1e9}, "fp16", {1, 2, 3}),
        ({MADE[0]: 1e9, MADE[2]: 1e9}, "fp16", {1}),
        ({MADE[1]: 1e9}, "fp32", {1}),
    ],
)
def test_ops_are_held_back_until_float16_holds_what_goes_on(
    peaks: dict[int, float], precision: Precision, held: set[int]
) -> None:
    assert held_back(case_of(precision), frozenset({1}), peaks) == held


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("PAD as CONCATENATION", "pad-as-concatenation"),
        ("1 - LOGISTIC(x) as LOGISTIC(-x)", "1-logistic-x-as-logistic-x"),
        ("--a--", "a"),
        ("x" * 61, "x" * 60),
    ],
)
def test_a_remedys_name_becomes_that_of_a_file(name: str, slug: str) -> None:
    assert _slug(name) == slug
    assert remedy_label(name, "y").startswith(f"remedy-{slug}-")
    assert remedy_label(name, "y") != remedy_label(name, "z")


def test_a_plan_is_named_by_its_rewrites_each_once() -> None:
    assert TrialPlan(((A, (1,)), (B, (2,)), (A, (3,)))).name == "A; B"


def test_a_run_takes_writing_running_and_reading_and_the_median_counts() -> None:
    samples = [Sample(1_000_000, 2_000_000, 4_000_000), Sample(0, 1_000_000, 0), Sample(0, 0, 90_000_000)]
    assert _median_ms(samples) == 7.0


def test_one_that_could_not_be_tried_has_no_figures() -> None:
    failed = _failed("A", "why")
    assert (failed.name, failed.ok, failed.run_ms, failed.note, failed.ratio) == ("A", False, None, "why", math.inf)
    assert all(math.isnan(value) for value in (failed.cosine, failed.max_abs, failed.iou))


def remedy(name: str, run_ms: float | None, ratio: float = 1.0, *, ok: bool = True) -> Remedy:
    return Remedy(name, 1.0, 0.0, ratio, 1.0, run_ms, ok)


@pytest.mark.parametrize(
    ("remedies", "order"),
    [
        ([], []),
        ([remedy("b", 1.0, 2.0), remedy("a", 1.0, 1.0)], ["a", "b"]),
        ([remedy("b", 1.0), remedy("a", 1.0)], ["b", "a"]),  # equal ones as they came
        ([remedy("b", 1.26, 1.0), remedy("a", 1.0, 2.0)], ["a", "b"]),
        ([remedy("b", 1.24, 1.0), remedy("a", 1.0, 2.0)], ["b", "a"]),
        ([remedy("wrong", 0.01, 1.0, ok=False), remedy("b", 1.24, 1.0), remedy("a", 1.0, 2.0)], ["b", "a", "wrong"]),
        ([remedy(ON_CPU, 1.0, 1.0), remedy("a", 1.0, 2.0)], ["a", ON_CPU]),
        ([remedy("untimed", None), remedy("a", 9.0, 2.0)], ["a", "untimed"]),
        ([remedy("c", 1.0, math.nan), remedy("b", 1.0, math.inf), remedy("a", 1.0, 5.0)], ["a", "c", "b"]),
    ],
)
def test_the_order_of_remedies(remedies: list[Remedy], order: list[str]) -> None:
    assert [each.name for each in ranked(remedies)] == order


def test_other_shapes_are_told_of_inputs_and_outputs() -> None:
    def model(given: tuple[int, ...], out: tuple[int, ...]) -> Model:
        graph = GraphBuilder()
        graph.output(graph.reshape(graph.input("x", given), out), "y")
        return graph.build()

    before = model((2, 4), (8,))
    assert other_shapes(before, model((2, 4), (8,))) == ()
    assert other_shapes(before, model((1, 8), (4, 2))) == (
        "Its input 'x' is declared [1, 8], not [2, 4]: the same values in the same order.",
        "Its output 'y' is declared [4, 2], not [8]: the same values in the same order.",
    )


class Timed(InProcess):
    """Takes a while for each run; gives `outputs` in turn, or `instead` of them; `seen` has each job."""

    def __init__(self, ns: int = 1_000_000, *outputs: Any, instead: tuple[Outcome | None, ...] = ()) -> None:
        super().__init__("phone")
        self.ns, self.outputs, self.instead = ns, list(outputs), list(instead)

    def run(self, job: Job, sink: Sink | None = None) -> Outcome:
        self.jobs.append(job)
        if self.instead and (outcome := self.instead.pop(0)) is not None:
            return outcome
        values = f32(self.outputs.pop(0)) if self.outputs else -X
        samples = tuple(Sample(0, self.ns, 0) for _ in range(job.iterations))
        return Completed({"y": values}, Residency(True), samples, 0, True, "1", "", "")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[RunFolder]:
    with RunFolder.create(tmp_path, "localize", "remedy", "phone") as opened:
        yield opened


def whole_of(folder: RunFolder, device: Timed, precision: Precision = "fp16") -> Whole:
    case, host = case_of(precision), InProcess()
    ideal = run_ideal(case, host, MODEL, case.inputs, frozenset(), "running ideally")
    return Whole(Workbench(device, host, folder), case, Truth({"y": -X}, ideal, dict.fromkeys(MADE, 8.0)))


@pytest.mark.parametrize(("ns", "runs"), [(int(SLOW_NS), RUNS), (int(SLOW_NS) + 1, SLOW_RUNS)])
def test_a_slow_model_is_timed_in_fewer_runs(folder: RunFolder, ns: int, runs: int) -> None:
    device = Timed(ns)
    assert whole_of(folder, device).untouched() == ns / 1e6
    assert [(job.warmup, job.iterations) for job in device.jobs] == [(1, 1), (0, runs)]


@pytest.mark.parametrize("instead", [(Crashed("it died"),), (None, Rejected("no"))])
def test_a_model_that_does_not_complete_both_times_has_no_time(
    folder: RunFolder, instead: tuple[Outcome | None, ...]
) -> None:
    whole = whole_of(folder, Timed(instead=instead))
    assert whole.untouched() is None
    whole = whole_of(folder, Timed(instead=instead))
    found = whole.with_options(FLOAT32)
    assert (found.ok, found.run_ms) == (False, None)
    doing = "trying a remedy" if len(instead) == 1 else "timing a remedy"
    assert doing in found.note or "rejected" in found.note


@pytest.mark.parametrize(
    ("first", "last", "ok", "most"),
    [
        (-X, -X, True, 0.0),
        (-X, -X + f32([0, 0, 0, 2]), False, 2.0),
        (-X + f32([3, 0, 0, 0]), -X, False, 3.0),
        (-X, [-1, -2, np.nan, -8], False, 0.0),
    ],
)
def test_a_remedy_has_the_worst_figures_of_its_first_and_its_last_run(
    folder: RunFolder, first: Array, last: Any, ok: bool, most: float
) -> None:
    device = Timed(2_000_000, first, last)
    found = whole_of(folder, device).with_options(FLOAT32)
    assert (found.name, found.ok, found.run_ms, found.max_abs, found.note) == (
        FLOAT32.name, ok, 2.0, most, FLOAT32.note,
    )  # fmt: skip
    assert [job.options.precision for job in device.jobs] == ["fp32", "fp32"]
    stored = folder.tensors.get(remedy_label(FLOAT32.name, "y"), "device")
    np.testing.assert_array_equal(stored, first)
    if not ok and most:
        assert found.cosine < 1
        assert found.ratio > 32


def test_a_chain_runs_the_parts_in_turn_and_is_written_with_its_script(folder: RunFolder) -> None:
    class Parts(Timed):
        """Computes each part."""

        def run(self, job: Job, sink: Sink | None = None) -> Outcome:
            done = InProcess.run(self, job, sink)
            assert isinstance(done, Completed)
            samples = tuple(Sample(0, self.ns, 0) for _ in range(job.iterations))
            return Completed(done.outputs, done.residency, samples, 0, True, "1", "", "")

    device = Parts()
    found = whole_of(folder, device).on_cpu(frozenset({1}))
    assert (found.name, found.ok, found.run_ms) == (ON_CPU, True, 3.0)
    assert found.note == "3 models; chain.py there runs them in turn."
    assert [job.options.accelerator for job in device.jobs] == ["gpu", "gpu", "cpu", "cpu", "gpu", "gpu"]
    place = Path(found.path or "")
    assert place == folder.path / "remedies" / _slug(ON_CPU)
    plan = json.loads((place / "chain.json").read_text())
    assert [(part["model"], part["on"]) for part in plan["parts"]] == [
        ("part-0-gpu.tflite", "gpu"), ("part-1-cpu.tflite", "cpu"), ("part-2-gpu.tflite", "gpu"),
    ]  # fmt: skip
    ops = [[op.name for op in Model.load(place / part["model"]).graph().ops] for part in plan["parts"]]
    assert ops == [["ABS"], ["NEG"], ["ABS", "NEG"]]


def test_a_chain_of_which_a_part_fails_is_none(folder: RunFolder) -> None:
    device = Timed(instead=(Crashed("it died"),))
    found = whole_of(folder, device).on_cpu(frozenset({1}))
    assert (found.name, found.ok, found.run_ms, found.path) == (ON_CPU, False, None, None)
    assert len(device.jobs) == 1
