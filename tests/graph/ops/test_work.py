"""How much arithmetic an op is."""

from __future__ import annotations

import numpy as np
import pytest

from harness.graph.build import GraphBuilder
from harness.graph.ops.work import reduction_length, work


@pytest.mark.parametrize(
    ("op", "shapes", "output", "terms"),
    [
        ("BATCH_MATMUL", [(2, 5, 96), (2, 96, 7)], (2, 5, 7), 96),
        ("BATCH_MATMUL", [(2, 96, 5), (2, 96, 7)], (2, 5, 7), 96),  # the left side transposed
        ("FULLY_CONNECTED", [(4, 3, 10), (6, 10), (6,)], (4, 3, 6), 10),
        ("FULLY_CONNECTED", [(4, 10)], (4, 6), None),
        ("CONV_2D", [(1, 9, 9, 8), (16, 3, 5, 8), (16,)], (1, 9, 9, 16), 120),
        ("MEAN", [(2, 30, 4), (1,)], (2, 1, 4), 30),
        ("SUM", [(2, 30, 4), (2,)], (), 240),
        ("SOFTMAX", [(4, 9)], (4, 9), 9),
        ("CUMSUM", [(4, 9), ()], (4, 9), None),
        ("TANH", [(4, 9)], (4, 9), None),
        ("MEAN", [], (2,), None),
    ],
)
def test_a_sum_is_as_long_as_the_shapes_say(
    op: str, shapes: list[tuple[int, ...]], output: tuple[int, ...], terms: int | None
) -> None:
    assert reduction_length(op, shapes, output) == terms


def test_work_counts_every_product_and_where_nothing_is_summed_every_element() -> None:
    graph = GraphBuilder()
    layer = graph.fully_connected(graph.input("x", (1, 5, 96)), np.ones((7, 96), np.float32))
    graph.output(graph.unary("TANH", layer), "y")
    made = graph.build().graph()
    assert [(op.name, work(made, op)) for op in made.ops] == [("FULLY_CONNECTED", 5 * 7 * 96), ("TANH", 5 * 7)]
