"""What an output may be off by: as a model's where errors of several ops meet, as an op's where one alone makes it."""

from __future__ import annotations

import numpy as np
import pytest

from harness.core.job import Options
from harness.graph.build import GraphBuilder
from harness.graph.inputs import random_inputs
from harness.graph.model import Model
from harness.localize.base.case import Case
from harness.numerics.tolerance import FACTOR, LOCAL_FACTOR


def two_outputs() -> Model:
    """`one` is a TANH of x, moved about; `two` a TANH of that."""
    graph = GraphBuilder()
    x = graph.reshape(graph.input("x", (1, 64)), (8, 8))
    one = graph.transpose(graph.unary("TANH", x), (1, 0))
    graph.output(one, "one")
    graph.output(graph.unary("TANH", one), "two")
    return graph.build()


def case() -> Case:
    model = two_outputs()
    return Case(model, random_inputs(model.graph(), 0), Options(), timeout=60)


def test_moving_elements_is_no_computing() -> None:
    assert case().made_by_one_op == {"one"}


@pytest.mark.parametrize(("name", "limit"), [("one", LOCAL_FACTOR), ("two", FACTOR)])
def test_an_output_is_held_to_the_limit_of_what_makes_it(name: str, limit: float) -> None:
    exact = np.linspace(1, 2, 64, dtype=np.float32).reshape(8, 8)
    step = np.float32(2.0**-9)
    for times, ok in ((0.9 * limit, True), (1.1 * limit, False)):
        judgement = case().judge_output(name, exact + np.float32(times) * step, [exact + step], exact)
        assert judgement.ok is ok
        assert judgement.ratio == pytest.approx(times, rel=1e-3)
