"""What the last sums before an output may cost it by themselves.

Over a whole model the errors of its ops average out, and its outputs are held to less than an op is. That is wrong of
an output that one sum accounts for: a last 3x3 convolution of 128 channels, summed in float16, showed 15 to 20 times
the ideal error, where an op may show 32 and an output 16. So an output that is off by no more than an op may be is held
to that as well, with what an ideal device makes of its tail: the ops from the last sums on, on the exact values that
feed them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.core.arrays import Array, TensorIndex
from harness.devices.base import Device
from harness.devices.execute import completed, make_job
from harness.graph import surgery
from harness.graph.model import Graph
from harness.localize.base.case import REFERENCE, Case
from harness.localize.base.host_runs import run_open
from harness.localize.base.ideals import Ideals
from harness.localize.base.result import OutputVerdict
from harness.numerics.tolerance import LOCAL_FACTOR

SUMS = frozenset((
    "CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "CONV_3D", "FULLY_CONNECTED", "BATCH_MATMUL", "SUM", "MEAN",
    "AVERAGE_POOL_2D",
))  # fmt: skip


@dataclass(frozen=True)
class Tails:
    """Runs the tails of a case's outputs on the host; `beyond` are tensors that the device cannot hold."""

    host: Device
    case: Case
    beyond: frozenset[TensorIndex]

    def beside(
        self, ideal: dict[str, Ideals], outputs: Sequence[OutputVerdict], exact: Mapping[str, Array]
    ) -> dict[str, Ideals]:
        """The ideals of each output, with those of its tail where it is off by too much for a model and not for an op;
        the same object where there is no such output. Raises DeviceError."""
        graph = self.case.graph
        near = {o.name for o in outputs if not o.judgement.ok and o.judgement.ratio <= LOCAL_FACTOR}
        fed = {p: fed_by(graph, p.tensor) for p in graph.outputs if p.name in near and not graph.tensors[p.tensor].grid}
        found = {p.name: self._of(p.tensor, feeds, exact[p.name]) for p, feeds in fed.items() if feeds}
        return {name: each.with_tail(found.get(name)) for name, each in ideal.items()} if found else ideal

    def _of(self, tensor: TensorIndex, feeds: frozenset[TensorIndex], exact: Array) -> Ideals:
        case = self.case
        tapped, names = surgery.tap(case.model, sorted(feeds - {port.tensor for port in case.graph.inputs}), "direct")
        job = make_job(tapped, case.inputs, REFERENCE, timeout=case.timeout)
        values = completed(self.host, job, "reading what feeds the last sums").outputs
        given = {port.tensor: case.inputs[port.name] for port in case.graph.inputs}
        given |= {t: values[name] for t, name in names.items()}
        part = surgery.islands(case.model, [(tensor, feeds)])
        inputs = {surgery.port_name(t): given[t] for t in sorted(feeds)}
        beyond = frozenset(i for i, t in enumerate(part.origin) if t in self.beyond)
        (port,) = part.model.graph().outputs
        found, ideals = run_open(case, self.host, part.model, inputs, beyond, "running the last sums ideally")
        return ideals[port.name].around(exact, found[port.name])


def fed_by(graph: Graph, tensor: TensorIndex) -> frozenset[TensorIndex]:
    """What feeds the last sums before a tensor, and the ops between; empty where no sum is among them."""
    feeds: set[TensorIndex] = set()
    summed, seen, stack = False, {tensor}, [tensor]
    inputs = {port.tensor for port in graph.inputs}
    while stack:
        t = stack.pop()
        if t in inputs:
            feeds.add(t)
        if (maker := graph.producer.get(t)) is None or maker in graph.constant_ops:
            continue
        op = graph.ops[maker]
        read = [i for i in op.inputs if i >= 0 and not graph.tensors[i].constant]
        read = [i for i in read if graph.producer.get(i) not in graph.constant_ops]
        if op.name in SUMS:
            summed = True
            feeds.update(read)
        else:
            stack += [i for i in read if i not in seen]
            seen.update(read)
    return frozenset(feeds) if summed else frozenset()
