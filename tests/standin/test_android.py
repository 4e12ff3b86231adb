"""A phone by its name: real adb, real adbd, the app's own Kotlin, the real runtime."""

from __future__ import annotations

import numpy as np

from harness.devices.android import AndroidDevice
from harness.devices.execute import make_job
from harness.graph.build import GraphBuilder
from harness.job import Completed, Options


def test_runs(pixel: AndroidDevice) -> None:
    graph = GraphBuilder()
    graph.output(graph.binary("ADD", graph.input("x", (1, 4)), graph.constant([1.0])), "y")
    for acc in ("cpu", "gpu"):
        job = make_job(graph.build(), {"x": np.ones((1, 4), np.float32)}, Options(acc), timeout=60)
        done = pixel.run(job)
        assert isinstance(done, Completed), done
