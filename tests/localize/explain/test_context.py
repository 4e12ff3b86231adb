"""Neighbourhoods: readers first, then feeders, then both, ever wider, none twice."""

from __future__ import annotations

from harness.graph.build import GraphBuilder
from harness.graph.model import Graph
from harness.localize.explain.context import MOST_OPS, neighbourhoods


def line(count: int) -> Graph:
    graph = GraphBuilder()
    x = graph.input("x", (4,))
    for _ in range(count):
        x = graph.unary("TANH", x)
    graph.output(x, "y")
    return graph.build().graph()


def sets(graph: Graph, op: int) -> list[list[int]]:
    return [sorted(ops) for ops in neighbourhoods(graph, frozenset({op}))]


def test_readers_come_before_feeders_and_both_last() -> None:
    assert sets(line(7), 3)[:6] == [[3, 4], [2, 3], [2, 3, 4], [3, 4, 5], [1, 2, 3], [1, 2, 3, 4, 5]]


def test_each_set_comes_once_and_the_last_is_all_that_can_be_reached() -> None:
    found = sets(line(7), 3)
    assert len({tuple(ops) for ops in found}) == len(found)
    assert found[-1] == [0, 1, 2, 3, 4, 5, 6]


def test_at_an_end_of_the_graph_there_is_one_direction() -> None:
    assert sets(line(3), 0) == [[0, 1], [0, 1, 2]]
    assert sets(line(1), 0) == []


def test_constant_folded_ops_are_no_neighbours() -> None:
    graph = GraphBuilder()
    folded = graph.unary("NEG", graph.constant([1.0, 2.0]))
    graph.output(graph.unary("TANH", graph.binary("ADD", graph.input("x", (2,)), folded)), "y")
    assert sets(graph.build().graph(), 1) == [[1, 2]]


def test_a_crowd_is_no_neighbourhood() -> None:
    graph = GraphBuilder()
    x = graph.unary("TANH", graph.input("x", (4,)))
    for i in range(MOST_OPS + 1):
        graph.output(graph.unary("ABS", x), f"y{i}")
    assert sets(graph.build().graph(), 0) == []
