"""Text that a device, a runtime or a phone's tool wrote, as lines that patterns can be put to at a bounded cost.

Somebody else chose that text. A pattern with two wildcards tries every pair of places for them: over a whole log that
is the square of its length, over a line of bounded length it is not. So what is looked for is looked for line by line,
and numbers have at most `DIGITS` digits: more are no count of anything here, and Python refuses to read over 4,300.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

LONGEST = 2048
"""Characters of a line that are read: twice what Android's log keeps of one."""

DIGITS = 18
"""Of a number: a signed 64-bit one has no more that are all free."""

NUMBER = rf"(?<!\d)\d{{1,{DIGITS}}}(?!\d)"
"""A pattern for a number of bounded length."""


def lines_of(text: str) -> list[str]:
    """The lines of a text, each without its end and cut to `LONGEST` characters."""
    return [line[:LONGEST] for line in text.splitlines()]


def matches(pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    """Where a pattern is found, once a line, from the first line to the last."""
    return (found for line in lines_of(text) if (found := pattern.search(line)) is not None)


def first_match(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """Where a pattern is found in the first line that has it."""
    return next(matches(pattern, text), None)


def last_match(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """Where a pattern is found in the last line that has it."""
    return next((found for line in reversed(lines_of(text)) if (found := pattern.search(line)) is not None), None)
