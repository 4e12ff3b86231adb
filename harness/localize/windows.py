"""Windows: runs of ops cut out of the model, fed with the reference's values, and run on the device by themselves.

This is how to look where taps cannot be trusted: nothing is read but the window's own outputs, and nothing that went
wrong before it can reach it. What it costs is a device compile for each question.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.devices.base import Device
from harness.devices.execute import completed, make_job
from harness.graph import surgery
from harness.graph.model import Graph
from harness.job import Array, Completed
from harness.localize.baseline import REFERENCE, Case, label_of, output_label
from harness.localize.result import OpRecord
from harness.localize.search import Answer, Window
from harness.numerics.metrics import compare
from harness.numerics.verdict import LOCAL_FACTOR, Judgement, judge
from harness.results import TensorStore

# Questions to the device in one search; a segment not reached then is reported, never guessed.
QUESTION_LIMIT = 200


@dataclass(frozen=True)
class Cut:
    """A window's edges: ops first … last of the graph, the tensors that feed it, and those it gives to the rest."""

    ops: tuple[int, ...]
    feeds: tuple[int, ...]
    results: tuple[int, ...]


def cut(graph: Graph, ops: tuple[int, ...]) -> Cut:
    """The edges of some consecutive ops; constant-folded ops belong to whoever reads them."""
    inside = set(ops)
    made = {t for o in ops for t in graph.ops[o].outputs}
    outputs = {port.tensor for port in graph.outputs}
    feeds: dict[int, None] = {}
    for o in ops:
        for t in graph.ops[o].inputs:
            if t < 0 or t in made or graph.tensors[t].constant or graph.producer.get(t) in graph.constant_ops:
                continue
            feeds[t] = None
    results = [t for t in sorted(made) if t in outputs or any(c not in inside for c in graph.consumers.get(t, ()))]
    return Cut(ops, tuple(feeds), tuple(results))


@dataclass
class WindowProbe:
    """Asks the device about windows of one case. `store` holds the reference's values."""

    device: Device
    host: Device
    case: Case
    store: TensorStore
    beyond: frozenset[int]
    judgements: dict[Window, tuple[int, Judgement]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        graph = self.case.graph
        self.items = tuple(op.index for op in graph.ops if op.index not in graph.constant_ops)

    def ask(self, start: int, stop: int) -> Answer:
        """Does the window of items start … stop-1 fail by itself? Judged as a single op is; the worst result counts."""
        edges = cut(self.case.graph, self.items[start:stop])
        if not edges.results:
            return "good"
        feeds = self._feeds(edges)
        if feeds is None or not all(self._known(t) for t in edges.results):
            return "unresolved"
        parts = surgery.extract(self.case.model, edges.results, edges.feeds)
        outcome = self.device.run(
            make_job(parts.model, feeds, self.case.options, timeout=self.case.timeout, final=True)
        )
        if not isinstance(outcome, Completed):
            return "unresolved"
        beyond = frozenset(i for i, t in enumerate(parts.origin) if t in self.beyond)
        job = make_job(
            self.case.ideal(parts.model, beyond), self.case.disturbed(feeds), REFERENCE, timeout=self.case.timeout
        )
        ideal = completed(self.host, job, "running the ideal window").outputs
        worst: tuple[int, Judgement] | None = None
        for t in edges.results:
            name, exact = surgery.port_name(t), self._reference(t)
            judgement = judge(
                compare(outcome.outputs[name], exact),
                compare(ideal[name], exact),
                half=self.case.options.half,
                roundoff=self.case.roundoff,
                factor=LOCAL_FACTOR,
            )
            if worst is None or judgement.ratio > worst[1].ratio:
                worst = (t, judgement)
        assert worst is not None
        self.judgements[Window(start, stop)] = worst
        return "good" if worst[1].ok else "bad"

    def alone(self, record: OpRecord) -> Answer:
        """Does an op (or the run of ops that was judged as one) fail by itself on reference inputs?"""
        places = [i for i, op in enumerate(self.items) if record.first <= op <= record.index]
        return self.ask(places[0], places[-1] + 1)

    def record(self, window: Window) -> OpRecord:
        """A failing window as a culprit's record."""
        tensor, judgement = self.judgements[window]
        graph = self.case.graph
        last = graph.ops[self.items[window.stop - 1]]
        made = graph.tensors[tensor]
        return OpRecord(
            index=last.index,
            op=last.custom or last.name,
            first=self.items[window.start],
            output=made.name,
            tensor=tensor,
            shape=made.shape or (),
            dtype=made.type.lower(),
            verdict="culprit",
            local=judgement,
            reference_max_abs=judgement.actual.max_abs,
            reference_cosine=judgement.actual.cosine,
            reading="window",
        )

    def _known(self, tensor: int) -> bool:
        return self.store.has(label_of(self.case.graph, tensor), "reference") or any(
            port.tensor == tensor for port in self.case.graph.outputs
        )

    def _reference(self, tensor: int) -> Array:
        label = label_of(self.case.graph, tensor)
        if not self.store.has(label, "reference"):
            label = next(output_label(port.name) for port in self.case.graph.outputs if port.tensor == tensor)
        return self.store.get(label, "reference")

    def _feeds(self, edges: Cut) -> dict[str, Array] | None:
        ports = {port.tensor: port.name for port in self.case.graph.inputs}
        feeds: dict[str, Array] = {}
        for t in edges.feeds:
            if t in ports:
                feeds[surgery.port_name(t)] = self.case.inputs[ports[t]]
            elif self._known(t):
                feeds[surgery.port_name(t)] = self._reference(t)
            else:
                return None
        return feeds
