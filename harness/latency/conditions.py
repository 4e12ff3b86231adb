"""The surroundings of a measurement: what else used the cores, what the clocks and the thermal state were.

On Linux, of the host's own processes, from /proc and /sys; elsewhere nothing is made up. A phone tells its thermal
state with each run, and its headroom when asked.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harness.devices.android.ready import THERMAL
from harness.latency.record import Conditions

_TICK = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


@dataclass(frozen=True)
class Moment:
    """Counters at one time, in seconds of all cores together; None where they cannot be read."""

    busy: float | None
    stolen: float | None
    total: float | None
    own: float
    on_core: float | None
    queued: float | None
    throttled: int | None
    clock_mhz: float | None


def read_moment(pid: int | None, root: Path = Path("/"), beside: Sequence[int] = ()) -> Moment:
    """The counters now. `pid` is the process that runs the model, `beside` those that work for it; without one, the
    model is on another machine, of which this one's counters say nothing."""
    if pid is None:
        return Moment(None, None, None, 0.0, None, None, None, None)
    busy = stolen = total = None
    with suppress(OSError, ValueError, IndexError):
        cells = (root / "proc/stat").read_text("ascii").split("\n", 1)[0].split()[1:9]
        user, nice, system, idle, wait, irq, soft, steal = (int(cell) / _TICK for cell in cells)
        busy, stolen = user + nice + system + irq + soft, steal
        total = busy + stolen + idle + wait
    own = sum(_used(process, root) for process in {os.getpid(), pid, *beside})
    return Moment(busy, stolen, total, own, *_scheduled({pid, *beside}, root), _throttled(root), _clock_mhz(root))


def between(before: Moment, after: Moment, thermal: str = "", headroom: float | None = None) -> Conditions:
    """What the surroundings were from one moment to the next."""
    waited = foreign = stolen = None
    if None not in (before.on_core, after.on_core, before.queued, after.queued):
        ran, queued = after.on_core - before.on_core, after.queued - before.queued  # type: ignore[operator]
        waited = queued / (ran + queued) if ran + queued > 0 and queued >= 0 else None
    if None not in (before.total, after.total) and after.total > before.total:  # type: ignore[operator]
        span = after.total - before.total  # type: ignore[operator]
        others = (after.busy - before.busy) - (after.own - before.own)  # type: ignore[operator]
        foreign = min(max(others / span, 0.0), 1.0)
        stolen = min(max((after.stolen - before.stolen) / span, 0.0), 1.0)  # type: ignore[operator]
    throttled = None
    if before.throttled is not None and after.throttled is not None:
        throttled = after.throttled - before.throttled
    return Conditions(thermal, headroom, after.clock_mhz, throttled, waited, foreign, stolen)


def worst(rounds: Sequence[Conditions]) -> Conditions:
    """The worst of each, for the summary: hottest, slowest clock, most disturbed."""
    thermal = max((c.thermal for c in rounds), key=severity, default="")
    throttled = [c.throttled for c in rounds if c.throttled is not None]
    fixed = [c.fixed_performance for c in rounds if c.fixed_performance is not None]
    return Conditions(
        thermal=thermal,
        headroom=_most([c.headroom for c in rounds]),
        clock_mhz=min((c.clock_mhz for c in rounds if c.clock_mhz is not None), default=None),
        throttled=sum(throttled) if throttled else None,
        waited=_most([c.waited for c in rounds]),
        foreign=_most([c.foreign for c in rounds]),
        stolen=_most([c.stolen for c in rounds]),
        fixed_performance=all(fixed) if fixed else None,
    )


def severity(thermal: str) -> int:
    """The place of a thermal state among Android's; -1 for one that is not known."""
    return THERMAL.index(thermal) if thermal in THERMAL else -1


def _clock_mhz(root: Path) -> float | None:
    """The slowest core's present clock, where the kernel tells."""
    clocks = []
    for path in root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq"):
        with suppress(OSError, ValueError):
            clocks.append(int(path.read_text("ascii")) / 1000)
    return min(clocks, default=None)


def peak_bytes(pid: int | None, root: Path = Path("/")) -> int | None:
    """The largest resident set that a process ever had, from `VmHWM`."""
    with suppress(OSError, ValueError, IndexError):
        for line in (root / f"proc/{pid}/status").read_text("utf-8", "replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return None


def _most(values: Sequence[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _used(pid: int, root: Path) -> float:
    """Processor seconds of a process and its ended threads."""
    with suppress(OSError, ValueError, IndexError):
        cells = (root / f"proc/{pid}/stat").read_text("utf-8", "replace").rsplit(")", 1)[1].split()
        return (int(cells[11]) + int(cells[12])) / _TICK
    return 0.0


def _scheduled(pids: Iterable[int], root: Path) -> tuple[float | None, float | None]:
    """Seconds that the threads of these processes ran, and waited for a core."""
    ran = queued = 0.0
    seen = False
    for path in (path for pid in pids for path in root.glob(f"proc/{pid}/task/*/schedstat")):
        with suppress(OSError, ValueError, IndexError):
            cells = path.read_text("ascii").split()
            ran, queued, seen = ran + int(cells[0]) / 1e9, queued + int(cells[1]) / 1e9, True
    return (ran, queued) if seen else (None, None)


def _throttled(root: Path) -> int | None:
    counts = []
    for path in root.glob("sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/*_throttle_count"):
        with suppress(OSError, ValueError):
            counts.append(int(path.read_text("ascii")))
    return sum(counts) if counts else None
