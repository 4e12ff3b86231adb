"""What a benchmark came to, in a sentence, and what the reasons against it mean."""

from __future__ import annotations

from harness.report.benchmark.plots import milliseconds
from harness.report.benchmark.record import Bench, Estimate
from harness.report.figures import count, figure, name, times
from harness.report.record import Figures
from harness.report.verdict import Tone, Verdict

MEANS = {
    "enqueue-only": "The samples are of handing work over, not of doing it: the clock stops before the work is done.",
    "fallback": "A part of the model, or all of it, ran on the CPU and not on the accelerator.",
    "other-backend": "Another back end than the one that was asked for computed.",
    "throttled": "Heat slowed the device down.",
    "rebooted": "The device restarted in between, so the processes do not belong together.",
    "runtime-changed": "The runtime changed in between, so the processes do not belong together.",
    "busy": "Other work took the cores: the times are of both.",
    "stalled": "One iteration took many times the usual.",
    "bimodal": "The device runs at two speeds, and the median is that of neither.",
    "trending": "The device became steadily slower or quicker, so the figures depend on when one looks.",
    "replications": "Processes of the same program disagree by more than their samples scatter.",
}
"""What each reason not to count a benchmark says of its times."""


def verdict_of(bench: Bench) -> Verdict:
    """What the benchmark found, or how far it came."""
    where = f"on {name(bench.place, 160)}"
    if bench.state == "failed":
        why = name(bench.error, 600) or "No reason was recorded."
        return Verdict("bad", "Failed", f"The benchmark {where} failed. {why}")
    if bench.state != "done" and bench.valid is None:
        stopped = bench.state == "interrupted"
        how = "was interrupted" if stopped else "is still going on"
        return Verdict("open", "Interrupted" if stopped else "Running", f"The benchmark {where} {how}.")
    mark, tone = _mark(bench)
    return Verdict(tone, mark, _sentence(bench, where), tuple(_support(bench)))


def _mark(bench: Bench) -> tuple[str, Tone]:
    if bench.accurate is False:
        return "Wrong outputs", "bad"
    if not bench.valid:
        return "Does not count", "open"
    if bench.sustained is not None:
        word = bench.sustained.word
        return word.capitalize() or "Done", "good" if word == "steady" else "open" if word == "undecided" else "bad"
    return "Counts", "good"


def _sentence(bench: Bench, where: str) -> str:
    if bench.sustained is not None:
        sustained = bench.sustained
        measured = "" if sustained.measured is None else f" for {figure(sustained.measured)}"
        asked = "" if sustained.minutes is None else f" of {figure(sustained.minutes)}"
        how = f"Under load {where}{measured}{asked} minutes" if measured else f"Under load {where}"
        return f"{how}: {name(sustained.why, 400) or sustained.word}"
    total = bench.total
    if total is None or total.p50 is None:
        return f"No steady samples were kept {where}."
    said = f"One inference {where} takes {milliseconds(total.p50.value)} in the median{_between(total.p50)}"
    said += f", and {milliseconds(total.p90.value)} or less in nine of ten" if total.p90 else ""
    return f"{said}."


def _between(estimate: Estimate) -> str:
    return f" ({milliseconds(estimate.low)} to {milliseconds(estimate.high)} with 95 % confidence)"


def _support(bench: Bench) -> list[str]:
    told = []
    if not bench.valid:
        reasons = ", ".join(dict.fromkeys(name(flaw.reason, 40) for flaw in bench.flaws)) or "no reason was recorded"
        told.append(f"Invalid ({reasons}): it is compared with nothing, and is in no line of the dashboard.")
    if bench.accurate is False:
        wrong = [output for output in bench.outputs if output.ok is False]
        worst = max(wrong, key=_off, default=None)
        off = f", {times(_off(worst))} the error of an ideal device" if worst and _off(worst) else ""
        which = f" ({name(worst.name, 60)}{off})" if worst else ""
        told.append(f"Its outputs are wrong{which}: how fast it is says nothing.")
    elif bench.accurate is None:
        told.append("Whether its outputs are right was not measured.")
    if bench.samples is not None:
        processes = f" in {count(len(bench.processes))} processes" if bench.processes else ""
        told.append(f"{count(bench.samples)} steady samples{processes}, each write, run and readback together.")
    return told


def _off(output: Figures) -> float:
    """The error over that of an ideal device; 0 where it is not known."""
    return (output.max_abs or 0.0) / output.expected_max_abs if output.expected_max_abs else 0.0
