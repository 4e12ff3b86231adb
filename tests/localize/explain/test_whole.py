"""Fixes on the whole model where something does not go through: the reason is told, and nothing is called a remedy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.core.arrays import Array
from harness.core.errors import UsageError
from harness.core.job import Completed, Crashed, Job, Options, Outcome, Rejected, Sample
from harness.core.run_folder import RunFolder
from harness.devices.base import Sink
from harness.graph.inputs import random_inputs
from harness.graph.model import Model
from harness.localize.base.case import Case
from harness.localize.base.comparison import Workbench
from harness.localize.base.host_runs import run_ideal
from harness.localize.base.ideals import Ideals
from harness.localize.base.result import Remedy
from harness.localize.explain.remedy_trials import ON_CPU, TrialPlan, Truth, Whole
from harness.numerics.fp16 import FLOAT32_ROUNDOFF
from harness.numerics.usefulness import Limits
from harness.remedies.catalogue import CONCATENATION, Rewrite, each
from harness.remedies.options import FLOAT32
from tests.arrays import f32
from tests.localize.broken import Broken, in_rank, rolled
from tests.localize.explain.test_remedy_trials import OFF, made_of, padded
from tests.localize.planted import InProcess, evaluated
from tests.remedies.small import one_op

WITHOUT = "Without 'a little more': Written so, the model means something else."

# The same again, and what a limit of the caller's own sees: two thousandths of a thousandth more.
SAME = Rewrite(
    "turned twice",
    each(
        lambda r, op: r.replace(op.outputs[0], r.unary("TANH", r.unary("NEG", r.unary("NEG", op.inputs[0])))),
    ),
)
BARELY = Rewrite(
    "barely more",
    each(lambda r, op: r.replace(op.outputs[0], r.binary("MUL", r.unary("TANH", op.inputs[0]), r.constant([1.0001])))),
)


def whole(
    folder: Path,
    device: InProcess,
    host: InProcess | None = None,
    *,
    options: Options | None = None,
    limits: Limits | None = None,
    excused: frozenset[str] = frozenset(),
) -> Whole:
    """RELU #0, PAD #1, TANH #2 on a device whose PAD of rank 3 is wrong, or another."""
    model = padded()
    inputs = random_inputs(model.graph(), 0)
    case = Case(model, inputs, options or Options(), timeout=60, limits=limits or Limits())
    plain = InProcess()
    ideal = run_ideal(case, plain, model, inputs, frozenset(), "running ideally")
    truth = Truth(evaluated(model, inputs), ideal, {op.outputs[0]: 1.0 for op in model.graph().ops})
    run = RunFolder.create(folder, "localize", "remedy", device.name)
    return Whole(Workbench(device, host or plain, run), case, truth, excused)


def kinds(job: Job) -> set[str]:
    return {op.name for op in Model.from_bytes(job.model).graph().ops}


class Does(Broken):
    """Ends some jobs in another way than the rest."""

    def __init__(self, ends: Callable[[Job], bool], how: Outcome | UsageError) -> None:
        super().__init__(in_rank(3, rolled("PAD")))
        self.ends, self.how = ends, how

    def run(self, job: Job, sink: Sink | None = None) -> Outcome:
        if not self.ends(job):
            return super().run(job, sink)
        if isinstance(self.how, UsageError):
            raise self.how
        return self.how


def rewritten(job: Job) -> bool:
    return "CONCATENATION" in kinds(job)


def failed(remedy: Remedy | None, name: str) -> str:
    """The note of a remedy that did not come to be judged."""
    assert remedy is not None
    assert (remedy.name, remedy.ok, remedy.run_ms, remedy.path) == (name, False, None, None)
    assert (remedy.ratio, np.isnan(remedy.cosine)) == (np.inf, True)
    return remedy.note


MENDED = TrialPlan(((CONCATENATION, made_of(1)),))
PARTLY = TrialPlan(((OFF, made_of(2)), (CONCATENATION, made_of(1))))


class TestRewritten:
    @pytest.mark.parametrize(
        ("how", "why"),
        [
            (Rejected("too many ops"), "broken rejected the model while trying a remedy: too many ops."),
            (Crashed("ended by SIGSEGV"), "broken crashed while trying a remedy: ended by SIGSEGV."),
            (UsageError("Output 'y' has no elements.", "Look."), "Output 'y' has no elements."),
        ],
    )
    def test_a_model_that_does_not_run_is_no_remedy_and_what_was_left_out_is_told_too(
        self, tmp_path: Path, how: Outcome | UsageError, why: str
    ) -> None:
        tried = whole(tmp_path, Does(rewritten, how))
        assert failed(tried.rewritten(PARTLY), "PAD as CONCATENATION") == f"{why} {WITHOUT}"
        assert tried.rewritten(MENDED) is None  # it was tried, whatever came of it

    def test_nor_one_that_does_not_run_again(self, tmp_path: Path) -> None:
        device = Does(lambda job: rewritten(job) and job.iterations > 1, Crashed("ended by SIGSEGV"))
        note = failed(whole(tmp_path, device).rewritten(MENDED), "PAD as CONCATENATION")
        assert note == "broken crashed while timing a remedy: ended by SIGSEGV."

    def test_a_model_that_is_wrong_still_is_no_remedy_and_is_not_written(self, tmp_path: Path) -> None:
        tried = whole(tmp_path, Broken(in_rank(3, rolled("PAD"))))
        remedy = tried.rewritten(TrialPlan(((OFF, made_of(2)), (SAME, made_of(2)))))
        assert remedy is not None
        assert (remedy.name, remedy.ok, remedy.path, remedy.note) == ("turned twice", False, None, WITHOUT)
        assert remedy.run_ms is not None
        assert not list(tmp_path.rglob("*.tflite"))

    @pytest.mark.parametrize(
        ("how", "why"),
        [
            (
                Rejected("no such kernel"),
                "broken rejected the model while running the rewritten model: no such kernel.",
            ),
            (UsageError("Output 'y' has no elements.", "Look."), "Output 'y' has no elements."),
        ],
    )
    def test_what_the_host_does_not_run_is_not_asked_of_the_device(
        self, tmp_path: Path, how: Outcome | UsageError, why: str
    ) -> None:
        device = Broken(in_rank(3, rolled("PAD")))
        tried = whole(tmp_path, device, Does(rewritten, how))
        assert failed(tried.rewritten(MENDED), "PAD as CONCATENATION") == why
        assert device.jobs == []

    @pytest.mark.parametrize("excused", [True, False])
    def test_what_takes_an_output_beyond_the_callers_limits_means_something_else_unless_that_is_excused(
        self, tmp_path: Path, excused: bool
    ) -> None:
        right, asked = Broken(lambda rebuild, op: None), Limits(atol=1e-6, rtol=0.0)
        tried = whole(tmp_path, right, limits=asked, excused=frozenset({"y"} if excused else ()))
        remedy = tried.rewritten(TrialPlan(((BARELY, made_of(2)),)))
        assert remedy is not None
        expected = "Takes the place of the model." if excused else "Written so, the model means something else."
        assert (remedy.ok, bool(right.jobs)) == (excused, excused)
        assert remedy.note.startswith(expected)

    def test_all_that_can_be_written_is_in_the_one_model(self, tmp_path: Path) -> None:
        tried = whole(tmp_path, Broken(in_rank(3, rolled("PAD"))))
        remedy = tried.rewritten(TrialPlan(((CONCATENATION, made_of(1)), (SAME, made_of(2)))))
        assert remedy is not None
        assert (remedy.name, remedy.ok, remedy.note) == (
            "PAD as CONCATENATION; turned twice", True,
            "Takes the place of the model. "
            "It puts in CONCATENATION, 2 NEG and takes out PAD; no more elements are copied.",
        )  # fmt: skip
        assert remedy.path is not None
        ops = [op.name for op in Model.load(Path(remedy.path)).graph().ops]
        assert ops == ["RELU", "CONCATENATION", "NEG", "NEG", "TANH"]

    def test_a_model_that_is_right_and_beyond_the_callers_limits_is_no_remedy(self, tmp_path: Path) -> None:
        """On the host it is exact; float16 alone takes it there."""
        tried = whole(tmp_path, Broken(in_rank(3, rolled("PAD"))), limits=Limits(atol=1e-6, rtol=0.0))
        remedy = tried.rewritten(MENDED)
        assert remedy is not None
        assert (remedy.ok, remedy.path) == (False, None)
        assert remedy.ratio < 2

    def test_in_float32_the_host_may_round_as_a_device_may(self, tmp_path: Path) -> None:
        """Three of the roundings that a device's float32 functions are granted: host and device have one precision."""
        more = 1 + 3 * FLOAT32_ROUNDOFF
        scaled = each(
            lambda r, op: r.replace(op.outputs[0], r.binary("MUL", r.unary("TANH", op.inputs[0]), r.constant([more])))
        )
        tried = whole(tmp_path, Broken(lambda rebuild, op: None), options=Options(precision="fp32"))
        remedy = tried.rewritten(TrialPlan(((Rewrite("otherwise", scaled), made_of(2)),)))
        assert remedy is not None
        assert remedy.ok
        assert 1 < remedy.ratio < 16

    @pytest.mark.parametrize(
        ("exact", "given", "ok"),
        [
            ([-np.inf, 1.0], [-np.inf, 1.0], True),
            ([-np.inf, 1.0], [np.nan, 1.0], False),
            ([-np.inf, 1.0], [np.inf, 1.0], False),
            ([-np.inf, -np.inf], [-np.inf, -np.inf], False),  # a comparison of nothing
        ],
    )
    def test_infinity_is_right_where_the_exact_result_is_infinite_and_some_of_it_is_finite(
        self, tmp_path: Path, exact: list[float], given: list[float], ok: bool
    ) -> None:
        class Given(Broken):
            def finished(self, outputs: dict[str, Array], job: Job) -> dict[str, Array]:
                return {"y": f32([given])}

        model = one_op(lambda graph: graph.unary("LOG", graph.input("x", (1, 2))))
        case = Case(model, {"x": np.exp(f32([exact]))}, Options(), timeout=60)
        truth = Truth({"y": f32([exact])}, {"y": Ideals((f32([exact]),))}, {})
        run = RunFolder.create(tmp_path, "localize", "remedy", "given")
        tried = Whole(Workbench(Given(lambda rebuild, op: None), InProcess(), run), case, truth)
        assert tried.with_options(FLOAT32).ok is ok


class TestOnTheCpu:
    def test_a_model_of_which_nothing_would_be_left_is_not_split(self, tmp_path: Path) -> None:
        device = Broken(in_rank(3, rolled("PAD")))
        remedy = whole(tmp_path, device).on_cpu(frozenset({0, 1, 2}))
        assert failed(remedy, ON_CPU) == "It cannot be split so: nothing would be left for the GPU."
        assert device.jobs == []

    @pytest.mark.parametrize(("accelerator", "asked"), [("gpu", 0), ("cpu", 2)])
    def test_a_part_that_does_not_run_ends_the_chain(self, tmp_path: Path, accelerator: str, asked: int) -> None:
        device = Does(lambda job: job.options.accelerator == accelerator, Rejected("not so"))
        remedy = whole(tmp_path, device).on_cpu(frozenset({1}))
        assert failed(remedy, ON_CPU) == "broken rejected the model while trying a remedy: not so."
        assert len(device.jobs) == asked

    def test_the_op_at_fault_there_mends_the_model(self, tmp_path: Path) -> None:
        remedy = whole(tmp_path, Broken(in_rank(3, rolled("PAD")))).on_cpu(frozenset({1}))
        assert (remedy.ok, remedy.note) == (True, "3 models; chain.py there runs them in turn.")
        assert remedy.path is not None
        assert sorted(p.name for p in Path(remedy.path).glob("*.tflite")) == [
            "part-0-gpu.tflite", "part-1-cpu.tflite", "part-2-gpu.tflite",
        ]  # fmt: skip

    def test_another_op_there_does_not_and_no_chain_is_written(self, tmp_path: Path) -> None:
        remedy = whole(tmp_path, Broken(in_rank(3, rolled("PAD")))).on_cpu(frozenset({2}))
        assert (remedy.ok, remedy.path, remedy.note) == (False, None, "")
        assert remedy.run_ms is not None
        assert not list(tmp_path.rglob("chain.json"))

    @pytest.mark.parametrize("timed", [False, True])
    def test_a_chain_that_is_right_in_one_of_two_runs_is_none(self, tmp_path: Path, timed: bool) -> None:
        class Fickle(Broken):
            def run(self, job: Job, sink: Sink | None = None) -> Outcome:
                outcome = super().run(job, sink)
                if "RELU" in kinds(job) and (job.iterations > 1) == timed:
                    assert isinstance(outcome, Completed)
                    return replace(outcome, outputs={name: values + 1 for name, values in outcome.outputs.items()})
                return outcome

        remedy = whole(tmp_path, Fickle(in_rank(3, rolled("PAD")))).on_cpu(frozenset({1}))
        assert (remedy.ok, remedy.path) == (False, None)


class Timed(Broken):
    """Takes as long as it is told for each run, in milliseconds, the time being spent on writing, running, reading."""

    def __init__(self, *runs: float) -> None:
        super().__init__(lambda rebuild, op: None)
        self.times = list(runs)

    def run(self, job: Job, sink: Sink | None = None) -> Outcome:
        outcome = super().run(job, sink)
        assert isinstance(outcome, Completed)
        taken = [self.times.pop(0) for _ in range(job.iterations)]
        return replace(outcome, samples=tuple(Sample(*[int(ms * 1e6 / 3)] * 3) for ms in taken))


class TestTimes:
    @pytest.mark.parametrize(
        ("first", "again", "median"),
        [
            (900.0, [30.0, 3.0, 9.0, 6.0, 12.0], 9.0),
            (1200.0, [1500.0, 1800.0], 1650.0),
        ],
    )
    def test_a_fast_model_is_timed_five_times_and_a_slow_one_twice(
        self, tmp_path: Path, first: float, again: list[float], median: float
    ) -> None:
        device = Timed(first, *again)
        assert whole(tmp_path, device).untouched() == pytest.approx(median)
        assert [(job.warmup, job.iterations) for job in device.jobs] == [(1, 1), (0, len(again))]

    def test_a_chain_takes_as_long_as_its_parts(self, tmp_path: Path) -> None:
        remedy = whole(tmp_path, Timed(*[1.0] * 6, *[2.0] * 6, *[4.0] * 6)).on_cpu(frozenset({1}))
        assert remedy.run_ms == pytest.approx(7.0)

    def test_a_model_that_does_not_run_has_no_time(self, tmp_path: Path) -> None:
        device = Does(lambda job: True, Rejected("not so"))
        assert whole(tmp_path, device).untouched() is None

    def test_a_precision_that_the_device_does_not_have_is_no_remedy(self, tmp_path: Path) -> None:
        device = Does(lambda job: job.options.precision == "fp32", Rejected("not so"))
        remedy = whole(tmp_path, device).with_options(FLOAT32)
        assert failed(remedy, FLOAT32.name) == "broken rejected the model while trying a remedy: not so."
