"""Lines of ops.csv, and how single tensors are judged beside a model's outputs."""

from __future__ import annotations

import numpy as np

from harness.core.job import Options
from harness.graph.build import GraphBuilder
from harness.graph.grid import Grid
from harness.localize.base.case import Case
from harness.localize.base.ideals import Ideals
from harness.localize.base.op_record import OpRecord
from harness.localize.explain.refused import _named
from harness.numerics.metrics import compare
from harness.numerics.tolerance import Judgement
from tests.chains import chain

RECORD = OpRecord(3, "ADD", 3, "y", 7, (1, 4), "float32", "unread", reference_max_abs=0.5, reference_cosine=0.9)


def test_a_line_has_a_cell_for_each_column_judged_or_not() -> None:
    header = OpRecord.HEADER
    unread = dict(zip(header, RECORD.row(), strict=True))
    assert (unread["local_max_abs"], unread["nonfinite"], unread["device_max"]) == ("", "", "")
    assert (unread["cosine_vs_reference"], unread["max_abs_vs_reference"]) == (0.9, 0.5)
    exact = np.ones((1, 4), np.float32)
    judgement = Judgement(True, 1.0, compare(exact, exact), compare(exact, exact))
    judged = OpRecord(**{**vars(RECORD), "local": judgement, "verdict": "fine"})
    read = dict(zip(header, judged.row(), strict=True))
    assert (read["ratio"], read["device_max"], read["cosine_vs_reference"]) == (1.0, 1.0, 0.9)


def test_channels_are_looked_at_in_floats_of_an_output_alone() -> None:
    """64 rows of a channel in the hundreds, and of one of thousandths that is wrong."""
    graph = GraphBuilder()
    graph.output(graph.input("x", (64, 2)), "y")
    case = Case(graph.build(), {}, Options(), timeout=60)
    exact = np.tile(np.asarray([[300, 0.001]], np.float32), (64, 1))
    actual = exact + np.asarray([[0, 0.1]], np.float32)
    ideals = Ideals((exact * np.float32(1 + 2.0**-11),))
    assert case.judge(actual, ideals, exact).ok
    assert not case.judge(actual, ideals, exact, by_channel=True).ok
    grid = Grid(step=0.05, zero=0, dtype="int16")
    stored = np.round(actual / 0.05).astype(np.int16)
    assert case.judge(stored, ideals, exact, by_channel=True, grid=grid).ok


def test_stretches_of_ops_are_named_by_their_ends_and_kinds() -> None:
    view = chain("RELU", "TANH", "RELU", "ABS").graph()
    assert _named(view, [1]) == "TANH #1"
    assert _named(view, [1, 2, 3]) == "ops #1 to #3 (TANH, RELU, ABS)"
