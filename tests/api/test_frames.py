"""Runs as data frames: the columns that the page documents, the values of the files, nothing lost in silence."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import harness
from benchmarks.synthetic import write_runs
from harness.api.frames import OUTPUTS_COLUMNS, PROBLEMS_COLUMNS, SAMPLES_COLUMNS, Frames
from harness.core.errors import UsageError

PAGE = (Path(harness.__file__).parent.parent / "docs" / "pandas.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty runs of a few models. Read only."""
    root = tmp_path_factory.mktemp("frames") / "results"
    write_runs(root, 40, seed=3, samples=16)
    return root


@pytest.fixture(scope="module")
def frames(results: Path) -> Frames:
    return harness.load_runs(results)


def section(name: str) -> str:
    return PAGE.split(f"## {name}:")[1].split("\n## ")[0]


def test_the_example_of_the_documentation_draws_a_plot(results: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    assert len([line for line in example.splitlines() if line]) == 5
    command = [sys.executable, "-c", example]
    surroundings = {"MPLBACKEND": "svg", "PYTHONPATH": str(Path(harness.__file__).parents[1])}
    folder = results.parent
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=120, check=False, env=surroundings
    )
    assert done.returncode == 0, done.stderr
    drawn = (results.parent / "p50.svg").read_text()
    assert drawn.count("<path") > 20


def test_the_documentation_names_every_column_and_no_other(frames: Frames) -> None:
    said = [name for line in section("runs").splitlines() if line.startswith("| `")
            for name in re.findall(r"`(\w+)`", line.split("|")[1])]  # fmt: skip
    assert sorted(said) == sorted(frames.runs.columns)
    for name, columns in (("samples", SAMPLES_COLUMNS), ("outputs", OUTPUTS_COLUMNS), ("problems", PROBLEMS_COLUMNS)):
        assert re.findall(r"`(\w+)`", section(name).strip().split(".")[0]) == list(columns)


def test_every_run_is_a_row_with_the_figures_of_its_record(frames: Frames, results: Path) -> None:
    assert sorted(frames.runs["run"]) == sorted(path.name for path in results.iterdir())
    assert frames.runs.started.is_monotonic_decreasing
    row = frames.runs.query("valid").iloc[0]
    record = json.loads((results / row["run"] / "run.json").read_text())
    assert row.p50_ms == record["result"]["latency"]["total"]["p50"]["value"]
    assert row.started == pd.Timestamp(record["started"])
    assert row.model == Path(record["model"]["path"]).name


def test_samples_are_milliseconds_and_their_percentiles_those_of_the_runs(frames: Frames) -> None:
    medians = frames.samples.query("phase == 'steady'").groupby("run").total_ms.median()
    told = frames.runs.query("benchmark and state == 'done'").set_index("run").p50_ms
    np.testing.assert_allclose(medians[told.index], told, rtol=1e-5)
    parts = frames.samples[["write_ms", "run_ms", "readback_ms"]].sum(axis="columns")
    np.testing.assert_allclose(parts, frames.samples.total_ms)


def test_invalid_runs_are_told_and_not_valid(frames: Frames) -> None:
    left_out = frames.runs.query("invalid != ''")
    assert len(left_out) > 0 and not left_out.valid.any()


def test_outputs_have_the_ratio_of_error_to_what_is_explained(frames: Frames) -> None:
    known = frames.outputs
    np.testing.assert_allclose(known.ratio, known.max_abs / known.expected_max_abs)
    assert set(known.ok) <= {True, False}


def test_what_cannot_be_read_is_a_problem_and_never_an_error(tmp_path: Path) -> None:
    write_runs(tmp_path, 3, seed=1, samples=4)
    first, second, _ = sorted(path for path in tmp_path.iterdir())
    (first / "run.json").write_text("{")
    (first / "samples.csv").write_text("\x00\x01")
    (second / "samples.csv").write_text("phase,iteration\nsteady,0\n")
    (second / "ops.csv").write_text("")
    found = harness.load_runs(tmp_path)
    wrong = [(first, "run.json"), (first, "samples.csv"), (second, "samples.csv"), (second, "ops.csv")]
    assert set(zip(found.problems["run"], found.problems["file"], strict=True)) == {(f.name, n) for f, n in wrong}
    assert found.runs.set_index("run").state[first.name] == "unreadable"
    assert found.samples["run"].nunique() == 1


@pytest.mark.parametrize("times", ["-1,2,3", "1,nan,3", "1,2,inf", "1,2,", "1,2," + "9" * 400])
def test_a_time_that_cannot_be_is_a_problem(tmp_path: Path, times: str) -> None:
    write_runs(tmp_path, 1, samples=4)
    (folder,) = tmp_path.iterdir()
    (folder / "samples.csv").write_text(f"phase,iteration,write_ns,run_ns,read_ns\nsteady,0,{times}\n")
    found = harness.load_runs(tmp_path)
    assert found.problems[["run", "file"]].to_numpy().tolist() == [[folder.name, "samples.csv"]]
    assert found.samples.empty


def test_a_last_line_that_was_cut_off_is_no_row(tmp_path: Path) -> None:
    write_runs(tmp_path, 1, samples=4)
    (folder,) = tmp_path.iterdir()
    (folder / "ops.csv").write_text("index,first,op,output,verdict,ratio\n49,49,ADD,y,fine,335\n50,50,ADD,z,fine,33")
    (folder / "samples.csv").write_text("phase,iteration,write_ns,run_ns,read_ns\nsteady,0,1,2,3\nsteady,1,1,2,3")
    found = harness.load_runs(tmp_path)
    assert found.ops["index"].tolist() == [49]
    assert found.samples["iteration"].tolist() == [0]
    assert found.problems.empty


def test_ops_have_the_columns_of_their_file(tmp_path: Path) -> None:
    write_runs(tmp_path, 1, samples=4)
    (folder,) = tmp_path.iterdir()
    (folder / "ops.csv").write_text("index,first,op,output,verdict,ratio\n49,49,BATCH_MATMUL,y,culprit,335\n")
    found = harness.load_runs(tmp_path).ops
    assert found.query("verdict == 'culprit'")[["run", "op", "ratio"]].values.tolist() == [
        [folder.name, "BATCH_MATMUL", 335]
    ]


def test_a_folder_without_runs_gives_empty_frames_with_all_columns(tmp_path: Path) -> None:
    found = harness.load_runs(tmp_path)
    assert [len(f) for f in (found.runs, found.samples, found.outputs, found.ops, found.problems)] == [0] * 5
    assert list(found.samples.columns) == list(SAMPLES_COLUMNS) and "p50_ms" in found.runs


def test_no_folder_is_misuse(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no folder"):
        harness.load_runs(tmp_path / "none")


def test_importing_the_package_stays_light() -> None:
    script = "import harness, sys; print('pandas' in sys.modules, 'numpy' in sys.modules, callable(harness.load_runs))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["False", "False", "True"]
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        harness.nothing  # noqa: B018
