"""Decoder variants as cases of a test that takes a second for each."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from _pytest.mark import ParameterSet

from harness.sam2.shared.contract import AXES, DecoderVariant


def each_word_once(variants: Iterable[DecoderVariant]) -> list[ParameterSet]:
    """All of them; those are slow that have no word, such as `plain` or `rank4`, which none before them has."""
    seen: set[str] = set()
    cases = []
    for variant in variants:
        words = {getattr(variant, axis) for axis in AXES}
        cases.append(pytest.param(variant, id=str(variant), marks=[pytest.mark.slow] * (words <= seen)))
        seen |= words
    return cases
