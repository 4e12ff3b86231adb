"""Small tables for notebooks, which show what an object's `_repr_html_` gives."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from harness.core.visible import visible


def table(caption: str, header: Sequence[str], rows: Iterable[Sequence[object]], below: Iterable[str] = ()) -> str:
    """A table with a caption above and lines of text below; whatever is in it is escaped."""
    head = "".join(f"<th>{_text(title)}</th>" for title in header)
    body = "".join("<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    lines = "".join(f"<div>{_text(line)}</div>" for line in below)
    return (
        f"<div><b>{_text(caption)}</b><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{lines}</div>"
    )


def _text(cell: object) -> str:
    return escape(visible(str(cell)))
