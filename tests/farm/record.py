"""The record of a small matrix: a job that is done, one that has no device, one that means nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.farm.job import JobOutcome, JobSpec, StoredFile
from harness.farm.matrix import read_matrix
from harness.farm.record import MatrixRecord
from tests import models


def outcome(spec: JobSpec, **more: Any) -> JobOutcome:
    """Of a job that passed."""
    facts: dict[str, Any] = {"job": spec.id, "state": "done", "exit_code": 0, "status": "pass", "reason": ""}
    facts |= {"run": "20260101T000000Z-m-S1", "files": (StoredFile("run.json", "0" * 64, 2),), "seconds": 1.5}
    return JobOutcome(**facts | {"host": "lab1", "serial": "S1", "cores_busy": 0.5} | more)


def small_matrix(folder: Path) -> dict[str, Any]:
    """Its document, as the command prints it."""
    (folder / "m.tflite").write_bytes(models.right().to_bytes())
    matrix = folder / "m.toml"
    matrix.write_text(
        'models = ["m.tflite"]\ndevices = ["S1", "host"]\nruntimes = ["default", "2.1.5"]\ncommands = ["compare"]'
    )
    record = MatrixRecord(folder / "matrix")
    first, second, _ = record.begin(read_matrix(matrix, record.id))
    partial = record.incoming / first.id
    partial.mkdir(parents=True)
    (partial / "run.json").write_text("{}")
    record.arrived(first, outcome(first), partial)
    record.mark(second, "absent", "No device has kind:host.")
    record.end("done")
    record.close()
    return record.document()
