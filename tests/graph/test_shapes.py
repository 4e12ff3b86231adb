"""Shapes of results: what the host's kernels would say, without asking them."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from harness.graph.shapes import result_shape


def everything() -> Model:
    graph = GraphBuilder()
    x = graph.input("x", (2, 6, 8))
    made = [
        graph.fully_connected(x, np.ones((3, 8), np.float32)),
        graph.pad(x, [(0, 1), (2, 3), (0, 0)]),
        graph.reshape(x, (4, 24)),
        graph.transpose(x, (2, 0, 1)),
        graph.reduce("MEAN", x, 1),
        graph.softmax(x),
        graph.batch_matmul(x, x, adj_y=True),
        graph.binary("ADD", x, graph.constant(np.ones((6, 1)))),
    ]
    options = schema.ConcatenationOptionsT()
    options.axis = -1
    made.append(graph.op("CONCATENATION", [x, x], (2, 6, 16), options))
    begin, size = graph.constant(np.asarray([0, 2, 0], np.int32)), graph.constant(np.asarray([2, 3, 8], np.int32))
    made.append(graph.op("SLICE", [x, begin, size], (2, 3, 8), schema.SliceOptionsT()))
    for i, t in enumerate(made):
        graph.output(t, f"y{i}")
    return graph.build()


def test_each_known_op_has_the_shape_that_the_builder_gave_it() -> None:
    model = everything()
    graph = model.graph()
    for op, raw in zip(graph.ops, model.root.subgraphs[0].operators, strict=True):
        feeds = [t for t in op.inputs if t >= 0]
        shapes = [graph.tensors[t].shape or () for t in feeds]
        found = result_shape(op.name, shapes, [model.constant(t) for t in feeds], raw.builtinOptions)
        assert found == graph.tensors[op.outputs[0]].shape, op.name


@pytest.mark.parametrize(
    ("adj_x", "adj_y", "left", "right"),
    [
        (False, False, (5, 2, 3), (1, 3, 4)),
        (True, False, (5, 3, 2), (1, 3, 4)),
        (False, True, (5, 2, 3), (1, 4, 3)),
        (True, True, (5, 3, 2), (1, 4, 3)),
    ],
)
def test_a_product_of_matrices_either_of_them_transposed(
    adj_x: bool, adj_y: bool, left: tuple[int, ...], right: tuple[int, ...]
) -> None:
    options = schema.BatchMatMulOptionsT()
    options.adjX, options.adjY = adj_x, adj_y
    assert result_shape("BATCH_MATMUL", [left, right], [None, None], options) == (5, 2, 4)


def test_operands_that_do_not_go_together_are_refused() -> None:
    options = schema.BatchMatMulOptionsT()
    with pytest.raises(ValueError, match="4 terms cannot be summed with 3"):
        result_shape("BATCH_MATMUL", [(2, 4), (3, 2)], [None, None], options)
    connected = schema.FullyConnectedOptionsT()
    connected.keepNumDims = True
    for terms in (4, 6):
        with pytest.raises(ValueError, match=f"{terms} terms cannot be summed with 5"):
            result_shape("FULLY_CONNECTED", [(2, 3, terms), (7, 5)], [None, None], connected)
    with pytest.raises(ValueError, match="cannot become"):
        result_shape("RESHAPE", [(2, 4)], [None, np.asarray([3, 3], np.int32)], None)


def test_an_op_that_is_not_known_has_no_shape() -> None:
    assert result_shape("UNIDIRECTIONAL_SEQUENCE_LSTM", [(2, 4)], [None], None) is None
