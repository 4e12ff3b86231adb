"""Rewrites on which no digits cancel mean the same in real arithmetic, and say so where they do not apply."""

from __future__ import annotations

import numpy as np
import pytest

from harness.graph.build import GraphBuilder
from harness.graph.inputs import random_inputs
from harness.graph.rebuild import CannotRewrite
from harness.remedies.catalogue import COMPLEMENT, FACTORED, Rewrite
from tests.arrays import Evaluate
from tests.remedies.small import Build, one_op


def complement(graph: GraphBuilder, one: float = 1.0) -> int:
    return graph.binary("SUB", graph.constant([one]), graph.unary("LOGISTIC", graph.input("x", (4, 8))))


def multiples(graph: GraphBuilder, kind: str = "SUB", *, bare: bool = False) -> int:
    x = graph.input("x", (4, 8))
    first = graph.binary("MUL", x, graph.constant([3.0]))
    return graph.binary(kind, first, x if bare else graph.binary("MUL", graph.constant([2.5]), x))


@pytest.mark.parametrize(
    ("rewrite", "build", "op", "kinds"),
    [
        (COMPLEMENT, complement, 1, ["NEG", "LOGISTIC"]),
        (FACTORED, multiples, 2, ["MUL"]),
        (FACTORED, lambda g: multiples(g, "ADD"), 2, ["MUL"]),
        (FACTORED, lambda g: multiples(g, bare=True), 1, ["MUL"]),
    ],
    ids=["complement", "difference", "sum", "one of them bare"],
)
def test_the_same_value_without_the_difference(
    rewrite: Rewrite, build: Build, op: int, kinds: list[str], evaluate: Evaluate
) -> None:
    model = one_op(build)
    rewritten = rewrite.apply(model, frozenset({op}), {})
    assert [o.name for o in rewritten.graph().ops] == kinds
    inputs = random_inputs(model.graph(), 0)
    # 1 - LOGISTIC(x) is off by half a float32 step of 1, the multiples of a few by one of theirs.
    np.testing.assert_allclose(evaluate(rewritten, inputs)["y"], evaluate(model, inputs)["y"], atol=2.0**-20)


def test_the_complement_keeps_digits_that_the_difference_loses(evaluate: Evaluate) -> None:
    rewritten = COMPLEMENT.apply(one_op(complement), frozenset({1}), {})
    x = np.full((4, 8), 30.0, np.float32)
    np.testing.assert_allclose(evaluate(rewritten, {"x": x})["y"], np.exp(-30.0), rtol=1e-5)
    assert (evaluate(one_op(complement), {"x": x})["y"] == 0).all()


@pytest.mark.parametrize(
    ("rewrite", "build", "op", "why"),
    [
        (COMPLEMENT, lambda g: complement(g, 2.0), 1, "not 1 - LOGISTIC"),
        (COMPLEMENT, multiples, 2, "not 1 - LOGISTIC"),
        (FACTORED, complement, 1, "no multiples of one tensor"),
        (FACTORED, lambda g: g.unary("TANH", g.input("x", (4, 8))), 0, "no sum of two multiples"),
    ],
)
def test_what_they_do_not_know_they_say(rewrite: Rewrite, build: Build, op: int, why: str) -> None:
    with pytest.raises(CannotRewrite, match=why):
        rewrite.apply(one_op(build), frozenset({op}), {})
