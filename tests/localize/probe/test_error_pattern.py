"""Signatures: what wrong values look like, claimed only where it explains nearly all of the error."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.localize.probe.error_pattern import signature_of

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
    values[:, :n] = 0
    return values


CASES = {
    "zeros": (np.zeros_like(EXACT), "zeros", "all zeros"),
    "one value everywhere": (np.full_like(EXACT, 3.0), "constant", "3 everywhere"),
    "rolled": (stored(np.roll(EXACT, 3, 1)), "shifted", "shifted by 3 along axis 1"),
    "rolled backwards": (stored(np.roll(EXACT, -2, 2)), "shifted", "shifted by -2 along axis 2"),
    "shifted, zeros moving in": (moved_in(5), "shifted", "shifted by 5 along axis 1"),
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
