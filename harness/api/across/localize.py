"""`harness localize` on several devices: each by itself, and then one table of op and device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.api.across.asking import Asked, ask_each, model_facts, prepared_for
from harness.api.across.meeting import meetings
from harness.api.localize import localize_command
from harness.api.session import ModelRequest
from harness.core.progress import SILENT, Progress
from harness.core.run_folder import TensorStore
from harness.core.visible import counted
from harness.localize.base.result import Localization
from harness.localize.probe.journal.resume import Resume
from harness.report.across.ops import OpAcross, sentences, side_by_side, with_meetings
from harness.report.across.releases import Change, release_changes
from harness.report.tables import OpRow, read_ops

_WORST = ("culprits", "unresolved")


@dataclass(frozen=True)
class AcrossLocalization:
    """The answer: every device's, its ops side by side, and what a release of the runtime changed."""

    model: dict[str, Any]
    asked: tuple[Asked[Localization], ...]
    ops: tuple[OpAcross, ...]
    changes: tuple[Change, ...]
    notes: tuple[str, ...]

    @property
    def status(self) -> str:
        """The worst of the devices' answers; `incomplete` where the only fault is that one has none."""
        told = {each.found.status for each in self.asked if each.found}
        worst = next((word for word in _WORST if word in told), None)
        return worst or ("pass" if all(each.found for each in self.asked) else "incomplete")

    def to_json(self) -> dict[str, Any]:
        """`localize --json` with several devices, schema 1."""
        return {
            "schema": 1,
            "model": self.model,
            "status": self.status,
            "devices": [_entry(each) for each in self.asked],
            "between": {
                "ops": [each.to_json() for each in self.ops],
                "releases": [each.to_json() for each in self.changes],
                "notes": list(self.notes),
            },
        }


def localize_across(
    request: ModelRequest,
    devices: Sequence[str],
    progress: Progress = SILENT,
    *,
    resume: Resume = "never",
    explain: bool = False,
    runs: int = 2,
) -> AcrossLocalization:
    """`harness localize` on `devices`, two at least: a run folder for each. A device that cannot be asked is told in
    the answer.

    Raises:
        UsageError: the model, its inputs, or the name of a device does not do. StorageError: nothing can be written.
    """
    ready = prepared_for(request, devices, progress)
    asked = tuple(
        ask_each(
            request,
            devices,
            lambda one: localize_command(one, progress, resume=resume, explain=explain, runs=runs),
        )
    )
    read = [(each.device, _rows(each)) for each in asked if each.found]
    ops = side_by_side(read)
    stores = [(each.device, TensorStore(each.folder / "tensors")) for each in asked if each.folder]
    ops = with_meetings(ops, meetings(ready.case.graph, stores, ops))
    model = model_facts(request, ready)
    rows = dict(read)
    tested = release_changes(
        (each.device, each.found.device["runtime"], each.found.status, rows[each.device])
        for each in asked
        if each.found
    )
    return AcrossLocalization(model, asked, ops, tested, tuple(_notes(asked, rows, ops)))


def _rows(asked: Asked[Localization]) -> tuple[OpRow, ...]:
    return read_ops(asked.folder / "ops.csv").rows if asked.folder else ()


def _notes(
    asked: Sequence[Asked[Localization]], rows: dict[str, tuple[OpRow, ...]], ops: Sequence[OpAcross]
) -> list[str]:
    passing = [each.device for each in asked if each.found and each.found.status == "pass"]
    unread = [device for device in passing if not rows[device]]
    said = [f"The model passes on {device}, so no op was read there." for device in unread]
    answered = [each for each in asked if each.found]
    if len(answered) < 2:
        said.append(f"{counted(len(answered), 'device')} of those named could be asked.")
    return [*said, *(sentences(ops) if len(answered) > 1 else ())]


def _entry(asked: Asked[Localization]) -> dict[str, Any]:
    return asked.failed_json() if asked.found is None else asked.found.to_json() | {"run": str(asked.folder)}
