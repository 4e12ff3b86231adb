"""Folders for temporary files whose names are no UTF-8: the runtime takes no such path, and is given none."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest

from harness.core.job import Options
from harness.devices.execute import completed, make_job
from harness.devices.host.device import HostDevice
from harness.devices.shapes import shapes_at
from harness.graph.model import Model


@pytest.fixture(params=[b"m\xe9t\xff", b"\xed\xa0\x80", b"a\nb \x1b[2J", "\u202ex".encode()], autouse=True)
def _odd(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / os.fsdecode(request.param)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))


@pytest.mark.parametrize("accelerator", ["cpu", "reference"])
def test_a_model_runs(plus_one: Model, accelerator: str) -> None:
    with HostDevice() as device:
        job = make_job(plus_one, {"x": np.ones((1, 4), np.float32)}, Options(accelerator), timeout=60)  # type: ignore[arg-type]
        assert completed(device, job, "running").outputs["y"].tolist() == [[2.0] * 4]


def test_shapes_are_computed(plus_one: Model) -> None:
    graph = plus_one.graph()
    found = shapes_at(plus_one, {graph.inputs[0].tensor: (3, 4)})
    assert found[graph.outputs[0].tensor] == (3, 4)


def test_shapes_are_computed_with_a_relative_path_to_packages(plus_one: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f".{os.pathsep}tests")
    assert shapes_at(plus_one, {plus_one.graph().inputs[0].tensor: (2, 4)})
