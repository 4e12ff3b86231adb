"""Shapes through the fixture that tests of models use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.api.on_device import OnDevice
from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from harness.report.drawn.graph import read_graph


def open_batch() -> Model:
    graph = GraphBuilder()
    x = graph.input("x", (1, 4))
    y = graph.unary("RELU", x)
    graph.output(y, "y")
    root = graph.build().root
    for tensor in (x, y):
        root.subgraphs[0].tensors[tensor].shapeSignature = np.asarray([-1, 4], np.int32)
    return Model.from_bytes(Model(root).to_bytes())


@pytest.mark.gpu
def test_every_command_of_the_fixture_takes_shapes(tmp_path: Path) -> None:
    on_device = OnDevice("host", tmp_path, 60)
    model, shapes = open_batch(), {"x": (3, 4)}
    given = {"x": np.ones((3, 4), np.float32)}
    assert on_device.compare(model, given, shapes=shapes).done.outputs["y"].shape == (3, 4)
    assert on_device.compare(model).done.outputs["y"].shape == (1, 4)
    found = on_device.localize(model, given, shapes=shapes)
    assert found.status == "pass" and found.folder is not None
    graph = read_graph(found.folder)  # for the report to draw
    assert graph is not None and [op.name for op in graph.ops] == ["RELU"] and graph.tensors[0].shape == (3, 4)
    timed = on_device.bench(model, given, shapes=shapes)
    assert timed.result.cell.accelerator == "gpu" and "<h2>Times</h2>" in (timed.folder / "report.html").read_text()
    assert on_device.audit(model, shapes=shapes).unsupported == ()
