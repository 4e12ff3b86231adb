"""What the file alone tells."""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from harness.graph.ops.audit import Audit, Interface, audit
from tests.arrays import i32


def test_a_plain_model_is_counted_and_nothing_is_refused() -> None:
    graph = GraphBuilder()
    x = graph.input("x", (1, 4))
    weights = graph.dequantize(np.ones((3, 4), np.float32))
    y = graph.op("FULLY_CONNECTED", [x, weights, -1], (1, 3), schema.FullyConnectedOptionsT())
    graph.output(graph.unary("RELU", graph.unary("RELU", y)), "y")
    assert audit(graph.build()) == Audit(
        ops={"RELU": 2, "DEQUANTIZE": 1, "FULLY_CONNECTED": 1},
        total=4,
        max_rank=2,
        rank_over_4=0,
        unsupported=(),
        weights_bytes=3 * 4 * 2,
        signatures=("serving_default",),
        inputs=(Interface("x", "float32", (1, 4)),),
        outputs=(Interface("y", "float32", (1, 3)),),
    )


def test_custom_ops_ranks_types_shapes_and_control_flow_are_named() -> None:
    graph = GraphBuilder()
    x = graph.input("x", (1, 1, 1, 2, 2))
    graph.output(graph.op("CUSTOM", [x], (1, 2), custom="Mine", name="a"))
    graph.output(graph.op("ARG_MAX", [x, graph.constant(i32([0]))], (2,), dtype=np.int64, name="b"))
    graph.output(graph.op("IF", [graph.input("flag", (1,), np.bool_)], (-1, 2), schema.IfOptionsT(), name="c"))
    found = audit(graph.build())
    assert found.unsupported == (
        "CUSTOM: no delegate knows custom op 'Mine'",
        "CUSTOM: tensor 'x' has rank 5, over 4",
        "ARG_MAX: tensor 'x' has rank 5, over 4",
        "ARG_MAX: tensor 'b' has type INT64",
        "IF: control flow stays on the CPU",
        "IF: tensor 'c' has no static shape",
    )
    assert (found.max_rank, found.rank_over_4) == (5, 1)


def test_a_signature_is_audited_by_itself(rich_model: Model) -> None:
    assert audit(rich_model, "inner").ops == {"GELU": 1}
    assert audit(rich_model).ops["MyOwnOp"] == 1


def test_the_json_has_the_contracts_fields(rich_model: Model) -> None:
    found = audit(rich_model)
    assert found.to_json() == {
        "schema": 1,
        "ops": found.ops,
        "total": 6,
        "max_rank": 3,
        "rank_over_4": 0,
        "unsupported": ["CUSTOM: no delegate knows custom op 'MyOwnOp'"],
        "weights_bytes": 292,
        "signatures": ["serving_default", "inner"],
        "asked": "",
        "folded": "",
        "fallback": None,
        "varying": "",
        "inputs": [{"name": "x", "dtype": "float32", "shape": [1, 4, 8]}],
        "outputs": [
            {"name": "y", "dtype": "float32", "shape": [1, 4, 8]},
            {"name": "counts", "dtype": "int32", "shape": [1, 4, 8]},
        ],
        "asked_alone": [],
        "cut": "",
        "lint": [],
        "differs": [],
    }


def test_a_bias_that_an_op_goes_without_is_no_tensor() -> None:
    graph = GraphBuilder()
    weights = graph.dequantize(np.ones((3, 4), np.float32))
    y = graph.op("FULLY_CONNECTED", [graph.input("x", (1, 4)), weights, -1], (1, 3), schema.FullyConnectedOptionsT())
    graph.output(y, "y")
    graph.constant(np.ones((1,) * 6, np.float32))  # the last tensor of the file, which nothing reads
    found = audit(graph.build())
    assert (found.max_rank, found.rank_over_4) == (2, 0)
