"""How the library tells what it is doing, without printing: an object with three methods, and one that does nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

Say = Callable[[str], None]
"""Told in words what is being done."""


class Progress(Protocol):
    """Hears of stages. The command line draws them; tests count them."""

    def stage(self, what: str, expected_seconds: float) -> None:
        """A stage begins; the one before it has ended. `expected_seconds` is a guess for the time left."""

    def fraction(self, done: float) -> None:
        """This share (0 to 1) of the present stage is done."""

    def note(self, sentence: str) -> None:
        """Something to know about what is being done."""


class Silent:
    """Hears and does nothing."""

    def stage(self, what: str, expected_seconds: float) -> None:
        """Nothing."""

    def fraction(self, done: float) -> None:
        """Nothing."""

    def note(self, sentence: str) -> None:
        """Nothing."""


SILENT = Silent()
