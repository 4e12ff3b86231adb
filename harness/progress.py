"""How the library tells what it is doing, without printing: an object with two methods, and one that does nothing."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Hears of stages. The command line draws them; tests count them."""

    def stage(self, what: str, expected_seconds: float) -> None:
        """A stage begins; the one before it has ended. `expected_seconds` is a guess for the time left."""

    def fraction(self, done: float) -> None:
        """This share (0 to 1) of the present stage is done."""


class Silent:
    """Hears and does nothing."""

    def stage(self, what: str, expected_seconds: float) -> None:
        """Nothing."""

    def fraction(self, done: float) -> None:
        """Nothing."""


SILENT = Silent()
