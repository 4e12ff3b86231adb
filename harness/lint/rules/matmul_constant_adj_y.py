"""BATCH_MATMUL by a constant matrix of rank 2 that is to be transposed on the way."""

from __future__ import annotations

from collections.abc import Iterator

from harness.graph.model import Graph, Model
from harness.lint.layout import MAX_RANK
from harness.lint.operands import operands, stored
from harness.lint.releases import MEASURED
from harness.lint.rule import Hit, Rule
from harness.lint.wording import called, dims


def _check(model: Model, graph: Graph) -> Iterator[Hit]:
    for op in graph.ops:
        both = operands(graph, op, ("BATCH_MATMUL",))
        if len(both) != 2:
            continue
        left, right = both
        if right.shape is None or left.shape is None or len(right.shape) != 2 or len(left.shape) > MAX_RANK:
            continue
        source = stored(graph, right)
        options = model.root.subgraphs[graph.subgraph].operators[op.index].builtinOptions
        if source is None or not getattr(options, "adjY", False):
            continue
        values = model.constant(source.index, graph.subgraph)
        if values is None or values.dtype.kind != "f":
            continue
        if values.shape == values.T.shape and (values == values.T).all():
            continue  # symmetric: the same matrix either way
        rows, columns = right.shape
        yield Hit(
            op,
            right,
            f"The GPU multiplies by constant {called(right)} without transposing it.",
            f"Store the transposed matrix {dims((columns, rows))} and leave adj_y away, or use a linear layer "
            "(FULLY_CONNECTED).",
        )


RULE = Rule(
    name="matmul-constant-adj-y",
    description="BATCH_MATMUL with adj_y and a constant right side of rank 2",
    why="A constant right side of rank 2 becomes the weights of a fully connected layer, where adj_y is not looked at.",
    releases=MEASURED,
    check=_check,
)
