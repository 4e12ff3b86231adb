"""How a reproducer's page and script name ops, tensors and values, whatever the model's own names hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.core.arrays import Array
from harness.core.choices import Precision
from harness.core.job import Options
from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from harness.localize.explain.reproducer import (
    Circumstances,
    _cell,
    _how_fed,
    _limits,
    _one_line,
    _row,
    _summary,
    _title,
    op_line,
    write_reproducer,
)
from harness.localize.explain.shrink import Recipe, Shrunk
from harness.localize.probe.experiment import Observation, OutputComparison, Specimen
from harness.numerics.fp16 import FLOAT32_ROUNDOFF, UNIT_ROUNDOFF
from harness.numerics.metrics import compare
from harness.numerics.tolerance import LOCAL_FACTOR, Judgement, judge
from harness.remedies.cause import Cause
from tests.arrays import f32
from tests.chains import chain
from tests.quantized import QuantizedBuilder

EXACT = f32([1, -2, 4, 8])
ABOUT = Circumstances(Cause.KERNEL, None, "phone", "Mali", "2.3.0", Options("gpu"))


def judged(actual: Array, exact: Array = EXACT) -> Judgement:
    return judge(compare(actual, exact), compare(exact, exact), roundoff=UNIT_ROUNDOFF, factor=LOCAL_FACTOR)


def wrong(actual: Array, **more: object) -> Observation:
    seen = OutputComparison("y", actual, EXACT, judged(actual))
    return replace(Observation("wrong", worst=seen, outputs=(seen,)), **more)  # type: ignore[arg-type]


def test_a_line_of_an_op_names_inputs_outputs_constants_and_what_lies_between() -> None:
    graph = GraphBuilder()
    x = graph.input("x0", (2, 4))
    middle = graph.binary("ADD", x, graph.constant(np.ones((1, 4), np.float32)))
    graph.output(graph.op("CUSTOM", [middle, -1, x], (2, 4), custom='My"Op|'), "y0")
    model = graph.build()
    assert op_line(model, 0) == f"t{middle}[2,4] = ADD(x0[2,4], const[1,4])"
    assert op_line(model, 1) == f"y0[2,4] = My Op/(t{middle}[2,4], none, x0[2,4])"


@pytest.mark.parametrize(
    ("kinds", "title"),
    [
        (["RELU"], "RELU gives wrong results on the GPU (Mali)"),
        (["RELU", "RELU"], "RELU gives wrong results on the GPU (Mali)"),
        (["RELU", "ABS"], "A graph of RELU and ABS gives wrong results on the GPU (Mali)"),
        (["RELU", "ABS", "RELU", "NEG"], "A graph of RELU, ABS and NEG gives wrong results on the GPU (Mali)"),
    ],
)
def test_a_title_has_each_kind_of_op_once(kinds: list[str], title: str) -> None:
    assert _title(chain(*kinds).graph(), Observation("wrong"), ABOUT) == title


def test_a_title_has_the_device_where_its_gpu_is_not_known() -> None:
    about = replace(ABOUT, gpu="", device='a "phone"', options=Options("cpu"))
    assert _title(chain("ABS").graph(), Observation("wrong"), about) == "ABS gives wrong results on the CPU (a  phone )"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain text", "plain text"),
        ('a"b\\c\nd\te', "a b c d e"),
        ("x" * 200, "x" * 200),
        ("x" * 201, "x" * 200),
        ("a|b", "a|b"),
    ],
)
def test_text_of_others_stays_on_its_line(text: str, line: str) -> None:
    assert _one_line(text) == line
    assert _cell(text) == line.replace("|", "/")


@pytest.mark.parametrize(
    ("stored", "recipes", "words"),
    [
        ([], ["x0"], "made by the script"),
        (["x0"], [], "`inputs.npz`"),
        (["x0", "x2"], ["x1"], "x0, x2 from `inputs.npz`, the rest made by the script"),
    ],
)
def test_how_it_is_fed(stored: list[str], recipes: list[str], words: str) -> None:
    made = {name: Recipe("zeros", "int32", 0.0, 0) for name in recipes}
    assert _how_fed(dict.fromkeys(stored, EXACT), Shrunk(Specimen(chain("ABS"), {}), made)) == words


@pytest.mark.parametrize(("ratio", "times"), [(123.456, "123x"), (np.inf, "–"), (np.nan, "–")])
def test_a_row_of_figures(ratio: float, times: str) -> None:
    assert _row(("y0", 0.98765432, 1.23456, 0.000123456, ratio, 3)) == (
        "y0", "0.987654", "1.235", "0.0001235", times, "3",
    )  # fmt: skip


def test_a_summary_tells_the_largest_error_or_how_it_ended() -> None:
    seen = wrong(f32([1, -2, 4, 9]))
    figures = judged(f32([1, -2, 4, 9]))
    assert _summary(seen, ABOUT) == (
        f"The largest error is 1, on values of RMS 4.61: {figures.ratio:.3g} times what rounding explains. "
        f"Cosine to the CPU's result: {figures.actual.cosine:.6f}."
    )
    one = wrong(f32([1, np.nan, 4, 8]))
    assert _summary(one, ABOUT) == "1 of 4 values are NaN or infinite where the CPU's are finite."
    assert _summary(Observation("crash", "it died."), ABOUT) == "The model below crashes the runtime: it died."
    assert (
        _summary(Observation("hang", "60 s | no word"), ABOUT) == "The model below hangs the runtime: 60 s / no word."
    )


@pytest.mark.parametrize(("half", "roundoff"), [(True, UNIT_ROUNDOFF), (False, FLOAT32_ROUNDOFF)])
def test_limits_are_those_of_the_precision_to_four_digits(half: bool, roundoff: float) -> None:
    """An ideal device makes no error here, so that the limit is 32 roundings of the RMS."""
    size = float(np.sqrt(np.mean(EXACT.astype(np.float64) ** 2)))
    expected = LOCAL_FACTOR * roundoff * size
    found = _limits({"y": EXACT}, wrong(f32([1, -2, 4, 9]), half=half))["y"]
    assert found == (float(f"{expected:.4g}"), float(f"{expected:.4g}"))


def written(folder: Path, model: Model, inputs: dict[str, Array], seen: Observation, about: Circumstances) -> str:
    write_reproducer(folder, Shrunk(Specimen(model, inputs)), {"y": EXACT}, seen, about)
    return (folder / "ISSUE.md").read_text()


@pytest.mark.parametrize(("gpu", "row"), [("Mali", "| GPU, driver | Mali |"), ("", "| GPU, driver | unknown |")])
@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_the_page_has_where_it_was_seen(tmp_path: Path, gpu: str, row: str, precision: Precision) -> None:
    about = replace(ABOUT, gpu=gpu, options=Options("gpu", precision=precision), signature="all zeros")
    page = written(tmp_path, chain("ABS", shape=(4,)), {"x": EXACT}, wrong(f32([1, -2, 4, 9])), about)
    named = "float16" if precision == "fp16" else "float32"
    assert f"| Runtime | ai-edge-litert 2.3.0, GPU accelerator, {named} |" in page
    assert row in page
    assert "| Device | phone |" in page
    assert "What the wrong values look like: all zeros." in page
    assert "## Experiments" not in page
    assert "## What helps" not in page
    assert "runtime's log has" not in page


def test_what_helps_is_on_the_page(tmp_path: Path) -> None:
    about = replace(ABOUT, trials=[("a|b", "wr\nong")], remedies=[("c|d", "ri\nght")])
    page = written(tmp_path, chain("ABS", shape=(4,)), {"x": EXACT}, wrong(f32([1, -2, 4, 9])), about)
    assert "| a/b | wr ong |" in page
    assert "| c/d | ri ght |" in page


def test_what_is_expected_of_a_quantized_output_are_its_integers(tmp_path: Path) -> None:
    graph = QuantizedBuilder()
    x = graph.quantized_input("x", (4,), 0.5)
    graph.output(graph.sum_of(x, x, (0.25, 3)), "y")
    model = graph.build()
    grid = model.graph().tensors[model.graph().outputs[0].tensor].grid
    assert grid is not None
    seen = wrong(f32([1, -2, 4, 9]))
    outputs = tuple(replace(each, grid=grid) for each in seen.outputs)
    written(tmp_path, model, {"x": np.zeros(4, np.int8)}, replace(seen, outputs=outputs), ABOUT)
    expected, actual = (np.load(tmp_path / f"{name}.npz")["y"] for name in ("expected", "actual"))
    assert expected.dtype == actual.dtype == np.int8
    np.testing.assert_array_equal(expected, [7, -5, 19, 35])
    np.testing.assert_array_equal(actual, [7, -5, 19, 39])
