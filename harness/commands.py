"""What each command does, once its words are parsed: models and inputs in, run folders and answers out."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from harness.counted import counted
from harness.devices.android import PhoneOptions
from harness.devices.base import Device
from harness.devices.execute import UNTOUCHED, completed, failure, make_job
from harness.devices.host import HostDevice
from harness.devices.registry import open_device
from harness.errors import DeviceDied, DeviceError, DeviceRefused, HarnessError, NoReference, StorageError, UsageError
from harness.graph.audit import Audit, audit
from harness.graph.concrete import stored_shape
from harness.graph.ports import check_ports
from harness.graph.repeatable import check_repeatable
from harness.inputs import check_inputs, load_inputs, random_inputs
from harness.job import Array, Completed, Crashed, Job, Options, Rejected
from harness.localize.baseline import Case, output_label
from harness.localize.comparison import COMPILE_SECONDS, Bench, Comparison, compare_model
from harness.localize.dump import dump
from harness.localize.explain import SCRATCH
from harness.localize.explain import explain as explain_culprits
from harness.localize.fatal import find_fatal, find_unsteady
from harness.localize.journaled import Journaled, is_passing
from harness.localize.localize import localize
from harness.localize.refused import Refusing
from harness.localize.result import Localization, residency_json
from harness.localize.resume import Resume, identity_of, open_run
from harness.localize.scope import comparable, notes, placed
from harness.memory import COPIES_TO_COMPARE, COPIES_TO_COMPILE, COPIES_TO_RUN, check_memory
from harness.numerics.metrics import finite_range
from harness.numerics.usefulness import Limits
from harness.opening import as_in_the_file, open_model, with_constants
from harness.progress import SILENT, Progress
from harness.report.page import write_report
from harness.results import RunFolder, writing


@dataclass(frozen=True)
class Request:
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


class Scene(Protocol):
    """Pictures for a report, drawn once the device's outputs are there, the remedies' among them."""

    def draw(self, run: RunFolder, answer: Localization) -> dict[str, Any]:
        """Write the pictures into the run folder and describe them."""


@contextmanager
def _session(
    command: str, request: Request, progress: Progress, resume: Resume | None = None, runs: int | None = None
) -> Iterator[tuple[Bench, Case]]:
    """Check everything that can be checked without a device, then open the devices and the run folder. With `resume`
    the device's probes are journaled."""
    found = open_model(request.model, request.signature, request.shapes)
    if request.options.accelerator != "cpu" and request.options.fallback == "none":
        found = with_constants(found)
    model = found.model
    graph = model.graph()
    check_ports(graph)
    if command != "run":
        check_repeatable(model)
    copies = COPIES_TO_RUN if command == "run" else COPIES_TO_COMPARE
    if request.inputs is not None:
        check_memory(graph, copies, model.weights_bytes)
    if request.given is not None:
        inputs, origin = check_inputs(request.given, graph), ""
    elif request.inputs is not None:
        inputs, origin = load_inputs(request.inputs, graph), str(request.inputs)
    else:
        inputs, origin = random_inputs(graph, request.seed), f"random, seed {request.seed}"
    check_memory(graph, copies, model.weights_bytes)
    for told in filter(None, (found.assumed, found.folded)):
        progress.stage(told, 0.1)
    drawn = request.given is None and request.inputs is None
    case = Case(model, inputs, request.options, request.timeout, request.seed, limits=request.limits, drawn=drawn)
    with ExitStack() as stack:
        opened = open_device(request.device, lambda what: progress.stage(what, 20.0), request.phone)
        device: Device = stack.enter_context(opened)
        host = stack.enter_context(HostDevice())
        device, run = _run_of(command, request, case, device, resume, progress, stack)
        if request.given is not None:
            path = run.path / "inputs.npz"
            origin = str(path)
            with writing(path):
                np.savez(path, allow_pickle=False, **inputs)
        run.save(
            model={"path": str(request.model), "sha256": model.sha256, "ops": len(graph.ops)},
            device={"name": device.name, "kind": device.kind, "runtime": "", "gpu": ""},
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
        stack.enter_context(_explained(run))
        if isinstance(device, Journaled):
            stack.enter_context(_resumable(device, run))
        try:
            if command != "run":
                case = comparable(device, case, run)
            yield Bench(device, host, run, progress), placed(device, case, run, progress)
        except DeviceRefused as error:
            if error.doing != UNTOUCHED:
                raise
            raise Refusing(device, model, request.options, request.timeout, progress).explained(error) from None


def _run_of(
    command: str,
    request: Request,
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
        progress.stage(f"continued run: {counted(journal.finished, 'probe')} already answered", 0.1)
    return Journaled(device, journal), run


@contextmanager
def _explained(run: RunFolder) -> Iterator[None]:
    """A failure leaves its sentence and a report behind."""
    try:
        yield
    except HarnessError as error:
        error.next_step = error.next_step.replace("log.txt", str(run.path / "log.txt"))
        with suppress(HarnessError):
            run.save(status="failed", error=str(error))
            if isinstance(error, DeviceError):
                run.log(error.log)
            write_report(run.path)
        raise


def _close(bench: Bench, done: Completed, seconds: float | None, result: dict[str, Any]) -> None:
    device = {
        "name": bench.device.name,
        "kind": bench.device.kind,
        "runtime": done.runtime,
        "gpu": done.adapter,
    }
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


def run_command(
    request: Request, *, warmup: int, iterations: int, progress: Progress = SILENT
) -> tuple[Completed, Path]:
    """`harness run`: the outputs, as safetensors in the run folder. Raises HarnessError."""
    with _session("run", request, progress) as (bench, case):
        progress.stage(f"{request.model.name} on {bench.device.name}", 2 + len(case.graph.ops) * COMPILE_SECONDS)
        job = make_job(
            case.model, case.inputs, case.options, timeout=case.timeout, warmup=warmup, iterations=iterations
        )
        done = completed(bench.device, job, UNTOUCHED)
        if case.placement is not None:
            done = replace(done, residency=case.placement.counted)
        for name, values in done.outputs.items():
            bench.run.tensors.put(output_label(name), "device", values, name)
        bench.run.log(done.log)
        bench.run.samples(done.samples, "run")
        _close(bench, done, None, run_json(done))
        return done, bench.run.path


def run_json(done: Completed) -> dict[str, Any]:
    """`run --json`, schema 1."""
    totals = [(s.write_ns + s.run_ns + s.read_ns) / 1e6 for s in done.samples]
    return {
        "schema": 1,
        "outputs": [
            {
                "name": name,
                "dtype": values.dtype.name,
                "shape": list(values.shape),
                "range": list(finite_range(values)),
                "nonfinite": int(values.size - np.isfinite(values).sum()) if values.dtype.kind in "fc" else 0,
            }
            for name, values in done.outputs.items()
        ],
        "residency": residency_json(done.residency),
        "runtime": done.runtime,
        "gpu": done.adapter,
        "compile_ms": done.compile_ns / 1e6,
        "samples_ms": {
            "min": min(totals),
            "median": float(np.median(totals)),
            "max": max(totals),
            "count": len(totals),
        },
    }


def compare_command(request: Request, progress: Progress = SILENT, *, runs: int = 2) -> tuple[Comparison, Path]:
    """`harness compare`; `runs` of the untouched model at least. Raises HarnessError."""
    with _session("compare", request, progress, runs=runs) as (bench, case):
        found = compare_model(bench, case, runs=runs)
        found = replace(found, notes=(*found.notes, *notes(bench.run)))
        _close(bench, found.done, None, found.to_json())
        return found, bench.run.path


def dump_command(request: Request, progress: Progress = SILENT) -> tuple[Comparison, int, Path]:
    """`harness dump`: (comparison, ops read, run folder). Raises HarnessError."""
    with _session("dump", request, progress) as (bench, case):
        found, records = dump(bench, case)
        found = replace(found, notes=(*found.notes, *notes(bench.run)))
        _close(bench, found.done, None, found.to_json() | {"records": len(records)})
        return found, len(records), bench.run.path


def localize_command(
    request: Request,
    progress: Progress = SILENT,
    scene: Scene | None = None,
    *,
    resume: Resume = "never",
    explain: bool = False,
    runs: int = 2,
) -> tuple[Localization, Path]:
    """`harness localize`. `scene` adds pictures to the report; `resume` continues an interrupted run; `explain` goes on
    to causes, reproducers and remedies; `runs` of the untouched model at least. Raises HarnessError."""
    with _session("localize", request, progress, resume, runs) as (bench, case):
        answer = _localized(bench, case, runs)
        if explain:
            answer = explain_culprits(bench, case, answer)
        answer = _with_probes(bench, answer)
        answer = replace(answer, notes=(*answer.notes, *notes(bench.run)))
        if scene is not None:
            bench.run.save(scene=scene.draw(bench.run, answer))
        # Without its report a run is not at its end: killed here, it is continued, and its journal answers every probe.
        resumable = isinstance(bench.device, Journaled)
        told = answer.to_json()
        bench.run.save(status="done", device=answer.device, seconds=answer.seconds, result=told, resumable=resumable)
        write_report(bench.run.path)
        if isinstance(bench.device, Journaled):
            bench.run.save(resumable=False)
            bench.device.forget()
        return answer, bench.run.path


def _localized(bench: Bench, case: Case, runs: int) -> Localization:
    """The ops that make the model wrong, or those that end the process, or are never the same."""
    scratch = bench.run.path / SCRATCH
    try:
        answer = localize(bench, case, runs=runs)
        unsteady = find_unsteady(bench, case, scratch) if answer.differs and not answer.culprits else None
        if unsteady is None or not unsteady.culprits:
            return answer
        return replace(unsteady, outputs=answer.outputs, notes=(*answer.notes, *unsteady.notes))
    except DeviceDied:
        found = find_fatal(bench, case, scratch)
        if found is None:
            raise
        return found
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _with_probes(bench: Bench, answer: Localization) -> Localization:
    """The answer with what the journal knows of its probes."""
    if not isinstance(bench.device, Journaled):
        return answer
    probes = bench.device.probes()
    # Where the answer is that an op takes the device down, that its probes did is no news.
    fatal = any(culprit.cause in ("crash", "hang") for culprit in answer.culprits)
    left_out = () if fatal else map(str, probes.quarantined)
    return replace(answer, probes=probes, notes=(*answer.notes, *left_out))


def _falls_back(device: Device, job: Callable[[Options], Job]) -> bool | None:
    """Whether a device takes a model where the CPU may run what its GPU refuses; None where it gave no answer."""
    try:
        outcome = device.run(job(Options(fallback="cpu")))
    except DeviceError:
        return None
    if isinstance(outcome, Rejected) and not is_passing(outcome):
        return False
    return True if isinstance(outcome, Completed) else None


def audit_command(
    path: Path,
    signature: str | None,
    device_name: str | None,
    timeout: float,
    progress: Progress = SILENT,
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> Audit:
    """`harness audit`; with a device, what its GPU delegate itself refuses. Raises HarnessError."""
    try:
        opened = open_model(path, signature, shapes)
    except UsageError:
        opened = as_in_the_file(path, signature)  # a graph without shapes has ops to count all the same
        sizes = [stored_shape(opened.model, port.tensor) for port in opened.model.graph().inputs]
        if shapes or (device_name is not None and None in sizes):
            raise
    opened = opened if device_name is None else with_constants(opened)
    model = opened.model
    for told in filter(None, (opened.assumed, opened.folded)):
        progress.stage(told, 0.1)
    found = replace(audit(model), signatures=opened.signatures, folded=opened.folded)
    if device_name is None:
        return found
    check_memory(model.graph(), COPIES_TO_COMPILE, model.weights_bytes)
    progress.stage(f"asking {device_name}", 2 + found.total * COMPILE_SECONDS)
    with open_device(device_name) as device:
        job = partial(make_job, model, {}, timeout=timeout, wanted=(), iterations=0)
        outcome = device.run(job(Options()))
        refused: tuple[str, ...] = ()
        if isinstance(outcome, Rejected):
            refused = Refusing(device, model, Options(), timeout, progress).ops(outcome)
        if isinstance(outcome, Crashed):
            refused = Refusing(device, model, Options(), timeout, progress).ops_of_crash(outcome)
        if refused:
            progress.stage("asking whether the CPU may run the rest", 2 + found.total * COMPILE_SECONDS)
            return replace(found, unsupported=refused, asked=f"{device_name}'s GPU", fallback=_falls_back(device, job))
    if not isinstance(outcome, Completed):
        error = failure(device_name, outcome, "asking what its GPU refuses")
        error.next_step = "`harness run` on the model keeps the runtime's own words, in its log.txt."
        raise error
    return replace(found, unsupported=(), asked=f"{device_name}'s GPU")
