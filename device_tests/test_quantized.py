"""Quantized models on a GPU, which dequantizes them: what is right is called so, and what is wrong is named."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from benchmarks.quantized_models import attention, inputs_of, linear, quantize
from harness.api.on_device import OnDevice
from harness.graph.model import Model
from tests.quantized import QuantizedBuilder

RNG = np.random.default_rng(11)


def flattening() -> Model:
    """A layer by rows, one that flattens its input [1, 5, 4, 8] to [1, 160], and a sum: the second is misread."""
    graph = QuantizedBuilder()
    x = graph.quantized_input("x", (1, 5, 4, 8), 0.05, -10)
    hidden = graph.layer(x, RNG.integers(-127, 128, (8, 8)), 0.004, (0.05, 0))
    options = schema.FullyConnectedOptionsT()
    weights = graph.on_grid(graph.constant(RNG.integers(-127, 128, (4, 160)).astype(np.int8)), 0.001)
    flat = graph.op("FULLY_CONNECTED", [hidden, weights, -1], (1, 4), options, dtype=np.int8, version=4)
    graph.on_grid(flat, 0.05)
    graph.output(graph.sum_of(flat, flat, (0.1, 0)), "y")
    return graph.build()


@pytest.mark.parametrize("recipe", ["static_wi8_ai8", "dynamic_wi8_afp32", "dynamic_wi4_afp32"])
def test_layers_that_litert_quantized_are_right(on_device: OnDevice, recipe: str) -> None:
    """Between three blocks roundings to other sides grow to several steps, and 4-bit weights are unpacked in float16
    with an error of up to an eighth of their step: neither is a fault of an op."""
    model = quantize(linear(0), recipe, 0)
    answer = on_device.localize(model, inputs_of(model, 0))
    assert (answer.status, answer.culprits) == ("pass", ())


def test_quantized_attention_is_right(on_device: OnDevice) -> None:
    model = quantize(attention(1), "static_wi8_ai8", 1)
    assert on_device.compare(model, inputs_of(model, 1)).ok


def test_a_misread_layer_among_quantized_ops_is_named_and_mended(on_device: OnDevice) -> None:
    if on_device.compare(flattening()).ok:
        return  # a device without this fault
    answer = on_device.localize(flattening(), explain=True)
    (culprit,) = answer.culprits
    assert (culprit.record.first, culprit.record.index, culprit.record.op) == (1, 1, "FULLY_CONNECTED")
    assert answer.certified
    told = culprit.to_json()["quantized"]
    assert told["expected_error_steps"] < 1 < told["local_error_steps"]
    assert "the input flattened first" in {remedy.name for remedy in culprit.remedies if remedy.ok}
