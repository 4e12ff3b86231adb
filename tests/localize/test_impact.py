"""How much of an output's error the injected errors of culprits leave over."""

from __future__ import annotations

import math

import numpy as np

from harness.localize.impact import unexplained

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
