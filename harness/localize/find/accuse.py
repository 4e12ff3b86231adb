"""From suspects to culprits: which of them do harm, of which kind each is, and what all of them do to the outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from harness.core.arrays import TensorIndex
from harness.core.visible import counted
from harness.localize.base.causes import SMALLEST_LIMIT, cause_of, largest_given, terms_of
from harness.localize.base.comparison import ModelComparison, Workbench
from harness.localize.base.op_record import OpRecord
from harness.localize.base.result import Culprit, Impact
from harness.localize.find.findings import Findings
from harness.localize.find.impact import ImpactProbe
from harness.localize.find.recheck import Recheck
from harness.localize.probe.excess import limit_exceeded
from harness.localize.probe.isolation import Isolation, contaminated
from harness.localize.probe.local_error import LocalError, Reading, by_key, plan
from harness.numerics.tolerance import FACTOR

# Ops that lose tiny values or come near their limit, tried for harm when nothing else is found; one host run each.
MOST_TRIED = 32


def suspects(records: Sequence[OpRecord]) -> list[OpRecord]:
    """Records over their limit, one for each tensor, by what ops read of it if they do; without any, those that lost
    values below float16's range, and those that would be over the limit of an output."""
    records = sorted(records, key=lambda r: r.reading == "copy")
    over = {r.tensor: r for r in records if r.verdict == "culprit"}
    most = len(over)
    if not over:
        near = [r for r in records if r.local is not None and (r.local.actual.flushed or r.local.ratio > FACTOR)]
        over, most = {r.tensor: r for r in near}, MOST_TRIED
    return sorted(over.values(), key=lambda r: (r.index, r.tensor))[:most]


@dataclass(frozen=True)
class Evidence:
    """What is known of a wrong run, and whom more can be asked of."""

    bench: Workbench
    first: ModelComparison
    local: LocalError
    isolation: Isolation
    look: Recheck
    unchanged: bool

    @property
    def impact(self) -> ImpactProbe:
        """Injects local errors of this run."""
        return ImpactProbe(self.local, self.first.ideal)

    @cached_property
    def readings(self) -> dict[tuple[TensorIndex, bool], Reading]:
        """All that was read, by `OpRecord.key`."""
        return by_key(plan(self.local.case.graph, self.look.read))

    def readings_of(
        self, culprits: Sequence[Culprit], without: frozenset[TensorIndex] = frozenset()
    ) -> dict[OpRecord, Reading]:
        """What each was judged by; `without` are tensors that no longer count as read."""
        known = by_key(plan(self.local.case.graph, self.look.read - without)) if without else self.readings
        return {c.record: known[c.record.key] for c in culprits}

    def impact_on_outputs(self, standing: Sequence[Culprit]) -> tuple[Impact, ...]:
        """What the local errors of culprits do together; nothing where a window was found, whose local error nobody
        read."""
        if not standing or any(c.record.reading == "window" for c in standing):
            return ()
        felt = self.impact.impact_on_outputs(list(self.readings_of(standing).values()), self.first.outputs)
        self.bench.host.stop()
        return felt


def accuse(evidence: Evidence) -> tuple[Findings, list[OpRecord]]:
    """Suspects that do harm, with their causes; and the records, those of harmless suspects put right."""
    look, first, graph = evidence.look, evidence.first, evidence.local.case.graph
    chosen = suspects(look.records)
    if not chosen:
        return Findings(), look.records
    evidence.bench.progress.stage("what each local error does by itself", 1 + len(chosen) * len(graph.ops) / 300)
    probe = evidence.impact
    culprits, guilty, cleared = [], [], []
    for suspect in chosen:
        reading = evidence.readings[suspect.key]
        over = suspect.verdict == "culprit"
        ranged = suspect.tensor in first.beyond or (suspect.local and suspect.local.actual.nonfinite)
        impact = probe.of_one(reading, spreads=bool(over and ranged))
        if all(i.judgement.ok for i in impact) and (ranged or not over):
            if over:
                cleared.append(suspect)
            continue
        guilty.append(reading)
        doubt = look.doubts.get(suspect, "")
        found = culprit_of(evidence, suspect, doubt, impact, certified=evidence.unchanged and not doubt)
        in_isolation = evidence.isolation.answers.get(reading)
        culprits.append(replace(found, isolated=in_isolation is not None and not in_isolation.ok))
    leave = counted(len(cleared), "op leaves", "ops leave")
    notes = (f"{leave} float16's range without harm to any output.",) if cleared else ()
    named = {c.record.tensor for c in culprits}
    records = [replace(r, verdict="fine") if r in cleared else r for r in look.records]
    records = [replace(r, verdict="culprit") if r in chosen and r.tensor in named else r for r in records]
    known = culprits[0].impact if len(culprits) == 1 else ()
    explained = probe.impact_on_outputs(guilty, first.outputs, known) if culprits else ()
    evidence.bench.host.stop()
    return Findings(tuple(culprits), explained, notes), records


def behind_nan(evidence: Evidence, culprits: Sequence[Culprit]) -> list[Culprit]:
    """Ops that got NaN or infinity from a culprit, or what became of it, so that their own faults do not show: asked in
    isolation."""
    local, look = evidence.local, evidence.look
    known = {c.record.tensor for c in culprits}
    readings = [r for r in evidence.readings.values() if r.tensor not in known and len(r.ops) == 1]
    readings = contaminated(local.case, local.store, readings, local.beyond)
    if not readings:
        return []
    records = {r.key: r for r in look.records}
    found = evidence.isolation.ask({records[key]: r for key, r in by_key(readings).items()})
    hidden = []
    for record, judgement in found.items():
        if not judgement.ok:
            suspect = replace(record, local=judgement, verdict="culprit", reading="window")
            note = "Another culprit's NaN or infinity, or what became of it, came in; this op fails by itself."
            hidden.append(replace(culprit_of(evidence, suspect, note, (), certified=False), isolated=True))
    return hidden


def culprit_of(
    evidence: Evidence, suspect: OpRecord, note: str, impact: tuple[Impact, ...], *, certified: bool
) -> Culprit:
    """The culprit with what its figures alone say of the cause."""
    case = evidence.local.case
    shapes = [case.graph.tensors[t].shape or () for t in case.graph.ops[suspect.index].inputs if t >= 0]
    exceeded = limit_exceeded(evidence.first.done.log) is not None
    beyond = exceeded and max((d for shape in (*shapes, suspect.shape) for d in shape), default=0) > SMALLEST_LIMIT
    cause, signature = cause_of(
        suspect,
        half=case.options.half,
        reduction=terms_of(case.graph, suspect),
        beyond=beyond,
        fed=largest_given(case.graph, case.inputs, suspect) if case.options.half else 0.0,
    )
    return Culprit(replace(suspect, verdict="culprit"), cause, signature, certified, note=note, impact=impact)
