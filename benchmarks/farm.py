"""`python -m benchmarks.farm`: what a farm costs over its jobs, with phones that do not exist and take a fixed time.

First the share of their time that 1, 2, 4 and 8 phones work, by their own logs; then 10,000 jobs at once: until the
first of them runs, and what the scheduler's memory does in the ten minutes after it. Job times are real seconds: on a
busy machine every start of a process counts against the farm, so that the shares are lower bounds.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from tests.farm.conftest import SimulatedFarm

EFFICIENCY = 0.9
SUBMIT_SECONDS = 30.0
# Of the scheduler while jobs go through it; what an interpreter's heap does by itself.
FLAT_BYTES = 20e6
MINUTE = 60.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="of a job")
    parser.add_argument("--phones", type=int, nargs="*", default=[1, 2, 4, 8], help="at work at once; may be empty")
    parser.add_argument("--jobs", type=int, default=6, help="for each phone")
    parser.add_argument("--queued", type=int, default=10_000, help="jobs at once")
    parser.add_argument("--watch", type=float, default=600.0, help="seconds to watch the scheduler's memory for")
    words = parser.parse_args()
    console = Console()
    table = Table("phones", "jobs", "seconds", "efficiency")
    shares = {}
    for phones in words.phones:
        spent = spread(phones, words.jobs, words.seconds)
        shares[phones] = words.jobs * words.seconds / spent
        table.add_row(str(phones), str(phones * words.jobs), f"{spent:.1f}", f"{shares[phones]:.1%}")
    if shares:
        console.print(table)
    submit, seen, done = queued(words.queued, words.watch)
    console.print(f"{words.queued:,} jobs: the first runs after {submit:.1f} s; {done} done in {words.watch:g} s")
    memory = Table("seconds after the first job", "scheduler, MB")
    for seconds, size in seen:
        memory.add_row(f"{seconds:.0f}", f"{size / 1e6:.1f}")
    console.print(memory)
    before, after = seen[0][1], seen[-1][1]
    met = [
        *([(f"8 phones at {EFFICIENCY:.0%} or more", shares[8] >= EFFICIENCY)] if 8 in shares else []),
        (f"{words.queued:,} jobs submitted in under {SUBMIT_SECONDS:g} s", submit < SUBMIT_SECONDS),
        ("the scheduler's memory is flat", after - before < FLAT_BYTES),
    ]
    for sentence, ok in met:
        console.print(f"[{'green' if ok else 'red'}]{'met' if ok else 'MISSED'}[/] {sentence}")
    return 0 if all(ok for _, ok in met) else 1


def spread(phones: int, jobs: int, seconds: float) -> float:
    """Seconds from the first job's beginning to the last one's end, by the phones' own logs."""
    with tempfile.TemporaryDirectory() as scratch:
        farm = SimulatedFarm(Path(scratch))
        try:
            farm.schedule()
            farm.host("one", phones, seconds=seconds, offers=["gpu:mali"])
            farm.wait(lambda: status(farm).count(" free ") == phones, "phones")
            code, told = farm.run(farm.matrix(devices=["gpu=mali"], repetitions=jobs * phones), seconds=3600)
            assert code == 0 and told["counts"] == {"done": jobs * phones}, told["counts"]
            times = [float(note[-1]) for notes in farm.notes().values() for note in notes]
        finally:
            farm.close()
    return max(times) - min(times)


def queued(jobs: int, watch: float) -> tuple[float, list[tuple[float, int]], int]:
    """Seconds until the first of so many jobs runs; the scheduler's memory then and each minute, as (seconds, bytes),
    to the end of `watch` seconds; jobs done."""
    with tempfile.TemporaryDirectory() as scratch:
        farm = SimulatedFarm(Path(scratch))
        try:
            farm.schedule()
            farm.host("one", 4, seconds=0.2, offers=["gpu:mali"])
            farm.wait(lambda: status(farm).count(" free ") == 4, "phones")
            scheduler = psutil.Process(farm.processes["scheduler"].pid)
            matrix = farm.matrix(
                devices=["gpu=mali"],
                repetitions=-(-jobs // 12),
                precisions=["default", "fp16", "fp32", "fp16-fp32acc"],
                commands=["compare", "localize", "bench"],
            )
            began = time.monotonic()
            client = farm.begin(matrix)
            farm.wait(lambda: any(farm.notes().values()), "job that runs", 600)
            first = time.monotonic()
            seen = [(0.0, scheduler.memory_info().rss)]
            while (past := seen[-1][0]) < watch:
                time.sleep(min(MINUTE, watch - past))
                seen.append((min(time.monotonic() - first, watch), scheduler.memory_info().rss))
            done = farm.finished()
            client.send_signal(signal.SIGINT)
            client.wait(120)
        finally:
            farm.close()
    return first - began, seen, done


def status(farm: SimulatedFarm) -> str:
    from tests.farm.conftest import HARNESS

    command = [*HARNESS, "farm", "status", farm.address, *farm.trust]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout


if __name__ == "__main__":
    raise SystemExit(main())
