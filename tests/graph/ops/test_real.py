"""A quantized graph in real numbers: the same ops on what the integers stand for, saturated and not rounded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from harness.graph.model import Model
from harness.graph.ops.hybrid import real_values
from harness.graph.ops.real import (
    grids,
    real_inputs,
    real_outputs,
    rounded_inside,
    unpacked_weights,
    with_real_values,
)
from harness.graph.surgery import TapKind, inject, tap, tappable
from tests.arrays import Evaluate
from tests.quantized import QuantizedBuilder

WEIGHTS = np.asarray([[1, -2, 3, 4], [127, 0, -5, 1], [2, 2, 2, 2]])
CODES = np.asarray([[10, -20, 30, 40], [127, -128, 0, 5]], np.int8)


BIAS = np.asarray([100, 0, -50])
# What the layer means: scales 0.1 and 0.02, zero point 3, a bias on the product of the scales.
EXACT = (0.1 * (CODES.astype(float) - 3)) @ (0.02 * WEIGHTS).T + 0.002 * BIAS


def two_layers(out: tuple[float, int] = (0.25, 0)) -> Model:
    """The layer, and one that changes nothing."""
    graph = QuantizedBuilder()
    x = graph.quantized_input("x", (2, 4), 0.1, 3)
    hidden = graph.layer(x, WEIGHTS, 0.02, (0.25, 0), BIAS)
    graph.output(graph.layer(hidden, np.eye(3, dtype=int), 1.0, out), "y")
    return graph.build()


def test_a_layer_computes_with_what_its_integers_stand_for(evaluate: Evaluate) -> None:
    graph = QuantizedBuilder()
    x = graph.quantized_input("x", (2, 4), 0.1, 3)
    graph.output(graph.layer(x, WEIGHTS, 0.02, (0.5, 0), BIAS), "y")
    model = graph.build()
    real = evaluate(with_real_values(model), real_inputs(model, {"x": CODES}))["y"]
    assert real.dtype == np.float32
    np.testing.assert_allclose(real, EXACT, rtol=1e-5)
    stored = real_outputs(model, evaluate(model, {"x": CODES}))["y"]
    assert np.abs(stored - real).max() <= 0.25 + 1e-6  # half a step, which is 0.5


def test_the_weights_of_a_layer_on_grids_are_unpacked_as_a_gpu_does_it_and_nothing_else_is() -> None:
    graph = QuantizedBuilder()
    x = graph.quantized_input("x", (2, 4), 0.1, 3)
    graph.output(graph.layer(x, WEIGHTS, 0.0221472704, (0.5, 0), BIAS), "y")
    model = graph.build()
    view = model.graph()
    weights, bias = view.ops[0].inputs[1:3]
    held = {}
    for unpacked in (False, True):
        made = with_real_values(model, unpacked=unpacked)
        (layer,) = (op for op in made.graph().ops if op.name == "FULLY_CONNECTED")
        held[unpacked] = [made.constant(t) for t in layer.inputs[1:3]]
    (plain, plain_bias), (rounded, other_bias) = held[False], held[True]
    exact, unpacked_exact = real_values(model, view, weights), real_values(model, view, weights, unpacked=True)
    assert exact is not None
    assert unpacked_exact is not None
    assert not np.array_equal(exact, unpacked_exact)
    np.testing.assert_equal([plain, rounded], [exact, unpacked_exact])
    np.testing.assert_equal([plain_bias, other_bias], [real_values(model, view, bias)] * 2)


@pytest.mark.parametrize(
    ("activations", "weights", "unpacks"),
    [
        (np.float32, np.float32, False),
        (np.float32, np.int8, True),
        (np.int8, np.int8, True),
        (np.int8, np.float32, False),  # whole numbers that come in are none of the weights
        (np.float32, np.int16, False),
    ],
)
def test_integers_that_a_layer_multiplies_by_are_weights_to_unpack(
    activations: type, weights: type, unpacks: bool
) -> None:
    graph = QuantizedBuilder()
    feeds = [graph.input("x", (2, 4), activations), graph.constant(WEIGHTS.astype(weights)), -1]
    options = schema.FullyConnectedOptionsT()
    graph.output(graph.op("FULLY_CONNECTED", feeds, (2, 3), options, dtype=activations), "y")
    assert unpacked_weights(graph.build().graph()) is unpacks


@pytest.mark.parametrize("bias", [[], [-1]], ids=["no third operand", "an absent one"])
def test_weights_are_the_second_operand_wherever_they_stand_in_the_file(bias: list[int]) -> None:
    graph = QuantizedBuilder()
    weights = graph.constant(WEIGHTS.astype(np.int8))
    feeds = [graph.input("x", (2, 4)), weights, *bias]
    graph.output(graph.op("FULLY_CONNECTED", feeds, (2, 3), schema.FullyConnectedOptionsT()), "y")
    assert weights == 0
    assert unpacked_weights(graph.build().graph())


def test_integers_of_another_op_are_none() -> None:
    graph = QuantizedBuilder()
    x = graph.quantized_input("x", (3, 4), 0.5)
    graph.output(graph.sum_of(x, graph.on_grid(graph.constant(WEIGHTS.astype(np.int8)), 0.5), (1.0, 0)), "y")
    assert not unpacked_weights(graph.build().graph())


def test_results_stop_at_the_ends_of_their_grid(evaluate: Evaluate) -> None:
    model = two_layers(out=(0.01, 0))  # -1.28 to 1.27
    real = evaluate(with_real_values(model), real_inputs(model, {"x": CODES}))["y"]
    np.testing.assert_allclose(real, np.clip(EXACT, -1.28, 1.27), rtol=1e-5)
    assert np.abs(EXACT).max() > 1.28


def test_nothing_on_the_way_is_rounded(evaluate: Evaluate) -> None:
    model = two_layers()
    real = evaluate(with_real_values(model), real_inputs(model, {"x": CODES}))["y"]
    np.testing.assert_allclose(real, EXACT, rtol=1e-5)
    assert np.abs(real / 0.25 - np.rint(real / 0.25)).max() > 0.1


def test_tensors_keep_their_numbers_and_ports_their_names() -> None:
    model = two_layers()
    before, after = model.graph(), with_real_values(model).graph()
    assert [(p.name, p.tensor) for p in (*after.inputs, *after.outputs)] == [
        (p.name, p.tensor) for p in (*before.inputs, *before.outputs)
    ]
    assert {after.tensors[t].type for t in grids(before)} == {"FLOAT32"}
    assert not grids(after)


def test_a_model_without_integers_is_left_as_it_is() -> None:
    graph = QuantizedBuilder()
    graph.output(graph.unary("RELU", graph.input("x", (2, 2))), "y")
    model = graph.build()
    assert with_real_values(model) is model


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16])
def test_conversions_are_the_identity_up_to_the_ends(evaluate: Evaluate, dtype: Any) -> None:
    graph = QuantizedBuilder()
    x = graph.input("x", (1, 5))
    held = graph.on_grid(graph.op("QUANTIZE", [x], (1, 5), schema.QuantizeOptionsT(), dtype=dtype), 0.001)
    graph.output(graph.op("DEQUANTIZE", [held], (1, 5), schema.DequantizeOptionsT(), dtype=np.float32, version=2), "y")
    model = graph.build()
    low, high = (0.001 * end for end in (np.iinfo(dtype).min, np.iinfo(dtype).max))
    values = np.asarray([[0.00042, 0.1004, 1e9, -1e9, 0.0]], np.float32)
    made = evaluate(with_real_values(model), {"x": values})["y"]
    np.testing.assert_allclose(made, np.clip(values, low, high), rtol=1e-6)


def test_an_op_that_is_not_known_in_real_numbers_stays_an_integer_one(evaluate: Evaluate) -> None:
    graph = QuantizedBuilder()
    x = graph.quantized_input("x", (4,), 0.5)
    doubled = graph.sum_of(x, x, (1.0, 0))
    places = graph.constant(np.asarray([[3], [2], [1], [0]], np.int32))
    shape = graph.constant(np.asarray([4], np.int32))
    turned = graph.op("SCATTER_ND", [places, doubled, shape], (4,), schema.ScatterNdOptionsT(), dtype=np.int8)
    graph.output(graph.sum_of(graph.on_grid(turned, 1.0), turned, (2.0, 0)), "y")
    model = graph.build()
    codes = np.asarray([1, -3, 5, 7], np.int8)
    real = with_real_values(model)
    scatter = next(op for op in real.graph().ops if op.name == "SCATTER_ND")
    assert real.graph().tensors[scatter.inputs[1]].type == real.graph().tensors[scatter.outputs[0]].type == "INT8"
    made = evaluate(real, real_inputs(model, {"x": codes}))["y"]
    assert made.tolist() == [14.0, 10.0, -6.0, 2.0]  # 0.5·q twice, turned round, and twice again


def test_32_bit_integers_with_a_scale_stay_integers(evaluate: Evaluate) -> None:
    graph = QuantizedBuilder()
    x = graph.on_grid(graph.input("x", (1, 4), np.int16), 0.5)
    wide = graph.op("QUANTIZE", [x], (1, 4), schema.QuantizeOptionsT(), dtype=np.int32)
    graph.output(graph.on_grid(wide, 0.25), "y")
    model = graph.build()
    made = evaluate(with_real_values(model), {"x": np.asarray([[0.5, -1.0, 2.0, 0.0]], np.float32)})["y"]
    assert made.tolist() == [[2, -4, 8, 0]]


@pytest.mark.parametrize("kind", ["copy", "direct", "dequantized"])
def test_quantized_intermediates_can_be_tapped(evaluate: Evaluate, kind: TapKind) -> None:
    model = two_layers()
    hidden, last = tappable(model.graph())
    tapped, names = tap(model, [hidden], kind)
    got = evaluate(tapped, {"x": CODES})
    grid = model.graph().tensors[hidden].grid
    assert grid is not None
    assert got[names[hidden]].dtype == (np.float32 if kind == "dequantized" else np.int8)
    assert np.abs(grid.real(got[names[hidden]]) - EXACT).max() <= 0.125 + 1e-6  # half a step, which is 0.25
    assert got["y"].tolist() == evaluate(model, {"x": CODES})["y"].tolist()
    assert last == model.graph().outputs[0].tensor


def test_an_error_put_into_a_quantized_tensor_moves_it_by_as_many_steps(evaluate: Evaluate) -> None:
    model = two_layers()
    (hidden, _) = tappable(model.graph())
    error = np.zeros((2, 3), np.float32)
    error[0, 1], error[1, 2] = 0.5, 1000.0  # two steps; beyond the end of the grid
    moved, right = (evaluate(m, {"x": CODES})["y"] for m in (inject(model, {hidden: error}), model))
    assert (moved.astype(int) - right)[0].tolist() == [0, 2, 0]
    assert moved[1, 2] == 127


def test_only_outputs_behind_other_quantized_tensors_are_rounded_on_the_way() -> None:
    graph = QuantizedBuilder()
    x = graph.quantized_input("x", (1, 4), 0.5)
    first = graph.sum_of(x, x, (1.0, 0))
    graph.output(first, "first")
    graph.output(graph.sum_of(first, first, (2.0, 0)), "second")
    assert rounded_inside(graph.build().graph()) == {"second"}


@pytest.mark.parametrize(
    ("most", "kinds"),
    [(60, ["FULLY_CONNECTED", "MAXIMUM", "MINIMUM"]), (59, ["QUANTIZE", "FULLY_CONNECTED", "DEQUANTIZE"])],
)
def test_constants_beyond_the_most_bytes_leave_their_op_an_integer_one(
    most: int, kinds: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Twelve weights and three biases of four bytes.
    monkeypatch.setattr("harness.graph.ops.real.MOST_BYTES", most)
    graph = QuantizedBuilder()
    graph.output(graph.layer(graph.quantized_input("x", (2, 4), 0.1, 3), WEIGHTS, 0.02, (0.25, 0), BIAS), "y")
    assert [op.name for op in with_real_values(graph.build()).graph().ops] == kinds


def test_a_model_in_real_numbers_says_each_kind_once_and_leaves_the_first_model_as_it_was() -> None:
    model = two_layers()

    def counts() -> list[int]:
        root = model.root
        sub = root.subgraphs[0]
        return [len(part) for part in (root.operatorCodes, root.buffers, sub.tensors, sub.operators)]

    before = counts()
    made = with_real_values(model)
    assert counts() == before == [1, before[1], before[2], 2]
    assert [op.name for op in made.graph().ops] == ["FULLY_CONNECTED", "MAXIMUM", "MINIMUM"] * 2
    codes = [(c.builtinCode, c.deprecatedBuiltinCode, c.version) for c in made.root.operatorCodes[1:]]
    assert codes == [(kind, kind, 1) for kind in (schema.BuiltinOperator.MAXIMUM, schema.BuiltinOperator.MINIMUM)]
    added = made.root.subgraphs[0].tensors[before[2] :]
    assert len({t.name for t in added}) == len(added)
