"""How long runs took: the first one apart, for it includes what later ones do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from harness.report.tables import SampleRow


@dataclass(frozen=True)
class Timing:
    """Runs of one kind, in nanoseconds: medians, and the extremes of `run + read`."""

    what: str
    count: int
    write: float
    run: float
    read: float
    total: float
    least: float
    most: float


def timings(samples: Sequence[SampleRow]) -> tuple[Timing, ...]:
    """One line for the first run, one for all that followed on the same compiled model."""
    groups = [("First run", samples[:1]), ("Second run" if len(samples) == 2 else "Later runs", samples[1:])]
    return tuple(_timing(what, rows) for what, rows in groups if rows)


def _timing(what: str, rows: Sequence[SampleRow]) -> Timing:
    totals = [row.run + row.read for row in rows]
    return Timing(
        what=what,
        count=len(rows),
        write=median(row.write for row in rows),
        run=median(row.run for row in rows),
        read=median(row.read for row in rows),
        total=median(totals),
        least=min(totals),
        most=max(totals),
    )
