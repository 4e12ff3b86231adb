from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scripts.stages import Result, Stage, run, table

ROOT = Path(__file__).parents[2]


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


MEETING = """
import pathlib, sys, time
mine, other = map(pathlib.Path, sys.argv[1:])
mine.touch()
end = time.monotonic() + 50
while not other.exists() and time.monotonic() < end:
    time.sleep(0.01)
print('met', mine.name)
raise SystemExit(not other.exists())
"""


def test_stages_that_keep_one_core_busy_run_two_at_once_and_are_told_of_in_order(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    meeting = [Stage(mine.name, [sys.executable, "-c", MEETING, str(mine), str(yours)], beside=True)
               for mine, yours in ((one, other), (other, one))]  # fmt: skip
    last = Stage("last", [sys.executable, "-c", "raise SystemExit(4)"], beside=True)
    assert run([*meeting, last, python("after", "print('after them')")], 60.0) == 1
    said = capfd.readouterr().out
    places = [said.index(words) for words in ("two at a time: one, other, last", "met one", "met other", "after them")]
    assert places == sorted(places)
    assert [line.split()[:2] for line in said.splitlines()[-6:-2]] == [
        ["one", "passed"], ["other", "passed"], ["last", "failed"], ["after", "passed"],
    ]  # fmt: skip


# What runs in the background of a shell ignores Ctrl-C, and so do its children.
TWO_THAT_WAIT = """
import signal, sys
from scripts.stages import Stage, run

signal.signal(signal.SIGINT, signal.default_int_handler)
wait = "import pathlib, sys, time; pathlib.Path(sys.argv[1]).touch(); time.sleep(600)"
waiting = [Stage(n, [sys.executable, "-c", wait, f"{sys.argv[1]}/{n}"], beside=True) for n in "123"]
sys.exit(run([Stage("quick", [sys.executable, "-c", ""], beside=True), *waiting], 600))
"""


def test_an_interrupt_ends_those_beside_each_other_too(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", TWO_THAT_WAIT, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd=ROOT,
    ) as running:
        end = time.monotonic() + 60
        while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < end:
            time.sleep(0.05)
        try:
            os.killpg(running.pid, signal.SIGINT)
            said, _ = running.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signal.SIGKILL)
            raise
    assert running.returncode == 130
    rows = [line.split()[:2] for line in said.splitlines()[-6:-2]]
    assert rows == [["quick", "passed"], *([n, "interrupted"] for n in "123")]


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
