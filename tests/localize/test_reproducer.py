"""The limits that a reproducer asserts: those that the answer was judged by, in the units of its file."""

from __future__ import annotations

import numpy as np
import pytest

from harness.graph.grid import Grid
from harness.localize.experiment import Observation, Seen
from harness.localize.reproducer import _limits
from harness.numerics.fp16 import UNIT_ROUNDOFF
from harness.numerics.metrics import compare
from harness.numerics.verdict import LOCAL_FACTOR, judge
from tests.arrays import f32

EXACT = f32([1, -2, 4, 8])
# The largest error is not the RMS one, so that one is not taken for the other.
OFF, IDEAL = f32([2, -2, 4, 8]), f32([1.01, -2, 4, 8])


def observed(grid: Grid | None) -> Observation:
    found = judge(compare(OFF, EXACT), compare(IDEAL, EXACT), roundoff=UNIT_ROUNDOFF, factor=LOCAL_FACTOR)
    seen = Seen("y", OFF, EXACT, found, grid)
    return Observation("wrong", worst=seen, outputs=(seen,))


@pytest.mark.parametrize(("grid", "step", "half_a_step"), [(None, 1.0, 0.0), (Grid(0.25, 3, "int8"), 0.25, 0.5)])
def test_limits_are_in_steps_where_the_file_has_integers(grid: Grid | None, step: float, half_a_step: float) -> None:
    most, rms = _limits({"y": EXACT}, observed(grid))["y"]
    assert most == pytest.approx(LOCAL_FACTOR * 0.01 / step + half_a_step, rel=1e-3)
    floor = UNIT_ROUNDOFF * float(np.sqrt(np.mean(EXACT**2)))
    assert rms == pytest.approx(LOCAL_FACTOR * max(0.01 / 2, floor) / step + half_a_step, rel=1e-3)
    assert most != pytest.approx(rms, rel=0.1)


def test_of_a_process_that_died_any_finite_result_will_do() -> None:
    assert _limits({"y": EXACT, "z": EXACT}, Observation("crash")) == {"y": (3e38, 3e38), "z": (3e38, 3e38)}
