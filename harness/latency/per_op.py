"""Where the time goes, where the runtime does not tell: prefixes of the graph, cut where little is alive, in turns.

The difference of two successive prefixes is the time of the ops between them, with the interval of the paired rounds.
It is an estimate: a prefix ends with reading its own outputs (on the CPU only `run` counts, so that falls away), and
a compiler may fuse across a cut. A stretch whose interval reaches zero is said to be not told apart from nothing; no
time is ever shared out among the ops of a stretch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from harness.core.progress import SILENT, Progress
from harness.graph import surgery
from harness.graph.model import Graph, Model
from harness.graph.ops.cuts import live_cuts
from harness.latency.measure import Measured, Open, Plan, Subject, measure
from harness.latency.record import Interval, OpRange
from harness.latency.stats import CONFIDENCE, RESAMPLES, Values, quickest, smallest

MOST_CUTS = 12
MOST_BYTES = 64 << 20
"""A cut with more alive than this costs more to read than it tells."""


def chosen_cuts(graph: Graph, most: int = MOST_CUTS) -> list[tuple[int, tuple[int, ...]]]:
    """At most `most` cuts, evenly spread over the ops: of each stretch of the graph the one with the fewest bytes."""
    cuts = live_cuts(graph)
    sizes = {at: sum(graph.tensors[t].nbytes for t in alive) for at, alive in cuts.items()}
    found = []
    for places in np.array_split(np.arange(len(graph.ops) - 1), min(most, max(len(graph.ops) - 1, 1))):
        fit = [int(at) for at in places if at in sizes and sizes[int(at)] <= MOST_BYTES]
        if fit:
            best = min(fit, key=lambda at: (sizes[at], -at))
            found.append((best, cuts[best]))
    return found


def per_op(subject: Subject, plan: Plan, open_device: Open, progress: Progress = SILENT) -> tuple[OpRange, ...]:
    """The time of each stretch between cuts, measured by prefixes in turns.

    Raises:
        DeviceError: a prefix does not run on the device.
    """
    graph = subject.model.graph()
    cuts = chosen_cuts(graph)
    prefixes = [_prefix(subject, alive, at) for at, alive in cuts]
    measured = measure([*prefixes, subject], replace(plan, replications=1), open_device, progress)
    on_cpu = subject.options.accelerator in ("cpu", "reference")
    times = _aligned(measured, on_cpu)
    ends = [at for at, _ in cuts] + [len(graph.ops) - 1]
    sizes = [sum(graph.tensors[t].nbytes for t in alive) for _, alive in cuts]
    sizes.append(sum(graph.tensors[port.tensor].nbytes for port in graph.outputs))
    whole = float(np.median(times[-1]))
    before: Values = np.zeros(times.shape[1])
    stretches, first = [], 0
    for end, size, now in zip(ends, sizes, times, strict=True):
        names = tuple(graph.ops[i].name for i in range(first, end + 1))
        ms = _difference(now - before)
        stretches.append(OpRange(first, end, names, ms, ms.value / whole, size))
        before, first = now, end + 1
    return tuple(stretches)


def _prefix(subject: Subject, alive: Sequence[int], at: int) -> Subject:
    model: Model = surgery.extract(subject.model, alive).model
    names = {surgery.port_name(p.tensor): p.name for p in subject.model.graph().inputs}
    inputs = {port.name: subject.inputs[names[port.name]] for port in model.graph().inputs}
    cell = replace(subject.cell, model=f"{subject.cell.model}[..{at}]", model_sha256=model.sha256)
    return Subject(cell, model, inputs, subject.options)


def _aligned(measured: Sequence[Measured], on_cpu: bool) -> Values:
    """The quickest time of each round, in ms: [prefix, round], of the rounds that all have."""
    rounds = []
    for one in measured:
        found: dict[int, list[float]] = {}
        for sample in one.timed():
            if sample.phase == "steady" and sample.round > 1:
                found.setdefault(sample.round, []).append((sample.run_ns if on_cpu else sample.total_ns) / 1e6)
        rounds.append(found)
    shared = sorted(set.intersection(*(set(found) for found in rounds)))
    sides = [[np.asarray(found[key]) for key in shared] for found in rounds]
    size = smallest(*sides)
    return np.stack([quickest(side, size) for side in sides])


def _difference(values: Values) -> Interval:
    """The median with its bootstrap interval over rounds."""
    rng = np.random.default_rng(0)
    draws = np.median(values[rng.integers(0, len(values), (RESAMPLES, len(values)))], axis=1)
    rest = (1 - CONFIDENCE) / 2 * 100
    low, high = np.percentile(draws, [rest, 100 - rest])
    value = float(np.median(values))
    return Interval(value, min(float(low), value), max(float(high), value))
