"""Whether an output is of use, whatever rounding explains: exact figures, and what is not held against it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.core.arrays import Array
from harness.core.errors import UsageError
from harness.numerics.usefulness import Limits, Shortfall, Yardstick, size_of, storing, yardsticks

RAMP = np.linspace(-1, 1, 101, dtype=np.float32)


def held_to(
    exact: Array, *, name: str = "y", inputs: dict[str, Array] | None = None, limits: Limits | None = None,
    masks: bool = False,
) -> dict[str, Yardstick]:  # fmt: skip
    found = yardsticks(name, exact, inputs or {}, limits or Limits(), half=True, masks=masks)
    return {yardstick.kind: yardstick for yardstick in found}


def test_an_error_is_measured_by_the_spread_and_an_offset_is_none() -> None:
    for offset in (0.0, 3.0):
        exact = (RAMP + np.float32(offset)).astype(np.float32)
        actual = exact + np.float32(0.2) * np.float32(exact.std())
        assert held_to(exact)["spread"].loss(actual) == pytest.approx(0.2, rel=1e-5)


def test_one_value_and_equal_ones_are_measured_by_their_size() -> None:
    assert size_of(np.asarray([-4.0], np.float32)) == 4.0
    assert size_of(np.full(9, -4.0, np.float32)) == 4.0
    assert size_of(np.zeros(9, np.float32)) == 0.0
    assert held_to(np.zeros(9, np.float32)) == {}


def test_an_eighth_of_the_spread_is_the_limit_where_float16_itself_loses_it_and_three_tenths_in_any_case() -> None:
    spread = np.float32(RAMP.std())
    yardstick = held_to(RAMP)["spread"]

    def off(by: float) -> Array:
        return np.asarray(RAMP + np.float32(by) * spread, np.float32)

    assert yardstick.fails(off(0.13), off(0.13))
    assert not yardstick.fails(off(0.12), off(0.13))
    assert not yardstick.fails(off(0.29), off(0.12))
    assert yardstick.fails(off(0.31), off(0.0))


def test_one_or_two_values_may_be_near_zero_by_chance() -> None:
    for size, limit in ((1, 0.3), (2, 0.3), (3, 0.125)):
        assert held_to(np.arange(1, size + 1, dtype=np.float32))["spread"].limit == limit


def test_four_times_what_storing_the_exact_values_costs_is_not_held_against_an_output() -> None:
    # From 2048 on float16 has even numbers only: an odd one is off by 1, the mean square over both kinds is 1/2.
    exact = np.arange(2048, 2048 + 8, dtype=np.float32)
    assert storing(exact) == pytest.approx(math.sqrt(0.5))
    yardstick = held_to(exact)["spread"]
    assert yardstick.loss(exact + np.float32(4 * math.sqrt(0.5) - 0.01)) == 0.0
    assert yardstick.loss(exact + np.float32(4 * math.sqrt(0.5) + 0.01)) > 1


def test_values_below_the_range_of_float16_that_vanish_do_not_count() -> None:
    exact = np.full(64, 1e-8, np.float32) * np.arange(1, 65, dtype=np.float32)
    assert held_to(exact)["spread"].loss(np.zeros_like(exact)) == 0.0
    mixed = np.concatenate([exact, RAMP])
    assert held_to(mixed)["spread"].loss(np.concatenate([np.zeros_like(exact), RAMP])) == 0.0


def test_what_becomes_nan_is_lost() -> None:
    assert held_to(RAMP)["spread"].loss(np.full_like(RAMP, np.nan)) == math.inf


def test_what_is_infinite_in_the_exact_output_says_nothing() -> None:
    exact = np.concatenate([RAMP, [np.inf, -np.inf, np.nan]]).astype(np.float32)
    held = held_to(exact, limits=Limits(atol=1e-3))
    assert [held[kind].loss(exact) for kind in ("spread", "tolerance")] == [0.0, 0.0]
    assert held["tolerance"].loss(exact + np.float32(0.01)) > 1


class TestCopies:
    def test_a_copy_is_held_to_what_it_adds(self) -> None:
        added = np.float32(0.01) * RAMP[::-1]
        yardstick = held_to(RAMP + added, inputs={"x": RAMP})["difference"]
        assert yardstick.loss(RAMP + np.float32(0.5) * added) == pytest.approx(0.5, rel=1e-4)
        assert yardstick.shortfall(RAMP).words() == (
            "it is mostly a copy of input 'x', and the error is 100 % of what it adds to that, limit 12.5 %"
        )

    def test_elements_that_are_the_inputs_own_say_nothing_of_what_is_added(self) -> None:
        exact = RAMP.copy()
        exact[3] += np.float32(0.5)
        actual = exact + np.float32(0.001)
        assert held_to(exact, inputs={"cache": RAMP})["difference"].loss(actual) == pytest.approx(0.002, rel=1e-3)

    @pytest.mark.parametrize(
        ("part", "judged"), [(0.2, False), (0.05, True), (2.0**-13, True), (2.0**-15, False), (0.0, False)]
    )
    def test_a_tenth_is_no_copy_and_a_sixteen_thousandth_nothing_added(self, part: float, judged: bool) -> None:
        exact = (RAMP.astype(np.float64) + part * RAMP[::-1]).astype(np.float32)
        assert ("difference" in held_to(exact, inputs={"x": RAMP})) is judged

    def test_an_input_of_another_shape_is_not_copied(self) -> None:
        exact = (RAMP[:100] * np.float32(1.01)).reshape(10, 10)
        assert "difference" not in held_to(exact, inputs={"x": RAMP[:100].reshape(5, 20)})
        assert "difference" in held_to(exact, inputs={"x": RAMP[:100].reshape(1, 10, 10)})


class TestMasks:
    def test_a_mask_by_name_has_to_keep_three_quarters_of_its_iou(self) -> None:
        exact = np.concatenate([np.full(100, 5.0), np.full(300, -5.0)]).astype(np.float32)
        assert "mask" not in held_to(exact)
        yardstick = held_to(exact, name="pred_masks")["mask"]
        kept = {n: np.concatenate([np.full(n, 5.0), np.full(400 - n, -5.0)]).astype(np.float32) for n in (74, 76, 49)}
        assert yardstick.fails(kept[74], kept[74])
        assert not yardstick.fails(kept[76], kept[74])
        assert not yardstick.fails(kept[74], exact)
        assert yardstick.fails(kept[49], exact)

    def test_a_few_elements_are_no_mask_to_be_judged(self) -> None:
        assert "mask" not in held_to(np.concatenate([np.ones(63), -np.ones(99)]).astype(np.float32), name="mask")

    def test_an_iou_is_asked_of_masks_where_there_are_any(self) -> None:
        limits = Limits(min_iou=0.9)
        assert "iou" in held_to(RAMP, limits=limits)
        assert "iou" not in held_to(RAMP, limits=limits, masks=True)
        assert "iou" in held_to(RAMP, name="mask", limits=limits, masks=True)


class TestLimits:
    def test_atol_and_rtol_are_those_of_allclose(self) -> None:
        rng = np.random.default_rng(0)
        exact = rng.standard_normal(50).astype(np.float32)
        for atol, rtol in ((0.01, None), (None, 0.01), (0.003, 0.003), (0.0, 0.0)):
            yardstick = held_to(exact, limits=Limits(atol=atol, rtol=rtol))["tolerance"]
            for error in (0.0, 1e-6, 2e-3, 5e-3, 0.02):
                actual = (exact + error * rng.standard_normal(50)).astype(np.float32)
                a, e = actual.astype(np.float64), exact.astype(np.float64)
                right = np.allclose(a, e, 1e-5 if rtol is None else rtol, 1e-8 if atol is None else atol)
                assert yardstick.fails(actual, exact) is not right

    def test_a_limit_of_the_callers_asks_the_device_alone(self) -> None:
        yardstick = held_to(RAMP, limits=Limits(min_cosine=0.999))["cosine"]
        assert yardstick.fails(RAMP + np.float32(0.1), RAMP)
        # The mean square of 101 evenly spaced values from -1 to 1 is 102/300, and an offset d adds d²: sqrt(0.34/0.35).
        assert yardstick.shortfall(RAMP + np.float32(0.1)).words() == "its cosine is 0.985611, limit 0.999"
        assert Shortfall("cosine", 1 - 3e-9, 1 - 1e-9).words() == "its cosine is 0.999999997, limit 0.999999999"
        assert Shortfall("iou", 0.95, 0.999).words() == "its mask IoU is 0.95, limit 0.999"

    def test_integers_are_held_to_a_tolerance_and_nothing_else(self) -> None:
        limits = Limits(min_cosine=0.9, min_iou=0.9, atol=1.0, rtol=0.0)
        exact = np.arange(9, dtype=np.int32)
        (yardstick,) = held_to(exact, limits=limits).values()
        assert not yardstick.fails(exact + 1, exact)
        assert yardstick.fails(exact + 2, exact)

    @pytest.mark.parametrize(
        ("wrong", "sentence"),
        [
            ({"min_cosine": 1.5}, "min_cosine is 1.5. Give a number from -1 to 1."),
            ({"min_iou": -0.1}, "min_iou is -0.1. Give a number from 0 to 1."),
            ({"atol": math.nan}, "atol is nan. Give a number finite and not negative."),
            ({"rtol": -1.0}, "rtol is -1.0. Give a number finite and not negative."),
        ],
    )
    def test_what_is_no_limit_is_refused(self, wrong: dict[str, float], sentence: str) -> None:
        with pytest.raises(UsageError) as caught:
            Limits(**wrong)
        assert str(caught.value) == sentence
