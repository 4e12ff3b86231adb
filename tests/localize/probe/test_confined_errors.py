"""Errors in a part of a tensor: how large a part may be, how full of errors, and how nearly alone with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.core.arrays import Array
from harness.localize.probe import error_pattern
from harness.localize.probe.error_pattern import _block, _confined, _holds, _likely_shifts, _same_extremes, _tail
from tests.arrays import f32


def squares(shape: tuple[int, ...], *places: Any, by: float = 1.0, rest: float = 0.0) -> Array:
    found = np.full(shape, rest)
    for place in places:
        found[place] = by
    return found


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (squares((8, 8), np.s_[2:4, 3:6]), "wrong in the block [2:4, 3:6] only"),
        (squares((4, 8), np.s_[0:2, 0:7]), "wrong in the block [0:2, 0:7] only"),
        (squares((2, 16), np.s_[0:2, 0:8]), None),  # along one axis only
        (squares((8, 8), np.s_[0:4, 0:8]), None),
        (squares((8, 8), np.s_[0:7, 0:4]), "wrong in the block [0:7, 0:4] only"),
        (squares((8, 8), np.s_[0:7, 0:5]), None),  # more than half of all
        (squares((4, 8), np.s_[0:2, 0:2], np.s_[2:3, 0:1]), "wrong in the block [0:3, 0:2] only"),
        (squares((8, 8), (0, 0), (1, 1)), "wrong in the block [0:2, 0:2] only"),  # half of it
        (squares((8, 8), (0, 0), (1, 2)), None),  # a third of it
        (squares((8, 8), np.s_[2:4, 3:6], rest=0.001), "wrong in the block [2:4, 3:6] only"),
        (squares((8, 8), np.s_[2:4, 3:6], rest=0.002), None),  # 0.116 of 6.116 lie around it
    ],
)
def test_a_block_is_at_most_half_of_all_and_at_least_half_wrong(found: Array, text: str | None) -> None:
    signature = _block(found)
    assert (signature and signature.text) == text
    assert signature is None or signature.kind == "block"


def test_nearly_all_of_an_error_is_99_hundredths() -> None:
    assert _holds(f32([99]), f32([99, 1]))
    assert not _holds(f32([98.9]), f32([98.9, 1.1]))


@pytest.mark.parametrize(
    ("first", "size", "shape", "text"),
    [
        (16, 20, (1, 20), "wrong from element 16 of 20 on"),
        (15, 20, (1, 20), None),  # an error all over may be small in the first 16
        (20, 32, (2, 16), "wrong from element 20 of 32 on"),
        (16, 32, (2, 16), None),  # a slice of the first axis
        (16, 32, (1, 2, 16), None),
        (16, 32, (32, 1), "wrong from element 16 of 32 on"),
        (40, 640, (1, 640), "wrong from element 40 of 640 on"),
        (39, 640, (1, 640), None),  # a sixteenth of all
        (1000, 2000, (1, 2000), "wrong from element 1,000 of 2,000 on"),
    ],
)
def test_a_tail_begins_behind_a_sixteenth_of_all_and_not_with_a_slice(
    first: int, size: int, shape: tuple[int, ...], text: str | None
) -> None:
    signature = _tail(squares((size,), np.s_[first:]).reshape(shape))
    assert (signature and signature.text) == (None if text is None else f"{text}, in the order of memory")
    assert signature is None or signature.kind == "tail"


@pytest.mark.parametrize(("right", "there"), [(10, True), (11, False)])
def test_at_least_half_of_a_tail_is_wrong(right: int, there: bool) -> None:
    """Of the 20 behind element 20, the last of which is wrong."""
    found = squares((1, 40), np.s_[:, 20:])
    found[0, 21 : 21 + right] = 0
    assert (_tail(found) is not None) is there


@pytest.mark.parametrize(
    ("shape", "place", "text"),
    [
        ((4, 8), np.s_[:, 3], "wrong in slice 3 of axis 1 only"),
        ((4, 8), np.s_[:, 2:6], "wrong in slices 2 to 5 of axis 1 only"),
        ((4, 8), np.s_[:, 2:7], None),  # more than half
        ((4, 8), np.s_[:, 1::4], "wrong in every fourth slice of axis 1, from 1 on"),
        ((4, 12), np.s_[:, 2::4], "wrong in every fourth slice of axis 1, from 2 on"),
        ((4, 12), np.s_[:, [2, 6]], None),  # not all of them
        ((4, 8), np.s_[:, ::2], None),
        ((4, 8), np.s_[1], "wrong in slice 1 of axis 0 only"),
        ((1, 8), np.s_[:, 7], "wrong in slice 7 of axis 1 only"),
        ((2, 2), np.s_[:, 1], "wrong in slice 1 of axis 1 only"),
    ],
)
def test_slices_are_up_to_half_of_an_axis_the_last_axis_first(
    shape: tuple[int, ...], place: Any, text: str | None
) -> None:
    exact = np.ones(shape, np.float32)
    actual = exact.copy()
    actual[place] = 5
    found = _confined(actual, exact)
    assert (found and found.text) == text


@pytest.mark.parametrize(
    ("length", "shift", "likely"), [(8, 3, 3), (8, 4, 4), (8, 5, -3), (8, 7, -1), (2, 1, 1), (9, 4, 4), (9, 5, -4)]
)
def test_a_shift_is_by_up_to_half_to_either_side(length: int, shift: int, likely: int) -> None:
    exact = np.random.default_rng(1).standard_normal((3, length)).astype(np.float32)
    found = _likely_shifts(np.roll(exact, shift, 1), exact, 1, length)
    assert found[0] == likely
    assert 0 not in found
    assert len(found) <= 3


@pytest.mark.parametrize("length", [1, error_pattern.MOST_SHIFTS + 1])
def test_axes_of_one_or_too_many_are_not_shifted(length: int) -> None:
    exact = np.ones((3, length), np.float32)
    assert _likely_shifts(exact, exact, 1, length) == []


@pytest.mark.parametrize(
    ("actual", "exact", "same"),
    [
        ([4, 3, 2, 1], [1, 2, 3, 4], True),
        ([4, 3, 2, 1.01], [1, 2, 3, 4], False),
        ([4 * (1 + 2.0**-10), 3, 2, 1], [1, 2, 3, 4], True),
        ([4 * (1 + 2.0**-8), 3, 2, 1], [1, 2, 3, 4], False),
        ([1, 1, 2, 2], [2, 1, 2, 1], True),
        ([1, 1, 1, 1, 1, 2], [1, 1, 1, 1, 2, 1], False),  # few numbers many times over
    ],
)
def test_the_ends_of_two_orders_of_the_same_values_are_the_same(
    actual: list[float], exact: list[float], same: bool
) -> None:
    assert _same_extremes(f32(actual), f32(exact)) is same
