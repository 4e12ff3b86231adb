"""Constant operands of element-wise ops, which the delegate reads right-aligned where the other operand lies
left-aligned; see docs/delegate.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from device_tests.corpus.bug import EVERY, Bug
from device_tests.corpus.ops import draw, options
from harness.graph.build import GraphBuilder
from harness.graph.model import Model


def with_constant(kind: str, shape: Sequence[int], constant: Sequence[int]) -> Callable[[], Model]:
    """tanh(x) op c, c a constant of `constant` between 1 and 2 in magnitude, so that DIV is tame."""

    def build() -> Model:
        graph = GraphBuilder()
        values = draw(*constant)
        values = (np.sign(values) * (1 + np.abs(np.tanh(values)))).astype(np.float32)
        x = graph.unary("TANH", graph.input("x", shape))
        graph.output(graph.binary(kind, x, graph.constant(values)), "y")
        return graph.build()

    return build


def int32_constant_first() -> Model:
    """100 - n for whole numbers n and a constant vector: the GPU answers n - 100."""
    graph = GraphBuilder()
    numbers = graph.op("CAST", [_scaled(graph)], (1, 4, 5, 12), options("Cast"), dtype=np.int32)
    hundred = graph.constant(np.arange(240, dtype=np.int32).reshape(1, 4, 5, 12))
    less = graph.op("SUB", [hundred, numbers], (1, 4, 5, 12), options("Sub"))
    graph.output(graph.op("CAST", [less], (1, 4, 5, 12), options("Cast"), dtype=np.float32), "y")
    return graph.build()


def int32_constant_vector() -> Model:
    """Whole numbers [1, 4, 5, 12] plus a constant int32 vector [12]: the GPU reads the vector along the batch."""
    graph = GraphBuilder()
    numbers = graph.op("CAST", [_scaled(graph)], (1, 4, 5, 12), options("Cast"), dtype=np.int32)
    more = graph.binary("ADD", numbers, graph.constant(np.arange(12, dtype=np.int32)))
    graph.output(graph.op("CAST", [more], (1, 4, 5, 12), options("Cast"), dtype=np.float32), "y")
    return graph.build()


def _scaled(graph: GraphBuilder) -> int:
    return graph.binary("MUL", graph.input("x", (1, 4, 5, 12)), graph.constant([10.0]))


CONSTANTS = (
    Bug("constant_add_rank_1", with_constant("ADD", (64,), (64,)), ((1, "ADD", "kernel"),), EVERY),
    Bug("constant_add_rank_2", with_constant("ADD", (16, 32), (16, 32)), ((1, "ADD", "kernel"),), EVERY),
    Bug("constant_add_rank_3", with_constant("ADD", (4, 16, 32), (4, 16, 32)), ((1, "ADD", "kernel"),), EVERY),
    Bug("constant_mul_rank_3", with_constant("MUL", (4, 16, 32), (4, 16, 32)), ((1, "MUL", "kernel"),), EVERY),
    Bug("constant_sub_rank_2", with_constant("SUB", (16, 32), (16, 32)), ((1, "SUB", "kernel"),), EVERY),
    Bug("constant_div_rank_2", with_constant("DIV", (16, 32), (16, 32)), ((1, "DIV", "kernel"),), EVERY),
    Bug("constant_mul_column", with_constant("MUL", (16, 32), (16, 1)), ((1, "MUL", "kernel"),), EVERY),
    Bug("constant_add_higher_rank", with_constant("ADD", (16, 32), (4, 16, 32)), ((1, "ADD", "kernel"),), EVERY),
    Bug(
        "constant_add_tensor_of_lower_rank",
        with_constant("ADD", (16, 32), (1, 16, 32)),
        ((1, "ADD", "kernel"),),
        EVERY,
    ),
    Bug(
        "int32_constant_first",
        int32_constant_first,
        ((3, "CAST", "kernel"),),
        EVERY,
        first=1,
    ),
    Bug(
        "int32_constant_vector",
        int32_constant_vector,
        ((3, "CAST", "kernel"),),
        EVERY,
        first=1,
        pending=dict.fromkeys(EVERY, "ADD #1-2, context"),
    ),
)
