"""Run folders as the commands leave them, and a reader of the pages made from them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.localize.base.op_record import OpRecord
from harness.report.page import write_report
from tests.pages import Node, parse

Json = dict[str, Any]
Make = Callable[..., Path]
Read = Callable[[Path], "Node"]

GPU = "llvmpipe (LLVM 15.0.6, 256 bits), Vulkan, software"


@pytest.fixture(scope="session")
def read() -> Read:
    """Write the report of a run folder and parse it."""

    def parsed(folder: Path) -> Node:
        return parse(write_report(folder).read_text(encoding="utf-8"))

    return parsed


def output(name: str = "pred_masks", **changed: Any) -> Json:
    """An output that is wrong, as a JSON object."""
    return {
        "name": name,
        "cosine": 0.998133,
        "max_abs": 2.135,
        "expected_max_abs": 0.06419,
        "nonfinite": 0,
        "ok": False,
        "ratio": 39.92,
        "relative_rms": 0.06956,
        "snr_db": 23.15,
        "reference_range": [-24.01, 32.82],
        "device_range": [-23.27, 31.5],
        "worst": [0, 0, 185, 110],
        "iou": 0.97211,
    } | changed


def impact(name: str = "pred_masks", **changed: Any) -> Json:
    """What injected errors do to an output."""
    return {
        "output": name,
        "cosine": 0.998166,
        "max_abs": 2.132,
        "nonfinite": 0,
        "iou": 0.97195,
        "ok": False,
    } | changed


def culprit(index: int, **changed: Any) -> Json:
    """A culprit, as a JSON object."""
    return {
        "ops": [index, index],
        "op": "BATCH_MATMUL",
        "output": f"tensor_{index}",
        "cause": "accumulation",
        "signature": "float16 sum over 4096 products",
        "local_error": 0.728,
        "expected_error": 0.00217,
        "ratio": 335.0,
        "isolated": False,
        "reproducer": None,
        "remedies": [],
        "certified": True,
        "nonfinite": 0,
        "shape": [8, 8, 16],
        "note": "",
        "impact": [impact(iou=0.988)],
    } | changed


def op(index: int, verdict: str = "fine", **changed: Any) -> Json:
    """A line of ops.csv by column."""
    row = {
        "index": index,
        "first": index,
        "op": "ADD",
        "output": f"tensor_{index}",
        "shape": "1x8x256",
        "dtype": "float32",
        "verdict": verdict,
        "reading": "copy",
        "local_max_abs": 0.001,
        "local_rms": 0.0001,
        "expected_max_abs": 0.002,
        "expected_rms": 0.0002,
        "ratio": 335.0 if verdict == "culprit" else 0.5,
        "nonfinite": 0,
        "cosine_vs_reference": 0.99999,
        "max_abs_vs_reference": 0.004,
        "device_min": -1.5,
        "device_max": 2.25,
    }
    assert set(row) == set(OpRecord.HEADER)
    return row | changed


def localization(**changed: Any) -> Json:
    """The result of a localization with three culprits that account for the failure."""
    return {
        "schema": 1,
        "status": "culprits",
        "certified": True,
        "device_compiles": 3,
        "device_runs": 4,
        "seconds": 26.957,
        "outputs": [output()],
        "culprits": [culprit(2), culprit(5), culprit(7)],
        "residency": {"delegated": None, "total": None, "partitions": None, "full": True},
        "notes": [],
        "explained": [impact()],
    } | changed


def run_record(command: str = "localize", **changed: Any) -> Json:
    """A finished run.json."""
    return {
        "schema": 1,
        "command": command,
        "status": "done",
        "pid": 1,
        "started": "2026-11-20T11:23:04+00:00",
        "model": {"path": "models/decoder.tflite", "sha256": "0f18" * 16, "ops": 9},
        "device": {"name": "host", "kind": "host", "runtime": "2.3.0", "gpu": GPU},
        "seconds": 26.957,
        "options": {
            "accelerator": "gpu",
            "precision": "default",
            "inputs": "random, seed 0",
            "signature": None,
            "timeout_s": 600,
        },
        "provenance": None,
        "result": localization(),
    } | changed


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Make a run folder: a record, and ops and samples where the command writes them."""

    def made(record: Json | None = None, ops: Sequence[Json] | None = None, log: str = "INFO: compiled\n") -> Path:
        folder = tmp_path / "run"
        folder.mkdir(exist_ok=True)
        (folder / "run.json").write_text(json.dumps(run_record() if record is None else record), encoding="utf-8")
        rows = [op(i, "culprit" if i in (2, 5, 7) else "fine") for i in range(9)] if ops is None else ops
        if rows:
            with (folder / "ops.csv").open("w", newline="", encoding="utf-8", errors="surrogatepass") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(OpRecord.HEADER)
                writer.writerows([row[name] for name in OpRecord.HEADER] for row in rows)
        samples = "first,0,20228052,317870702,3883682630\nsecond,0,2486229,5647421,3714465734\n"
        (folder / "samples.csv").write_text(f"phase,iteration,write_ns,run_ns,read_ns\n{samples}")
        (folder / "log.txt").write_text(log, encoding="utf-8")
        return folder

    return made


class Samples:
    """Makers of the parts of a run, for tests that cannot import this file."""

    output = staticmethod(output)
    impact = staticmethod(impact)
    culprit = staticmethod(culprit)
    op = staticmethod(op)
    localization = staticmethod(localization)
    record = staticmethod(run_record)


@pytest.fixture(scope="session")
def samples() -> Samples:
    """Makers of the parts of a run."""
    return Samples()
