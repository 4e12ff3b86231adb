"""What a person sees of a sustained benchmark: the word, the staircase, and what the device said of its heat."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from harness.core.markup import escape
from harness.core.visible import counted
from harness.latency.sustained.judge import clock
from harness.latency.sustained.record import Change, Level, SustainedResult, Warmth
from harness.latency.table import milliseconds

_COLOURS = {"steady": "green", "slower": "red", "unsteady": "red", "undecided": "yellow"}
MOST_BAR = 24
"""Characters of the longest bar."""


def staircase(result: SustainedResult) -> Table:
    """One line for each level and each gap, in the order of time."""
    table = Table("from", "to", box=None, header_style="dim", pad_edge=False)
    table.add_column("p50 ms", justify="right", no_wrap=True)
    table.add_column("p90 ms", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("")
    most = max((level.p50_ms for level in result.levels), default=1.0)
    rows: list[tuple[float, tuple[str, ...]]] = []
    for level in result.levels:
        size = max(1, round(MOST_BAR * level.p50_ms / most))
        change = next((c for c in result.changes if c.at_s == level.from_s), None)
        ends = clock(level.from_s), clock(level.until_s)
        times = milliseconds(level.p50_ms), milliseconds(level.p90_ms)
        rows.append((level.from_s, (*ends, *times, "█" * size, _step(change, level))))
    for gap in result.gaps:
        until = "—" if gap.seconds is None else clock(gap.at_s + gap.seconds)
        why = gap.why if gap.seconds is not None else f"{gap.why}; it did not come back"
        rows.append((gap.at_s, (clock(gap.at_s), until, "", "", "", f"[yellow]{escape(why)}[/]")))
    for _, cells in sorted(rows, key=lambda row: row[0]):
        table.add_row(*cells)
    return table


def sustained_lines(result: SustainedResult) -> Iterator[str]:
    """The word with its figures first, with rich's markup."""
    yield f"[{_COLOURS[result.status]}]{result.status}[/]: {escape(result.why)}"
    slow = result.slowdown
    if slow is not None and slow.quickest_ratio - 1 < (slow.ratio.value - 1) / 2:
        yield (
            f"The quickest tenth of the samples changed by {slow.quickest_ratio - 1:+.0%} only: other work, or clocks "
            "that come and go, rather than clocks that stay down."
        )
    yield from _warm(result.warmth)
    for gap in result.gaps:
        after = "it did not come back" if gap.seconds is None else f"for {clock(gap.seconds)}"
        yield f"Gone at {clock(gap.at_s)} ({gap.why}), {after}: {escape(gap.detail)}."
    if any(gap.seconds is not None for gap in result.gaps):
        yield "A device that was gone has cooled down: what it does after a gap is no recovery from what it did before."
    for flaw in result.invalid:
        yield f"[red]{flaw.reason}[/]: {escape(flaw.detail)}"
    words = [
        f"{counted(result.samples, 'sample')} in {counted(len(result.windows), 'window')} of "
        f"{counted(len(result.processes), 'process', 'processes')}",
        f"{result.measured_minutes:.3g} of {result.minutes:g} minutes",
    ]
    if result.fixed_performance is not None:
        words.append(f"fixed-performance mode {'on' if result.fixed_performance else 'not on throughout'}")
    right = {True: "outputs right", False: "outputs WRONG", None: "outputs not judged"}[result.right]
    yield f"[dim]{escape('; '.join([*words, right]))}[/]"


def _step(change: Change | None, level: Level) -> str:
    if change is None:
        return ""
    where = ", with a new process" if change.restart else ""
    return f"{change.ratio - 1:+.0%}{where}"


def _warm(warmth: Warmth) -> Iterator[str]:
    if not warmth.states and warmth.first_celsius is None:
        return
    said = [f"thermal status {' → '.join(warmth.states)}"] if warmth.states else []
    if warmth.first_celsius is not None and warmth.highest_celsius is not None and warmth.last_celsius is not None:
        ends = f"{warmth.first_celsius:.1f} °C at the beginning, {warmth.last_celsius:.1f} °C at the end"
        said.append(f"battery {ends}, {warmth.highest_celsius:.1f} °C at most")
    yield f"The device says: {escape('; '.join(said))}."
    if warmth.silent:
        yield "It changed its speed without a word: its thermal status says nothing of that."
