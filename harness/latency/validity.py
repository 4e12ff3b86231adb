"""Whether the figures of a cell may be believed. Each check gives the reason in words, with what it saw.

An invalid run is kept as it is, and no figure is made of it together with others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from statistics import median

import numpy as np

from harness.core.visible import counted
from harness.devices.android.ready import MODERATE, THERMAL
from harness.devices.log_lines import NUMBER, first_match
from harness.devices.residency import other_backend
from harness.latency.conditions import severity
from harness.latency.measure import Measured, total
from harness.latency.record import Flaw, TimedSample
from harness.latency.stats import Values, quickest, trend, two_modes

BUSY_WAITED = 0.05
BUSY_FOREIGN = 0.25
BUSY_STOLEN = 0.05
BUSY_ROUNDS = 0.25
"""Machine busy: in a quarter of the rounds the process waited for a core for 5 % of its time or more, or others took a
quarter of all cores; or the hypervisor took 5 %."""

ACCOUNTED = 0.5
OVERHEAD_SECONDS = 0.05
OVERHEAD_BYTES_PER_SECOND = 200e6
"""Enqueue-only: the samples sum up to less than half of the time that passed here, beyond what sending takes."""

STALL_TIMES = 25.0
STALL_SECONDS = 0.25
TREND = 0.08
TREND_P = 0.001
DISAGREEMENT = 0.08
HEADROOM = 1.0
CLOCK_DROP = 0.85

_TO_CPU = re.compile(rf"^.*?({NUMBER}|No) operations? will run on the GPU, and .*? will run on the CPU")


def flaws(measured: Measured, timed: list[TimedSample]) -> tuple[Flaw, ...]:
    """Every reason against a cell's figures; empty when there is none."""
    return tuple(
        flaw
        for check in (
            _enqueue_only(measured),
            _fallback(measured),
            _other_backend(measured),
            _throttled(measured),
            _changed(measured),
            _busy(measured),
            _stalled(timed),
            _two_modes(timed),
            _trending(timed),
            _replications(timed),
        )
        for flaw in check
    )


def sustained_flaws(measured: Measured) -> tuple[Flaw, ...]:
    """The reasons that count over minutes as well: a change of speed, a restart or a hot device are none there, for
    they are what is looked for."""
    checks = (_enqueue_only, _fallback, _other_backend, _busy)
    return tuple(flaw for check in checks for flaw in check(measured))


def steady_rounds(timed: list[TimedSample]) -> dict[tuple[int, int], Values]:
    """Total times of the steady samples in nanoseconds, by (replication, round)."""
    found: dict[tuple[int, int], list[float]] = {}
    for sample in timed:
        if sample.phase == "steady":
            found.setdefault((sample.replication, sample.round), []).append(sample.total_ns)
    return {key: np.asarray(values, np.float64) for key, values in found.items()}


def _enqueue_only(measured: Measured) -> Iterator[Flaw]:
    moved = sum(a.nbytes for a in (*measured.subject.inputs.values(), *measured.outputs.values()))
    sending = OVERHEAD_SECONDS + moved / OVERHEAD_BYTES_PER_SECOND
    # The first round of a process has the compiling in it.
    rounds = [r for process in measured.processes for r in process.rounds[1:]]
    # A round with untimed iterations has more behind it: they are taken to be as long as the timed ones.
    claimed = sum(sum(map(total, r.samples)) * (1 + r.untimed / len(r.samples)) for r in rounds if r.samples)
    passed = sum(max(r.wall_ns - sending * 1e9, 0) for r in rounds)
    if claimed < ACCOUNTED * passed:
        yield Flaw(
            "enqueue-only",
            f"The samples account for {claimed / 1e9:.3g} s of the {passed / 1e9:.3g} s that passed: the device stops "
            "its clock before the work is done.",
        )


def _fallback(measured: Measured) -> Iterator[Flaw]:
    if measured.subject.options.accelerator in ("cpu", "reference"):
        return
    kind = measured.subject.options.accelerator.upper()
    for residency in {process.first.residency for process in measured.processes}:
        counted = residency.delegated is not None and residency.total is not None
        if counted and residency.delegated != residency.total:
            yield Flaw(
                "fallback", f"The {kind} took {residency.delegated} of {residency.total} nodes; the CPU ran the rest."
            )
        elif not residency.full:
            yield Flaw("fallback", f"The runtime does not say that the whole model ran on the {kind}.")
    said = ops_on_the_cpu(measured.log)
    if said:
        yield Flaw("fallback", f"The runtime's log says: {said}.")


def _other_backend(measured: Measured) -> Iterator[Flaw]:
    said = other_backend(measured.log, measured.subject.options.backend)
    if said:
        yield Flaw("other-backend", said)


def ops_on_the_cpu(log: str) -> str:
    """The runtime's words on how many ops run on the CPU; empty where it says nothing of that."""
    found = first_match(_TO_CPU, log)
    return found[0].strip()[-160:] if found else ""


def _throttled(measured: Measured) -> Iterator[Flaw]:
    seen = [r.conditions for r in measured.rounds]
    hottest = max((c.thermal for c in seen), key=severity, default="")
    if severity(hottest) >= MODERATE:
        yield Flaw("throttled", f"The thermal state reached {hottest} ({THERMAL[MODERATE]} or worse slows the clocks).")
    events = sum(c.throttled or 0 for c in seen)
    if events:
        yield Flaw("throttled", f"The processor reports {counted(events, 'thermal throttling event')}.")
    headroom = [c.headroom for c in seen if c.headroom is not None]
    if headroom and max(headroom) >= HEADROOM:
        yield Flaw(
            "throttled", f"The thermal headroom reached {max(headroom):.2f} (1.0 is where throttling is severe)."
        )
    clocks = [c.clock_mhz for c in seen[1:] if c.clock_mhz is not None]
    if len(clocks) >= 4:
        before, after = median(clocks[: len(clocks) // 2]), median(clocks[len(clocks) // 2 :])
        if after < CLOCK_DROP * before:
            yield Flaw("throttled", f"The slowest core's clock fell from {before:.0f} to {after:.0f} MHz.")


def _changed(measured: Measured) -> Iterator[Flaw]:
    boots = list(dict.fromkeys(r.boot_id for r in measured.rounds))
    if len(boots) > 1:
        yield Flaw(
            "rebooted", f"The device's boot id changed from {boots[0][:13] or 'none'} to {boots[1][:13] or 'none'}."
        )
    runtimes = list(dict.fromkeys(r.runtime for r in measured.rounds))
    if len(runtimes) > 1:
        yield Flaw("runtime-changed", f"The runtime changed from {runtimes[0]} to {runtimes[1]}.")


def _busy(measured: Measured) -> Iterator[Flaw]:
    seen = [r.conditions for r in measured.rounds[1:]]

    def often(values: list[float | None], limit: float) -> float | None:
        known = sorted(value for value in values if value is not None)
        if not known or sum(value > limit for value in known) < BUSY_ROUNDS * len(known):
            return None
        return float(np.percentile(known, 75))

    for what, limit, values in (
        ("waited for a core {:.0%} of its time", BUSY_WAITED, [c.waited for c in seen]),
        ("shared the machine with processes that took {:.0%} of all cores", BUSY_FOREIGN, [c.foreign for c in seen]),
        ("lost {:.0%} of all cores to the hypervisor", BUSY_STOLEN, [c.stolen for c in seen]),
    ):
        share = often(values, limit)
        if share is not None:
            yield Flaw("busy", f"In a quarter of the rounds the process {what.format(share)} or more.")


def _stalled(timed: list[TimedSample]) -> Iterator[Flaw]:
    totals = [s.total_ns for s in timed if s.phase == "steady"]
    if not totals:
        return
    typical, most = median(totals), max(totals)
    if most > max(STALL_TIMES * typical, typical + STALL_SECONDS * 1e9):
        yield Flaw("stalled", f"One iteration took {most / 1e6:.4g} ms where {typical / 1e6:.3g} ms is usual.")


def _two_modes(timed: list[TimedSample]) -> Iterator[Flaw]:
    found = two_modes(np.asarray([s.total_ns for s in timed if s.phase == "steady"], np.float64))
    if found:
        low, high, share = found
        yield Flaw(
            "bimodal",
            f"The samples lie in two heaps, at {low / 1e6:.3g} and {high / 1e6:.3g} ms ({share:.0%} in the second).",
        )


def _trending(timed: list[TimedSample]) -> Iterator[Flaw]:
    began = {(s.replication, s.round): s.elapsed_s for s in timed}
    for rounds in _by_replication(timed).values():
        times = np.asarray([began[key] for key in rounds])
        growth, p = trend(times, quickest(list(rounds.values())))
        if p < TREND_P and abs(growth) > TREND:
            yield Flaw("trending", f"The times changed steadily by {growth:+.0%} within a replication (p {p:.1g}).")
            return


def _replications(timed: list[TimedSample]) -> Iterator[Flaw]:
    levels = [float(np.median(quickest(list(rounds.values())))) for rounds in _by_replication(timed).values()]
    if len(levels) > 1 and max(levels) > (1 + DISAGREEMENT) * min(levels):
        said = ", ".join(f"{level / 1e6:.3g}" for level in levels)
        yield Flaw("replications", f"The replications disagree: {said} ms undisturbed.")


def _by_replication(timed: list[TimedSample]) -> dict[int, dict[tuple[int, int], Values]]:
    found: dict[int, dict[tuple[int, int], Values]] = {}
    for key, values in steady_rounds(timed).items():
        found.setdefault(key[0], {})[key] = values
    return found
