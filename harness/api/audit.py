"""What `harness audit` does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from harness.api.memory import COPIES_TO_COMPILE, check_memory
from harness.api.opening import as_in_the_file, open_model, with_constants
from harness.core.errors import DeviceError, UsageError
from harness.core.job import Completed, Crashed, Job, Options, Rejected
from harness.core.progress import SILENT, Progress
from harness.devices.base import Device
from harness.devices.execute import failure, make_job
from harness.devices.registry import open_device
from harness.devices.residency import other_backend
from harness.graph.concrete import stored_shape
from harness.graph.model import Model
from harness.graph.ops.audit import Audit, Expected, audit
from harness.lint.lint import lint
from harness.localize.base.comparison import COMPILE_SECONDS
from harness.localize.explain.known import target_of_run
from harness.localize.explain.refused import Refused, Refusing
from harness.localize.probe.journal.device import is_passing


def _falls_back(device: Device, job: Callable[[Options], Job]) -> bool | None:
    """Whether a device takes a model where the CPU may run what its GPU refuses; None where it gave no answer."""
    try:
        outcome = device.run(job(Options(fallback="cpu")))
    except DeviceError:
        return None
    if isinstance(outcome, Rejected) and not is_passing(outcome):
        return False
    return True if isinstance(outcome, Completed) else None


def _beside(found: Audit, model: Model, device: Device) -> Audit:
    """The audit of a device with what the catalogue says for it, and where the two differ. Kinds of op are compared: a
    delegate names no more."""
    facts = device.facts()
    target = target_of_run(device.described(facts.runtime, facts.gpu))
    if target is None:
        return found
    listed = tuple(
        Expected(each.op, each.op_name, each.rule, each.effect, each.sure == "certain", each.sentence)
        for each in lint(model, target)
    )
    refused = {line.partition(":")[0].partition(" #")[0].strip() for line in found.unsupported}
    foretold = {each.op_name for each in listed if each.effect == "refused"}
    certain = {each.op_name for each in listed if each.effect == "refused" and each.certain}
    differs = [f"{kind} is refused, and no entry of the catalogue foretells it." for kind in sorted(refused - foretold)]
    differs += [f"{kind} is taken, and the catalogue has it as refused." for kind in sorted(certain - refused)]
    return replace(found, lint=listed, differs=tuple(differs))


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
        progress.note(told)
    found = replace(audit(model), signatures=opened.signatures, folded=opened.folded)
    if device_name is None:
        return found
    check_memory(model.graph(), COPIES_TO_COMPILE, model.weights_bytes)
    progress.stage(f"asking {device_name}", 2 + found.total * COMPILE_SECONDS)
    with open_device(device_name) as device:
        job = partial(make_job, model, {}, timeout=timeout, wanted=(), iterations=0)
        outcome = device.run(job(Options()))
        if told := other_backend(outcome.log, Options().backend):
            progress.note(told)
        refused = Refused(())
        if isinstance(outcome, Rejected):
            refused = Refusing(device, model, Options(), timeout, progress).ops(outcome)
        if isinstance(outcome, Crashed):
            refused = Refusing(device, model, Options(), timeout, progress).ops_of_crash(outcome)
        if refused.lines:
            progress.stage("asking whether the CPU may run the rest", 2 + found.total * COMPILE_SECONDS)
            found = replace(
                found,
                unsupported=refused.lines,
                asked=f"{device_name}'s GPU",
                fallback=_falls_back(device, job),
                asked_alone=refused.asked,
                cut=refused.sentence,
            )
            return _beside(found, model, device)
        if isinstance(outcome, Completed):
            return _beside(replace(found, unsupported=(), asked=f"{device_name}'s GPU"), model, device)
    error = failure(device_name, outcome, "asking what its GPU refuses")
    error.next_step = "`harness run` on the model keeps the runtime's own words, in its log.txt."
    raise error
