"""The record of a benchmark on its way to disk and back."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from harness.core.errors import UsageError
from harness.core.run_folder import to_json
from harness.latency.bench import summarize
from harness.latency.measure import Plan, Subject, measure
from harness.latency.profile_record import Unprofiled
from harness.latency.record import SAMPLES_COLUMNS, Against, BenchResult, Cell, Interval, OutputError
from tests.latency.conftest import Saying, Script


@pytest.fixture
def result(subject: Callable[..., Subject], script: Script) -> BenchResult:
    script.say = lambda process, job: Saying(thermal="severe")
    (measured,) = measure([subject()], Plan(samples=40, seconds=0.0, rounds=8, replications=2), script.open)
    output = OutputError("y", 0.5, float("inf"), 0.25, 3, False)
    against = (
        Against("then", "slower", "+10%", Interval(1.1, 1.0, 1.2), 0.001, 0.9),
        Against("x", "incomparable", "no"),
    )
    profile = Unprofiled("There is none.")
    return replace(summarize(measured, measured.timed()), accuracy=(output,), against=against, profile=profile)


def test_it_comes_back_as_it_was(result: BenchResult) -> None:
    document = json.loads(json.dumps(to_json(result.to_json())))
    assert BenchResult.from_json(document) == result


def test_the_summary_says_whether_the_figures_count_and_whether_they_are_of_right_outputs(result: BenchResult) -> None:
    document = result.to_json()
    assert (document["status"], document["valid"], document["accurate"]) == ("invalid", False, False)
    assert document["samples"] == document["latency"]["total"]["count"]
    assert replace(result, invalid=(), accuracy=None).to_json()["accurate"] is None


def test_fields_of_a_later_release_are_passed_over(result: BenchResult) -> None:
    document = to_json(result.to_json())
    document["later"] = document["cell"]["later"] = document["replications"][0]["later"] = 1
    assert BenchResult.from_json(document) == result


def test_a_run_of_before_the_profiler_was_read_has_none(result: BenchResult) -> None:
    document = to_json(result.to_json())
    del document["profile"]
    assert BenchResult.from_json(document) == replace(result, profile=None)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda d: d.pop("cell"),
        lambda d: d.pop("latency"),
        lambda d: d["latency"].pop("total"),
        lambda d: d["latency"]["run"].update(p50="fast"),
        lambda d: d.update(replications=7),
        lambda d: d.pop("inputs_sha256"),
        lambda d: d.update(profile={"rows": []}),
    ],
)
def test_what_is_no_benchmark_is_refused_in_a_sentence(result: BenchResult, spoil: Callable[[Any], Any]) -> None:
    document = to_json(result.to_json())
    spoil(document)
    with pytest.raises(UsageError, match="The result of that run is no benchmark's"):
        BenchResult.from_json(document)


def test_a_row_has_a_value_for_each_column(subject: Callable[..., Subject], script: Script) -> None:
    (measured,) = measure([subject()], Plan(samples=8, seconds=0.0, rounds=2, replications=1), script.open)
    row = dict(zip(SAMPLES_COLUMNS, measured.timed()[0].row(), strict=True))
    assert row["phase"] == "first"
    assert row["total_ns"] == row["write_ns"] + row["run_ns"] + row["read_ns"]
    assert (row["clock_mhz"], row["waited"]) == ("", "")


@pytest.mark.parametrize(
    ("cell", "label"),
    [
        (Cell("m", "", "host", "cpu"), "cpu"),
        (Cell("m", "", "host", "cpu", threads=1), "cpu 1 thread"),
        (Cell("m", "", "host", "cpu", backend="plain", threads=4), "cpu plain 4 threads"),
        (Cell("m", "", "host", "gpu", precision="fp32"), "gpu fp32"),
    ],
)
def test_a_cell_is_called_by_what_tells_it_from_others(cell: Cell, label: str) -> None:
    assert cell.label == label
