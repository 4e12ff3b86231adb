"""References from ops to subgraphs: control flow, composites, StableHLO regions."""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np

from harness.graph.model import indices

_SUBGRAPH_FIELDS = {
    "IfOptionsT": ("thenSubgraphIndex", "elseSubgraphIndex"),
    "WhileOptionsT": ("condSubgraphIndex", "bodySubgraphIndex"),
    "CallOptionsT": ("subgraph",),
    "CallOnceOptionsT": ("initSubgraphIndex",),
    "StableHLOCompositeOptionsT": ("decompositionSubgraphIndex",),
    "StablehloCaseOptionsT": ("branchSubgraphIndices",),
    "StablehloCustomCallOptionsT": ("calledComputations",),
    "StablehloReduceOptionsT": ("bodySubgraphIndex",),
    "StablehloReduceWindowOptionsT": ("bodySubgraphIndex",),
    "StablehloScatterOptionsT": ("updateComputationSubgraphIndex",),
    "StablehloSortOptionsT": ("comparatorSubgraphIndex",),
    "StablehloWhileOptionsT": ("condSubgraphIndex", "bodySubgraphIndex"),
}


def called(op: Any) -> tuple[int, ...]:
    """The subgraphs that an op of the file (`OperatorT`) calls, each time that it runs or once."""
    found: list[int] = []
    for options in (op.builtinOptions, op.builtinOptions2):
        for name in _SUBGRAPH_FIELDS.get(type(options).__name__, ()):
            value = getattr(options, name)
            found += [value] if isinstance(value, int) else indices(value)
    return tuple(found)


def renumbered(sub: Any, place: dict[int, int]) -> Any:
    """A copy of a subgraph whose ops call subgraphs by their new places (old -> new)."""
    sub = copy(sub)
    moved = []
    for op in sub.operators or ():
        for field in ("builtinOptions", "builtinOptions2"):
            options = getattr(op, field)
            names = _SUBGRAPH_FIELDS.get(type(options).__name__, ())
            if names:
                op, options = copy(op), copy(options)
                setattr(op, field, options)
            for name in names:
                old = getattr(options, name)
                if isinstance(old, int):
                    setattr(options, name, place.get(old, old))
                elif old is not None:
                    setattr(options, name, np.asarray([place.get(i, i) for i in indices(old)], np.int32))
        moved.append(op)
    sub.operators = moved
    return sub
