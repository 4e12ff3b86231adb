"""When the untouched model ends the process, does not end, is another each time, or is refused because it goes beyond a
limit of the device: which op does that.

Nothing can be read of a model that does not run, and nothing compared of one that is never the same, so it is cut into
windows, each fed with the reference's values and run by itself: one that crashes or hangs fails, or one whose runs
differ, whatever else it gives, or one that goes beyond a limit that the whole model goes beyond. The search is that of
`search`, and names the smallest windows that fail.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from harness.core.arrays import OpIndex
from harness.core.job import Options, Residency
from harness.localize.base.case import Case
from harness.localize.base.comparison import Workbench
from harness.localize.base.op_record import OpRecord
from harness.localize.base.remarks import left_open
from harness.localize.base.result import Culprit, Localization, ModelFacts
from harness.localize.probe import control
from harness.localize.probe.experiment import UNSTEADY_RUNS, Experiments, Specimen
from harness.localize.probe.search import Answer, Window, find_windows
from harness.localize.probe.subgraph import cut_out
from harness.localize.probe.tensor_values import TensorValues
from harness.remedies.cause import Cause

MOST_QUESTIONS = 60
# A window is given no longer than this, however long the whole model was given: most that hang do so for ever.
HANG_SECONDS = 60.0


def find_fatal(bench: Workbench, case: Case, scratch: Path) -> Localization | None:
    """The ops that crash or hang the device; None when the model does neither (any more).

    Raises:
        DeviceError: the reference does not complete, the device is lost, or fails on everything. StorageError: no room
            for the reference.
    """
    return _CrashSearch(bench, case, 1).answer(scratch, ("crash", "hang"))


def find_unsteady(bench: Workbench, case: Case, scratch: Path) -> Localization | None:
    """The ops that give other values in several runs of one compiled model; None when the model does not.

    Raises: as :func:`find_fatal`.
    """
    return _CrashSearch(bench, case, UNSTEADY_RUNS).answer(scratch, ("nondeterministic",))


def find_beyond(bench: Workbench, case: Case, scratch: Path) -> Localization | None:
    """The ops that go beyond a limit of the device, as its refusal says; None when the model is refused for another
    reason, or nothing less than the whole of it for this one.

    Raises: as :func:`find_fatal`.
    """
    found = _CrashSearch(bench, case, 1).answer(scratch, ("limits",))
    ops = [op.index for op in case.graph.ops if op.index not in case.graph.constant_ops]
    if found is None or not found.culprits:
        return None
    record = found.culprits[0].record
    return found if len(ops) == 1 or (record.first, record.index) != (ops[0], ops[-1]) else None


class _CrashSearch:
    def __init__(self, bench: Workbench, case: Case, runs: int) -> None:
        self.bench, self.case, self.runs = bench, case, runs
        self.started = time.monotonic()
        self.compiles, self.done = bench.device.compiles, bench.device.runs
        self.experiments = Experiments(bench.device, bench.host, min(case.timeout, HANG_SECONDS), case.seed)
        self.kinds: frozenset[str] | None = None
        """The limits that the whole model goes beyond, once it was asked."""

    def answer(self, scratch: Path, sought: tuple[str, ...]) -> Localization | None:
        """Windows that end in one of the ways sought."""
        bench, case, graph = self.bench, self.case, self.case.graph
        bench.progress.stage(f"the untouched model on {bench.device.name} once more", 5.0)
        whole = self._ending(Specimen(case.model, case.inputs), case.options)
        if whole[0] not in sought:
            return None
        self._control()
        bench.progress.stage("reference on the host CPU", 1 + len(graph.ops) / 100)
        known = TensorValues.collect(bench.host, case, bench.run.tensors, scratch)
        items = [op.index for op in graph.ops if op.index not in graph.constant_ops]
        endings: dict[Window, tuple[str, str]] = {}

        def ask(start: int, stop: int) -> Answer:
            first, last = items[start], items[stop - 1]
            bench.progress.stage(f"op {first}" if first == last else f"ops {first} to {last}", 3.0)
            part = cut_out(case.model, items[start:stop], known.exact)
            if part is None:
                return "unresolved"
            endings[Window(start, stop)] = self._ending(part.specimen, case.part_options)
            ending, _ = endings[Window(start, stop)]
            if ending in sought:
                return "bad"
            return "unresolved" if ending in ("refused", "limits", "impossible") else "good"

        found = find_windows(len(items), ask, limit=MOST_QUESTIONS)
        self._control()  # it may have broken since
        culprits = [self._culprit(items, window, *endings[window]) for window in found.failing]
        why = f": {whole[1].rstrip('.')}" if whole[1] else ""
        notes = [f"The untouched model {_SAID[whole[0]]}{why}."]
        notes += left_open(len(found.unresolved))
        facts = bench.device.facts()
        return Localization(
            model=ModelFacts(str(case.model.path or ""), case.model.sha256, len(graph.ops)),
            device=bench.device.described(facts.runtime, facts.gpu),
            status="culprits" if culprits else "unresolved",
            certified=False,
            outputs=(),
            culprits=tuple(culprits),
            records=tuple(culprit.record for culprit in culprits),
            residency=Residency(False),
            device_compiles=bench.device.compiles - self.compiles,
            device_runs=bench.device.runs - self.done,
            seconds=time.monotonic() - self.started,
            notes=tuple(notes),
        )

    def _control(self) -> None:
        before = self.bench.device.compiles, self.bench.device.runs
        control.check(self.bench.device, self.case.part_options, self.case.timeout)
        self.compiles += self.bench.device.compiles - before[0]
        self.done += self.bench.device.runs - before[1]

    def _ending(self, specimen: Specimen, options: Options) -> tuple[str, str]:
        """How a specimen ended, and why."""
        seen = self.experiments.observe(specimen, options, runs=self.runs)
        if seen.beyond and seen.said is not None:
            self.kinds = self.kinds or frozenset(each.kind for each in (seen.said, *seen.also))
            return ("limits" if seen.said.kind in self.kinds else seen.ending), seen.said.plain
        return (seen.ending, seen.reason) if seen.repeatable else ("nondeterministic", "")

    def _culprit(self, items: Sequence[OpIndex], window: Window, cause: str, note: str) -> Culprit:
        graph = self.case.graph
        last = graph.ops[items[window.stop - 1]]
        made = graph.tensors[last.outputs[0]]
        record = OpRecord(
            index=last.index,
            op=last.custom or last.name,
            first=items[window.start],
            output=made.name,
            tensor=made.index,
            shape=made.shape or (),
            dtype=made.type.lower(),
            verdict="culprit",
            reading="window",
        )
        signature, note = (note, "") if cause == "limits" else (None, note)
        return Culprit(record, Cause(cause), signature, certified=False, isolated=True, note=note)


_SAID = {
    "crash": "crashes the device",
    "hang": "hangs the device",
    "nondeterministic": "gives other values in each run",
    "limits": "goes beyond a limit of the device, so that it is refused",
}
