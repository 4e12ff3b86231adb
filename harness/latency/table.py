"""What a person sees of a benchmark: one line for each cell, and under it what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from harness.core.markup import escape
from harness.core.visible import best_at_one
from harness.latency.profile_record import Profile, ProfileRow, Spread, Unprofiled
from harness.latency.record import Against, BenchResult, Interval

MOST_ROWS = 15
"""The longest rows of a profile; the others are in run.json."""
_COLOURS = {"faster": "green", "same": "green", "slower": "red", "cannot tell": "yellow", "incomparable": "yellow"}


def bench_table(results: Sequence[BenchResult]) -> Table:
    """Latency of write, run and readback together, in milliseconds, and whether it counts."""
    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("cell", overflow="fold")
    table.add_column("p50 ms [95 %]", justify="right", no_wrap=True)
    for title in ("p90", "p99"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("outputs", no_wrap=True)
    table.add_column("", no_wrap=True)
    for result in results:
        total = result.latency["total"]
        right = {True: "[green]right[/]", False: "[red]wrong[/]", None: "[dim]not judged[/]"}[result.right]
        mark = "[green]valid[/]" if result.valid else "[red]invalid[/]"
        name = escape(_name(result))
        table.add_row(
            name, interval(total.p50), milliseconds(total.p90.value), milliseconds(total.p99.value), right, mark
        )
    return table


def detail_line(result: BenchResult) -> str:
    """What the table has no room for, with rich's markup."""
    first = result.replications[0]
    total, parts = result.latency["total"], [result.latency[part].p50.value for part in ("write", "run", "readback")]
    words = [
        f"{total.count} samples in {result.rounds} rounds of {len(result.replications)} process(es)",
        "p50 of write, run, readback " + ", ".join(map(milliseconds, parts)),
        f"compile {milliseconds(first.compile_ms)}, first {milliseconds(first.first_ms)} ms",
        f"{max(r.warmup for r in result.replications)} of warm-up",
    ]
    words += [f"peak {result.peak_bytes / 1e6:.0f} MB"] if result.peak_bytes is not None else []
    return f"[dim]{escape(_name(result))}: {'; '.join(words)}[/]"


def per_op_table(result: BenchResult) -> Table:
    """The time of each stretch of ops; what cannot be told from nothing says so."""
    table = Table("ops", box=None, header_style="dim", pad_edge=False)
    table.add_column("ms [95 %]", justify="right", no_wrap=True)
    table.add_column("share", justify="right", no_wrap=True)
    table.add_column("what")
    for stretch in result.per_op:
        counts: dict[str, int] = {}
        for op in stretch.ops:
            counts[op] = counts.get(op, 0) + 1
        what = ", ".join(f"{n} {op}" if n > 1 else op for op, n in counts.items())
        share = f"{stretch.share:.0%}" if stretch.is_significant else "[dim]not told from 0[/]"
        table.add_row(f"{stretch.first}–{stretch.last}", interval(stretch.ms), share, escape(what))
    return table


def plain_line(result: BenchResult) -> str:
    """One measurement in one line without markup: latency, accuracy, whether it counts."""
    total = result.latency["total"]
    right = {True: "outputs right", False: "outputs WRONG", None: "outputs not judged"}[result.right]
    worst = min((output.cosine for output in result.accuracy or ()), default=None)
    cosine = "" if worst is None else f" (cosine {best_at_one(worst)})"
    counts = "valid" if result.valid else f"INVALID: {', '.join(dict.fromkeys(f.reason for f in result.invalid))}"
    p50, p90, p99 = (milliseconds(found.value) for found in (total.p50, total.p90, total.p99))
    return f"{result.cell.label}: p50 {p50}, p90 {p90}, p99 {p99} ms; {right}{cosine}; {counts}"


def flaw_lines(result: BenchResult) -> list[str]:
    """Why a run does not count, with rich's markup."""
    return [f"[red]{flaw.reason}[/] ({escape(_name(result))}): {escape(flaw.detail)}" for flaw in result.invalid]


def against_line(result: BenchResult, found: Against) -> str:
    """The verdict of one comparison, with rich's markup."""
    verdict = f"[{_COLOURS[found.verdict]}]{found.verdict}[/]"
    return f"{escape(_name(result))} against {escape(found.run)}: {verdict}. {escape(found.why)}"


def interval(found: Interval) -> str:
    """`3.21 [3.18, 3.30]`, without rich's markup in it."""
    return escape(f"{milliseconds(found.value)} [{milliseconds(found.low)}, {milliseconds(found.high)}]")


def milliseconds(value: float) -> str:
    """Three digits, no exponent."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _name(result: BenchResult) -> str:
    return f"{Path(result.cell.model).stem} {result.cell.device} {result.cell.label}"


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
