"""Where a graph can be cut in two, the edges of what is cut out, and a graph in parts that run one after another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.core.arrays import OpIndex, TensorIndex
from harness.graph import surgery
from harness.graph.model import Graph
from harness.graph.ops.work import work


@dataclass(frozen=True)
class Cut:
    """A window's edges: ops first … last of the graph, the tensors that feed it, and those it gives to the rest."""

    ops: tuple[OpIndex, ...]
    feeds: tuple[TensorIndex, ...]
    results: tuple[TensorIndex, ...]


def cut(graph: Graph, ops: tuple[OpIndex, ...]) -> Cut:
    """The edges of some consecutive ops; constant-folded ops belong to whoever reads them."""
    inside = set(ops)
    made = {t for o in ops for t in graph.ops[o].outputs}
    outputs = {port.tensor for port in graph.outputs}
    inputs = {port.tensor for port in graph.inputs}
    feeds: dict[TensorIndex, None] = {}
    for o in ops:
        for t in graph.ops[o].inputs:
            source = graph.producer.get(t)
            if t in made or source in graph.constant_ops or (source is None and t not in inputs):
                continue
            feeds[t] = None
    results = [t for t in sorted(made) if t in outputs or any(c not in inside for c in graph.consumers.get(t, ()))]
    return Cut(ops, tuple(feeds), tuple(results))


def live_cuts(graph: Graph) -> dict[int, tuple[int, ...]]:
    """For each op after which the model can be cut: the tensors alive there, made by it or before and read later or
    outputs. Only cuts whose tensors are float32 of rank at most 4 and can be outputs of a model."""
    fit = set(surgery.tappable(graph))
    last_read: dict[int, int] = {}
    for op in graph.ops:
        for t in op.inputs:
            last_read[t] = op.index
    ends = {port.tensor for port in graph.outputs}
    alive: dict[int, None] = {}
    cuts: dict[int, tuple[int, ...]] = {}
    for op in graph.ops[:-1]:
        for t in op.outputs:
            if op.index not in graph.constant_ops:
                alive[t] = None
        alive = {t: None for t in alive if last_read.get(t, -1) > op.index or t in ends}
        if alive and all(t in fit for t in alive):
            cuts[op.index] = tuple(alive)
    return cuts


def parts(graph: Graph, count: int) -> tuple[Cut, ...]:
    """The whole graph in at most `count` parts of about as much `work` each, in the order they run. Near an even
    division it is cut where the fewest bytes are alive; where there is no place to cut, parts stay together."""
    sizes = {at: sum(graph.tensors[t].nbytes for t in alive) for at, alive in live_cuts(graph).items()}
    done = np.cumsum([0 if op.index in graph.constant_ops else work(graph, op) for op in graph.ops])
    if not len(done):
        return ()
    share = done[-1] / count
    ends: list[int] = []
    for number in range(1, count):
        behind = {at: abs(done[at] - number * share) for at in sizes if at > max(ends, default=-1)}
        near = [at for at, away in behind.items() if away <= share / 4]
        if near:
            ends.append(min(near, key=lambda at: (sizes[at], -at)))
        elif behind and (closest := min(behind.values())) <= share:  # else this share lies within one op
            ends.append(min(at for at, away in behind.items() if away == closest))
    starts = [0, *(end + 1 for end in ends)]
    made = []
    for first, end in zip(starts, [*ends, len(graph.ops) - 1], strict=True):
        ops = tuple(o for o in range(first, end + 1) if o not in graph.constant_ops)
        if ops:
            made.append(cut(graph, ops))
    return tuple(made)
