"""Steps 1-4: reference, baseline, taps, local error. All culprits in a constant number of device compiles.

A healthy model costs one compile. A broken one costs three: the untouched model, the model with every readable
intermediate copied out, and the model with the suspects' tensors as outputs themselves, whose values must agree. What
leaves a doubt is asked by itself, all in a fourth.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from harness.counted import counted
from harness.devices.excess import limit_exceeded
from harness.localize import control, unsteady
from harness.localize.alone import Alone, fails_likewise, masked
from harness.localize.baseline import Case
from harness.localize.cause import cause_of, largest_given, reduction_length
from harness.localize.comparison import TAP_SECONDS, Bench, Comparison, compare_model, outputs_under_taps
from harness.localize.disbelief import disbelieved
from harness.localize.impact import ImpactProbe
from harness.localize.limits import SMALLEST
from harness.localize.local_error import LocalError, Reading, plan
from harness.localize.placement import not_placed
from harness.localize.precision import find_lost_digits
from harness.localize.records import corrected, unread, worth_keeping, write_rows
from harness.localize.result import Culprit, Impact, Localization, ModelFacts, OpRecord, Status
from harness.localize.second_look import SecondLook, look_again, second_kind
from harness.localize.taps import TAP_BUDGET, Tapped, choose, read_copies
from harness.localize.uncertified import accounts_for, explains, resolve
from harness.localize.windows import WindowProbe
from harness.numerics.verdict import FACTOR, Judgement

# Ops that lose tiny values or come near their limit, tried for harm when nothing else is found; one host run each.
MOST_TRIED = 32


def localize(bench: Bench, case: Case, *, tap_budget: int = TAP_BUDGET, runs: int = 2) -> Localization:
    """Find the ops whose errors their own arithmetic does not explain. `runs`: how often the untouched model runs at
    least, to see how often it is wrong.

    Raises:
        DeviceError: the reference or the untouched model does not complete, or the device is wrong on everything.
    """
    answer = _Localizer(bench, case, tap_budget, runs).answer()
    return control.confirmed(answer, bench.device, case.part_options, case.timeout)


class _Localizer:
    def __init__(self, bench: Bench, case: Case, tap_budget: int, runs: int) -> None:
        self.bench, self.case, self.tap_budget, self.asked_runs = bench, case, tap_budget, runs
        self.graph, self.store = case.graph, bench.run.tensors
        self.excess, self.started = False, time.monotonic()
        self.notes: list[str] = []
        self.asked_alone: set[Reading] = set()
        self.by_itself: dict[Reading, Judgement] = {}
        self.compiles, self.runs = bench.device.compiles, bench.device.runs

    def answer(self) -> Localization:
        bench, case = self.bench, self.case
        first = compare_model(bench, case, keep=True, runs=self.asked_runs)
        self.excess = limit_exceeded(first.done.log) is not None
        self.notes += first.notes
        if first.ok:
            return self._finish("pass", True, first)
        if first.explained:
            found = find_lost_digits(bench, case, first)
            self.notes += found.notes
            return self._finish(found.status, found.certified, first, found.culprits, found.explained)
        if (unplaced := not_placed(case.placement, self.graph)) is not None:
            self.notes.append(unplaced)
            return self._finish("unresolved", False, first)
        if first.differs:
            self.notes += unsteady.notes(first)
            wrong = unsteady.wrong_run(bench, case, first, self._tap)
            if wrong is None:
                self.notes.append("No run whose intermediates were read was wrong.")
                return self._finish("unresolved", False, first)
            tapped, first, own = wrong.tapped, wrong.found, wrong.own
            unchanged = wrong.seen
            if not unchanged:
                self.notes.append("The run that was read was wrong in another way than those of the untouched model.")
        else:
            tapped = self._tap()
            own, changed = outputs_under_taps(bench, case, first, tapped)
            if changed:
                self.notes.append(f"Tapping changed output {changed}.")
            unchanged = not changed
        if tapped.moved:
            self.notes.append("The runtime put ops elsewhere in the model that was read: nothing is certified.")
            unchanged = False
        read = frozenset(tapped.read)
        readings = plan(self.graph, read)
        local = LocalError(bench.host, case, self.store, first.beyond, own)
        records = self._judge(local, readings)
        if first.differs and unsteady.wrong_all_over(records):
            self.notes.append(
                "Most results were wrong, or all of them zeros, in the run that was read: no op is named for it."
            )
            return self._finish("unresolved", False, first, records=records)
        bench.progress.stage("suspects read a second way", 3 + len(self.graph.ops) * 0.03)
        doubtful = self._not_proven(local, records, readings)
        kind = second_kind(first.done.runtime)
        look = look_again(bench.device, local, records, doubtful, readings, read, self.tap_budget, kind=kind)
        for attempt in range(1, unsteady.MOST_ATTEMPTS if first.differs else 1):
            if not look.doubts:
                break  # the fault shows again, in a run that was a wrong one too
            again = attempt % 2
            look = look_again(bench.device, local, records, doubtful, readings, read, self.tap_budget, again, kind)
        look = self._believed(local, look)
        culprits, explained, records = self._convict(local, look, first, unchanged)
        culprits, explained, alone = self._confirmed(local, look, first, culprits, explained)
        records = [*corrected(records, culprits, "inherited"), *unread(self.graph, readings)]
        accounted = bool(culprits) and accounts_for(explained, first.outputs)
        certified = accounted and unchanged and all(c.certified for c in culprits)
        certified = certified and (explains(explained, first.outputs) or all(c.isolated for c in culprits))
        if certified:
            hidden = self._behind_nan(local, look, culprits)
            culprits, certified = sorted([*culprits, *hidden], key=lambda c: c.record.index), not hidden
            records = corrected(records, culprits)
        elif first.differs:
            standing = unsteady.standing(culprits)
            if len(standing) < len(culprits):
                explained = self._of_those_left(local, look, first, standing)
            records, culprits = corrected(records, standing), standing
        else:
            if not culprits:
                self.notes.append(
                    "The outputs are wrong, but no op that could be read is: the fault hides from the taps."
                )
            standing = self._without_taps(first, local, look, culprits, alone, accounted)
            records = corrected(records, standing)
            if {c.record for c in standing} != {c.record for c in culprits}:
                explained = self._of_those_left(local, look, first, standing)
            culprits = standing
        if not culprits:
            self.notes.append("The outputs are wrong, but no op that could be asked is.")
        for output in first.outputs:
            if culprits and not output.explained and explained and not accounts_for(explained, [output]):
                self.notes.append(f"Output '{output.name}' is wrong, and no culprit accounts for it.")
        status: Status = "culprits" if culprits else "unresolved"
        return self._finish(status, certified, first, culprits, explained, records)

    def _not_proven(
        self, local: LocalError, records: Sequence[OpRecord], readings: Sequence[Reading]
    ) -> list[OpRecord]:
        """Suspects to read a second way. Where NaN or infinity spreads, the ops it reaches have to be asked by
        themselves in any case; a suspect that fails there too needs no second tap, and so this costs no compile."""
        suspects = self._suspects(records)
        by_key = {(r.tensor, r.from_output is None): r for r in readings}
        chosen = {s: by_key[s.tensor, s.reading == "copy"] for s in suspects}
        hidden = masked(self.case, local.store, [r for r in readings if len(r.ops) == 1], local.beyond)
        if not hidden:
            return suspects
        records_of = {(r.tensor, r.reading == "copy"): r for r in records}
        wanted = {records_of[r.tensor, r.from_output is None]: r for r in hidden}
        wanted |= {s: r for s, r in chosen.items() if len(r.ops) == 1}
        alone = self._alone(local, wanted)
        return [s for s in suspects if s not in alone or alone[s].ok]

    def _believed(self, local: LocalError, look: SecondLook) -> SecondLook:
        """Without the readings that their readers disprove; what read them is judged together with what made them."""
        lies = disbelieved(local, look.records, look.read)
        if not lies:
            return look
        for t in sorted(lies):
            self.notes.append(
                f"Both taps of '{self.graph.tensors[t].name}' show it wrong, and all that reads it is right: "
                "the taps are not believed."
            )
        read = look.read - lies
        before = {(r.tensor, r.from_output): r for r in plan(self.graph, look.read)}
        fresh = [r for r in plan(self.graph, read) if before[r.tensor, r.from_output] != r]
        again = {(r.tensor, r.from_output is None) for r in fresh} | {(t, True) for t in lies}
        kept = [r for r in look.records if (r.tensor, r.reading == "copy") not in again]
        return SecondLook([*kept, *local.judge(fresh)], look.doubts, read)

    def _confirmed(
        self,
        local: LocalError,
        look: SecondLook,
        first: Comparison,
        culprits: list[Culprit],
        explained: tuple[Impact, ...],
    ) -> tuple[list[Culprit], tuple[Impact, ...], dict[OpRecord, Judgement]]:
        """Where taps leave a doubt, what each culprit does by itself: of neighbours, one may only look wrong because
        the tensor between them reads wrongly, and what does not explain the outputs may not be there at all."""
        if not culprits:
            return culprits, explained, {}
        readings = self._readings_of(look, culprits)
        neighbours = any(a.tensor in b.feeds for a in readings.values() for b in readings.values())
        needless = ImpactProbe(local, first.ideal).some_needless(list(readings.values()), explained)
        sure = all(c.certified for c in culprits) and accounts_for(explained, first.outputs)
        if sure and explains(explained, first.outputs) and not neighbours and not needless:
            return culprits, explained, {}
        alone = self._alone(local, {r: reading for r, reading in readings.items() if len(reading.ops) == 1})
        fails = [c for c in culprits if c.record in alone and fails_likewise(c.record, alone[c.record])]
        fails = [replace(c, isolated=True) for c in fails]
        if not fails or not sure:
            return culprits, explained, alone
        if len(fails) < len(culprits):
            # What only looked wrong is not believed where another rests on it either.
            lies = {c.record.tensor for c in culprits} - {c.record.tensor for c in fails}
            readings = self._readings_of(replace(look, read=look.read - lies), fails)
            impact = ImpactProbe(local, first.ideal).felt(list(readings.values()), first.outputs)
            if not (accounts_for(impact, first.outputs) and explains(impact, first.outputs)):
                return culprits, explained, alone
            kept = {c.record for c in fails}
            for c in culprits:
                if c.record not in kept:
                    name = f"{c.record.title} {c.record.number}"
                    self.notes.append(f"{name} looked wrong under both taps, but is right alone.")
            return fails, impact, alone
        return fails, explained, alone

    def _readings_of(self, look: SecondLook, culprits: Sequence[Culprit]) -> dict[OpRecord, Reading]:
        readings = {(r.tensor, r.from_output is None): r for r in plan(self.graph, look.read)}
        return {c.record: readings[c.record.tensor, c.record.reading == "copy"] for c in culprits}

    def _alone(self, local: LocalError, readings: dict[OpRecord, Reading]) -> dict[OpRecord, Judgement]:
        count = len(readings)
        if any(reading not in self.asked_alone for reading in readings.values()):
            where = self.bench.device.name
            self.bench.progress.stage(f"{counted(count, 'op')} alone on {where}", 2 + count * TAP_SECONDS)
        asked = [reading for reading in readings.values() if reading not in self.asked_alone]
        self.by_itself |= Alone(self.bench.device, local).judge(asked)
        self.asked_alone.update(asked)
        return {record: self.by_itself[r] for record, r in readings.items() if r in self.by_itself}

    def _behind_nan(self, local: LocalError, look: SecondLook, culprits: Sequence[Culprit]) -> list[Culprit]:
        """Ops that got NaN or infinity from a culprit, or what became of it, so that their own faults do not show:
        asked by themselves."""
        known = {c.record.tensor for c in culprits}
        readings = [r for r in plan(self.graph, look.read) if r.tensor not in known and len(r.ops) == 1]
        readings = masked(self.case, local.store, readings, local.beyond)
        if not readings:
            return []
        by_key = {(r.tensor, r.reading == "copy"): r for r in look.records}
        found = self._alone(local, {by_key[r.tensor, r.from_output is None]: r for r in readings})
        hidden = []
        for record, judgement in found.items():
            if not judgement.ok:
                suspect = replace(record, local=judgement, verdict="culprit", reading="window")
                note = "Another culprit's NaN or infinity, or what became of it, came in; this op fails by itself."
                hidden.append(replace(self._culprit(suspect, note, (), False), isolated=True))
        return hidden

    def _without_taps(
        self,
        first: Comparison,
        local: LocalError,
        look: SecondLook,
        suspects: Sequence[Culprit],
        alone: dict[OpRecord, Judgement],
        accounted: bool,
    ) -> list[Culprit]:
        """Suspects that stand without taps, and what windows find beside them."""
        bench, ports = self.bench, {port.tensor for port in self.graph.inputs}
        readings = self._readings_of(look, suspects)
        if not alone:
            alone = self._alone(local, {record: r for record, r in readings.items() if len(r.ops) == 1})
        direct = {r.tensor for r in readings.values() if r.from_output is not None and ports.issuperset(r.feeds)}
        probe = WindowProbe(bench.device, bench.host, self.case, self.store, first.beyond)
        resolved = resolve(
            probe,
            suspects,
            alone,
            lambda record: record.reading == "output" and record.tensor in direct,
            accounted,
            lambda what: bench.progress.stage(what, 2.0),
        )
        self.notes += resolved.notes
        return resolved.culprits

    def _of_those_left(
        self, local: LocalError, look: SecondLook, first: Comparison, standing: Sequence[Culprit]
    ) -> tuple[Impact, ...]:
        """What their local errors do together; nothing where a window was found, whose local error nobody read."""
        if not standing or any(c.record.reading == "window" for c in standing):
            return ()
        readings = list(self._readings_of(look, standing).values())
        impact = ImpactProbe(local, first.ideal).felt(readings, first.outputs)
        self.bench.host.rest()
        return impact

    def _tap(self, warmup: int = 0) -> Tapped:
        taps = choose(self.graph, self.tap_budget, self.case.on_cpu)
        size = sum(self.graph.tensors[t].nbytes for t in taps)
        self.bench.progress.stage(
            f"{len(taps)} tensors read on {self.bench.device.name}", 2 + len(taps) * TAP_SECONDS + size / 60e6
        )
        tapped = read_copies(
            self.bench.device,
            self.case,
            self.store,
            taps,
            budget=self.tap_budget,
            advance=self.bench.progress.fraction,
            warmup=warmup,
        )
        self.bench.device.rest()
        if tapped.unread:
            self.notes.append(f"{counted(len(tapped.unread), 'tensor')} could not be read on the device.")
        return tapped

    def _judge(self, local: LocalError, readings: Sequence[Reading]) -> list[OpRecord]:
        self.bench.progress.stage("each op re-run on the device's own inputs", 1 + len(readings) / 60)
        records = []
        for record in local.judge(readings, self.bench.progress.fraction):
            records.append(record)
            self.bench.run.rows("ops.csv", OpRecord.HEADER, [record.row()])
        self.bench.host.rest()
        return records

    def _convict(
        self, local: LocalError, look: SecondLook, first: Comparison, unchanged: bool
    ) -> tuple[list[Culprit], tuple[Impact, ...], list[OpRecord]]:
        """From suspects to culprits: causes, and what each error does to the outputs by itself and all together."""
        suspects = self._suspects(look.records)
        if not suspects:
            return [], (), look.records
        self.bench.progress.stage("what each local error does by itself", 1 + len(suspects) * len(self.graph.ops) / 300)
        readings = {(r.tensor, r.from_output is None): r for r in plan(self.graph, look.read)}
        probe = ImpactProbe(local, first.ideal)
        culprits, guilty, cleared = [], [], []
        for suspect in suspects:
            reading = readings[suspect.tensor, suspect.reading == "copy"]
            over = suspect.verdict == "culprit"
            ranged = suspect.tensor in first.beyond or (suspect.local and suspect.local.actual.nonfinite)
            impact = probe.of_one(reading, spreads=bool(over and ranged))
            if all(i.judgement.ok for i in impact) and (ranged or not over):
                if over:
                    cleared.append(suspect)
                continue
            guilty.append(reading)
            found = self._culprit(suspect, look.doubts.get(suspect, ""), impact, unchanged)
            alone = self.by_itself.get(reading)
            culprits.append(replace(found, isolated=alone is not None and not alone.ok))
        if cleared:
            leave = counted(len(cleared), "op leaves", "ops leave")
            self.notes.append(f"{leave} float16's range without harm to any output.")
        named = {c.record.tensor for c in culprits}
        records = [replace(r, verdict="fine") if r in cleared else r for r in look.records]
        records = [replace(r, verdict="culprit") if r in suspects and r.tensor in named else r for r in records]
        alone_known = culprits[0].impact if len(culprits) == 1 else ()
        explained = probe.felt(guilty, first.outputs, alone_known) if culprits else ()
        self.bench.host.rest()
        return culprits, explained, records

    @staticmethod
    def _suspects(records: Sequence[OpRecord]) -> list[OpRecord]:
        """Records over their limit, one for each tensor, by what ops read of it if they do; without any, those that
        lost values below float16's range, and those that would be over the limit of an output."""
        records = sorted(records, key=lambda r: r.reading == "copy")
        over = {r.tensor: r for r in records if r.verdict == "culprit"}
        most = len(over)
        if not over:
            near = [r for r in records if r.local is not None and (r.local.actual.flushed or r.local.ratio > FACTOR)]
            over, most = {r.tensor: r for r in near}, MOST_TRIED
        return sorted(over.values(), key=lambda r: (r.index, r.tensor))[:most]

    def _culprit(self, suspect: OpRecord, doubt: str, impact: tuple[Impact, ...], unchanged: bool) -> Culprit:
        shapes = [self.graph.tensors[t].shape or () for t in self.graph.ops[suspect.index].inputs if t >= 0]
        reduction = reduction_length(suspect.op, shapes, suspect.shape)
        beyond = self.excess and max((d for shape in (*shapes, suspect.shape) for d in shape), default=0) > SMALLEST
        fed = largest_given(self.graph, self.case.inputs, suspect) if self.case.options.half else 0.0
        cause, signature = cause_of(suspect, half=self.case.options.half, reduction=reduction, beyond=beyond, fed=fed)
        named = replace(suspect, verdict="culprit")
        return Culprit(named, cause, signature, unchanged and not doubt, note=doubt, impact=impact)

    def _finish(
        self,
        status: Status,
        certified: bool,
        first: Comparison,
        culprits: Sequence[Culprit] = (),
        explained: tuple[Impact, ...] = (),
        records: Sequence[OpRecord] = (),
    ) -> Localization:
        case, device, done = self.case, self.bench.device, first.done
        self.store.keep_only(worth_keeping(self.graph, culprits))
        records = write_rows(self.bench.run, sorted(records, key=lambda r: (r.index, r.tensor)))
        return Localization(
            model=ModelFacts(str(case.model.path or ""), case.model.sha256, len(self.graph.ops)),
            device={"name": device.name, "kind": device.kind, "runtime": done.runtime, "gpu": done.adapter},
            status=status,
            certified=certified,
            outputs=first.outputs,
            culprits=tuple(culprits),
            records=tuple(records),
            residency=done.residency,
            device_compiles=device.compiles - self.compiles,
            device_runs=device.runs - self.runs,
            seconds=time.monotonic() - self.started,
            notes=tuple(self.notes),
            explained=explained,
            differs=first.differs,
            half=first.half,
        )
