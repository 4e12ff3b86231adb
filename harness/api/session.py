"""From a request to what a command works with: model and inputs, the devices, the run folder and its journal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harness.api.memory import COPIES_TO_COMPARE, COPIES_TO_RUN, check_memory
from harness.api.opening import Opened, open_model, with_constants
from harness.api.ports import check_ports
from harness.api.scope import comparable, placed
from harness.core.arrays import Array
from harness.core.errors import DeviceError, DeviceRefused, HarnessError, NoReference, StorageError
from harness.core.job import Completed, Options
from harness.core.progress import SILENT, Progress
from harness.core.run_folder import RunFolder, writing
from harness.core.visible import counted
from harness.devices.android.device import PhoneOptions
from harness.devices.base import Device
from harness.devices.execute import UNTOUCHED
from harness.devices.host.device import HostDevice
from harness.devices.registry import check_options, open_device
from harness.graph.inputs import check_inputs, load_inputs, random_inputs
from harness.graph.model import Graph
from harness.graph.ops.repeatable import check_repeatable
from harness.localize.base.case import Case
from harness.localize.base.comparison import Workbench
from harness.localize.explain.refused import Refusing
from harness.localize.probe.journal.device import Journaled
from harness.localize.probe.journal.resume import Resume, identity_of, open_run
from harness.numerics.usefulness import Limits
from harness.report.drawn.graph import write_graph
from harness.report.page import write_report


@dataclass(frozen=True)
class ModelRequest:
    """What the common options say. `given` replaces `inputs` and `seed` when the caller has arrays; `shapes` are
    those of inputs, by name, that shall not be run as the file has them; `limits` is what the caller asks of outputs
    that are judged."""

    model: Path
    device: str = "host"
    options: Options = field(default_factory=Options)
    inputs: Path | None = None
    seed: int = 0
    out: Path = Path("results")
    timeout: float = 600.0
    signature: str | None = None
    given: dict[str, Array] | None = None
    provenance: str | None = None
    phone: PhoneOptions = field(default_factory=PhoneOptions)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class Prepared:
    """A request whose model and inputs are read and checked; no device was asked for it yet. `origin` says where the
    inputs come from, empty where the caller gave arrays."""

    request: ModelRequest
    opened: Opened
    case: Case
    origin: str


def prepare(request: ModelRequest, *, compared: bool, progress: Progress = SILENT) -> Prepared:
    """Read the model and its inputs, and check all that can be checked without a device. `compared`: outputs are going
    to be judged.

    Raises:
        UsageError: the model, its inputs or this machine's memory do not do, or the device has no such options.
    """
    check_options(request.device, request.options)
    found = open_model(request.model, request.signature, request.shapes)
    if request.options.accelerator != "cpu" and request.options.fallback == "none":
        found = with_constants(found)
    model = found.model
    graph = model.graph()
    check_ports(graph)
    if compared:
        check_repeatable(model)
    copies = COPIES_TO_COMPARE if compared else COPIES_TO_RUN
    if request.inputs is not None:
        check_memory(graph, copies, model.weights_bytes)
    inputs, origin = _inputs_of(request, graph)
    check_memory(graph, copies, model.weights_bytes)
    for told in filter(None, (found.assumed, found.folded)):
        progress.note(told)
    drawn = request.given is None and request.inputs is None
    case = Case(model, inputs, request.options, request.timeout, request.seed, limits=request.limits, drawn=drawn)
    return Prepared(request, found, case, origin)


def _inputs_of(request: ModelRequest, graph: Graph) -> tuple[dict[str, Array], str]:
    if request.given is not None:
        return check_inputs(request.given, graph), ""
    if request.inputs is not None:
        return load_inputs(request.inputs, graph), str(request.inputs)
    return random_inputs(graph, request.seed), f"random, seed {request.seed}"


@contextmanager
def session(
    command: str, request: ModelRequest, progress: Progress, resume: Resume | None = None, runs: int | None = None
) -> Iterator[tuple[Workbench, Case]]:
    """Check everything that can be checked without a device, then open the devices and the run folder. With `resume`
    the device's probes are journaled."""
    judged = command != "run"
    prepared = prepare(request, compared=judged, progress=progress)
    with ExitStack() as stack:
        opened = open_device(request.device, lambda what: progress.stage(what, 20.0), request.phone)
        device: Device = stack.enter_context(opened)
        host = stack.enter_context(HostDevice())
        device, run = _run_of(command, request, prepared.case, device, resume, progress, stack)
        _describe(run, prepared, device, runs)
        if command in ("dump", "localize"):
            write_graph(run.path, prepared.case.graph)
        stack.enter_context(_explained(run))
        if isinstance(device, Journaled):
            stack.enter_context(_resumable(device, run))
        try:
            case = comparable(device, prepared.case, run) if judged else prepared.case
            yield Workbench(device, host, run, progress), placed(device, case, run, progress)
        except DeviceRefused as error:
            if error.doing != UNTOUCHED:
                raise
            model = prepared.case.model
            raise Refusing(device, model, request.options, request.timeout, progress).explained(error) from None


def _describe(run: RunFolder, prepared: Prepared, device: Device, runs: int | None) -> None:
    """What is asked, in run.json; and the caller's arrays in the run folder."""
    request, found, case, origin = prepared.request, prepared.opened, prepared.case, prepared.origin
    if request.given is not None:
        path = run.path / "inputs.npz"
        origin = str(path)
        with writing(path):
            np.savez(path, allow_pickle=False, **case.inputs)
    run.save(
        model={"path": str(request.model), "sha256": case.model.sha256, "ops": len(case.graph.ops)}
        | {"file_sha256": found.file_sha256},
        device=device.described(),
        options={
            "accelerator": request.options.accelerator,
            "precision": request.options.precision,
            "fallback": request.options.fallback,
            "inputs": origin,
            "signature": request.signature,
            "timeout_s": request.timeout,
            "shapes": found.shapes,
            "runs": runs,
            "limits": {name: value for name, value in vars(request.limits).items() if value is not None},
        },
        assumed=found.assumed,
        folded=found.folded,
        provenance=request.provenance,
    )


def _run_of(
    command: str,
    request: ModelRequest,
    case: Case,
    device: Device,
    resume: Resume | None,
    progress: Progress,
    stack: ExitStack,
) -> tuple[Device, RunFolder]:
    """The run folder, new or continued, and the device, behind the run's journal if there is to be one."""

    def create() -> RunFolder:
        return stack.enter_context(RunFolder.create(request.out, command, str(request.model), request.device))

    if resume is None:
        return device, create()
    try:
        identity = identity_of(device, case)
    except DeviceError:
        stack.enter_context(_explained(create()))
        raise
    run, journal = open_run(resume, request.out, identity, create)
    stack.callback(journal.close)
    if journal.sessions > 1:
        stack.enter_context(run)
        progress.note(f"continued run: {counted(journal.finished, 'probe')} already answered")
    return Journaled(device, journal), run


@contextmanager
def _explained(run: RunFolder) -> Iterator[None]:
    """A failure leaves its sentence and a report behind."""
    try:
        yield
    except HarnessError as error:
        error.next_step = error.next_step.replace("log.txt", str(run.path / "log.txt"))
        with suppress(HarnessError):
            run.save(status="failed", error=str(error), exit_code=error.exit_code)
            if isinstance(error, DeviceError):
                run.log(error.log)
            write_report(run.path)
        raise


def close(bench: Workbench, done: Completed, seconds: float | None, result: dict[str, Any]) -> None:
    """The end of a run that has its result: run.json says so, and the report is written."""
    device = bench.device.described(done.runtime, done.adapter)
    bench.run.save(status="done", device=device, seconds=seconds, result=result)
    write_report(bench.run.path)


@contextmanager
def _resumable(device: Journaled, run: RunFolder) -> Iterator[None]:
    """A failure that is no answer of the device's says how to continue."""
    try:
        yield
    except (DeviceError, StorageError) as error:
        if isinstance(error, StorageError) or not (device.failed or isinstance(error, NoReference)):
            with suppress(StorageError):
                run.save(resumable=True)
            error.next_step = f"{error.next_step} Continue with --resume {run.path}.".lstrip()
        raise
