"""From a model and named inputs to a job, and from an outcome to values or one clear sentence."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TypeVar, assert_never

from harness.core.arrays import Array
from harness.core.errors import DeviceDied, DeviceError, DeviceRefused, DeviceSilent, UsageError
from harness.core.job import Completed, Crashed, Failure, Job, Lost, Options, OutputPort, Rejected, TimedOut
from harness.devices.base import Device, Sink
from harness.devices.worker import NO_READING
from harness.graph.model import Graph, Model, Port, indices
from harness.graph.ops.aliasing import with_memory_of_their_own
from harness.graph.ops.custom import with_builtin_ops
from harness.graph.ops.hybrid import with_real_weights

Answer = TypeVar("Answer")

# How a refusal begins that says nothing of the model: the device's disk is full.
NO_ROOM = "the model cannot be stored"
# Runs that a runtime's patience with its own shader compiler is given.
ATTEMPTS = 3
# And that the way to the device passes on no values of that type, where another way does.
NO_TYPE = "the app cannot pass on "


def output_ports(model: Model) -> tuple[OutputPort, ...]:
    """What the model's (first) signature gives.

    Raises:
        UsageError: there is none, or one has no static shape or no numpy type.
    """
    graph = model.graph()
    if not graph.outputs:
        raise UsageError("The model has no outputs.", "Export it with the results that are wanted.")
    ports = []
    for position, port in zip(_positions(model, graph, graph.outputs), graph.outputs, strict=True):
        tensor = graph.tensors[port.tensor]
        if tensor.shape is None or tensor.dtype is None:
            raise UsageError(
                f"Output '{port.name}' has type {tensor.type} and shape {tensor.shape or 'dynamic'}.",
                "Export the model with static shapes and numeric outputs.",
            )
        ports.append(OutputPort(port.name, position, tensor.dtype, tensor.shape))
    return tuple(ports)


def _positions(model: Model, graph: Graph, ports: Sequence[Port]) -> list[int]:
    """Where the runtime has each port: it keeps the subgraph's order, of which a signature's may be another."""
    sub = model.root.subgraphs[graph.subgraph]
    every: dict[int, list[int]] = {}
    for place, tensor in enumerate(indices(sub.inputs if ports is graph.inputs else sub.outputs)):
        every.setdefault(tensor, []).append(place)
    taken: dict[int, int] = {}
    positions = []
    for port in ports:
        places = every[port.tensor]
        again = taken.get(port.tensor, 0)
        positions.append(places[min(again, len(places) - 1)])
        taken[port.tensor] = again + 1
    return positions


def make_job(
    model: Model,
    inputs: dict[str, Array],
    options: Options,
    *,
    timeout: float,
    wanted: Sequence[str] | None = None,
    warmup: int = 0,
    iterations: int = 1,
    final: bool = False,
    as_stored: bool = False,
) -> Job:
    """A job on the model's first signature; `wanted` names the outputs to bring back (None: all).

    The reference gets the model with real weights (`graph.hybrid`; not `as_stored`) and without custom ops that it
    lacks (`graph.custom`), written so that the interpreter overwrites nothing that it still needs (`graph.aliasing`).
    """
    graph = model.graph()
    given = model
    if options.accelerator == "reference":
        given = with_builtin_ops(model if as_stored else with_real_weights(model))
        given = with_memory_of_their_own(given)
    data = given.to_bytes()
    order = dict(zip((port.name for port in graph.inputs), _positions(model, graph, graph.inputs), strict=True))
    names = None if wanted is None else frozenset(wanted)
    ports = [] if wanted == () else [p for p in output_ports(model) if names is None or p.name in names]
    return Job(
        model=data,
        sha256=hashlib.sha256(data).hexdigest(),
        inputs=dict(sorted(inputs.items(), key=lambda item: order.get(item[0], len(order)))),
        outputs=tuple(ports),
        options=options,
        warmup=warmup,
        iterations=iterations,
        timeout=timeout,
        final=final,
    )


def completed(device: Device, job: Job, doing: str, sink: Sink | None = None) -> Completed:
    """Run a job that must complete, asked :func:`patiently`.

    Raises:
        DeviceError: any other outcome; the sentence says what was being done and the runtime's own reason.
    """
    outcome = patiently(device, lambda: device.run(job, sink))
    if isinstance(outcome, Completed):
        return outcome
    raise failure(device.name, outcome, doing)


def patiently(device: Device, ask: Callable[[], Answer]) -> Answer:
    """What a device answers, asked again where its runtime gave up waiting for an output: shaders that it has compiled
    by then are kept, and on busy cores the first run may take longer than it waits."""
    answer = ask()
    for _ in range(0 if device.asks_again else ATTEMPTS - 1):
        if not _impatient(answer):
            break
        answer = ask()
    return answer


def _impatient(outcome: object) -> bool:
    return isinstance(outcome, Rejected) and outcome.reason.startswith(NO_READING)


# What is done with an untouched model, and what a refusal of it need not say.
UNTOUCHED = "running the model"


def failure(device: str, outcome: Failure, doing: str) -> DeviceError:
    """The sentence for an outcome that is not `Completed`."""
    words = f"The runtime's {'last' if isinstance(outcome, Crashed) else 'own'} words are in log.txt."
    step = words if outcome.log else "Run `harness doctor`."
    silent = _impatient(outcome)
    match outcome:
        case Rejected() if silent:
            said = f"gave no answer while {doing}: {outcome.reason}"
            step = "Run it again while the machine does nothing else: shaders it has compiled by now are kept."
        case Rejected():
            what = "the model" if doing == UNTOUCHED else f"the model while {doing}"
            said = f"rejected {what}: {outcome.reason}"
            if outcome.reason.startswith(NO_ROOM):
                step = "Free space there; on the host, that is where TMPDIR points."
            elif outcome.reason.startswith(NO_TYPE):
                step = "Run it without the app, by LiteRT's own run_model: --tools DIR (docs/phone.md)."
            elif any(op.startswith("CUSTOM: ") for op in outcome.ops):
                step = "Replace that op by builtin ones when exporting the model."
            elif outcome.ops:
                step = "`harness audit` lists what the GPU refuses: --fallback cpu runs it on the CPU, or re-author it."
        case TimedOut():
            said = f"gave {outcome.reason} while {doing} and was killed"
            step = "Raise --timeout, or look at log.txt." if outcome.log else "Raise --timeout."
        case Crashed():
            said = f"crashed while {doing}: {outcome.reason}"
        case Lost():
            said, step = f"was lost while {doing}: {outcome.reason}", "Run `harness doctor`."
        case _:
            assert_never(outcome)
    message = f"{device} {said.rstrip('.')}."
    if isinstance(outcome, Rejected) and not silent:
        return DeviceRefused(message, step, outcome.log, reason=outcome.reason, ops=outcome.ops, doing=doing)
    kind = {TimedOut: DeviceSilent, Rejected: DeviceSilent, Crashed: DeviceDied}.get(type(outcome), DeviceError)
    return kind(message, step, outcome.log)
