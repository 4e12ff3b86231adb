"""The lines of ops.csv and quantized.csv: each figure in the column of its name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.graph.grid import Grid
from harness.localize.base.op_record import STEPS_HEADER, OpRecord, in_steps, steps_row
from harness.numerics.metrics import Comparison
from harness.numerics.tolerance import Judgement

# No two figures are the same, and all are whole eighths, so that in steps of an eighth they are whole numbers.
ACTUAL = Comparison(
    count=100, finite=97, nonfinite=3, nonfinite_mismatch=0, reference_nonfinite=2, max_abs=2.0, mean_abs=0.25, rms=1.5,
    flushed=4, max_abs_unflushed=0.4, rms_unflushed=0.2, reference_rms=1.0, cosine=0.75, range=(-7.0, 8.0),
    reference_range=(-5.0, 6.0), worst=(1, 9),
)  # fmt: skip
LOCAL = Judgement(False, 48.0, ACTUAL, replace(ACTUAL, max_abs=0.5, rms=0.125), 32.0)
PLAIN = OpRecord(5, "MUL", 3, "t", 7, (2, 4), "float32", "culprit", LOCAL, 0.625, 0.875)
GRID = Grid(0.125, -10, "int8")
ON_GRID = replace(PLAIN, dtype="int8", grid=GRID)


def test_each_figure_is_in_the_column_of_its_name() -> None:
    assert dict(zip(OpRecord.HEADER, PLAIN.row(), strict=True)) == {
        "index": 5,
        "first": 3,
        "op": "MUL",
        "output": "t",
        "shape": "2x4",
        "dtype": "float32",
        "verdict": "culprit",
        "reading": "copy",
        "local_max_abs": 2.0,
        "local_rms": 1.5,
        "expected_max_abs": 0.5,
        "expected_rms": 0.125,
        "ratio": 48.0,
        "nonfinite": 3,
        "cosine_vs_reference": 0.875,
        "max_abs_vs_reference": 0.625,
        "device_min": -7.0,
        "device_max": 8.0,
    }


def test_of_what_was_not_judged_the_reference_is_told_alone() -> None:
    row = dict(zip(OpRecord.HEADER, replace(PLAIN, local=None).row(), strict=True))
    assert {name for name, value in row.items() if value == ""} == {
        "local_max_abs", "local_rms", "expected_max_abs", "expected_rms", "ratio", "nonfinite", "device_min",
        "device_max",
    }  # fmt: skip
    assert (row["cosine_vs_reference"], row["max_abs_vs_reference"]) == (0.875, 0.625)


def test_errors_of_a_quantized_tensor_are_told_in_steps() -> None:
    row = steps_row(ON_GRID)
    assert row is not None
    assert dict(zip(STEPS_HEADER, row, strict=True)) == {
        "index": 5,
        "first": 3,
        "output": "t",
        "dtype": "int8",
        "step": 0.125,
        "zero_point": -10,
        "local_max_steps": 16.0,
        "local_rms_steps": 12.0,
        "expected_max_steps": 4.0,
        "expected_rms_steps": 1.0,
    }
    assert steps_row(replace(ON_GRID, local=None)) == (5, 3, "t", "int8", 0.125, -10, "", "", "", "")
    assert steps_row(PLAIN) is None


def test_a_culprit_of_integers_tells_its_grid_and_its_errors_in_steps() -> None:
    told = {"dtype": "int8", "step": 0.125, "zero_point": -10, "local_error_steps": 16.0, "expected_error_steps": 4.0}
    assert in_steps(ON_GRID) == told
    unread = replace(ON_GRID, local=None)
    assert in_steps(unread) == told | {"local_error_steps": None, "expected_error_steps": None}
    assert in_steps(PLAIN) is None


@pytest.mark.parametrize(("first", "title", "number"), [(5, "MUL", "#5"), (4, "2 ops", "#4-5"), (3, "3 ops", "#3-5")])
def test_a_run_of_ops_is_counted_and_a_single_op_is_named(first: int, title: str, number: str) -> None:
    found = replace(PLAIN, first=first)
    assert (found.title, found.number) == (title, number)


def test_a_copy_and_an_output_of_one_tensor_are_told_apart() -> None:
    keys = [replace(PLAIN, reading=reading).key for reading in ("copy", "output", "window")]
    assert keys == [(7, True), (7, False), (7, False)]


def test_a_record_that_says_no_more_is_of_a_copy_that_is_as_the_reference() -> None:
    plain = OpRecord(0, "MUL", 0, "t", 7, (), "float32", "unread")
    assert (plain.local, plain.reference_max_abs, plain.reference_cosine) == (None, 0.0, 1.0)
    assert (plain.reading, plain.grid) == ("copy", None)
