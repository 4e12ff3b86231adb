"""A run-time tensor of lower rank than the constant it meets."""

from __future__ import annotations

from collections.abc import Iterator

from harness.graph.model import Graph, Model
from harness.lint.elementwise import ARITHMETIC, COMPARISONS, FLOAT_ONLY, pairs, read_as_float
from harness.lint.layout import misplaced_axes
from harness.lint.releases import MEASURED
from harness.lint.rule import Hit, Rule
from harness.lint.rules.low_rank_constant import misread
from harness.lint.wording import called, dims, with_leading_ones


def _check(model: Model, graph: Graph) -> Iterator[Hit]:
    for pair in pairs(graph, (*ARITHMETIC, *COMPARISONS, *FLOAT_ONLY)):
        rank = len(pair.result_shape)
        known = read_as_float(pair.source) or pair.source.type == "INT32"
        misplaced = misplaced_axes(pair.running.shape or (), "left", rank)
        # Where the constant is misread too, that rule's advice mends both.
        if known and misplaced and not misread(model, graph, pair):
            kept = with_leading_ones(pair.running.shape or (), rank)
            yield Hit(
                pair.op,
                pair.running,
                f"The GPU aligns tensor {called(pair.running)} with the first axis of the result "
                f"{dims(pair.result_shape)}, not with its last.",
                f"Reshape the tensor to {kept}, the rank of constant {called(pair.constant)}, before the op.",
            )


RULE = Rule(
    name="low-rank-tensor",
    description="A run-time tensor of lower rank than the constant it is added to, multiplied by, …",
    why="The delegate broadcasts two run-time tensors of different ranks, but not a run-time tensor beside a constant "
    "of higher rank: the tensor's leading dimension stays in the batch.",
    releases=MEASURED,
    check=_check,
)
