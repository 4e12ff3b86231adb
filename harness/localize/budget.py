"""What a search may spend, kept before each question: one that would probably go beyond it is not asked."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from harness.localize.search import Answer

# Of the search by windows as a whole. A compile of a part of a model takes seconds on a software GPU.
WINDOW_COMPILES, WINDOW_SECONDS = 200, 300.0


@dataclass
class Budget:
    """Questions and seconds from now on. `refused` counts the questions that were not asked."""

    compiles: int = WINDOW_COMPILES
    seconds: float = WINDOW_SECONDS
    clock: Callable[[], float] = time.monotonic
    asked: int = 0
    refused: int = 0
    _longest: float = 0.0
    _began: float = field(init=False)

    def __post_init__(self) -> None:
        self._began = self.clock()

    def __str__(self) -> str:
        return f"at most {self.compiles} compiles and {self.seconds:g} s"

    def spend(self, ask: Callable[[], Answer], instead: Answer) -> Answer:
        """The answer to a question; `instead`, where it is not asked, since one as long as the longest so far would end
        after the time that is left."""
        begun = self.clock()
        if self.asked >= self.compiles or begun - self._began + self._longest > self.seconds:
            self.refused += 1
            return instead
        self.asked += 1
        answer = ask()
        self._longest = max(self._longest, self.clock() - begun)
        return answer
