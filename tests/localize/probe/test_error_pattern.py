"""Signatures: what wrong values look like, claimed only where it explains nearly all of the error."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.localize.probe.error_pattern import predicts, signature_of
from tests.arrays import f32

RNG = np.random.default_rng(5)
EXACT = RNG.standard_normal((4, 58, 64)).astype(np.float32)
OTHER = RNG.standard_normal((4, 58, 64)).astype(np.float32)
BIG = EXACT * np.float32(1e5)


def stored(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return values.astype(np.float16).astype(np.float32)


def damaged(places: Any, by: float = 0.0) -> NDArray[np.float32]:
    values = stored(EXACT)
    values[places] = by
    return values


def tail(first: int) -> NDArray[np.float32]:
    """Other values from some element on."""
    values = stored(EXACT).reshape(-1)
    values[first:] = OTHER.reshape(-1)[first:]
    return values.reshape(EXACT.shape)


def moved_in(n: int) -> NDArray[np.float32]:
    """Shifted along axis 1, with zeros moving in."""
    values = np.roll(stored(EXACT), n, 1)
    values[:, slice(0, n) if n > 0 else slice(n, None)] = 0
    return values


def filled(share: int) -> NDArray[np.float32]:
    """Five more in so many of the 16 elements of each row and column of a block."""
    values = stored(EXACT)
    for row in range(16):
        values[:, 8 + row, 16 + (row + np.arange(share)) % 16] += 5
    return values


CASES = {
    "zeros": (np.zeros_like(EXACT), "zeros", "all zeros"),
    "one value everywhere": (np.full_like(EXACT, 3.0), "constant", "3 everywhere"),
    "rolled": (stored(np.roll(EXACT, 3, 1)), "shifted", "shifted by 3 along axis 1"),
    "rolled backwards": (stored(np.roll(EXACT, -2, 2)), "shifted", "shifted by -2 along axis 2"),
    "shifted, zeros moving in": (moved_in(5), "shifted", "shifted by 5 along axis 1"),
    "shifted backwards, zeros moving in": (moved_in(-7), "shifted", "shifted by -7 along axis 1"),
    "shifted by half, zeros moving in": (moved_in(29), "shifted", "shifted by 29 along axis 1"),
    "transposed": (
        stored(EXACT.transpose(1, 0, 2).reshape(EXACT.shape)), "transposed", "axes in the order [1, 0, 2]",
    ),
    "shuffled": (
        stored(RNG.permutation(EXACT.reshape(-1)).reshape(EXACT.shape)), "permuted",
        "the right values in another order",
    ),
    "scaled": (stored(EXACT * np.float32(1.25)), "scaled", "1.25 times the exact result"),
    "offset": (stored(EXACT + np.float32(2)), "offset", "the exact result plus 2"),
    "an operand": (stored(OTHER), "operand", "the operand 'x' returned as it is"),
    "every fourth channel": (damaged((..., slice(1, None, 4))), "channels", "every fourth slice of axis 2, from 1 on"),
    "one group of channels": (damaged((..., slice(4, 8))), "slices", "slices 4 to 7 of axis 2 only"),
    "one block": (
        damaged((slice(None), slice(8, 16), slice(16, 32)), 0.0), "block", "wrong in the block [0:4, 8:16, 16:32] only",
    ),
    "the end, in the middle of a row": (
        tail(9000), "tail", "wrong from element 9,000 of 14,848 on, in the order of memory",
    ),
    "the end, from the first image on": (tail(2000), "tail", "wrong from element 2,000 of 14,848 on"),
    "the last image": (tail(3 * 58 * 64), "slices", "slice 3 of axis 0 only"),
    "half of the channels": (damaged((..., slice(0, 32))), "slices", "slices 0 to 31 of axis 2 only"),
    "half of a block": (filled(8), "block", "wrong in the block [0:4, 8:24, 16:32] only"),
    "less than half of a block": (filled(7), "slices", "slices 16 to 31 of axis 2 only"),
    "a block at the edge": (damaged((0, slice(50, 58), slice(0, 9))), "block", "[0:1, 50:58, 0:9] only"),
    "one row": (damaged((slice(None), 57)), "slices", "slice 57 of axis 1 only"),
    "one NaN": (damaged((2, 3, 4), np.nan), "nonfinite", "1 NaN of 14848 values, the first at [2, 3, 4]"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_fault_is_recognized_through_float16s_rounding(name: str) -> None:
    values, kind, text = CASES[name]
    found = signature_of(values, EXACT, {"x": OTHER})
    assert found is not None
    assert found.kind == kind
    assert text in found.text


def test_values_of_another_tensor_are_called_stale() -> None:
    found = signature_of(stored(OTHER), EXACT, {}, {"conv_3": OTHER.reshape(58, 4, 64)})
    assert found is not None
    assert (found.kind, found.text) == ("stale", "the values of 'conv_3'")


def test_values_held_at_float16s_largest_are_saturated() -> None:
    found = signature_of(np.clip(BIG, -65504, 65504), BIG)
    assert found is not None
    assert found.kind == "saturated"


def test_infinity_beyond_the_range_is_told_with_the_size_of_what_was_lost() -> None:
    values = np.where(np.abs(BIG) > 65504, np.inf, BIG)
    found = signature_of(values.astype(np.float32), BIG)
    assert found is not None
    assert "infinite, where the exact result is beyond" in found.text


@pytest.mark.parametrize(
    "values",
    [stored(EXACT), RNG.standard_normal(EXACT.shape).astype(np.float32), EXACT + OTHER * np.float32(0.1), EXACT],
    ids=["right", "unrelated", "noisy", "identical"],
)
def test_what_has_no_signature_gets_none(values: NDArray[np.float32]) -> None:
    assert signature_of(values, EXACT, {"x": OTHER}) is None


@pytest.mark.parametrize(
    "values",
    [
        damaged((..., slice(0, 33))),
        damaged((slice(None), slice(0, 50), slice(0, 60))),
        damaged((..., [1, 5, 9])),
        damaged((..., [0, 1, 3])),
        tail(500),
    ],
    ids=["most channels", "most of each image", "some of every fourth", "no row of channels", "nearly all of it"],
)
def test_an_error_in_most_places_or_in_no_pattern_has_none(values: NDArray[np.float32]) -> None:
    assert signature_of(values, EXACT) is None


def test_an_error_that_is_small_before_the_end_and_large_from_there_on_is_no_tail() -> None:
    """More than a hundredth of its squares lies before."""
    error = np.where(np.arange(EXACT.size) < 9000, np.float32(0.095), np.float32(1)).reshape(EXACT.shape)
    assert signature_of(EXACT + error, EXACT) is None


@pytest.mark.parametrize(("length", "kind"), [(512, "shifted"), (513, "permuted"), (2, "shifted")])
def test_shifts_are_searched_along_axes_that_are_not_too_long(length: int, kind: str) -> None:
    exact = RNG.standard_normal((3, length)).astype(np.float32)
    found = signature_of(np.roll(exact, 1, 1), exact)
    assert found is not None
    assert found.kind == kind


def test_a_tail_may_begin_anywhere_within_the_first_of_two_slices() -> None:
    exact = EXACT.reshape(1, 2, -1)
    found = signature_of(tail(4000).reshape(exact.shape), exact)
    assert found is not None
    assert found.text.startswith("wrong from element 4,000 of 14,848 on")


def test_axes_are_exchanged_in_up_to_four_dimensions() -> None:
    exact = RNG.standard_normal((2, 3, 4, 5)).astype(np.float32)
    found = signature_of(exact.transpose(0, 3, 1, 2).reshape(exact.shape), exact)
    assert found is not None
    assert (found.kind, found.text) == ("transposed", "axes in the order [0, 3, 1, 2]")


@pytest.mark.parametrize("channels", [8, 4])
def test_every_fourth_is_told_from_one_of_four(channels: int) -> None:
    exact = RNG.standard_normal((6, 9, channels)).astype(np.float32)
    values = exact.copy()
    values[..., 3::4] = 0
    found = signature_of(values, exact)
    assert found is not None
    assert (
        found.text
        == f"wrong in {'every fourth slice of axis 2, from 3 on' if channels == 8 else 'slice 3 of axis 2 only'}"
    )


def test_operands_of_another_size_or_of_integers_are_not_what_came_back() -> None:
    for operand in (OTHER[:3], (1000 * OTHER).astype(np.int32)):
        assert signature_of(stored(OTHER), EXACT, {"x": operand}, {"y": operand}) is None


@pytest.mark.parametrize(
    ("exact", "actual", "text"),
    [
        ([1, 2, 70000, 4], [1, 2, np.inf, 4], "1 infinite, where the exact result is beyond 7e+04"),
        ([1, 2, 33000, 4], [1, 2, -np.inf, 4], "1 infinite, where the exact result is beyond 3.3e+04"),
        ([1, 2, 32000, 4], [1, 2, np.inf, 4], "1 infinite of 4 values, the first at [2]"),
        ([1, 70000, 2, 4], [1, np.inf, np.inf, 4], "2 infinite of 4 values, the first at [1]"),
        ([1, 2, 70000, 4], [1, 2, np.nan, 4], "1 NaN of 4 values, the first at [2]"),
        ([1, 2, 70000, 80000], [1, 2, np.nan, np.inf], "1 infinite and 1 NaN, where the exact result is beyond 7e+04"),
        ([1, np.nan, 2, 4], [1, np.nan, np.nan, 4], "1 NaN of 4 values, the first at [2]"),
    ],
)
def test_infinity_is_put_down_to_the_range_where_all_of_it_stands_for_large_values(
    exact: list[float], actual: list[float], text: str
) -> None:
    """Large is half of what float16 holds: a step on the way may have been twice as large."""
    found = signature_of(f32(actual), f32(exact))
    assert found is not None
    assert (found.kind, found.text) == ("nonfinite", text)


def test_nan_where_the_exact_result_has_it_too_is_no_pattern() -> None:
    assert signature_of(f32([1, np.nan, 3]), f32([1, np.nan, 2])) is None


@pytest.mark.parametrize(
    ("predicted", "actual", "exact", "holds"),
    [
        ([2, 4, 6], [2, 4, 6], [1, 2, 3], True),
        ([2, 4, 6.3], [2, 4, 6], [1, 2, 3], True),
        ([2, 4, 6.4], [2, 4, 6], [1, 2, 3], False),  # of an error of 3.7 a tenth is left
        ([1, 2, 3], [1, 2, 3], [1, 2, 3], False),
        ([np.nan, 4, 6], [2, 4, 6], [1, 2, 3], False),
        ([2, 4, 6], [2, 4, np.inf], [1, 2, 3], False),
        ([2, 4, 6], [2, 4, 6], [1, 2, np.nan], False),
    ],
)
def test_a_prediction_explains_an_error_that_is_there_to_a_tenth(
    predicted: list[float], actual: list[float], exact: list[float], holds: bool
) -> None:
    assert predicts(f32(predicted), f32(actual), f32(exact)) is holds


def test_two_samples_on_a_coarse_grid_are_no_order_of_each_other() -> None:
    """Their ends are the grid's, many times over, and sorted they lie as close as their steps."""
    rng = np.random.default_rng(0)
    actual, exact = (np.clip(np.rint(rng.standard_normal((16, 16, 32)) * 90), -128, 127) / 32 for _ in range(2))
    assert signature_of(actual.astype(np.float32), exact.astype(np.float32)) is None


def test_integers_have_no_signature() -> None:
    assert signature_of(np.arange(4), np.arange(4)) is None


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("size", [24, 400, 14848])
def test_an_error_all_over_is_in_no_part(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    exact = rng.standard_normal((size // 4, 4)).astype(np.float32)
    assert signature_of(exact + rng.standard_normal(exact.shape).astype(np.float32), exact) is None


@pytest.mark.parametrize("count", [1, 8, 64, 512])
def test_a_few_zeros_among_many_values_are_no_other_order(count: int) -> None:
    """Sorted, 14,848 values look nearly the same with some zeros among them."""
    actual = stored(EXACT)
    actual.reshape(-1)[:count] = 0
    found = signature_of(actual, EXACT)
    assert found is None or found.kind != "permuted"


def test_half_of_the_values_in_another_order_are_told_as_that() -> None:
    actual = stored(EXACT).reshape(-1).copy()
    half = actual.size // 2
    actual[:half] = np.random.default_rng(5).permutation(actual[:half])
    found = signature_of(actual.reshape(EXACT.shape), EXACT)
    assert found is not None and found.kind == "permuted"
