"""FULLY_CONNECTED that flattens its input implicitly."""

from __future__ import annotations

from collections.abc import Iterator

from harness.graph.model import Graph, Model
from harness.lint.layout import MAX_RANK
from harness.lint.operands import fixed, stored
from harness.lint.releases import MEASURED
from harness.lint.rule import Hit, Rule
from harness.lint.wording import called, dims


def _check(model: Model, graph: Graph) -> Iterator[Hit]:
    for op in graph.ops:
        if op.name != "FULLY_CONNECTED" or len(op.inputs) < 2 or min(op.inputs[:2]) < 0 or not op.outputs:
            continue
        x, weights = (graph.tensors[t] for t in op.inputs[:2])
        if x.shape is None or weights.shape is None or len(weights.shape) != 2 or not 2 <= len(x.shape) <= MAX_RANK:
            continue
        if fixed(graph, x) or not stored(graph, weights) or x.type not in ("FLOAT32", "INT8"):
            continue
        terms = weights.shape[1]
        # Values that do not fill rows of that length are refused by the runtime itself.
        if terms and x.shape[-1] != terms and x.elements % terms == 0:
            yield Hit(
                op,
                x,
                f"The GPU takes the last axis of {called(x)} for the {terms} values of a row of the weights.",
                f"Reshape (flatten) the input to {dims((x.elements // terms, terms))} before the layer.",
            )


RULE = Rule(
    name="unflattened-fully-connected",
    description="FULLY_CONNECTED whose input's last dimension is not the weights'",
    why="The CPU cuts the input's values, whatever its shape, into rows as long as the weights'; the delegate makes a "
    "convolution over the input's last axis.",
    releases=MEASURED,
    check=_check,
)
