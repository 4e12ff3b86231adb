"""What a planted phone refuses, and that it says so as a delegate does."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from harness.core.job import Completed, Options, Rejected
from harness.devices.base import Device
from harness.devices.execute import make_job
from harness.devices.registry import open_device
from harness.graph.inputs import random_inputs
from tests.localize.patterns import Patterns

SHAPE = (1, 8, 8, 4)


@pytest.fixture(scope="module")
def device() -> Iterator[Device]:
    with open_device("planted:refusals") as opened:
        yield opened


def transposed_convolution(g: Patterns, x: int) -> int:
    options = schema.TransposeConvOptionsT()
    options.strideH = options.strideW = 2
    options.padding = schema.Padding.SAME
    size = g.constant(np.asarray([1, 16, 16, 4], np.int32))
    feeds = [size, g.constant(g.drawn(4, 2, 2, 4)), x]
    return g.op("TRANSPOSE_CONV", feeds, (1, 16, 16, 4), options, dtype=np.float32)


def padded(g: Patterns, x: int) -> int:
    widths = g.constant(np.asarray([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32))
    return g.op("PADV2", [x, widths, g.constant(np.float32(-9))], (1, 10, 10, 4), schema.PadV2OptionsT())


def gathered(g: Patterns, x: int) -> int:
    places = g.constant(np.asarray([[0, 5], [0, 2]], np.int32))
    return g.op("GATHER_ND", [x, places], (2, 8, 4), schema.GatherNdOptionsT())


def repeated(g: Patterns, x: int) -> int:
    size = g.constant(np.asarray([3, 8, 8, 4], np.int32))
    return g.op("BROADCAST_TO", [x, size], (3, 8, 8, 4), schema.BroadcastToOptionsT(), version=2)


def looked_up(g: Patterns, x: int) -> int:
    table = g.constant(g.drawn(9, 4))
    found = g.op("EMBEDDING_LOOKUP", [g.input("ids", (8,), np.int32), table], (8, 4), dtype=np.float32)
    return g.binary("ADD", x, g.reshape(found, (1, 1, 8, 4)))


def of_rank_5(g: Patterns, x: int) -> int:
    return g.reshape(g.transpose(g.reshape(x, (1, 8, 2, 4, 4)), (0, 2, 1, 3, 4)), SHAPE)


def as_long_integers(g: Patterns, x: int) -> int:
    there, back = schema.CastOptionsT(), schema.CastOptionsT()
    there.outDataType = back.inDataType = schema.TensorType.INT64
    there.inDataType = back.outDataType = schema.TensorType.FLOAT32
    return g.op("CAST", [g.op("CAST", [x], SHAPE, there, dtype=np.int64)], SHAPE, back, dtype=np.float32)


def of_constants(g: Patterns, x: int) -> int:
    return g.binary("MUL", x, g.reduce("MEAN", g.constant(g.drawn(3, 4)), 0))


CASES: dict[str, tuple[Callable[[Patterns, int], int], str]] = {
    "TRANSPOSE_CONV": (transposed_convolution, "Operation is not supported."),
    "PADV2": (padded, "Operation is not supported."),
    "GATHER_ND": (gathered, "Operation is not supported."),
    "BROADCAST_TO": (repeated, "Operation is not supported."),
    "EMBEDDING_LOOKUP": (looked_up, "Empty quantization params"),
    "RESHAPE": (of_rank_5, "Tensor dimensions must be less than 5. "),
    "CAST": (as_long_integers, "Tensor type(INT64) is not supported. "),
    "MEAN": (of_constants, "Expected 1 const input tensor(s), but node has 2 const input(s)"),
}


@pytest.mark.parametrize("kind", CASES)
def test_an_op_is_refused_and_left_to_the_cpu_where_that_may_take_it(device: Device, kind: str) -> None:
    build, words = CASES[kind]
    graph = Patterns()
    x = build(graph, graph.unary("RELU", graph.input("x", SHAPE)))
    for _ in range(8):  # the larger part
        x = graph.unary("TANH", x)
    graph.output(x, "y")
    model = graph.build()
    inputs = random_inputs(model.graph(), 0)
    refused = device.run(make_job(model, inputs, Options(), timeout=60))
    assert isinstance(refused, Rejected)
    assert refused.reason.startswith("the GPU delegate refuses ") and kind in refused.reason
    assert any(line.startswith(f"{kind}: {words}") for line in refused.ops)
    shared = device.run(make_job(model, inputs, Options(fallback="cpu"), timeout=60))
    assert isinstance(shared, Completed)
    assert shared.residency.refused == refused.ops
    assert 8 <= (shared.residency.delegated or 0) < len(model.graph().ops) and not shared.residency.full
    assert np.isfinite(shared.outputs["y"]).all()


def test_what_a_desktop_takes_in_rank_4_is_taken(device: Device) -> None:
    graph = Patterns()
    x = graph.pad(graph.transpose(graph.input("x", SHAPE), (0, 2, 1, 3)), [(0, 0), (1, 1), (1, 1), (0, 0)])
    graph.output(graph.conv(graph.binary("MUL", x, graph.dequantize(graph.drawn(4))), 3), "y")
    model = graph.build()
    assert isinstance(device.run(make_job(model, random_inputs(model.graph(), 0), Options(), timeout=60)), Completed)
