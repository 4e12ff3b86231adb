"""What is read of the surroundings, from a /proc and a /sys of the test's own making."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.latency.conditions import between, peak_bytes, read_moment, worst
from harness.latency.record import Conditions

PID = 4_000_000  # above what Linux gives out
TICK = os.sysconf("SC_CLK_TCK")


def machine(
    root: Path, *, busy: float, idle: float, own: float, queued: float, stolen: float = 0, throttled: int = 0
) -> Path:
    """All in seconds."""
    task = root / f"proc/{PID}/task/{PID}"
    cpu = root / "sys/devices/system/cpu/cpu0"
    for folder in (task, cpu / "thermal_throttle", cpu / "cpufreq"):
        folder.mkdir(parents=True, exist_ok=True)
    ticks = [int(v * TICK) for v in (busy, 0, 0, idle, 0, 0, 0, stolen)]
    (root / "proc/stat").write_text(f"cpu  {' '.join(map(str, ticks))} 0 0\ncpu0 1 2 3\n")
    cells = ["0"] * 11 + [str(int(own * TICK)), "0"]
    (root / f"proc/{PID}/stat").write_text(f"{PID} (a (strange) name) {' '.join(cells)} 0 0\n")
    (task / "schedstat").write_text(f"{int(own * 1e9)} {int(queued * 1e9)} 12\n")
    (root / f"proc/{PID}/status").write_text("Name:\tx\nVmHWM:\t    2048 kB\n")
    (cpu / "thermal_throttle/core_throttle_count").write_text(f"{throttled}\n")
    (cpu / "cpufreq/scaling_cur_freq").write_text("2400000\n")
    return root


def test_shares_are_of_what_passed_between_two_moments(tmp_path: Path) -> None:
    before = read_moment(PID, machine(tmp_path, busy=100, idle=50, own=10, queued=1, throttled=3))
    after = read_moment(PID, machine(tmp_path, busy=107, idle=52, own=14, queued=2, stolen=1, throttled=5))
    seen = between(before, after, "light")
    assert seen.waited == pytest.approx(1 / 5)  # one second in the queue, four on a core
    assert seen.foreign == pytest.approx(3 / 10)  # seven seconds busy, four of them its own, of ten in all
    assert seen.stolen == pytest.approx(1 / 10)
    assert (seen.throttled, seen.clock_mhz, seen.thermal) == (2, 2400.0, "light")
    assert peak_bytes(PID, tmp_path) == 2048 * 1024


def test_what_works_for_the_model_is_no_stranger(tmp_path: Path) -> None:
    def moments(beside: tuple[int, ...]) -> Conditions:
        before = read_moment(1, machine(tmp_path, busy=100, idle=50, own=10, queued=1), beside)
        after = read_moment(1, machine(tmp_path, busy=107, idle=53, own=14, queued=2), beside)
        return between(before, after)

    assert moments(()).foreign == pytest.approx(7 / 10)
    assert moments((PID,)).foreign == pytest.approx(3 / 10)
    assert moments((PID,)).waited == pytest.approx(1 / 5)


def test_nothing_is_made_up_of_another_machine(tmp_path: Path) -> None:
    root = machine(tmp_path, busy=1, idle=1, own=1, queued=1)
    assert between(read_moment(None, root), read_moment(None, root), "none") == Conditions(thermal="none")


def test_nothing_is_made_up_where_the_kernel_tells_nothing(tmp_path: Path) -> None:
    moment = read_moment(PID, tmp_path)
    assert between(moment, moment) == Conditions()
    assert peak_bytes(PID, tmp_path) is None


def test_the_worst_of_all_rounds_is_kept() -> None:
    rounds = [
        Conditions("none", 0.4, 2400.0, 1, 0.01, 0.1, None),
        Conditions("moderate", 0.9, 1800.0, 2, 0.3, 0.0, None),
        Conditions("light", None, None, None, None, None, None),
    ]
    assert worst(rounds) == Conditions("moderate", 0.9, 1800.0, 3, 0.3, 0.1, None)
    assert worst([]) == Conditions()


def test_this_process_can_be_read() -> None:
    before = read_moment(os.getpid())
    total = sum(i * i for i in range(300_000))
    after = read_moment(os.getpid())
    assert total > 0
    assert after.on_core is not None
    assert before.on_core is not None
    assert after.on_core > before.on_core
