"""The examples of docs/extending.md run, and name files that are there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import ROOT, environment

PAGE = (ROOT / "docs" / "extending.md").read_text("utf-8")
SECTIONS = {part.partition("\n")[0]: part for part in PAGE.split("\n## ")[1:]}


@pytest.mark.parametrize("title", SECTIONS)
def test_the_example_runs(title: str, tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", SECTIONS[title], re.DOTALL)
    assert "assert " in code
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_each_thing_is_added_in_at_most_three_files_that_are_there() -> None:
    rows = re.findall(r"^\| (a .*?) \| (.*?) \|$", PAGE, re.MULTILINE)
    assert len(rows) == len(SECTIONS)
    for what, where in rows:
        named = re.findall(r"`([\w./]*/[\w./]*)`", where)
        assert 1 <= len(named) <= 3, what
        for name in named:
            path = name.removeprefix("harness/")
            assert (ROOT / "harness" / path).exists(), f"{what}: {name}"


def test_the_rooms_of_the_architecture_page_are_those_that_are_held() -> None:
    from tests.cli.test_architecture import FLOORS

    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    rows = re.findall(r"^\| (\d) \| (.*?) \|", page, re.MULTILINE)
    told = {int(number): set(re.findall(r"`([\w.]+)`", rooms)) for number, rooms in rows}
    assert told == {number: set(rooms) for number, rooms in enumerate(FLOORS, 1)}
