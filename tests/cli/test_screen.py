"""The one way out to a terminal."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

import harness
from harness.cli.screen import LONGEST_LINE, Screen
from harness.core.errors import EXIT_MISUSE
from harness.core.markup import LONGEST, escape


def shown(text: str) -> str:
    screen = Screen(file=io.StringIO(), width=80, soft_wrap=True, highlight=False, emoji=False)
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
        ("model:smile:.tflite :+1:", "model:smile:.tflite :+1:\n"),
    ],
)
def test_text_gives_no_orders(text: str, seen: str) -> None:
    assert shown(text) == seen


def test_a_line_has_an_end() -> None:
    assert shown("x" * 1_000_000) == "x" * (LONGEST_LINE - 1) + "…\n"


def test_a_name_has_no_line_of_its_own() -> None:
    assert shown(f"[red]1 culprit[/]: {escape('ADD' + chr(10) + 'PASS [green]all right[/]' + chr(13))}") == (
        "1 culprit: ADD\\x0aPASS [green]all right[/]\\x0d\n"
    )


def test_of_a_long_text_the_end_is_shown_too() -> None:
    long = escape(f"Op '{'x' * 1_000_000}' is wrong.")
    assert len(long) == LONGEST
    assert (long[:10], long[-10:]) == ("Op 'xxxxxx", " is wrong.")


def test_every_module_escapes_what_it_prints_in_the_one_way() -> None:
    own = Path(harness.__file__).parent
    others = [path for path in own.rglob("*.py") if "from rich.markup import" in path.read_text(encoding="utf-8")]
    assert others == []


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_locale_prints_every_character(encoding: str, tmp_path: Path) -> None:
    odd = tmp_path / "…\udcff.tflite"
    done = subprocess.run(
        [sys.executable, "-m", "harness.cli", "audit", "--static", os.fsencode(odd), "--json"],
        env=dict(os.environ, PYTHONPATH=str(Path(harness.__file__).parent.parent), PYTHONIOENCODING=encoding),
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == EXIT_MISUSE
    assert b"does not exist" in done.stderr and b"Traceback" not in done.stderr
    code = "from harness.cli import app, screen; app.printable(); screen.out.print('\u2026 \u2212')"
    told = subprocess.run(
        [sys.executable, "-c", code],
        env=dict(os.environ, PYTHONPATH=str(Path(harness.__file__).parent.parent), PYTHONIOENCODING=encoding),
        capture_output=True,
        timeout=120,
        check=True,
    )
    expected = "… −\n" if encoding == "utf-8" else "\\u2026 \\u2212\n"
    assert told.stdout.decode(encoding) == expected
