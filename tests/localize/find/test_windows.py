"""The edges of windows, and a run of ops asked by itself: those ops, and none beside them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from harness.core.job import Options
from harness.core.run_folder import TensorStore
from harness.graph.build import GraphBuilder
from harness.graph.inputs import random_inputs
from harness.graph.model import Model
from harness.localize.base.case import Case
from harness.localize.base.op_record import OpRecord
from harness.localize.base.reference import run_reference
from harness.localize.find import windows
from harness.localize.find.windows import Cut, WindowProbe, cut
from harness.localize.probe.search import Window
from tests.chains import chain
from tests.localize.planted import SHIFTED, Half, InProcess


def forked() -> Model:
    """ABS #0 is read by NEG #1 and ADD #3; EXP #2 is an output, and read by ADD #3."""
    graph = GraphBuilder()
    start = graph.unary("ABS", graph.input("x", (1, 8)))
    turned = graph.unary("NEG", start)
    grown = graph.unary("EXP", turned)
    graph.output(grown, "grown")
    graph.output(graph.binary("ADD", start, grown), "y")
    return graph.build()


FORKED = forked()
X = FORKED.graph().inputs[0].tensor
ABS, NEG, EXP, ADD = (op.outputs[0] for op in FORKED.graph().ops)


@pytest.mark.parametrize(
    ("ops", "feeds", "results"),
    [
        ((0,), (X,), (ABS,)),
        ((0, 1), (X,), (ABS, NEG)),  # what is read inside and outside is a result
        ((1, 2), (ABS,), (EXP,)),  # what is read inside only is none
        ((0, 1, 2), (X,), (ABS, EXP)),
        ((2, 3), (NEG, ABS), (EXP, ADD)),  # an output that is read inside is a result all the same
        ((0, 1, 2, 3), (X,), (EXP, ADD)),
    ],
)
def test_a_window_reads_what_others_make_and_gives_what_others_read(
    ops: tuple[int, ...], feeds: tuple[int, ...], results: tuple[int, ...]
) -> None:
    assert cut(FORKED.graph(), ops) == Cut(ops, feeds, results)


def test_constants_and_what_is_folded_into_them_feed_no_window() -> None:
    graph = GraphBuilder()
    weights = graph.dequantize(np.ones((1, 8), np.float32))
    scaled = graph.binary("MUL", graph.input("x", (1, 8)), weights)
    graph.output(graph.binary("ADD", scaled, graph.constant(np.ones(8, np.float32))), "y")
    view = graph.build().graph()
    _, multiply, add = view.ops
    (x,) = (port.tensor for port in view.inputs)
    assert cut(view, (1, 2)) == Cut((1, 2), (x,), (add.outputs[0],))
    assert cut(view, (1,)) == Cut((1,), (x,), (multiply.outputs[0],))


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
