"""Windows: runs of ops cut out of the model, fed with the reference's values, and run on the device by themselves.

This is how to look where taps cannot be trusted: nothing is read but the window's own outputs, and nothing that went
wrong before it can reach it. What it costs is a device compile for each question.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.core.arrays import Array, TensorIndex
from harness.core.errors import UsageError
from harness.core.job import Completed
from harness.core.run_folder import TensorStore
from harness.devices.base import Device
from harness.devices.execute import make_job
from harness.graph import surgery
from harness.graph.ops.cuts import Cut, cut
from harness.graph.short_ports import as_declared, with_short_ports
from harness.localize.base.case import Case
from harness.localize.base.host_runs import run_open
from harness.localize.base.op_record import OpRecord
from harness.localize.probe.excess import limit_exceeded
from harness.localize.probe.isolation import own_ports, reference_values
from harness.localize.probe.search import Answer, Window
from harness.numerics.tolerance import LOCAL_FACTOR, Judgement


@dataclass
class WindowProbe:
    """Asks the device about windows of one case. `store` holds the reference's values."""

    device: Device
    host: Device
    case: Case
    store: TensorStore
    beyond: frozenset[TensorIndex]
    judgements: dict[Window, tuple[TensorIndex, Judgement]] = field(default_factory=dict)
    beyond_limit: set[Window] = field(default_factory=set)
    """Windows of which the runtime says that they go beyond a limit of the device."""

    def __post_init__(self) -> None:
        graph = self.case.graph
        self.items = tuple(op.index for op in graph.ops if op.index not in graph.constant_ops)

    def ask(self, start: int, stop: int) -> Answer:
        """Does the window of items start … stop-1 fail by itself? Judged as a single op is; the worst result counts."""
        edges = cut(self.case.graph, self.items[start:stop])
        if not edges.results:
            return "good"
        feeds = self._feeds(edges)
        if feeds is None:
            return "unresolved"
        parts = surgery.extract(self.case.model, edges.results, edges.feeds)
        beyond = frozenset(i for i, t in enumerate(parts.origin) if t in self.beyond)
        model = with_short_ports(parts.model, own_ports(self.case.graph))
        try:
            whole = make_job(
                model, as_declared(model, feeds), self.case.part_options, timeout=self.case.timeout, final=True
            )
        except UsageError:
            return "unresolved"  # a result without a static shape
        outcome = self.device.run(whole)
        if not isinstance(outcome, Completed):
            return "unresolved"
        exact, ideals = run_open(self.case, self.host, parts.model, feeds, beyond, "running a window")
        worst: tuple[TensorIndex, Judgement] | None = None
        for t in edges.results:
            name, grid = surgery.port_name(t), self.case.graph.tensors[t].grid
            actual = outcome.outputs[name].reshape(exact[name].shape)
            judgement = self.case.judge(actual, ideals[name], exact[name], factor=LOCAL_FACTOR, grid=grid)
            if worst is None or judgement.ratio > worst[1].ratio:
                worst = (t, judgement)
        assert worst is not None
        self.judgements[Window(start, stop)] = worst
        if limit_exceeded(outcome.log):
            self.beyond_limit.add(Window(start, stop))
        return "good" if worst[1].ok else "bad"

    def alone(self, record: OpRecord) -> Answer:
        """Does the run of ops that was judged as one fail by itself on reference inputs?"""
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
            grid=made.grid,
        )

    def _feeds(self, edges: Cut) -> dict[str, Array] | None:
        """The reference's values as the device can hold them: what float16 flushes is not the window's fault."""
        feeds: dict[str, Array] = {}
        for t in edges.feeds:
            values = reference_values(self.case, self.store, t)
            if values is None:
                return None
            feeds[surgery.port_name(t)] = values
        return feeds
