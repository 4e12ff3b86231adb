"""Numbers of things in sentences."""

from __future__ import annotations


def counted(number: int, one: str, many: str | None = None) -> str:
    """`1 compile`, `3 compiles`; `many` where an s does not do."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
