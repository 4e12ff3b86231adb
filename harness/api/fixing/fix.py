"""`harness lint --fix`: rewrite, check on the CPU, write, and compare on a device, in that order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harness.api.fixing.devices import on_device
from harness.api.fixing.ports import cannot_be_rewritten, not_kept, with_ports_of
from harness.api.fixing.request import FixRequest, check_place
from harness.api.fixing.result import Fixed, Left
from harness.api.fixing.rewriting import Rewriting
from harness.api.fixing.same_values import Draw, SameValues
from harness.api.memory import COPIES_TO_COMPARE, check_memory
from harness.api.opening import as_linted, open_model
from harness.api.ports import check_ports, with_named_ports
from harness.core.errors import HarnessError, UsageError
from harness.core.private import as_the_user
from harness.core.progress import SILENT, Progress
from harness.core.run_folder import writing
from harness.devices.host.device import HostDevice
from harness.devices.scratch import scratch_folder
from harness.graph.inputs import check_inputs, load_inputs, random_inputs
from harness.graph.model import Graph, Model
from harness.graph.ops.repeatable import check_repeatable
from harness.graph.surgery import isolate
from harness.lint.finding import Finding
from harness.lint.lint import lint
from harness.remedies.catalogue import BY_NAME, BY_VALUES

DRAWS = 3
"""Random inputs on which a rewritten model is compared with the model itself."""
RANDOM = "random, seed "
"""How they are told; the seed follows."""
# Guesses for the time left: seconds for each run and megabyte of a model, and for looking at it.
_RUN_SECONDS, _LOOK_SECONDS = 0.05, 1.0


def fix_model(request: FixRequest, progress: Progress = SILENT) -> Fixed:
    """Rewrite a model for a target, and check it on the CPU. What cannot be rewritten, or not be checked, is left as it
    is, and the answer says why.

    Raises:
        UsageError: it is no model, or the inputs given or the place to write do not do. StorageError: the file cannot
            be written.
    """
    if request.to is not None:
        check_place(request.model, request.to)
    file, looked_at, _ = as_linted(request.model)
    found = lint(looked_at, request.target)
    if not found:
        return Fixed(file, None, (), (), ())
    try:
        opened = open_model(request.model)
        _check_runs(opened.model)
    except HarnessError as error:
        return _as_it_is(file, found, error.message.rstrip("."))
    if why := cannot_be_rewritten(opened):
        return _as_it_is(file, found, why)
    fixed = _rewritten(request, file, opened.model, found, progress)
    if fixed.rewritten is None or request.to is None:
        return fixed
    _write(request.to, fixed.rewritten.to_bytes())
    return replace(fixed, path=request.to)


def compared(fixed: Fixed, device: str | None, request: FixRequest, progress: Progress = SILENT) -> Fixed:
    """With what a device says of the model and of the rewritten one, which is on the disk; as it is without a device.
    Raises UsageError where the device has no such options."""
    if fixed.path is None or device is None:
        return fixed
    return replace(fixed, device=on_device(device, request, fixed.path, progress))


def _as_it_is(file: Model, found: tuple[Finding, ...], why: str) -> Fixed:
    return Fixed(file, None, found, (), tuple(Left(finding, why) for finding in found))


def _check_runs(model: Model) -> None:
    """Raises UsageError where no run of the model can be compared with another."""
    graph = model.graph()
    check_ports(graph)
    check_repeatable(model)
    check_memory(graph, COPIES_TO_COMPARE, model.weights_bytes)


def _write(path: Path, data: bytes) -> None:
    """Write a new file whole, or none. Raises StorageError."""
    with writing(path), as_the_user():
        file = path.open("xb")
        try:
            with file:  # a full disk may show as it is closed
                file.write(data)
        except BaseException:
            path.unlink()
            raise


def _rewritten(request: FixRequest, file: Model, model: Model, found: tuple[Finding, ...], progress: Progress) -> Fixed:
    graph = model.graph()
    own = _given(request, graph)
    try:
        drawn, notes = _drawn(request, graph, own)
    except UsageError as error:
        return _as_it_is(file, found, f"it cannot be checked: {str(error).rstrip('.')}")
    megabytes = len(model.to_bytes()) / 1e6
    guess = _LOOK_SECONDS + (len(own) + len(drawn)) * megabytes * _RUN_SECONDS
    progress.stage("rewriting, and running both on the CPU", guess)
    with scratch_folder("harness-fix-") as folder, HostDevice() as host:
        try:
            same = SameValues(host, model, (*own, *drawn), request.timeout, folder)
            by_values = any(BY_NAME.get(finding.entry.remedy or "") in BY_VALUES for finding in found)
            peaks = same.peaks(own[0]) if own and by_values else None
        except HarnessError as error:
            return _as_it_is(file, found, f"it cannot be run on the CPU: {error.message.rstrip('.')}")
        rewriting = Rewriting(model, request.target, same.why_not, peaks)
        left = rewriting.run()
        if not rewriting.steps:
            return Fixed(file, None, found, (), left, notes=notes)
        rewritten = with_ports_of(file, rewriting.model)
        if why := same.why_not(with_named_ports(isolate(rewritten))):
            return _as_it_is(file, found, f"the file as it would be written is another: {why}")
    steps = tuple(rewriting.steps)
    return Fixed(file, rewritten, found, steps, left, same.check, notes=(*notes, *not_kept(file)))


def _given(request: FixRequest, graph: Graph) -> tuple[Draw, ...]:
    """The user's own inputs, if there are any. Raises UsageError."""
    if request.given is not None:
        return (Draw("given by the caller", check_inputs(request.given, graph), request.seed, drawn=False),)
    if request.inputs is not None:
        return (Draw(str(request.inputs), load_inputs(request.inputs, graph), request.seed, drawn=False),)
    return ()


def _drawn(request: FixRequest, graph: Graph, own: Sequence[Draw]) -> tuple[tuple[Draw, ...], tuple[str, ...]]:
    """Random inputs, and a sentence where they cannot be drawn beside the user's. Raises UsageError where there are no
    others."""
    if not graph.inputs:
        return (Draw("none: the model takes no inputs", {}, request.seed, drawn=False),), ()
    seeds = range(request.seed, request.seed + DRAWS)
    try:
        return tuple(Draw(f"{RANDOM}{seed}", random_inputs(graph, seed), seed, drawn=True) for seed in seeds), ()
    except UsageError as error:
        if not own:
            raise
        return (), (f"Checked on the inputs given alone: {error.message}",)
