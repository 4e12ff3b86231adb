"""The questions that the window search asks, in order."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.localize.probe.search import Answer, FoundWindows, Window, _WindowSearch, find_windows

Asked = list[tuple[int, int]]


def searched(count: int, answer: Callable[[int, int], Answer], limit: int | None = None) -> tuple[FoundWindows, Asked]:
    asked: Asked = []

    def ask(start: int, stop: int) -> Answer:
        asked.append((start, stop))
        return answer(start, stop)

    found = find_windows(count, ask, limit=limit)
    assert found.questions == len(asked) == len(set(asked))
    return found, asked


def has(*items: int) -> Callable[[int, int], Answer]:
    return lambda start, stop: "bad" if any(start <= i < stop for i in items) else "good"


def test_the_left_half_is_asked_first_and_then_both_rests() -> None:
    found, asked = searched(8, has(2))
    assert found == FoundWindows((Window(2, 3),), (), 6)
    assert asked == [(0, 8), (0, 4), (0, 2), (2, 4), (2, 3), (3, 8)]


def test_a_fault_in_the_right_half_costs_a_question_more_at_each_step() -> None:
    found, asked = searched(8, has(7))
    assert found.failing == (Window(7, 8),)
    assert asked == [(0, 8), (0, 4), (4, 8), (4, 6), (6, 8), (6, 7), (7, 8), (0, 7)]


def test_a_window_that_fails_as_a_whole_is_trimmed_by_galloping_from_both_ends() -> None:
    found, asked = searched(16, lambda start, stop: "bad" if start <= 5 and stop >= 10 else "good")
    assert found.failing == (Window(5, 10),)
    assert asked == [
        (0, 16), (0, 8), (8, 16),
        (1, 16), (3, 16), (7, 16), (5, 16), (6, 16),  # 1, 2, 4 more; then halved
        (5, 15), (5, 13), (5, 9), (5, 11), (5, 10),
        (5, 7), (7, 10), (6, 10),  # both ends stand
        (0, 5), (10, 16),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("most", "limit", "found", "asked"),
    [
        (10, 0, 0, [1]),
        (10, 1, 1, [1, 3, 2]),
        (10, 2, 2, [1, 3, 2]),
        (10, 3, 3, [1, 3, 7, 5, 4]),
        (10, 10, 10, [1, 3, 7, 10]),
        (1, 9, 1, [1]),
        (0, 9, 0, []),
        (2, 1, 1, [1, 2]),
        (5, 4, 4, [1, 3, 5, 4]),
    ],
)
def test_galloping_doubles_its_steps_and_bisects_behind_the_first_that_does_not_fail(
    most: int, limit: int, found: int, asked: list[int]
) -> None:
    seen: list[int] = []

    def fails(n: int) -> bool:
        seen.append(n)
        return n <= limit

    assert _WindowSearch.gallop(most, fails) == found
    assert seen == asked


def test_what_cannot_be_resolved_whole_is_asked_in_halves() -> None:
    def answer(start: int, stop: int) -> Answer:
        return "unresolved" if stop - start > 2 else has(3)(start, stop)

    found, asked = searched(4, answer)
    assert found == FoundWindows((Window(3, 4),), (), 5)
    assert asked == [(0, 4), (0, 2), (2, 4), (2, 3), (3, 4)]


def test_what_its_halves_do_not_tell_either_is_unresolved_as_a_whole() -> None:
    found, _ = searched(4, lambda start, stop: "unresolved" if stop - start == 4 else "good")
    assert (found.failing, found.unresolved) == ((), (Window(0, 4),))


def test_the_smallest_parts_that_are_unresolved_are_told_and_not_what_has_them() -> None:
    found, _ = searched(4, lambda start, stop: "unresolved" if start <= 1 < stop else "good")
    assert (found.failing, found.unresolved) == ((), (Window(1, 2),))


def test_a_failing_part_of_what_is_unresolved_stands_for_it() -> None:
    def answer(start: int, stop: int) -> Answer:
        return "unresolved" if stop - start == 4 else has(0)(start, stop)

    assert searched(4, answer)[0] == FoundWindows((Window(0, 1),), (), 5)


@pytest.mark.parametrize(("limit", "failing", "unresolved"), [(0, 0, [0, 1]), (1, 0, []), (2, 0, []), (3, 1, [])])
def test_questions_beyond_the_limit_are_not_asked(limit: int, failing: int, unresolved: list[int]) -> None:
    """Of two items, the first at fault: whole, left half, and what is right of it."""
    found, asked = searched(2, has(0), limit)
    assert len(asked) == min(limit, 3)
    if limit == 0:
        assert (found.failing, found.unresolved) == ((), (Window(0, 1), Window(1, 2)))
    else:
        (window,) = found.failing
        assert len(window) == (2 if limit == 1 else 1)
        assert found.unresolved == ((Window(1, 2),) if limit == 2 else ())
