from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from scripts import checks
from scripts.stages import Stage

ROOT = Path(__file__).parents[2]


def test_every_test_that_is_not_slow_is_in_one_of_the_two_stages() -> None:
    by_name = {stage.name: list(stage.command) for stage in checks.stages("2", ["-x"])}
    tests, alone = by_name["tests"], by_name["alone"]
    assert {"tests", "device_tests"} <= set(tests)
    left_out = {argument.removeprefix("--ignore=") for argument in tests if argument.startswith("--ignore=")}
    assert left_out == set(checks.ALONE) == set(alone) & left_out
    assert all((ROOT / path).exists() for path in (*checks.ALONE, *checks.THROUGH_ADB))


def test_arguments_for_pytest_reach_every_pytest() -> None:
    for stage in checks.stages("3", ["-k", "two words"]):
        assert ("pytest" in stage.command) == (list(stage.command[-2:]) == ["-k", "two words"]), stage.name


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
