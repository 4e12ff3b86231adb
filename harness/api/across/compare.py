"""`harness compare` on several devices: each against the host's CPU, and then what differs between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from harness.api.across.asking import Asked, ask_each, model_facts, prepared_for
from harness.api.across.meeting import largest_difference, meetings, same_error
from harness.api.scope import notes
from harness.api.session import ModelRequest, close, session
from harness.core.errors import DeviceError
from harness.core.progress import SILENT, Progress
from harness.core.visible import counted
from harness.localize.base.case import Case
from harness.localize.base.comparison import ModelComparison, Workbench, changed_output, compare_model
from harness.localize.base.reference import label_of, output_label
from harness.localize.find.dump import read_every_op
from harness.report.across.ops import OpAcross, side_by_side, told, with_meetings
from harness.report.across.ops import sentences as ops_sentences
from harness.report.across.outputs import OutputMeeting
from harness.report.across.outputs import sentences as output_sentences
from harness.report.across.releases import Change, release_changes
from harness.report.tables import OpRow, read_ops


@dataclass(frozen=True)
class Measured:
    """One device's comparison, and with what it can be compared with another's. `rows` are its ops, none where they
    could not be read."""

    comparison: ModelComparison
    bench: Workbench
    case: Case
    rows: tuple[OpRow, ...]

    @property
    def facts(self) -> dict[str, str]:
        """The device, as run.json has it."""
        facts: dict[str, str] = self.bench.run.record["device"]
        return facts

    @property
    def wrong(self) -> frozenset[str]:
        """The outputs that are off by more than rounding explains."""
        return frozenset(each.name for each in self.comparison.outputs if not each.explained)

    @property
    def state(self) -> str:
        """`pass`, `fail`, or `precision` where rounding explains the errors and the outputs are of no use."""
        if self.comparison.ok:
            return "pass"
        return "precision" if self.comparison.explained else "fail"


@dataclass(frozen=True)
class AcrossComparison:
    """The answer: every device's, and what differs between those that have one."""

    model: dict[str, Any]
    asked: tuple[Asked[Measured], ...]
    outputs: tuple[OutputMeeting, ...]
    ops: tuple[OpAcross, ...]
    changes: tuple[Change, ...]
    notes: tuple[str, ...]

    @property
    def status(self) -> str:
        """`fail` where it is on one device at least, else `incomplete` where one has no answer, else `pass`."""
        if any(each.found and not each.found.comparison.ok for each in self.asked):
            return "fail"
        return "pass" if all(each.found for each in self.asked) else "incomplete"

    def to_json(self) -> dict[str, Any]:
        """`compare --json` with several devices, schema 1."""
        return {
            "schema": 1,
            "model": self.model,
            "status": self.status,
            "devices": [_entry(each) for each in self.asked],
            "between": {
                "outputs": [each.to_json() for each in self.outputs],
                "ops": [each.to_json() for each in self.ops],
                "releases": [each.to_json() for each in self.changes],
                "notes": list(self.notes),
            },
        }


def compare_across(
    request: ModelRequest, devices: Sequence[str], progress: Progress = SILENT, *, runs: int = 2
) -> AcrossComparison:
    """`harness compare` on `devices`, two at least: a run folder for each, with its ops read. A device that cannot be
    asked is told in the answer.

    Raises:
        UsageError: the model, its inputs, or the name of a device does not do. StorageError: nothing can be written.
    """
    ready = prepared_for(request, devices, progress)
    asked = tuple(ask_each(request, devices, lambda one: _measure(one, progress, runs)))
    there = [each.found for each in asked if each.found]
    ops = side_by_side([(each.facts["name"], each.rows) for each in there])
    stores = [(each.facts["name"], each.bench.run.tensors) for each in there]
    ops = with_meetings(ops, meetings(ready.case.graph, stores, ops))
    outputs = tuple(_outputs(there))
    for each in there:
        _keep(each, told(ops))
    model = model_facts(request, ready)
    wrong = {name: {each.facts["name"] for each in there if name in each.wrong} for name in {m.output for m in outputs}}
    said = [*_remarks(there), *output_sentences(outputs, wrong), *(ops_sentences(ops) if len(there) > 1 else ())]
    tested = release_changes((each.facts["name"], each.facts["runtime"], each.state, each.rows) for each in there)
    return AcrossComparison(model, asked, outputs, ops, tested, tuple(said))


def _measure(request: ModelRequest, progress: Progress, runs: int) -> tuple[Measured, Path]:
    """As `compare_command`, with every op read besides."""
    with session("compare", request, progress, runs=runs) as (bench, case):
        found = compare_model(bench, case, keep=True, runs=runs)
        lacking: tuple[str, ...] = ()
        try:
            read_every_op(bench, case, found)
        except DeviceError as error:  # the outputs are known all the same
            bench.run.log(error.log)
            lacking = (f"The ops could not be read on {request.device}: {error.message}",)
        found = replace(found, notes=(*found.notes, *notes(bench.run), *lacking), folder=bench.run.path)
        close(bench, found.done, None, found.to_json())
    return Measured(found, bench, case, read_ops(bench.run.path / "ops.csv").rows), bench.run.path


def _outputs(there: Sequence[Measured]) -> Iterator[OutputMeeting]:
    for one, other in combinations(there, 2):
        for name, values in other.comparison.done.outputs.items():
            mine = one.comparison.done.outputs.get(name)
            if mine is None or mine.shape != values.shape:
                continue
            why = changed_output(one.bench, one.case, one.comparison, {name: values})
            exact = one.bench.run.tensors.get(output_label(name), "reference")
            both = name in one.wrong and name in other.wrong
            same = both and (not why or same_error(mine, values, exact))
            names = (one.facts["name"], other.facts["name"])
            yield OutputMeeting(name, names, not why, why, largest_difference(mine, values), same)


def _remarks(there: Sequence[Measured]) -> Iterator[str]:
    """What the comparison between the devices does not rest on."""
    for each in there:
        if not each.rows:
            yield f"No op was read on {each.facts['name']}."
    if len(there) < 2:
        yield f"{counted(len(there), 'device')} of those named could be asked, so nothing was compared between devices."


def _keep(device: Measured, wrong: Sequence[OpAcross]) -> None:
    """Of the tensors those that somebody will look at: the outputs, and what wrong ops read and made."""
    graph, store = device.case.graph, device.bench.run.tensors
    kept = [output_label(port.name) for port in graph.outputs]
    for op in wrong:
        tensors = (*graph.ops[op.index].inputs, *graph.ops[op.index].outputs)
        kept += [label_of(graph, tensor) for tensor in tensors if tensor in graph.producer]
    store.keep_only(kept)


def _entry(asked: Asked[Measured]) -> dict[str, Any]:
    if asked.found is None:
        return asked.failed_json()
    return {"device": asked.found.facts} | asked.found.comparison.to_json() | {"run": str(asked.folder)}
