"""`audit` on a device shows what the catalogue says for it, and where the device says otherwise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from harness.api.audit import audit_command
from harness.cli import render
from harness.core.job import Job, Outcome, Rejected
from harness.devices.planted.device import PlantedDevice
from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from tests.arrays import normal


def gathered(kind: str = "GATHER_ND") -> Model:
    """A constant that a planted phone misreads, then an op that it refuses."""
    graph = GraphBuilder()
    x = graph.binary("ADD", graph.input("x", (4, 8)), graph.constant(normal((4, 8)), "pos"))
    if kind == "GATHER_ND":
        x = graph.op(kind, [x, graph.constant(np.asarray([[0], [2]], np.int32))], (2, 8))
    graph.output(graph.unary("TANH", x), "y")
    return graph.build()


@pytest.fixture
def written(tmp_path: Path) -> Callable[[Model], Path]:
    def write(model: Model) -> Path:
        path = tmp_path / "m.tflite"
        path.write_bytes(model.to_bytes())
        return path

    return write


def test_refusals_and_risks_stand_beside_what_the_device_says(
    written: Callable[[Model], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(gathered())
    found = audit_command(path, None, "planted:mali", 60)
    assert [(e.op, e.op_name, e.rule, e.effect, e.certain) for e in found.lint] == [
        (0, "ADD", "low-rank-constant", "silent", False),
        (1, "GATHER_ND", "refused-kind-on-phones", "refused", True),
    ]
    assert found.differs == ()
    assert found.to_json()["lint"][1]["sentence"] == "The GPU has no GATHER_ND."
    render.show_audit(found, path)
    said = capsys.readouterr().out
    assert "ADD #0 (at risk: silent): The GPU reads row 0 of constant 'pos' [4x8] for all 4 rows." in said
    assert "GATHER_ND #1 (refused): The GPU has no GATHER_ND." in said


def test_where_they_differ_is_told(
    written: Callable[[Model], Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuses_another(self: PlantedDevice, job: Job, sink: object = None) -> Outcome:
        log = "ERROR: Following operations are not supported by GPU delegate:\nTANH: Operation is not supported.\n"
        log += "2 operations will run on the GPU, and the remaining 1 operations will run on the CPU.\n"
        return Rejected("refused", ("TANH: Operation is not supported.",), log)

    monkeypatch.setattr(PlantedDevice, "run", refuses_another)
    path = written(gathered())
    found = audit_command(path, None, "planted:mali", 60)
    assert found.differs == (
        "TANH is refused, and no entry of the catalogue foretells it.",
        "GATHER_ND is taken, and the catalogue has it as refused.",
    )
    render.show_audit(found, path)
    assert "TANH is refused, and no entry of the catalogue foretells it." in capsys.readouterr().out


def test_a_device_that_takes_all_is_told_what_it_computes_wrongly(written: Callable[[Model], Path]) -> None:
    found = audit_command(written(gathered("none")), None, "planted:low-rank-constant", 60)
    assert found.unsupported == () and found.differs == ()
    assert [(e.rule, e.effect) for e in found.lint] == [("low-rank-constant", "silent")]


def test_a_file_alone_is_asked_of_no_device(written: Callable[[Model], Path]) -> None:
    found = audit_command(written(gathered()), None, None, 60)
    assert found.lint == () and found.differs == ()
