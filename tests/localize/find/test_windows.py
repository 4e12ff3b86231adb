"""The edges of windows, and a run of ops asked by itself: those ops, and none beside them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from harness.core.errors import UsageError
from harness.core.job import Options
from harness.core.run_folder import TensorStore
from harness.graph import surgery
from harness.graph.build import GraphBuilder
from harness.graph.inputs import random_inputs
from harness.graph.model import Model
from harness.graph.ops.cuts import Cut
from harness.localize.base.case import Case
from harness.localize.base.host_runs import run_open
from harness.localize.base.op_record import OpRecord
from harness.localize.base.reference import run_reference
from harness.localize.find import windows
from harness.localize.find.windows import WindowProbe
from harness.localize.probe.search import Window
from harness.numerics.tolerance import LOCAL_FACTOR
from tests.chains import chain, forked
from tests.localize.planted import SHIFTED, Half, InProcess

FORKED = forked()
ABS, NEG, EXP, ADD = (op.outputs[0] for op in FORKED.graph().ops)

# None hides what an earlier one does.
STRAIGHT = chain("NEG", "TANH", "ABS", "NEG", shape=(1, 16))


@pytest.fixture
def probe(tmp_path: Path) -> WindowProbe:
    """Op 2 of four is broken."""
    case = Case(STRAIGHT, random_inputs(STRAIGHT.graph(), 0), Options(), timeout=60)
    host, store, made = InProcess(), TensorStore(tmp_path), [op.outputs[0] for op in STRAIGHT.graph().ops]
    run_reference(host, case, store, made)
    return WindowProbe(Half(STRAIGHT, {made[2]: SHIFTED}), host, case, store, frozenset())


@pytest.mark.parametrize(
    ("first", "last", "answer"),
    [(0, 0, "good"), (0, 1, "good"), (0, 2, "bad"), (1, 2, "bad"), (2, 2, "bad"), (2, 3, "bad"), (3, 3, "good")],
)
def test_a_run_of_ops_fails_alone_if_the_broken_op_is_one_of_them(
    probe: WindowProbe, first: int, last: int, answer: str
) -> None:
    record = OpRecord(last, "ABS", first, "", STRAIGHT.graph().ops[last].outputs[0], (1, 16), "float32", "culprit")
    assert probe.alone(record) == answer


def test_a_failing_window_is_told_by_its_last_op_and_its_worst_result(probe: WindowProbe) -> None:
    assert probe.ask(1, 4) == "bad"
    ((window, _),) = probe.judgements.items()
    record = probe.record(window)
    assert (record.first, record.index, record.op, record.reading) == (1, 3, "NEG", "window")
    assert (record.tensor, record.shape) == (STRAIGHT.graph().ops[3].outputs[0], (1, 16))


def test_a_window_that_does_not_complete_or_lacks_values_is_unresolved_and_not_judged(
    probe: WindowProbe, monkeypatch: pytest.MonkeyPatch
) -> None:
    crashed: Any = SimpleNamespace(run=lambda job: None)
    monkeypatch.setattr(probe, "device", crashed)
    assert probe.ask(2, 3) == "unresolved"
    monkeypatch.setattr(windows, "reference_values", lambda case, store, tensor: None)
    monkeypatch.setattr(probe, "device", None)  # nothing to feed: no device is asked
    assert probe.ask(2, 3) == "unresolved"
    assert (probe.judgements, probe.beyond_limit) == ({}, set())


@pytest.mark.parametrize("limited", [False, True])
def test_a_window_beyond_a_limit_is_kept_where_the_runtime_names_one(
    probe: WindowProbe, limited: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "limit_exceeded", lambda log: "a limit" if limited else None)
    assert probe.ask(1, 3) == "bad"
    assert probe.beyond_limit == ({Window(1, 3)} if limited else set())
    (tensor, judgement) = probe.judgements[Window(1, 3)]
    record = probe.record(Window(1, 3))
    assert (record.verdict, record.dtype, record.tensor, record.local) == ("culprit", "float32", tensor, judgement)
    assert record.reference_max_abs == judgement.actual.max_abs
    assert record.reference_cosine == judgement.actual.cosine


def test_a_run_of_ops_beside_the_one_that_is_asked_for_is_not_asked(
    probe: WindowProbe, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []

    def ask(start: int, stop: int) -> str:
        asked.append((start, stop))
        return "unresolved"

    monkeypatch.setattr(probe, "ask", ask)
    probe.items = (0, 2, 3, 5, 7)  # ops 1, 4 and 6 are folded into constants
    for first, last in ((0, 0), (2, 5), (3, 7), (1, 4)):
        probe.alone(OpRecord(last, "ABS", first, "", 0, (1, 16), "float32", "culprit"))
    assert asked == [(0, 1), (1, 4), (2, 5), (1, 3)]


def test_ops_that_are_folded_into_constants_are_no_items_of_windows(tmp_path: Path) -> None:
    graph = GraphBuilder()
    weights = graph.dequantize(np.ones((1, 8), np.float32))
    graph.output(graph.binary("MUL", graph.input("x", (1, 8)), weights), "y")
    model = graph.build()
    case = Case(model, random_inputs(model.graph(), 0), Options(), timeout=60)
    assert WindowProbe(InProcess(), InProcess(), case, TensorStore(tmp_path), frozenset()).items == (1,)


def test_a_window_without_results_is_good_and_nobody_is_asked(
    probe: WindowProbe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "cut", lambda graph, ops: Cut(ops, (), ()))
    monkeypatch.setattr(probe, "device", None)
    assert probe.ask(0, 1) == "good"
    assert probe.judgements == {}


def test_a_window_with_a_result_without_a_static_shape_is_unresolved(
    probe: WindowProbe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: Any, **more: Any) -> Any:
        raise UsageError("A shape is not static.")

    monkeypatch.setattr(windows, "make_job", refuse)
    monkeypatch.setattr(probe, "device", None)
    assert probe.ask(2, 3) == "unresolved"
    assert probe.judgements == {}


@pytest.mark.parametrize(
    ("factors", "worst"),
    [({ABS: 1.1, EXP: 2}, EXP), ({ABS: 2, EXP: 1.1}, ABS), ({ABS: 2}, ABS), ({EXP: 1.1}, EXP)],
)
def test_of_several_results_the_one_that_is_furthest_over_its_limit_counts(
    factors: dict[int, float], worst: int, tmp_path: Path
) -> None:
    case = Case(FORKED, {"x": np.full((1, 8), 0.5, np.float32)}, Options(), timeout=60)
    host, store = InProcess(), TensorStore(tmp_path)
    run_reference(host, case, store, [ABS, NEG, EXP, ADD])
    probe = WindowProbe(host, host, case, store, frozenset())

    def run(job: Any) -> Any:
        done: Any = host.run(job)
        by = {surgery.port_name(t): np.float32(factor) for t, factor in factors.items()}
        return replace(done, outputs={name: by.get(name, 1) * values for name, values in done.outputs.items()})

    device: Any = SimpleNamespace(run=run)
    probe.device = device
    assert probe.ask(0, 3) == "bad"
    tensor, judgement = probe.judgements[Window(0, 3)]
    assert (tensor, judgement.ok) == (worst, False)
    assert probe.record(Window(0, 3)).tensor == worst


def test_results_that_are_right_or_not_over_an_ops_limit_are_good(probe: WindowProbe) -> None:
    assert probe.ask(0, 2) == "good"
    (tensor, judgement) = probe.judgements[Window(0, 2)]
    assert tensor == STRAIGHT.graph().ops[1].outputs[0]
    assert (judgement.ok, judgement.limit) == (True, LOCAL_FACTOR)


@pytest.mark.parametrize("beyond", [False, True])
def test_an_ideal_device_is_told_which_results_of_a_window_no_float16_can_hold(
    beyond: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQUARE #1 of 300 is 90000."""
    model = chain("ABS", "SQUARE")
    case = Case(model, {"x": np.full((1, 8), 300, np.float32)}, Options("gpu"), timeout=60)
    host, store, made = InProcess(), TensorStore(tmp_path), [op.outputs[0] for op in model.graph().ops]
    run_reference(host, case, store, made)
    told: list[frozenset[int]] = []

    def seen(case: Case, host: Any, part: Model, feeds: Any, cannot: frozenset[int], what: str) -> Any:
        told.append(cannot)
        return run_open(case, host, part, feeds, cannot, what)

    monkeypatch.setattr(windows, "run_open", seen)
    WindowProbe(host, host, case, store, frozenset({made[1]} if beyond else {})).ask(1, 2)
    assert [len(cannot) for cannot in told] == [1 if beyond else 0]
