"""A run folder as a row, whatever it holds."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.dashboard.facts import read_facts

if TYPE_CHECKING:
    from tests.dashboard.conftest import Bench


def run(folder: Path, **fields: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    plain = {"schema": 1, "command": "localize", "status": "done", "started": "2026-11-20T11:23:04+00:00",
             "model": {"path": "a/decoder.tflite", "sha256": "ab", "ops": 9},
             "device": {"name": "host", "kind": "host", "runtime": "2.3.0", "gpu": "llvmpipe"}}  # fmt: skip
    (folder / "run.json").write_text(json.dumps(plain | fields))
    return folder


def output(name: str = "y", **changed: Any) -> dict[str, Any]:
    return {"name": name, "ok": True, "cosine": 1.0, "max_abs": 0.1, "expected_max_abs": 0.1, "nonfinite": 0} | changed


def test_a_benchmark_gives_its_percentiles_and_its_accuracy(bench: Bench, tmp_path: Path) -> None:
    found = read_facts(bench(tmp_path, p50=10.0))
    record = json.loads((tmp_path / found.run / "run.json").read_text())
    total = record["result"]["latency"]["total"]
    assert (found.p50_ms, found.p90_ms, found.p99_ms) == tuple(total[p]["value"] for p in ("p50", "p90", "p99"))
    assert (found.p50_low_ms, found.p50_high_ms) == (total["p50"]["low"], total["p50"]["high"])
    assert (found.accelerator, found.precision, found.threads) == ("gpu", "fp16", 0)
    assert (found.judgement, found.output, round(found.ratio or 0, 6)) == ("pass", "pred_masks", 1.4)
    assert found.benchmark and found.valid and found.invalid == ()


def test_an_invalid_benchmark_says_why_and_does_not_count(bench: Bench, tmp_path: Path) -> None:
    flaw = {"reason": "throttled", "detail": "thermal status severe in 7 of 12 rounds"}
    found = read_facts(bench(tmp_path, result={"invalid": [flaw], "valid": False}))
    assert found.invalid == ("throttled: thermal status severe in 7 of 12 rounds",)
    assert not found.valid


def test_a_benchmark_that_is_invalid_without_a_reason_does_not_count_either(bench: Bench, tmp_path: Path) -> None:
    found = read_facts(bench(tmp_path, result={"invalid": [], "valid": False}))
    assert not found.valid and found.invalid == ("invalid: no reason was recorded",)


@pytest.mark.parametrize("status", ["running", "failed", "interrupted"])
def test_an_unfinished_benchmark_does_not_count(status: str, bench: Bench, tmp_path: Path) -> None:
    assert not read_facts(bench(tmp_path, status=status, pid=1)).valid


def test_the_worst_output_speaks_for_a_run(tmp_path: Path) -> None:
    outputs = [output("a", ratio=3.0), output("b", ok=False, ratio=40.0), output("c", ratio=50.0)]
    found = read_facts(run(tmp_path / "r", result={"status": "fail", "outputs": outputs}))
    assert (found.judgement, found.output, found.ratio) == ("fail", "b", 40.0)


def test_nan_is_worse_than_any_number(tmp_path: Path) -> None:
    outputs = [output("a", ok=False, ratio=1e9), output("b", ok=False, ratio="nan", nonfinite=7)]
    found = read_facts(run(tmp_path / "r", result={"status": "fail", "outputs": outputs}))
    assert found.output == "b" and math.isnan(found.ratio or 0) and found.nonfinite == 7


def test_outputs_that_were_not_compared_are_not_judged(tmp_path: Path) -> None:
    bare = [{"name": "y", "dtype": "float32", "nonfinite": 0}]
    assert read_facts(run(tmp_path / "r", command="run", result={"outputs": bare})).judgement == "nothing"


def test_culprits_are_told_by_op_number_and_cause(tmp_path: Path) -> None:
    culprits = [{"ops": [49, 49], "op": "BATCH_MATMUL", "cause": "accumulation"}]
    found = read_facts(run(tmp_path / "r", result={"status": "culprits", "culprits": culprits}))
    assert found.culprits == ("BATCH_MATMUL #49 (accumulation)",) and found.judgement == "fail"


def test_other_commands_give_the_median_of_all_but_their_first_iteration(tmp_path: Path) -> None:
    folder = run(tmp_path / "r", command="run", result={})
    rows = "run,0,0,0,90000000\nrun,1,1000000,0,2000000\nrun,2,1000000,1000000,3000000\n"
    (folder / "samples.csv").write_text(f"phase,iteration,write_ns,run_ns,read_ns\n{rows}")
    found = read_facts(folder)
    assert (found.p50_ms, found.samples, found.p90_ms, found.benchmark, found.valid) == (4.0, 2, None, False, False)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"schema": 1, "comm', "cannot be read"),
        ("[]", "schema 'list'"),
        ('{"schema": 7}', "schema 7"),
        ('{"schema": 1, "status": "great"}', "status is 'great'"),
        ('{"schema": 1, "status": "done", "model": [1]}', "model is '[1]', not an object"),
        ('{"schema": 1, "status": "done", "result": {"outputs": [3]}}', "not an object"),
        ("[" * 100_000, "cannot be read"),
    ],
)
def test_a_record_that_nobody_can_read_is_a_row_that_says_so(text: str, why: str, tmp_path: Path) -> None:
    folder = tmp_path / "20261120T142123Z-decoder-host"
    folder.mkdir()
    (folder / "run.json").write_text(text)
    found = read_facts(folder)
    assert (found.state, found.started, found.valid) == ("unreadable", "2026-11-20T14:21:23+00:00", False)
    assert why in found.error and str(tmp_path) not in found.error


def test_a_folder_without_a_record_is_unreadable_too(tmp_path: Path) -> None:
    assert "no run.json" in read_facts(tmp_path).error


def test_a_megabyte_of_a_name_is_cut(tmp_path: Path) -> None:
    found = read_facts(run(tmp_path / "r", model={"path": "x" * 1_000_000}))
    assert len(found.model) == 300
