"""Weights of dynamic-range quantized ops stand for real numbers, and the reference multiplies by these."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from harness.core.arrays import Array
from harness.core.job import Options
from harness.devices.execute import completed, make_job
from harness.devices.registry import open_device
from harness.graph.build import GraphBuilder
from harness.graph.model import AlignedBuffer, Model
from harness.graph.ops.hybrid import hybrid_ops, real_values, unpacks, with_real_weights
from harness.localize.base.case import REFERENCE, Case
from harness.localize.base.host_runs import run_ideal

RNG = np.random.default_rng(0)
SCALES = np.asarray([0.02, 0.5, 0.01, 0.03], np.float32)
CODES = RNG.integers(-127, 128, (4, 64)).astype(np.int8)
REAL = SCALES[:, None].astype(np.float64) * CODES


def quantized(codes: Array, scales: Array, *, zeros: Array | None = None, kind: int = schema.TensorType.INT8) -> Model:
    """y = x times weights that are stored as integers, one scale for each unit."""
    graph = GraphBuilder()
    graph.output(graph.fully_connected(graph.input("x", (8, 64)), np.zeros((4, 64), np.float32)), "y")
    model = graph.build()
    sub = model.root.subgraphs[0]
    table = sub.tensors[int(sub.operators[0].inputs[1])]
    table.type, table.quantization = kind, schema.QuantizationParametersT()
    table.quantization.scale, table.quantization.quantizedDimension = scales, 0
    table.quantization.zeroPoint = np.zeros(len(scales), np.int64) if zeros is None else zeros
    model.root.buffers[table.buffer] = AlignedBuffer(np.ascontiguousarray(codes).view(np.uint8).reshape(-1))
    model.edited()
    return model


def inputs_with_an_outlier() -> dict[str, Array]:
    """One activation of 100 leaves the others, near 1, few steps of 100/127."""
    x = RNG.standard_normal((8, 64)).astype(np.float32)
    x[:, 0] = 100.0
    return {"x": x}


def outputs(model: Model, inputs: dict[str, Array], **more: Any) -> Array:
    with open_device("host") as host:
        return completed(host, make_job(model, inputs, REFERENCE, timeout=60, **more), "running").outputs["y"]


def test_the_reference_is_the_product_with_the_real_weights() -> None:
    model, inputs = quantized(CODES, SCALES), inputs_with_an_outlier()
    exact = inputs["x"].astype(np.float64) @ REAL.T
    # 64 products in float32: a relative error of 64 roundings of the sum of magnitudes at most.
    bound = 64 * 2.0**-24 * (np.abs(inputs["x"]) @ np.abs(REAL).T)
    assert (np.abs(outputs(model, inputs) - exact) <= bound).all()
    assert (np.abs(outputs(model, inputs, as_stored=True) - exact) > 100 * bound).any()


def test_unsigned_weights_are_hybrid_too() -> None:
    """Older converters store q + 128 and a zero point of 128."""
    zeros = np.full(4, 128, np.int64)
    codes = (CODES.astype(np.int16) + 128).astype(np.uint8)
    model = quantized(codes, SCALES, zeros=zeros, kind=schema.TensorType.UINT8)
    assert hybrid_ops(model.graph()) == (0,)
    exact = with_real_weights(model)
    values = exact.constant(exact.graph().ops[0].inputs[1])
    assert values is not None
    np.testing.assert_allclose(values, REAL, rtol=2.0**-23)


@pytest.mark.parametrize(("room", "real"), [(4 * 4 * 64, True), (4 * 4 * 64 - 1, False)])
def test_weights_that_have_no_room_dequantized_stay_as_they_are(
    monkeypatch: pytest.MonkeyPatch, room: int, real: bool
) -> None:
    """A flatbuffer ends at 2 GB, and the weights take four times the bytes."""
    monkeypatch.setattr("harness.graph.ops.hybrid.MOST_BYTES", room)
    assert (hybrid_ops(with_real_weights(quantized(CODES, SCALES)).graph()) == ()) is real


def test_a_cpu_is_granted_what_quantizing_at_run_time_costs_and_a_gpu_is_not() -> None:
    model, inputs = quantized(CODES, SCALES), inputs_with_an_outlier()
    exact, stored = outputs(model, inputs), outputs(model, inputs, as_stored=True)

    def granted(accelerator: str) -> float:
        case = Case(model, inputs, Options(accelerator=accelerator), timeout=60)  # type: ignore[arg-type]
        with open_device("host") as host:
            ideals = run_ideal(case, host, model, inputs, frozenset(), "running ideally")["y"]
        return max(float(np.abs(ideal - exact).max()) for ideal in ideals)

    lost = float(np.abs(stored - exact).max())
    assert granted("cpu") == pytest.approx(lost)
    assert granted("gpu") < lost / 4


def test_four_bits_two_in_a_byte_the_first_in_its_low_half() -> None:
    codes = RNG.integers(-8, 8, (4, 64)).astype(np.int8)
    packed = (codes.reshape(-1, 2)[:, 0] & 15) | ((codes.reshape(-1, 2)[:, 1] & 15) << 4)
    model = quantized(packed.astype(np.int8), SCALES, kind=schema.TensorType.INT4)
    graph = model.graph()
    values = real_values(model, graph, graph.ops[0].inputs[1])
    np.testing.assert_allclose(values, SCALES[:, None] * codes, rtol=1e-6)  # type: ignore[arg-type]


def test_a_zero_point_is_taken_off() -> None:
    codes, zeros = RNG.integers(0, 256, (4, 64)).astype(np.uint8), np.asarray([3, 128, 0, 255], np.int64)
    model = quantized(codes, SCALES, zeros=zeros, kind=schema.TensorType.UINT8)
    graph = model.graph()
    values = real_values(model, graph, graph.ops[0].inputs[1])
    wanted = SCALES[:, None].astype(np.float64) * (codes.astype(np.float64) - zeros[:, None])
    np.testing.assert_allclose(values, wanted, rtol=1e-6)  # type: ignore[arg-type]


def test_scales_that_do_not_fit_their_axis_leave_the_model_as_it_is() -> None:
    model = quantized(CODES, SCALES[:3])
    assert with_real_weights(model) is model


@pytest.mark.parametrize("axis", [-(2**31), -2, -1, 2, 2**31 - 1])
def test_an_axis_that_is_none_leaves_the_model_as_it_is(axis: int) -> None:
    model = quantized(CODES, SCALES)
    for table in model.root.subgraphs[0].tensors:
        if table.quantization is not None:
            table.quantization.quantizedDimension = axis
    assert with_real_weights(model) is model


def test_only_float_activations_make_an_op_hybrid() -> None:
    model = quantized(CODES, SCALES)
    assert hybrid_ops(model.graph()) == (0,)
    for t in model.root.subgraphs[0].inputs:
        model.root.subgraphs[0].tensors[int(t)].type = schema.TensorType.INT8
    model.edited()
    assert hybrid_ops(model.graph()) == ()
    graph = GraphBuilder()
    graph.output(graph.fully_connected(graph.input("x", (8, 64)), REAL.astype(np.float32)), "y")
    assert hybrid_ops(graph.build().graph()) == ()


def test_unpacked_in_float16_a_weight_is_the_difference_of_two_rounded_products() -> None:
    """The scale is 85/256 in float16. Around 42.5 = 128·85/256 float16 has steps of 1/32, and so has the difference.
    These are the values that the GPU multiplies by, read through inputs with a single 1."""
    codes = np.zeros((4, 64), np.int8)
    codes[0, :5] = [1, 2, -7, 0, 4]
    model = quantized(codes, np.asarray([0.3321472704410553, 1, 1, 1], np.float32))
    graph = model.graph()
    values = real_values(model, graph, graph.ops[0].inputs[1], unpacked=True)
    assert values is not None
    assert (values[0, :5] * 32).tolist() == [11, 21, -74, 0, 42]


def test_only_a_layer_is_unpacked() -> None:
    model = quantized(CODES, SCALES)
    graph = with_real_weights(model, unpacked=True).graph()
    exact = with_real_weights(model).graph()
    assert graph.ops == exact.ops
    assert unpacks(graph.ops[0])
    assert not unpacks(replace(graph.ops[0], name="CONV_2D"))
