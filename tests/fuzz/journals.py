"""Journals of a run that is to be continued, whose checksums are anybody's to compute."""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from harness.core.job import Completed, Job, Options, Outcome, Residency, Sample
from harness.devices.base import Device, Sink
from harness.devices.execute import make_job
from harness.graph.build import GraphBuilder
from harness.graph.inputs import random_inputs
from harness.localize.probe.journal.device import Journaled, key_of
from harness.localize.probe.journal.log import FOLDER, SCHEMA, Identity, Journal

IDENTITY = Identity("", "", "host", "host", "2.3.0", "", "gpu", "default", 0, "none")


def relu() -> Job:
    graph = GraphBuilder()
    graph.output(graph.unary("RELU", graph.input("x", (4,))), "y")
    model = graph.build()
    return make_job(model, random_inputs(model.graph(), 0), Options(), timeout=5)


JOB = relu()
PROBE = f"{key_of(JOB)}-1"
FACTS: dict[str, Any] = {
    "residency": asdict(Residency(True)), "samples": [[1, 2, 3]], "compile_ns": 1, "compiled": True, "runtime": "",
    "adapter": "", "log": "", "boot_id": "", "thermal": "",
}  # fmt: skip


class Answering(Device):
    """Gives zeros, and counts how often it was asked."""

    def __init__(self) -> None:
        super().__init__("host", "host", None)  # type: ignore[arg-type]
        self.asked = 0

    def run(self, job: Job, sink: Sink | None = None) -> Outcome:
        self.asked += 1
        assert sink is not None
        sink("y", np.zeros(4, np.float32))
        return Completed({}, Residency(True), (Sample(1, 2, 3),), 1, True, "", "", "")


def line(**fields: Any) -> bytes:
    return signed(json.dumps(fields).encode())


def signed(body: bytes) -> bytes:
    return b"%08x %s\n" % (zlib.crc32(body), body)


def ended(**fields: Any) -> bytes:
    return line(**{"entry": "end", "probe": PROBE, "ending": "completed", "outcome": FACTS, "checksums": [0]} | fields)


FIRST = line(entry="run", schema=SCHEMA, identity=asdict(IDENTITY))


def answered(run: Path, *lines: bytes) -> int:
    """How often the device was asked, where the journal has these lines behind the first one."""
    (run / FOLDER / "log").write_bytes(FIRST + b"".join(lines))
    device, journal = Answering(), Journal(run, IDENTITY)
    try:
        outcome = Journaled(device, journal).run(JOB)
    finally:
        journal.close()
    assert isinstance(outcome, Completed)
    assert outcome.outputs["y"].tolist() == [0.0] * 4
    return device.asked
