"""What the program imports before it is asked for a command, and the table of its commands."""

from __future__ import annotations

import ast
import os
import subprocess
import sys

import pytest

from harness.cli.commands import COMMANDS
from tests.cli.conftest import environment

# Each takes a tenth of a second or far more.
HEAVY = ("ai_edge_litert", "flatbuffers", "jinja2", "matplotlib", "numpy", "pandas", "PIL", "scipy", "torch")


def imported(*words: str, **variables: str) -> tuple[str, list[str]]:
    """What a call of the program says, and which of the heavy packages it imported."""
    script = (
        "import atexit, sys\n"
        f"sys.argv = {['harness', *words]!r}\n"
        f"atexit.register(lambda: print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr))\n"
        "from harness.cli import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment() | variables, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    heavy: list[str] = ast.literal_eval(done.stderr.splitlines()[-1])
    return done.stdout, heavy


@pytest.mark.parametrize("word", ["--help", "-h", "--version"])
def test_help_and_version_wait_for_no_numerics(word: str) -> None:
    said, heavy = imported(word)
    assert said and heavy == []


def test_names_are_completed_without_numerics() -> None:
    said, heavy = imported(_HARNESS_COMPLETE="complete_bash", COMP_WORDS="harness comp", COMP_CWORD="1")
    assert said.split() == ["compare"]
    assert heavy == []


@pytest.mark.parametrize("name", ["run", "compare", "localize", "dump", "audit", "bisect-runtime"])
def test_help_of_a_command_waits_for_no_numerics_either(name: str) -> None:
    said, heavy = imported(name, "--help")
    assert "--device" in said and heavy == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_of_the_table_is_there_with_its_example(name: str) -> None:
    entry = COMMANDS[name]
    command = entry.load(name)
    assert command.help
    if name in ("app", "farm", "sam2"):
        assert all(each.help for each in command.commands.values())
    else:
        assert entry.example.split()[:2] == ["harness", name]
        assert entry.example in command.epilog


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_can_answer_in_json(name: str) -> None:
    command = COMMANDS[name].load(name)
    for each in getattr(command, "commands", {name: command}).values():
        assert "--json" in {word for parameter in each.params for word in parameter.opts}, each.name


def test_the_module_runs_as_the_program_does() -> None:
    for module in ("harness", "harness.cli"):
        done = subprocess.run(
            [sys.executable, "-m", module, "--version"], env=environment(), capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("harness ")


def test_words_that_are_none_are_a_document_too(tmp_path: os.PathLike[str]) -> None:
    for words in (["compare", "--no-such"], ["compar", "x"], []):
        done = subprocess.run(
            [sys.executable, "-m", "harness", *words, "--json"],
            env=environment(),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 2
        assert '"status": "failed"' in done.stdout
