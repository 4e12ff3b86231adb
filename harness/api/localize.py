"""What `harness localize` does."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from harness.api.scope import notes
from harness.api.session import ModelRequest, session
from harness.core.errors import DeviceDied, DeviceRefused
from harness.core.progress import SILENT, Progress
from harness.devices.execute import UNTOUCHED
from harness.localize.base.case import Case
from harness.localize.base.comparison import Workbench
from harness.localize.base.result import Localization
from harness.localize.explain.explainer import SCRATCH
from harness.localize.explain.explainer import explain as explain_culprits
from harness.localize.explain.known import with_known
from harness.localize.find.crash_search import find_beyond, find_fatal, find_unsteady
from harness.localize.find.localizer import localize
from harness.localize.probe.excess import refused_beyond
from harness.localize.probe.journal.device import Journaled
from harness.localize.probe.journal.resume import Resume
from harness.report.page import write_report


class Illustrator(Protocol):
    """Pictures for a report, drawn once the device's outputs are there, the remedies' among them."""

    def draw(self, bench: Workbench, case: Case, answer: Localization) -> dict[str, Any]:
        """Write the pictures into the run folder and describe them; nothing where there is nothing to show. The device
        may be asked for more."""


def localize_command(
    request: ModelRequest,
    progress: Progress = SILENT,
    scene: Illustrator | None = None,
    *,
    resume: Resume = "never",
    explain: bool = False,
    runs: int = 2,
) -> tuple[Localization, Path]:
    """`harness localize`. `scene` adds pictures to the report; `resume` continues an interrupted run; `explain` goes on
    to causes, reproducers and remedies; `runs` of the untouched model at least. Raises HarnessError."""
    with session("localize", request, progress, resume, runs) as (bench, case):
        answer = _localized(bench, case, runs)
        if explain:
            answer = explain_culprits(bench, case, answer)
        answer = with_known(case, _with_probes(bench, answer))
        answer = replace(answer, notes=(*answer.notes, *notes(bench.run)), folder=bench.run.path)
        if scene is not None:
            # It may ask the device for minutes; what was found is not lost with it.
            bench.run.save(device=answer.device, seconds=answer.seconds, result=answer.to_json())
            if drawn := scene.draw(bench, case, answer):
                bench.run.save(scene=drawn)
        # Without its report a run is not at its end: killed here, it is continued, and its journal answers every probe.
        resumable = isinstance(bench.device, Journaled)
        told = answer.to_json()
        bench.run.save(status="done", device=answer.device, seconds=answer.seconds, result=told, resumable=resumable)
        write_report(bench.run.path)
        if isinstance(bench.device, Journaled):
            bench.run.save(resumable=False)
            bench.device.forget()
        return answer, bench.run.path


def _localized(bench: Workbench, case: Case, runs: int) -> Localization:
    """The ops that make the model wrong, or those that end the process, are never the same, or go beyond a limit."""
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
    except DeviceRefused as error:
        beyond = error.doing == UNTOUCHED and refused_beyond(error.reason, error.log)
        found = find_beyond(bench, case, scratch) if beyond else None
        if found is None:
            raise
        return found
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _with_probes(bench: Workbench, answer: Localization) -> Localization:
    """The answer with what the journal knows of its probes."""
    if not isinstance(bench.device, Journaled):
        return answer
    probes = bench.device.probes()
    # Where the answer is that an op takes the device down, that its probes did is no news.
    fatal = any(culprit.cause.stops for culprit in answer.culprits)
    left_out = () if fatal else map(str, probes.quarantined)
    return replace(answer, probes=probes, notes=(*answer.notes, *left_out))
