"""Reading intermediates on the device: copy taps under a byte budget, and a second kind to hold against them.

A tensor that is an output of the model and that no op reads is taken from the untouched model's own run: a copy tap
would make it an intermediate, and runtimes are known that return an output wrongly only once it is read too
(google-ai-edge/LiteRT #8599).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from harness.devices.base import Device
from harness.devices.execute import failure, make_job
from harness.graph import surgery
from harness.graph.model import Graph
from harness.job import Array, Completed, Outcome
from harness.localize.baseline import Case, label_of
from harness.results import TensorStore

# Bytes of tapped values in one compile. A delegate was measured to hold 3 to 5 times as much while it runs (the value,
# its copy, the float32 output and staging buffers), beside some 300 MB of its own.
TAP_BUDGET = 192 << 20
# With no limit on compiles, less at a time.
DUMP_BUDGET = 128 << 20


@dataclass
class Tapped:
    """What copy taps brought: tensors read, tensors that no compile would give, and the own outputs of each compile."""

    read: set[int] = field(default_factory=set)
    unread: dict[int, str] = field(default_factory=dict)
    own_outputs: list[dict[str, Array]] = field(default_factory=list)


def choose(graph: Graph, budget: int | None = TAP_BUDGET) -> tuple[int, ...]:
    """The tensors that copy taps read.

    Where all of them are over the budget, results of ops that only move elements are left out, the largest first, until
    the rest fits: such an op is judged together with its reader, and told apart from it later if the two are suspect.
    """
    final = {port.tensor for port in graph.outputs if not graph.consumers.get(port.tensor)}
    chosen = [t for t in surgery.tappable(graph) if t not in final]
    excess = sum(graph.tensors[t].nbytes for t in chosen) - budget if budget is not None else 0
    moved = [t for t in chosen if graph.ops[graph.producer[t]].name in surgery.MOVING_OPS]
    if excess > sum(graph.tensors[t].nbytes for t in moved):
        return tuple(chosen)  # it takes several compiles in any case
    left_out: set[int] = set()
    for t in sorted(moved, key=lambda t: -graph.tensors[t].nbytes):
        if excess <= 0:
            break
        left_out.add(t)
        excess -= graph.tensors[t].nbytes
    return tuple(t for t in chosen if t not in left_out)


def read_copies(
    device: Device,
    case: Case,
    store: TensorStore,
    tensors: Sequence[int],
    *,
    budget: int = TAP_BUDGET,
    advance: Callable[[float], None] = lambda done: None,
) -> Tapped:
    """Read tensors through RESHAPE copies, in as few compiles as the budget allows.

    A compile that the device refuses or does not survive is halved; a single tensor that still fails is left unread,
    with the reason.
    """
    result = Tapped()
    reader = _Reader(device, case, store, advance, sum(case.graph.tensors[t].nbytes for t in tensors) or 1)
    pending = list(_batches(case.graph, tensors, budget))
    while pending:
        batch = pending.pop(0)
        outcome, arrived, own = reader.read(batch)
        result.read |= arrived
        if isinstance(outcome, Completed):
            result.own_outputs.append(own)
            continue
        rest = [t for t in batch if t not in arrived]
        if len(batch) == 1:
            result.unread[batch[0]] = failure(device.name, outcome, "reading one tensor").message
        else:
            half = (len(rest) + 1) // 2
            pending[:0] = [part for part in (rest[:half], rest[half:]) if part]
    return result


def read_again(device: Device, case: Case, direct: Sequence[int], copies: Sequence[int]) -> dict[int, Array]:
    """One more compile for a second look: some tensors as outputs themselves, some through copies.

    A compile that fails gives nothing: there is no second opinion then.
    """
    model, copied = surgery.tap(case.model, copies, "copy")
    model, exposed = surgery.tap(model, direct, "direct")
    by_name = {name: t for t, name in (copied | exposed).items()}
    job = make_job(model, case.inputs, case.options, timeout=case.timeout, wanted=tuple(by_name), final=True)
    outcome = device.run(job)
    if not isinstance(outcome, Completed):
        return {}
    return {by_name[name]: values for name, values in outcome.outputs.items()}


@dataclass
class _Reader:
    device: Device
    case: Case
    store: TensorStore
    advance: Callable[[float], None]
    total: int
    done: int = 0

    def read(self, batch: Sequence[int]) -> tuple[Outcome, set[int], dict[str, Array]]:
        graph = self.case.graph
        model, names = surgery.tap(self.case.model, batch, "copy")
        by_name = {name: t for t, name in names.items()}
        own: dict[str, Array] = {}
        arrived: set[int] = set()

        def sink(name: str, values: Array) -> None:
            t = by_name.get(name)
            if t is None:
                own[name] = values
                return
            self.store.put(label_of(graph, t), "device", values, graph.tensors[t].name)
            arrived.add(t)
            self.done += values.nbytes
            self.advance(self.done / self.total)

        # A fresh process each time: a delegate keeps much of what an earlier model took.
        self.device.rest()
        job = make_job(model, self.case.inputs, self.case.options, timeout=self.case.timeout, final=True)
        outcome = self.device.run(job, sink)
        self.device.rest()
        return outcome, arrived, own


def _batches(graph: Graph, tensors: Sequence[int], budget: int) -> Iterator[list[int]]:
    batch: list[int] = []
    size = 0
    for t in tensors:
        if batch and size + graph.tensors[t].nbytes > budget:
            yield batch
            batch, size = [], 0
        batch.append(t)
        size += graph.tensors[t].nbytes
    if batch:
        yield batch
