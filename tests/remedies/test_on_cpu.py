"""Ops kept on the CPU: the parts, run one after another, compute what the whole did."""

from __future__ import annotations

import numpy as np
import pytest

from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from harness.graph.rebuild import CannotRewrite
from harness.inputs import random_inputs
from harness.remedies.on_cpu import split_off
from tests.arrays import Evaluate


def branched() -> Model:
    """6 ops: a, b = f(a), c = g(a), d = b + c, e = h(d) beside an output a."""
    graph = GraphBuilder()
    a = graph.unary("TANH", graph.input("x", (4, 8)))
    b, c = graph.unary("EXP", a), graph.unary("ABS", a)
    d = graph.unary("SQRT", graph.binary("ADD", b, c))
    graph.output(graph.binary("MUL", d, a), "y")
    graph.output(a, "a")
    return graph.build()


@pytest.mark.parametrize(
    ("ops", "order"),
    [
        ({0}, ["cpu", "gpu"]),
        ({3}, ["gpu", "cpu", "gpu"]),
        ({1, 4}, ["gpu", "cpu", "gpu", "cpu", "gpu"]),
        ({5}, ["gpu", "cpu"]),
        ({1, 2, 3}, ["gpu", "cpu", "gpu"]),
    ],
)
def test_the_parts_in_turn_are_the_whole(ops: set[int], order: list[str], evaluate: Evaluate) -> None:
    model = branched()
    chain = split_off(model, frozenset(ops))
    assert [part.on for part in chain.parts] == order
    assert sum(len(part.model.graph().ops) for part in chain.parts) == 6
    inputs = random_inputs(model.graph(), 0)
    values = {inside: inputs[name] for name, inside in chain.inputs.items()}
    for part in chain.parts:
        values |= evaluate(part.model, {p.name: values[p.name] for p in part.model.graph().inputs})
    right = evaluate(model, inputs)
    assert set(chain.outputs) == set(right)
    assert all(np.array_equal(values[inside], right[name]) for name, inside in chain.outputs.items())


def test_a_model_that_would_be_on_the_cpu_entirely_is_not_split() -> None:
    with pytest.raises(CannotRewrite, match="nothing would be left"):
        split_off(branched(), frozenset(range(6)))
