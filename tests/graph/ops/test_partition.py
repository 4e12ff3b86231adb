"""Which ops the GPU delegate runs of a graph that it does not take whole: TFLite's rule, on graphs drawn by hand."""

from __future__ import annotations

import numpy as np

from harness.graph.build import GraphBuilder
from harness.graph.model import Graph
from harness.graph.ops.partition import delegated, half_weights, subsets
from tests.chains import chain


def relus(length: int) -> Graph:
    return chain(*["RELU"] * length).graph()


def two_branches() -> Graph:
    """#0 feeds #1, #2 and #3, #4, which #5 joins."""
    graph = GraphBuilder()
    x = graph.unary("RELU", graph.input("x", (1, 8)))
    left = graph.unary("TANH", graph.unary("ABS", x))
    right = graph.unary("NEG", graph.unary("EXP", x))
    graph.output(graph.binary("ADD", left, right), "y")
    return graph.build().graph()


def test_a_chain_is_cut_where_an_op_is_not_taken() -> None:
    assert subsets(relus(7), frozenset({2, 5})) == [(0, 1), (3, 4), (6,)]


def test_the_delegate_takes_the_largest_piece_alone() -> None:
    assert delegated(relus(7), frozenset({2})) == (3, 4, 5, 6)
    assert delegated(relus(3), frozenset()) == (0, 1, 2)
    assert delegated(relus(2), frozenset({0, 1})) == ()


def test_of_two_pieces_of_one_size_it_is_not_known_which() -> None:
    assert delegated(relus(5), frozenset({2})) is None


def test_a_branch_beside_the_op_that_is_not_taken_stays_with_what_comes_before() -> None:
    assert subsets(two_branches(), frozenset({1})) == [(0, 3, 4), (2, 5)]
    assert delegated(two_branches(), frozenset({1})) == (0, 3, 4)


def test_float16_weights_are_unpacked_on_the_cpu_once_anything_else_is() -> None:
    graph = GraphBuilder()
    x = graph.input("x", (1, 8))
    for _ in range(3):
        x = graph.binary("MUL", x, graph.dequantize(np.ones((1, 8), np.float32)))
    graph.output(graph.unary("TANH", x), "y")
    found = graph.build().graph()
    assert half_weights(found) == {0, 2, 4}
    assert delegated(found, frozenset()) == (0, 1, 2, 3, 4, 5, 6)
    assert delegated(found, frozenset({6})) == (1, 3, 5)
