"""The language of conditions: it computes as Python does, and never takes for true what is not known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.lint.knowledge.expression import UNKNOWN, Described, Expression, ExpressionError

FUNCTIONS: dict[str, Callable[..., Any]] = {"len": len, "max": max, "min": min}
NAMES = ("a", "b", "c")

numbers = st.integers(-9, 9)
atoms = st.one_of(numbers.map(str), st.sampled_from(NAMES))


def _sums(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(lambda x, op, y: f"({x} {op} {y})", inner, st.sampled_from(["+", "-", "*", "//", "%"]), inner)


sums = st.recursive(atoms, lambda inner: st.one_of(_sums(inner), inner.map(lambda x: f"(-{x})")), max_leaves=5)
comparisons = st.builds(
    lambda x, op, y: f"({x} {op} {y})", sums, st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), sums
)


def _logic(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.builds(lambda x, op, y: f"({x} {op} {y})", inner, st.sampled_from(["and", "or"]), inner),
        inner.map(lambda x: f"(not {x})"),
        st.builds(lambda x, y, z: f"({x} if {y} else {z})", inner, inner, inner),
    )


conditions = st.recursive(comparisons, _logic, max_leaves=5)
complete = st.fixed_dictionaries(dict.fromkeys(NAMES, numbers))


def plainly(text: str, names: dict[str, Any]) -> Any:
    """What Python makes of it; None where it makes nothing of it."""
    try:
        return eval(text, {"__builtins__": {}}, names)  # noqa: S307 - a text drawn above
    except ZeroDivisionError:
        return None


@given(conditions, complete)
def test_what_is_all_known_is_as_python_has_it(text: str, names: dict[str, int]) -> None:
    found = Expression(text).value(names, FUNCTIONS)
    exact = plainly(text, names)
    if found is not UNKNOWN and exact is not None:
        assert found == exact and type(found) is type(exact)
    if found is UNKNOWN:  # a division by zero, somewhere in it
        assert "//" in text or "%" in text


@given(conditions, complete, st.sets(st.sampled_from(NAMES)))
def test_what_is_concluded_from_less_holds_however_the_rest_comes_out(
    text: str, names: dict[str, int], hidden: set[str]
) -> None:
    less = {name: value for name, value in names.items() if name not in hidden}
    found = Expression(text).value(less, FUNCTIONS)
    whole = Expression(text).value(names, FUNCTIONS)
    assert found is UNKNOWN or whole is UNKNOWN or found == whole


@given(conditions, complete, st.sets(st.sampled_from(NAMES), min_size=1))
def test_the_opposite_of_what_is_not_known_is_not_known(text: str, names: dict[str, int], hidden: set[str]) -> None:
    less = {name: value for name, value in names.items() if name not in hidden}
    condition, opposite = Expression(text), Expression(f"not {text}")
    assert not (condition.holds(less, FUNCTIONS) and opposite.holds(less, FUNCTIONS))
    assert (condition.value(less, FUNCTIONS) is UNKNOWN) == (opposite.value(less, FUNCTIONS) is UNKNOWN)


class Thing(Described):
    shape = (4, 8)
    nothing = None

    @property
    def broken(self) -> int:
        raise ValueError("not known")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("x.shape[-1]", 8),
        ("x.shape[0:1] == (4,)", True),
        ("len(x.shape)", 2),
        ("max(x.shape) in (8, 9)", True),
        ("'a' if x.shape[0] == 4 else 'b'", "a"),
        ("1 < len(x.shape) < 4", True),
        ("x.shape[5]", UNKNOWN),
        ("x.nothing", UNKNOWN),
        ("x.broken > 1 or True", True),
        ("x.broken > 1 and True", UNKNOWN),
        ("x.broken > 1 and False", False),
        ("y.shape", UNKNOWN),
        ("x.missing", UNKNOWN),
        ("x.shape + x.shape", UNKNOWN),  # numbers alone are added up
        ("'a' < 1", UNKNOWN),
        ("1 and True", UNKNOWN),  # a number is no truth
        ("not 1", UNKNOWN),
        ("9999999999 * 9999999999", UNKNOWN),  # larger than any size
        ("(1).real", UNKNOWN),  # attributes of what a graph has alone
    ],
)
def test_places_attributes_and_what_is_not_there(text: str, value: Any) -> None:
    found = Expression(text).value({"x": Thing()}, FUNCTIONS)
    assert found is value if value is UNKNOWN or isinstance(value, bool) else found == value


@pytest.mark.parametrize(
    "text",
    [
        "", "1 +", "x = 1", "lambda: 1", "[x for x in y]", "x.__class__", "x._hidden", "f(x)(y)", "x.f(1)",
        "f(a=1)", "f(*x)", "{1: 2}", "{1}", "x ** 2", "x / 2", "1 << 9", "x if y", "f'{x}'", "b'x'", "1j", "...",
        "x[::2]", "(x := 1)", "await x", "x is y", "~x", "None", "9" * 600,
    ],
)  # fmt: skip
def test_anything_else_is_no_expression(text: str) -> None:
    with pytest.raises(ExpressionError):
        Expression(text)


def test_it_tells_what_it_reads() -> None:
    read = Expression("len(x.shape) > y and 'a' in z")
    assert (read.names, read.functions) == ({"x", "y", "z"}, {"len"})
