"""What conditions ask about an op's surroundings: its readers, as the delegate takes them, and what joins them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from device_tests.corpus.ops import concatenated, convolved, draw, ints, options, pooled, slices
from harness.graph.build import GraphBuilder
from harness.lint.knowledge.functions import joins_window, only_scores, read_as, stepped
from harness.lint.knowledge.pattern import OpPattern, Pattern
from harness.lint.knowledge.scene import Scene, TensorView

MAP = (1, 8, 8, 8)
Build = Callable[[GraphBuilder, int], object]


def read(*readers: Build) -> TensorView:
    """A tensor with these readers, whose results are outputs."""
    graph = GraphBuilder()
    held = graph.unary("TANH", graph.input("x", MAP))
    for place, reader in enumerate(readers):
        made = reader(graph, held)
        assert isinstance(made, int)
        graph.output(made, f"y{place}")
    model = graph.build()
    return Scene(model, model.graph()).tensor(held)


def times_itself(graph: GraphBuilder, x: int) -> int:
    return graph.binary("MUL", x, x)


def times_two(graph: GraphBuilder, x: int) -> int:
    return graph.binary("MUL", x, graph.constant([2.0]))


def times_given(graph: GraphBuilder, x: int) -> int:
    return graph.binary("MUL", x, graph.input("z", MAP))


def given_times(graph: GraphBuilder, x: int) -> int:
    return graph.binary("MUL", graph.input("z", MAP), x)


def times_computed(graph: GraphBuilder, x: int) -> int:
    return graph.binary("MUL", x, graph.unary("EXP", graph.input("z", MAP)))


def largest(graph: GraphBuilder, x: int) -> int:
    return pooled(graph, "MAX_POOL_2D", x)


def convolution(graph: GraphBuilder, x: int) -> int:
    return convolved(graph, x, draw(8, 3, 3, 8))


def softmax(graph: GraphBuilder, x: int) -> int:
    return graph.softmax(x)


def test_a_product_with_itself_is_a_square_and_twice_a_tensor_a_product() -> None:
    tensor = read(times_itself, times_two, lambda g, x: g.binary("ADD", x, x))
    assert (read_as(tensor, "SQUARE"), read_as(tensor, "MUL"), read_as(tensor, "ADD")) == (1, 2, 0)


@pytest.mark.parametrize(
    ("readers", "joins"),
    [((largest,), True), ((convolution,), True), ((softmax,), False), ((largest, softmax), False), ((), False)],
)
def test_a_border_becomes_the_padding_of_its_only_reader(readers: tuple[Build, ...], joins: bool) -> None:
    assert joins_window(read(*readers)) is joins


@pytest.mark.parametrize(
    ("readers", "joined"),
    [
        ((times_two,), True),
        ((times_itself,), True),
        ((times_given,), True),
        ((given_times,), False),
        ((times_computed,), False),
        ((softmax,), False),
        ((times_two, softmax), False),
    ],
)
def test_an_element_wise_op_is_joined_to_what_makes_its_first_operand(readers: tuple[Build, ...], joined: bool) -> None:
    assert stepped(read(*readers)) is joined


def scores(*, other: bool = False, sliced: bool = True) -> TensorView:
    """Two dot products side by side, and something else."""
    graph = GraphBuilder()
    query, keys = graph.input("query", (1, 4, 4, 8)), graph.input("keys", (1, 5, 5, 8))
    parts = []
    for i in range(2):
        window = slices(graph, keys, (0, i, i, 0), (1, 4, 4, 8)) if sliced else graph.input(f"k{i}", (1, 4, 4, 8))
        parts.append(graph.reduce("SUM", graph.binary("MUL", window, query), 3))
    if other:
        parts.append(graph.input("other", (1, 4, 4, 1)))
    joined = concatenated(graph, parts, 3)
    graph.output(joined, "scores")
    model = graph.build()
    return Scene(model, model.graph()).tensor(joined)


def test_scores_are_sums_of_products_with_slices_and_nothing_else() -> None:
    assert only_scores(scores())
    assert not only_scores(scores(other=True)) and not only_scores(scores(sliced=False))


def test_a_further_op_may_touch_any_of_its_operands() -> None:
    graph = GraphBuilder()
    scaled = graph.binary("MUL", graph.input("x", (1, 4, 4, 8)), graph.constant([2.0]))
    feeds = [graph.constant(ints(1, 8, 8, 8)), graph.constant(draw(8, 2, 2, 8)), scaled]
    table = options("TransposeConv", strideH=2, strideW=2)
    graph.output(graph.op("TRANSPOSE_CONV", feeds, (1, 8, 8, 8), table, dtype=np.float32), "y")
    model = graph.build()
    first = OpPattern("op", frozenset(("MUL",)), makes=("scaled",))
    after = OpPattern("next", frozenset(("TRANSPOSE_CONV",)), ("", "w", "..."), touches="scaled")
    (match,) = Pattern((first, after)).matches(Scene(model, model.graph()))
    assert (match.op.name, match.tensors["w"].index) == ("MUL", feeds[1])
