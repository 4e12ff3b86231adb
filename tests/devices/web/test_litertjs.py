"""LiteRT.js itself, in a real browser on whatever GPU it has: kept in the cache, or fetched by npm."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from harness.api.localize import _localized
from harness.core.errors import DeviceError
from harness.core.job import Completed, Options, Rejected
from harness.core.run_folder import RunFolder
from harness.devices.execute import make_job
from harness.devices.host.device import HostDevice
from harness.devices.web.device import WebDevice
from harness.graph.build import GraphBuilder
from harness.graph.inputs import random_inputs
from harness.graph.model import Model
from harness.localize.base.case import Case
from harness.localize.base.comparison import Workbench
from tests.devices.web.conftest import lacking

pytestmark = pytest.mark.gpu

X = np.asarray([[0.1, 1.0, -2.0, 3.0]], np.float32)


@pytest.fixture(scope="module")
def web(chromium: str) -> Iterator[WebDevice]:
    try:
        device = WebDevice()
    except DeviceError as error:
        lacking(str(error))
        raise
    yield device
    device.close()


def in_rank_5() -> Model:
    """RELU in five dimensions, which the GPU does not take, before a TANH that it does."""
    graph = GraphBuilder()
    deep = graph.unary("RELU", graph.reshape(graph.input("x", (1, 4)), (1, 1, 1, 2, 2)))
    graph.output(graph.unary("TANH", graph.reshape(deep, (1, 4))), "y")
    return graph.build()


def too_long() -> Model:
    """A flat tensor that takes more workgroups than a dispatch may have."""
    graph = GraphBuilder()
    graph.output(graph.reshape(graph.input("x", (1, 4 * 65536 * 16)), (1, 64, 65536)), "y")
    return graph.build()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (Options(accelerator="cpu", threads=2), 0.0),
        (Options(precision="fp32"), 0.0),
        (Options(precision="fp16"), 2**-10),
    ],
    ids=["cpu", "fp32", "fp16"],
)
def test_a_model_runs_as_precisely_as_it_was_asked_to(
    web: WebDevice, plus_one: Model, options: Options, error: float
) -> None:
    done = web.run(make_job(plus_one, {"x": X}, options, timeout=120, warmup=1, iterations=3))
    assert isinstance(done, Completed) and len(done.samples) == 3
    assert np.abs(done.outputs["y"] - (X + 1)).max() <= error
    assert done.runtime == "2.5.3" and done.residency.full == (options.accelerator == "gpu")
    if error:
        assert not np.array_equal(done.outputs["y"], X + 1)


def test_what_the_gpu_does_not_take_is_refused_with_its_ops_and_runs_beside_the_cpu(web: WebDevice) -> None:
    alone = web.run(make_job(in_rank_5(), {"x": X}, Options(), timeout=120))
    assert isinstance(alone, Rejected) and "RELU (rank over 4)" in alone.reason
    shared = web.run(make_job(in_rank_5(), {"x": X}, Options(fallback="cpu"), timeout=120))
    assert isinstance(shared, Completed)
    assert np.allclose(shared.outputs["y"], np.tanh(np.maximum(X, 0)), atol=1e-3)
    assert (shared.residency.full, shared.residency.delegated, shared.residency.total) == (False, 1, 4)


def test_a_dispatch_beyond_a_limit_is_no_result(web: WebDevice) -> None:
    x = np.ones((1, 4 * 65536 * 16), np.float32)
    done = web.run(make_job(too_long(), {"x": x}, Options(), timeout=120))
    assert isinstance(done, Rejected), done
    assert "exceeds max compute workgroups per dimension (65535)" in done.reason


def test_a_type_that_it_lacks_is_one_sentence(web: WebDevice) -> None:
    graph = GraphBuilder()
    x = graph.input("x", (1, 4))
    graph.output(graph.op("LESS", [x, graph.constant([0.5])], (1, 4), None, dtype=np.bool_), "y")
    done = web.run(make_job(graph.build(), {"x": X}, Options(accelerator="cpu"), timeout=120))
    assert isinstance(done, Rejected) and done.reason == "Element type BOOL is not supported"


def masks_of_a_decoder() -> Model:
    """Tokens times the features of 256x256 points, as at the end of SAM's mask decoder: WebGPU lets a texture be 8,192
    wide, and four points make a texel."""
    graph = GraphBuilder()
    tokens, features = graph.input("tokens", (1, 4, 32)), graph.input("features", (1, 32, 65536))
    graph.output(graph.batch_matmul(graph.unary("TANH", tokens), graph.unary("RELU", features)), "masks")
    return graph.build()


@pytest.mark.slow
def test_a_texture_that_is_too_wide_is_the_culprits_cause_with_its_size(
    web: WebDevice, plus_one: Model, tmp_path: Path
) -> None:
    """On an adapter that takes wider ones the model is right."""
    web.stop()
    told = web.run(make_job(plus_one, {"x": X}, Options(), timeout=120))
    limit = re.search(r"Adapter limits:.* maxTextureDimension2D (\d+)", told.log if isinstance(told, Completed) else "")
    assert limit is not None
    most = int(limit[1])
    model = masks_of_a_decoder()
    case = Case(model, random_inputs(model.graph(), 0), Options(), timeout=120)
    with HostDevice() as host, RunFolder.create(tmp_path, "localize", "masks", "web") as run:
        found = _localized(Workbench(web, host, run), case, 2)
    if most >= 16384:
        assert found.status == "pass"
        return
    (culprit,) = found.culprits
    assert (culprit.record.op, culprit.record.index, culprit.cause) == ("BATCH_MATMUL", 2, "limits")
    assert culprit.signature == f"a texture of 16,384 x 8, where the device takes up to {most:,} x {most:,}"
