"""`make bench`: what a localization costs against one cold plain run of the same model, both measured here and now.

Times are of whole commands, in one go, each with an empty shader cache; read the ratios, not the seconds. Memory is the
peak of the resident sets of the command and all its workers, summed every 50 ms.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import lint, peers, quantized
from benchmarks.measured import Cost, harness
from harness.devices.cache import cache_folder
from harness.sam2.image_path.workload import prepare

TIME_LIMIT = 3.5
MEMORY_LIMIT = 1.5e9
COMPILE_LIMIT = 3


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1, help="rounds of run and localize, interleaved")
    rounds = parser.parse_args().rounds
    console = Console()
    workload = prepare(cache_folder() / "sam2", progress=lambda what: console.print(f"[dim]{what}[/]"))
    console.print(f"SAM 2.1 mask decoder, {workload.provenance}, on the host's GPU")
    with tempfile.TemporaryDirectory() as folder:
        inputs = Path(folder) / "inputs.npz"
        np.savez(inputs, allow_pickle=False, **workload.inputs)
        words = (str(workload.model_path), "--inputs", str(inputs))
        plain: list[Cost] = []
        found: list[Cost] = []
        for number in range(rounds):
            console.print(f"[dim]round {number + 1} of {rounds}: one cold run, one cold localization[/]")
            plain.append(harness("run", *words, cold=True))
            found.append(harness("localize", *words, "--no-explain", cold=True))
        console.print("[dim]one dump[/]")
        dumped = harness("dump", *words, cold=False)
    table = Table("command", "exit", "seconds", "times a cold run", "peak memory", "device compiles")
    base = statistics.median(cost.seconds for cost in plain)
    rows = [("run", plain), ("localize --no-explain", found), ("dump (warm shader cache)", [dumped])]
    for name, costs in rows:
        seconds = statistics.median(cost.seconds for cost in costs)
        peak = max(cost.peak_bytes for cost in costs)
        compiles = str(costs[0].answer.get("device_compiles", ""))
        table.add_row(
            name, str(costs[0].code), f"{seconds:.1f}", f"{seconds / base:.2f}", f"{peak / 1e9:.2f} GB", compiles
        )
    console.print(table)
    ratio = statistics.median(f.seconds / p.seconds for f, p in zip(found, plain, strict=True))
    answer = found[0].answer
    for culprit in answer.get("culprits", ()):
        console.print(
            f"{culprit['op']} #{culprit['ops'][1]}: {culprit['cause']}, {culprit['signature']}, {culprit['ratio']:.0f}x"
        )
    met = [
        (f"localize takes {ratio:.2f} times a cold run (limit {TIME_LIMIT})", ratio <= TIME_LIMIT),
        (
            f"localize and dump stay under {MEMORY_LIMIT / 1e9:.1f} GB",
            max(found[0].peak_bytes, dumped.peak_bytes) < MEMORY_LIMIT,
        ),
        (f"at most {COMPILE_LIMIT} device compiles", answer.get("device_compiles", 99) <= COMPILE_LIMIT),
        ("certified culprits", answer.get("status") == "culprits" and answer.get("certified") is True),
    ]
    for sentence, ok in met:
        console.print(f"[{'green' if ok else 'red'}]{'met' if ok else 'MISSED'}[/] {sentence}")
    return 0 if all(ok for _, ok in met) else 1


if __name__ == "__main__":
    campaigns = {"lint": lint.main, "peers": peers.main, "quantized": quantized.main}
    campaign = campaigns.get(sys.argv[1]) if sys.argv[1:] else None
    sys.exit(campaign(sys.argv[2:]) if campaign else main())
