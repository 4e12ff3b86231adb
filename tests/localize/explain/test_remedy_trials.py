"""Rewrites put together for the whole model: one that changes what the model means is left out, and that is said."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from harness.core.job import Options
from harness.core.run_folder import RunFolder
from harness.graph.build import GraphBuilder
from harness.graph.inputs import random_inputs
from harness.graph.model import Model
from harness.localize.base.case import Case
from harness.localize.base.comparison import Workbench
from harness.localize.base.host_runs import run_ideal
from harness.localize.base.result import Remedy
from harness.localize.explain.remedy_trials import ON_CPU, TrialPlan, Truth, Whole, ranked
from harness.remedies.catalogue import CONCATENATION, Rewrite, each
from tests.localize.broken import Broken, in_rank, rolled
from tests.localize.planted import InProcess

PRECISIONS = ("fp16", "fp32")


def padded() -> Model:
    graph = GraphBuilder()
    x = graph.unary("RELU", graph.input("x", (4, 6, 32)))
    graph.output(graph.unary("TANH", graph.pad(x, [(0, 0), (1, 2), (0, 0)])), "y")
    return graph.build()


def made_of(tensor: int) -> tuple[int, ...]:
    return (padded().graph().ops[tensor].outputs[0],)


# TANH times 1.01: twenty times what float16 rounding makes of it.
OFF = Rewrite(
    "a little more",
    each(lambda r, op: r.replace(op.outputs[0], r.binary("MUL", r.unary("TANH", op.inputs[0]), r.constant([1.01])))),
)

# A thousandth more: two to three roundings of float16, which a GPU may make and the host does not.
HARDLY = Rewrite(
    "hardly more",
    each(lambda r, op: r.replace(op.outputs[0], r.binary("MUL", r.unary("TANH", op.inputs[0]), r.constant([1.001])))),
)


@pytest.fixture(params=PRECISIONS)
def whole(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Whole]:
    model = padded()
    case = Case(model, random_inputs(model.graph(), 0), Options(precision=request.param), timeout=60)
    host, device = InProcess(), Broken(in_rank(3, rolled("PAD")))
    ideal = run_ideal(case, host, model, case.inputs, frozenset(), "running ideally")
    right = np.tanh(np.pad(np.maximum(case.inputs["x"], 0), [(0, 0), (1, 2), (0, 0)])).astype(np.float32)
    peaks = {op.outputs[0]: 1.0 for op in model.graph().ops}
    with RunFolder.create(tmp_path, "localize", "remedy", device.name) as folder:
        yield Whole(Workbench(device, host, folder), case, Truth({"y": right}, ideal, peaks))


def tried(whole: Whole, plan: TrialPlan) -> Remedy:
    remedy = whole.rewritten(plan)
    assert remedy is not None
    return remedy


def test_a_rewrite_that_changes_the_meaning_is_no_remedy(whole: Whole) -> None:
    remedy = tried(whole, TrialPlan(((OFF, made_of(2)),)))
    assert (remedy.name, remedy.ok, remedy.run_ms) == ("a little more", False, None)
    assert remedy.note == "Written so, the model means something else."


def test_what_float16_would_excuse_on_a_device_is_another_meaning_on_the_host(whole: Whole) -> None:
    remedy = tried(whole, TrialPlan(((HARDLY, made_of(2)),)))
    assert (remedy.ok, remedy.run_ms, remedy.note) == (False, None, "Written so, the model means something else.")


def test_an_op_whose_result_shares_its_name_cannot_be_found_again(whole: Whole) -> None:
    for table in whole._case.model.root.subgraphs[0].tensors:
        table.name = "same"
    remedy = tried(whole, TrialPlan(((CONCATENATION, made_of(1)),)))
    assert (remedy.ok, remedy.run_ms) == (False, None)
    assert remedy.note == "It cannot be written so: its result shares its name with another."


def test_the_others_go_on_without_it_and_the_note_says_so(whole: Whole) -> None:
    remedy = tried(whole, TrialPlan(((OFF, made_of(2)), (CONCATENATION, made_of(1)))))
    assert (remedy.name, remedy.ok) == ("PAD as CONCATENATION", True)
    assert remedy.note == (
        "Takes the place of the model. It puts in CONCATENATION and takes out PAD; no more elements are copied. "
        "Without 'a little more': Written so, the model means something else."
    )


def test_a_rewrite_that_does_not_know_the_op_is_left_out_likewise(whole: Whole) -> None:
    remedy = tried(whole, TrialPlan(((CONCATENATION, made_of(1)), (CONCATENATION, made_of(2)))))
    assert (remedy.name, remedy.ok) == ("PAD as CONCATENATION", True)
    assert remedy.note.endswith("Without 'PAD as CONCATENATION': It cannot be written so: it is no PAD.")


def test_where_nothing_can_be_written_every_reason_is_given(whole: Whole) -> None:
    remedy = tried(whole, TrialPlan(((OFF, made_of(2)), (CONCATENATION, made_of(2)))))
    assert (remedy.name, remedy.ok) == ("a little more; PAD as CONCATENATION", False)
    assert "'a little more': Written so, the model means something else." in remedy.note
    assert "'PAD as CONCATENATION': It cannot be written so: it is no PAD." in remedy.note


def test_a_plan_that_comes_to_a_model_that_was_tried_is_not_tried_again(whole: Whole) -> None:
    """Without its second part, a combination is the first part alone."""
    assert tried(whole, TrialPlan(((CONCATENATION, made_of(1)), (OFF, made_of(2))))).ok
    assert whole.rewritten(TrialPlan(((CONCATENATION, made_of(1)),))) is None


def remedy(name: str, run_ms: float | None, ratio: float, *, ok: bool = True) -> Remedy:
    return Remedy(name, 1.0, 0.0, ratio, 1.0, run_ms, ok)


def order(*remedies: Remedy) -> list[str]:
    return [r.name for r in ranked(remedies)]


@pytest.mark.parametrize("run_ms", [1.0, 9.0, 10.0, 11.0, 1700.0])
def test_of_run_times_within_a_quarter_the_more_accurate_is_first_and_else_the_faster(run_ms: float) -> None:
    fast = remedy("fast", run_ms, 8.0)
    assert order(fast, remedy("exact", run_ms * 1.2, 2.0)) == ["exact", "fast"]
    assert order(fast, remedy("exact", run_ms * 1.3, 2.0)) == ["fast", "exact"]


def test_a_remedy_that_mends_is_before_any_that_does_not() -> None:
    wrong, refused = remedy("wrong", 1.0, 40.0, ok=False), remedy("refused", None, math.inf, ok=False)
    infinite = remedy("infinite", 1.0, math.nan, ok=False)
    assert order(refused, wrong, remedy("slow", 900.0, 15.0)) == ["slow", "wrong", "refused"]
    assert order(infinite, wrong) == ["wrong", "infinite"]


def test_of_run_times_within_a_quarter_one_model_is_before_a_chain_of_several() -> None:
    """A chain through the CPU is exact, and harder to ship than a model that is right."""
    assert order(remedy(ON_CPU, 10.0, 1.0), remedy("rewritten", 11.0, 2.0)) == ["rewritten", ON_CPU]
    assert order(remedy(ON_CPU, 10.0, 1.0), remedy("rewritten", 13.0, 2.0)) == [ON_CPU, "rewritten"]
