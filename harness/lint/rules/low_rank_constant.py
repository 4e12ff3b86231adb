"""A float constant of the result's own rank, under 4, with a leading dimension over 1."""

from __future__ import annotations

from collections.abc import Iterator

from harness.graph.model import Graph, Model
from harness.lint.elementwise import ARITHMETIC, COMPARISONS, FLOAT_ONLY, Pair, differs, pairs, read_as_float
from harness.lint.layout import misplaced_axes
from harness.lint.releases import MEASURED
from harness.lint.rule import Hit, Rule
from harness.lint.wording import called, with_leading_ones

_PART = {1: ("element", "elements"), 2: ("row", "rows"), 3: ("block", "blocks")}


def misread(model: Model, graph: Graph, pair: Pair) -> bool:
    """Whether the delegate reads other values of this constant than the op asks for."""
    axes = misplaced_axes(pair.constant.shape or (), "right", len(pair.result_shape))
    return bool(axes) and read_as_float(pair.source) and differs(model, graph, pair.source, axes)


def _check(model: Model, graph: Graph) -> Iterator[Hit]:
    for pair in pairs(graph, (*ARITHMETIC, *COMPARISONS, *FLOAT_ONLY)):
        shape, rank = pair.constant.shape or (), len(pair.result_shape)
        if not misread(model, graph, pair):
            continue
        one, many = _PART[rank]
        other = with_leading_ones(pair.running.shape or (), rank + 1)
        kept = with_leading_ones(shape, rank + 1)
        yield Hit(
            pair.op,
            pair.constant,
            f"The GPU reads {one} 0 of constant {called(pair.constant)} for all {shape[0]} {many}.",
            f"Keep the batch dimension, for the whole chain: the other operand as {other}, the constant as {kept}.",
        )


RULE = Rule(
    name="low-rank-constant",
    description="A float constant of the result's own rank (1 to 3) whose leading dimension is over 1 and whose rows "
    "differ",
    why="The delegate aligns run-time tensors left (the leading dimension is the batch) and constants right (it is "
    "height, width or channels, where the result has size 1).",
    releases=MEASURED,
    check=_check,
)
