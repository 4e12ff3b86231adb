"""The window search, with culprits planted at every position, in pairs, in context, among liars and silence."""

from __future__ import annotations

import math
import random
from itertools import combinations

import pytest

from harness.localize.probe.search import Answer, Window, find_windows


def single(culprits: set[int]) -> object:
    def ask(start: int, stop: int) -> Answer:
        return "bad" if any(start <= c < stop for c in culprits) else "good"

    return ask


def windows(culprits: set[int]) -> tuple[Window, ...]:
    return tuple(Window(c, c + 1) for c in sorted(culprits))


@pytest.mark.parametrize("count", [1, 2, 3, 7, 16, 33])
def test_a_culprit_at_every_position_is_found_exactly_and_within_the_stated_cost(count: int) -> None:
    for culprit in range(count):
        found = find_windows(count, single({culprit}))  # type: ignore[arg-type]
        assert found.failing == windows({culprit})
        assert found.unresolved == ()
        assert found.questions <= 2 * math.ceil(math.log2(count)) + 5


def test_every_pair_of_culprits_is_found_exactly() -> None:
    count = 14
    bound = 2 * (2 * math.ceil(math.log2(count)) + 4)
    for pair in combinations(range(count), 2):
        found = find_windows(count, single(set(pair)))  # type: ignore[arg-type]
        assert found.failing == windows(set(pair))
        assert found.questions <= bound


def test_all_items_culprits() -> None:
    found = find_windows(9, single(set(range(9))))  # type: ignore[arg-type]
    assert found.failing == windows(set(range(9)))


def test_a_healthy_whole_takes_one_question() -> None:
    found = find_windows(100, single(set()))  # type: ignore[arg-type]
    assert (found.failing, found.unresolved, found.questions) == ((), (), 1)


def test_nothing_to_search() -> None:
    assert find_windows(0, single(set())).failing == ()  # type: ignore[arg-type]


def test_a_fault_that_needs_its_context_is_the_smallest_window_that_shows_it() -> None:
    for first, last in combinations(range(20), 2):

        def ask(start: int, stop: int, first: int = first, last: int = last) -> Answer:
            return "bad" if start <= first and last < stop else "good"

        found = find_windows(20, ask)
        assert found.failing == (Window(first, last + 1),)


def test_a_fault_that_a_longer_window_hides_is_found_where_it_shows() -> None:
    """Item 5 fails alone, and only in windows of at most four items; the whole fails because of item 11."""

    def ask(start: int, stop: int) -> Answer:
        short = start <= 5 < stop and stop - start <= 4
        return "bad" if short or start <= 11 < stop else "good"

    found = find_windows(16, ask)
    assert Window(11, 12) in found.failing
    assert all(ask(w.start, w.stop) == "bad" for w in found.failing)


def test_silence_never_names_an_item() -> None:
    for seed in range(200):
        rng = random.Random(seed)
        culprits = {rng.randrange(24) for _ in range(rng.randrange(3))}
        silent = {(a, b) for a in range(24) for b in range(a + 1, 25) if rng.random() < 0.3}

        def ask(start: int, stop: int, culprits: set[int] = culprits, silent: set[tuple[int, int]] = silent) -> Answer:
            if (start, stop) in silent:
                return "unresolved"
            return "bad" if any(start <= c < stop for c in culprits) else "good"

        found = find_windows(24, ask)
        for window in found.failing:
            assert any(window.start <= c < window.stop for c in culprits)
        covered = {c for c in culprits for w in (*found.failing, *found.unresolved) if w.start <= c < w.stop}
        assert covered == culprits


def test_liars_cost_no_more_than_every_window_and_each_window_found_did_answer_bad() -> None:
    for seed in range(100):
        rng = random.Random(seed)
        answers: dict[tuple[int, int], Answer] = {}

        def ask(
            start: int, stop: int, rng: random.Random = rng, answers: dict[tuple[int, int], Answer] = answers
        ) -> Answer:
            assert (start, stop) not in answers, "a question was asked twice"
            answers[start, stop] = rng.choice(("good", "bad", "unresolved"))
            return answers[start, stop]

        found = find_windows(18, ask)
        assert found.questions <= 18 * 19 // 2
        for window in found.failing:
            assert answers[window.start, window.stop] == "bad"
            if len(window) > 1:
                assert answers.get((window.start + 1, window.stop)) != "bad"
                assert answers.get((window.start, window.stop - 1)) != "bad"


def test_the_limit_on_questions_holds_and_leaves_the_rest_unresolved() -> None:
    found = find_windows(1000, single({700}), limit=5)  # type: ignore[arg-type]
    assert found.questions <= 5
    covered = [w for w in (*found.failing, *found.unresolved) if w.start <= 700 < w.stop]
    assert covered
