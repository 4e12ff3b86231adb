"""The verdict on each of the model's own outputs."""

from __future__ import annotations

from dataclasses import replace

from harness.core.arrays import Array
from harness.core.run_folder import TensorStore
from harness.localize.base.case import Case
from harness.localize.base.ideals import Ideals
from harness.localize.base.ranked import by_row
from harness.localize.base.reference import output_label
from harness.localize.base.result import OutputVerdict
from harness.numerics.metrics import mask_iou


def judge_outputs(
    case: Case, outputs: dict[str, Array], ideal: dict[str, Ideals], store: TensorStore
) -> tuple[OutputVerdict, ...]:
    """Each of the model's own outputs against the stored reference. The device's values are stored beside it."""
    for port in case.graph.outputs:
        store.put(output_label(port.name), "device", outputs[port.name], port.name)
    return judge_run(case, outputs, ideal, store)


def judge_run(
    case: Case, outputs: dict[str, Array], ideal: dict[str, Ideals], store: TensorStore
) -> tuple[OutputVerdict, ...]:
    """The same, of a run whose values are not kept."""
    exact = {port.name: store.get(output_label(port.name), "reference") for port in case.graph.outputs}
    verdicts = []
    for name in exact:
        verdict = _judged(case, name, outputs[name], ideal[name], exact[name])
        if (ranked := by_row(case, name, outputs, ideal, exact)) is not None:
            again = _judged(case, name, ranked.values, ranked.ideal, exact[name])
            # Figures stay those of the list as it came.
            judgement = replace(again.judgement, actual=verdict.judgement.actual)
            elsewhere = (ranked.moved, ranked.new)
            verdict = replace(again, judgement=judgement, iou=verdict.iou, rows=elsewhere if any(elsewhere) else None)
        verdicts.append(verdict)
    return tuple(verdicts)


def _judged(case: Case, name: str, actual: Array, ideal: Ideals, exact: Array) -> OutputVerdict:
    judgement = case.judge_output(name, actual, ideal, exact)
    short = case.shortfalls(name, actual, ideal, exact) if judgement.ok else ()
    return OutputVerdict(name, judgement, mask_iou(actual, exact), exact.dtype.kind != "f", shortfalls=short)
