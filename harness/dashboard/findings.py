"""What a reader should see first: wrong and fast, slower than it was, not measured as it should be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.dashboard.facts import RunFacts
from harness.dashboard.plots import milliseconds, percent
from harness.dashboard.series import Lane, Series, row_id
from harness.report.figures import count, name, times
from harness.report.verdict import Tone, Verdict

STATES = ("fail", "pass", "slower", "faster", "invalid", "failed", "interrupted", "unreadable", "running")
# A GPU this much slower than the CPU is not called faster, nor the other way round.
_ALIKE = 1.05


@dataclass(frozen=True)
class Notice:
    """One line: how bad, the word for it, where, what, and the page that shows it. `rank` 0 comes first."""

    rank: int
    tone: Tone
    mark: str
    where: str
    detail: str
    address: str


def run_states(run: RunFacts) -> tuple[str, ...]:
    """The words that a run can be found by."""
    words: list[str] = [run.judgement] if run.judgement != "nothing" else []
    words += ["invalid"] if run.invalid else []
    words += [run.state] if run.state in STATES else []
    return tuple(words)


def series_states(series: Series) -> tuple[str, ...]:
    """The words that a history can be found by: what its newest runs say, not what once was."""
    words: list[str] = []
    for lane in series.lanes:
        words += [lane.judgement] if lane.judgement != "nothing" else []
        words += [] if lane.last_step is None else ["slower" if lane.last_step.ratio > 1 else "faster"]
        words += ["invalid"] if lane.newest is not None and lane.newest.invalid else []
        words += [lane.runs[-1].state] if lane.runs[-1].state in STATES else []
    return tuple(word for word in STATES if word in words)


def findings(all_series: Sequence[Series], runs: Sequence[RunFacts]) -> list[Notice]:
    """Everything that somebody should look at, the worst first, newest first among equals."""
    found = [finding for series in all_series for lane in series.lanes for finding in _of_lane(series, lane)]
    broken = [run for run in runs if run.state == "unreadable"]
    if broken:
        noun = "run folder" if len(broken) == 1 else "run folders"
        where = f"{count(len(broken))} {noun}"
        found.append(Notice(4, "open", "Unreadable", where, broken[0].error, "runs.html#state=unreadable"))
    return sorted(found, key=lambda finding: finding.rank)


def _of_lane(series: Series, lane: Lane) -> list[Notice]:
    found = []
    where = f"{series.model} on {series.device}, {lane.key.label}"
    page = f"history/{series.slug}.html"

    def add(rank: int, tone: Tone, mark: str, detail: str, run: RunFacts) -> None:
        found.append(Notice(rank, tone, mark, where, detail, f"{page}#{row_id(run.run)}"))

    if lane.judgement == "fail":
        judged = lane.judged
        assert judged is not None
        timed = f"{milliseconds(lane.latest.p50_ms)}; " if lane.latest else ""
        fast = _fast(series, lane)
        add(0 if fast else 1, "bad", "Fast and wrong" if fast else "Fail", f"{timed}{wrong(judged)}", judged)
    step, since = lane.last_step, lane.step_run
    if step is not None and since is not None and step.ratio > 1:
        change = f"{percent(step.ratio)}: {milliseconds(step.before)} before, {milliseconds(step.after)} since"
        add(2, "open", "Slower", f"{change} {since.started[:10]}", since)
    newest = lane.newest
    if newest is not None and newest.invalid:
        add(3, "open", "Invalid", f"the newest benchmark does not count: {newest.invalid[0]}", newest)
    last = lane.runs[-1]
    if last.state == "failed":
        add(3, "open", "Failed", last.error, last)
    return found


def wrong(run: RunFacts) -> str:
    """What is wrong with a run's outputs."""
    if run.nonfinite:
        return f"{count(run.nonfinite)} elements of {name(run.output, 60) or 'an output'} are NaN or infinite"
    if run.ratio is not None:
        off = f"{name(run.output, 60) or 'an output'} is off by {times(run.ratio)} what the arithmetic explains"
    else:
        off = "outputs are wrong"
    return f"{off}; {', '.join(run.culprits[:3])}" if run.culprits else off


def _fast(series: Series, lane: Lane) -> bool:
    """Whether a lane beats the device's CPU."""
    ratio = against_cpu(series, lane)
    return ratio is not None and ratio > _ALIKE


def against_cpu(series: Series, lane: Lane | None) -> float | None:
    """How many times faster than the device's fastest CPU lane; None without both, or of a CPU lane."""
    cpu = series.best("cpu")
    if lane is None or lane.key.accelerator == "cpu" or cpu is None or cpu.latest is None or lane.latest is None:
        return None
    mine, its = lane.latest, cpu.latest
    if mine.sha256 != its.sha256 or not mine.p50_ms or not its.p50_ms:
        return None
    return its.p50_ms / mine.p50_ms


def speed(ratio: float) -> str:
    """`3.2× faster`, `1.4× slower`, `as fast`."""
    if 1 / _ALIKE <= ratio <= _ALIKE:
        return "as fast"
    return f"{times(ratio)} faster" if ratio > 1 else f"{times(1 / ratio)} slower"


def series_verdict(series: Series) -> Verdict:
    """The sentence over a history."""
    accelerated = next((s for s in map(series.best, ("gpu", "npu")) if s is not None), None)
    lane = accelerated or series.best("cpu") or series.lanes[0]
    support = _support(series)
    if lane.latest is None:
        timed = f"{lane.key.label} has no benchmark that counts"
    else:
        timed = f"{lane.key.label} takes {milliseconds(lane.latest.p50_ms)}"
        ratio, cpu = against_cpu(series, lane), series.best("cpu")
        if ratio is not None and cpu is not None and cpu.latest is not None:
            timed += f" against {milliseconds(cpu.latest.p50_ms)} on {cpu.key.label} ({speed(ratio)})"
    if lane.judgement == "fail" and lane.judged is not None:
        mark = "Fast and wrong" if _fast(series, lane) else "Fail"
        return Verdict("bad", mark, f"{timed}, and its outputs are wrong: {wrong(lane.judged)}.", support)
    others = [each for each in series.lanes if each.judgement == "fail" and each is not lane]
    if others:
        mark = f"{others[0].key.label} is wrong"
        return Verdict("bad", mark, f"{timed}. Of its other lanes, {others[0].key.label} gives wrong outputs.", support)
    said = "its outputs are right" if lane.judgement == "pass" else "its outputs were not judged"
    tone: Tone = "good" if lane.judgement == "pass" and lane.latest is not None else "plain"
    return Verdict(tone, "Pass" if lane.judgement == "pass" else "Not judged", f"{timed}; {said}.", support)


def _support(series: Series) -> tuple[str, ...]:
    """Steps, and what was left out."""
    said = []
    for lane in series.lanes:
        step, since = lane.last_step, lane.step_run
        if step is not None and since is not None:
            before = milliseconds(step.before)
            said.append(f"{lane.key.label}: {percent(step.ratio)} since {since.started[:10]} ({before} before).")
    left_out = [run for lane in series.lanes for run in lane.runs if run.benchmark and not run.valid]
    benches = sum(run.benchmark for run in series.runs)
    if left_out:
        tally: dict[str, int] = {}
        for run in left_out:
            word = run.invalid[0].partition(":")[0] if run.invalid else run.state
            tally[word] = tally.get(word, 0) + 1
        reasons = ", ".join(f"{number} {name(word, 40)}" for word, number in sorted(tally.items(), key=lambda t: -t[1]))
        verb = "does" if len(left_out) == 1 else "do"
        said.append(f"{count(len(left_out))} of {count(benches)} benchmarks {verb} not count: {reasons}.")
    return tuple(said)


def site_verdict(found: Sequence[Notice], all_series: Sequence[Series]) -> Verdict:
    """The sentence over everything."""
    marks = [finding.mark for finding in found]
    if not all_series:
        return Verdict("plain", "Nothing yet", "No run of a model is here yet.")
    parts = []
    for words, said in (
        (("Fast and wrong",), "{} faster than the CPU and wrong"),
        (("Fail",), "{} failing"),
        (("Slower",), "{} slower than before"),
        (("Invalid",), "{} with a newest benchmark that does not count"),
        (("Failed",), "{} with a newest run that failed"),
    ):
        number = sum(mark in words for mark in marks)
        if number:
            parts.append(said.format(f"{count(number)} {'is' if number == 1 else 'are'}").replace(
                f"{'is' if number == 1 else 'are'} with", f"{'has' if number == 1 else 'have'}"))  # fmt: skip
    lanes = sum(len(series.lanes) for series in all_series)
    of = f"Of {count(lanes)} ways to run {count(len({s.model for s in all_series}))} models"
    if len({s.model for s in all_series}) == 1:
        of = f"Of {count(lanes)} ways to run one model"
    if any(finding.tone == "bad" for finding in found):
        return Verdict("bad", f"{sum(f.tone == 'bad' for f in found)} failing", f"{of}, {_list(parts)}.")
    if parts:
        return Verdict("open", f"{len(found)} to look at", f"{of}, {_list(parts)}.")
    timed = sum(lane.latest is not None for series in all_series for lane in series.lanes)
    return Verdict("good", "All well", f"{of}, none is wrong, slower than before, or without figures that count "
                   f"({count(timed)} benchmarked).")  # fmt: skip


def _list(parts: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))
