"""Which ops ran on the GPU where the CPU took the rest (`--fallback cpu`), and whether a tapped model keeps to it.

The runtime logs what the delegate refuses, and how many ops go where. Of the kinds that it names each op is compiled by
itself, so that it is known which of them are meant; how the graph is then divided is a rule of the runtime's
(`graph.partition`). Only where that gives the number of ops that the log has is the division known.

A phone's log may cut the delegate's list off. The list is sorted, so it is known which kinds of op could still follow;
each op of these is compiled by itself as well, and what the delegate says of it completes the list.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.core.arrays import OpIndex
from harness.core.job import Completed, Crashed, Options, Outcome, Rejected, Residency
from harness.core.progress import SILENT, Progress
from harness.devices.base import Device
from harness.devices.execute import completed, make_job
from harness.devices.refusal import may_follow, refusals
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
        why = f" The GPU delegate refuses {refusals(held.refused, held.cut)}." if held.refused else ""
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
    ops, unasked = _meant(graph, residency)
    gpu = replace(options, fallback="none")
    asked = ask_alone(device, model, ops, gpu, timeout, progress, partly=residency.cut)
    unsupported = asked.refused | unasked
    if residency.cut:
        residency = replace(residency, refused=merged(residency.refused, asked.lines), cut=not asked.whole)
    taken = delegated(graph, unsupported) if asked.whole else None
    if taken is None or (len(taken), len(graph.ops)) != (residency.delegated, residency.total):
        return Placement(residency, None, None)
    return Placement(residency, unsupported, frozenset(op.index for op in graph.ops) - set(taken))


def _meant(graph: Graph, residency: Residency) -> tuple[list[Op], frozenset[OpIndex]]:
    """The ops that a delegate's list means or may mean and that can be compiled by themselves; and the refused ones
    that cannot. Of ops of constants the delegate takes none but DEQUANTIZE."""
    named = {line.partition(":")[0].strip() for line in residency.refused}
    asked, unasked = list[Op](), set[OpIndex]()
    for op in graph.ops:
        is_named = _is_named(op, named)
        may_be = residency.cut and may_follow(op, residency.refused)
        if op.index in graph.constant_ops:
            if is_named or (may_be and op.name != "DEQUANTIZE"):
                unasked.add(op.index)
        elif is_named and op.custom is not None:
            unasked.add(op.index)
        elif is_named or may_be:
            asked.append(op)
    return asked, frozenset(unasked)


def _is_named(op: Op, named: set[str]) -> bool:
    return op.name in named if op.custom is None else any(name.endswith(op.custom) for name in named)


@dataclass(frozen=True)
class Alone:
    """What a delegate says of ops that it is given one by one: which it does not take, and its lines on them. `whole`:
    it gave an answer on each."""

    refused: frozenset[OpIndex]
    lines: tuple[str, ...]
    whole: bool


def ask_alone(
    device: Device,
    model: Model,
    ops: Iterable[Op],
    options: Options,
    timeout: float,
    progress: Progress = SILENT,
    *,
    partly: bool = True,
) -> Alone:
    """Compile each form of some ops by itself, `MOST_COMPILES` at most. A device that hangs, or is lost, is asked no
    further; what it refuses without naming an op, or dies of, is no answer, and where answers on some are of no use
    (not `partly`) the last question."""
    graph = model.graph()
    answers: dict[Any, tuple[tuple[str, ...], tuple[str, ...] | None]] = {}
    refused, lines, whole = set[OpIndex](), list[str](), True
    for op in ops:
        form = _form(model, graph, op)
        if form not in answers:
            if len(answers) == MOST_COMPILES:
                whole = False
                break
            progress.stage(f"does the GPU take {op.custom or op.name} #{op.index} by itself?", 0.3)
            part = _alone(model, graph, op)
            outcome = device.run(make_job(part, {}, options, timeout=timeout, wanted=(), iterations=0))
            answers[form] = _operands(part.graph(), part.graph().ops[-1]), _lines_on(outcome)
            if not isinstance(outcome, Completed | Rejected | Crashed):
                whole = False
                break
        names, said = answers[form]
        if said is None:
            whole = False
            if not partly:
                break
        elif said:
            refused.add(op.index)
            lines += (_of(names, _operands(graph, op), line) for line in said)
    return Alone(frozenset(refused), merged(sorted(lines)), whole)


def merged(*lists: Sequence[str]) -> tuple[str, ...]:
    """The lines of several lists, each once, in the order of the first that has it."""
    return tuple(dict.fromkeys(line for lines in lists for line in lines))


def _lines_on(outcome: Outcome) -> tuple[str, ...] | None:
    """The delegate's lines on an op by itself, none where it takes it; None for no answer."""
    if isinstance(outcome, Completed):
        return ()
    return outcome.ops or None if isinstance(outcome, Rejected) else None


def _operands(graph: Graph, op: Op) -> tuple[str, ...]:
    """The names of what an op reads and gives."""
    return tuple(graph.tensors[t].name if t >= 0 else "" for t in (*op.inputs, *op.outputs))


def _of(asked: tuple[str, ...], names: tuple[str, ...], line: str) -> str:
    """A line on an op that was asked, with its operand's name, as it is said of another op of that form."""
    cause, mark, named = line.rpartition(". ")
    return f"{cause}{mark}{names[asked.index(named)]}" if mark and named in asked else line


def _alone(model: Model, graph: Graph, op: Op) -> Model:
    """An op with what is made of constants for it alone."""
    folded = {t for o in graph.constant_ops for t in graph.ops[o].outputs}
    feeds = [t for t in dict.fromkeys(op.inputs) if t >= 0 and t not in folded and not graph.tensors[t].constant]
    return surgery.extract(model, op.outputs, feeds).model


def _form(model: Model, graph: Graph, op: Op) -> tuple[Any, ...]:
    """What decides whether an op is taken: its kind and options, and the types and shapes of its operands, and whether
    they are constants; small ones with their values, for some of these are options too."""
    stored = model.root.subgraphs[0].operators[op.index]
    chosen = stored.builtinOptions
    options = () if chosen is None else tuple(sorted((name, str(value)) for name, value in vars(chosen).items()))
    custom = None if op.custom is None else (op.custom, bytes(stored.customOptions or b""))
    operands: list[Any] = []
    for t in (*op.inputs, *op.outputs):
        tensor = graph.tensors[t] if t >= 0 else None
        values = model.constant(t) if tensor is not None and tensor.constant and tensor.elements <= SMALL else None
        folded = graph.producer.get(t) in graph.constant_ops
        facts = None if tensor is None else (tensor.type, tensor.shape, tensor.constant, folded)
        operands.append((facts, None if values is None else values.tobytes()))
    return op.name, custom, options, len(op.inputs), tuple(operands)
