"""Long tensors in two dimensions: a SLICE of whole rows is one there, any other is of the tensor in its own shape."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from harness.graph.build import GraphBuilder
from harness.graph.fold import too_large
from harness.graph.model import Model
from harness.graph.rebuild import CannotRewrite
from harness.graph.short_ports import as_declared
from harness.remedies.catalogue import TWO_DIMENSIONS
from tests.arrays import Evaluate, f32, i32

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
