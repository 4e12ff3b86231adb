"""Run folders of several models and devices, as the commands leave them."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import pytest

from harness.localize.base.op_record import OpRecord

START = datetime(2026, 11, 1, 2, 0, tzinfo=UTC)
WHOLE = {"delegated": None, "total": None, "partitions": None, "full": True}


class Make(Protocol):
    """Writes a run folder."""

    def __call__(
        self,
        model: str = "decoder.tflite",
        device: str = "host",
        *,
        ok: bool = True,
        ops: Sequence[tuple[str, float]] = (),
        runtime: str | None = None,
        sha: str | None = None,
        **changed: Any,
    ) -> Path: ...


def output(ok: bool = True, **changed: Any) -> dict[str, Any]:
    """An output of a run, as JSON."""
    ratio = 1.2 if ok else 335.0
    return {"name": "y", "ok": ok, "verdict": "pass" if ok else "wrong", "cosine": 0.9, "max_abs": ratio,
            "expected_max_abs": 1.0, "ratio": ratio, "nonfinite": 0} | changed  # fmt: skip


def write(
    root: Path,
    number: int,
    model: str = "decoder.tflite",
    device: str = "host",
    *,
    ok: bool = True,
    ops: Sequence[tuple[str, float]] = (),
    runtime: str | None = None,
    sha: str | None = None,
    **changed: Any,
) -> Path:
    """A comparison's run folder; `ops` has each op's verdict and ratio, `changed` other fields of run.json and of its
    result (`outputs`, `residency`), of which None takes one away."""
    when = START + timedelta(minutes=number)
    folder = root / f"{when:%Y%m%dT%H%M%SZ}-{number}"
    folder.mkdir(parents=True)
    result: dict[str, Any] | None = {
        "schema": 1,
        "status": changed.pop("answer", "pass" if ok else "fail"),
        "outputs": changed.pop("outputs", [output(ok)]),
        "residency": changed.pop("residency", WHOLE),
    }
    if runtime is None:
        runtime = device.removeprefix("host@") if device.startswith("host@") else "2.3.0"
    record = {
        "schema": 1,
        "command": "compare",
        "status": "done",
        "started": when.isoformat(timespec="seconds"),
        "model": {
            "path": f"models/{model}",
            "sha256": sha or sha256(ascii(model).encode()).hexdigest(),
            "ops": len(ops),
        },
        "device": {"name": device, "kind": "host", "runtime": runtime, "gpu": "llvmpipe"},
        "options": {"accelerator": "gpu", "precision": "default"},
        "result": result,
    } | changed
    (folder / "run.json").write_text(json.dumps({key: value for key, value in record.items() if value is not None}))
    (folder / "report.html").write_text("<!doctype html>")
    if ops:
        with (folder / "ops.csv").open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(OpRecord.HEADER)
            for index, (verdict, ratio) in enumerate(ops):
                figures = [ratio, ratio, 1.0, 1.0, ratio, 0, 0.9, 0.1, -1.0, 1.0]
                writer.writerow([index, index, "ADD", f"t{index}", "4x8", "float32", verdict, "copy", *figures])
    return folder


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Write a run folder into `results`, one a minute."""
    number = iter(range(1000))

    def made(*words: Any, **changed: Any) -> Path:
        return write(tmp_path / "results", next(number), *words, **changed)

    return made


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Where `make` writes."""
    (tmp_path / "results").mkdir()
    return tmp_path / "results"
