"""Chains in rank 4: the same values, no RESHAPE between their ops, and nothing moved that need not be."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from harness.core.arrays import Array
from harness.graph.build import GraphBuilder
from harness.graph.inputs import random_inputs
from harness.graph.model import Model
from harness.graph.rebuild import CannotRewrite
from harness.remedies.catalogue import KEEP_BATCH
from tests.arrays import Evaluate
from tests.remedies.small import one_op

ROWS = np.arange(8 * 16, dtype=np.float32).reshape(8, 16) / 64


def lines(model: Model) -> list[str]:
    graph = model.graph()
    return [f"{op.name} {list(graph.tensors[op.outputs[0]].shape or ())}" for op in graph.ops]


def chain() -> Model:
    """relu(linear(x + rows)) normalized by its mean, each row of 16 then read as two heads, and read once more."""
    graph = GraphBuilder()
    x = graph.reshape(graph.input("x", (1, 8, 4, 4)), (8, 16))
    placed = graph.binary("ADD", x, graph.constant(ROWS))
    hidden = graph.unary("RELU", graph.fully_connected(placed, np.eye(16, dtype=np.float32), ROWS[0]))
    options = schema.ReducerOptionsT()
    options.keepDims = True
    mean = graph.op("MEAN", [hidden, graph.constant(np.asarray([1], np.int32))], (8, 1), options)
    centred = graph.binary("MUL", graph.binary("SUB", hidden, mean), graph.constant(ROWS[1]))
    graph.output(graph.reshape(centred, (8, 2, 8)), "heads")
    graph.output(graph.binary("MUL", centred, graph.constant(ROWS)), "rows")
    return graph.build()


def place_of(model: Model, kind: str, nth: int = 0) -> frozenset[int]:
    return frozenset([[op.index for op in model.graph().ops if op.name == kind][nth]])


def test_a_whole_chain_goes_along_and_reshapes_only_where_it_did_before_and_at_an_output() -> None:
    model = chain()
    assert lines(KEEP_BATCH.apply(model, place_of(model, "ADD"), {})) == [
        "RESHAPE [1, 1, 8, 16]",
        "ADD [1, 1, 8, 16]",
        "FULLY_CONNECTED [1, 1, 8, 16]",
        "RELU [1, 1, 8, 16]",
        "MEAN [1, 1, 8, 1]",
        "SUB [1, 1, 8, 16]",
        "MUL [1, 1, 8, 16]",
        "RESHAPE [8, 2, 8]",
        "MUL [1, 1, 8, 16]",
        "RESHAPE [8, 16]",
    ]


def test_a_chain_means_the_same_to_the_last_bit(evaluate: Evaluate) -> None:
    model = chain()
    inputs = random_inputs(model.graph(), 0)
    rewritten = evaluate(KEEP_BATCH.apply(model, place_of(model, "ADD"), {}), inputs)
    for name, values in evaluate(model, inputs).items():
        np.testing.assert_array_equal(rewritten[name], values)


def test_constants_of_float16_come_along_as_what_they_hold(evaluate: Evaluate) -> None:
    model = one_op(lambda g: g.binary("SUB", g.dequantize(ROWS), g.input("x", (8, 16))))
    rewritten = KEEP_BATCH.apply(model, place_of(model, "SUB"), {})
    assert lines(rewritten) == ["RESHAPE [1, 1, 8, 16]", "SUB [1, 1, 8, 16]", "RESHAPE [8, 16]"]
    x = np.ones((8, 16), np.float32)
    np.testing.assert_array_equal(evaluate(rewritten, {"x": x})["y"], ROWS.astype(np.float16).astype(np.float32) - x)


def test_what_needs_its_rank_gets_it_and_is_asked_once(evaluate: Evaluate) -> None:
    """Two readers outside the chain: a sum that drops its axis, and a TILE."""
    graph = GraphBuilder()
    x = graph.input("x", (8, 16))
    placed = graph.binary("ADD", graph.unary("RELU", x), graph.constant(ROWS))
    graph.output(graph.op("TILE", [placed, graph.constant(np.asarray([2, 1], np.int32))], (16, 16)), "tiled")
    options = schema.ReducerOptionsT()
    options.keepDims = False
    graph.output(graph.op("SUM", [placed, graph.constant(np.asarray([1], np.int32))], (8,), options), "sums")
    model = graph.build()
    rewritten = KEEP_BATCH.apply(model, place_of(model, "ADD"), {})
    assert lines(rewritten) == [
        "RESHAPE [1, 1, 8, 16]", "RELU [1, 1, 8, 16]", "ADD [1, 1, 8, 16]", "RESHAPE [8, 16]", "TILE [16, 16]",
        "SUM [8]",
    ]  # fmt: skip
    inputs = random_inputs(model.graph(), 0)
    for name, values in evaluate(model, inputs).items():
        np.testing.assert_array_equal(evaluate(rewritten, inputs)[name], values)


def test_a_tensor_of_rank_3_keeps_its_blocks_apart(evaluate: Evaluate) -> None:
    blocks = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    model = one_op(lambda g: g.binary("MUL", g.transpose(g.input("x", (3, 2, 4)), (1, 0, 2)), g.constant(blocks)))
    rewritten = KEEP_BATCH.apply(model, place_of(model, "MUL"), {})
    assert lines(rewritten) == [
        "RESHAPE [1, 3, 2, 4]", "TRANSPOSE [1, 2, 3, 4]", "MUL [1, 2, 3, 4]", "RESHAPE [2, 3, 4]",
    ]  # fmt: skip
    inputs = random_inputs(model.graph(), 0)
    np.testing.assert_array_equal(evaluate(rewritten, inputs)["y"], evaluate(model, inputs)["y"])


@pytest.mark.parametrize(
    ("x", "constant", "lifted"),
    [
        ((16,), ROWS[0], ["RESHAPE [1, 1, 1, 16]", "MAXIMUM [1, 1, 1, 16]", "RESHAPE [16]"]),
        ((8, 16), ROWS[None], ["RESHAPE [1, 1, 8, 16]", "MAXIMUM [1, 1, 8, 16]", "RESHAPE [1, 8, 16]"]),
    ],
)
def test_vectors_and_tensors_of_lower_rank_than_their_constant_go_along_too(
    x: tuple[int, ...], constant: Array, lifted: list[str], evaluate: Evaluate
) -> None:
    model = one_op(lambda g: g.binary("MAXIMUM", g.input("x", x), g.constant(constant)))
    rewritten = KEEP_BATCH.apply(model, frozenset({0}), {})
    assert lines(rewritten) == lifted
    inputs = random_inputs(model.graph(), 0)
    np.testing.assert_array_equal(evaluate(rewritten, inputs)["y"], evaluate(model, inputs)["y"])


@pytest.mark.parametrize(
    "build",
    [
        lambda g: g.binary("ADD", g.input("x", (8, 16)), g.input("z", (8, 16))),
        lambda g: g.binary("ADD", g.input("x", (8, 16)), g.constant(ROWS[:1])),
        lambda g: g.binary("ADD", g.input("x", (8, 16)), g.constant(ROWS[0])),
        lambda g: g.unary("RELU", g.input("x", (8, 16))),
    ],
)
def test_ops_without_such_a_constant_are_left_alone(build: Callable[[GraphBuilder], int]) -> None:
    with pytest.raises(CannotRewrite, match="no constant of its own rank, below 4, with a leading dimension over 1"):
        KEEP_BATCH.apply(one_op(build), frozenset({0}), {})
