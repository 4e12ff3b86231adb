from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from device_tests.corpus import CORPUS
from scripts import checks
from scripts.stages import Stage

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("made", "together", "by_themselves", "marked"),
    [(checks.stages, "tests", "alone", "not slow"), (checks.slow, "slow", "slow-alone", "slow")],
)
def test_every_test_is_in_one_of_two_stages(
    made: Callable[[str, list[str]], list[Stage]], together: str, by_themselves: str, marked: str
) -> None:
    by_name = {stage.name: list(stage.command) for stage in made("2", ["-x"])}
    tests, alone = by_name[together], by_name[by_themselves]
    assert {"tests", "device_tests"} <= set(tests)
    assert {command[command.index("-m", 3) + 1] for command in (tests, alone)} == {marked}
    left_out = {argument.removeprefix("--ignore=") for argument in tests if argument.startswith("--ignore=")}
    assert left_out == set(checks.ALONE) == set(alone) & left_out
    assert all((ROOT / path).exists() for path in (*checks.ALONE, *checks.THROUGH_ADB, *checks.LONGEST_FIRST))


def test_arguments_for_pytest_reach_every_pytest() -> None:
    for stage in checks.stages("3", ["-k", "two words"]):
        assert ("pytest" in stage.command) == (list(stage.command[-2:]) == ["-k", "two words"]), stage.name


def test_what_is_left_out_on_an_old_release_and_through_adb_is_among_the_slow() -> None:
    by_name = {stage.name: list(stage.command) for stage in checks.slow("2", [])}
    assert "-k" not in by_name["old-corpus"] and checks.OLD_RELEASE in by_name["old-corpus"]
    assert "-k" not in by_name["adb-all"] and "device_tests" in by_name["adb-all"]
    names = re.split(" or ", checks.REPORTED)
    assert len({bug.name for bug in CORPUS if any(name in bug.name for name in names)}) >= 6


def test_stages_can_be_chosen_by_name_and_an_unknown_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[str] = []

    def run(stages: list[Stage], _: float) -> int:
        chosen.extend(stage.name for stage in stages)
        return 0

    monkeypatch.setattr(checks, "run", run)
    monkeypatch.setattr(sys, "argv", ["checks", "types", "ruff"])
    assert checks.main() == 0
    assert chosen == ["ruff", "types"]
    done = subprocess.run(
        [sys.executable, "-m", "scripts.checks", "typos"], capture_output=True, text=True, timeout=60, cwd=ROOT
    )
    assert done.returncode == 2
    assert "there is no stage 'typos'; choose from ruff, format, types" in done.stderr


@pytest.mark.parametrize(("strict", "code"), [("1", 1), ("", 0)])
def test_warnings_are_errors_for_those_who_ask_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strict: str, code: int
) -> None:
    (tmp_path / "conftest.py").write_text((ROOT / "conftest.py").read_text())
    (tmp_path / "test_old.py").write_text(
        "import warnings\n\n\ndef test_old():\n    warnings.warn('old', FutureWarning)\n"
    )
    monkeypatch.setenv("HARNESS_STRICT", strict)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        capture_output=True, text=True, timeout=120, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == code, done.stdout


def in_order(*paths: str) -> list[str]:
    """The files of tests there, in the order in which the stage begins them."""
    (tests,) = [stage for stage in checks.stages("2", []) if stage.name == "tests"]
    words = [sys.executable, "-m", "pytest", "--collect-only", "-q", *paths]
    done = subprocess.run(
        words,
        env=os.environ | {name: value for name, value in tests.env.items() if value},
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        check=True,
    )
    return list(dict.fromkeys(line.partition("::")[0] for line in done.stdout.splitlines() if "::" in line))


def test_what_takes_longest_is_begun_first_and_what_waits_comes_between_what_computes() -> None:
    files = in_order("tests/standin/tools", "tests/scripts", "tests/docs/test_blocks.py")
    waiting = [at for at, file in enumerate(files) if file.startswith(checks.WAITING)]
    assert len(waiting) >= 3
    assert waiting[0] < len(files) / 3 and waiting[-1] >= len(files) * 2 / 3
    assert max(after - before for before, after in itertools.pairwise(waiting)) <= len(files) / 3
    assert (
        next(file for file in files if not file.startswith(checks.WAITING))
        == "tests/docs/test_blocks.py"
        in checks.LONGEST_FIRST
    )
