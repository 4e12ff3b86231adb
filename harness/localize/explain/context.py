"""The smallest neighbourhood in which a culprit fails that is right by itself.

Tried in order: its readers, its feeders, both; one step away, then more, as `STEPS` has it. Readers come first since
what is fused into a kernel mostly follows it, and since a loss below float16's range shows only in what reads it.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.core.arrays import OpIndex
from harness.graph.model import Graph

# A delegate fuses patterns of ten ops (a LayerNorm with scale and offset).
STEPS = (1, 2, 3, 4, 8, 16)
# More ops than this are no neighbourhood.
MOST_OPS = 64


def neighbourhoods(graph: Graph, ops: frozenset[OpIndex]) -> Iterator[frozenset[OpIndex]]:
    """Sets of ops around `ops`, each larger than what was yielded before in its direction, none twice."""
    seen = {ops}
    for steps in STEPS:
        after, before = _reached(graph, ops, steps, forward=True), _reached(graph, ops, steps, forward=False)
        for around in (after, before, after | before):
            chosen = frozenset(ops | around)
            if chosen not in seen and len(chosen) <= MOST_OPS:
                seen.add(chosen)
                yield chosen


def _reached(graph: Graph, ops: frozenset[OpIndex], steps: int, *, forward: bool) -> frozenset[OpIndex]:
    """Ops at most so many steps behind or before some others."""
    reached, edge = set(ops), set(ops)
    for _ in range(steps):
        if forward:
            found = {c for o in edge for t in graph.ops[o].outputs for c in graph.consumers.get(t, ())}
        else:
            found = {graph.producer[t] for o in edge for t in graph.ops[o].inputs if t in graph.producer}
        edge = found - reached - graph.constant_ops
        reached |= edge
    return frozenset(reached)
