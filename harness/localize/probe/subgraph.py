"""Specimens: parts of a model cut out with the values that reach them, small and under plain names.

Inputs are called x0, x1, … and outputs y0, y1, …, so that equal parts of a model are equal files, and a compiled one
serves again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from harness.core.arrays import Array, OpIndex, TensorIndex
from harness.graph import surgery
from harness.graph.model import Graph, Model
from harness.graph.ops.real import real
from harness.graph.rebuild import Rebuild
from harness.graph.short_ports import as_declared, with_short_ports
from harness.localize.probe.experiment import Experiments, Specimen
from harness.localize.probe.isolation import own_ports

Values = Callable[[TensorIndex], Array | None]


@dataclass(frozen=True)
class Subgraph:
    """Ops of a graph cut out: the specimen, where each op is in it, and the tensors that x0, x1, … and y0, y1, … stand
    for."""

    specimen: Specimen
    places: dict[OpIndex, OpIndex]
    feeds: tuple[TensorIndex, ...]
    results: tuple[TensorIndex, ...]

    def operands(self, graph: Graph) -> dict[str, Array]:
        """The inputs under the names that their tensors have in the whole graph, in real numbers."""
        return {graph.tensors[t].name: real(graph, t, self.specimen.inputs[f"x{i}"]) for i, t in enumerate(self.feeds)}


def cut_out(
    model: Model, ops: Iterable[OpIndex], value: Values, results: Iterable[TensorIndex] | None = None
) -> Subgraph | None:
    """Some ops of a model, fed with `value(tensor)`.

    Results are what the rest of the model reads or what it gives out, or those of `results` that the ops make. None
    where the ops give nothing, or a value that they need is not known.
    """
    graph = model.graph()
    chosen = tuple(sorted(set(ops) - graph.constant_ops))
    inside = set(chosen)
    given = {port.tensor for port in graph.outputs}
    made = [t for o in chosen for t in graph.ops[o].outputs]
    wanted = set(results) if results is not None else None
    targets = [t for t in made if (t in wanted if wanted is not None else leaves(graph, t, inside, given))]
    if not targets:
        return None
    sources = feeds_of(graph, chosen)
    parts = surgery.extract(model, targets, sources)
    inputs: dict[str, Array] = {}
    for t in sources:
        values = value(t)
        if values is None:
            return None
        inputs[surgery.port_name(t)] = values
    small, names = plainly_named(with_short_ports(parts.model, own_ports(graph)))
    fed = as_declared(small, {names[name]: values for name, values in inputs.items() if name in names})
    needed = {o for t in targets for o in surgery.closure(graph, t, frozenset(sources))[0]}
    after = small.graph()
    kept = [o for o in chosen if o in needed]
    # Inputs that are too long for a GPU have a RESHAPE each, before the others.
    before = sum(fed[names[name]].shape != values.shape for name, values in inputs.items() if name in names)
    moved = [op.index for op in after.ops if op.index not in after.constant_ops][before : before + len(kept)]
    places = zip(kept, moved, strict=True)
    by_name = {name: t for t, name in ((t, names.get(surgery.port_name(t))) for t in sources) if name}
    feeds = tuple(by_name[f"x{i}"] for i in range(len(by_name)))
    return Subgraph(Specimen(small, fed), dict(places), feeds, tuple(targets))


def plainly_named(model: Model) -> tuple[Model, dict[str, str]]:
    """The model with inputs x0, x1, … and outputs y0, y1, …: (model, old input name -> new)."""
    rebuild = Rebuild(model)
    for op in rebuild.graph.ops:
        rebuild.keep(op)
    names = {port.name: f"x{i}" for i, port in enumerate(rebuild.graph.inputs)}
    return rebuild.finish(names | {port.name: f"y{i}" for i, port in enumerate(rebuild.graph.outputs)}), names


def fewer_ops(experiments: Experiments, specimen: Specimen, without: OpIndex) -> Specimen | None:
    """A specimen without one of its ops: what that op made is fed with its exact values instead."""
    graph = specimen.model.graph()
    rest = [op.index for op in graph.ops if op.index != without and op.index not in graph.constant_ops]
    if not rest:
        return None
    known = {port.tensor: specimen.inputs[port.name] for port in graph.inputs}
    needed = [t for t in feeds_of(graph, rest) if t not in known]
    known |= experiments.values(specimen, needed) if needed else {}
    part = cut_out(specimen.model, rest, known.get)
    # In place of a RESHAPE that makes an input long there would be another.
    fewer = part is not None and len(part.specimen.model.graph().ops) < len(graph.ops)
    return part.specimen if part is not None and fewer else None


def fewer_outputs(specimen: Specimen, without: str) -> Specimen | None:
    """A specimen that does not give out one of its results; ops behind that alone go too."""
    graph = specimen.model.graph()
    kept = {port.tensor for port in graph.outputs if port.name != without}
    if not kept:
        return None
    known: Mapping[TensorIndex, Array] = {port.tensor: specimen.inputs[port.name] for port in graph.inputs}
    behind = {o for t in kept for o in surgery.closure(graph, t, frozenset())[0]}
    part = cut_out(specimen.model, behind, known.get, kept)
    return part.specimen if part else None


def leaves(graph: Graph, t: TensorIndex, inside: set[OpIndex], given: set[TensorIndex]) -> bool:
    """Whether an op that is not `inside` reads a tensor, or it is one of those `given` out."""
    return t in given or any(c not in inside for c in graph.consumers.get(t, ()))


def feeds_of(graph: Graph, ops: Iterable[OpIndex]) -> tuple[TensorIndex, ...]:
    """Tensors that the ops read and none of them makes; constants and what is folded from them excepted."""
    inside = set(ops)
    ports = {port.tensor for port in graph.inputs}
    feeds: dict[TensorIndex, None] = {}
    for o in sorted(inside):
        for t in graph.ops[o].inputs:
            source = graph.producer.get(t)
            if t in ports or (source is not None and source not in inside and source not in graph.constant_ops):
                feeds[t] = None
    return tuple(feeds)
