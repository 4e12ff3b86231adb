"""Which ops the GPU delegate runs of a graph that it does not take whole: TFLite's rule, on graphs drawn by hand."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

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


@pytest.mark.parametrize("unsupported", [frozenset[int](), frozenset({0})])
def test_an_op_that_waits_for_what_nothing_makes_is_an_error(unsupported: frozenset[int]) -> None:
    """Each of two ops reads what the other one makes."""
    graph = GraphBuilder()
    x = graph.input("x", (1, 8))
    first = graph.binary("ADD", x, x)
    second = graph.binary("ADD", first, x)
    graph.output(second, "y")
    model = graph.build()
    model.root.subgraphs[0].operators[0].inputs = np.asarray([second, x], np.int32)
    with pytest.raises(ValueError, match="op 0 waits for a tensor that nothing makes"):
        subsets(model.graph(), unsupported)


def test_ops_that_stand_in_the_file_before_what_they_read_wait_for_it() -> None:
    model = chain("RELU", "ABS", "NEG")
    model.root.subgraphs[0].operators.reverse()
    found = model.graph()
    assert subsets(found, frozenset()) == [(0, 1, 2)]
    assert subsets(found, frozenset({1})) == [(2,), (0,)]


@pytest.mark.parametrize(("dtype", "constant", "unpacked"), [
    (np.float16, True, {0}), (np.float16, False, set()), (np.int8, True, set()),
])  # fmt: skip
def test_only_a_float16_constant_is_a_weight_to_unpack(dtype: type, constant: bool, unpacked: set[int]) -> None:
    graph = GraphBuilder()
    x = graph.input("x", (1, 8))
    held = graph.constant(np.ones((1, 8), dtype)) if constant else graph.input("w", (1, 8), dtype)
    made = graph.op("DEQUANTIZE", [held], (1, 8), schema.DequantizeOptionsT(), dtype=np.float32)
    graph.output(graph.binary("ADD", x, made), "y")
    assert half_weights(graph.build().graph()) == unpacked


def test_of_three_pieces_two_that_are_equal_matter_if_they_are_the_largest() -> None:
    assert delegated(relus(9), frozenset({1, 3})) == (4, 5, 6, 7, 8)
    assert delegated(relus(9), frozenset({1, 5})) is None
