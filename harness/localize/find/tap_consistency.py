"""Taps that lie alike: a value that both kinds of tap show wrong, while what its readers made of it is right.

A wrong value is wrong for whoever reads it. So when an op and an op that reads its result are suspects together, the
two are judged as one, on what feeds the first: if every reader then is right, the value in between was right too, and
only looked wrong. This takes no device.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.core.arrays import TensorIndex
from harness.localize.base.op_record import OpRecord
from harness.localize.probe.local_error import LocalError, Reading, plan

# Beyond this many suspects the device is wrong all over, and no tap need be the reason.
MOST_SUSPECTS = 64


def contradicted_taps(
    local: LocalError, records: Sequence[OpRecord], read: frozenset[TensorIndex]
) -> frozenset[TensorIndex]:
    """Tensors whose readings their readers disprove: each by itself, else neighbouring suspects together."""
    graph = local.case.graph
    suspects = {r.tensor for r in records if r.verdict == "culprit" and r.reading == "copy"}
    wrong = {r.tensor for r in records if r.verdict == "culprit"}
    if len(wrong) > MOST_SUSPECTS:
        return frozenset()
    readings = plan(graph, read)
    shared = {t for t in suspects if any(t in r.feeds and r.tensor in wrong for r in readings)}
    found = {t for t in shared if _readers_are_right(local, frozenset({t}), readings, read)}
    if not found and len(shared) > 1 and _readers_are_right(local, frozenset(shared), readings, read):
        found = shared
    return frozenset(found)


def _readers_are_right(
    local: LocalError, doubted: frozenset[TensorIndex], readings: Sequence[Reading], read: frozenset[TensorIndex]
) -> bool:
    """Whether whatever reads the doubted tensors is right, computed from what feeds their ops."""
    concerned = {(r.tensor, r.from_output) for r in readings if doubted.intersection(r.feeds)}
    joined = [
        r
        for r in plan(local.case.graph, read - doubted)
        if (r.tensor, r.from_output) in concerned and r.tensor not in doubted
    ]
    return all(record.verdict != "culprit" for record in local.judge(joined))
