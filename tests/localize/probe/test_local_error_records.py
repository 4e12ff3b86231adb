"""What a record says of a judged tensor, and which values stand for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.core.choices import Precision
from harness.core.job import Options
from harness.core.run_folder import TensorStore
from harness.graph.build import GraphBuilder
from harness.localize.base.case import Case
from harness.localize.base.op_record import OpRecord, OpVerdict
from harness.localize.base.reference import label_of, output_label
from harness.localize.probe.local_error import LocalError, Reading, _unclamped, by_key, plan
from harness.numerics.fp16 import LARGEST, SMALLEST_NORMAL
from harness.numerics.metrics import compare
from harness.numerics.tolerance import FACTOR, Granted, Judgement
from tests.arrays import f32
from tests.chains import chain
from tests.localize.planted import InProcess
from tests.quantized import QuantizedBuilder

MODEL = chain("ABS", "NEG", shape=(1, 2))
FIRST, LAST = (op.outputs[0] for op in MODEL.graph().ops)


def local_error(
    folder: Path, *, precision: Precision = "fp16", beyond: frozenset[int] = frozenset(), **more: Any
) -> LocalError:
    case = Case(MODEL, {"x": f32([[1, -2]])}, Options(precision=precision), timeout=60)
    return LocalError(InProcess(), case, TensorStore(folder), beyond, **more)


def judged(expected: float = 0.0, *, ok: bool = True, exact: Any = (1, 2), grid: float = 0.0) -> Judgement:
    right = compare(f32(exact), f32(exact))
    return Judgement(ok, 1.0, right, replace(right, max_abs=expected), grid=Granted(grid))


class TestRecord:
    READING = Reading(FIRST, "", (0,), (0,), None)

    def of(self, local: LocalError, device: Any, reference: Any, judgement: Judgement) -> OpRecord:
        label = label_of(local.case.graph, FIRST)
        local.store.put(label, "device", f32(device), "t")
        local.store.put(label, "reference", f32(reference), "t")
        return local._record(replace(self.READING, label=label), f32(device), judgement)

    @pytest.mark.parametrize(
        ("expected", "grid", "off", "verdict"),
        [
            (0.0, 0.0, FACTOR * SMALLEST_NORMAL, "fine"),
            (0.0, 0.0, FACTOR * SMALLEST_NORMAL + 2.0**-20, "inherited"),
            (0.25, 0.0, 4.0, "fine"),  # 16 times what is expected
            (0.25, 0.0, 4.0 + 2.0**-20, "inherited"),
            (0.25, 0.125, 2.0, "fine"),  # what a grid grants is no error to be taken 16 times
            (0.25, 0.125, 2.0 + 2.0**-20, "inherited"),
            (0.25, 0.0, np.nan, "inherited"),
        ],
    )
    def test_a_right_op_has_inherited_what_is_off_by_more_than_16_times_what_is_expected(
        self, tmp_path: Path, expected: float, grid: float, off: float, verdict: OpVerdict
    ) -> None:
        """Off the reference, of values that float32 holds to 2^-21."""
        judgement = judged(expected, grid=grid)
        record = self.of(local_error(tmp_path), [[0, off]], [[0, 0]], judgement)
        assert (record.verdict, record.local) == (verdict, judgement)
        assert record.reference_max_abs == (0 if np.isnan(off) else off)

    def test_it_has_the_facts_of_its_op_and_tensor(self, tmp_path: Path) -> None:
        record = self.of(local_error(tmp_path), [[1, 2]], [[1, 2]], judged())
        tensor = MODEL.graph().tensors[FIRST]
        assert record.reference_cosine == pytest.approx(1)
        assert replace(record, reference_cosine=1.0) == OpRecord(
            0, "ABS", 0, tensor.name, FIRST, (1, 2), "float32", "fine", judged(), 0.0, 1.0, "copy", None
        )

    @pytest.mark.parametrize(
        ("exact", "precision", "beyond", "verdict"),
        [
            ((1, 2), "fp16", frozenset(), "culprit"),
            ((1, LARGEST), "fp16", frozenset(), "culprit"),
            ((1, LARGEST + 32), "fp16", frozenset(), "inherited"),
            ((1, -LARGEST - 32), "fp16", frozenset(), "inherited"),
            ((1, LARGEST + 32), "fp32", frozenset(), "culprit"),
            ((1, LARGEST + 32), "fp16", frozenset({FIRST}), "culprit"),
            ((1, LARGEST + 32), "fp16", frozenset({LAST}), "inherited"),
        ],
    )
    def test_an_op_that_wrong_inputs_drove_out_of_the_range_is_no_culprit(
        self, tmp_path: Path, exact: Any, precision: Precision, beyond: frozenset[int], verdict: OpVerdict
    ) -> None:
        local = local_error(tmp_path, precision=precision, beyond=beyond)
        assert self.of(local, [[9, 9]], [[1, 2]], judged(ok=False, exact=exact)).verdict == verdict

    @pytest.mark.parametrize(("on_cpu", "verdict"), [({0}, "unread"), ({1}, "culprit"), ({0, 1}, "unread")])
    def test_an_op_that_the_cpu_ran_is_not_judged(self, tmp_path: Path, on_cpu: set[int], verdict: OpVerdict) -> None:
        local = local_error(tmp_path)
        local.case.__dict__["on_cpu"] = frozenset(on_cpu)
        record = self.of(local, [[9, 9]], [[1, 2]], judged(ok=False))
        assert record.verdict == verdict
        assert (record.local is None) == (verdict == "unread")


@pytest.mark.parametrize(("off", "verdict"), [(0.5, "fine"), (1.0, "inherited")])
def test_a_step_of_its_grid_is_nothing_that_was_inherited(tmp_path: Path, off: float, verdict: OpVerdict) -> None:
    """A step of 0.5, which integers may be off by."""
    graph = QuantizedBuilder()
    x = graph.quantized_input("x", (1, 2), 0.5)
    made = graph.sum_of(x, x, (0.5, 0))
    graph.output(made, "y")
    case = Case(graph.build(), {"x": np.asarray([[1, 2]], np.int8)}, Options(), timeout=60)
    grid = case.graph.tensors[made].grid
    local = LocalError(InProcess(), case, TensorStore(tmp_path), frozenset())
    local.store.put("t", "reference", np.asarray([[2, 4]], np.int8), "t")
    device = np.asarray([[2, 4 + int(off / 0.5)]], np.int8)
    local.store.put("t", "device", device, "t")
    record = local._record(Reading(made, "t", (0,), (x,), None), device, judged())
    assert grid is not None
    assert (record.verdict, record.reference_max_abs, record.grid) == (verdict, off, grid)


def test_the_caller_may_have_the_outputs_of_another_run(tmp_path: Path) -> None:
    local = local_error(tmp_path, own={"y": f32([[5, 6]])})
    local.store.put("stored", "device", f32([[1, 2]]), "t")
    own, other, copy = (Reading(LAST, "stored", (1,), (FIRST,), name) for name in ("y", "z", None))
    for reading, values in ((own, [[5, 6]]), (other, [[1, 2]]), (copy, [[1, 2]])):
        np.testing.assert_array_equal(local.actual(reading), values)
        np.testing.assert_array_equal(local.real(reading), values)


def test_the_error_is_the_devices_value_less_what_is_exact_for_its_own_inputs(tmp_path: Path) -> None:
    local = local_error(tmp_path)
    graph = local.case.graph
    local.store.put(label_of(graph, FIRST), "device", f32([[3, 4]]), "t")
    local.store.put(output_label("y"), "device", f32([[-2.5, -4]]), "y")
    reading = Reading(LAST, output_label("y"), (1,), (FIRST,), "y")
    np.testing.assert_array_equal(local.error(reading), [[0.5, 0]])
    fed = local.device_values([reading, Reading(FIRST, "", (0,), (0,), None)])
    assert list(fed) == ["t0", f"t{FIRST}"]
    np.testing.assert_array_equal(fed["t0"], [[1, -2]])
    np.testing.assert_array_equal(fed[f"t{FIRST}"], [[3, 4]])


def test_readings_are_judged_in_batches_and_the_share_done_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.localize.probe.local_error.ISLAND_TENSORS", 2)
    local = local_error(tmp_path)
    graph = local.case.graph
    for label in (label_of(graph, FIRST), output_label("y")):
        for side in ("device", "reference"):
            local.store.put(label, side, f32([[1, 2]] if label == label_of(graph, FIRST) else [[-1, -2]]), "t")
    told: list[float] = []
    records = list(local.judge(plan(graph, frozenset({FIRST})), told.append))
    assert [(r.index, r.verdict, r.reading) for r in records] == [(0, "fine", "copy"), (1, "fine", "output")]
    assert told == [0.5, 1.0]


def test_a_plan_is_in_graph_order_copies_before_outputs() -> None:
    graph = GraphBuilder()
    first = graph.unary("ABS", graph.input("x", (1, 2)))
    graph.output(graph.unary("NEG", first), "b")
    graph.output(first, "a")
    model = graph.build().graph()
    found = plan(model, frozenset({first}))
    assert [(r.op, r.feeds, r.from_output) for r in found] == [(0, (0,), None), (0, (0,), "a"), (1, (first,), "b")]
    assert by_key(found) == {(first, True): found[0], (first, False): found[1], (found[2].tensor, False): found[2]}


def test_an_output_that_nothing_computes_is_not_judged() -> None:
    """One is an input, one is folded from a constant."""
    graph = GraphBuilder()
    x = graph.input("x", (1, 2))
    graph.output(x, "given")
    graph.output(graph.unary("NEG", graph.constant([1.0, 2.0])), "folded")
    graph.output(graph.unary("ABS", x), "y")
    assert [r.from_output for r in plan(graph.build().graph(), frozenset())] == ["y"]


MOST = float(np.finfo(np.float32).max)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (f32([MOST, 1]), [np.inf, 1]),
        (f32([-MOST, 1]), [-np.inf, 1]),
        (f32([-np.inf, np.inf]), [-np.inf, np.inf]),
        (f32([np.nextafter(np.float32(MOST), np.float32(0)), 1]), None),
        (np.asarray([MOST, 1]), None),
        (f32([1, 2]), None),
    ],
)
def test_the_largest_float32_is_what_infinity_was_clamped_to(values: Any, expected: list[float] | None) -> None:
    found = _unclamped(values)
    if expected is None:
        assert found is values
    else:
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, f32(expected))
