"""JSON from elsewhere is refused before it can end the process."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import pytest

from harness.core.safe_json import MAX_DEPTH, MAX_VALUES, loads


@pytest.fixture
def high_limit() -> Iterator[None]:
    """As a package leaves it that raised the recursion limit for itself."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(1_000_000)
    yield
    sys.setrecursionlimit(before)


@pytest.mark.usefixtures("high_limit")
@pytest.mark.parametrize(
    "content",
    ["[" * 1_000_000, '{"a":' * 1_000_000, '["\\"[",' * 400_000, '["' + "[" * 10 + '",' + "[" * 1_000_000],
    ids=["arrays", "objects", "after strings", "after brackets in a string"],
)
def test_a_document_nested_too_deep_is_refused(content: str) -> None:
    with pytest.raises(ValueError, match=f"more than {MAX_DEPTH} deep"):
        loads(content)


@pytest.mark.parametrize("depth", [1, MAX_DEPTH])
def test_what_is_nested_as_deep_as_allowed_is_read(depth: int) -> None:
    assert json.dumps(loads(("[" * depth + "]" * depth).encode())) == "[" * depth + "]" * depth


def test_brackets_in_strings_and_side_by_side_do_not_count() -> None:
    document = {"text": '[{"\\' * 500, "rows": [[i] for i in range(1000)]}
    assert loads(json.dumps(document)) == document


@pytest.mark.parametrize("content", [b"\xff\xfe", "", '{"a"', '"' + "\\" * 999 + "[" * 999, "[" * MAX_DEPTH])
def test_what_is_no_json_is_refused(content: str | bytes) -> None:
    with pytest.raises(ValueError):
        loads(content)


@pytest.mark.parametrize("one", ["[]", '{"a":0}', "0.5", '"ab"'])
def test_more_values_than_memory_bears_are_refused(one: str) -> None:
    least = f"[{','.join([one] * 1000)}]"
    assert len(loads(least)) == 1000
    with pytest.raises(ValueError, match="more than 3,000,000 values"):
        loads(f"[{','.join([one] * (MAX_VALUES + 1))}]")
