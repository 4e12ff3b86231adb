"""An explainer of hand-made culprits that asks nothing by itself, and rewrites that do nothing."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np

from harness.core.choices import Accelerator, Precision
from harness.core.job import Options, Residency
from harness.core.progress import Silent
from harness.core.run_folder import RunFolder, TensorStore
from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from harness.localize.base.case import Case
from harness.localize.base.comparison import Workbench
from harness.localize.base.op_record import OpRecord
from harness.localize.base.result import Culprit, Localization, ModelFacts
from harness.localize.explain.explainer import _Explainer
from harness.localize.explain.investigate import Investigator
from harness.localize.probe.tensor_values import TensorValues
from harness.numerics.metrics import compare
from harness.numerics.tolerance import LOCAL_FACTOR, Judgement
from harness.remedies.catalogue import Rewrite
from harness.remedies.cause import Cause
from tests.arrays import f32
from tests.localize.planted import InProcess

RIGHT = compare(f32([1]), f32([1]))


class Hears(Silent):
    def __init__(self) -> None:
        self.told: list[tuple[str, float]] = []

    def stage(self, what: str, expected_seconds: float) -> None:
        self.told.append((what, expected_seconds))


def model_of() -> Model:
    """ABS #0, NEG #1, ABS #2 and NEG #3 on [1, 8], ABS #4 on [8] and NEG #5."""
    graph = GraphBuilder()
    t = graph.input("x", (1, 8))
    for kind in ("ABS", "NEG", "ABS", "NEG"):
        t = graph.unary(kind, t)
    t = graph.unary("NEG", graph.unary("ABS", graph.reshape(t, (8,))))
    graph.output(t, "y")
    return graph.build()


MODEL = model_of()
OPS = [op.index for op in MODEL.graph().ops if op.name != "RESHAPE"]


def judged(ratio: float) -> Judgement:
    return Judgement(ratio <= LOCAL_FACTOR, ratio, RIGHT, RIGHT)


def culprit(op: int, ratio: float | None = 100.0, cause: str = "kernel", first: int | None = None) -> Culprit:
    graph = MODEL.graph()
    tensor = graph.tensors[graph.ops[op].outputs[0]]
    local = None if ratio is None else judged(ratio)
    record = OpRecord(
        op, graph.ops[op].name, op if first is None else first, tensor.name, tensor.index, tensor.shape or (),
        "float32", "culprit", local,
    )  # fmt: skip
    return Culprit(record, Cause(cause), None, certified=True)


class Explains(_Explainer):
    """An explainer of hand-made culprits that has asked nothing yet."""

    def __init__(
        self,
        *culprits: Culprit,
        accelerator: Accelerator = "gpu",
        precision: Precision = "fp16",
        folder: Path | None = None,
    ) -> None:
        self.progress = Hears()
        run = cast(RunFolder, type("Run", (), {"path": folder or Path("run")})())
        bench = Workbench(InProcess("phone"), InProcess(), run, self.progress)
        case = Case(MODEL, {"x": np.ones((1, 8), np.float32)}, Options(accelerator, precision=precision), timeout=60)
        answer = Localization(
            ModelFacts("m.tflite", "0", 7), {"gpu": "Mali", "runtime": "2.3.0"}, "culprits", True, (), culprits, (),
            Residency(True), 1, 1, 0.0,
        )  # fmt: skip
        super().__init__(bench, case, answer)
        self.answer = answer
        store = TensorStore(folder or Path("none"))
        known = TensorValues(case, store, store, {}, frozenset())
        self.investigator = Investigator(self.experiments, known, culprits)


def rewrite(name: str) -> Rewrite:
    return Rewrite(name, lambda *_: MODEL)


A, B, C, D = (rewrite(name) for name in "ABCD")
