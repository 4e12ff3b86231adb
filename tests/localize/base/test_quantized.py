"""Quantized models: what is read is judged by the real numbers that integers stand for, and told in steps too."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.core.arrays import Array
from harness.core.job import Options
from harness.graph.grid import Grid
from harness.graph.model import Model
from harness.localize.base.case import Case
from harness.localize.base.ideals import Ideals, granted, neighbour
from harness.localize.base.op_record import STEPS_HEADER, OpRecord
from harness.localize.base.result import Culprit
from harness.numerics.tolerance import LOCAL_FACTOR, NOTHING, Granted
from harness.remedies.cause import Cause
from tests.arrays import f32
from tests.localize.attention import Localize
from tests.localize.planted import GROUP, SCALED, Fault, Half
from tests.quantized import QuantizedBuilder

GRID = Grid(step=0.5, zero=0, dtype="int8")
RNG = np.random.default_rng(5)


@pytest.fixture(scope="module")
def network() -> Model:
    """RESHAPE, two layers with a residual sum, a layer: int8 throughout."""
    graph = QuantizedBuilder()
    x = graph.quantized_input("x", (1, 2, 8, 8), 0.05, 4)
    flat = graph.on_grid(graph.reshape(x, (16, 8)), 0.05, 4)
    hidden = flat
    for _ in range(2):
        inside = graph.layer(hidden, RNG.integers(-127, 128, (8, 8)), 0.005, (0.06, -8))
        hidden = graph.sum_of(hidden, inside, (0.08, 2))
    graph.output(graph.layer(hidden, RNG.integers(-127, 128, (16, 8)), 0.005, (0.1, 0)), "y")
    return graph.build()


def made_by(model: Model, op: int) -> int:
    return model.graph().ops[op].outputs[0]


def judged(actual: Array, exact: Array, ideals: Ideals | None = None) -> Any:
    graph = QuantizedBuilder()
    graph.output(graph.quantized_input("x", (1, 4), 0.5), "y")
    case = Case(graph.build(), {}, Options(), timeout=60)
    return case.judge(actual, ideals or Ideals((exact,)), exact, factor=LOCAL_FACTOR, grid=GRID)


class TestJudgement:
    """Values near 4, on a grid of 0.5. Float16 explains 32·2^-11 of their RMS, 0.0625, and rounding half a step."""

    EXACT = f32([4.2, -3.9, 4.0, 4.1])

    @pytest.mark.parametrize(("off", "right"), [(0.24, True), (0.25 + 0.06, True), (0.25 + 0.07, False)])
    def test_half_a_step_is_no_error_and_float16_has_its_share_on_top(self, off: float, right: bool) -> None:
        actual = np.asarray([8, -8, 8, 8], np.int8)
        exact = f32([4.0 + off, -4.0, 4.0, 4.0])
        assert judged(actual, exact).ok is right

    def test_figures_are_in_real_units_and_the_step_is_told(self) -> None:
        judgement = judged(np.asarray([8, -8, 8, 12], np.int8), self.EXACT)
        assert judgement.actual.max_abs == pytest.approx(6.0 - 4.1)
        assert (judgement.step, judgement.grid) == (0.5, Granted(0.25, 0.25))
        assert judgement.expected.max_abs == 0.25  # the ideal is exact, but for the grid
        assert not judgement.ok

    def test_the_limits_are_those_of_the_judgement(self) -> None:
        judgement = judged(np.asarray([8, -8, 8, 8], np.int8), self.EXACT)
        most, rms = judgement.limits(LOCAL_FACTOR, 2.0**-11)
        assert most == rms
        assert most == pytest.approx(0.25 + 32 * 2.0**-11 * judgement.actual.reference_rms)

    def test_saturated_ends_are_right(self) -> None:
        ends = f32([63.5, -64.0, 63.5, 0.0])
        assert judged(np.asarray([127, -128, 127, 0], np.int8), ends).actual.max_abs == 0

    def test_a_reference_of_integers_rounds_too(self) -> None:
        actual, exact = np.asarray([10, 8, 8, 8], np.int8), np.asarray([8, 8, 8, 8], np.int8)
        assert judged(actual, exact, Ideals((GRID.real(exact),))).ok
        assert not judged(actual + 1, exact, Ideals((GRID.real(exact),))).ok


class TestChannels:
    """One of eight, of values a two-hundredth as large, is all wrong; the whole is granted more than that."""

    EXACT = np.concatenate([np.full((64, 7), 4.0), np.full((64, 1), 0.02)], 1).astype(np.float32)
    ACTUAL = EXACT * f32([*[1] * 7, 2])

    @staticmethod
    def case() -> Case:
        graph = QuantizedBuilder()
        graph.output(graph.input("x", (1, 4)), "y")
        return Case(graph.build(), {}, Options(), timeout=60)

    @pytest.mark.parametrize("by_channel", [True, False])
    def test_an_output_is_judged_by_channel_and_an_op_is_not(self, by_channel: bool) -> None:
        ideals = Ideals((self.EXACT,))
        assert self.case().judge(self.ACTUAL, ideals, self.EXACT, by_channel=by_channel).ok is not by_channel

    def test_nor_is_what_is_on_a_grid(self) -> None:
        """0.02 is half a step there, and rounding may take it to either side."""
        coarse = Grid(step=0.04, zero=0, dtype="int8")
        actual, exact = coarse.nearest(self.ACTUAL), coarse.nearest(self.EXACT)
        ideals = Ideals((coarse.real(exact),))
        assert self.case().judge(actual, ideals, exact, by_channel=True, grid=coarse).ok


class TestGranted:
    def test_a_float_model_is_granted_nothing(self) -> None:
        assert granted((f32([1.0]),), None, unrounded=True) is NOTHING

    def test_rounding_on_the_way_counts_twice(self) -> None:
        ideals = Ideals((f32([0, 0]),), (f32([0.3, -0.4]), f32([0.1, 0.0])))
        found = granted(ideals, None, unrounded=True)
        assert found.max_abs == pytest.approx(0.8)
        assert found.rms == pytest.approx(2 * np.sqrt((0.09 + 0.16) / 2))
        assert granted(ideals, GRID, unrounded=True).max_abs == pytest.approx(0.8 + 0.25)
        assert granted(ideals, GRID, unrounded=False).max_abs == pytest.approx(0.8 + 1.0)

    def test_neighbours_are_a_step_off_and_stay_in_range(self) -> None:
        codes = np.asarray([-128, 127] * 500, np.int8)
        near = neighbour({"q": codes, "i": np.arange(3, dtype=np.int32)}, np.random.default_rng(0))
        assert set((near["q"].astype(int) - codes).tolist()) == {-1, 0, 1}
        assert near["i"].tolist() == [0, 1, 2]
        x = f32(np.full(1000, 4.0))
        assert 0.02 < np.abs(neighbour({"x": x}, np.random.default_rng(0))["x"] - 4.0).max() <= 4 * 2.0**-7


class TestLocalization:
    def test_a_healthy_device_passes(self, find: Localize, network: Model) -> None:
        assert find(Half(network, {}), network).status == "pass"

    @pytest.mark.parametrize(("op", "fault"), [(1, SCALED), (2, GROUP), (3, GROUP), (4, SCALED), (5, SCALED)])
    def test_the_faulty_op_is_named_and_no_other(self, find: Localize, network: Model, op: int, fault: Fault) -> None:
        answer = find(Half(network, {made_by(network, op): fault}), network)
        assert [(c.record.first, c.record.index) for c in answer.culprits] == [(op, op)], answer.notes
        assert (answer.certified, answer.device_compiles) == (True, 3)

    def test_its_error_is_told_in_steps_and_in_real_units(self, find: Localize, network: Model, tmp_path: Path) -> None:
        answer = find(Half(network, {made_by(network, 3): GROUP}), network)
        (culprit,) = answer.to_json()["culprits"]
        told = culprit["quantized"]
        assert (told["dtype"], told["zero_point"]) == ("int8", -8)
        assert told["step"] == pytest.approx(0.06)
        assert told["local_error_steps"] * told["step"] == pytest.approx(culprit["local_error"])
        assert told["expected_error_steps"] < 1 < 20 < told["local_error_steps"]
        (written,) = tmp_path.glob("*/quantized.csv")
        rows = {int(row["index"]): row for row in csv.DictReader(written.read_text("utf-8").splitlines())}
        assert tuple(rows[3]) == STEPS_HEADER
        assert float(rows[3]["local_max_steps"]) == pytest.approx(told["local_error_steps"])
        assert float(rows[1]["local_max_steps"]) <= 0.51  # half a step, by the kernel's fixed-point factor


def test_a_run_of_ops_has_no_ops_name() -> None:
    record = OpRecord(3, "SOFTMAX", 0, "y", 9, (1, 4), "int8", "culprit")
    told = Culprit(record, Cause.KERNEL, None, certified=False).to_json()
    assert (told["op"], told["ops"], record.number) == ("4 ops", [0, 3], "#0-3")
    single = OpRecord(3, "SOFTMAX", 3, "y", 9, (1, 4), "int8", "culprit")
    assert (single.title, single.number) == ("SOFTMAX", "#3")


def test_the_line_of_an_op_that_was_not_judged_has_as_many_columns_as_any() -> None:
    record = OpRecord(3, "SOFTMAX", 3, "y", 9, (1, 4), "int8", "unread")
    assert dict(zip(OpRecord.HEADER, record.row(), strict=True)) == {
        "index": 3, "first": 3, "op": "SOFTMAX", "output": "y", "shape": "1x4", "dtype": "int8", "verdict": "unread",
        "reading": "copy", "local_max_abs": "", "local_rms": "", "expected_max_abs": "", "expected_rms": "",
        "ratio": "", "nonfinite": "", "cosine_vs_reference": 1.0, "max_abs_vs_reference": 0.0, "device_min": "",
        "device_max": "",
    }  # fmt: skip
