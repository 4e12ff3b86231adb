"""What the templates of a benchmark's page are given."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.core.run_folder import to_json
from harness.numerics.tolerance import FACTOR
from harness.report.benchmark import plots, steps, verdict
from harness.report.benchmark.record import Bench, parse_bench
from harness.report.record import state_of
from harness.report.sections import BENCH_SECTIONS
from harness.report.tables import read_log, read_timed

_LONGEST_JSON = 20_000
_MOST_STRETCHES = 400
_LEFT_OUT = ("windows", "profile", "per_op", "replications", "processes")
"""Of the result, what is long and stands on the page or in run.json."""


def of_benchmark(folder: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """The values by name. Raises UsageError for a run folder that holds what no benchmark writes."""
    bench = parse_bench(record, state_of(record))
    rows = read_timed(folder / "samples.csv")
    total, log = bench.total, read_log(folder / "log.txt")
    percentiles = [(name, each.value) for name in ("p50", "p90", "p99") if total and (each := getattr(total, name))]
    sustained = bench.sustained
    stairs = plots.staircase(sustained.windows, sustained.levels, sustained.gaps) if sustained else None
    found = {"run.json": True, "samples.csv": bool(rows), "log.txt": bool(log.text)}
    return {
        "table": BENCH_SECTIONS,
        "head": "bench_head.html.j2",
        "model_name": bench.model_name,
        "state": bench.state,
        "sources": [name for name, there in found.items() if there],
        "address": lambda path: "",
        "bench": bench,
        "verdict": verdict.verdict_of(bench),
        "means": verdict.MEANS,
        "next_steps": steps.next_steps(bench),
        "command": steps.command(bench),
        "spread": plots.distribution(rows, percentiles),
        "course": stairs if sustained else plots.rounds(rows),
        "high": plots.HIGH,
        "stretches": bench.stretches[:_MOST_STRETCHES],
        "more_stretches": len(bench.stretches[_MOST_STRETCHES:]),
        "residency": _residency(bench),
        "document": _document(record),
        "storage": "float16" if bench.accelerator != "cpu" and bench.precision != "fp32" else "float32",
        "limit": FACTOR,
        "log": log,
    }


def _residency(bench: Bench) -> str:
    """Where the model ran, as far as it is known."""
    if bench.delegated is not None and bench.nodes is not None:
        return f"{bench.delegated:,} of {bench.nodes:,} nodes on the accelerator"
    if bench.resident is None:
        return ""
    return "all of it on the accelerator" if bench.resident else "not all of it on the accelerator"


def _document(record: Mapping[str, Any]) -> str:
    result = record.get("result")
    if not isinstance(result, dict):
        return ""
    text = json.dumps(to_json({k: v for k, v in result.items() if k not in _LEFT_OUT}), indent=1, ensure_ascii=False)
    return text if len(text) <= _LONGEST_JSON else ""
