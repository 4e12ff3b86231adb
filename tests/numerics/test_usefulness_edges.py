"""Where an output's limits begin and end: what is just allowed, and what is just not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.core.errors import UsageError
from harness.numerics.fp16 import SMALLEST_NORMAL
from harness.numerics.usefulness import Kind, Limits, Shortfall, Yardstick, is_copy, size_of, storing, yardsticks
from tests.arrays import f32

# Its spread is 8, so that whole errors are exact shares of it.
EIGHTS = f32([-8, 8, -8, 8])
NOTHING = f32([math.nan, math.inf])


@pytest.mark.parametrize(
    ("limits", "tolerance"),
    [
        (Limits(), None),
        (Limits(atol=0.5), (0.5, 1e-5)),
        (Limits(rtol=0.5), (1e-8, 0.5)),
        (Limits(atol=0.0, rtol=0.0), (0.0, 0.0)),
    ],
)
def test_what_is_not_given_of_a_tolerance_is_numpys(limits: Limits, tolerance: tuple[float, float] | None) -> None:
    assert limits.tolerance == tolerance


@pytest.mark.parametrize(
    ("name", "allowed", "refused"),
    [
        ("min_cosine", (-1.0, 0.0, 1.0), (-1.01, 1.01, math.nan)),
        ("min_iou", (0.0, 1.0), (-0.01, 1.01, math.nan)),
        ("atol", (0.0, 1e9), (-1e-9, math.inf)),
        ("rtol", (0.0, 1e9), (-1e-9, math.inf)),
    ],
)
def test_the_ends_of_a_limits_range_are_in_it(
    name: str, allowed: tuple[float, ...], refused: tuple[float, ...]
) -> None:
    for value in allowed:
        assert getattr(Limits(**{name: value}), name) == value
    for value in refused:
        with pytest.raises(UsageError):
            Limits(**{name: value})


def test_a_loss_at_a_limit_is_within_it() -> None:
    yardstick = Yardstick("spread", EIGHTS, 0.125, 0.25)
    one, two, three = EIGHTS + 1, EIGHTS + 2, EIGHTS + 3
    assert [yardstick.loss(x) for x in (EIGHTS, one, two, three)] == [0.0, 0.125, 0.25, 0.375]
    assert [yardstick.severity(x) for x in (EIGHTS, one, two)] == [0.0, 1.0, 2.0]
    assert not yardstick.fails(one, two)
    assert not yardstick.fails(two, one)
    assert yardstick.fails(two, two)
    assert yardstick.fails(three, EIGHTS)


def test_an_error_as_large_as_what_is_pardoned_is_pardoned() -> None:
    yardstick = Yardstick("spread", EIGHTS, 0.125, 0.25, pardon=1.0)
    assert [yardstick.loss(EIGHTS + x) for x in (1, 2)] == [0.0, 0.25]


def test_only_what_is_stored_as_float16_may_vanish_and_only_below_its_range() -> None:
    below, at = f32([0.5 * SMALLEST_NORMAL] * 4), f32([SMALLEST_NORMAL] * 4)
    for exact, actual, half, loss in (
        (below, 0 * below, True, 0.0),
        (below, 0 * below, False, 1.0),
        (at, 0 * at, True, 1.0),
        (below, at, True, 1.0),
    ):
        assert Yardstick("spread", exact, 0.125, 0.25, half=half).loss(actual) == loss


def test_where_nothing_is_allowed_any_error_is_infinitely_too_large() -> None:
    yardstick = Yardstick("tolerance", f32([0, 1]), 1.0, 1.0)
    assert [yardstick.loss(f32([x, 1])) for x in (0, 1)] == [0.0, math.inf]
    assert Yardstick("tolerance", NOTHING, 1.0, 1.0).loss(NOTHING) == 0.0


@pytest.mark.parametrize(
    ("kind", "asked"),
    [("spread", False), ("difference", False), ("mask", False), ("cosine", True), ("iou", True), ("tolerance", True)],
)
def test_a_cosine_an_iou_and_a_tolerance_are_the_callers(kind: Kind, asked: bool) -> None:
    assert Yardstick(kind, EIGHTS, 1.0, 1.0).asked is asked


@pytest.mark.parametrize(
    ("shortfall", "words"),
    [
        (Shortfall("spread", 0.184, 0.125), "its error is 18.4 % of its spread, limit 12.5 %"),
        (Shortfall("spread", 10.0, 0.3), "its error is 1e+03 % of its spread, limit 30 %"),
        (Shortfall("spread", 12.0, 0.3), "its error is 12 times of its spread, limit 30 %"),
        (Shortfall("tolerance", 2.5, 1.0), "its error is 2.5 times what --atol and --rtol allow"),
        (Shortfall("mask", 0.7, 0.75), "its mask IoU is 0.7, limit 0.75"),
        (Shortfall("mask", 0.74999, 0.75), "its mask IoU is 0.74999, limit 0.75"),
    ],
)
def test_a_shortfall_is_said_in_figures(shortfall: Shortfall, words: str) -> None:
    assert shortfall.words() == words
    assert shortfall.to_json() == {
        "kind": shortfall.kind, "value": shortfall.value, "limit": shortfall.limit, "input": "", "words": words,
    }  # fmt: skip


def test_a_limit_of_the_callers_is_what_may_be_lost_and_never_nothing() -> None:
    for least, lost in ((0.75, 0.25), (1.0, 1e-12), (-1.0, 2.0)):
        found = yardsticks("y", EIGHTS, {}, Limits(min_cosine=least), half=False, masks=False)
        assert [(y.kind, y.limit, y.on_device) for y in found] == [("spread", 0.125, 0.3), ("cosine", lost, lost)]


def test_an_output_without_a_finite_value_is_held_to_a_tolerance_alone() -> None:
    limits = Limits(min_cosine=0.9, min_iou=0.9, atol=1.0)
    assert [y.kind for y in yardsticks("y", NOTHING, {}, limits, half=True, masks=False)] == ["tolerance"]
    assert (size_of(NOTHING), storing(NOTHING)) == (0.0, 0.0)


@pytest.mark.parametrize(("more", "kinds"), [(63, ["spread"]), (64, ["spread", "mask"])])
def test_a_mask_has_64_elements_or_more(more: int, kinds: list[str]) -> None:
    exact = f32([1] * more + [-1] * 99 + [0] * 9)
    assert [y.kind for y in yardsticks("mask", exact, {}, Limits(), half=False, masks=True)] == kinds


def test_two_values_are_no_copy_nor_are_whole_numbers_nor_what_is_infinite() -> None:
    x = f32([1, 2, 3])
    near = x * np.float32(1.03125)
    assert is_copy(near, x)
    assert not is_copy(near[:2], x[:2])
    assert not is_copy(near, x.astype(np.int32))
    assert not is_copy(f32([1, 2, math.inf]), x)
