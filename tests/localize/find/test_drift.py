"""Two compiles of one model round otherwise: values of one run are judged together, and drift by itself is no doubt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.core.arrays import Array
from harness.core.job import Job, Options
from harness.core.run_folder import RunFolder, TensorStore
from harness.graph.build import GraphBuilder
from harness.graph.inputs import random_inputs
from harness.graph.model import Model, Op
from harness.graph.rebuild import Rebuild
from harness.localize.base.case import Case
from harness.localize.base.comparison import Workbench
from harness.localize.base.reference import output_label
from harness.localize.base.result import Localization
from harness.localize.find.localizer import localize
from harness.localize.probe.local_error import LocalError, plan
from tests.localize.broken import Broken
from tests.localize.planted import InProcess

RNG = np.random.default_rng(3)
TABLE = RNG.standard_normal((256, 16)).astype(np.float32)
STEPS = 4
"""Ops in a row that drift, each by less than an op may be off, all together by more than two readings may differ."""


def placed(*, steps: int = STEPS) -> Model:
    """Values plus a table, some gentle ops, then weights times them over 256 places."""
    graph = GraphBuilder()
    x = graph.binary("ADD", graph.input("x", (1, 256, 16)), graph.constant(TABLE[None]))
    for _ in range(steps):
        x = graph.unary("RELU", x)
    graph.output(graph.batch_matmul(graph.input("w", (1, 4, 256)), x), "y")
    return graph.build()


class Drifting(Broken):
    """Reads row 0 of a table for all rows where it is `misplaced`; its products over 256 terms lose digits; and where
    tensors are read in one of the `ways`, RELU is off by `drift` of itself."""

    def __init__(self, drift: float, *, misplaced: bool = True, ways: tuple[str, ...] = ("direct",)) -> None:
        super().__init__(self._fault)
        self.drift, self.misplaced, self.ways, self.drifts = drift, misplaced, ways, False

    def prepared(self, job: Job) -> bytes:
        graph = Model.from_bytes(job.model).graph()
        makers = {graph.ops[graph.producer[p.tensor]].name for p in graph.outputs if p.name.startswith("tap_")}
        seen = {"copy": "RESHAPE" in makers, "direct": bool(makers - {"RESHAPE"})}
        self.drifts = any(seen[way] for way in self.ways)
        return super().prepared(job)

    def _fault(self, rebuild: Rebuild, op: Op) -> int | None:
        if op.name == "ADD" and self.misplaced and rebuild.graph.tensors[op.inputs[1]].constant:
            return rebuild.binary("ADD", op.inputs[0], rebuild.constant(TABLE[None, :1]))
        if op.name == "RELU" and self.drifts and self.drift:
            return rebuild.binary("MUL", op.outputs[0], rebuild.constant([1 + self.drift]))
        if op.name == "BATCH_MATMUL":
            noise = 1 + 0.2 * np.random.default_rng(3).uniform(-1, 1, rebuild.shape(op.outputs[0]))
            return rebuild.binary("MUL", op.outputs[0], rebuild.constant(noise.astype(np.float32)))
        return None


def found(device: Broken, folder: Path) -> Localization:
    model = placed()
    case = Case(model, random_inputs(model.graph(), 0), Options(), timeout=60)
    with RunFolder.create(folder, "localize", "drift", device.name) as run:
        return localize(Workbench(device, InProcess(), run), case)


@pytest.mark.parametrize("drift", [0.0, 0.003])
def test_a_fault_that_shows_likewise_in_a_run_that_rounds_otherwise_is_certified(tmp_path: Path, drift: float) -> None:
    answer = found(Drifting(drift), tmp_path)
    assert [(c.record.op, c.certified, c.note) for c in answer.culprits] == [
        ("ADD", True, ""),
        ("BATCH_MATMUL", True, ""),
    ]
    assert answer.certified


def test_an_output_that_tapping_moves_by_a_part_of_its_own_error_is_still_the_untouched_models(tmp_path: Path) -> None:
    answer = found(Drifting(0.003, ways=("copy",)), tmp_path)
    assert [c.record.op for c in answer.culprits] == ["ADD", "BATCH_MATMUL"]
    assert answer.certified
    assert not [note for note in answer.notes if "Tapping changed" in note]


def test_an_output_that_tapping_makes_wrong_in_another_way_is_not(tmp_path: Path) -> None:
    answer = found(Drifting(0.5, ways=("copy",)), tmp_path)
    assert not answer.certified
    assert [note for note in answer.notes if "Tapping changed output 'y'" in note]


def test_where_the_first_reading_is_right_the_second_is_no_drift_of_it(tmp_path: Path) -> None:
    """Nothing is wrong before the product here, so a second reading that is off by a percent is a doubtful one."""
    answer = found(Drifting(0.003, misplaced=False), tmp_path)
    (culprit,) = answer.culprits
    assert (culprit.record.op, culprit.certified) == ("BATCH_MATMUL", False)
    assert "reads differently from the copy tap" in culprit.note


def test_an_own_output_is_judged_by_the_run_that_gave_what_feeds_it(tmp_path: Path) -> None:
    graph = GraphBuilder()
    graph.output(graph.unary("NEG", graph.unary("TANH", graph.input("x", (1, 64)))), "y")
    model = graph.build()
    case = Case(model, random_inputs(model.graph(), 0), Options(), timeout=60)
    fed = np.tanh(case.inputs["x"])
    untouched, tapped = -fed * np.float32(1.02), -fed

    def verdict(own: dict[str, Array]) -> str:
        store = TensorStore(tmp_path / "tensors")
        for label, values in (("0000-TANH", fed), (output_label("y"), untouched)):
            store.put(label, "device", values, "t")
            store.put(label, "reference", values, "t")
        local = LocalError(InProcess(), case, store, frozenset(), own)
        (reading,) = [r for r in plan(model.graph(), frozenset({model.graph().ops[0].outputs[0]})) if r.from_output]
        (record,) = local.judge([reading])
        return record.verdict

    assert verdict({}) == "culprit"
    assert verdict({"y": tapped}) in ("fine", "inherited")
