"""What `harness run`, `compare` and `dump` do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from harness.api.scope import notes
from harness.api.session import ModelRequest, close, session
from harness.core.job import Completed
from harness.core.progress import SILENT, Progress
from harness.devices.execute import UNTOUCHED, completed, make_job
from harness.devices.residency import other_backend
from harness.localize.base.comparison import COMPILE_SECONDS, ModelComparison, compare_model
from harness.localize.base.reference import output_label
from harness.localize.base.result import residency_json
from harness.localize.find.dump import dump
from harness.numerics.metrics import finite_range


def run_command(
    request: ModelRequest, *, warmup: int, iterations: int, progress: Progress = SILENT
) -> tuple[Completed, Path]:
    """`harness run`: the outputs, as safetensors in the run folder. Raises HarnessError."""
    with session("run", request, progress) as (bench, case):
        progress.stage(f"{request.model.name} on {bench.device.name}", 2 + len(case.graph.ops) * COMPILE_SECONDS)
        job = make_job(
            case.model, case.inputs, case.options, timeout=case.timeout, warmup=warmup, iterations=iterations
        )
        done = completed(bench.device, job, UNTOUCHED)
        if case.placement is not None:
            done = replace(done, residency=case.placement.counted)
        for name, values in done.outputs.items():
            bench.run.tensors.put(output_label(name), "device", values, name)
        bench.run.log(done.log)
        if told := other_backend(done.log, case.options.backend, done.adapter):
            progress.note(told)
        bench.run.save(other_backend=told)
        bench.run.samples(done.samples, "run")
        close(bench, done, None, run_json(done))
        return done, bench.run.path


def run_json(done: Completed) -> dict[str, Any]:
    """`run --json`, schema 1."""
    totals = [(s.write_ns + s.run_ns + s.read_ns) / 1e6 for s in done.samples]
    return {
        "schema": 1,
        "outputs": [
            {
                "name": name,
                "dtype": values.dtype.name,
                "shape": list(values.shape),
                "range": list(finite_range(values)),
                "nonfinite": int(values.size - np.isfinite(values).sum()) if values.dtype.kind in "fc" else 0,
            }
            for name, values in done.outputs.items()
        ],
        "residency": residency_json(done.residency),
        "runtime": done.runtime,
        "gpu": done.adapter,
        "compile_ms": done.compile_ns / 1e6,
        "samples_ms": {
            "min": min(totals),
            "median": float(np.median(totals)),
            "max": max(totals),
            "count": len(totals),
        },
    }


def compare_command(
    request: ModelRequest, progress: Progress = SILENT, *, runs: int = 2
) -> tuple[ModelComparison, Path]:
    """`harness compare`; `runs` of the untouched model at least. Raises HarnessError."""
    with session("compare", request, progress, runs=runs) as (bench, case):
        found = compare_model(bench, case, runs=runs)
        found = replace(found, notes=(*found.notes, *notes(bench.run)), folder=bench.run.path)
        close(bench, found.done, None, found.to_json())
        return found, bench.run.path


def dump_command(request: ModelRequest, progress: Progress = SILENT) -> tuple[ModelComparison, int, Path]:
    """`harness dump`: (comparison, ops read, run folder). Raises HarnessError."""
    with session("dump", request, progress) as (bench, case):
        found, records = dump(bench, case)
        found = replace(found, notes=(*found.notes, *notes(bench.run)))
        close(bench, found.done, None, found.to_json() | {"records": len(records)})
        return found, len(records), bench.run.path
