"""What the way to a phone costs: 100 MB each way through the app against `adb push` and `pull`, and a tiny job.

    python -m benchmarks.phone --device pixel8a
    python -m tests.standin python -m benchmarks.phone --device pixel8a      # without a phone

Rounds are interleaved and medians compared. To the app: from the frame's first byte until the last is taken; from the
app: from the frame's first byte here until its checksum is checked. Push and pull are whole `adb` commands. What the
app does between (converting, computing) is not in either.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from harness.core.arrays import Array
from harness.core.errors import UsageError
from harness.core.job import Job, Options
from harness.devices.android.device import AndroidDevice
from harness.devices.base import Device
from harness.devices.execute import completed, make_job
from harness.devices.link import PROTOCOL, Link, Message
from harness.devices.registry import find_phone, open_device
from harness.graph.build import GraphBuilder

ROWS, COLUMNS = 25600, 1024
SIZE = ROWS * COLUMNS * 4
SHARE_LIMIT = 0.7
LONGEST = 120.0
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
        if not isinstance(device, AndroidDevice):
            raise UsageError(f"'{given.device}' is no phone.", "Give --device pixel8a or a serial.")
        round_trip, model_bytes, sent = _tiny(device)
        device.stop()
        file = Path(folder) / "data"
        file.write_bytes(os.urandom(SIZE))
        adb = find_phone(given.device)
        pipe = Pipe(device)
        up, down = _upload(), _download()
        seconds: dict[str, list[float]] = {"push": [], "pull": [], "to the app": [], "from the app": []}
        for _ in range(given.rounds):
            seconds["push"].append(_timed(lambda: adb.call("push", str(file), THERE, seconds=LONGEST)))
            seconds["to the app"].append(pipe.seconds(up)[0])
            seconds["pull"].append(_timed(lambda: adb.call("pull", THERE, f"{file}.back", seconds=LONGEST)))
            seconds["from the app"].append(pipe.seconds(down)[1])
        pipe.close()
        adb.shell("rm", "-f", THERE)
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
    graph.output(graph.reduce("REDUCE_MAX", graph.reduce("REDUCE_MAX", graph.input("x", (ROWS, COLUMNS)), 0), 1), "y")
    return make_job(graph.build(), {"x": np.ones((ROWS, COLUMNS), np.float32)}, CPU, timeout=120)


def _download() -> Job:
    """Next to nothing in, 100 MB out."""
    graph = GraphBuilder()
    graph.output(graph.binary("ADD", graph.input("x", (ROWS, 1)), graph.constant(np.ones((1, COLUMNS)))), "y")
    return make_job(graph.build(), {"x": np.ones((ROWS, 1), np.float32)}, CPU, timeout=120)


class Timed(Link):
    """A link that remembers when a frame began to arrive."""

    began = 0.0

    def receive(self, deadline: float | None = None, limit: int = 1 << 32) -> Message:
        """As ever."""
        self._wait(write=False, deadline=deadline)
        self.began = time.perf_counter()
        return super().receive(deadline, limit)


class Pipe:
    """Requests to the app, one after another, with the time that their large frame takes."""

    def __init__(self, device: AndroidDevice) -> None:
        self._link = Timed(device.launcher.start_plain())
        self._ask("hello", protocol=PROTOCOL)

    def close(self) -> None:
        """Hang up."""
        self._link.close()

    def seconds(self, job: Job) -> tuple[float, float]:
        """(to the app, from the app) of one run."""
        self._ask("put", [("model", np.frombuffer(job.model, np.uint8))], sha256=job.sha256)
        options = {"accelerator": "cpu", "precision": "default", "threads": 0}
        began = time.perf_counter()
        self._link.send(
            "run",
            1,
            time.monotonic() + LONGEST,
            list(job.inputs.items()),
            sha256=job.sha256,
            options=options,
            outputs=[port.name for port in job.outputs],
            positions=[port.position for port in job.outputs],
            warmup=0,
            iterations=1,
            final=False,
        )
        sent = time.perf_counter() - began
        output = self._link.receive(time.monotonic() + LONGEST)
        received = time.perf_counter() - self._link.began
        assert output.type == "output", output.fields
        assert self._link.receive(time.monotonic() + LONGEST).type == "completed"
        return sent, received

    def _ask(self, kind: str, payloads: Sequence[tuple[str, Array]] = (), **fields: object) -> None:
        self._link.send(kind, 1, time.monotonic() + LONGEST, payloads, **fields)
        answer = self._link.receive(time.monotonic() + LONGEST)
        assert answer.type == kind, answer.fields


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
