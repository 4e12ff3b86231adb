"""Ops kept on the CPU: the parts, run one after another, compute what the whole did."""

from __future__ import annotations

import numpy as np
import pytest

from harness.graph.build import GraphBuilder
from harness.graph.inputs import random_inputs
from harness.graph.model import Model
from harness.graph.rebuild import CannotRewrite
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


def side_by_side() -> Model:
    """4 ops: a = f(x), b = g(x), c = h(b), and a · c."""
    graph = GraphBuilder()
    x = graph.input("x", (4, 8))
    a, b = graph.unary("TANH", x), graph.unary("EXP", x)
    graph.output(graph.binary("MUL", a, graph.unary("ABS", b)), "y")
    return graph.build()


def run(model: Model, ops: set[int], evaluate: Evaluate) -> list[tuple[str, int]]:
    """Where each part runs and how many ops it has; in turns they compute what the whole does."""
    chain = split_off(model, frozenset(ops))
    inputs = random_inputs(model.graph(), 0)
    values = {inside: inputs[name] for name, inside in chain.inputs.items()}
    for part in chain.parts:
        values |= evaluate(part.model, {p.name: values[p.name] for p in part.model.graph().inputs})
    right = evaluate(model, inputs)
    assert set(chain.outputs) == set(right)
    assert all(np.array_equal(values[inside], right[name]) for name, inside in chain.outputs.items())
    return [(part.on, len(part.model.graph().ops)) for part in chain.parts]


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
    parts = run(branched(), ops, evaluate)
    assert [on for on, _ in parts] == order
    assert sum(count for _, count in parts) == 6


@pytest.mark.parametrize(
    ("ops", "parts"),
    [
        ({0, 2}, [("gpu", 1), ("cpu", 2), ("gpu", 1)]),  # #1 waits for nothing
        ({0}, [("gpu", 2), ("cpu", 1), ("gpu", 1)]),
        ({1}, [("gpu", 1), ("cpu", 1), ("gpu", 2)]),
        ({0, 1, 2}, [("cpu", 3), ("gpu", 1)]),
    ],
)
def test_what_reads_the_input_alone_waits_for_no_other_part(
    ops: set[int], parts: list[tuple[str, int]], evaluate: Evaluate
) -> None:
    assert run(side_by_side(), ops, evaluate) == parts


def test_what_is_made_of_constants_goes_with_what_reads_it(evaluate: Evaluate) -> None:
    graph = GraphBuilder()
    half = graph.dequantize(np.full((4, 8), 0.5, np.float32))
    graph.output(graph.unary("ABS", graph.binary("MUL", graph.input("x", (4, 8)), half)), "y")
    assert run(graph.build(), {2}, evaluate) == [("gpu", 2), ("cpu", 1)]


def test_a_model_that_would_be_on_the_cpu_entirely_is_not_split() -> None:
    with pytest.raises(CannotRewrite, match="nothing would be left"):
        split_off(branched(), frozenset(range(6)))
