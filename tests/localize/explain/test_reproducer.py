"""The limits that a reproducer asserts: those that the answer was judged by, in the units of its file; and what its
script and its page say of how it was seen."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.core.job import Options
from harness.graph.grid import Grid
from harness.localize.explain.reproducer import UNSTEADY_FACTOR, Circumstances, _limits, write_reproducer
from harness.localize.explain.shrink import Recipe, Shrunk
from harness.localize.probe.excess import Excess
from harness.localize.probe.experiment import Observation, OutputComparison, Specimen
from harness.numerics.fp16 import UNIT_ROUNDOFF
from harness.numerics.metrics import compare
from harness.numerics.tolerance import LOCAL_FACTOR, judge
from harness.remedies.cause import Cause
from tests.arrays import f32
from tests.chains import chain

EXACT = f32([1, -2, 4, 8])
# The largest error is not the RMS one, so that one is not taken for the other.
OFF, IDEAL = f32([2, -2, 4, 8]), f32([1.01, -2, 4, 8])


def observed(grid: Grid | None) -> Observation:
    found = judge(compare(OFF, EXACT), compare(IDEAL, EXACT), roundoff=UNIT_ROUNDOFF, factor=LOCAL_FACTOR)
    seen = OutputComparison("y", OFF, EXACT, found, grid)
    return Observation("wrong", worst=seen, outputs=(seen,))


@pytest.mark.parametrize(("grid", "step", "half_a_step"), [(None, 1.0, 0.0), (Grid(0.25, 3, "int8"), 0.25, 0.5)])
def test_limits_are_in_steps_where_the_file_has_integers(grid: Grid | None, step: float, half_a_step: float) -> None:
    most, rms = _limits({"y": EXACT}, observed(grid))["y"]
    assert most == pytest.approx(LOCAL_FACTOR * 0.01 / step + half_a_step, rel=1e-3)
    floor = UNIT_ROUNDOFF * float(np.sqrt(np.mean(EXACT**2)))
    assert rms == pytest.approx(LOCAL_FACTOR * max(0.01 / 2, floor) / step + half_a_step, rel=1e-3)
    assert most != pytest.approx(rms, rel=0.1)


def test_of_a_process_that_died_any_finite_result_will_do() -> None:
    assert _limits({"y": EXACT, "z": EXACT}, Observation("crash")) == {"y": (3e38, 3e38), "z": (3e38, 3e38)}


HALF, SINGLE = Options("gpu"), Options("gpu", precision="fp32")
RECIPE = Recipe("uniform", "float32", 2.0, 0)


def written(
    folder: Path,
    seen: Observation,
    options: Options = HALF,
    recipes: dict[str, Recipe] | None = None,
    *,
    cause: str = "kernel",
    gpu: str = "Mali|G710",
) -> tuple[str, str]:
    """The script and the page of a reproducer of one RELU."""
    model = chain("RELU", shape=(4,))
    shrunk = Shrunk(Specimen(model, {"x": EXACT}), recipes or {})
    about = Circumstances(Cause(cause), None, "phone", gpu, "2.3.0", options, [("PAD | as SLICE", "right")], [])
    write_reproducer(folder, shrunk, {"y": EXACT}, seen, about)
    return (folder / "reproduce.py").read_text(), (folder / "ISSUE.md").read_text()


@pytest.mark.parametrize(("options", "single", "named"), [(HALF, False, "float16"), (SINGLE, True, "float32")])
def test_the_script_asks_for_the_precision_in_which_it_was_seen(
    tmp_path: Path, options: Options, single: bool, named: str
) -> None:
    script, page = written(tmp_path, observed(None), options)
    assert f"GpuOptions(enforce_f32={single})" in script
    assert named in page


def test_the_script_loads_those_inputs_that_no_line_makes(tmp_path: Path) -> None:
    script, page = written(tmp_path / "stored", observed(None))
    assert 'inputs = dict(np.load(here / "inputs.npz"))' in script
    assert 'inputs["x"]' not in script
    assert "`inputs.npz`" in page
    assert np.array_equal(np.load(tmp_path / "stored" / "inputs.npz")["x"], EXACT)
    script, page = written(tmp_path / "made", observed(None), recipes={"x": RECIPE})
    assert "inputs = {}" in script
    assert f'inputs["x"] = {RECIPE.code((4,))}' in script
    assert "made by the script" in page
    assert not (tmp_path / "made" / "inputs.npz").exists()


def test_values_are_beside_it_as_they_came_unless_the_process_died(tmp_path: Path) -> None:
    written(tmp_path / "wrong", observed(None))
    assert np.array_equal(np.load(tmp_path / "wrong" / "actual.npz")["y"], OFF)
    assert np.array_equal(np.load(tmp_path / "wrong" / "expected.npz")["y"], EXACT)
    script, page = written(tmp_path / "dead", Observation("crash", "the worker was ended by SIGSEGV."), cause="crash")
    assert not (tmp_path / "dead" / "actual.npz").exists()
    assert "Exit code 1: it fails (or the process dies);" in script
    assert "crashes the runtime: the worker was ended by SIGSEGV." in page
    assert page.startswith("# RELU ends the process on the GPU (Mali|G710)")
    assert " hangs the runtime: " in written(tmp_path / "hung", Observation("hang", "no answer within 60 s"))[1]


def test_what_differs_each_time_is_run_nine_times_and_held_to_less(tmp_path: Path) -> None:
    script, _ = written(tmp_path / "steady", observed(None))
    assert "for _ in range(9)" not in script
    assert f"# {LOCAL_FACTOR:g} times the largest and the RMS error" in script
    script, page = written(tmp_path / "unsteady", replace(observed(None), repeatable=False), cause="nondeterministic")
    assert "for _ in range(9)" in script
    assert f"# {UNSTEADY_FACTOR:g} times the largest and the RMS error" in script
    assert page.startswith("# RELU gives other results each time on the GPU")
    limits = {}
    for folder in ("steady", "unsteady"):
        (line,) = [x for x in (tmp_path / folder / "reproduce.py").read_text().splitlines() if x.startswith("limits")]
        limits[folder] = ast.literal_eval(line.removeprefix("limits = ").partition("  #")[0])["y"]
    assert limits["steady"] == pytest.approx(np.asarray(limits["unsteady"]) * LOCAL_FACTOR / UNSTEADY_FACTOR, rel=1e-3)


def test_the_page_tells_the_error_or_how_many_values_are_none(tmp_path: Path) -> None:
    page = written(tmp_path / "wrong", observed(None), gpu="")[1]
    rms = float(np.sqrt(np.mean(EXACT**2)))
    assert f"The largest error is 1, on values of RMS {rms:.4g}: 100 times what rounding explains." in page
    assert page.startswith("# RELU gives wrong results on the GPU (phone)")
    assert "y[4] = RELU(x[4])" in page
    cosine = compare(OFF, EXACT).cosine
    assert f"| y | {cosine:.6f} | 1 | 0.01 | 100x | 0 |" in page
    found = judge(compare(f32([np.nan, -2, np.inf, 8]), EXACT), compare(IDEAL, EXACT), roundoff=UNIT_ROUNDOFF)
    worst = OutputComparison("y", f32([np.nan, -2, np.inf, 8]), EXACT, found)
    page = written(tmp_path / "nan", Observation("wrong", worst=worst, outputs=(worst,)))[1]
    assert "2 of 4 values are NaN or infinite where the CPU's are finite." in page
    assert "| 0.01 | – | 2 |" in page


def test_the_page_quotes_the_runtime_and_what_was_tried(tmp_path: Path) -> None:
    said = Excess("Dispatch (70000) exceeds max (65535)", 70000, 65535)
    page = written(tmp_path, replace(observed(None), said=said))[1]
    assert said.words in page
    assert "| PAD / as SLICE | right |" in page
