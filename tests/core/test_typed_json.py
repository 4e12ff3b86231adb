"""Facts from JSON: what fits is read, and of what does not the sentence names the place."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from harness.core.typed_json import read_as

Side = Literal["left", "right"]


@dataclass(frozen=True)
class Inner:
    n: int


@dataclass(frozen=True)
class Other:
    why: str


@dataclass(frozen=True)
class Outer:
    text: str
    flag: bool
    number: float
    side: Side
    inner: Inner | Other | None
    several: tuple[Inner, ...]
    sides: Mapping[Side, float]
    later: int = 7


GOOD: dict[str, Any] = {
    "text": "t", "flag": True, "number": 1, "side": "left", "inner": {"n": 2}, "several": [{"n": 3}],
    "sides": {"left": 1.5, "right": "nan"},
}  # fmt: skip


def test_what_fits_is_read_and_what_is_new_passed_over() -> None:
    found = read_as(Outer, GOOD | {"newer": 1})
    assert (found.text, found.flag, found.side, found.inner, found.later) == ("t", True, "left", Inner(2), 7)
    assert (found.several, found.sides["left"]) == ((Inner(3),), 1.5)
    assert type(found.number) is float and math.isnan(found.sides["right"])


def test_a_union_takes_what_fits_first() -> None:
    assert read_as(Outer, GOOD | {"inner": {"why": "x"}}).inner == Other("x")
    assert read_as(Outer, GOOD | {"inner": None}).inner is None


@pytest.mark.parametrize(("number", "read"), [("inf", math.inf), (10**400, math.inf), (-(10**400), -math.inf)])
def test_a_number_beyond_all_is_infinite(number: Any, read: float) -> None:
    assert read_as(Outer, GOOD | {"number": number}).number == read


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (None, "Outer is 'None', not an object"),
        ([], r"Outer is '\[\]', not an object"),
        ({}, "Outer has no text"),
        ({"text": 1}, r"Outer\.text is '1', not a string"),
        ({"text": None}, r"Outer\.text is 'None', not a string"),
        ({"flag": 1}, r"Outer\.flag is '1', not true or false"),
        ({"number": True}, r"Outer\.number is 'True', not a number"),
        ({"number": "1"}, r"Outer\.number is '1', not a number"),
        ({"number": {}}, r"Outer\.number is '\{\}', not a number"),
        ({"side": "up"}, r"Outer\.side is 'up', not one of left, right"),
        ({"side": []}, r"Outer\.side is '\[\]', not one of left, right"),
        ({"inner": {"n": 1.0}}, r"Outer\.inner\.n is '1\.0', not a whole number"),
        ({"inner": {"n": True}}, r"Outer\.inner\.n is 'True', not a whole number"),
        ({"inner": {"n": 2**63}}, r"Outer\.inner\.n is '9223372036854775808', not a whole number"),
        ({"inner": 3}, r"Outer\.inner is '3', not an object"),
        ({"several": {"n": 3}}, r"Outer\.several is .*, not a list"),
        ({"several": [{"n": 3}, None]}, r"Outer\.several\[1\] is 'None', not an object"),
        ({"sides": {"left": 1}}, r"Outer\.sides is .*, not an object with left, right"),
        ({"sides": {"left": 1, "right": []}}, r"Outer\.sides\.right is '\[\]', not a number"),
    ],
)
def test_what_does_not_fit_is_named(document: Any, why: str) -> None:
    spoilt = GOOD | document if isinstance(document, dict) and document else document
    with pytest.raises(ValueError, match=f"^{why}$"):
        read_as(Outer, spoilt)
