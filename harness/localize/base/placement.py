"""Which ops ran on the GPU where the CPU took the rest (`--fallback cpu`), and whether a tapped model keeps to it.

The runtime logs what the delegate refuses, and how many ops go where. Of the kinds that it names each op is compiled by
itself, so that it is known which of them are meant; how the graph is then divided is a rule of the runtime's
(`graph.partition`). Only where that gives the number of ops that the log has is the division known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.core.arrays import OpIndex
from harness.core.job import Completed, Options, Rejected, Residency
from harness.core.progress import SILENT, Progress
from harness.devices.base import Device
from harness.devices.execute import completed, make_job
from harness.devices.refusal import grouped
from harness.graph import surgery
from harness.graph.model import Graph, Model, Op
from harness.graph.ops.partition import delegated

# Ops of one form are asked about once; a model has few forms of the kinds that are refused.
MOST_COMPILES = 64
# Runs of ops that a sentence lists.
MOST_RANGES = 8
# Elements of constants that are options rather than weights: axes, paddings, sizes.
SMALL = 16


@dataclass(frozen=True)
class Placement:
    """Where a model's ops run: the runtime's counts, the ops that the delegate does not take, and those that stay on
    the CPU for that; both None where they cannot be told."""

    residency: Residency
    unsupported: frozenset[OpIndex] | None
    on_cpu: frozenset[OpIndex] | None

    @property
    def counted(self) -> Residency:
        """The residency with the ops on the CPU."""
        return replace(self.residency, on_cpu=None if self.on_cpu is None else tuple(sorted(self.on_cpu)))

    def kept_by(self, model: Graph, changed: Graph, residency: Residency) -> bool:
        """Whether the ops of a model ran where they are placed in a model that has further RESHAPE copies and outputs,
        by the counts of its run. Copies are the GPU's to take."""
        if self.unsupported is None or self.on_cpu is None:
            return False
        if self.residency.full:
            return residency.full
        place = {op.outputs: op.index for op in model.ops}
        unsupported = frozenset(o.index for o in changed.ops if place.get(o.outputs) in self.unsupported)
        taken = delegated(changed, unsupported)
        if taken is None or (len(taken), len(changed.ops)) != (residency.delegated, residency.total):
            return False
        original = {place[changed.ops[o].outputs] for o in taken if changed.ops[o].outputs in place}
        return original == {op.index for op in model.ops} - self.on_cpu

    def sentence(self, graph: Graph) -> str:
        """What ran where, and why not on the GPU."""
        held = self.residency
        why = f" The GPU delegate refuses {', '.join(grouped(held.refused))}." if held.refused else ""
        if held.full:
            return "The GPU took every op, and the CPU none."
        if held.delegated is None:
            return "The runtime does not say how many ops the GPU took."
        if held.delegated == 0:
            return f"The CPU ran all {held.total} ops, and the GPU none.{why}"
        counted = f"The GPU ran {held.delegated} of {held.total} ops"
        if self.on_cpu is None:
            return f"{counted}; which ones the CPU ran cannot be told.{why}"
        return f"{counted}; the CPU ran {_ranges(sorted(self.on_cpu))}.{why}"


def _ranges(ops: Sequence[OpIndex]) -> str:
    """`#0 to #6, #9`; the first few."""
    runs: list[list[OpIndex]] = []
    for o in ops:
        if runs and runs[-1][-1] == o - 1:
            runs[-1].append(o)
        else:
            runs.append([o])
    told = [f"#{run[0]}" if len(run) == 1 else f"#{run[0]} to #{run[-1]}" for run in runs]
    rest = sum(map(len, runs[MOST_RANGES:]))
    return ", ".join(told[:MOST_RANGES]) + (f" and {rest} more" if rest else "")


def not_placed(placement: Placement | None, graph: Graph) -> str | None:
    """Why no op of the GPU can be named where the CPU runs a part; None where one can."""
    if placement is None or placement.residency.full:
        return None
    if placement.residency.delegated == 0:
        return "No op ran on the GPU, so none of its ops is at fault."
    if placement.on_cpu is None:
        return "Which ops ran on the GPU cannot be told, so none is named."
    prepared = graph.constant_ops & placement.on_cpu
    on_gpu = (op for op in graph.ops if op.index not in placement.on_cpu)
    fed = {graph.producer[t] for op in on_gpu for t in op.inputs if t in graph.producer}
    if unread := sorted(prepared & fed):
        kinds = ", ".join(sorted({graph.ops[o].name for o in unread}))
        return (
            f"The GPU's ops read constants that the CPU prepares at run time ({kinds} {_ranges(unread)}), and these "
            "cannot be read back: whether they or the ops are wrong cannot be told. "
            "Without --fallback they are computed ahead, as a converter can."
        )
    return None


def find_placement(
    device: Device,
    model: Model,
    options: Options,
    timeout: float,
    progress: Progress = SILENT,
    doing: str = "compiling the model",
) -> Placement:
    """Compile a model and see what stays on the CPU; a failure says that it came while `doing`.

    Raises:
        DeviceError: the device does not compile the model, or is lost on the way.
    """
    job = make_job(model, {}, options, timeout=timeout, wanted=(), iterations=0)
    residency = completed(device, job, doing).residency
    graph = model.graph()
    if residency.full:
        return Placement(residency, frozenset(), frozenset())
    if residency.delegated is None:
        return Placement(residency, None, None)
    if residency.delegated == 0:
        every = frozenset(op.index for op in graph.ops)
        return Placement(residency, every, every)
    unsupported = _unsupported(
        device, model, graph, residency.refused, replace(options, fallback="none"), timeout, progress
    )
    if unsupported is None:
        return Placement(residency, None, None)
    taken = delegated(graph, unsupported)
    if taken is None or (len(taken), len(graph.ops)) != (residency.delegated, residency.total):
        return Placement(residency, None, None)
    return Placement(residency, unsupported, frozenset(op.index for op in graph.ops) - set(taken))


def _unsupported(
    device: Device,
    model: Model,
    graph: Graph,
    refused: tuple[str, ...],
    options: Options,
    timeout: float,
    progress: Progress,
) -> frozenset[OpIndex] | None:
    """The ops that the delegate does not take by themselves; None where one of them gives no answer."""
    named = {line.partition(":")[0].strip() for line in refused}
    answers: dict[Any, bool] = {}
    found = set()
    for op in graph.ops:
        if not _is_named(op, named):
            continue
        if op.custom is not None or op.index in graph.constant_ops:
            found.add(op.index)  # no op of its own to compile
            continue
        form = _form(model, graph, op)
        if form not in answers:
            if len(answers) == MOST_COMPILES:
                return None
            progress.stage(f"does the GPU take {op.name} #{op.index} by itself?", 0.3)
            taken = _takes(device, model, graph, op, options, timeout)
            if taken is None:
                return None
            answers[form] = taken
        if not answers[form]:
            found.add(op.index)
    return frozenset(found)


def _is_named(op: Op, named: set[str]) -> bool:
    return op.name in named if op.custom is None else any(name.endswith(op.custom) for name in named)


def _takes(device: Device, model: Model, graph: Graph, op: Op, options: Options, timeout: float) -> bool | None:
    folded = {t for o in graph.constant_ops for t in graph.ops[o].outputs}
    feeds = [t for t in dict.fromkeys(op.inputs) if t >= 0 and t not in folded and not graph.tensors[t].constant]
    part = surgery.extract(model, op.outputs, feeds).model
    outcome = device.run(make_job(part, {}, options, timeout=timeout, wanted=(), iterations=0))
    if isinstance(outcome, Completed):
        return True
    return False if isinstance(outcome, Rejected) and outcome.ops else None


def _form(model: Model, graph: Graph, op: Op) -> tuple[Any, ...]:
    """What decides whether an op is taken: its kind and options, and the types and shapes of its operands, and whether
    they are constants; small ones with their values, for some of these are options too."""
    chosen = model.root.subgraphs[0].operators[op.index].builtinOptions
    options = () if chosen is None else tuple(sorted((name, str(value)) for name, value in vars(chosen).items()))
    operands: list[Any] = []
    for t in (*op.inputs, *op.outputs):
        tensor = graph.tensors[t] if t >= 0 else None
        values = model.constant(t) if tensor is not None and tensor.constant and tensor.elements <= SMALL else None
        folded = graph.producer.get(t) in graph.constant_ops
        facts = None if tensor is None else (tensor.type, tensor.shape, tensor.constant, folded)
        operands.append((facts, None if values is None else values.tobytes()))
    return op.name, options, len(op.inputs), tuple(operands)
