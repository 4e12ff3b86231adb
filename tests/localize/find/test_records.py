"""What became of each op: of those that nobody read, of suspects that fell, and of what is kept of culprits."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.core.run_folder import RunFolder
from harness.graph.build import GraphBuilder
from harness.graph.grid import Grid
from harness.localize.base.op_record import OpRecord
from harness.localize.base.result import Culprit
from harness.localize.find.records import corrected, unread, worth_keeping, write_rows, write_steps
from harness.localize.probe.local_error import plan
from harness.remedies.cause import Cause
from tests.chains import chain

MODEL = chain("TANH", "EXP", "ABS", "NEG")
MADE = [op.outputs[0] for op in MODEL.graph().ops]


def record(op: int, verdict: Any = "fine", reading: Any = "copy", **more: Any) -> OpRecord:
    return OpRecord(op, "ABS", op, f"t{op}", MADE[op], (1, 8), "float32", verdict, reading=reading, **more)


def culprit(of: OpRecord) -> Culprit:
    return Culprit(of, Cause.KERNEL, None, certified=True)


def test_ops_that_no_reading_covers_are_unread() -> None:
    graph = MODEL.graph()
    assert unread(graph, plan(graph, frozenset(MADE))) == []
    # The output is judged from TANH #0's result on, with all ops between.
    assert unread(graph, plan(graph, frozenset({MADE[0]}))) == []
    behind = [r for r in plan(graph, frozenset({MADE[1]})) if r.tensor == MADE[1]]
    assert [(r.index, r.first, r.op, r.verdict, r.local) for r in unread(graph, behind)] == [
        (2, 2, "ABS", "unread", None),
        (3, 3, "NEG", "unread", None),
    ]
    (first, _) = unread(graph, behind)
    made = graph.tensors[MADE[2]]
    assert (first.output, first.tensor, first.shape, first.dtype) == (made.name, MADE[2], (1, 8), "float32")


def test_what_is_folded_into_constants_is_nothing_to_read() -> None:
    graph = GraphBuilder()
    weights = graph.dequantize(np.ones((1, 8), np.float32))
    graph.output(graph.binary("MUL", graph.input("x", (1, 8)), weights), "y")
    assert [(r.index, r.op) for r in unread(graph.build().graph(), [])] == [(1, "MUL")]


def test_a_suspect_that_does_not_stand_is_as_it_was_before_it_was_read() -> None:
    records = [record(0), record(1, "culprit"), record(2, "culprit"), record(3, "inherited")]
    standing = [culprit(records[1])]
    assert [r.verdict for r in corrected(records, standing)] == ["fine", "culprit", "unread", "inherited"]
    assert [r.verdict for r in corrected(records, standing, "inherited")] == [
        "fine",
        "culprit",
        "inherited",
        "inherited",
    ]
    assert [r.verdict for r in corrected(records, [])] == ["fine", "unread", "unread", "inherited"]


def test_another_reading_of_a_culprit_s_tensor_stands_beside_it() -> None:
    both = [record(1, "culprit"), record(1, "culprit", "output")]
    assert corrected(both, [culprit(both[0])]) == both


def test_what_was_found_anew_takes_the_place_of_the_same_reading() -> None:
    old, other = record(1, "fine"), record(1, "fine", "output")
    anew = replace(old, verdict="culprit", reference_max_abs=2.0)
    assert corrected([record(0), old, other], [culprit(anew)]) == [record(0), other, anew]
    window = record(2, "culprit", "window")
    assert corrected([record(0), record(2)], [culprit(window)]) == [record(0), record(2), window]


def test_the_values_of_outputs_and_of_what_culprits_read_and_made_are_kept() -> None:
    graph = MODEL.graph()
    assert worth_keeping(graph, []) == ["output-y"]
    assert worth_keeping(graph, [culprit(record(2))]) == ["output-y", "0001-EXP", "0002-ABS"]
    assert worth_keeping(graph, [culprit(record(0))]) == ["output-y", "0000-TANH"]  # an input is the caller's own


@pytest.mark.parametrize("grid", [None, Grid(0.5, 0, "int8")])
def test_the_tables_are_written_anew_and_that_of_steps_where_there_are_some(grid: Grid | None, tmp_path: Path) -> None:
    records = [record(0), record(1, grid=grid)]
    with RunFolder.create(tmp_path, "localize", "abs", "half") as run:
        run.rows("ops.csv", OpRecord.HEADER, [record(3).row()])
        assert write_rows(run, records) is records
        write_steps(run, records)
        tables = {path.name: list(csv.reader(path.read_text("utf-8").splitlines())) for path in run.path.glob("*.csv")}
    assert [row[0] for row in tables["ops.csv"]] == ["index", "0", "1"]
    steps = [row[0] for row in tables.get("quantized.csv", [])]
    assert steps == ([] if grid is None else ["index", "1"])
