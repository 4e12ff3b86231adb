"""Commands on the pages are ones that there are: nothing is executed, only parsed by what would parse it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from harness.cli.commands import COMMANDS
from tests.cli.conftest import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_COMMAND = re.compile(r"^(?: {4})?(?:\$ )?((?:python -m harness|harness|make) .*)$", re.MULTILINE)
LINES = [
    (page, line)
    for page in PAGES
    for block in re.findall(r"(?:^ {4}\S.*\n)+|^```(?:\w*)\n(?:.*\n)*?```$", page.read_text("utf-8"), re.MULTILINE)
    for line in _COMMAND.findall(block)
]


def test_commands_are_found() -> None:
    assert {page.name for page, _ in LINES} >= {"README.md", "tutorial.md", "howto.md", "sam2.md", "video.md"}


@pytest.mark.parametrize(("page", "line"), LINES, ids=[f"{page.name}: {line[:60]}" for page, line in LINES])
def test_a_command_on_a_page_is_parsed(page: Path, line: str) -> None:
    tool, *words = shlex.split(line.removeprefix("python -m "), comments=True)
    if tool == "make":
        targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
        assert [word for word in words if "=" not in word and word not in targets] == []
        return
    name, *rest = words
    command = COMMANDS[name].load(name)
    if group := getattr(command, "commands", None):
        name, *rest = rest
        command = group[name]
    # It raises for an option that is none, or lacks its value.
    command.make_parser(command.context_class(command, info_name=name)).parse_args(rest)
