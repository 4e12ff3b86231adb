"""The float32 oracle is plain rounding to 20 bits, op by op, of all that it can round."""

from __future__ import annotations

import numpy as np
import pytest

from harness.graph.build import GraphBuilder
from harness.numerics.fp16 import FLOAT32_ROUNDOFF
from harness.numerics.fp32 import LARGEST, oracle
from tests.arrays import Evaluate, f32, normal


def test_every_result_keeps_twenty_bits_and_the_nearest_of_those(evaluate: Evaluate) -> None:
    graph = GraphBuilder()
    graph.output(graph.unary("ABS", graph.input("x", (1, 4096))), "y")
    x = np.abs(normal((1, 4096), 1))
    got = evaluate(oracle(graph.build()), {"x": x})["y"]
    mantissa, _ = np.frexp(got.astype(np.float64))
    assert np.array_equal(np.ldexp(mantissa, 20) % 1, np.zeros_like(x, np.float64))
    off = np.abs(got.astype(np.float64) / x - 1).max()
    assert 0.9 * FLOAT32_ROUNDOFF < off <= FLOAT32_ROUNDOFF


@pytest.mark.parametrize("mask", [-1e38, -3.4e38])
def test_what_the_rounding_itself_would_overflow_is_left_as_it_is(evaluate: Evaluate, mask: float) -> None:
    """An attention mask of the most negative float32: 17 times that is infinite, and infinity less infinity is NaN."""
    graph = GraphBuilder()
    masked = graph.binary("ADD", graph.input("x", (1, 3)), graph.constant(f32([0, mask, 0])))
    graph.output(masked, "masked")
    graph.output(graph.softmax(masked), "y")
    assert abs(mask) > LARGEST
    got = evaluate(oracle(graph.build(), frozenset([masked])), {"x": f32([[1, 2, 1]])})
    assert got["y"].tolist() == [[0.5, 0, 0.5]]
    assert got["masked"].tolist() == f32([[1, mask, 1]]).tolist()


def test_the_largest_value_that_is_rounded_comes_out_finite(evaluate: Evaluate) -> None:
    graph = GraphBuilder()
    graph.output(graph.unary("ABS", graph.input("x", (1, 1))), "y")
    got = evaluate(oracle(graph.build()), {"x": f32([[LARGEST]])})["y"].item()
    assert got == pytest.approx(LARGEST, rel=FLOAT32_ROUNDOFF)
