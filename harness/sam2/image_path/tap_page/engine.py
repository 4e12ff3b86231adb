"""A device with a thread of its own that stays warm: opened once, its model kept, one question after another."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

from harness.core.errors import DeviceError, HarnessError
from harness.devices.base import Device

T = TypeVar("T")


class Superseded(Exception):
    """A newer question took the place of this one before it was begun."""


class _Question:
    def __init__(self, work: Callable[[Device], Any], slot: object) -> None:
        self.work, self.slot = work, slot
        self.answer: Future[Any] = Future()


class Engine:
    """Answers questions to one device in turn. A question with a `slot` takes the place of a waiting one with the same:
    where a hand is quicker than the device, only the last counts."""

    def __init__(self, name: str, open_it: Callable[[], Device]) -> None:
        self.name = name
        self.occupied = ""
        """What the device is doing, as a clause, while it is lent to something long."""
        self._open = open_it
        self._device: Device | None = None
        self._waiting: queue.Queue[_Question | None] = queue.Queue()
        self._slots: dict[object, _Question] = {}
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name=f"engine {name}", daemon=True)
        self._thread.start()

    @property
    def elsewhere(self) -> bool:
        """Whether it computes on another machine, as far as is known before it was opened."""
        return self._device is not None and self._device.elsewhere

    def ask(self, work: Callable[[Device], T], slot: object = None) -> Future[T]:
        """Have `work` done with the device. The future ends with what it raises; with `DeviceError` while the device is
        lent, with `Superseded` where a newer question of the slot came."""
        question = _Question(work, slot)
        with self._lock:
            if self._closed or self.occupied:
                why = self.occupied or "is being closed"
                question.answer.set_exception(DeviceError(f"{self.name} {why}.", "Ask again when it is done."))
                return question.answer
            if slot is not None:
                before = self._slots.pop(slot, None)
                self._slots[slot] = question
                if before is not None and before.answer.set_running_or_notify_cancel():
                    before.answer.set_exception(Superseded())
            self._waiting.put(question)
        return question.answer

    def lend(self, doing: str, work: Callable[[], T]) -> T:
        """Do `work` in this thread while the device is closed and takes no questions; `doing` is a clause."""
        with self._lock:
            if self._closed or self.occupied:
                raise DeviceError(f"{self.name} {self.occupied or 'is being closed'}.", "Ask again when it is done.")
            given_back = _Question(lambda _: self._give_back(), None)
            self._waiting.put(given_back)
            self.occupied = doing
        try:
            given_back.answer.result()
            return work()
        finally:
            self.occupied = ""

    def close(self) -> None:
        """End the device, whatever it is doing."""
        with self._lock:
            self._closed = True
        self._waiting.put(None)
        device = self._device
        if device is not None:
            with suppress(HarnessError, OSError, ValueError):
                device.stop()
        self._thread.join(20)

    def _give_back(self) -> None:
        device, self._device = self._device, None
        if device is not None:
            device.close()

    def _serve(self) -> None:
        while (question := self._waiting.get()) is not None:
            with self._lock:
                begun = question.answer.done() or not question.answer.set_running_or_notify_cancel()
                if self._slots.get(question.slot) is question:
                    del self._slots[question.slot]
            if begun or self._closed:
                if not question.answer.done():
                    question.answer.set_exception(DeviceError(f"{self.name} is being closed."))
                continue
            try:
                if self._device is None:
                    self._device = self._open()
                    self._device.keeps_inputs = True  # a photo's features, tap after tap
                question.answer.set_result(question.work(self._device))
            except BaseException as error:  # noqa: BLE001 - it is the asker's
                question.answer.set_exception(error)
        self._give_back()
