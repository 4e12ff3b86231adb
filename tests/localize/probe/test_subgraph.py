"""Specimens with less in them: one op fewer, one result fewer."""

from __future__ import annotations

import numpy as np

from harness.graph.build import GraphBuilder
from harness.localize.probe.experiment import Specimen
from harness.localize.probe.subgraph import fewer_outputs
from tests.arrays import normal
from tests.chains import chain


def test_what_only_a_result_left_out_needs_goes_with_it() -> None:
    """ABS #0 is read by NEG #1, the first result, and by SQUARE #2, the second."""
    graph = GraphBuilder()
    x = graph.unary("ABS", graph.input("x", (1, 8)))
    graph.output(graph.unary("NEG", x), "negative")
    graph.output(graph.unary("SQUARE", x), "square")
    specimen = Specimen(graph.build(), {"x": normal((1, 8))})
    less = fewer_outputs(specimen, "negative")
    assert less is not None
    assert [op.name for op in less.model.graph().ops] == ["ABS", "SQUARE"]
    assert len(less.model.graph().outputs) == 1
    (given,) = less.inputs.values()
    np.testing.assert_array_equal(given, specimen.inputs["x"])


def test_the_last_result_stays() -> None:
    model = chain("ABS", "NEG")
    (port,) = model.graph().outputs
    inputs = {p.name: normal((4, 16)) for p in model.graph().inputs}
    assert fewer_outputs(Specimen(model, inputs), port.name) is None
