"""What a person sees of the runtime's profiler: what took longest, under the names that the runtime has for it."""

from __future__ import annotations

from rich.table import Table

from harness.latency.profile_record import Profile, ProfileRow, Spread, Unprofiled
from harness.markup import escape

MOST_ROWS = 15
"""The longest; the others are in run.json."""


def profile_table(profile: Profile) -> Table:
    """The rows that took longest, in microseconds; a share is of the whole run with the profiler on."""
    table = Table("profiled", box=None, header_style="dim", pad_edge=False)
    table.add_column(escape("µs p50 [p10, p90]"), justify="right", no_wrap=True)
    table.add_column("share", justify="right", no_wrap=True)
    table.add_column("what")
    rows = sorted(profile.rows, key=lambda row: -row.us.p50)
    for row in rows[:MOST_ROWS]:
        share = f"{row.us.p50 / profile.profiled.p50:.0%}" if profile.profiled.p50 else ""
        times = f" × {row.calls}" if row.calls > 1 else ""
        table.add_row(_place(row), escape(_spread(row.us)), share, escape(row.name + times))
    if len(rows) > MOST_ROWS:
        table.add_row(f"[dim]{len(rows) - MOST_ROWS} more[/]", "", "", "[dim]in run.json[/]")
    return table


def profile_line(profile: Profile | Unprofiled) -> str:
    """Where the figures are from and what the profiler costs, or why there are none; with rich's markup."""
    if isinstance(profile, Unprofiled):
        return f"[dim]{escape(profile.reason)}[/]"
    cost = profile.cost
    paid = f"{cost.value - 1:+.0%} [{cost.low - 1:+.0%}, {cost.high - 1:+.0%}]"
    words = [
        f"the runtime's profiler, {profile.samples} inferences of {profile.engine}",
        *_delegated(profile),
        f"run {_spread(profile.profiled)} µs with it, {_spread(profile.bare)} without, in turns in one process: {paid}",
        f"outside of all rows {_spread(profile.outside)} µs",
    ]
    return f"[dim]{escape('; '.join(words))}[/]"


def _delegated(profile: Profile) -> list[str]:
    if not profile.nodes:
        return []
    operators = sum(row.kind == "delegate" for row in profile.rows)
    nodes = f"{profile.nodes} delegate nodes" if profile.nodes > 1 else "one delegate node"
    taken = f"{nodes} of {profile.delegated} of the {profile.ops} ops"
    if not operators:
        return [taken]
    own = "its" if profile.nodes == 1 else "their"
    return [f"{taken}, timed as {operators} operator{'s' * (operators > 1)} of {own} own, not mapped to ops"]


def _place(row: ProfileRow) -> str:
    """`op 4`, `node 1`, `node 0, its 3`."""
    if row.kind == "op":
        return f"op {row.index}"
    return f"node {row.node}" if row.kind == "node" else f"node {row.node}, its {row.index}"


def _spread(spread: Spread) -> str:
    return f"{_microseconds(spread.p50)} [{_microseconds(spread.p10)}, {_microseconds(spread.p90)}]"


def _microseconds(value: float) -> str:
    """Whole ones, which is all that the profiler has."""
    return f"{value:.0f}" if value >= 1 else "<1"
