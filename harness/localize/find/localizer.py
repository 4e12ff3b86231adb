"""Which ops' errors their own arithmetic does not explain: all culprits in a constant number of device compiles.

A healthy model costs one compile. A broken one costs three: the untouched model, the model with every readable
intermediate copied out, and the model with the suspects' tensors as outputs themselves, whose values must agree. What
leaves a doubt is asked in isolation, all in a fourth.

The stages, each in a module of its own: `compare_model`, `read_wrong_run`, each op's local error, `recheck_suspects`,
`accuse`, `confirm`, and where nothing is certified `search_beside`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.core.arrays import TensorIndex
from harness.localize.base.case import Case
from harness.localize.base.comparison import ModelComparison, Workbench, compare_model
from harness.localize.base.op_record import OpRecord
from harness.localize.base.placement import not_placed
from harness.localize.base.result import Localization, ModelFacts, Status
from harness.localize.find import unsteady
from harness.localize.find.accuse import Evidence, accuse, behind_nan, suspects
from harness.localize.find.confirm import Confirmed, confirm, search_beside
from harness.localize.find.findings import NOTHING, Findings
from harness.localize.find.precision import find_lost_digits
from harness.localize.find.reading import NoWrongRun, Read, read_wrong_run
from harness.localize.find.recheck import Recheck, recheck_suspects, second_kind
from harness.localize.find.records import corrected, unread, worth_keeping, write_rows
from harness.localize.find.tap_consistency import contradicted_taps
from harness.localize.probe import control
from harness.localize.probe.isolation import Isolation, contaminated
from harness.localize.probe.local_error import LocalError, Reading, by_key, plan
from harness.localize.probe.taps import TAP_BUDGET


def localize(bench: Workbench, case: Case, *, tap_budget: int = TAP_BUDGET, runs: int = 2) -> Localization:
    """Find the ops whose errors their own arithmetic does not explain. `runs`: how often the untouched model runs at
    least, to see how often it is wrong.

    Raises:
        DeviceError: the reference or the untouched model does not complete, or the device is wrong on everything.
    """
    answer = _Localizer(bench, case, tap_budget).answer(runs)
    return control.confirmed(answer, bench.device, case.part_options, case.timeout)


@dataclass(frozen=True)
class _Outcome:
    """What the stages came to."""

    status: Status
    findings: Findings = NOTHING
    certified: bool = False
    records: Sequence[OpRecord] = ()


class _Localizer:
    def __init__(self, bench: Workbench, case: Case, tap_budget: int) -> None:
        self.bench, self.case, self.tap_budget = bench, case, tap_budget
        self.started, self.compiles, self.runs = time.monotonic(), bench.device.compiles, bench.device.runs

    def answer(self, runs: int) -> Localization:
        first = compare_model(self.bench, self.case, keep=True, runs=runs)
        outcome = self._without_reading(first)
        if outcome is None:
            read = read_wrong_run(self.bench, self.case, first, self.tap_budget)
            if isinstance(read, NoWrongRun):
                outcome = _Outcome("unresolved", Findings(notes=read.notes))
            else:
                first, outcome = read.first, self._from(read)
        return self._localization(first, outcome)

    def _without_reading(self, first: ModelComparison) -> _Outcome | None:
        """The outcome where no intermediate has to be read for it."""
        if first.ok:
            return _Outcome("pass", certified=True)
        if first.explained:
            found = find_lost_digits(self.bench, self.case, first)
            lost = Findings(tuple(found.culprits), tuple(found.explained), tuple(found.notes))
            return _Outcome(found.status, lost, found.certified)
        if (unplaced := not_placed(self.case.placement, self.case.graph)) is not None:
            return _Outcome("unresolved", Findings(notes=(unplaced,)))
        return None

    def _from(self, read: Read) -> _Outcome:
        """The outcome of a wrong run that was read."""
        first, tensors = read.first, frozenset(read.tapped.read)
        readings = plan(self.case.graph, tensors)
        local = LocalError(self.bench.host, self.case, self.bench.run.tensors, first.beyond, read.own)
        isolation = Isolation(self.bench.device, local, self.bench.progress)
        records = self._judge(local, readings)
        if first.differs and unsteady.wrong_all_over(records):
            said = "Most results were wrong, or all of them zeros, in the run that was read: no op is named for it."
            return _Outcome("unresolved", Findings(notes=(*read.notes, said)), records=records)
        look = self._look_again(first, local, isolation, records, readings, tensors)
        look, disbelief = self._believed(local, look)
        evidence = Evidence(self.bench, first, local, isolation, look, read.unchanged)
        findings, records = accuse(evidence)
        confirmed = confirm(evidence, findings)
        records = [*corrected(records, confirmed.findings.culprits, "inherited"), *unread(self.case.graph, readings)]
        findings, certified = self._settled(evidence, confirmed)
        notes = [*read.notes, *disbelief, *findings.notes]
        if not findings.culprits:
            notes.append("The outputs are wrong, but no op that could be asked is.")
        notes += findings.unaccounted(first.outputs)
        status: Status = "culprits" if findings.culprits else "unresolved"
        records = corrected(records, findings.culprits)
        return _Outcome(status, replace(findings, notes=tuple(notes)), certified, records)

    def _settled(self, evidence: Evidence, confirmed: Confirmed) -> tuple[Findings, bool]:
        """What is left in the end, and whether it is certified."""
        findings, outputs = confirmed.findings, evidence.first.outputs
        if findings.certified(outputs, unchanged=evidence.unchanged):
            hidden = behind_nan(evidence, findings.culprits)
            every = sorted([*findings.culprits, *hidden], key=lambda c: c.record.index)
            return findings.having(every), not hidden
        if evidence.first.differs:
            left = findings.having(unsteady.standing(findings.culprits))
        else:
            left = search_beside(evidence, confirmed)
            if not findings.culprits:
                said = "The outputs are wrong, but no op that could be read is: the fault hides from the taps."
                left = replace(left, notes=(*findings.notes, said, *left.notes[len(findings.notes) :]))
        if left.named != findings.named:
            left = replace(left, explained=evidence.impact_on_outputs(left.culprits))
        return left, False

    def _judge(self, local: LocalError, readings: Sequence[Reading]) -> list[OpRecord]:
        self.bench.progress.stage("each op re-run on the device's own inputs", 1 + len(readings) / 60)
        records = []
        for record in local.judge(readings, self.bench.progress.fraction):
            records.append(record)
            self.bench.run.rows("ops.csv", OpRecord.HEADER, [record.row()])
        self.bench.host.stop()
        return records

    def _look_again(
        self,
        first: ModelComparison,
        local: LocalError,
        isolation: Isolation,
        records: Sequence[OpRecord],
        readings: Sequence[Reading],
        read: frozenset[TensorIndex],
    ) -> Recheck:
        """Suspects read a second way; of runs that differ, until the fault shows again in one that was wrong too."""
        self.bench.progress.stage("suspects read a second way", 3 + len(self.case.graph.ops) * 0.03)
        doubtful = self._not_proven(local, isolation, records, readings)
        kind = second_kind(first.done.runtime)

        def look(warmup: int) -> Recheck:
            return recheck_suspects(
                self.bench.device, local, records, doubtful, readings, read, self.tap_budget, warmup, kind
            )

        found = look(0)
        for attempt in range(1, unsteady.MOST_ATTEMPTS if first.differs else 1):
            if not found.doubts:
                break
            found = look(attempt % 2)
        return found

    def _not_proven(
        self, local: LocalError, isolation: Isolation, records: Sequence[OpRecord], readings: Sequence[Reading]
    ) -> list[OpRecord]:
        """Suspects to read a second way. Where NaN or infinity spreads, the ops it reaches have to be asked in
        isolation in any case; a suspect that fails there too needs no second tap, and so this costs no compile."""
        chosen = suspects(records)
        known = by_key(readings)
        of = {s: known[s.key] for s in chosen}
        hidden = contaminated(self.case, local.store, [r for r in readings if len(r.ops) == 1], local.beyond)
        if not hidden:
            return chosen
        records_of = {r.key: r for r in records}
        wanted = {records_of[key]: r for key, r in by_key(hidden).items()}
        wanted |= {s: r for s, r in of.items() if len(r.ops) == 1}
        alone = isolation.ask(wanted)
        return [s for s in chosen if s not in alone or alone[s].ok]

    def _believed(self, local: LocalError, look: Recheck) -> tuple[Recheck, list[str]]:
        """Without the readings that their readers disprove; what read them is judged together with what made them."""
        lies = contradicted_taps(local, look.records, look.read)
        if not lies:
            return look, []
        names = (self.case.graph.tensors[t].name for t in sorted(lies))
        notes = [
            f"Both taps of '{name}' show it wrong, and all that reads it is right: the taps are not believed."
            for name in names
        ]
        read = look.read - lies
        before = {(r.tensor, r.from_output): r for r in plan(self.case.graph, look.read)}
        fresh = [r for r in plan(self.case.graph, read) if before[r.tensor, r.from_output] != r]
        again = by_key(fresh).keys() | {(t, True) for t in lies}
        kept = [r for r in look.records if r.key not in again]
        return Recheck([*kept, *local.judge(fresh)], look.doubts, read), notes

    def _localization(self, first: ModelComparison, outcome: _Outcome) -> Localization:
        case, device, done, findings = self.case, self.bench.device, first.done, outcome.findings
        self.bench.run.tensors.keep_only(worth_keeping(case.graph, findings.culprits))
        records = write_rows(self.bench.run, sorted(outcome.records, key=lambda r: (r.index, r.tensor)))
        return Localization(
            model=ModelFacts(str(case.model.path or ""), case.model.sha256, len(case.graph.ops)),
            device=device.described(done.runtime, done.adapter),
            status=outcome.status,
            certified=outcome.certified,
            outputs=first.outputs,
            culprits=findings.culprits,
            records=tuple(records),
            residency=done.residency,
            device_compiles=device.compiles - self.compiles,
            device_runs=device.runs - self.runs,
            seconds=time.monotonic() - self.started,
            notes=(*first.notes, *findings.notes),
            explained=findings.explained,
            differs=first.differs,
            half=first.half,
        )
