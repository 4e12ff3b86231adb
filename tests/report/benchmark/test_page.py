"""A benchmark's page: what was measured, whether it counts, why, and what to do then."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.synthetic import Plan, write_run
from harness.cli.app import app
from harness.core.errors import UsageError
from harness.core.run_folder import read_run
from harness.latency.record import REASONS
from harness.report.benchmark.record import Bench, Flaw, parse_bench
from harness.report.benchmark.steps import next_steps
from harness.report.benchmark.verdict import MEANS, verdict_of
from harness.report.page import render, write_report
from harness.report.record import state_of
from tests.pages import Node, parse

if TYPE_CHECKING:
    from tests.browser import Browser

Written = Callable[..., Path]

SUSTAINED = {
    "schema": 1, "valid": True, "accurate": True, "status": "slower", "why": "20% slower from 2:00 on.",
    "complete": True,
    "cell": {"model": "m.tflite", "model_sha256": "ab", "device": "pixel8a", "accelerator": "gpu",
             "precision": "default", "backend": "opencl", "threads": 0},
    "invalid": [], "minutes": 5.0, "measured_minutes": 4.9, "seconds": 300.0, "samples": 9000, "drift": None,
    "slowdown": None, "swing": None,
    "levels": [{"stretch": 0, "from_s": 0.0, "until_s": 120.0, "windows": 8, "p50_ms": 10.0, "p90_ms": 11.0},
               {"stretch": 0, "from_s": 120.0, "until_s": 240.0, "windows": 8, "p50_ms": 12.0, "p90_ms": 14.0}],
    "changes": [{"at_s": 120.0, "ratio": 1.2, "p": 1e-9, "restart": False}],
    "gaps": [{"at_s": 240.0, "seconds": 20.0, "why": "lost", "detail": "the cable"}],
    "processes": [{"stretch": 0, "from_s": 0.0, "until_s": 300.0, "compile_ms": 800.0, "first_ms": 90.0, "warmup": 4,
                   "samples": 9000, "boot_id": "b", "runtime": "2.3.0"}],
    "windows": [{"at_s": 15.0 * i, "seconds": 15.0, "stretch": 0, "process": 0, "samples": 500, "p10_ms": 9.0,
                 "p50_ms": 10.0 if i < 8 else 12.0, "p90_ms": 14.0, "thermal": "none", "celsius": 30.0}
                for i in range(16)],
    "warmth": {"states": ["none", "light"], "first_celsius": 30.0, "highest_celsius": 41.5, "last_celsius": 41.0,
               "silent": False},
    "fixed_performance": None, "delegated": None, "nodes": None, "accuracy": None, "inputs_sha256": "",
    "runtime": "2.3.0", "gpu": "Mali-G715", "system": "", "boot_id": "b", "commit": "",
}  # fmt: skip


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """Write a benchmark's run folder; `result` and `record` change fields of its result and its run.json."""

    def made(result: dict[str, Any] | None = None, wrong: bool = False, **record: Any) -> Path:
        plan = Plan("decoder.tflite", "host", "llvmpipe", "gpu", "fp32", 0, 10.0, 0.0, None, 1.0, 0 if wrong else None)
        folder = write_run(tmp_path, plan, 0, 0, datetime(2026, 11, 1, tzinfo=UTC), _Sound(3), 200)
        kept = json.loads((folder / "run.json").read_text())
        kept["result"] |= result or {}
        kept |= record
        (folder / "run.json").write_text(json.dumps(kept))
        return folder

    return made


class _Sound(np.random.Generator):
    """Chance by which no run fails or is invalid."""

    def __init__(self, seed: int) -> None:
        super().__init__(np.random.PCG64(seed))

    def random(self, *words: Any, **more: Any) -> Any:
        return 0.9


@pytest.fixture
def sustained(tmp_path: Path) -> Path:
    folder = tmp_path / "20261101T000000Z-m-pixel8a"
    folder.mkdir()
    record = {"schema": 1, "command": "bench --sustained", "status": "done", "started": "2026-11-01T00:00:00+00:00",
              "model": {"path": "m.tflite", "ops": 3}, "device": {"name": "pixel8a"}, "result": SUSTAINED}  # fmt: skip
    (folder / "run.json").write_text(json.dumps(record))
    return folder


def page(folder: Path) -> Node:
    return parse(write_report(folder).read_text(encoding="utf-8"))


def facts(folder: Path) -> Bench:
    record = read_run(folder)
    return parse_bench(record, state_of(record))


def mark(node: Node) -> str:
    return node.one("p", class_="stamp").text


def commands(node: Node) -> list[str]:
    return [code.text for code in node.all("code") if code.attrs.get("id", "").startswith("next-")]


def test_a_valid_benchmark_counts_and_has_nothing_left_to_do(written: Written) -> None:
    found = page(written())
    assert mark(found) == "Counts" and commands(found) == []
    sentence = found.one("p", class_="sentence").text
    assert sentence.startswith("One inference on host (GPU, fp32) takes 10.") and "with 95 % confidence" in sentence
    assert "none of the checks found a reason" in found.one("section", id="validity").text
    assert [link.attrs["href"] for link in found.one("nav").all("a")] == [
        "#validity", "#times", "#accuracy", "#processes", "#run"]  # fmt: skip
    again = found.one("code", id="reproduction").text
    assert again == "harness bench decoder.tflite --device host --accelerator gpu --precision fp32"


def test_the_distribution_and_the_rounds_are_drawn_from_the_samples(written: Written) -> None:
    times = page(written()).one("section", id="times")
    bars, course = times.all("svg", class_="bars")[0], times.one("svg", class_="course")
    assert 10 < len(bars.all("rect", class_="bar")) <= 48
    assert [text.text for text in bars.all("text")][:2] == ["p50", "p90"]
    assert len(course.all("circle")) == len(course.all("title")) > 1
    rows = [[cell.text for cell in row.all("th")] for row in times.one("tbody").all("tr")]
    assert rows == [["write"], ["run"], ["readback"], ["total"]]


def test_an_invalid_one_says_why_what_that_means_and_what_to_do(written: Written) -> None:
    busy = [{"reason": "busy", "detail": "other processes took 41 % of all cores"}]
    found = page(written({"invalid": busy, "valid": False, "status": "invalid"}))
    assert mark(found) == "Does not count"
    row = found.one("section", id="validity").one("tbody").one("tr").text
    assert "busy" in row and "41 %" in row and MEANS["busy"] in row
    assert commands(found) == [
        "harness bench decoder.tflite --device host --accelerator gpu --precision fp32 --until-valid 5"]  # fmt: skip


def test_wrong_outputs_come_before_every_figure(written: Written) -> None:
    found = page(written(wrong=True))
    assert mark(found) == "Wrong outputs"
    assert "pred_masks, 38.0× the error of an ideal device" in found.one("section", class_="verdict").text
    assert commands(found) == ["harness localize decoder.tflite --device host --accelerator gpu --precision fp32"]
    assert "fail" in found.one("section", id="accuracy").one("tbody").text


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_has_its_meaning_and_a_next_step_that_is_a_command(reason: str, written: Written) -> None:
    assert set(MEANS) == set(REASONS)
    bench = replace(facts(written()), valid=False, flaws=(Flaw(reason, "seen"),))
    steps = next_steps(bench)
    assert steps and verdict_of(bench).mark == "Does not count"
    for step in steps:
        words = shlex.split(step.command)
        assert words[0] == "harness"
        help_text = CliRunner().invoke(app, [words[1], "--help"], env={"COLUMNS": "400", "TERM": "dumb"}).output
        assert all(word in help_text for word in words if word.startswith("--")), step.command


def test_a_benchmark_that_failed_shows_its_error_and_is_asked_again(written: Written) -> None:
    folder = written(status="failed", error="host: the worker crashed (SIGSEGV).")
    record = json.loads((folder / "run.json").read_text())
    del record["result"]
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "samples.csv").unlink()
    found = page(folder)
    assert mark(found) == "Failed" and "SIGSEGV" in found.one("p", class_="sentence").text
    assert commands(found) == [
        "harness bench models/decoder.tflite --device host --accelerator gpu --precision fp32"]  # fmt: skip
    assert found.all("section", id="validity") == found.all("section", id="times") == []


def test_a_sustained_one_is_drawn_over_its_time_with_its_levels_and_gaps(sustained: Path) -> None:
    found = page(sustained)
    assert mark(found) == "Slower"
    said = "Under load on pixel8a (GPU, opencl) for 4.90 of 5.00 minutes: 20% slower from 2:00 on."
    assert found.one("p", class_="sentence").text == said
    course = found.one("svg", class_="course")
    assert len(course.all("circle")) == 16 and len(course.all("line", class_="level")) == 2
    assert len(course.all("rect", class_="beyond")) == 1
    times = found.one("section", id="times").text
    assert "1.20×" in times and "Gone at 4:00 (lost), for 0:20: the cable." in times and "at most 41.5 °C" in times
    assert found.one("code", id="reproduction").text.endswith("--backend opencl --sustained 5")


def test_figures_that_are_none_are_told_and_drawn_by_nobody(sustained: Path) -> None:
    record = json.loads((sustained / "run.json").read_text())
    record["result"]["windows"][3]["p90_ms"] = "inf"
    record["result"]["windows"][4]["at_s"] = "nan"
    record["result"]["levels"][0] |= {"p50_ms": "nan", "until_s": "inf"}
    (sustained / "run.json").write_text(json.dumps(record))
    found = page(sustained)
    assert len(found.one("svg", class_="course").all("circle")) == 14
    assert "NaN" in found.one("section", id="times").one("table").text


@pytest.mark.parametrize(
    "change",
    [
        {"latency": []}, {"latency": {"total": {"p50": 3}}}, {"invalid": [3]}, {"per_op": [{"first": 1}]},
        {"replications": {"a": 1}}, {"accuracy": [{"name": 3}]}, {"valid": "yes"}, {"cell": "host"},
    ],
)  # fmt: skip
def test_what_no_benchmark_writes_is_refused_in_a_sentence(change: dict[str, Any], written: Written) -> None:
    with pytest.raises(UsageError):
        render(written(change))


def test_samples_of_another_form_are_refused_and_a_cut_line_is_passed_over(written: Written) -> None:
    folder = written()
    text = (folder / "samples.csv").read_text()
    (folder / "samples.csv").write_text(text + "steady,12,1")
    assert mark(page(folder)) == "Counts"
    (folder / "samples.csv").write_text(text.replace("total_ns", "total"))
    with pytest.raises(UsageError, match="has no column 'total_ns'"):
        render(folder)


def test_hostile_words_stay_text(written: Written) -> None:
    evil = "</script><img src=x onerror=alert(1)>\u202e"
    flaw = [{"reason": evil, "detail": evil}]
    against = [{"run": evil, "verdict": evil, "why": evil, "ratio": None, "p": None, "effect": None}]
    found = page(written({"invalid": flaw, "valid": False, "against": against, "gpu": evil, "commit": evil}))
    assert found.all("img") == [] and len(found.all("script")) == 1 and "\u202e" not in found.text


def test_ops_by_time_are_listed_up_to_a_bound(written: Written) -> None:
    stretches = [{"first": i, "last": i, "ops": ["ADD"], "ms": {"value": 1.0, "low": 0.5, "high": 1.5}, "share": 0.1,
                  "cut_bytes": 4} for i in range(500)]  # fmt: skip
    section = page(written({"per_op": stretches})).one("section", id="processes").text
    assert "399" in section and "100 more are in" in section


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1300])
def test_the_page_fits_its_window(width: int, browser: Browser, written: Written, sustained: Path) -> None:
    busy = [{"reason": reason, "detail": "seen " * 30} for reason in REASONS]
    browser.complaints()
    for folder in (written({"invalid": busy, "valid": False}), sustained):
        browser.open(write_report(folder), width)
        assert browser.js("document.documentElement.scrollWidth") == width
        wide = "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth).length"
        assert browser.js(wide) == 0
        assert browser.complaints() == []
