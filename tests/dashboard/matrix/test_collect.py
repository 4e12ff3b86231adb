"""What a matrix reads: run folders wherever they are named, a farm's jobs; what cannot be read is a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.core.errors import UsageError
from harness.dashboard.matrix.collect import collect
from harness.dashboard.matrix.matrix import build_matrix
from harness.dashboard.matrix.page import render_matrix

if TYPE_CHECKING:
    from tests.dashboard.matrix.conftest import Make

JOB = {"model": "models/decoder.tflite", "device": "pixel8a", "runtime": "2.3.0", "precision": "fp16",
       "command": "compare", "repetition": 0, "state": "cancelled", "run": None, "host": "a", "serial": "",
       "seconds": None, "exit_code": None, "reason": "nobody has a pixel8a"}  # fmt: skip


def jobs(folder: Path, *changed: Any, **more: Any) -> None:
    listed = [JOB | each if isinstance(each, dict) else each for each in changed]
    (folder / "matrix.json").write_text(json.dumps({"schema": 1, "jobs": listed} | more))


def test_runs_are_named_by_folder_by_name_or_by_the_folder_they_are_in(make: Make, results: Path) -> None:
    first, second = make(), make()
    assert [each.folder for each in collect([], results).runs] == [second, first]
    assert [each.folder for each in collect([str(first)], Path("nowhere")).runs] == [first]
    assert [each.folder for each in collect([first.name], results).runs] == [first]
    assert [each.folder for each in collect([str(results), str(first)], results).runs] == [second, first]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ('{"schema": 1, "comm', "run.json cannot be read"),
        ('{"schema": 7}', "run.json has schema 7; this release reads 1."),
        ("[" * 100_000, "nested more than 200 deep"),
        ('{"schema": 1, "status": "done", "command": 5}', "command is '5', not a string"),
        ('{"schema": 1, "status": "odd", "command": "compare"}', "status is 'odd'"),
    ],
)
def test_a_run_that_cannot_be_read_is_one_line_and_left_out(make: Make, results: Path, content: str, line: str) -> None:
    good, bad = make(), make()
    (bad / "run.json").write_text(content)
    found = collect([], results)
    assert [each.folder for each in found.runs] == [good]
    (said,) = found.skipped
    assert said.startswith(f"{bad.name}: ") and line in said and "\n" not in said


def test_a_broken_table_of_ops_takes_only_the_ops_away(make: Make, results: Path) -> None:
    run = make(ops=[("culprit", 40.0)])
    (run / "ops.csv").write_text((run / "ops.csv").read_text().replace("culprit", "nonsense"))
    found = collect([], results)
    assert [each.ops for each in found.runs] == [()]
    assert "Its ops are left out." in found.skipped[0]


def test_links_are_not_followed(make: Make, results: Path, tmp_path: Path) -> None:
    run = make()
    outside = tmp_path / "outside"
    run.rename(outside)
    (results / run.name).symlink_to(outside)
    with pytest.raises(UsageError, match="There is no run of a model"):
        collect([], results)


def test_nothing_at_all_is_said_with_a_next_step(results: Path) -> None:
    with pytest.raises(UsageError, match=r"no run of a model in .* `harness compare MODEL` makes one"):
        collect([], results)
    with pytest.raises(UsageError, match="is no folder"):
        collect([], results / "none")


def test_runs_of_other_commands_are_no_cells(make: Make, results: Path) -> None:
    make(command="sam2 track", result=None)
    kept = make()
    found = collect([], results)
    assert ([each.folder for each in found.runs], found.skipped) == ([kept], [])


def test_the_releases_of_a_bisection_are_runs_too(make: Make, results: Path) -> None:
    whole = make(command="bisect-runtime")
    (whole / "releases").mkdir()
    for each in (make(device="host@2.1.5"), make(device="host@2.2.0")):
        each.rename(whole / "releases" / each.name)
    assert sorted(each.facts.device for each in collect([], results).runs) == ["host@2.1.5", "host@2.2.0"]


def test_jobs_that_left_no_run_stand_in_the_matrix_with_their_reason(make: Make, results: Path) -> None:
    run = make(device="pixel7")
    jobs(
        results,
        {"device": "pixel7", "run": run.name, "state": "done"},
        {},
        {"device": "s24", "exit_code": 3, "reason": "lost", "runtime": "default"},
    )
    (row,) = build_matrix(collect([], results)).rows
    told = {line.device: (line.finding.state, line.finding.word, line.finding.notes) for line in row.lines}
    assert told == {
        "pixel7": ("pass", "pass", ()),
        "pixel8a": ("waiting", "cancelled", ("nobody has a pixel8a",)),
        "s24": ("trouble", "device trouble", ("lost",)),
    }
    assert [line.key.runtime for line in row.lines if line.device == "s24"] == [""]


def test_jobs_that_mean_nothing_are_counted_by_themselves_and_take_no_cell_s_pass(make: Make, results: Path) -> None:
    run = make(device="pixel7")
    means_nothing = {"state": "skipped", "reason": "2.1.5 can be chosen for `host` alone"}
    jobs(
        results,
        {"device": "pixel7", "run": run.name, "state": "done", "runtime": "default"},
        {"device": "pixel7", "command": "bench", "runtime": "default"} | means_nothing,
        {"device": "pixel8a", "runtime": "2.1.5"} | means_nothing,
    )
    matrix = build_matrix(collect([], results))
    assert matrix.tally == {"pass": 1, "skipped": 1}
    assert matrix.verdict().sentence == "1 model on 2 devices: 1 of 1 pass; 1 skipped."
    assert matrix.verdict().tone == "good"
    assert [device.runtime for device in matrix.devices if device.name == "pixel8a"] == [""]
    told = {line.device: (line.finding.state, line.finding.notes) for line in matrix.rows[0].lines}
    assert told == {"pixel7": ("pass", ()), "pixel8a": ("skipped", ("2.1.5 can be chosen for `host` alone",))}
    page = render_matrix(matrix, results, "night")
    assert "∅ skipped" in page and "– not run" not in page


def test_a_night_of_nothing_but_skipped_jobs_is_no_pass(results: Path) -> None:
    results.mkdir(exist_ok=True)
    jobs(results, {"state": "skipped", "reason": "it means nothing"})
    verdict = build_matrix(collect([], results)).verdict()
    assert (verdict.tone, verdict.sentence) == ("open", "1 model on 1 device: 0 of 0 pass; 1 skipped.")


def test_a_job_that_never_ran_is_not_hidden_by_a_run_of_another_night(make: Make, results: Path) -> None:
    make(device="pixel8a")
    jobs(results, {})
    (row,) = build_matrix(collect([], results)).rows
    assert [line.finding.state for line in row.lines] == ["waiting"]


def test_repetitions_of_a_farm_all_count(make: Make, results: Path) -> None:
    runs = [make(device="pixel8a", ok=ok) for ok in (True, False, True)]
    jobs(results, *({"run": run.name, "repetition": place} for place, run in enumerate(runs)))
    (row,) = build_matrix(collect([], results)).rows
    (line,) = row.lines
    assert (line.finding.state, line.finding.notes, line.runs) == ("fail", ("in 1 of 3 runs",), 3)


def test_a_farm_below_the_results_is_found(make: Make, results: Path) -> None:
    run = make(device="pixel7")
    farm = results / "night"
    farm.mkdir()
    run.rename(farm / run.name)
    jobs(farm, {"run": run.name, "device": "pixel7"}, {})
    found = collect([], results)
    assert ([each.facts.device for each in found.runs], [job.device for job in found.jobs]) == (["pixel7"], ["pixel8a"])


@pytest.mark.parametrize("run", ["../outside", "/etc", "night/../../outside"])
def test_a_job_names_no_path_outside_of_its_folder(make: Make, results: Path, tmp_path: Path, run: str) -> None:
    secret = make()
    secret.rename(tmp_path / "outside")
    kept = make()
    jobs(results, {"run": run})
    found = collect([], results)
    assert [each.folder for each in found.runs] == [kept]
    assert "lies outside" in found.skipped[0]


@pytest.mark.parametrize(
    ("document", "line"),
    [
        ('{"schema": 1, "jobs": [', "matrix.json: it cannot be read"),
        ('{"schema": 2, "jobs": []}', "matrix.json: it has schema '2'; this release reads 1."),
        ("[]", "matrix.json: it has schema 'list'"),
        ('{"schema": 1, "jobs": 5}', "jobs is '5', not a list"),
        ('{"schema": 1, "jobs": [5]}', "jobs[0] is no object"),
        ('{"schema": 1, "jobs": [{"model": 5, "device": "a"}]}', "model is '5', not a string"),
        ('{"schema": 1, "jobs": [{"model": "m"}]}', "names no model or no device"),
        ('{"schema": 1, "jobs": [{"model": "m", "device": "d", "run": "gone"}]}', "gone: run.json"),
    ],
)
def test_a_list_of_jobs_that_cannot_be_read_is_one_line(make: Make, results: Path, document: str, line: str) -> None:
    kept = make()
    (results / "matrix.json").write_text(document)
    found = collect([], results)
    assert [each.folder for each in found.runs] == [kept]
    assert len(found.skipped) == 1
    assert line in found.skipped[0] or ("gone" in line and "gone" in found.skipped[0])
