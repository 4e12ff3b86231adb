"""Reading intermediates on the device: copy taps under a byte budget, and a second kind to hold against them.

A tensor that is an output of the model and that no op reads is taken from the untouched model's own run: a copy tap
would make it an intermediate, and runtimes are known that return an output wrongly only once it is read too
(google-ai-edge/LiteRT #8599).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from harness.core.arrays import Array, OpIndex, TensorIndex
from harness.core.job import Completed, Outcome
from harness.core.run_folder import TensorStore
from harness.devices.base import Device
from harness.devices.execute import failure, make_job
from harness.graph import fold, surgery
from harness.graph.model import Graph, Model
from harness.graph.short_ports import without_large_outputs
from harness.localize.base.case import Case
from harness.localize.base.comparison import ModelComparison, Workbench, changed_output
from harness.localize.base.reference import budgeted, label_of

# Bytes of tapped values in one compile. A delegate was measured to hold 3 to 5 times as much while it runs (the value,
# its copy, the float32 output and staging buffers), beside some 300 MB of its own.
TAP_BUDGET = 192 << 20
# With no limit on compiles, less at a time.
DUMP_BUDGET = 128 << 20


_RESIZES = frozenset(("RESIZE_NEAREST_NEIGHBOR",))
_ROUND_ONCE = frozenset(("ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "ABS", "NEG", "RELU"))


@dataclass
class Tapped:
    """What copy taps brought: tensors read, tensors that no compile would give, the own outputs of each compile, and
    whether one of them put ops elsewhere than the untouched model has them."""

    read: set[TensorIndex] = field(default_factory=set)
    unread: dict[TensorIndex, str] = field(default_factory=dict)
    own_outputs: list[dict[str, Array]] = field(default_factory=list)
    moved: bool = False

    @property
    def own(self) -> dict[str, Array]:
        """The own outputs that came, of all compiles."""
        return {name: values for part in self.own_outputs for name, values in part.items()}


def choose(
    graph: Graph, budget: int | None = TAP_BUDGET, on_cpu: frozenset[OpIndex] = frozenset()
) -> tuple[TensorIndex, ...]:
    """The tensors that copy taps read. Of those that ops `on_cpu` make, only what others read: more copies there could
    make the CPU's part of the graph the larger one, which the delegate takes.

    Where all of them are over the budget, the largest are left out until the rest fits: first results of ops that only
    move elements, then those of ops that round once and have one reader, itself read. Such an op is judged together
    with its reader, and told apart from it later if the two are suspect.
    """
    final = {port.tensor for port in graph.outputs if not graph.consumers.get(port.tensor)}
    wanted = {t for op in graph.ops if op.index not in on_cpu for t in (*op.inputs, *op.outputs)}
    chosen = [t for t in surgery.tappable(graph) if t not in final and t in wanted]
    excess = sum(graph.tensors[t].nbytes for t in chosen) - budget if budget is not None else 0
    left_out: set[TensorIndex] = set()
    for kinds in (surgery.MOVING_OPS | _RESIZES, _ROUND_ONCE):
        of_kind = [t for t in chosen if graph.ops[graph.producer[t]].name in kinds]
        for t in sorted(of_kind, key=lambda t: -graph.tensors[t].nbytes):
            if excess <= 0:
                break
            if kinds is _ROUND_ONCE and not _judged_with_reader(graph, t, left_out):
                continue
            left_out.add(t)
            excess -= graph.tensors[t].nbytes
    if excess > 0:
        return tuple(chosen)  # it takes several compiles in any case
    return tuple(t for t in chosen if t not in left_out)


def _judged_with_reader(graph: Graph, tensor: TensorIndex, left_out: set[TensorIndex]) -> bool:
    readers = graph.consumers.get(tensor, ())
    near = [*graph.ops[graph.producer[tensor]].inputs, *(t for o in readers for t in graph.ops[o].outputs)]
    return len(readers) == 1 and left_out.isdisjoint(near) and tensor not in {port.tensor for port in graph.outputs}


def read_copies(
    device: Device,
    case: Case,
    store: TensorStore,
    tensors: Sequence[TensorIndex],
    *,
    budget: int = TAP_BUDGET,
    advance: Callable[[float], None] = lambda done: None,
    warmup: int = 0,
) -> Tapped:
    """Read tensors through RESHAPE copies, in as few compiles as the budget allows.

    Where one is enough, it is of the whole model. Where it is not, each compile is a window of the model that reads the
    device's own values of what an earlier one read, so that the cost grows with the model and not with its square. A
    compile that the device refuses or does not survive is halved; a single tensor that still fails is left unread,
    with the reason. After `warmup` runs of each compiled model: a device may be right the first time only.

    Where the CPU runs a part of the model, each compile is of the whole: a window would be divided in another way.
    """
    result = Tapped()
    total = sum(case.graph.tensors[t].nbytes for t in tensors) or 1
    reader = _Reader(device, case, store, advance, total, warmup)
    pending = list(budgeted(case.graph, tensors, budget))
    whole = len(pending) <= 1 or bool(case.on_cpu)
    last = pending[-1][-1] if pending else -1
    while pending:
        batch = pending.pop(0)
        sources = None if whole else frozenset(result.read)
        outcome, arrived, own = reader.read(batch, sources, batch[-1] == last)
        result.read |= arrived
        if isinstance(outcome, Completed):
            result.own_outputs.append(own)
            result.moved |= reader.moved
            continue
        rest = [t for t in batch if t not in arrived]
        if len(batch) == 1:
            result.unread[batch[0]] = failure(device.name, outcome, "reading one tensor").message
        else:
            half = (len(rest) + 1) // 2
            pending[:0] = [part for part in (rest[:half], rest[half:]) if part]
    return result


@dataclass
class _Reader:
    device: Device
    case: Case
    store: TensorStore
    advance: Callable[[float], None]
    total: int
    warmup: int
    done: int = 0
    moved: bool = False

    def read(
        self, batch: Sequence[TensorIndex], sources: frozenset[TensorIndex] | None, last: bool
    ) -> tuple[Outcome, set[TensorIndex], dict[str, Array]]:
        """Read some tensors in the whole model, or in the window between them and `sources`; the last window gives the
        model's own outputs as well."""
        graph = self.case.graph
        inputs = self.case.inputs
        given_out: dict[TensorIndex, str] = {}
        if sources is None:
            model, names = surgery.tap(self.case.model, batch, "copy")
            model = without_large_outputs(model)
            by_name, own_names = (
                {name: t for t, name in names.items()},
                {port.name: port.name for port in graph.outputs},
            )
        else:
            ends = {port.tensor: port.name for port in graph.outputs if last and port.tensor in graph.producer}
            ends = {t: n for t, n in ends.items() if t not in batch and not fold.too_large(graph.tensors[t].shape)}
            model = surgery.extract(self.case.model, (*batch, *ends), sources, frozenset(batch)).model
            by_name = {surgery.port_name(t): t for t in batch}
            own_names = {surgery.port_name(t): name for t, name in ends.items()}
            given_out = {port.tensor: port.name for port in graph.outputs}
            inputs = self._device_values(model)
        own: dict[str, Array] = {}
        arrived: set[TensorIndex] = set()

        def sink(name: str, values: Array) -> None:
            t = by_name.get(name)
            if t is None:
                own[own_names[name]] = values
                return
            values = values.reshape(graph.tensors[t].shape or ())  # what is too long comes in two dimensions
            self.store.put(label_of(graph, t), "device", values, graph.tensors[t].name)
            arrived.add(t)
            if t in given_out:  # a window gives it once, as what was read
                own[given_out[t]] = values
            self.done += values.nbytes
            self.advance(self.done / self.total)

        # A fresh process each time: a delegate keeps much of what an earlier model took.
        self.device.stop()
        options, timeout = self.case.options, self.case.timeout
        job = make_job(model, inputs, options, timeout=timeout, warmup=self.warmup, final=True)
        outcome = self.device.run(job, sink)
        self.device.stop()
        self.moved = isinstance(outcome, Completed) and not self.case.kept_by(model, outcome)
        return outcome, arrived, own

    def _device_values(self, window: Model) -> dict[str, Array]:
        """What a window reads: the case's inputs, and values read on the device before."""
        graph = self.case.graph
        inputs = {surgery.port_name(port.tensor): self.case.inputs[port.name] for port in graph.inputs}
        for port in window.graph().inputs:
            if port.name not in inputs:
                inputs[port.name] = self.store.get(label_of(graph, surgery.tensor_of(port.name)), "device")
        return {port.name: inputs[port.name] for port in window.graph().inputs}


def outputs_under_taps(
    bench: Workbench, case: Case, first: ModelComparison, tapped: Tapped
) -> tuple[dict[str, Array], str]:
    """The model's own outputs as the tapped run gave them, and which of them tapping changed, in a clause. None where
    one was changed: then it is not the model's."""
    for own in tapped.own_outputs:
        changed = changed_output(bench, case, first, own, fused_otherwise=True)
        if changed:
            return {}, changed
    return tapped.own, ""
