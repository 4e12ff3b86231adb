"""The edges of what is cut out of a graph, the places to cut it, and the whole of it in parts."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from harness.graph.ops.cuts import Cut, cut, live_cuts, parts
from tests.chains import diamond, forked

FORKED = forked()
X = FORKED.graph().inputs[0].tensor
ABS, NEG, EXP, ADD = (op.outputs[0] for op in FORKED.graph().ops)


@pytest.mark.parametrize(
    ("ops", "feeds", "results"),
    [
        ((0,), (X,), (ABS,)),
        ((0, 1), (X,), (ABS, NEG)),  # what is read inside and outside is a result
        ((1, 2), (ABS,), (EXP,)),  # what is read inside only is none
        ((0, 1, 2), (X,), (ABS, EXP)),
        ((2, 3), (NEG, ABS), (EXP, ADD)),  # an output that is read inside is a result all the same
        ((0, 1, 2, 3), (X,), (EXP, ADD)),
    ],
)
def test_a_window_reads_what_others_make_and_gives_what_others_read(
    ops: tuple[int, ...], feeds: tuple[int, ...], results: tuple[int, ...]
) -> None:
    assert cut(FORKED.graph(), ops) == Cut(ops, feeds, results)


def test_constants_and_what_is_folded_into_them_feed_no_window() -> None:
    graph = GraphBuilder()
    weights = graph.dequantize(np.ones((1, 8), np.float32))
    scaled = graph.binary("MUL", graph.input("x", (1, 8)), weights)
    graph.output(graph.binary("ADD", scaled, graph.constant(np.ones(8, np.float32))), "y")
    view = graph.build().graph()
    _, multiply, add = view.ops
    (x,) = (port.tensor for port in view.inputs)
    assert cut(view, (1, 2)) == Cut((1, 2), (x,), (add.outputs[0],))
    assert cut(view, (1,)) == Cut((1,), (x,), (multiply.outputs[0],))


def test_an_input_that_is_left_out_feeds_no_window() -> None:
    graph = GraphBuilder()
    graph.output(graph.fully_connected(graph.input("x", (1, 4)), np.eye(4, dtype=np.float32)), "y")
    view = graph.build().graph()
    (op,) = view.ops
    (x,) = (port.tensor for port in view.inputs)
    assert cut(replace(view, ops=(replace(op, inputs=(x, op.inputs[1], -1)),)), (0,)).feeds == (x,)


def test_a_cut_holds_what_is_read_behind_it() -> None:
    graph = diamond().graph()
    made = [op.outputs[0] for op in graph.ops]
    assert live_cuts(graph) == {0: (made[0],), 1: (made[0], made[1]), 2: (made[1], made[2])}


def test_an_output_stays_alive_to_the_end() -> None:
    graph = GraphBuilder()
    a = graph.unary("TANH", graph.input("x", (1, 8)))
    graph.output(a, "a")
    b = graph.unary("RELU", a)
    graph.output(graph.unary("ABS", b), "y")
    assert live_cuts(graph.build().graph()) == {0: (a,), 1: (a, b)}


def layers(*widths: int) -> Model:
    """Fully connected layers of these widths with a TANH each, on 4 rows."""
    graph = GraphBuilder()
    hidden = graph.input("x", (1, 4, widths[0]))
    for before, after in pairwise(widths):
        hidden = graph.unary("TANH", graph.fully_connected(hidden, np.ones((after, before), np.float32)))
    graph.output(hidden, "y")
    return graph.build()


def ends(model: Model, count: int) -> list[tuple[int, int]]:
    return [(part.ops[0], part.ops[-1]) for part in parts(model.graph(), count)]


def test_parts_are_the_whole_graph_in_order_with_about_as_much_work_each() -> None:
    even = layers(*[64] * 9)
    assert ends(even, 1) == [(0, 15)]
    found = ends(even, 4)
    assert [first for first, _ in found] == [0, *(last + 1 for _, last in found[:-1])]
    assert found[-1][1] == 15
    assert all(3 <= last - first + 1 <= 5 for first, last in found)
    # The first layer is three quarters of the work: the second half begins behind it, whatever the number of ops.
    (first, *_) = ends(layers(64, 192, 16, 16, 16, 16, 16), 2)
    assert first in ((0, 0), (0, 1))
    # Of an op with more work than several parts should have, the rest is not cut to pieces in exchange.
    assert ends(layers(64, 192, 4, 4, 4, 4, 4), 4) in ([(0, 0), (1, 11)], [(0, 1), (2, 11)])


def test_a_part_is_fed_with_what_others_made_and_what_cannot_be_cut_stays_together() -> None:
    graph = diamond().graph()
    relu = graph.ops[1].outputs[0]
    tanh = graph.ops[0].outputs[0]
    assert parts(graph, 2) == (cut(graph, (0, 1)), cut(graph, (2, 3)))
    assert set(parts(graph, 2)[1].feeds) == {tanh, relu}
    two = GraphBuilder()
    flags = two.binary("GREATER", two.input("x", (1, 8)), two.constant(np.zeros(8, np.float32)))
    two.output(flags, "y")
    assert len(parts(two.build().graph(), 5)) == 1


def test_an_output_made_early_is_a_result_of_the_part_that_makes_it() -> None:
    graph = GraphBuilder()
    a = graph.unary("TANH", graph.input("x", (1, 8)))
    graph.output(a, "a")
    graph.output(graph.unary("ABS", graph.unary("RELU", a)), "y")
    view = graph.build().graph()
    first, *_ = parts(view, 3)
    assert first.results == (a,)
    assert {t for part in parts(view, 3) for t in part.results} >= {port.tensor for port in view.outputs}


def test_near_an_even_division_it_is_cut_where_the_fewest_bytes_are_alive() -> None:
    graph = GraphBuilder()
    made = [graph.input("x", (1, 8))]
    for _ in range(8):
        made.append(graph.unary("TANH", made[-1]))
    graph.output(graph.unary("ABS", graph.binary("ADD", graph.unary("NEG", made[-1]), made[-2])), "y")
    view = graph.build().graph()
    wide = {at for at, alive in live_cuts(view).items() if len(alive) > 1}
    assert wide == {7, 8}
    assert [len(part.results) for part in parts(view, 2)] == [1, 1]
    assert all(len(part.results) == 1 for part in parts(view, 3))
