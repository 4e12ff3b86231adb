"""Work in a thread: what is begun early, in which order it comes, and that nothing goes on behind a caller who left."""

from __future__ import annotations

import threading

import pytest

from harness.core.beside import beside, one_ahead

SECONDS = 20.0
"""Until what waits for another thread gives up: a test that fails, not one that hangs."""


def nothing() -> None:
    raise AssertionError("nobody left early")


def test_a_block_goes_on_while_the_work_is_done() -> None:
    here = threading.Event()

    def work() -> bool:
        return here.wait(SECONDS)

    with beside(work, nothing) as future:
        here.set()
        assert future.result()


def test_what_the_work_raises_is_raised_where_its_result_is_asked_for() -> None:
    with pytest.raises(ZeroDivisionError), beside(lambda: 1 // 0, nothing) as future:
        future.result()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_block_that_fails_abandons_the_work_and_waits_for_its_end(error: type[BaseException]) -> None:
    begun, abandoned, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        assert abandoned.wait(SECONDS)
        ended.set()

    with pytest.raises(error), beside(work, abandoned.set):
        assert begun.wait(SECONDS)
        raise error
    assert ended.is_set()


def test_work_that_could_not_be_ended_at_once_is_abandoned_again() -> None:
    begun, times, enough = threading.Event(), [], threading.Event()

    def work() -> None:
        begun.set()
        assert enough.wait(SECONDS)

    def abandon() -> None:
        times.append(0)
        if len(times) == 2:
            enough.set()

    with pytest.raises(ValueError), beside(work, abandon):
        assert begun.wait(SECONDS)
        raise ValueError
    assert len(times) == 2


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_items_come_in_their_order_each_with_its_result(count: int) -> None:
    assert list(one_ahead(lambda item: item * item, range(count), nothing)) == [(i, i * i) for i in range(count)]


def test_the_next_item_is_worked_on_while_the_caller_has_one_and_no_further_ones() -> None:
    begun = [threading.Event() for _ in range(4)]

    def work(item: int) -> int:
        begun[item].set()
        return item

    for item, _ in one_ahead(work, range(4), nothing):
        assert item == 3 or begun[item + 1].wait(SECONDS)
        assert not any(event.is_set() for event in begun[item + 2 :])


def test_an_item_that_fails_ends_it_there() -> None:
    seen, abandoned = [], threading.Event()
    with pytest.raises(ZeroDivisionError):
        for item, _ in one_ahead(lambda item: 6 // (2 - item), range(9), abandoned.set):
            seen.append(item)
    assert seen == [0, 1]


def test_a_caller_who_leaves_abandons_what_is_being_worked_on_and_nothing_new_begins() -> None:
    begun, abandoned, worked = threading.Event(), threading.Event(), []

    def work(item: int) -> int:
        worked.append(item)
        if item == 1:
            begun.set()
            assert abandoned.wait(SECONDS)
        return item

    items = one_ahead(work, range(4), abandoned.set)
    assert next(items) == (0, 0)
    assert begun.wait(SECONDS)
    items.close()  # type: ignore[attr-defined]
    assert abandoned.is_set()
    assert worked == [0, 1]


def test_a_caller_who_leaves_after_the_last_item_abandons_nothing() -> None:
    items = one_ahead(str, [1], nothing)
    assert next(items) == (1, "1")
    items.close()  # type: ignore[attr-defined]
