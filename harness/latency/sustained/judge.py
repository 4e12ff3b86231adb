"""From samples over time to windows, levels and one word. Nothing that the device says of its heat has a part in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from harness.core.visible import counted
from harness.latency.record import Interval
from harness.latency.stats import RESAMPLES, SIGNIFICANCE, TOLERANCE
from harness.latency.sustained.changes import LEAST_VALUES, Values, change_points, least_level, wandering
from harness.latency.sustained.record import Change, Level, Slowdown, Swing, Window, Word
from harness.latency.validity import DISAGREEMENT

MOST_WINDOWS = 160
"""As many windows where the samples allow: a level is then at least eight of them."""
BEGINNING = 3
"""Windows that are looked at by themselves: levels are not looked for in so few."""
LEAST_IN_WINDOW = 3
"""The median of three is the least that one interrupted iteration does not move."""
_QUANTILES = (10, 50, 90)


@dataclass(frozen=True)
class Batch:
    """The steady samples of one job: when each ended, and how long it took."""

    stretch: int
    process: int
    ends_s: Values
    totals_ms: Values
    thermal: str = ""
    celsius: float | None = None


@dataclass(frozen=True)
class Judgement:
    """What the windows come to. `drift` is the second half over the first of the stretch that drifted most, with its
    95 % interval; None where no stretch has enough windows."""

    word: Word
    why: str
    levels: tuple[Level, ...]
    changes: tuple[Change, ...]
    slowdown: Slowdown | None
    swing: Swing | None
    drift: Interval | None


def windows(batches: Sequence[Batch]) -> tuple[Window, ...]:
    """Pieces of equal time, at most `MOST_WINDOWS` in all and with some samples each; none lies across a gap."""
    stretches: dict[int, list[Batch]] = {}
    for batch in batches:
        if len(batch.ends_s):
            stretches.setdefault(batch.stretch, []).append(batch)
    spans = {n: _end(own) - _beginning(own) for n, own in stretches.items()}
    samples = sum(len(batch.ends_s) for own in stretches.values() for batch in own)
    wanted = max(min(MOST_WINDOWS, samples // LEAST_IN_WINDOW), 1)
    width = max(sum(spans.values()) / wanted, 1e-9)
    found: list[Window] = []
    for number, own in stretches.items():
        began, count = _beginning(own), max(round(spans[number] / width), 1)
        ends = np.concatenate([batch.ends_s for batch in own])
        totals = np.concatenate([batch.totals_ms for batch in own])
        owner = np.repeat(np.arange(len(own)), [len(batch.ends_s) for batch in own])
        place = np.clip(((ends - began) / max(spans[number], 1e-9) * count).astype(int), 0, count - 1)
        for i in range(count):
            inside = place == i
            if not np.any(inside):
                continue
            last = own[int(owner[inside][-1])]
            p10, p50, p90 = (float(v) for v in np.percentile(totals[inside], _QUANTILES))
            seconds = spans[number] / count
            found.append(
                Window(
                    began + i * seconds,
                    seconds,
                    number,
                    last.process,
                    int(np.sum(inside)),
                    p10,
                    p50,
                    p90,
                    last.thermal,
                    last.celsius,
                )
            )
    return tuple(found)


def judge(seen: Sequence[Window]) -> Judgement:
    """The word on all stretches: slower where one is, steady where each that can be judged is. What a change is must
    happen within a stretch: a device that was gone has cooled down, and its first level says nothing of recovery."""
    own = [[w for w in seen if w.stretch == number] for number in dict.fromkeys(w.stretch for w in seen)]
    parts = [_Stretch(stretch, SIGNIFICANCE / len(own)) for stretch in own]
    levels = tuple(level for part in parts for level in part.levels)
    changes = tuple(change for part in parts for change in part.changes)
    slow = [part.slowdown for part in parts if part.slowdown is not None]
    drifts = [part.drift for part in parts if part.drift is not None]
    drift = max(drifts, key=lambda d: d.value, default=None)
    swing = max((part.swing for part in parts if part.swing is not None), key=lambda s: s.ratio, default=None)
    if slow:
        worst = max(slow, key=lambda s: s.ratio.value)
        return Judgement("slower", _said(worst), levels, changes, worst, swing, drift)
    if drift is None:
        why = f"{counted(len(seen), 'window')} of samples; a stretch needs {LEAST_VALUES} to be judged."
        return Judgement("undecided", why, levels, changes, None, None, None)
    if swing is not None and swing.ratio >= 1 + TOLERANCE and swing.p < SIGNIFICANCE / len(own):
        why = f"It wanders slowly, up to {swing.ratio - 1:+.0%}: {swing.low_ms:.4g} ms, then {swing.high_ms:.4g} ms."
        return Judgement("unsteady", why, levels, changes, None, swing, drift)
    said = f"{drift.value - 1:+.1%} [{drift.low - 1:+.1%}, {drift.high - 1:+.1%}]"
    if max(d.high for d in drifts) > 1 + TOLERANCE:
        why = f"The samples show no slowdown and exclude none of {TOLERANCE:.0%}: the second half is {said}."
        return Judgement("undecided", why, levels, changes, None, swing, drift)
    boost = max((part.boost for part in parts if part.boost is not None), key=lambda b: b.value, default=None)
    if boost is not None and boost.value >= 1 + TOLERANCE and boost.low > 1:
        why = (
            f"The second half is {boost.value - 1:+.0%} beside the first {BEGINNING} windows "
            f"({clock(sum(w.seconds for w in seen[:BEGINNING]))}), which are too few to be a level. Load it for fewer "
            "minutes to see them."
        )
        return Judgement("undecided", why, levels, changes, None, swing, drift)
    why = f"The second half is {said} beside the first, within {TOLERANCE:.0%}."
    return Judgement("steady", why, levels, changes, None, swing, drift)


class _Stretch:
    """One stretch's levels, and what they come to."""

    def __init__(self, seen: Sequence[Window], alpha: float) -> None:
        medians = np.asarray([w.p50_ms for w in seen])
        points = change_points(medians, alpha)
        edges = [0, *(point.at for point in points), len(seen)]
        self._seen = seen
        self._parts = [seen[a:b] for a, b in pairwise(edges)]
        self.levels = [_level(part) for part in self._parts]
        self.changes = [
            Change(
                at_s=seen[point.at].at_s,
                ratio=after.p50_ms / before.p50_ms,
                p=point.p,
                restart=_restarts(seen, point.at),
            )
            for point, (before, after) in zip(points, pairwise(self.levels), strict=True)
        ]
        self.drift = self._drift(medians)
        self.boost = self._boost(medians)
        self.slowdown = self._slowdown()
        self.swing = self._swing(medians)

    def _drift(self, medians: Values) -> Interval | None:
        if len(medians) < LEAST_VALUES:
            return None
        half = len(medians) // 2
        return ratio_of(medians[half:], medians[:half])

    def _boost(self, medians: Values) -> Interval | None:
        """The second half beside the beginning: a phone may be quick for less time than a level takes to be seen."""
        if len(medians) < LEAST_VALUES:
            return None
        return ratio_of(medians[len(medians) // 2 :], medians[:BEGINNING])

    def _swing(self, medians: Values) -> Swing | None:
        if len(medians) < LEAST_VALUES:
            return None
        size = least_level(len(medians))
        smooth = np.median(sliding_window_view(medians, size), axis=1)
        lows = np.minimum.accumulate(smooth)
        at = int(np.argmax(smooth / lows))
        low, high = float(lows[at]), float(smooth[at])
        return Swing(self._seen[0].stretch, low, high, high / low, wandering(medians))

    def _slowdown(self) -> Slowdown | None:
        """Of all pairs of levels the one with the largest ratio, later over earlier."""
        pairs = [(i, j) for j in range(len(self.levels)) for i in range(j)]
        if not pairs:
            return None
        i, j = max(pairs, key=lambda pair: self.levels[pair[1]].p50_ms / self.levels[pair[0]].p50_ms)
        peak, worst, last = self.levels[i], self.levels[j], self.levels[-1]
        before, after = (np.asarray([w.p50_ms for w in self._parts[k]]) for k in (i, j))
        ratio = ratio_of(after, before)
        if ratio.value < 1 + TOLERANCE or ratio.low <= 1:
            return None
        # From one process to the next a device differs by some percent, whatever its clocks do.
        if all(change.restart for change in self.changes[i:j]) and ratio.value <= 1 + DISAGREEMENT:
            return None
        first = next(k for k in range(i + 1, j + 1) if self.levels[k].p50_ms >= (1 + TOLERANCE) * peak.p50_ms)
        quick, slow = (np.median([w.p10_ms for w in self._parts[k]]) for k in (i, j))
        return Slowdown(
            stretch=peak.stretch,
            at_s=self.levels[first].from_s,
            peak_ms=peak.p50_ms,
            worst_ms=worst.p50_ms,
            sustained_ms=last.p50_ms,
            ratio=ratio,
            sustained_ratio=last.p50_ms / peak.p50_ms,
            quickest_ratio=float(slow / quick),
            p=max(change.p for change in self.changes[i:j]),
        )


def ratio_of(after: Values, before: Values) -> Interval:
    """The median of `after` over that of `before`, with a 95 % interval from resampling both in blocks of neighbours,
    of the cube root of their number (Künsch, "The jackknife and the bootstrap for general stationary observations",
    Ann. Statist. 17, 1989), for neighbours are alike."""
    rng = np.random.default_rng(0)
    draws = _block_medians(after, rng) / _block_medians(before, rng)
    low, high = (float(v) for v in np.percentile(draws, [2.5, 97.5]))
    value = float(np.median(after) / np.median(before))
    return Interval(value, min(low, value), max(high, value))


def _block_medians(values: Values, rng: np.random.Generator) -> Values:
    count = len(values)
    size = max(1, round(count ** (1 / 3)))
    starts = rng.integers(0, count - size + 1, (RESAMPLES, -(-count // size)))
    places = (starts[:, :, None] + np.arange(size)).reshape(RESAMPLES, -1)[:, :count]
    found: Values = np.median(values[places], axis=1)
    return found


def _level(part: Sequence[Window]) -> Level:
    p50, p90 = (float(np.median([getattr(w, name) for w in part])) for name in ("p50_ms", "p90_ms"))
    return Level(part[0].stretch, part[0].at_s, part[-1].at_s + part[-1].seconds, len(part), p50, p90)


def _restarts(seen: Sequence[Window], at: int) -> bool:
    around = seen[max(at - 2, 0) : at + 2]
    return len({w.process for w in around}) > 1


def _said(slow: Slowdown) -> str:
    return (
        f"From {slow.peak_ms:.4g} to {slow.worst_ms:.4g} ms: {slow.ratio.value - 1:+.0%} "
        f"[{slow.ratio.low - 1:+.0%}, {slow.ratio.high - 1:+.0%}], from {clock(slow.at_s)} on; "
        f"{slow.sustained_ratio - 1:+.0%} at the end."
    )


def clock(seconds: float) -> str:
    """`12.5 s`, `3 min 05 s`: a time since the beginning."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    return f"{whole // 60} min {whole % 60:02d} s"


def _beginning(own: Sequence[Batch]) -> float:
    return float(own[0].ends_s[0] - own[0].totals_ms[0] / 1e3)


def _end(own: Sequence[Batch]) -> float:
    return float(own[-1].ends_s[-1])
