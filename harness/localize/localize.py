"""Steps 1-4: reference, baseline, taps, local error. All culprits in a constant number of device compiles.

A healthy model costs one compile. A broken one costs three: the untouched model, the model with every readable
intermediate copied out, and the model with the suspects' tensors as outputs themselves, whose values must agree.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace

from harness.job import Array
from harness.localize.baseline import Case, label_of, output_label, run_device
from harness.localize.cause import cause_of, reduction_length
from harness.localize.comparison import TAP_SECONDS, Bench, Comparison, compare_model
from harness.localize.impact import ImpactProbe
from harness.localize.local_error import LocalError, Reading, plan
from harness.localize.result import Culprit, Impact, Localization, ModelFacts, OpRecord, Status
from harness.localize.second_look import SecondLook, look_again
from harness.localize.taps import TAP_BUDGET, Tapped, choose, read_copies
from harness.localize.uncertified import accounts_for, resolve
from harness.localize.windows import WindowProbe
from harness.numerics.metrics import compare

# Ops that lose values below float16's range, tried for harm when nothing else is found; one host run each.
MOST_LOSSY = 32


def localize(bench: Bench, case: Case, *, tap_budget: int = TAP_BUDGET) -> Localization:
    """Find the ops whose errors their own arithmetic does not explain.

    Raises:
        DeviceError: the reference or the untouched model does not complete. What goes wrong later is part of the
            answer.
    """
    return _Localizer(bench, case, tap_budget).answer()


class _Localizer:
    def __init__(self, bench: Bench, case: Case, tap_budget: int) -> None:
        self.bench, self.case, self.tap_budget = bench, case, tap_budget
        self.graph = case.graph
        self.store = bench.run.tensors
        self.started = time.monotonic()
        self.notes: list[str] = []
        self.compiles, self.runs = bench.device.compiles, bench.device.runs

    def answer(self) -> Localization:
        bench, case = self.bench, self.case
        first = compare_model(bench, case, keep=True)
        if not self._repeatable(first):
            self.notes.append("Two runs of the untouched model gave different outputs: the device is nondeterministic.")
            return self._finish("unresolved", False, first)
        if first.ok:
            return self._finish("pass", True, first)
        tapped = self._tap(choose(self.graph, self.tap_budget))
        read = frozenset(tapped.read)
        readings = plan(self.graph, read)
        local = LocalError(bench.host, case, self.store, first.beyond)
        records = self._judge(local, readings, read)
        unchanged = self._outputs_unchanged(first, tapped)
        bench.progress.stage("suspects read a second way", 3 + len(self.graph.ops) * 0.03)
        look = look_again(bench.device, local, records, readings, read)
        culprits, explained, records = self._convict(local, look, first, unchanged)
        records = [*records, *self._unread(readings)]
        accounted = bool(culprits) and accounts_for(explained, first.outputs)
        certified = accounted and unchanged and all(c.certified for c in culprits)
        if not certified:
            if not culprits:
                self.notes.append(
                    "The outputs are wrong, but no op that could be read is: the fault hides from the taps."
                )
            standing = self._without_taps(first, culprits, readings, accounted)
            records = _corrected(records, standing)
            if {c.record for c in standing} != {c.record for c in culprits}:
                explained = ()  # it was of other ops
            culprits = standing
        if not culprits:
            self.notes.append("The outputs are wrong, but no op that could be asked is.")
        for output in first.outputs:
            if culprits and not output.ok and explained and not accounts_for(explained, [output]):
                self.notes.append(f"Output '{output.name}' is wrong, and no culprit accounts for it.")
        status: Status = "culprits" if culprits else "unresolved"
        return self._finish(status, certified, first, culprits, explained, records)

    def _without_taps(
        self, first: Comparison, suspects: Sequence[Culprit], readings: Sequence[Reading], accounted: bool
    ) -> list[Culprit]:
        """Suspects that stand without taps, and what windows find beside them."""
        bench, ports = self.bench, {port.tensor for port in self.graph.inputs}
        direct = {r.tensor for r in readings if r.from_output is not None and ports.issuperset(r.feeds)}
        probe = WindowProbe(bench.device, bench.host, self.case, self.store, first.beyond)
        resolved = resolve(
            probe,
            suspects,
            lambda record: record.reading == "output" and record.tensor in direct,
            accounted,
            lambda what: bench.progress.stage(what, 2.0),
        )
        self.notes += resolved.notes
        return resolved.culprits

    def _repeatable(self, first: Comparison) -> bool:
        bench, run_ns = self.bench, first.done.samples[0].run_ns + first.done.samples[0].read_ns
        bench.progress.stage(f"the same again on {bench.device.name}", 0.5 + run_ns / 2e9)
        again = run_device(bench.device, self.case)
        bench.run.samples(again.samples, "second")
        return self._same(first, again.outputs) == ""

    def _same(self, first: Comparison, outputs: dict[str, Array]) -> str:
        """What differs from the untouched model's first run by more than rounding, in a clause; empty when nothing."""
        for name, values in outputs.items():
            before = first.done.outputs[name]
            seen = compare(values, before)
            if seen.identical:
                continue
            if values.dtype.kind != "f" or seen.odd:
                return f"'{name}'"
            exact = self.store.get(output_label(name), "reference")
            explained = [before + (ideal - exact) for ideal in first.ideal[name]]
            change = self.case.judge(values, explained, before)
            if not change.ok:
                times = f"{change.ratio:.0f}x" if math.isfinite(change.ratio) else "far more than"
                return f"'{name}' ({times} what rounding explains)"
        return ""

    def _tap(self, taps: Sequence[int]) -> Tapped:
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
        )
        self.bench.device.rest()
        if tapped.unread:
            self.notes.append(f"{len(tapped.unread)} tensor(s) could not be read on the device.")
        return tapped

    def _judge(self, local: LocalError, readings: Sequence[Reading], read: frozenset[int]) -> list[OpRecord]:
        self.bench.progress.stage("each op re-run on the device's own inputs", 1 + len(readings) / 60)
        records = []
        for record in local.judge(readings, read, self.bench.progress.fraction):
            records.append(record)
            self.bench.run.rows("ops.csv", OpRecord.HEADER, [record.row()])
        self.bench.host.rest()
        return records

    def _outputs_unchanged(self, first: Comparison, tapped: Tapped) -> bool:
        """Own outputs under the taps within what the ideal device's rounding explains of the untouched model's."""
        for own in tapped.own_outputs:
            changed = self._same(first, own)
            if changed:
                self.notes.append(f"Tapping changed output {changed}.")
                return False
        return True

    def _convict(
        self, local: LocalError, look: SecondLook, first: Comparison, unchanged: bool
    ) -> tuple[list[Culprit], tuple[Impact, ...], list[OpRecord]]:
        """From suspects to culprits: causes, and what each error does to the outputs by itself and all together."""
        suspects = self._suspects(look.records)
        if not suspects:
            return [], (), look.records
        self.bench.progress.stage("what each local error does by itself", 1 + len(suspects) * len(self.graph.ops) / 300)
        read = frozenset(r.tensor for r in look.records if r.reading == "copy")
        readings = {(r.tensor, r.from_output is None): r for r in plan(self.graph, read)}
        probe = ImpactProbe(local, first.ideal, read)
        culprits, guilty, cleared = [], [], []
        for suspect in suspects:
            reading = readings[suspect.tensor, suspect.reading == "copy"]
            impact = probe.of([reading])
            harmless = all(i.judgement.ok for i in impact)
            ranged = suspect.tensor in first.beyond or (suspect.local and suspect.local.actual.nonfinite)
            if harmless and (suspect.verdict != "culprit" or ranged):
                if suspect.verdict == "culprit":
                    cleared.append(suspect)
                continue
            guilty.append(reading)
            culprits.append(self._culprit(suspect, look.doubts.get(suspect, ""), impact, unchanged))
        if cleared:
            self.notes.append(f"{len(cleared)} op(s) leave float16's range without harm to any output.")
        named = {c.record.tensor for c in culprits}
        records = [replace(r, verdict="fine") if r in cleared else r for r in look.records]
        records = [replace(r, verdict="culprit") if r in suspects and r.tensor in named else r for r in records]
        explained = probe.of(guilty) if guilty else ()
        self.bench.host.rest()
        return culprits, explained, records

    @staticmethod
    def _suspects(records: Sequence[OpRecord]) -> list[OpRecord]:
        """Records over their limit, one for each tensor; without any, those that lost values below float16's range."""
        over = {r.tensor: r for r in reversed(records) if r.verdict == "culprit"}
        if over:
            return sorted(over.values(), key=lambda r: (r.index, r.tensor))
        lossy = [r for r in records if r.local is not None and r.local.actual.flushed]
        return sorted(lossy, key=lambda r: r.index)[:MOST_LOSSY]

    def _culprit(self, suspect: OpRecord, doubt: str, impact: tuple[Impact, ...], unchanged: bool) -> Culprit:
        shapes = [self.graph.tensors[t].shape or () for t in self.graph.ops[suspect.index].inputs if t >= 0]
        reduction = reduction_length(suspect.op, shapes, suspect.shape)
        cause, signature = cause_of(suspect, half=self.case.options.half, reduction=reduction)
        record = replace(suspect, verdict="culprit")
        return Culprit(record, cause, signature, unchanged and not doubt, note=doubt, impact=impact)

    def _unread(self, readings: Sequence[Reading]) -> list[OpRecord]:
        judged = {op for r in readings for op in r.ops} | self.graph.constant_ops
        records = []
        for op in self.graph.ops:
            if op.index not in judged and op.outputs:
                tensor = self.graph.tensors[op.outputs[0]]
                shape, dtype = tensor.shape or (), tensor.type.lower()
                name = op.custom or op.name
                records.append(OpRecord(op.index, name, op.index, tensor.name, tensor.index, shape, dtype, "unread"))
        return records

    def _finish(
        self,
        status: Status,
        certified: bool,
        first: Comparison,
        culprits: Sequence[Culprit] = (),
        explained: tuple[Impact, ...] = (),
        records: Sequence[OpRecord] = (),
    ) -> Localization:
        case, device = self.case, self.bench.device
        self.store.keep_only(self._worth_keeping(culprits))
        records = sorted(records, key=lambda r: (r.index, r.tensor))
        self.bench.run.replace_rows("ops.csv", OpRecord.HEADER, [r.row() for r in records])
        return Localization(
            model=ModelFacts(str(case.model.path or ""), case.model.sha256, len(self.graph.ops)),
            device={
                "name": device.name,
                "kind": device.kind,
                "runtime": first.done.runtime,
                "gpu": first.done.adapter,
            },
            status=status,
            certified=certified,
            outputs=first.outputs,
            culprits=tuple(culprits),
            records=tuple(records),
            residency=first.done.residency,
            device_compiles=device.compiles - self.compiles,
            device_runs=device.runs - self.runs,
            seconds=time.monotonic() - self.started,
            notes=tuple(self.notes),
            explained=explained,
        )

    def _worth_keeping(self, culprits: Sequence[Culprit]) -> list[str]:
        """Files of the own outputs, and of what the culprits read and made."""
        kept = [output_label(port.name) for port in self.graph.outputs]
        for culprit in culprits:
            tensors = (*self.graph.ops[culprit.record.index].inputs, culprit.record.tensor)
            kept += [label_of(self.graph, t) for t in tensors if t in self.graph.producer]
        return kept


def _corrected(records: Sequence[OpRecord], standing: Sequence[Culprit]) -> list[OpRecord]:
    """Records without the suspects that did not stand, and with what windows found."""
    convicted = {culprit.record for culprit in standing}
    kept = [replace(r, verdict="unread") if r.verdict == "culprit" and r not in convicted else r for r in records]
    return [*kept, *(record for record in convicted if record not in records)]
