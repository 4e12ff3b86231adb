"""What the way to a phone costs: 100 MB each way through the app against `adb push` and `pull`, and a tiny job.

    python -m benchmarks.phone --device pixel8a
    python -m tests.standin python -m benchmarks.phone --device pixel8a      # without a phone

Rounds are interleaved and medians compared. A transfer through the app is the whole job, checksums on both sides
included, less what the app itself timed (write, run, read); push and pull are whole `adb` commands.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from harness.devices.base import Device
from harness.devices.execute import completed, make_job
from harness.devices.registry import find_phone, open_device
from harness.graph.build import GraphBuilder
from harness.job import Job, Options

ROWS, COLUMNS = 25600, 1024
SIZE = ROWS * COLUMNS * 4
SHARE_LIMIT = 0.7
ROUND_TRIP_LIMIT_MS = 10.0
THERE = "/data/local/tmp/harness-benchmark"
CPU = Options("cpu")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="pixel8a")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory() as folder, open_device(given.device) as device:
        file = Path(folder) / "data"
        file.write_bytes(os.urandom(SIZE))
        adb = find_phone(given.device)
        up, down = _upload(), _download()
        for job in (up, down):
            completed(device, job, "warming up")
        seconds: dict[str, list[float]] = {"push": [], "pull": [], "to the app": [], "from the app": []}
        for _ in range(given.rounds):
            seconds["push"].append(_timed(lambda: adb.call("push", str(file), THERE, seconds=120)))
            seconds["to the app"].append(_transfer(device, up))
            seconds["pull"].append(_timed(lambda: adb.call("pull", THERE, f"{file}.back", seconds=120)))
            seconds["from the app"].append(_transfer(device, down))
        adb.shell("rm", "-f", THERE)
        round_trip, model_bytes, sent = _tiny(device)
    rate = {name: SIZE / 1e6 / statistics.median(values) for name, values in seconds.items()}
    table = Table("100 MB", "median MB/s", "all rounds, s")
    for name, values in seconds.items():
        table.add_row(name, f"{rate[name]:.0f}", " ".join(f"{v:.2f}" for v in values))
    console.print(table)
    shares = {"to the app": rate["to the app"] / rate["push"], "from the app": rate["from the app"] / rate["pull"]}
    met = [
        (f"{name}: {share:.0%} of adb's own rate (limit {SHARE_LIMIT:.0%})", share >= SHARE_LIMIT)
        for name, share in shares.items()
    ]
    met += [
        (
            f"a tiny job's round trip takes {round_trip:.1f} ms (median of 200, limit {ROUND_TRIP_LIMIT_MS:g})",
            round_trip <= ROUND_TRIP_LIMIT_MS,
        ),
        (f"a job with a known model of {model_bytes} bytes sends {sent} bytes", sent < model_bytes),
    ]
    for sentence, ok in met:
        console.print(f"[{'green' if ok else 'red'}]{'met' if ok else 'MISSED'}[/] {sentence}")
    return 0 if all(ok for _, ok in met) else 1


def _upload() -> Job:
    """100 MB in, next to nothing out."""
    graph = GraphBuilder()
    graph.output(graph.reduce("MAX", graph.reduce("MAX", graph.input("x", (ROWS, COLUMNS)), 0), 0), "y")
    return make_job(graph.build(), {"x": np.ones((ROWS, COLUMNS), np.float32)}, CPU, timeout=120)


def _download() -> Job:
    """Next to nothing in, 100 MB out."""
    graph = GraphBuilder()
    graph.output(graph.binary("ADD", graph.input("x", (ROWS, 1)), graph.constant(np.ones((1, COLUMNS)))), "y")
    return make_job(graph.build(), {"x": np.ones((ROWS, 1), np.float32)}, CPU, timeout=120)


def _transfer(device: Device, job: Job) -> float:
    began = time.perf_counter()
    done = completed(device, job, "moving data")
    whole = time.perf_counter() - began
    return whole - sum(s.write_ns + s.run_ns + s.read_ns for s in done.samples) / 1e9 - done.compile_ns / 1e9


def _timed(do: Callable[[], object]) -> float:
    began = time.perf_counter()
    do()
    return time.perf_counter() - began


def _tiny(device: Device) -> tuple[float, int, int]:
    """(median round trip in ms, bytes of the model, bytes that one job sends)."""
    graph = GraphBuilder()
    graph.output(graph.binary("ADD", graph.input("x", (1, 1)), graph.constant(np.ones((1, 4096)))), "y")
    model = graph.build()
    job = make_job(model, {"x": np.ones((1, 1), np.float32)}, CPU, timeout=60)
    completed(device, job, "warming up")
    before = device.sent_bytes
    rounds = [_timed(lambda: completed(device, job, "a tiny job")) for _ in range(200)]
    return statistics.median(rounds) * 1e3, len(model.to_bytes()), (device.sent_bytes - before) // len(rounds)


if __name__ == "__main__":
    sys.exit(main())
