"""Text from somewhere else as characters that a person sees: none of them reorders, hides or gives orders. And numbers
and tables as a person reads them."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Sequence
from html import escape


def visible(text: str) -> str:
    """Control, formatting and surrogate characters as escapes: a name cannot reorder or hide what surrounds it."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(c) if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") else c for c in text)


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def counted(number: int, one: str, many: str | None = None) -> str:
    """`1 compile`, `3 compiles`; `many` where an s does not do."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def best_at_one(value: float, digits: int = 6) -> str:
    """A figure that is best at 1, such as a cosine, in decimals: 1 only where it is 1."""
    scale = 10.0**digits
    return f"{math.floor(value * scale) / scale if round(value, digits) >= 1 > value else value:.{digits}f}"


def html_table(caption: str, header: Sequence[str], rows: Iterable[Sequence[object]], below: Iterable[str] = ()) -> str:
    """A small table for a notebook, with a caption above and lines of text below; whatever is in it is escaped."""
    head = "".join(f"<th>{_cell(title)}</th>" for title in header)
    body = "".join("<tr>" + "".join(f"<td>{_cell(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    lines = "".join(f"<div>{_cell(line)}</div>" for line in below)
    return (
        f"<div><b>{_cell(caption)}</b><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{lines}</div>"
    )


def _cell(cell: object) -> str:
    return escape(visible(str(cell)))
