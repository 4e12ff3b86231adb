"""Two devices' values of one tensor: the same error, or one of each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.api.across.meeting import largest_difference, meetings, same_error
from harness.core.run_folder import TensorStore
from harness.localize.base.reference import label_of, output_label
from harness.report.across.ops import side_by_side
from tests import models
from tests.arrays import f32
from tests.report.across.test_ops import row

EXACT = f32([1.0, 2.0, 3.0, 4.0])


def test_errors_are_the_same_up_to_what_rounding_explains() -> None:
    one, other = f32([2.0, 2.0, 3.0, 4.0]), f32([2.01, 2.0, 3.0, 4.0])
    assert same_error(one, other, EXACT, explained=0.02)
    assert not same_error(f32([2.0, 2.0, 3.0, 4.0]), f32([1.0, 2.0, 4.0, 4.0]), EXACT, explained=0.02)


def test_a_large_error_is_the_same_where_the_rest_is_a_small_share_of_it() -> None:
    one, other = f32([100.0, 2.0, 3.0, 4.0]), f32([100.1, 2.0, 3.0, 4.0])
    assert same_error(one, other, EXACT)
    assert not same_error(one, f32([-100.0, 2.0, 3.0, 4.0]), EXACT)


@pytest.mark.parametrize("lost", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_the_same_at_the_same_places(lost: float) -> None:
    one = f32([lost, 2.0, 3.0, 4.0])
    assert same_error(one, one.copy(), EXACT)
    assert not same_error(one, f32([1.0, lost, 3.0, 4.0]), EXACT, explained=1e9)
    assert not same_error(f32([np.inf, 2, 3, 4]), f32([-np.inf, 2, 3, 4]), EXACT, explained=1e9)


def test_the_largest_difference_is_of_finite_values() -> None:
    assert largest_difference(f32([1.0, np.nan]), f32([3.0, np.nan])) == 2.0
    assert np.isnan(largest_difference(f32([1.0, np.nan]), f32([3.0, 0.0])))
    # Integers do not wrap around.
    assert largest_difference(np.array([0], np.uint8), np.array([255], np.uint8)) == 255.0


@pytest.mark.parametrize("kept", ["tensor", "output"])
def test_values_are_met_by_the_files_that_hold_them(tmp_path: Path, kept: str) -> None:
    graph = models.wrong().graph()
    port = graph.outputs[0]
    index = graph.producer[port.tensor]
    label = label_of(graph, port.tensor) if kept == "tensor" else output_label(port.name)
    stores = []
    for name, error in (("a", 1.0), ("b", 1.0), ("c", -1.0)):
        store = TensorStore(tmp_path / name)
        store.put(label, "reference", EXACT, "y")
        store.put(label, "device", EXACT + f32([error, 0, 0, 0]), "y")
        stores.append((name, store))
    wrong = row(index, "culprit", output=graph.tensors[port.tensor].name, expected_max=0.001)
    ops = side_by_side([(name, [wrong]) for name in "abc"])
    met = meetings(graph, stores, ops)[index, ops[0].output]
    assert [(each.devices, each.max_abs, each.same_error) for each in met] == [
        (("a", "b"), 0.0, True),
        (("a", "c"), 2.0, False),
        (("b", "c"), 2.0, False),
    ]
    # An op that is right on all but one has nothing to meet.
    assert meetings(graph, stores, side_by_side([("a", [wrong]), ("b", [row(index)])])) == {}
