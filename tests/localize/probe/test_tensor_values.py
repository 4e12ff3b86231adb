"""What is known of tensors when a culprit is looked into: both sides' values, and which no device could hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.core.job import Options
from harness.core.run_folder import TensorStore
from harness.graph.build import GraphBuilder
from harness.localize.base.case import Case
from harness.localize.base.reference import label_of, output_label
from harness.localize.probe.tensor_values import TensorValues
from harness.numerics import fp32
from tests.arrays import f32
from tests.chains import chain
from tests.localize.planted import InProcess

HALF, SINGLE = Options("gpu"), Options("gpu", precision="fp32")
X = f32([1, -2, 1e-9, 70000])
MODEL = chain("ABS", "NEG", shape=(4,))
ABSOLUTE, NEGATED = (op.outputs[0] for op in MODEL.graph().ops)
(GIVEN,) = (port.tensor for port in MODEL.graph().inputs)


def collected(folder: Path, options: Options = HALF) -> TensorValues:
    case = Case(MODEL, {"x": X}, options, timeout=60)
    return TensorValues.collect(InProcess(), case, TensorStore(folder / "read"), folder / "scratch")


@pytest.mark.parametrize(("options", "largest"), [(HALF, 65504.0), (SINGLE, fp32.LARGEST)], ids=["half", "single"])
def test_what_no_device_holds_is_larger_than_the_largest_of_its_format(
    options: Options, largest: float, tmp_path: Path
) -> None:
    sizes = {1: largest / 2, 2: largest, 3: 1.01 * largest, 4: 0.0}
    case = Case(MODEL, {"x": X}, options, timeout=60)
    assert TensorValues(case, TensorStore(tmp_path), TensorStore(tmp_path), sizes, frozenset()).beyond == {3}


def test_in_float32_a_tensor_that_holds_infinity_cannot_be_rounded(tmp_path: Path) -> None:
    for options, beyond in ((HALF, frozenset[int]()), (SINGLE, frozenset({7}))):
        case = Case(MODEL, {"x": X}, options, timeout=60)
        known = TensorValues(case, TensorStore(tmp_path), TensorStore(tmp_path), {7: 1.0}, frozenset({7}))
        assert known.beyond == beyond


def test_exact_values_are_as_the_device_can_hold_them(tmp_path: Path) -> None:
    values = {t: collected(tmp_path / "half").exact(t) for t in (GIVEN, ABSOLUTE, NEGATED)}
    stored = np.asarray([1, 2, 0, 70000])  # the smallest of float16 is 6e-8; what is beyond it stays
    for t, expected in ((GIVEN, [1, -2, 0, 70000]), (ABSOLUTE, stored), (NEGATED, -stored)):
        np.testing.assert_array_equal(values[t], f32(expected))
    single = collected(tmp_path / "single", SINGLE)
    np.testing.assert_array_equal(single.exact(ABSOLUTE), np.abs(X))
    np.testing.assert_array_equal(single.outputs()["y"], -np.abs(X))
    assert single.peaks == {ABSOLUTE: 70000.0, NEGATED: 70000.0}


def test_the_device_s_values_are_those_that_were_read_through_a_tap_or_as_an_output(tmp_path: Path) -> None:
    known = collected(tmp_path)
    assert known.on_device(ABSOLUTE) is None
    graph = MODEL.graph()
    known.read.put(output_label("y"), "device", f32([9, 9, 9, 9]), "y")
    known.read.put(label_of(graph, ABSOLUTE), "device", f32([8, 8, 8, 8]), "abs")
    for t, expected in ((GIVEN, X), (ABSOLUTE, [8] * 4), (NEGATED, [9] * 4)):
        np.testing.assert_array_equal(known.on_device(t), f32(expected))
    known.read.put(label_of(graph, NEGATED), "device", f32([7, 7, 7, 7]), "neg")
    np.testing.assert_array_equal(known.on_device(NEGATED), f32([7] * 4))
    assert known.on_device(99) is None


def test_constants_and_what_has_no_elements_are_not_kept(tmp_path: Path) -> None:
    graph = GraphBuilder()
    half = graph.dequantize(np.ones((4,), np.float32))
    graph.output(graph.binary("MUL", graph.input("x", (4,)), half), "y")
    model = graph.build()
    case = Case(model, {"x": X}, HALF, timeout=60)
    known = TensorValues.collect(InProcess(), case, TensorStore(tmp_path / "read"), tmp_path / "scratch")
    assert set(known.peaks) == {model.graph().ops[1].outputs[0]}
