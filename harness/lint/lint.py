"""All rules over all of a model's entry points."""

from __future__ import annotations

from collections.abc import Iterator

from harness.graph.model import Graph, Model
from harness.lint.catalogue import RULES
from harness.lint.rule import Finding, Hit, Rule


def lint(model: Model) -> tuple[Finding, ...]:
    """What the rules find in the subgraphs that the model's signatures run (without any: in the first), op by op."""
    found = [
        _finding(rule, graph, hit) for graph in entered(model) for rule in RULES for hit in rule.check(model, graph)
    ]
    return tuple(sorted(found, key=lambda finding: (finding.subgraph, finding.op)))


def shapeless(model: Model) -> int:
    """How many ops read or make a tensor without a static shape, and so are not looked at by any rule."""
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


def _finding(rule: Rule, graph: Graph, hit: Hit) -> Finding:
    return Finding(
        rule=rule.name,
        subgraph=graph.subgraph,
        signature=graph.signature,
        op=hit.op.index,
        op_name=hit.op.name,
        output=graph.tensors[hit.op.outputs[0]].name,
        tensor=hit.tensor.name,
        shape=hit.tensor.shape or (),
        constant=hit.tensor.constant or graph.producer.get(hit.tensor.index) in graph.constant_ops,
        sentence=hit.sentence,
        fix=hit.fix,
        releases=rule.releases,
    )
