"""Devices that are wrong in some runs only: the op is named all the same, from a run in which it was wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from harness.cli.render import culprit_line
from harness.core.job import Completed, Job, Options, Outcome, Sample
from harness.core.run_folder import RunFolder
from harness.devices.base import Sink
from harness.graph.build import GraphBuilder
from harness.graph.inputs import random_inputs
from harness.graph.model import Model, Op
from harness.graph.rebuild import Rebuild
from harness.localize.base.case import Case
from harness.localize.base.comparison import ModelComparison, Workbench, compare_model
from harness.localize.explain.explainer import explain
from harness.localize.find.localizer import localize
from harness.localize.find.unsteady import (
    LEAST_RECORDS,
    MOST_ATTEMPTS,
    notes,
    rate,
    standing,
    wrong_all_over,
    wrong_run,
)
from harness.localize.probe.taps import Tapped
from tests.localize.attention import ATTENTION, RESULTS, Localize, exactly, named
from tests.localize.broken import Broken, rolled
from tests.localize.planted import SCALED, SHIFTED, Fault, Half, InProcess, is_tapped


class Flickering(Half):
    """The faults show in a share of all runs, each run for itself."""

    def __init__(self, original: Model, faults: dict[int, Fault], share: float, seed: int) -> None:
        super().__init__(original, faults, sees=lambda job: self.showing)
        self.share, self.rng, self.showing = share, np.random.default_rng(seed), False

    def run(self, job: Job, sink: Sink | None = None) -> Outcome:
        self.showing = bool(self.rng.random() < self.share)
        return super().run(job, sink)


class RightAtFirst(Half):
    """The faults show from the second run of a compiled model on."""

    def __init__(self, original: Model, faults: dict[int, Fault]) -> None:
        super().__init__(original, faults, sees=lambda job: self.showing)
        self.showing = False

    def run(self, job: Job, sink: Sink | None = None) -> Outcome:
        self.showing = job.warmup > 0 or job.sha256 == self._compiled
        return super().run(job, sink)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("culprit", [1, 4, 9])
def test_an_op_that_is_wrong_in_three_of_ten_runs_is_named_or_nothing_is(
    find: Localize, culprit: int, seed: int
) -> None:
    """Whether a wrong run was seen twice is chance; an op that is right in all runs is never blamed."""
    answer = find(Flickering(ATTENTION, {RESULTS[culprit]: SHIFTED}, 0.3, seed), ATTENTION)
    assert named(answer) in (exactly([culprit]), [])


def test_most_of_them_are_named(find: Localize) -> None:
    """Six tapped runs, and as many second looks, each wrong by 0.3: 1 - 0.7^6 = 0.88 for either, 0.78 for both."""
    answers = [find(Flickering(ATTENTION, {RESULTS[4]: SCALED}, 0.3, seed), ATTENTION, runs=8) for seed in range(20)]
    differing = [answer for answer in answers if answer.differs]
    assert len(differing) >= 16
    assert sum(named(answer) == exactly([4]) for answer in differing) >= 0.6 * len(differing)


def test_an_op_that_is_right_only_the_first_time_is_named(find: Localize) -> None:
    answer = find(RightAtFirst(ATTENTION, {RESULTS[6]: SHIFTED}), ATTENTION)
    assert named(answer) == exactly([6])
    assert any("right only the first time" in note for note in answer.notes)
    (output, *_) = answer.outputs
    assert output.runs == (7, 8)


class BrokenByTaps(Flickering):
    """One op is wrong in some runs of the untouched model, and another wherever intermediates are read."""

    def run(self, job: Job, sink: Sink | None = None) -> Outcome:
        tapped = is_tapped(self.model)(job)
        self.faults = {RESULTS[1]: SHIFTED} if tapped else {RESULTS[9]: SHIFTED}
        self.share = 1.0 if tapped else 0.5
        return super().run(job, sink)

    def __init__(self, model: Model, seed: int) -> None:
        super().__init__(model, {}, 0.5, seed)
        self.model = model


@pytest.mark.parametrize("seed", range(4))
def test_a_run_that_only_reading_made_wrong_certifies_nothing(find: Localize, seed: int) -> None:
    answer = find(BrokenByTaps(ATTENTION, seed), ATTENTION, runs=8)
    assert answer.differs
    assert not answer.certified
    assert exactly([1])[0] not in named(answer)


@pytest.mark.parametrize(
    ("wrong_runs", "seen"), [([], False), ([2.0], False), ([1.0], True), ([2.0, 1.0], True), ([1.0, 2.0], True)]
)
def test_a_wrong_run_is_seen_where_one_of_the_untouched_model_was_wrong_in_the_same_way(
    tmp_path: Path, wrong_runs: list[float], seen: bool
) -> None:
    """The run that was read is off by one. Where no run without taps was, it may be the reading that does it."""
    graph = GraphBuilder()
    graph.output(graph.unary("ABS", graph.input("x", (1, 8))), "y")
    case = Case(graph.build(), {"x": np.ones((1, 8), np.float32)}, Options(), timeout=60)
    with RunFolder.create(tmp_path, "localize", "abs", "half") as run:
        bench = Workbench(InProcess(), InProcess(), run)
        first = compare_model(bench, case)
        off = {by: {"y": np.ones((1, 8), np.float32) + np.float32(by)} for by in (1.0, 2.0)}
        first = replace(first, differs="'y'", wrong_runs=tuple(off[by] for by in wrong_runs))
        found = wrong_run(bench, case, first, lambda warmup: Tapped(own_outputs=[off[1.0]]))
    assert found is not None
    assert found.seen is seen


def test_first_runs_and_later_ones_are_read_in_turn(tmp_path: Path) -> None:
    graph = GraphBuilder()
    graph.output(graph.unary("ABS", graph.input("x", (1, 8))), "y")
    case = Case(graph.build(), {"x": np.ones((1, 8), np.float32)}, Options(), timeout=60)
    asked: list[int] = []

    def right(warmup: int) -> Tapped:
        asked.append(warmup)
        return Tapped(own_outputs=[{"y": np.ones((1, 8), np.float32)}])

    with RunFolder.create(tmp_path, "localize", "abs", "half") as run:
        bench = Workbench(InProcess(), InProcess(), run)
        assert wrong_run(bench, case, compare_model(bench, case), right) is None
    assert asked == [0, 1] * (MOST_ATTEMPTS // 2)


class Shifting(InProcess):
    """Is off by one share of its values after another, and takes its time."""

    def __init__(self, shares: list[float], seconds: float = 1e-3) -> None:
        super().__init__("shifting")
        self.shares, self.seconds = shares, seconds

    def run(self, job: Job, sink: Sink | None = None) -> Outcome:
        done = super().run(job)
        assert isinstance(done, Completed)
        share = self.shares[(len(self.jobs) - 1) % len(self.shares)]
        outputs = {name: values * np.float32(1 + share) for name, values in done.outputs.items()}
        return replace(done, outputs=outputs, samples=(Sample(0, int(self.seconds * 1e9), 0),))


def compared(tmp_path: Path, device: InProcess) -> ModelComparison:
    graph = GraphBuilder()
    graph.output(graph.unary("ABS", graph.input("x", (1, 8))), "y")
    case = Case(graph.build(), {"x": np.ones((1, 8), np.float32)}, Options(precision="fp16"), timeout=60)
    with RunFolder.create(tmp_path, "compare", "abs", device.name) as run:
        return compare_model(Workbench(device, InProcess(), run), case)


def test_runs_on_either_side_of_the_limit_differ_however_near_they_are(tmp_path: Path) -> None:
    """The runs are apart by half of what rounding explains, the first just below the limit, the second above."""
    share = 2.0**-7
    (output,) = compared(tmp_path, Shifting([share])).outputs
    once, limit = share / output.judgement.ratio, output.judgement.limit
    found = compared(tmp_path, Shifting([(limit - 0.25) * once, (limit + 0.25) * once]))
    assert found.differs == "'y' (right in one run, wrong in another)"
    assert [output.runs for output in found.outputs] == [(4, 8)]


@pytest.mark.parametrize(("seconds", "runs"), [(1.0, 8), (5.5, 7), (20.0, 3), (40.0, 2)])
def test_by_itself_a_slow_model_is_run_no_more_often_than_half_a_minute_takes(
    tmp_path: Path, seconds: float, runs: int
) -> None:
    found = compared(tmp_path, Shifting([0.0, 1.0], seconds))
    assert [output.runs for output in found.outputs] == [(runs // 2, runs)]


@pytest.mark.parametrize(
    ("runs", "word"),
    [
        ((1, 2), "nondeterministic"),  # which of two was the first says nothing
        ((2, 3), "nondeterministic"),
        ((3, 4), "right only the first time"),
        ((2, 4), "nondeterministic"),
    ],
)
def test_a_first_run_is_told_apart_where_there_are_enough_others(
    tmp_path: Path, runs: tuple[int, int], word: str
) -> None:
    graph = GraphBuilder()
    graph.output(graph.unary("ABS", graph.input("x", (1, 8))), "y")
    case = Case(graph.build(), {"x": np.ones((1, 8), np.float32)}, Options(), timeout=60)
    with RunFolder.create(tmp_path, "localize", "abs", "half") as run:
        first = compare_model(Workbench(InProcess(), InProcess(), run), case)
    (output,) = first.outputs
    said, _ = notes(replace(first, differs="'y'", outputs=(replace(output, runs=runs),)))
    assert said.endswith(f"the device is {word}. It was output 'y'.")


def test_the_rate_comes_with_an_interval() -> None:
    """Wilson's score interval for 2 of 8."""
    assert rate(2, 8) == "wrong in 2 of 8 runs (95 % interval 7% to 59%)"


def told(*outputs: tuple[bool, tuple[int, int] | None]) -> list[str]:
    """Notes on outputs that are right or not in the first run, and wrong in so many of so many."""
    rated: Any = [SimpleNamespace(name=f"y{i}", explained=ok, runs=runs) for i, (ok, runs) in enumerate(outputs)]
    first: Any = SimpleNamespace(outputs=rated, differs="'y0'")
    return notes(first)


@pytest.mark.parametrize(
    ("outputs", "once"),
    [
        (((True, (4, 5)), (True, (0, 5))), True),  # one that is never wrong says nothing
        (((True, (4, 5)), (True, (4, 5))), True),
        (((True, (4, 5)), (True, (3, 5))), False),
        (((True, (4, 5)), (False, (4, 5))), False),  # not right in the first run
        (((True, (5, 5)),), False),
        (((True, None),), True),
    ],
)
def test_it_is_right_only_the_first_time_where_all_that_fail_are(
    outputs: tuple[tuple[bool, tuple[int, int] | None], ...], once: bool
) -> None:
    word = "right only the first time" if once else "nondeterministic"
    said, *rates = told(*outputs)
    assert said == (
        f"Two runs of the untouched model gave different outputs: the device is {word}. It was output 'y0'."
    )
    assert rates == [f"Output 'y{i}' was {rate(*runs)}." for i, (_, runs) in enumerate(outputs) if runs]


@pytest.mark.parametrize(
    ("wrong", "zeros", "count", "over"),
    [
        (2, 0, 4, False),  # half of them
        (3, 0, 4, True),
        (3, 0, 5, True),
        (0, 4, 4, True),
        (0, 3, 4, False),
        (LEAST_RECORDS - 1, LEAST_RECORDS - 1, LEAST_RECORDS - 1, False),  # too few to tell
        (0, 0, 0, False),
    ],
)
def test_most_results_wrong_or_all_of_them_zeros_are_no_op_s_fault(
    wrong: int, zeros: int, count: int, over: bool
) -> None:
    def local(i: int) -> Any:
        return SimpleNamespace(actual=SimpleNamespace(range=(0.0, 0.0) if i < zeros else (0.0, 1.0)))

    records: Any = [SimpleNamespace(verdict="culprit" if i < wrong else "fine", local=local(i)) for i in range(count)]
    assert wrong_all_over(records) is over


def test_what_was_not_judged_is_not_known_to_be_zeros() -> None:
    records: Any = [SimpleNamespace(verdict="unread", local=None)] * LEAST_RECORDS
    assert not wrong_all_over(records)


def test_culprits_stand_that_a_second_reading_or_the_op_by_itself_confirms() -> None:
    each: Any = [SimpleNamespace(certified=c, isolated=i) for c in (False, True) for i in (False, True)]
    assert standing(each) == each[1:]


def test_a_run_of_which_an_output_is_missing_is_not_asked_again(tmp_path: Path) -> None:
    graph = GraphBuilder()
    graph.output(graph.unary("ABS", graph.input("x", (1, 8))), "y")
    case = Case(graph.build(), {"x": np.ones((1, 8), np.float32)}, Options(), timeout=60)
    asked: list[int] = []

    def nothing(warmup: int) -> Tapped:
        asked.append(warmup)
        return Tapped(own_outputs=[{}])

    with RunFolder.create(tmp_path, "localize", "abs", "half") as run:
        bench = Workbench(InProcess(), InProcess(), run)
        assert wrong_run(bench, case, compare_model(bench, case), nothing) is None
    assert asked == [0]


def test_a_wrong_run_is_the_first_that_is_wrong_and_its_outputs_keep_their_rate(tmp_path: Path) -> None:
    graph = GraphBuilder()
    graph.output(graph.unary("ABS", graph.input("x", (1, 8))), "y")
    case = Case(graph.build(), {"x": np.ones((1, 8), np.float32)}, Options(), timeout=60)
    right, wrong = np.ones((1, 8), np.float32), np.full((1, 8), 2, np.float32)
    given = [right, right, wrong]
    with RunFolder.create(tmp_path, "localize", "abs", "half") as run:
        bench = Workbench(InProcess(), InProcess(), run)
        first = compare_model(bench, case)
        (output,) = first.outputs
        first = replace(first, outputs=(replace(output, runs=(3, 8)),))
        found = wrong_run(bench, case, first, lambda warmup: Tapped(own_outputs=[{"y": given.pop(0)}]))
        assert found is not None and given == []
        np.testing.assert_array_equal(found.own["y"], wrong)
        (output,) = found.found.outputs
        assert (output.verdict, output.runs) == ("wrong", (3, 8))
        np.testing.assert_array_equal(run.tensors.get("output-y", "device"), wrong)  # kept in place of the first run's


def test_more_runs_can_be_asked_for_and_are_counted(find: Localize) -> None:
    answer = find(Half(ATTENTION, {RESULTS[4]: SHIFTED}), ATTENTION, runs=5)
    assert {output.runs for output in answer.outputs} == {(5, 5)}
    assert named(answer) == exactly([4])


class Sometimes(Broken):
    """A kind of op is wrong in a share of all runs."""

    def __init__(self, share: float, seed: int) -> None:
        super().__init__(self._maybe)
        self.share, self.rng, self.showing = share, np.random.default_rng(seed), False

    def _maybe(self, rebuild: Rebuild, op: Op) -> int | None:
        return rolled("TANH")(rebuild, op) if self.showing else None

    def run(self, job: Job, sink: Sink | None = None) -> Outcome:
        self.showing = bool(self.rng.random() < self.share)
        return super().run(job, sink)


def test_a_culprit_has_a_rate_of_its_own(tmp_path: Path) -> None:
    graph = GraphBuilder()
    graph.output(graph.unary("ABS", graph.unary("TANH", graph.input("x", (4, 8, 16)))), "y")
    model = graph.build()
    case = Case(model, random_inputs(model.graph(), 0), Options(), timeout=60)
    with RunFolder.create(tmp_path, "localize", "sometimes", "broken") as folder:
        bench = Workbench(Sometimes(0.5, 3), InProcess(), folder)
        (culprit,) = explain(bench, case, localize(bench, case, runs=8)).culprits
    assert (culprit.record.op, culprit.cause) == ("TANH", "nondeterministic")
    assert culprit.runs is not None
    wrong, of = culprit.runs
    assert of == 8
    assert 0 < wrong < 8
    assert culprit.to_json()["runs"] == {"wrong": wrong, "of": 8}
    assert culprit_line(culprit).endswith(rate(wrong, 8))
