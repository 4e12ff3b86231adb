"""A search for the smallest windows that fail, which knows nothing of models or devices.

Given `count` items in order and a three-valued question about any window of them (does it fail alone?), find windows
that fail while neither shrinks by one item at either end and still fails; take each out, and go on with what is left of
it and right of it, until no rest fails.

Nothing is assumed about how many culprits there are, nor that a window fails because a part of it does (faults in
context), nor that it fails when a part of it does (faults that cancel or hide).

Order. Segments are asked whole, left before right. A failing window is halved as long as a half fails, the left one
tried first. When neither half fails by itself, the window is trimmed from the left as far as it goes on failing, then
from the right, by galloping (1, 2, 4, … items) and then bisection, again and again until both ends stand.

Termination. Every failing answer that is followed shrinks the window, every window found takes at least one item out,
and no question is asked twice, so there are at most count·(count + 1)/2 questions.

Cost. For one culprit among n items that fails every window it is in: at most 2·⌈log2 n⌉ + 3 questions to find it, and
one for each of the two rests. For k such culprits: at most k times that, and one more for each rest. A window that only
fails as a whole takes up to 4·⌈log2 n⌉ + 4 more for its ends.

`unresolved` (the probe crashed, was refused, timed out) never counts as failing, so it cannot put an item into a
window's edge; a segment that cannot be resolved whole is asked in halves, and reported when these tell nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Answer = Literal["good", "bad", "unresolved"]
Question = Callable[[int, int], Answer]


@dataclass(frozen=True, order=True)
class Window:
    """Items start … stop-1."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class FoundWindows:
    """Failing windows and unresolved ones, in order, and how many questions it took."""

    failing: tuple[Window, ...]
    unresolved: tuple[Window, ...]
    questions: int


def find_windows(count: int, ask: Question, *, limit: int | None = None) -> FoundWindows:
    """Search `count` items.

    With `limit`, no more than that many questions are asked; segments not looked at then are reported unresolved.
    """
    search = _WindowSearch(ask, limit)
    search.segment(0, count)
    return FoundWindows(tuple(sorted(search.failing)), tuple(sorted(search.unresolved)), search.questions)


class _WindowSearch:
    def __init__(self, ask: Question, limit: int | None) -> None:
        self._ask = ask
        self._limit = limit
        self.answers: dict[tuple[int, int], Answer] = {}
        self.failing: list[Window] = []
        self.unresolved: list[Window] = []
        self.questions = 0

    def answer(self, start: int, stop: int) -> Answer:
        if start >= stop:
            return "good"
        key = (start, stop)
        if key not in self.answers:
            if self._limit is not None and self.questions >= self._limit:
                return "unresolved"
            self.questions += 1
            self.answers[key] = self._ask(start, stop)
        return self.answers[key]

    def bad(self, start: int, stop: int) -> bool:
        return self.answer(start, stop) == "bad"

    def segment(self, start: int, stop: int) -> None:
        if start >= stop:
            return
        answer = self.answer(start, stop)
        if answer == "bad":
            window = self.shrink(start, stop)
            self.failing.append(window)
            self.segment(start, window.start)
            self.segment(window.stop, stop)
        elif answer == "unresolved":
            before = len(self.failing)
            if stop - start > 1:
                middle = (start + stop) // 2
                unresolved = len(self.unresolved)
                self.segment(start, middle)
                self.segment(middle, stop)
                if len(self.failing) == before and len(self.unresolved) == unresolved:
                    self.unresolved.append(Window(start, stop))
            else:
                self.unresolved.append(Window(start, stop))

    def shrink(self, start: int, stop: int) -> Window:
        while stop - start > 1:
            middle = (start + stop) // 2
            if self.bad(start, middle):
                stop = middle
            elif self.bad(middle, stop):
                start = middle
            else:
                trimmed = self.trim(start, stop)
                if trimmed == (start, stop):
                    break
                start, stop = trimmed
        return Window(start, stop)

    def trim(self, start: int, stop: int) -> tuple[int, int]:
        start += self.gallop(stop - start - 1, lambda n: self.bad(start + n, stop))
        stop -= self.gallop(stop - start - 1, lambda n: self.bad(start, stop - n))
        return start, stop

    @staticmethod
    def gallop(most: int, fails: Callable[[int], bool]) -> int:
        """A number of items that can go with the rest still failing, such that one more cannot; at most `most`."""
        good_for, step = 0, 1
        while good_for < most:
            tried = min(good_for + step, most)
            if not fails(tried):
                break
            good_for, step = tried, step * 2
        else:
            return good_for
        low, high = good_for, min(good_for + step, most)
        while high - low > 1:
            middle = (low + high) // 2
            if fails(middle):
                low = middle
            else:
                high = middle
        return low
