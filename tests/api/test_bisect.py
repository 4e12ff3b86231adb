"""Where along a line of releases the answer changes: every pattern of four to six releases, and what is owned up to."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise, product
from typing import get_args

import pytest

from harness.api.bisect import NO_ANSWER, Bisection, Change, State, bisect
from harness.core.errors import UnresolvedError

SOME: tuple[State, ...] = ("right", "wrong")


def line(states: tuple[State, ...], *, every: bool = False) -> tuple[Bisection, list[str]]:
    """Releases r0, r1, … with these states, and the order in which they were asked."""
    releases = [f"r{i}" for i in range(len(states))]
    asked: list[str] = []

    def ask(release: str) -> State:
        assert release not in asked, f"{release} is asked twice"
        asked.append(release)
        return states[releases.index(release)]

    return bisect(releases, ask, every=every), asked


def lines(states: tuple[State, ...], most: int) -> Iterator[tuple[State, ...]]:
    for length in range(2, most + 1):
        yield from product(states, repeat=length)


def test_one_change_is_found_at_every_place_in_few_questions() -> None:
    for length in range(2, 40):
        for place in range(1, length):
            states: tuple[State, ...] = tuple("wrong" if i < place else "right" for i in range(length))
            found, asked = line(states)
            assert found.changes == (Change(f"r{place - 1}", "wrong", f"r{place}", "right"),)
            assert len(asked) <= math.ceil(math.log2(length)) + 2


def test_every_change_that_is_told_is_true_and_none_between_asked_releases_is_passed_over() -> None:
    for states in lines(get_args(State), 5):
        if states[0] in NO_ANSWER or states[-1] in NO_ANSWER:
            with pytest.raises(UnresolvedError, match="is not known"):
                line(states)
            continue
        found, asked = line(states)
        assert set(found.states) == set(asked)
        assert {*found.states, *found.not_tested} == {f"r{i}" for i in range(len(states))}
        for change in found.changes:
            last, first = int(change.last[1:]), int(change.first[1:])
            assert (states[last], states[first]) == (change.was, change.became)
            assert change.was != change.became
            assert all(states[i] in NO_ANSWER for i in range(last + 1, first))
            assert change.between == tuple(f"r{i}" for i in range(last + 1, first))
        steps = [found.states[r] for r in found.states if found.states[r] not in NO_ANSWER]
        assert len(found.changes) == sum(a != b for a, b in pairwise(steps))


def test_asking_all_finds_every_change() -> None:
    for states in lines(SOME, 6):
        found, asked = line(states, every=True)
        assert len(asked) == len(states)
        assert len(found.changes) == sum(a != b for a, b in pairwise(states))
        assert found.not_tested == ()


def test_ends_that_agree_do_not_end_the_search() -> None:
    found, asked = line(("right", "right", "wrong", "wrong", "right"))
    assert asked == ["r0", "r4", "r2", "r1", "r3"]
    assert found.changes == (Change("r1", "right", "r2", "wrong"), Change("r3", "wrong", "r4", "right"))
    assert found.sentences() == ["r2 broke it (r1: right).", "r4 mended it (r3: wrong)."]


def test_what_was_not_tested_is_said() -> None:
    found, _ = line(("wrong", "wrong", "wrong", "wrong", "wrong", "wrong"))
    assert found.sentences() == [
        "Wrong on every release that was tested: r0, r3, r5.",
        "Not tested: r1, r2, r4; a change that was undone again may hide there.",
    ]


def test_an_untestable_release_is_passed_over_and_owned_up_to() -> None:
    found, _ = line(("wrong", "untestable", "untestable", "right"))
    assert found.changes == (Change("r0", "wrong", "r3", "right", ("r1", "r2")),)
    assert found.sentences() == [
        "r3 mended it (r0: wrong; not known of r1, r2, which may have been the one).",
        "Not known of r1: it cannot be tested here.",
        "Not known of r2: it cannot be tested here.",
    ]


def test_a_release_that_gave_no_answer_broke_nothing() -> None:
    states: dict[str, State] = {"r0": "right", "r1": "unknown", "r2": "right"}
    found = bisect(list(states), states.__getitem__, why=lambda release: f"no answer from {release} within 9 s.")
    assert found.changes == ()
    assert found.sentences() == [
        "Right on every release that was tested: r0, r2.",
        "Not known of r1: no answer from r1 within 9 s.",
    ]
    states["r2"] = "unknown"
    with pytest.raises(UnresolvedError) as caught:
        bisect(list(states), states.__getitem__, why=lambda release: f"no answer from {release} within 9 s.")
    assert str(caught.value) == (
        "What release r2 makes of it is not known: no answer from r2 within 9 s. "
        "Choose another end with --from or --to or raise --timeout."
    )


def test_a_release_on_which_the_model_does_not_run_is_neither_right_nor_wrong() -> None:
    found, _ = line(("fails", "wrong", "right"))
    assert found.sentences() == [
        "r1 changed it: the model runs, and is wrong (r0: fails).",
        "r2 mended it (r1: wrong).",
    ]
