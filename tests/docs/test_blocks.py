"""Every code block of the pages is executed, or says in the page's source why it is not."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from scripts import site_hooks
from tests.cli.conftest import ROOT
from tests.docs.blocks import PAGES, Block, blocks, finish, is_shown, language_of, looks_like_commands, run

BLOCKS = [block for page in PAGES for block in blocks(page)]
CODE = [block for block in BLOCKS if block.language in ("shell", "python")]
MARKED = [block for block in BLOCKS if block.reason is not None]
# Pages whose examples in Python another test executes, all of them.
ELSEWHERE = {"docs/extending.md": "tests/docs/test_extending.py", "docs/pandas.md": "tests/api/test_frames.py"}


def elsewhere(block: Block) -> bool:
    return block.language == "python" and str(block.page.relative_to(ROOT)) in ELSEWHERE


def marks(block: Block) -> list[pytest.MarkDecorator]:
    return [*([pytest.mark.gpu] * block.needs_gpu), *([pytest.mark.slow] * block.is_slow)]


HERE = [block for block in CODE if block not in MARKED and not elsewhere(block) and not block.on_a_phone]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """A folder with a finished run in it, made once it is asked for."""

    @cache
    def made() -> Path:
        finish(folder := tmp_path_factory.mktemp("finished"))
        return folder

    return made


@pytest.mark.parametrize("block", [pytest.param(block, marks=marks(block), id=block.name) for block in HERE])
def test_a_block_does_what_the_page_says(block: Block, tmp_path: Path, finished: Callable[[], Path]) -> None:
    run(block, tmp_path, finished)


@pytest.mark.parametrize("block", BLOCKS, ids=[block.name for block in BLOCKS])
def test_a_block_is_executed_or_marked_or_no_code(block: Block) -> None:
    told = "a fence without a known language: say text, json or toml, or put `<!-- not run: REASON -->` before it"
    assert block.language or block.reason, f"{block.name} is {told}"
    if block.language == "shown":
        assert not looks_like_commands(block.text), f"{block.name} has commands, and would not be run"
        assert block.reason is None, f"{block.name} is nothing to run"


def test_a_fence_of_json_or_toml_holds_that() -> None:
    for page in PAGES:
        for language, text in re.findall(
            r"^```(json|toml)\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE
        ):
            (json if language == "json" else tomllib).loads(text)


@pytest.mark.parametrize("block", MARKED, ids=[block.name for block in MARKED])
def test_what_is_not_run_has_a_reason(block: Block) -> None:
    assert block.reason and len(block.reason.split()) >= 2


def test_few_are_not_run() -> None:
    assert len(CODE) >= 50
    assert len(MARKED) < len(CODE) / 3


def test_no_mark_stands_alone() -> None:
    """A mark that is not right before its block would mark nothing."""
    for page in PAGES:
        written = len(re.findall(r"^ *<!-- not run", page.read_text("utf-8"), re.MULTILINE))
        assert written == len([block for block in MARKED if block.page == page]), page.name


def test_what_another_test_executes_is_executed_there() -> None:
    for page, test in ELSEWHERE.items():
        source = (ROOT / test).read_text("utf-8")
        assert f'"{Path(page).name}"' in source and "```python" in source
        found = [block for block in CODE if elsewhere(block) and block.page == ROOT / page]
        sections = (ROOT / page).read_text("utf-8").count("\n## ")
        assert len(found) in (1, sections), f"{test} looks for one, or for one in each section"


def test_what_is_executed_elsewhere_is_fenced() -> None:
    """Those tests look for fences only."""
    for block in filter(elsewhere, CODE):
        assert f"```python\n{block.text}```" in block.page.read_text("utf-8"), block.name


def test_what_pip_installs_is_this_package_or_one_that_it_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    known = {project["name"], *(re.split(r"[\[>=]", line)[0] for line in extras)}
    lines = [line for block in CODE for line, _ in block.commands if line.startswith("pip install ")]
    assert len(lines) >= 4
    for line in lines:
        words = line.partition("#")[0].split()[2:]
        assert words[0] == "-e" or set(words) <= known, line


@pytest.mark.parametrize("page", sorted({block.page for block in MARKED}), ids=lambda page: page.name)
def test_the_site_does_not_show_the_marks(page: Path) -> None:
    class Page:
        class file:
            src_uri = page.name

    assert "not run" not in site_hooks.on_page_markdown("<!-- not run: minutes -->\n\n    harness demo\n", Page)
    assert "<!-- not run" not in site_hooks.on_page_markdown(page.read_text("utf-8"), Page)


class TestReading:
    """Blocks are found as Markdown has them, and what cannot be told is not taken for granted."""

    def test_a_mark_belongs_to_the_block_right_behind_it(self) -> None:
        source = "<!-- not run: minutes -->\n\n    harness demo\n\nthen\n\n```sh\nharness doctor\n```\n"
        first, second = blocks(ROOT / "README.md", source)
        assert (first.line, first.language, first.reason) == (3, "shell", "minutes")
        assert (second.line, second.language, second.reason) == (8, "shell", None)

    def test_a_mark_with_a_paragraph_between_marks_nothing(self) -> None:
        (block,) = blocks(ROOT / "README.md", "<!-- not run: minutes -->\n\nSo:\n\n    harness demo\n")
        assert block.reason is None

    def test_a_block_in_a_list_is_found_and_an_indented_paragraph_is_none(self) -> None:
        (block,) = blocks(ROOT / "README.md", "- a\n    b\n\n      harness demo\n")
        assert block.text == "harness demo\n"

    @pytest.mark.parametrize(
        ("text", "language"),
        [
            ("harness demo   # all\npip install x\n", "shell"),
            ("$ harness demo\nmask 0.7\n", "shell"),
            ("import harness\n\nharness.demo()\n", "python"),
            ("harness dump model.tflite\n\nimport numpy\n", ""),
            ("journal/log   one line\n", ""),
            ("op\n", ""),
            ("curl https://example.com\n", ""),
        ],
    )
    def test_the_language_is_told_only_by_what_is_sure(self, text: str, language: str) -> None:
        assert language_of(text) == language

    def test_a_language_that_is_not_known_is_none(self) -> None:
        (block,) = blocks(ROOT / "README.md", "```bash\nharness demo\n```\n")
        assert block.language == ""

    def test_commands_and_what_they_print_are_taken_apart(self) -> None:
        (block,) = blocks(
            ROOT / "README.md", "    $ harness demo \\\n        --json\n    {…}\n    $ harness runs\n    one\n"
        )
        assert block.commands == [("harness demo      --json", "{…}\n"), ("harness runs", "one\n")]

    @pytest.mark.parametrize(
        ("shown", "said", "same"),
        [
            ("a 1.0 b", "a 1.0 b\n", True),
            ("a ... b", "a 1.0 b\n", True),
            ("a … b\n…\nz", "a 1.0 b  \nc\nd\nz\n", True),
            ("a\n  …\nz", "a\n c\nd\nz\n", True),
            ("a ... b", "a 1.0 c\n", False),
            ("a ... b", "a\nb\n", False),
            ("a ... b\nc", "a 1\n2 b\nc\n", False),
            ("a", "a\nb\n", False),
            ("a.c", "abc\n", False),
        ],
    )
    def test_output_is_compared_line_by_line(self, shown: str, said: str, same: bool) -> None:
        assert is_shown(shown, said) is same


class TestRunning:
    """A block that does not work fails its test."""

    @pytest.mark.parametrize(
        "text",
        [
            "harness lint right.tflite\n",  # no such file: misuse
            "harness lint model.tflite --nonsense\n",
            "harness schema nonsense | cat\n",
            "$ harness lint new.tflite\n5 findings\n",
            "python -c 'assert False'\n",
        ],
    )
    def test_a_shell_block_that_fails_is_told(self, text: str, tmp_path: Path) -> None:
        with pytest.raises(AssertionError):
            run(Block(ROOT / "README.md", 1, "shell", text), tmp_path, Path)

    @pytest.mark.parametrize("code", ["undefined\n", "def test_it():\n    assert False\n"])
    def test_a_python_block_that_fails_is_told(self, code: str, tmp_path: Path) -> None:
        with pytest.raises(AssertionError):
            run(Block(ROOT / "README.md", 1, "python", code), tmp_path, Path)

    def test_a_wrong_model_has_to_be_found_wrong(self, tmp_path: Path) -> None:
        run(
            Block(ROOT / "README.md", 1, "shell", "harness lint model.tflite\nharness lint new.tflite\n"),
            tmp_path,
            Path,
        )
