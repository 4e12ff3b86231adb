"""The host's own run of a model, which a device is compared with, and the untouched model on that device."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from harness.core.arrays import Array, TensorIndex
from harness.core.errors import NoReference, UsageError
from harness.core.job import Completed, Crashed, Job, Lost, Rejected
from harness.core.run_folder import TensorStore
from harness.core.signals import OUTSIDE
from harness.devices.base import Device, Sink
from harness.devices.execute import UNTOUCHED, completed, failure, make_job
from harness.devices.loadable import check_loadable
from harness.graph import surgery
from harness.graph.model import Graph
from harness.graph.ops.real import real
from harness.localize.base.case import REFERENCE, Case

# Bytes of intermediates that one run of the reference holds.
REFERENCE_BUDGET = 1 << 30
# Tensors that one job reads: the wire carries 4,096 payloads at most.
MOST_TENSORS = 2000


def label_of(graph: Graph, tensor: TensorIndex) -> str:
    """The name of a tensor's files: `<op>-<NAME>`, with the position when an op has several results."""
    op = graph.ops[graph.producer[tensor]]
    place = f".{op.outputs.index(tensor)}" if len(op.outputs) > 1 else ""
    return f"{op.index:04d}-{op.name}{place}"


def output_label(name: str) -> str:
    """The name of an output's files. What a file name may not hold is replaced, and a digest keeps it unique."""
    plain = re.sub(r"[^A-Za-z0-9._]", "_", name)[:64]
    return f"output-{plain}" if plain == name else f"output-{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Peaks:
    """The largest finite magnitude of each tensor of the reference, and which hold NaN or infinity."""

    finite: dict[TensorIndex, float]
    unbounded: frozenset[TensorIndex]


def run_reference(
    host: Device,
    case: Case,
    store: TensorStore,
    tensors: Sequence[TensorIndex],
    *,
    keep: bool = True,
    budget: int = REFERENCE_BUDGET,
) -> Peaks:
    """Host runs that see every tensor of `tensors` and all outputs, and store them (outputs alone unless `keep`).

    One run where they fit the budget in bytes; else one for each window of the model that makes as much, fed with what
    was stored before.
    """
    graph = case.graph
    finite: dict[TensorIndex, float] = {}
    unbounded: set[TensorIndex] = set()

    parts = list(budgeted(graph, tensors, budget))

    def put(t: TensorIndex, values: Array) -> None:
        if keep or len(parts) > 1:
            store.put(label_of(graph, t), "reference", values, graph.tensors[t].name)
        values = real(graph, t, values)
        known = np.isfinite(values)
        finite[t] = float(np.max(np.abs(values), initial=0.0, where=known))
        if not known.all():
            unbounded.add(t)

    _whole_reference(host, case, store, parts[0] if len(parts) == 1 else (), put)
    for part in parts if len(parts) > 1 else ():
        _part_of_reference(host, case, store, part, frozenset(finite), put)
    if not keep:
        store.keep_only([output_label(port.name) for port in graph.outputs])
    return Peaks(finite, frozenset(unbounded))


def _whole_reference(
    host: Device,
    case: Case,
    store: TensorStore,
    tensors: Sequence[TensorIndex],
    put: Callable[[TensorIndex, Array], None],
) -> None:
    tapped, names = surgery.tap(case.model, tensors, "direct")
    own, at = {port.name for port in case.graph.outputs}, {name: t for t, name in names.items()}

    def sink(name: str, values: Array) -> None:
        if name in own:
            store.put(output_label(name), "reference", values, name)
        if name in at:
            put(at[name], values)

    job = make_job(tapped, case.inputs, REFERENCE, timeout=case.timeout, final=True)
    stated = {port.name: port.tensor for port in case.graph.outputs} | at
    _run_reference(host, case, job, stated, sink)


def _part_of_reference(
    host: Device,
    case: Case,
    store: TensorStore,
    tensors: Sequence[TensorIndex],
    known: frozenset[TensorIndex],
    put: Callable[[TensorIndex, Array], None],
) -> None:
    model = surgery.extract(case.model, tensors, known).model
    inputs = {surgery.port_name(port.tensor): case.inputs[port.name] for port in case.graph.inputs}
    feeds: dict[str, Array] = {}
    for port in model.graph().inputs:
        label = "" if port.name in inputs else label_of(case.graph, surgery.tensor_of(port.name))
        feeds[port.name] = store.get(label, "reference") if label else inputs[port.name]
    job = make_job(model, feeds, REFERENCE, timeout=case.timeout, final=True)
    stated = {surgery.port_name(t): t for t in tensors}
    _run_reference(host, case, job, stated, lambda name, values: put(stated[name], values))


def _run_reference(host: Device, case: Case, job: Job, stated: dict[str, TensorIndex], sink: Sink) -> None:
    """A job of the reference; `stated` has the tensor that each output is. Raises UsageError where the file states
    another shape for one than the runtime computes, or the runtime cannot load it."""
    outcome = host.run(job, sink)
    if isinstance(outcome, Lost) and outcome.output in stated:
        tensor = case.graph.tensors[stated[outcome.output]]
        raise UsageError(
            f"The model states shape {list(tensor.shape or ())} for tensor '{tensor.name}', and the runtime computes "
            f"another ({outcome.reason}).",
            "Export the model anew, so that its shapes are those that it computes.",
        )
    if isinstance(outcome, Rejected) and outcome.ops:
        raise NoReference(
            f"The CPU reference cannot be run: {outcome.reason}, so nothing can be compared with it.",
            "Replace that op by builtin ones, or end the model before it, when exporting; `harness run` asks the "
            "device alone.",
            outcome.log,
        )
    # A system that ran out of memory ends a process from outside.
    if isinstance(outcome, Rejected) or (isinstance(outcome, Crashed) and outcome.signal not in OUTSIDE):
        check_loadable(case.model)
        verb = "end their process on" if isinstance(outcome, Crashed) else "do not compute"
        # Token ids that are given as floats, for one, must not be any number.
        first = "Give inputs that the model is made for with --inputs, try" if case.drawn else "Try"
        raise NoReference(
            f"The plain CPU kernels of this release {verb} the model: {outcome.reason.rstrip('.')}, so nothing can be "
            "compared with them.",
            f"{first} another release of ai-edge-litert, or export that op in a type that the CPU has; `harness run` "
            "asks the device alone.",
            outcome.log,
        )
    if not isinstance(outcome, Completed):
        raise failure(host.name, outcome, "running the reference")


def budgeted(graph: Graph, tensors: Sequence[TensorIndex], budget: int) -> Iterator[list[TensorIndex]]:
    """Tensors in parts of up to `budget` bytes each; a larger one is a part of its own."""
    batch: list[TensorIndex] = []
    size = 0
    for t in tensors:
        full = size + graph.tensors[t].nbytes > budget or len(batch) >= MOST_TENSORS
        if batch and full:
            yield batch
            batch, size = [], 0
        batch.append(t)
        size += graph.tensors[t].nbytes
    if batch:
        yield batch


def run_device(device: Device, case: Case, *, warmup: int = 0, iterations: int = 1) -> Completed:
    """The untouched model on the device. Raises DeviceError when it does not complete."""
    job = make_job(case.model, case.inputs, case.options, timeout=case.timeout, warmup=warmup, iterations=iterations)
    return completed(device, job, UNTOUCHED)
