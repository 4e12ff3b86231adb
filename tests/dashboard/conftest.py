"""Results folders with a few dozen runs, and run facts for what needs no files."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.synthetic import DEVICES, Plan, digest, write_run
from harness.dashboard.build import build
from harness.dashboard.facts import RunFacts, read_facts

Facts = Callable[..., RunFacts]
Bench = Callable[..., Path]

START = datetime(2026, 11, 1, 2, 0, tzinfo=UTC)


def bench_run(
    root: Path,
    night: int = 0,
    p50: float = 10.0,
    *,
    model: str = "decoder.tflite",
    device: str = "host",
    accelerator: str = "gpu",
    wrong: bool = False,
    result: dict[str, Any] | None = None,
    **record: Any,
) -> Path:
    """A benchmark's run folder, one a night. `result` changes fields of its result, `record` those of its run.json;
    None there takes one away."""
    threads = 4 if accelerator == "cpu" else 0
    gpu = DEVICES.get(device, "")
    wrong_from = 0 if wrong else None
    plan = Plan(model, device, gpu, accelerator, "default", threads, p50, 0.0, None, 1.0, wrong_from)
    when = START + timedelta(days=night, hours=accelerator == "gpu")
    folder = write_run(root, plan, night, 0, when, _Even(), 16)
    file = folder / "run.json"
    written = json.loads(file.read_text())
    written["result"] |= result or {}
    written |= record
    file.write_text(json.dumps({key: value for key, value in written.items() if value is not None}))
    return folder


class _Even:
    """A generator without chance: every night is like the other."""

    def random(self) -> float:
        return 0.5

    def normal(self, loc: float, scale: float, size: int | None = None) -> Any:
        return loc if size is None else np.full(size, loc)

    def pareto(self, a: float, size: int) -> Any:
        return np.linspace(0, 0.4, size)

    def integers(self, low: int) -> int:
        return 0

    def uniform(self, low: float, high: float) -> float:
        return low


@pytest.fixture
def bench() -> Bench:
    """Write a benchmark's run folder."""
    return bench_run


@pytest.fixture(scope="session")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    """Facts of a valid benchmark; named fields changed."""
    plain = read_facts(bench_run(tmp_path_factory.mktemp("one")))

    def made(night: int = 0, **changed: Any) -> RunFacts:
        started = (START + timedelta(days=night)).isoformat()
        return dataclasses.replace(plain, **{"run": f"run-{night}", "started": started} | changed)

    return made


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models, two devices: a step, a fast wrong answer, an invalid run, a failed one, one that nobody can read, and
    one of another command. Read only."""
    root = tmp_path_factory.mktemp("results")
    for night in range(12):
        bench_run(root, night, p50=30.0, accelerator="cpu")
        bench_run(root, night, p50=10.0 if night < 7 else 12.0)
        bench_run(root, night, p50=40.0, accelerator="cpu", device="pixel8a")
        bench_run(root, night, p50=4.0, device="pixel8a", wrong=True)
        bench_run(root, night, p50=5.0, model="encoder.tflite", device="pixel8a")
    busy = [{"reason": "busy", "detail": "other processes took 41 % of all cores"}]
    bench_run(root, 12, p50=99.0, model="encoder.tflite", device="pixel8a",
              result={"invalid": busy, "valid": False, "status": "invalid"})  # fmt: skip
    failed = bench_run(root, 13, status="failed", error="the worker crashed (SIGSEGV).")
    record = json.loads((failed / "run.json").read_text())
    del record["result"]
    (failed / "run.json").write_text(json.dumps(record))
    broken = bench_run(root, 14)
    (broken / "run.json").write_text('{"schema": 1, "comm')
    compared = bench_run(root, 15, p50=10.0, accelerator="cpu")
    record = json.loads((compared / "run.json").read_text())
    output = {"name": "pred_masks", "ok": True, "cosine": 1.0, "max_abs": 0.01, "expected_max_abs": 0.05, "ratio": 0.2}
    record |= {"command": "compare", "result": {"schema": 1, "status": "pass", "outputs": [output]}}
    (compared / "run.json").write_text(json.dumps(record))
    return root


@pytest.fixture(scope="session")
def site(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site over these results. Read only."""
    folder = tmp_path_factory.mktemp("built") / "site"
    build(results, folder)
    return folder


@pytest.fixture(scope="session")
def sha() -> Callable[[str], str]:
    """64 hexadecimal digits for a name."""
    return digest
