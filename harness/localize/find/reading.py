"""A wrong run of the model whose intermediates were read: copies of as many tensors as the budget and the delegate
take, and the model's own outputs as that run gave them."""

from __future__ import annotations

from dataclasses import dataclass

from harness.core.arrays import Array
from harness.core.visible import counted
from harness.localize.base.case import Case
from harness.localize.base.comparison import TAP_SECONDS, ModelComparison, Workbench
from harness.localize.find import unsteady
from harness.localize.probe.taps import Tapped, choose, outputs_under_taps, read_copies


@dataclass(frozen=True)
class Read:
    """What was read. `first` has the outputs of the run that was read where runs differ, else the untouched model's;
    `own` are their values in that run where it is the model's own; `unchanged`: reading altered nothing of it."""

    first: ModelComparison
    tapped: Tapped
    own: dict[str, Array]
    unchanged: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class NoWrongRun:
    """Runs differ, and of those whose intermediates were read none was wrong."""

    notes: tuple[str, ...]


def read_wrong_run(bench: Workbench, case: Case, first: ModelComparison, budget: int) -> Read | NoWrongRun:
    """Run the model with copies of up to `budget` bytes of intermediates; where runs differ, until one is wrong."""
    notes: list[str] = list(unsteady.notes(first)) if first.differs else []

    def tap(warmup: int = 0) -> Tapped:
        tapped = _tap(bench, case, budget, warmup)
        if tapped.unread:
            notes.append(f"{counted(len(tapped.unread), 'tensor')} could not be read on the device.")
        return tapped

    if first.differs:
        wrong = unsteady.wrong_run(bench, case, first, tap)
        if wrong is None:
            return NoWrongRun((*notes, "No run whose intermediates were read was wrong."))
        if not wrong.seen:
            notes.append("The run that was read was wrong in another way than those of the untouched model.")
        tapped, first, own, unchanged = wrong.tapped, wrong.found, wrong.own, wrong.seen
    else:
        tapped = tap()
        own, changed = outputs_under_taps(bench, case, first, tapped)
        if changed:
            notes.append(f"Tapping changed output {changed}.")
        unchanged = not changed
    if tapped.moved:
        notes.append("The runtime put ops elsewhere in the model that was read: nothing is certified.")
        unchanged = False
    return Read(first, tapped, own, unchanged, tuple(notes))


def _tap(bench: Workbench, case: Case, budget: int, warmup: int) -> Tapped:
    taps = choose(case.graph, budget, case.on_cpu)
    size = sum(case.graph.tensors[t].nbytes for t in taps)
    seconds = 2 + len(taps) * TAP_SECONDS + size / 60e6
    bench.progress.stage(f"{len(taps)} tensors read on {bench.device.name}", seconds)
    advance = bench.progress.fraction
    tapped = read_copies(bench.device, case, bench.run.tensors, taps, budget=budget, advance=advance, warmup=warmup)
    bench.device.stop()
    return tapped
