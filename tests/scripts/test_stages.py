from __future__ import annotations

import sys

import pytest

from scripts.stages import Result, Stage, run, table


def python(name: str, code: str, **env: str | None) -> Stage:
    return Stage(name, [sys.executable, "-c", code], env)


def test_what_follows_a_failure_runs_too_and_the_end_names_what_failed(capfd: pytest.CaptureFixture[str]) -> None:
    stages = [
        python("first", "raise SystemExit(3)"),
        Stage("absent", ["/no/such/program"]),
        Stage("elsewhere", ["unused"], skip="for another machine"),
        python("last", "print('the last one ran')"),
    ]
    assert run(stages, 60.0) == 1
    said = capfd.readouterr().out
    assert said.index("--- 1/4 first: ") < said.index("--- 4/4 last: ") < said.index("the last one ran")
    rows = [line.split() for line in said.splitlines()[-6:]]
    assert [row[:2] for row in rows[:4]] == [
        ["first", "failed"], ["absent", "failed"], ["elsewhere", "skipped"], ["last", "passed"],
    ]  # fmt: skip
    assert rows[0][3:] == ["exit", "status", "3"]
    assert rows[1][3:] == ["/no/such/program:", "No", "such", "file", "or", "directory"]
    assert rows[2][3:] == ["for", "another", "machine"]
    assert rows[5] == ["failed:", "first,", "absent"]


def test_nothing_failed_is_success_but_nothing_run_is_not() -> None:
    fine, elsewhere = python("fine", ""), Stage("elsewhere", ["unused"], skip="for another machine")
    assert run([fine, elsewhere], 60.0) == 0
    assert run([elsewhere], 60.0) == 1


def test_variables_are_set_and_taken_away_for_a_stage_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TO_BE_TAKEN", "1")
    code = "import os; raise SystemExit('TO_BE_TAKEN' in os.environ or os.environ['GIVEN'] != 'yes')"
    assert run([python("changed", code, TO_BE_TAKEN=None, GIVEN="yes")], 60.0) == 0
    assert run([python("unchanged", "import os; raise SystemExit('GIVEN' in os.environ)")], 60.0) == 0


def test_what_never_ends_is_killed_and_counts_as_failed(capfd: pytest.CaptureFixture[str]) -> None:
    assert run([python("endless", "import time; time.sleep(600)"), python("last", "")], 0.5) == 1
    assert "killed after 0.5 s" in capfd.readouterr().out


def test_an_interrupt_ends_it_with_the_table_so_far(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> Result:
        return Result(python("first", ""), "interrupted", 61.0)

    monkeypatch.setattr("scripts.stages._run", interrupted)
    assert run([python("first", ""), python("second", "")], 60.0) == 130
    said = capfd.readouterr().out
    assert "first  interrupted    1:01" in said
    assert "second" not in said


def test_the_table_is_exact() -> None:
    results = [
        Result(Stage("lint", []), "passed", 3.2),
        Result(Stage("all tests", []), "failed", 754.0, "exit status 1"),
    ]
    assert table(results).splitlines() == [
        "lint       passed         0:03",
        "all tests  failed        12:34  exit status 1",
        "",
        "failed: all tests",
    ]
