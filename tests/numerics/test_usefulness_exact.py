"""What each yardstick grants and says, to the last bit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from harness.core.arrays import Array
from harness.numerics.usefulness import Kind, Limits, Shortfall, Yardstick, is_copy, size_of, storing, yardsticks
from tests.arrays import f32, i32

HALF_KEPT = f32([1, 1, -1, -1])
MASK = f32([1, 1, 1, 1])


@pytest.mark.parametrize(("kind", "loss"), [("mask", 0.5), ("iou", 0.5), ("cosine", 1.0)])
def test_what_is_lost_of_a_likeness_is_what_lacks_to_one(kind: Kind, loss: float) -> None:
    yardstick = Yardstick(kind, MASK, 0.25, 0.5, input="x")
    assert yardstick.loss(MASK) == pytest.approx(0.0, abs=1e-15)
    assert yardstick.loss(HALF_KEPT) == loss
    assert yardstick.shortfall(HALF_KEPT) == Shortfall(kind, 1 - loss, 0.75)


@pytest.mark.parametrize("kind", ["spread", "tolerance", "difference"])
def test_of_an_error_the_loss_is_its_figure_and_the_limit_the_yardsticks(kind: Kind) -> None:
    yardstick = Yardstick(kind, f32([-8, 8]), 0.125, 0.3, input="x", tolerance=(2.0, 0.25))
    loss = {"tolerance": 1.0}.get(kind, 0.5)  # 4 of 2 + 8/4, and of the spread 8
    assert yardstick.shortfall(f32([-4, 4])) == Shortfall(kind, loss, 0.125, "x")


def test_the_largest_error_of_any_element_is_held_to_a_tolerance() -> None:
    yardstick = Yardstick("tolerance", f32([0, 4, 8]), 1.0, 1.0, tolerance=(1.0, 0.5))
    assert yardstick.loss(f32([1, 4, 8])) == 1.0
    assert yardstick.loss(f32([1, 10, 8])) == 2.0
    assert yardstick.loss(f32([1, 4, -7])) == 3.0


@pytest.mark.parametrize("new", [math.nan, math.inf, -math.inf])
def test_one_value_that_is_no_longer_finite_loses_all(new: float) -> None:
    for kind in ("spread", "tolerance", "difference"):
        yardstick = Yardstick(kind, f32([-8, 8, math.nan]), 1.0, 1.0)
        assert yardstick.loss(f32([-8, new, 0])) == math.inf
        assert yardstick.loss(f32([-8, 8, new])) == 0.0


def test_a_copys_error_is_shared_by_the_elements_that_add_something() -> None:
    exact, base = f32([[1, 2], [3, 5]]), f32([1, 2, 2, 3])  # adds 1 and 2
    yardstick = Yardstick("difference", exact, 0.125, 0.3, base=base)
    assert yardstick.loss(exact + 1) == pytest.approx(math.sqrt(1 / 2.5))
    assert yardstick.loss(exact + f32([[9, 9], [0, 0]])) == 0.0


@pytest.mark.parametrize(("half", "pardon"), [(False, 0.0), (True, 4 * math.sqrt(0.5))])
def test_only_what_is_stored_as_float16_is_pardoned_for_it(half: bool, pardon: float) -> None:
    exact = np.arange(2048, 2056, dtype=np.float32)  # every other one is off by 1
    (yardstick,) = yardsticks("y", exact, {}, Limits(), half=half, masks=False)
    assert yardstick.pardon == pytest.approx(pardon)
    assert (yardstick.kind, yardstick.half, yardstick.limit, yardstick.on_device) == ("spread", half, 0.125, 0.3)


def test_a_copy_and_a_mask_have_limits_of_their_own() -> None:
    x = np.linspace(1, 2, 64, dtype=np.float32)
    found = yardsticks("mask", x * np.float32(1.03125), {"far": -x, "x": x}, Limits(), half=True, masks=True)
    assert [(y.kind, y.limit, y.on_device, y.input) for y in found] == [
        ("spread", 0.125, 0.3, ""), ("difference", 0.125, 0.3, "x"), ("mask", 0.25, 0.5, ""),
    ]  # fmt: skip
    assert found[1].base is x
    assert [y.half for y in found] == [True, True, False]


@pytest.mark.parametrize(
    ("dtype", "kinds"),
    [
        (np.float32, ["spread", "tolerance", "cosine", "iou"]),
        (np.int8, ["tolerance"]),
        (np.uint8, ["tolerance"]),
        (np.bool_, []),
    ],
)
def test_each_limit_of_the_callers_is_for_the_types_that_have_it(dtype: Any, kinds: list[str]) -> None:
    limits = Limits(min_cosine=0.9, min_iou=0.75, atol=0.5, rtol=0.25)
    found = yardsticks("y", np.asarray([0, 1, 1], dtype), {}, limits, half=True, masks=False)
    assert [y.kind for y in found] == kinds
    asked = {y.kind: (y.limit, y.on_device, y.tolerance) for y in found if y.asked}
    right = {
        "tolerance": (1.0, 1.0, (0.5, 0.25)),
        "cosine": (pytest.approx(0.1), pytest.approx(0.1), (0.0, 0.0)),
        "iou": (0.25, 0.25, (0.0, 0.0)),
    }
    assert asked == {kind: right[kind] for kind in kinds if kind != "spread"}


@pytest.mark.parametrize(
    ("x", "exact", "copied"),
    [
        ([10] * 4, [11] * 4, False),  # a tenth
        ([10] * 4, [11, 11, 11, 10], True),
        ([16384] * 4, [16385] * 4, False),  # 2^-14 of it
        ([16384] * 4, [16385, 16385, 16385, 16386], True),
    ],
)
def test_a_tenth_is_too_much_for_a_copy_and_a_2_14th_too_little(
    x: list[float], exact: list[float], copied: bool
) -> None:
    assert is_copy(f32(exact), f32(x)) is copied


@pytest.mark.parametrize(
    ("values", "size"),
    [
        (f32([3, 5]), 1.0),
        (f32([3, math.nan, 5, math.inf]), 1.0),
        (f32([2**24 - 16, 2**24 + 16]), 2.0**24),  # a spread of 2^-20
        (f32([2**24 - 18, 2**24 + 18]), 18.0),
        (i32([-7]), 7.0),
    ],
)
def test_a_spread_that_is_float32s_rounding_is_none(values: Array, size: float) -> None:
    assert size_of(values) == pytest.approx(size)


def test_storing_asks_for_finite_values_only() -> None:
    assert storing(f32([2049, math.inf, math.nan, 2048])) == pytest.approx(math.sqrt(0.5))


@pytest.mark.parametrize(
    ("shortfall", "words"),
    [
        (Shortfall("iou", 0.75, 0.75), "its mask IoU is 0.75, limit 0.75"),
        (Shortfall("cosine", 0.1234562, 0.1234561), "its cosine is 0.1234562, limit 0.1234561"),
        (Shortfall("iou", 0.123456, 0.12349), "its mask IoU is 0.12346, limit 0.12349"),
        (Shortfall("spread", 10.5, 0.125), "its error is 10 times of its spread, limit 12.5 %"),
        (Shortfall("spread", 9.99, 0.125), "its error is 999 % of its spread, limit 12.5 %"),
        (
            Shortfall("difference", 0.5, 0.125, "a"),
            "it is mostly a copy of input 'a', and the error is 50 % of what it adds to that, limit 12.5 %",
        ),
    ],
)
def test_figures_have_as_many_digits_as_tell_them_apart(shortfall: Shortfall, words: str) -> None:
    assert shortfall.words() == words
