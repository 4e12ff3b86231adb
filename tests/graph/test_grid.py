"""Integers on a grid and the real numbers that they stand for."""

from __future__ import annotations

import numpy as np
import pytest

from harness.graph.grid import Grid, grid_of
from tests.arrays import f32

GRID = Grid(step=0.5, zero=-3, dtype="int8")


def test_an_integer_stands_for_the_step_times_its_distance_from_the_zero_point() -> None:
    assert GRID.real(np.asarray([-3, -2, 1, 127, -128], np.int8)).tolist() == [0.0, 0.5, 2.0, 65.0, -62.5]
    assert GRID.range == (-62.5, 65.0)


def test_floats_are_real_numbers_already() -> None:
    values = f32([0.25, 7.0])
    assert GRID.real(values) is values


def test_real_numbers_go_to_the_nearest_integer_and_stop_at_the_ends() -> None:
    assert GRID.nearest(f32([0.0, 0.24, 0.26, -0.26, 1e6, -1e6, np.nan, np.inf])).tolist() == [
        -3, -3, -2, -4, 127, -128, -3, 127,
    ]  # fmt: skip
    assert GRID.nearest(f32([1.0])).dtype == np.int8
    assert GRID.rounded(f32([0.26, 100.0])).tolist() == [0.5, 65.0]


def test_what_is_left_beyond_half_a_step_is_more_than_rounding() -> None:
    stored = np.asarray([-2, -2, -2], np.int8)  # 0.5 each, which stands for 0.25 to 0.75
    assert GRID.unrounded(stored, f32([0.3, 0.75, 2.0])).tolist() == pytest.approx([0.3, 0.75, 0.75])


@pytest.mark.parametrize(
    ("kind", "scales", "zeros", "details"),
    [
        ("INT32", [0.5], [0], None),  # a bias, or an index
        ("INT8", [0.5, 0.25], [0, 0], None),  # one scale for each channel
        ("INT8", [0.0], [0], None),
        ("INT8", [np.nan], [0], None),
        ("INT8", None, None, None),
        ("INT8", [0.5], [0], object()),  # by blocks
    ],
)
def test_what_has_no_single_grid_has_none(kind: str, scales: object, zeros: object, details: object) -> None:
    assert grid_of(kind, scales, zeros, details) is None


def test_a_missing_zero_point_is_zero() -> None:
    assert grid_of("UINT8", [0.25], None) == Grid(0.25, 0, "uint8")
