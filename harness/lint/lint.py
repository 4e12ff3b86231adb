"""The catalogue over all of a model's entry points."""

from __future__ import annotations

from collections.abc import Iterator

from harness.graph.model import Graph, Model
from harness.lint.finding import Finding
from harness.lint.knowledge.entry import Effect, Entry, Sure
from harness.lint.knowledge.pattern import Match
from harness.lint.knowledge.reading import entries
from harness.lint.knowledge.scene import Scene
from harness.lint.knowledge.target import Target, target_of


def lint(model: Model, target: Target | None = None) -> tuple[Finding, ...]:
    """What the catalogue says of the subgraphs that the model's signatures run (without any: of the first) on a target,
    the installed runtime's GPU if none is given; op by op, what is certain first."""
    target = target or target_of("host")
    found = []
    for graph in entered(model):
        scene = Scene(model, graph)
        for entry in entries():
            if entry.listed and (there := entry.at(target)) is not None:
                found += [_finding(entry, match, there, target) for match in entry.pattern.matches(scene)]
    return tuple(sorted(found, key=lambda one: (one.subgraph, one.op, one.sure, one.rule)))


def silent(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """Those that are certain to be wrong without a word."""
    return tuple(finding for finding in findings if finding.level == "silent")


def shapeless(model: Model) -> int:
    """How many ops read or make a tensor without a static shape, so that most entries do not fit them."""
    return sum(
        any(t >= 0 and graph.tensors[t].shape is None for t in (*op.inputs, *op.outputs))
        for graph in entered(model)
        for op in graph.ops
    )


def entered(model: Model) -> Iterator[Graph]:
    """The subgraphs that the model's signatures run, each once; without signatures the first."""
    seen: set[int] = set()
    for signature in model.signatures or (None,):
        graph = model.graph(signature)
        if graph.subgraph not in seen:
            seen.add(graph.subgraph)
            yield graph


def _finding(entry: Entry, match: Match, there: tuple[Effect, Sure], target: Target) -> Finding:
    graph, about = match.scene.graph, match.tensors[entry.about]
    return Finding(
        entry=entry,
        effect=there[0],
        sure=there[1],
        target=target.words,
        subgraph=graph.subgraph,
        signature=graph.signature,
        op=match.op.index,
        op_name=match.op.name,
        output=graph.tensors[match.op.outputs[0]].name if match.op.outputs else "",
        tensor=about.tensor.name,
        shape=about.shape or (),
        constant=about.role != "runtime",
        sentence=entry.tell(entry.sentence, match),
        fix=entry.help(match),
    )
