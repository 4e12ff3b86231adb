"""Where taps leave a doubt, culprits are asked in isolation; where they do not account for the failure, windows are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from harness.localize.base.op_record import OpRecord
from harness.localize.find.accuse import Evidence
from harness.localize.find.fallback_search import resolve
from harness.localize.find.findings import Findings, accounts_for, explains
from harness.localize.find.windows import WindowProbe
from harness.localize.probe.isolation import reproduces_in_isolation
from harness.numerics.tolerance import Judgement


@dataclass(frozen=True)
class Confirmed:
    """The findings as far as isolation confirms them, and what it said of each."""

    findings: Findings
    alone: Mapping[OpRecord, Judgement]


def confirm(evidence: Evidence, findings: Findings) -> Confirmed:
    """What each culprit does in isolation, where there is a doubt: of neighbours, one may only look wrong because the
    tensor between them reads wrongly, and what does not explain the outputs may not be there at all."""
    culprits, outputs = findings.culprits, evidence.first.outputs
    if not culprits:
        return Confirmed(findings, {})
    readings = evidence.readings_of(culprits)
    neighbours = any(a.tensor in b.feeds for a in readings.values() for b in readings.values())
    needless = evidence.impact.has_redundant_culprit(list(readings.values()), findings.explained)
    sure = all(c.certified for c in culprits) and findings.account_for(outputs)
    if sure and explains(findings.explained, outputs) and not neighbours and not needless:
        return Confirmed(findings, {})
    alone = evidence.isolation.ask({record: r for record, r in readings.items() if len(r.ops) == 1})
    fails = [
        replace(c, isolated=True)
        for c in culprits
        if (answer := alone.get(c.record)) is not None and reproduces_in_isolation(c.record, answer)
    ]
    if not fails or not sure:
        return Confirmed(findings, alone)
    if len(fails) == len(culprits):
        return Confirmed(findings.having(fails), alone)
    # What only looked wrong is not believed where another rests on it either.
    lies = frozenset({c.record.tensor for c in culprits} - {c.record.tensor for c in fails})
    impact = evidence.impact.impact_on_outputs(list(evidence.readings_of(fails, without=lies).values()), outputs)
    if not (accounts_for(impact, outputs) and explains(impact, outputs)):
        return Confirmed(findings, alone)
    kept = {c.record for c in fails}
    notes = [
        f"{c.record.title} {c.record.number} looked wrong under both taps, but is right alone."
        for c in culprits
        if c.record not in kept
    ]
    return Confirmed(Findings(tuple(fails), impact, findings.notes).noting(notes), alone)


def search_beside(evidence: Evidence, confirmed: Confirmed) -> Findings:
    """Culprits that stand without taps, and what windows find beside them."""
    findings, alone = confirmed.findings, confirmed.alone
    case, bench = evidence.local.case, evidence.bench
    ports = {port.tensor for port in case.graph.inputs}
    readings = evidence.readings_of(findings.culprits)
    if not alone:
        alone = evidence.isolation.ask({record: r for record, r in readings.items() if len(r.ops) == 1})
    direct = {r.tensor for r in readings.values() if r.from_output is not None and ports.issuperset(r.feeds)}
    resolved = resolve(
        WindowProbe(bench.device, bench.host, case, evidence.local.store, evidence.first.beyond),
        findings.culprits,
        alone,
        lambda record: record.reading == "output" and record.tensor in direct,
        findings.account_for(evidence.first.outputs),
        lambda what: bench.progress.stage(what, 2.0),
    )
    return findings.having(resolved.culprits).noting(resolved.notes)
