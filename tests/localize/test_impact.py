"""How much of an output's error the injected errors of culprits leave over."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from harness.localize.impact import ImpactProbe, unexplained
from harness.localize.result import Impact

EXACT = np.linspace(1, 2, 64, dtype=np.float32)
IDEAL = (EXACT + np.float32(1e-4),)
NAN = np.full_like(EXACT, np.nan)


def test_an_injection_that_gives_the_devices_own_values_leaves_nothing() -> None:
    assert unexplained(EXACT + 1, EXACT + 1, EXACT, IDEAL) == (0.0, 0.0)


def test_what_an_injection_does_not_explain_is_a_share_of_the_error() -> None:
    share, left = unexplained(EXACT + 1, EXACT + 0.75, EXACT, IDEAL)
    assert (round(share, 3), round(left, 3)) == (0.25, 0.25)


def test_an_injection_that_harms_an_output_that_is_exact_explains_nothing_of_it() -> None:
    share, left = unexplained(EXACT, EXACT + 1, EXACT, IDEAL)
    assert (share, round(left, 6)) == (math.inf, 1.0)


def test_an_injection_that_gives_nan_where_the_device_is_finite_is_another_fault() -> None:
    assert unexplained(EXACT + 1, NAN, EXACT, IDEAL) == (1.0, 0.0)
    partly = np.where(np.arange(64) < 16, np.nan, EXACT + 1).astype(np.float32)
    assert unexplained(EXACT + 1, partly, EXACT, IDEAL) == (0.25, 0.0)


def test_nan_on_the_device_is_explained_by_nan_and_says_nothing_of_what_is_finite() -> None:
    assert unexplained(NAN, NAN, EXACT, IDEAL) == (0.0, 0.0)
    assert unexplained(NAN, EXACT, EXACT, IDEAL) == (0.0, 0.0)


def test_one_nan_on_both_sides_does_not_spare_the_finite_rest() -> None:
    device, injected = EXACT + 1, EXACT + np.float32(0.75)
    device[7] = injected[7] = np.nan
    share, left = unexplained(device, injected, EXACT, IDEAL)
    assert (round(share, 3), round(left, 3)) == (0.25, 0.25)


class Told(ImpactProbe):
    """An impact probe that knows the residual of each choice of readings on an ideal device; the exact model feels
    nothing, so that all of the error is left over there."""

    def __init__(self, left: dict[tuple[str, ...], float]) -> None:
        object.__setattr__(self, "residuals", left)

    def of(self, readings: Sequence[Any], *, held: bool = False) -> tuple[Impact, ...]:
        left = self.residuals[tuple(readings)] if held else 1.0  # type: ignore[attr-defined]
        unknown: Any = None
        return (Impact("y", unknown, 1.0, 0.0, left, held),)


@pytest.mark.parametrize(("left", "needless"), [(0.01, True), (0.5, False)])
def test_what_an_ideal_device_explains_is_asked_without_each_culprit_there_too(left: float, needless: bool) -> None:
    probe = Told({("a",): 0.9, ("b",): left, ("a", "b"): 0.01})
    readings: Any = ["a", "b"]
    assert probe.some_needless(readings, probe.of(readings, held=True)) is needless
