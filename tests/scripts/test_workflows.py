"""What CI runs from elsewhere is named by its content."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

WORKFLOWS = sorted((Path(__file__).parents[2] / ".github" / "workflows").glob("*.yml"))


def test_there_are_workflows() -> None:
    assert {path.stem for path in WORKFLOWS} >= {"test", "newest", "audit"}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_by_commit_and_may_only_read(path: Path) -> None:
    text = path.read_text("utf-8")
    used = re.findall(r"uses: *(.*)", text)
    assert used
    for action in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action)
    assert "\npermissions:\n  contents: read\n" in text
    assert text.count("permissions:") == 1


def test_folders_of_the_package_that_are_named_are_there() -> None:
    root = Path(__file__).parents[2]
    for path in (root / ".github").rglob("*.yml"):
        for named in re.findall(r"\bharness(?:/[\w.]+)+", path.read_text("utf-8")):
            assert (root / named.rstrip("/.")).exists(), f"{path.name}: {named}"
