"""Long tensors in two dimensions: a SLICE of whole rows is one there, any other is of the tensor in its own shape. Wide
products in tiles."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from harness.graph.build import GraphBuilder
from harness.graph.fold import WIDEST, too_large
from harness.graph.model import Model
from harness.graph.rebuild import CannotRewrite
from harness.graph.short_ports import as_declared
from harness.remedies.catalogue import TILES, TWO_DIMENSIONS
from tests.arrays import Evaluate, f32, i32
from tests.remedies.small import quarters, table

LONG = 64 * 4112  # more than 4 · 65,535


def sliced(shape: tuple[int, ...], begin: tuple[int, ...], size: tuple[int, ...]) -> Model:
    """ABS #0 of a long tensor, a SLICE #1 of it, and NEG #2."""
    graph = GraphBuilder()
    feeds = [graph.unary("ABS", graph.input("x", shape)), graph.constant(i32(begin)), graph.constant(i32(size))]
    graph.output(graph.unary("NEG", graph.op("SLICE", feeds, size, schema.SliceOptionsT())), "y")
    return graph.build()


# The shape, where the slice begins, its size, and whether it is one of whole rows.
CASES = {
    "from the first element on": ((1, LONG), (0, 0), (1, 4112), True),
    "from a row's start to a row's end": ((1, LONG), (0, 8224), (1, 4112), True),
    "of both of two batches": ((2, LONG), (0, 4112), (2, 8224), True),
    "from the middle of a row": ((1, LONG), (0, 5), (1, 4112), False),
    "to the middle of a row": ((1, LONG), (0, 4112), (1, 4110), False),
    "of rows that are no whole texels": ((1, LONG), (0, 6), (1, 12), False),
    "of the first of two batches": ((2, LONG), (0, 0), (1, 4112), False),
    "of the second of two batches": ((2, LONG), (1, 0), (1, 4112), False),
    "of the second of two batches, as far as can be": ((2, LONG), (1, 4112), (1, LONG - 4112), False),
}


@pytest.mark.parametrize("name", CASES)
def test_a_slice_of_a_long_tensor_means_the_same_in_two_dimensions(name: str, evaluate: Evaluate) -> None:
    shape, begin, size, by_rows = CASES[name]
    model = sliced(shape, begin, size)
    rewritten = TWO_DIMENSIONS.apply(model, frozenset({0}), {})
    inputs = {"x": f32(np.arange(np.prod(shape))).reshape(shape)}
    right = evaluate(model, inputs)["y"]
    found = evaluate(rewritten, as_declared(rewritten, inputs))["y"]
    np.testing.assert_array_equal(found.reshape(right.shape), right)
    graph = rewritten.graph()
    assert not any(too_large(graph.tensors[t].shape) for t in graph.ops[0].outputs)
    (cut,) = [op for op in graph.ops if op.name == "SLICE"]
    assert (not too_large(graph.tensors[cut.inputs[0]].shape)) is by_rows


def test_a_bias_that_an_op_goes_without_is_no_large_tensor() -> None:
    graph = GraphBuilder()
    y = graph.fully_connected(graph.input("x", (1, 4)), f32(np.ones((3, 4))))
    graph.output(y, "y")
    graph.constant(np.zeros((1, 5_000_000), np.int8))  # the last tensor of the file, which nothing reads
    model = graph.build()
    assert too_large(model.graph().tensors[-1].shape) and -1 in model.graph().ops[0].inputs
    with pytest.raises(CannotRewrite, match="none of its tensors is too large"):
        TWO_DIMENSIONS.apply(model, frozenset({0}), {})


def products(kind: str) -> Model:
    """A product whose result is longer along one axis than a texture of weights is wide, with a bias."""
    graph = GraphBuilder()
    long = WIDEST + 4
    if kind == "FULLY_CONNECTED":
        y = graph.fully_connected(graph.input("x", (2, 3)), small((long, 3)), small((long,)))
    elif kind == "CONV_2D":
        options = table("Conv2D", strideH=1, strideW=1, dilationHFactor=1, dilationWFactor=1)
        feeds = [graph.input("x", (1, 2, 1, 3)), graph.constant(small((long, 1, 1, 3))), graph.constant(small((long,)))]
        y = graph.op("CONV_2D", feeds, (1, 2, 1, long), options)
    else:
        shapes, adj = PRODUCTS[kind]
        feeds = [graph.input("x", shapes[0]), graph.input("z", shapes[1])]
        y = graph.op("BATCH_MATMUL", feeds, shapes[2], table("BatchMatMul", adjX=adj[0], adjY=adj[1]))
    graph.output(y, "y")
    return graph.build()


def small(shape: tuple[int, ...]) -> NDArray[np.float32]:
    return quarters(np.resize(f32(np.arange(11)), shape))


LONGER = WIDEST + 4
PRODUCTS = {
    "columns": (((2, 3, 4), (2, 4, LONGER), (2, 3, LONGER)), (False, False)),
    "columns, turned, the other with fewer dimensions": (((2, 3, 4), (LONGER, 4), (2, 3, LONGER)), (False, True)),
    "rows": (((LONGER, 4), (4, 3), (LONGER, 3)), (False, False)),
    "rows, turned": (((2, 4, LONGER), (2, 4, 3), (2, LONGER, 3)), (True, False)),
    "rows as long as what is summed": (((LONGER, LONGER), (LONGER, 1), (LONGER, 1)), (False, False)),
}


@pytest.mark.parametrize("kind", ["FULLY_CONNECTED", "CONV_2D", *list(PRODUCTS)[:-1]])
def test_a_product_in_tiles_means_the_same(kind: str, evaluate: Evaluate) -> None:
    model = products(kind)
    rewritten = TILES.apply(model, frozenset({0}), {})
    inputs = {port.name: small(model.graph().tensors[port.tensor].shape or ()) for port in model.graph().inputs}
    np.testing.assert_array_equal(evaluate(rewritten, inputs)["y"], evaluate(model, inputs)["y"])
    made = rewritten.graph()
    tiles = [op for op in made.ops if op.name == model.graph().ops[0].name]
    assert len(tiles) == 2
    assert max(max(made.tensors[op.outputs[0]].shape or ()) for op in tiles) == WIDEST


STACKED = {
    "of both": (((1024, 2, 64), (1024, 64, 3), (1024, 2, 3)), (False, False), [512, 512]),
    "turned, of which one is broadcast": (((1, 2, 36), (1000, 3, 36), (1000, 2, 3)), (False, True), [910, 90]),
    "in two dimensions": (((2, 3000, 1, 8), (2, 3000, 8, 1), (2, 3000, 1, 1)), (False, False), [3000, 3000]),
}


@pytest.mark.parametrize("name", STACKED)
def test_batches_that_are_stacked_in_a_texture_are_cut_by_its_height(name: str, evaluate: Evaluate) -> None:
    shapes, adj, parts = STACKED[name]
    graph = GraphBuilder()
    feeds = [graph.input("x", shapes[0]), graph.input("z", shapes[1])]
    graph.output(graph.op("BATCH_MATMUL", feeds, shapes[2], table("BatchMatMul", adjX=adj[0], adjY=adj[1])), "y")
    model = graph.build()
    rewritten = TILES.apply(model, frozenset({0}), {})
    inputs = {"x": small(shapes[0]), "z": small(shapes[1])}
    np.testing.assert_array_equal(evaluate(rewritten, inputs)["y"], evaluate(model, inputs)["y"])
    made = rewritten.graph()
    tiles = [made.tensors[op.outputs[0]].shape or () for op in made.ops if op.name == "BATCH_MATMUL"]
    assert [shape[-3] for shape in tiles] == parts


def test_only_the_axis_of_the_result_is_cut() -> None:
    """Where what is summed is as long as the rows are many, it stays whole."""
    made = TILES.apply(products("rows as long as what is summed"), frozenset({0}), {}).graph()
    shapes = [[made.tensors[t].shape for t in op.inputs] for op in made.ops if op.name == "BATCH_MATMUL"]
    assert shapes == [[(WIDEST, LONGER), (LONGER, 1)], [(4, LONGER), (LONGER, 1)]]


def test_weights_that_are_quantized_are_not_cut() -> None:
    graph = GraphBuilder()
    feeds = [graph.input("x", (2, 3)), graph.constant(np.ones((LONGER, 3), np.int8)), -1]
    graph.output(graph.op("FULLY_CONNECTED", feeds, (2, LONGER), table("FullyConnected")), "y")
    with pytest.raises(CannotRewrite, match="neither floats nor on one grid"):
        TILES.apply(graph.build(), frozenset({0}), {})


def test_a_product_that_is_short_enough_is_left_as_it_is() -> None:
    graph = GraphBuilder()
    graph.output(graph.fully_connected(graph.input("x", (2, 3)), small((WIDEST, 3))), "y")
    with pytest.raises(CannotRewrite, match="no axis of more than 32768"):
        TILES.apply(graph.build(), frozenset({0}), {})
