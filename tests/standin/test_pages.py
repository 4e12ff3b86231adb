"""The blocks of the pages that name a phone, on the stand-in for one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NoReturn

import pytest

from tests.docs.blocks import PAGES, Block, blocks, run
from tests.standin.phone import Phone, make_tools

BLOCKS = [
    block
    for page in PAGES
    for block in blocks(page)
    if block.on_a_phone and block.reason is None and block.language in ("shell", "python")
]


def no_run() -> NoReturn:
    raise AssertionError("no block about phones needs a finished run")


@pytest.mark.parametrize("block", BLOCKS, ids=[block.name for block in BLOCKS])
def test_a_block_does_what_the_page_says(
    block: Block, phone: Phone, apk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_APK", str(apk))
    shutil.copy(apk, tmp_path / "app-bench.apk")
    make_tools(tmp_path / "android_arm64")
    run(block, tmp_path, no_run)


def test_there_are_such_blocks() -> None:
    assert {block.page.name for block in BLOCKS} >= {"phone.md", "tutorial.md"}
