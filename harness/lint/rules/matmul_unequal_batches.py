"""BATCH_MATMUL that broadcasts a batch dimension of one operand."""

from __future__ import annotations

from collections.abc import Iterator

from harness.graph.model import Graph, Model
from harness.lint.layout import MAX_RANK
from harness.lint.operands import fixed, operands
from harness.lint.releases import MEASURED
from harness.lint.rule import Hit, Rule
from harness.lint.wording import called, dims


def _check(model: Model, graph: Graph) -> Iterator[Hit]:
    for op in graph.ops:
        both = operands(graph, op, ("BATCH_MATMUL",))
        if len(both) != 2:
            continue
        left, right = both
        if left.type != "FLOAT32" or left.shape is None or right.shape is None:
            continue
        if max(len(left.shape), len(right.shape)) > MAX_RANK or any(fixed(graph, tensor) for tensor in (left, right)):
            continue
        batches = [(1,) * (MAX_RANK - len(shape)) + shape[:-2] for shape in (left.shape, right.shape)]
        if batches[0] == batches[1]:
            continue
        whole = tuple(map(max, *batches))
        short, batch = (left, batches[0]) if batches[0] != whole else (right, batches[1])
        yield Hit(
            op,
            short,
            f"The GPU does not broadcast the batch of {called(short)}, {dims(batch)} beside {dims(whole)}.",
            "Write the equal batches out before the product (a concatenation), or fold the other operand's batch into "
            "its rows.",
        )


RULE = Rule(
    name="matmul-unequal-batches",
    description="BATCH_MATMUL of two run-time tensors whose batch dimensions are not equal",
    why="The delegate folds the batch dimensions into one and hands both operands to a kernel that takes them for "
    "equal.",
    releases=MEASURED,
    check=_check,
)
