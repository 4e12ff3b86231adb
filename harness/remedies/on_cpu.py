"""Keeping some ops on the CPU: the model as parts that run one after another, GPU and CPU by turns.

A runtime that gives a delegate all ops or none, or one partition only, cannot be told to leave an op alone; separate
models can.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from harness.core.arrays import OpIndex
from harness.graph import surgery
from harness.graph.model import Graph, Model
from harness.graph.rebuild import CannotRewrite


@dataclass(frozen=True)
class Part:
    """One model of the chain. Its inputs and outputs are named `t<n>` after tensors of the whole model."""

    on: Literal["cpu", "gpu"]
    model: Model


@dataclass(frozen=True)
class Chain:
    """Parts in the order in which they run. `inputs` and `outputs` give, for each port of the whole model, the name
    that the parts know it by."""

    parts: tuple[Part, ...]
    inputs: dict[str, str]
    outputs: dict[str, str]


def split_off(model: Model, ops: frozenset[OpIndex]) -> Chain:
    """The model with `ops` on the CPU and all others in as few GPU parts as their order allows.

    Raises:
        CannotRewrite: nothing would be left for the GPU.
    """
    graph = model.graph()
    levels = _levels(graph, ops)
    if not any(level % 2 == 0 for level in levels.values()):
        raise CannotRewrite("nothing would be left for the GPU")
    made_at = {t: level for o, level in levels.items() for t in graph.ops[o].outputs}
    outputs = {port.tensor for port in graph.outputs}
    parts = []
    for level in sorted(set(levels.values())):
        inside = [o for o, at in levels.items() if at == level]
        targets = [
            t
            for o in inside
            for t in graph.ops[o].outputs
            if t in outputs or any(levels.get(c, level) != level for c in graph.consumers.get(t, ()))
        ]
        if not targets:
            continue
        elsewhere = {t for t, at in made_at.items() if at != level}
        part = surgery.extract(model, targets, elsewhere).model
        parts.append(Part("cpu" if level % 2 else "gpu", part))
    names = [{port.name: surgery.port_name(port.tensor) for port in ports} for ports in (graph.inputs, graph.outputs)]
    return Chain(tuple(parts), names[0], names[1])


def _levels(graph: Graph, ops: frozenset[OpIndex]) -> dict[OpIndex, int]:
    """Op -> the part it belongs to: even ones run on the GPU, odd ones on the CPU, each after those it reads from."""
    levels: dict[OpIndex, int] = {}
    for op in graph.ops:
        if op.index in graph.constant_ops:
            continue
        behind = [levels[p] for t in op.inputs if (p := graph.producer.get(t, -1)) in levels]
        level = max(behind, default=0)
        if (level % 2 == 1) != (op.index in ops):
            level += 1
        levels[op.index] = level
    return levels
