"""Every cause has its words and its rewrites; reports, reproducers and remedies rely on it."""

from __future__ import annotations

import json

import pytest

from harness.remedies.cause import Cause


@pytest.mark.parametrize("cause", Cause)
def test_every_cause_can_be_told_and_has_something_to_try(cause: Cause) -> None:
    assert cause.explanation.endswith(".")
    one, several = cause.short
    assert one and several and one != several
    assert cause.does and not cause.does.endswith(".")
    assert cause.rewrites and len(set(cause.rewrites)) == len(cause.rewrites)


def test_a_cause_is_its_word() -> None:
    assert Cause("kernel") is Cause.KERNEL
    assert json.dumps({"cause": Cause.KERNEL}) == '{"cause": "kernel"}'
    assert f"{Cause.OVERFLOW}" == "overflow"


def test_a_word_of_another_release_is_no_cause() -> None:
    assert Cause.of("limits") is Cause.LIMITS
    assert Cause.of("cosmic rays") is None and Cause.of("") is None


def test_what_takes_the_process_down_is_told_from_what_is_wrong() -> None:
    assert {cause for cause in Cause if cause.stops} == {Cause.CRASH, Cause.HANG}
