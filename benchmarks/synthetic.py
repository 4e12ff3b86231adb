"""Run folders as the commands leave them, thousands of them, with a story: steps, fast wrong answers, invalid runs,
failures, and folders that nobody can read."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol, overload

import numpy as np

from harness.core.run_folder import to_json
from harness.latency.record import (
    SAMPLES_COLUMNS,
    BenchResult,
    Cell,
    Conditions,
    Distribution,
    Flaw,
    Interval,
    OutputError,
    Replication,
    TimedPart,
    TimedSample,
)

MODELS = (
    "sam2-decoder", "sam2-encoder", "memory-attention", "memory-encoder", "mobilenet-v3", "efficientdet-lite0",
    "selfie-segmenter", "whisper-tiny-encoder", "gemma-block", "pose-landmarker", "depth-small", "yolo-nano",
)  # fmt: skip
DEVICES = {
    "host": "llvmpipe (LLVM 15.0.6, 256 bits), Vulkan, software",
    "pixel8a": "Mali-G715",
    "galaxy-s24": "Adreno (TM) 750",
    "pixel10": "PowerVR D-Series DXT-48-1536 MC1",
    "thinkpad": "Intel(R) Iris(R) Xe Graphics (ADL GT2)",
}
LANES = (("cpu", "default", 4), ("gpu", "default", 0))
_START = datetime(2026, 6, 1, 2, 0, tzinfo=UTC)


class Chance(Protocol):
    """What is asked of a generator; tests have one without chance."""

    def random(self) -> float: ...

    @overload
    def normal(self, loc: float, scale: float) -> float: ...

    @overload
    def normal(self, loc: float, scale: float, size: int) -> Any: ...

    def pareto(self, a: float, size: int) -> Any: ...

    def integers(self, low: int) -> Any: ...

    def uniform(self, low: float, high: float) -> float: ...


@dataclass(frozen=True)
class Plan:
    """One lane of the story."""

    model: str
    device: str
    gpu: str
    accelerator: str
    precision: str
    threads: int
    p50: float
    noise: float
    step_at: int | None
    step: float
    wrong_from: int | None


def write_runs(root: Path, count: int, seed: int = 0, samples: int = 64) -> None:
    """Write `count` run folders under `root`, the same ones for a seed."""
    random = np.random.default_rng(seed)
    plans = list(_plans(random, count))
    nightly = math.ceil(count / len(plans))
    written = 0
    for night in range(nightly):
        for number, plan in enumerate(plans):
            if written == count:
                return
            when = _START + timedelta(days=night * 150 / nightly, minutes=number)
            write_run(root, plan, night, nightly, when, random, samples)
            written += 1


def write_one(root: Path, seed: int = 1) -> Path:
    """One more run of the first lane, newer than all."""
    random = np.random.default_rng(seed)
    plan = next(_plans(np.random.default_rng(0), 1))
    return write_run(root, plan, 0, 1, datetime(2026, 12, 1, tzinfo=UTC), random, 64)


def _plans(random: np.random.Generator, count: int) -> Iterator[Plan]:
    histories = max(1, min(len(MODELS) * len(DEVICES), count // 20))
    for place in range(histories):
        model, device = MODELS[place % len(MODELS)], list(DEVICES)[place % len(DEVICES)]
        speed = float(np.exp(random.normal(2.5, 1.1)))
        for accelerator, precision, threads in LANES:
            gain = float(random.uniform(0.25, 1.3)) if accelerator == "gpu" else 1.0
            stepping = random.random() < 0.35
            yield Plan(
                f"{model}.tflite",
                device,
                DEVICES[device],
                accelerator,
                precision,
                threads,
                speed * gain,
                float(random.uniform(0.004, 0.03)),
                int(random.integers(4, 12)) if stepping else None,
                float(random.choice([0.82, 0.9, 1.08, 1.12, 1.35])),
                0 if accelerator == "gpu" and random.random() < 0.15 else None,
            )


def write_run(root: Path, plan: Plan, night: int, nights: int, when: datetime, random: Chance, samples: int) -> Path:
    """One run folder of a lane, on one night."""
    fate = random.random()
    name = f"{when:%Y%m%dT%H%M%SZ}-{plan.model.removesuffix('.tflite')}-{plan.device}"
    folder = root / name
    for attempt in range(2, 100):
        if not folder.exists():
            break
        folder = root / f"{name}-{attempt}"
    folder.mkdir(parents=True)
    at = None if plan.step_at is None else plan.step_at * max(nights, 16) // 16
    level = plan.p50 * (plan.step if at is not None and night >= at else 1.0)
    level *= float(np.exp(random.normal(0, plan.noise)))
    record: dict[str, Any] = {
        "schema": 1,
        "command": "bench",
        "status": "done",
        "started": when.isoformat(timespec="seconds"),
        "pid": 1,
        "model": {"path": f"models/{plan.model}", "sha256": digest(plan.model), "ops": 330},
        "device": {"name": plan.device, "kind": "host", "runtime": "2.2.0" if night < nights / 2 else "2.3.0",
                   "gpu": plan.gpu},
        "options": {"accelerator": plan.accelerator, "precision": plan.precision, "inputs": "random, seed 0",
                    "backend": "default", "threads": plan.threads, "signature": None, "timeout_s": 600},
        "seconds": 61.5,
    }  # fmt: skip
    if fate < 0.01:
        (folder / "run.json").write_text(json.dumps(record)[:200], encoding="utf-8")
        return folder
    if fate < 0.03:
        record |= {"status": "failed", "error": f"{plan.device}: the worker crashed (SIGSEGV) while compiling."}
    else:
        flaws: tuple[Flaw, ...] = ()
        if fate < 0.10:
            level *= float(random.uniform(1.2, 2.2))
            flaws = (
                Flaw("busy", "other processes took 41 % of all cores, over the limit of 10 %"),
                Flaw("throttled", "thermal status severe in 7 of 12 rounds"),
            )[int(random.integers(2)) :][:1]
        times = level * np.exp(random.normal(0, 0.03, samples)) * (1 + random.pareto(6, samples) * 0.05)
        record["result"] = _result(plan, record, times, flaws, plan.wrong_from is not None).to_json()
        _samples(folder, times)
    (folder / "run.json").write_text(json.dumps(to_json(record), indent=1), encoding="utf-8")
    (folder / "report.html").write_text("<!doctype html><title>report</title><p>A report.</p>", encoding="utf-8")
    return folder


def _result(
    plan: Plan, record: dict[str, Any], times: np.ndarray[Any, Any], flaws: tuple[Flaw, ...], wrong: bool
) -> BenchResult:
    cell = Cell(plan.model, digest(plan.model), plan.device, plan.accelerator, plan.precision, "default", plan.threads)
    shares: dict[TimedPart, float] = {"write": 0.02, "run": 0.08, "readback": 0.9, "total": 1.0}
    ratio = 38.0 if wrong else 1.4 if plan.accelerator == "gpu" else 0.2
    output = OutputError("pred_masks", 0.9981 if wrong else 0.999997, 0.05 * ratio, 0.05, 0, not wrong)
    return BenchResult(
        cell=cell,
        invalid=flaws,
        latency={part: _distribution(times * share) for part, share in shares.items()},
        replications=(
            Replication(812.0, float(times[0]) * 9, 12, len(times), float(np.median(times)), 412 << 20, "b", "2.3.0"),
        ),
        rounds=12,
        seconds=60.0,
        peak_bytes=412 << 20,
        written_bytes=1 << 22,
        read_bytes=1 << 20,
        delegated=330,
        nodes=330,
        resident=True,
        accuracy=(output,),
        conditions=Conditions(thermal="none", waited=0.01),
        inputs_sha256=digest("inputs"),
        runtime=record["device"]["runtime"],
        gpu=plan.gpu if plan.accelerator == "gpu" else "",
        system="Linux x86_64",
        boot_id="b",
        commit=digest(record["started"])[:40],
    )


def _distribution(times: np.ndarray[Any, Any]) -> Distribution:
    p50, p90, p99 = (float(value) for value in np.percentile(times, (50, 90, 99)))
    around = [Interval(p, p * 0.99, p * 1.01) for p in (p50, p90, p99)]
    return Distribution(len(times), float(times.mean()), float(times.min()), float(times.max()), *around)


def _samples(folder: Path, times: np.ndarray[Any, Any]) -> None:
    calm = Conditions(thermal="none", waited=0.01)
    with (folder / "samples.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(SAMPLES_COLUMNS)
        for i, ms in enumerate(times):
            write, run, read = (round(ms * 1e6 * share) for share in (0.02, 0.08, 0.9))
            writer.writerow(TimedSample("steady", i, write, run, read, 0, i // 8, i * 0.05, calm).row())


def digest(text: str) -> str:
    """64 hexadecimal digits for a name."""
    return sha256(text.encode()).hexdigest()
