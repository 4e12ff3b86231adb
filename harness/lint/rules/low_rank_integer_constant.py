"""An integer or boolean constant of lower rank than the result."""

from __future__ import annotations

from collections.abc import Iterator

from harness.graph.model import Graph, Model
from harness.lint.elementwise import ARITHMETIC, COMPARISONS, LOGICAL, differs, pairs
from harness.lint.layout import misplaced_axes
from harness.lint.releases import MEASURED
from harness.lint.rule import Hit, Rule
from harness.lint.wording import called, dims, with_leading_ones


def _check(model: Model, graph: Graph) -> Iterator[Hit]:
    for pair in pairs(graph, (*ARITHMETIC, *COMPARISONS, *LOGICAL)):
        if pair.source.type not in ("INT32", "BOOL") or pair.source.quantized:
            continue
        shape, rank = pair.constant.shape or (), len(pair.result_shape)
        axes = misplaced_axes(shape, "left", rank)
        if axes and differs(model, graph, pair.source, axes):
            kind = "boolean" if pair.source.type == "BOOL" else "integer"
            yield Hit(
                pair.op,
                pair.constant,
                f"The GPU aligns {kind} constant {called(pair.constant)} with the first axis of the result "
                f"{dims(pair.result_shape)}, not with its last.",
                f"Write the constant with the result's rank: {with_leading_ones(shape, rank)}.",
            )


RULE = Rule(
    name="low-rank-integer-constant",
    description="A 32-bit integer or boolean constant of lower rank than the result, with differing values",
    why="Integer and boolean constants are laid out like run-time tensors, from the left, and are not moved to the "
    "result's last axes as broadcasting demands.",
    releases=MEASURED,
    check=_check,
)
