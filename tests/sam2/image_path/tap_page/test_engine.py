"""A warm device: one question after another, the last of a hand's alone, and a life after a fault."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from harness.core.errors import DeviceError
from harness.sam2.image_path.tap_page.engine import Engine, Superseded


class Counted:
    """Stands for a device that is opened and closed."""

    elsewhere = True
    opened = closed = 0

    def __init__(self) -> None:
        Counted.opened += 1

    def stop(self) -> None:
        pass

    def close(self) -> None:
        Counted.closed += 1


@pytest.fixture
def engine() -> Iterator[Engine]:
    Counted.opened = Counted.closed = 0
    made = Engine("phone", Counted)  # type: ignore[arg-type]
    yield made
    made.close()
    assert Counted.opened == Counted.closed


def held(engine: Engine) -> tuple[threading.Event, Callable[[], Any]]:
    """Have the engine busy until the event is set."""
    begun, go = threading.Event(), threading.Event()

    def hold(device: object) -> bool:
        begun.set()
        return go.wait(30)

    future = engine.ask(hold)
    assert begun.wait(30)
    return go, future.result


def test_the_device_is_opened_once_for_many_questions(engine: Engine) -> None:
    assert not engine.elsewhere
    assert [engine.ask(lambda device, n=n: n).result(30) for n in range(5)] == [0, 1, 2, 3, 4]  # type: ignore[misc]
    assert Counted.opened == 1 and engine.elsewhere


def test_a_waiting_question_gives_way_to_a_newer_one_of_its_slot(engine: Engine) -> None:
    go, _ = held(engine)
    first, second, other = (engine.ask(lambda device, n=n: n, slot) for n, slot in ((1, "a"), (2, "a"), (3, "b")))  # type: ignore[misc]
    go.set()
    assert (second.result(30), other.result(30)) == (2, 3)
    with pytest.raises(Superseded):
        first.result(30)


def test_a_question_that_nobody_waits_for_is_not_asked(engine: Engine) -> None:
    go, _ = held(engine)
    asked: list[int] = []
    dropped, kept = engine.ask(lambda device: asked.append(1), "a"), engine.ask(lambda device: asked.append(2), "b")
    assert dropped.cancel()
    later = engine.ask(lambda device: asked.append(3), "a")
    go.set()
    kept.result(30)
    later.result(30)
    assert asked == [2, 3]


def test_what_goes_wrong_is_the_askers_and_the_next_is_answered(engine: Engine) -> None:
    def fails(device: object) -> None:
        raise DeviceError("It crashed.")

    with pytest.raises(DeviceError, match="crashed"):
        engine.ask(fails).result(30)
    assert engine.ask(lambda device: 7).result(30) == 7


def test_a_device_that_cannot_be_opened_is_tried_again() -> None:
    tries = []

    def opens() -> Any:
        tries.append(1)
        if len(tries) == 1:
            raise DeviceError("It is not attached.")
        return Counted()

    engine = Engine("phone", opens)
    with pytest.raises(DeviceError, match="not attached"):
        engine.ask(lambda device: 1).result(30)
    assert engine.ask(lambda device: 2).result(30) == 2
    engine.close()


def test_a_device_that_is_lent_is_closed_and_takes_no_questions(engine: Engine) -> None:
    engine.ask(lambda device: 1).result(30)

    def work() -> int:
        assert Counted.closed == 1
        with pytest.raises(DeviceError, match=r"phone looks for ops\."):
            engine.ask(lambda device: 1).result(30)
        with pytest.raises(DeviceError, match="looks for ops"):
            engine.lend("looks again", lambda: 1)
        return 5

    assert engine.lend("looks for ops", work) == 5
    assert engine.ask(lambda device: 2).result(30) == 2
    assert Counted.opened == 2


def test_what_is_asked_of_a_closed_engine_is_refused(engine: Engine) -> None:
    engine.close()
    with pytest.raises(DeviceError, match="is being closed"):
        engine.ask(lambda device: 1).result(30)
