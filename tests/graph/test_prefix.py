"""A model up to some of its ops: what is left gives what it gave, and what was read by the rest is an output."""

from __future__ import annotations

import numpy as np

from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from harness.graph.prefix import without_ops
from tests.arrays import Evaluate, normal


def forked() -> Model:
    """#0 TANH feeds #1 RELU, whose result #2 ABS makes the output `y`, and #3 NEG, which is the output `side`."""
    graph = GraphBuilder()
    x = graph.unary("TANH", graph.input("x", (1, 8)), name="middle")
    graph.output(graph.unary("ABS", graph.unary("RELU", x)), "y")
    graph.output(graph.unary("NEG", x), "side")
    return graph.build()


def test_what_needs_the_op_is_gone_and_what_it_read_is_an_output(evaluate: Evaluate) -> None:
    part = without_ops(forked(), [1])
    assert part is not None
    assert [op.name for op in part.graph().ops] == ["TANH", "NEG"]
    values = {"x": normal((1, 8))}
    found = evaluate(part, values)
    assert set(found) == {"side", "middle"}
    assert (found["side"] == evaluate(forked(), values)["side"]).all()
    assert (found["side"] == -found["middle"]).all()


def test_an_op_at_the_end_leaves_the_rest(evaluate: Evaluate) -> None:
    part = without_ops(forked(), [3])
    assert part is not None
    assert [op.name for op in part.graph().ops] == ["TANH", "RELU", "ABS"]
    assert [port.name for port in part.graph().outputs] == ["y", "middle"]


def test_nothing_comes_before_the_first_op_and_after_it() -> None:
    assert without_ops(forked(), [0]) is None


def test_a_tensor_named_like_a_lost_output_gets_another_name() -> None:
    graph = GraphBuilder()
    x = graph.unary("TANH", graph.input("x", (1, 8)), name="y")
    graph.output(graph.unary("ABS", x), "y")
    part = without_ops(graph.build(), [1])
    assert part is not None
    assert [port.name for port in part.graph().outputs] == ["y~2"]


def test_weights_that_only_the_rest_reads_are_no_outputs() -> None:
    graph = GraphBuilder()
    x = graph.unary("TANH", graph.input("x", (1, 8)), name="middle")
    graph.output(graph.binary("MUL", x, graph.dequantize(np.ones((1, 8), np.float32))), "y")
    part = without_ops(graph.build(), [2])
    assert part is not None
    assert [port.name for port in part.graph().outputs] == ["middle"]
