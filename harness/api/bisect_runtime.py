"""`harness bisect-runtime`: which release of the runtime broke a model, or mended it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.api.bisect import Bisection, State, bisect
from harness.api.compare import compare_command
from harness.api.session import ModelRequest
from harness.core.errors import DeviceDied, DeviceError, DeviceSilent, UsageError
from harness.core.progress import SILENT, Progress
from harness.core.run_folder import RunFolder
from harness.core.visible import best_at_one
from harness.devices.registry import KINDS, Releases, check_device, check_options, kind_of, open_device
from harness.graph.model import Model
from harness.localize.base.comparison import ModelComparison
from harness.localize.probe import control
from harness.report.page import write_report


@dataclass(frozen=True)
class Tested:
    """One release: what the model is on it, why where it fails, how wrong its outputs are, and the run's folder."""

    release: str
    state: State
    why: str = ""
    found: ModelComparison | None = None
    folder: Path | None = None

    @property
    def worst(self) -> str:
        """The least similar output, or why there is none, in a few words."""
        if self.found is None:
            return self.why
        worst = max(self.found.outputs, key=lambda output: output.judgement.ratio)
        actual = worst.judgement.actual
        ratio = f"{worst.judgement.ratio:.3g}x what the arithmetic explains"
        return f"{worst.name}: cosine {best_at_one(actual.cosine)}, {ratio}"

    def to_json(self) -> dict[str, Any]:
        """Its fields; `outputs` as `compare` gives them."""
        return {
            "release": self.release,
            "state": self.state,
            "why": self.why,
            "outputs": [output.to_json() for output in self.found.outputs] if self.found else [],
            "run": None if self.folder is None else str(self.folder),
        }


@dataclass(frozen=True)
class RuntimeBisection:
    """The answer, with every release that was tested, oldest first."""

    model: dict[str, Any]
    tested: tuple[Tested, ...]
    bisection: Bisection

    @property
    def newest(self) -> State:
        """The state on the newest release."""
        return self.tested[-1].state

    def to_json(self) -> dict[str, Any]:
        """`bisect-runtime --json`, schema 1. `status` is of the newest release."""
        last = self.tested[-1].found
        return {
            "schema": 1,
            "model": self.model,
            "status": "pass" if self.newest == "right" else "fail",
            "changes": [change.to_json() for change in self.bisection.changes],
            "releases": [tested.to_json() for tested in self.tested],
            "not_tested": list(self.bisection.not_tested),
            "outputs": [output.to_json() for output in last.outputs] if last else [],
            "notes": self.bisection.sentences(),
        }


def bisect_runtime_command(
    request: ModelRequest, first: str | None, last: str | None, *, every: bool = False, progress: Progress = SILENT
) -> tuple[RuntimeBisection, Path]:
    """Compare the model on releases between `first` and `last` until every change that shows is traced to one. None is
    the oldest that the kind of device begins with, or the newest; `nightly` is the newest daily build.

    Each comparison is a run of its own, in `releases/` of the run folder. Raises HarnessError.
    """
    known = _releases(request.device)
    check_options(request.device, request.options)
    device = {"name": request.device, "kind": request.device, "runtime": "", "gpu": ""}
    model = Model.load(request.model)
    about = {"path": str(request.model), "sha256": model.sha256, "ops": len(model.graph().ops)}
    progress.stage("listing the releases", 3.0)
    releases = known.between(first, last)
    with RunFolder.create(request.out, "bisect-runtime", str(request.model), request.device) as run:
        options = {"accelerator": request.options.accelerator, "precision": request.options.precision}
        run.save(model=about, device=device, options=options)
        tested: dict[str, Tested] = {}

        def ask(release: str) -> State:
            tested[release] = _test(release, replace(request, out=run.path / "releases"), progress)
            run.save(releases=[each.to_json() for each in tested.values()])
            return tested[release].state

        found = bisect(releases, ask, every=every, why=lambda release: tested[release].why)
        answer = RuntimeBisection(about, tuple(tested[release] for release in found.states), found)
        run.save(status="done", result=answer.to_json(), device=device | {"runtime": answer.tested[-1].release})
        write_report(run.path)
        return answer, run.path


def _releases(device: str) -> Releases:
    kind = kind_of(device)
    if kind.releases is None or device != kind.name:
        several = [kind.name for kind in KINDS if kind.releases is not None]
        raise UsageError(
            f"'{device}' has one runtime.", f"Use --device {' or '.join(several)}, which can have any release."
        )
    return kind.releases


def _test(release: str, request: ModelRequest, progress: Progress) -> Tested:
    device = f"{request.device}@{release}"
    try:
        check_options(device, request.options)
        check_device(device, lambda what: progress.stage(what, 30.0))
    except (DeviceError, UsageError) as error:
        return Tested(release, "untestable", error.message)
    why = ""
    died = False
    state: State = "fails"
    for _ in range(2):  # a failure must show twice: cold shaders alone make some releases lose patience
        try:
            found, folder = compare_command(replace(request, device=device), progress)
        except DeviceError as error:
            if not error.message.startswith((f"{device} ", f"Device '{device}' ")):
                raise  # the reference's, which is the same for all
            why, died = error.message, isinstance(error, DeviceDied)
            # What ended before the model was asked, outside of it or at a limit of time says nothing of the release.
            beside = why.startswith((f"Device '{device}' ", f"{device} was lost "))
            state = "unknown" if isinstance(error, DeviceSilent) or beside else "fails"
        else:
            return Tested(release, "right" if found.ok else "wrong", "", found, folder)
    # A refusal is the release's own word; one that crashes may crash on everything.
    if state == "fails" and died and (broken := _broken(device, request)) is not None:
        return Tested(release, "untestable", broken)
    return Tested(release, state, why)


def _broken(device: str, request: ModelRequest) -> str | None:
    """Why a release that does not survive the model survives nothing; None where it does."""
    try:
        with open_device(device) as opened:
            control.check(opened, request.options, request.timeout)
    except DeviceError as error:
        return error.message
    return None
