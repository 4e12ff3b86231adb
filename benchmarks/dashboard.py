"""`python -m benchmarks.dashboard`: what a dashboard over 2,000 runs costs, cold, after one new run, and once more.

Whole commands, one after another. On a busy machine, read the processor's seconds: the others wait for a core.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.synthetic import write_one, write_runs

COLD_SECONDS = 60.0
AGAIN_SECONDS = 5.0
FIRST_PAGE_BYTES = 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--samples", type=int, default=1024, help="timed iterations of a run")
    words = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory() as scratch:
        results = Path(scratch) / "results"
        console.print(f"[dim]writing {words.runs} synthetic runs of {words.samples} samples[/]")
        write_runs(results, words.runs, samples=words.samples)
        cold, cold_cpu, built = dashboard(results)
        write_one(results)
        again, again_cpu, more = dashboard(results)
        idle, idle_cpu, _ = dashboard(results)
        page = results / "dashboard" / "index.html"
        first = page.stat().st_size
        site = sum(path.stat().st_size for path in (results / "dashboard").rglob("*") if path.is_file())
    table = Table("build", "seconds", "of the processor", "runs read", "histories drawn")
    table.add_row(
        f"cold, {built['runs']} runs", f"{cold:.1f}", f"{cold_cpu:.1f}", str(built["read"]), str(built["drawn"])
    )
    table.add_row("after one new run", f"{again:.1f}", f"{again_cpu:.1f}", str(more["read"]), str(more["drawn"]))
    table.add_row("nothing new", f"{idle:.1f}", f"{idle_cpu:.1f}", "0", "0")
    console.print(table)
    console.print(f"first page {first / 1e3:.0f} kB, site {site / 1e6:.1f} MB")
    met = [
        (f"cold build under {COLD_SECONDS:.0f} s", cold < COLD_SECONDS and built["read"] == words.runs),
        (f"build after one new run under {AGAIN_SECONDS:.0f} s", again < AGAIN_SECONDS and more["read"] == 1),
        (f"first page under {FIRST_PAGE_BYTES / 1e6:.0f} MB", first < FIRST_PAGE_BYTES),
    ]
    for sentence, ok in met:
        console.print(f"[{'green' if ok else 'red'}]{'met' if ok else 'MISSED'}[/] {sentence}")
    return 0 if all(ok for _, ok in met) else 1


def dashboard(results: Path) -> tuple[float, float, dict[str, int]]:
    """Seconds and processor seconds of one `harness dashboard`, start of Python included, and what it says it did."""
    command = [sys.executable, "-m", "harness.cli", "dashboard", "--out", str(results), "--json"]
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    seconds = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    answer: dict[str, int] = json.loads(done.stdout)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, answer


if __name__ == "__main__":
    sys.exit(main())
