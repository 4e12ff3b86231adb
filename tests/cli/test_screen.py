"""The one way out to a terminal."""

from __future__ import annotations

import io

import pytest

from harness.terminal import LONGEST_LINE, Screen


def shown(text: str) -> str:
    screen = Screen(file=io.StringIO(), width=80, soft_wrap=True, highlight=False)
    screen.print(text)
    file = screen.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("[green]pass[/]", "pass\n"),
        ("no [/markup] at all", "no [/markup] at all\n"),
        ("\x1b[2J\u202e\ud800", "\\x1b[2J\\u202e\\ud800\n"),
        ("two\nlines", "two\nlines\n"),
    ],
)
def test_text_gives_no_orders(text: str, seen: str) -> None:
    assert shown(text) == seen


def test_a_line_has_an_end() -> None:
    assert shown("x" * 1_000_000) == "x" * (LONGEST_LINE - 1) + "…\n"
