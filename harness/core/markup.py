"""Text of files, models and devices on its way into a line for the terminal."""

from __future__ import annotations

from rich import markup

from harness.core.visible import visible

LONGEST = 4000
"""Characters of one such text: a sentence has a few hundred, a name in it may have a million."""


def escape(text: str) -> str:
    """One piece of a line: no markup, no order to the terminal, no line of its own, and no longer than `LONGEST`. Of a
    longer one the middle is left out: behind a long name comes what is said of it."""
    shown = visible(text if len(text) <= 2 * LONGEST else text[:LONGEST] + text[-LONGEST:])
    if len(shown) > LONGEST:
        shown = f"{shown[: LONGEST // 2]}…{shown[1 + LONGEST // 2 - LONGEST :]}"
    return markup.escape(shown)
