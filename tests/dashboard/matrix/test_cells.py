"""A cell is as bad as the worst of its newest runs, and passes only where nothing is in doubt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.dashboard.matrix.cells import Line
from harness.dashboard.matrix.collect import collect
from harness.dashboard.matrix.matrix import build_matrix
from tests.dashboard.matrix.conftest import output

if TYPE_CHECKING:
    from tests.dashboard.conftest import Bench
    from tests.dashboard.matrix.conftest import Make


def only(results: Path) -> Line:
    (row,) = build_matrix(collect([], results)).rows
    (line,) = row.lines
    return line


NAN = float("nan")


@pytest.mark.parametrize(
    ("changed", "state", "word", "note"),
    [
        ({}, "pass", "pass", ""),
        ({"ok": False}, "fail", "fail", ""),
        ({"ok": False, "outputs": [output(False, verdict="precision")]}, "precision", "precision", ""),
        ({"status": "interrupted"}, "unfinished", "interrupted", ""),
        ({"status": "running", "pid": 0}, "unfinished", "interrupted", ""),
        ({"status": "failed", "error": "host crashed.", "exit_code": 3}, "trouble", "device trouble", "host crashed."),
        ({"status": "failed", "error": "no reference.", "exit_code": 4}, "unclear", "unresolved", "no reference."),
        ({"status": "failed", "error": "of an older release."}, "trouble", "failed", "of an older release."),
        ({"outputs": [output(nonfinite=7)]}, "unclear", "NaN", "7 values NaN or infinite"),
        ({"outputs": [output(ratio="nan")]}, "unclear", "NaN", "the error is NaN"),
        ({"outputs": [output(cosine="nan")]}, "unclear", "NaN", "the error is NaN"),
        (
            {"residency": {"delegated": 3, "total": 5, "partitions": 1, "full": False}},
            "partial",
            "right in part",
            "3 of 5 nodes on the GPU",
        ),
        ({"residency": {"full": False}}, "partial", "right in part", "not all on the GPU"),
        ({"residency": {}}, "unclear", "right, but where?", "not known what the GPU took"),
        ({"residency": {}, "options": {"accelerator": "cpu"}}, "pass", "pass", ""),
        (
            {"ok": False, "residency": {"delegated": 3, "total": 5}, "outputs": [output(False, nonfinite=1)]},
            "fail",
            "fail",
            "1 value NaN or infinite; 3 of 5 nodes on the GPU",
        ),
        ({"ok": False, "ops": [("fine", 1.0), ("culprit", 335.0)]}, "fail", "fail", "ADD #1"),
        ({"result": None}, "unjudged", "not judged", ""),
        ({"answer": "unresolved", "outputs": [output(False)]}, "fail", "fail", "no op could be named"),
    ],
)
def test_a_cell_passes_only_where_nothing_is_in_doubt(
    make: Make, results: Path, changed: dict[str, Any], state: str, word: str, note: str
) -> None:
    make(**changed)
    line = only(results)
    assert (line.finding.state, line.finding.word) == (state, word)
    assert "; ".join(line.finding.notes) == note


def test_what_is_unfinished_has_no_figure(make: Make, results: Path) -> None:
    make(status="interrupted", ok=False)
    assert only(results).figure == ""


def test_the_newest_run_of_a_command_counts(make: Make, results: Path) -> None:
    make(ok=False)
    make(ok=True)
    line = only(results)
    assert (line.finding.state, line.runs) == ("pass", 2)


def test_a_pass_does_not_outweigh_what_another_command_left_open(make: Make, results: Path) -> None:
    make(command="localize", status="interrupted")
    make(command="compare")
    line = only(results)
    assert (line.finding.state, line.finding.notes) == ("unfinished", ("compare: pass",))


def test_a_run_that_failed_before_it_knew_its_runtime_is_in_the_line_of_the_others(make: Make, results: Path) -> None:
    make()
    make(status="failed", error="lost.", exit_code=3, runtime="")
    assert only(results).finding.word == "device trouble"


def test_runtimes_and_precisions_have_lines_of_their_own(make: Make, results: Path) -> None:
    make()
    make(options={"accelerator": "gpu", "precision": "fp32"}, ok=False)
    make(runtime="2.2.0")
    (row,) = build_matrix(collect([], results)).rows
    told = [(line.key.how.label, line.key.runtime, line.finding.state) for line in row.lines]
    assert told == [("GPU fp16", "2.2.0", "pass"), ("GPU fp16", "2.3.0", "pass"), ("GPU fp32", "2.3.0", "fail")]


def test_latency_stands_beside_the_verdict_and_one_that_does_not_count_says_why(
    make: Make, results: Path, bench: Bench
) -> None:
    run = bench(results, p50=12.5)
    measured = json.loads((run / "run.json").read_text())
    make(sha=measured["model"]["sha256"], runtime=measured["device"]["runtime"])
    line = only(results)
    assert line.finding.command == "compare"
    assert line.p50_ms == pytest.approx(measured["result"]["latency"]["total"]["p50"]["value"])
    assert line.slow == ""
    busy = [{"reason": "busy", "detail": "other processes took 41 % of all cores"}]
    bench(results, 1, result={"invalid": busy, "valid": False, "status": "invalid"})
    assert only(results).slow.startswith("busy: other")
