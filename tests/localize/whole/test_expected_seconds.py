"""What a search expects of its stages: seconds, of a small model few, of which the time left is made."""

from __future__ import annotations

from pathlib import Path

from harness.core.job import Options
from harness.core.run_folder import RunFolder
from harness.graph.build import GraphBuilder
from harness.graph.inputs import random_inputs
from harness.localize.base.case import Case
from harness.localize.base.comparison import Workbench
from harness.localize.explain.explainer import explain
from harness.localize.find.localizer import localize
from tests.localize.broken import Broken, rolled
from tests.localize.explains import Hears
from tests.localize.planted import InProcess


def test_each_stage_of_a_small_model_expects_more_than_no_time_and_less_than_a_minute(tmp_path: Path) -> None:
    graph = GraphBuilder()
    t = graph.input("x", (4, 64))
    for kind in ("ABS", "TANH", "NEG", "TANH", "ABS"):
        t = graph.unary(kind, t)
    graph.output(graph.softmax(t), "y")
    model = graph.build()
    case, heard = Case(model, random_inputs(model.graph(), 0), Options(), timeout=60), Hears()
    with RunFolder.create(tmp_path, "localize", "broken", "device") as folder:
        bench = Workbench(Broken(rolled("SOFTMAX")), InProcess(), folder, heard)
        explain(bench, case, localize(bench, case))
    told = dict(heard.told)
    assert {"reference on the host CPU", "suspects read a second way"} <= set(told)
    assert {what: seconds for what, seconds in told.items() if not 0 < seconds < 60} == {}
