"""Which ops of a quantized graph are computed in real numbers, which tensors are converted, and how often."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from harness.core.arrays import Array
from harness.graph.model import Model
from harness.graph.ops.real import grids, real_inputs, real_outputs, rounded_inside, with_real_values
from tests.arrays import Evaluate, f32, i32
from tests.quantized import QuantizedBuilder

SATURATED = ["MAXIMUM", "MINIMUM"]


def kinds(model: Model) -> list[str]:
    return [op.name for op in model.graph().ops]


def i8(values: list[int]) -> Array:
    return np.asarray(values, np.int8)


def test_an_integer_result_that_is_no_quantized_one_stays_one(evaluate: Evaluate) -> None:
    graph = QuantizedBuilder()
    x = graph.quantized_input("x", (1, 4), 0.5, 3)
    feeds = [x, graph.constant(i32([1]))]
    options = schema.ArgMaxOptionsT()
    options.outputType = schema.TensorType.INT64
    graph.output(graph.op("ARG_MAX", feeds, (1,), options, dtype=np.int64), "y")
    model = graph.build()
    real = with_real_values(model)
    assert kinds(real) == ["ARG_MAX"]
    assert evaluate(real, {"x": f32([[0, 5, -1, 2]])})["y"].tolist() == [1]


def test_a_conversion_from_grid_to_grid_stops_at_the_ends_of_the_one_that_it_makes(evaluate: Evaluate) -> None:
    graph = QuantizedBuilder()
    x = graph.quantized_input("x", (1, 3), 1.0)
    made = graph.op("QUANTIZE", [x], (1, 3), schema.QuantizeOptionsT(), dtype=np.int8)
    graph.output(graph.on_grid(made, 0.25, -28), "y")
    real = with_real_values(graph.build())
    assert kinds(real) == SATURATED
    # 0.25 (-128 + 28) and 0.25 (127 + 28)
    assert evaluate(real, {"x": f32([[-100, 1.3, 100]])})["y"].tolist() == [[-25.0, f32(1.3), 38.75]]


def test_an_op_on_floats_is_none_of_the_grids_business(evaluate: Evaluate) -> None:
    graph = QuantizedBuilder()
    positive = graph.unary("RELU", graph.input("x", (1, 3)))
    made = graph.op("QUANTIZE", [positive], (1, 3), schema.QuantizeOptionsT(), dtype=np.int8)
    graph.output(graph.on_grid(made, 0.5), "y")
    real = with_real_values(graph.build())
    assert kinds(real) == ["RELU", *SATURATED]
    assert evaluate(real, {"x": f32([[-1, 0.3, 99]])})["y"].tolist() == [[0.0, f32(0.3), 63.5]]


def test_a_tensor_that_an_integer_op_reads_twice_is_quantized_once() -> None:
    graph = QuantizedBuilder()
    x = graph.quantized_input("x", (4,), 0.5)
    made = graph.op("SCATTER_ND", [x, x, graph.constant(i32([4]))], (4,), schema.ScatterNdOptionsT(), dtype=np.int8)
    graph.output(graph.on_grid(made, 0.5), "y")
    real = with_real_values(graph.build())
    assert kinds(real) == ["QUANTIZE", "SCATTER_ND", "DEQUANTIZE"]
    before, op, after = real.graph().ops
    assert (op.inputs[0], op.inputs[1]) == (before.outputs[0], before.outputs[0])
    assert (before.inputs, after.inputs, after.outputs) == ((x,), op.outputs, (made,))
    held = [real.graph().tensors[t] for t in (op.inputs[0], op.outputs[0])]
    assert [t.type for t in held] == ["INT8"] * 2
    assert [t.grid.step for t in held if t.grid] == [0.5] * 2
    assert held[0].name != held[1].name


def shared(same: bool) -> Model:
    """Two sums of an input and a constant of three elements, either one constant or one each."""
    graph = QuantizedBuilder()
    x = graph.quantized_input("x", (3,), 0.5)
    held = [graph.on_grid(graph.constant(i8([1, 2, 3])), 0.5) for _ in range(1 if same else 2)]
    for i in (0, 1):
        graph.output(graph.sum_of(x, held[i % len(held)], (1.0, 0)), f"y{i}")
    return graph.build()


@pytest.mark.parametrize(
    ("same", "most", "computed"), [(True, 12, 2), (True, 11, 0), (False, 24, 2), (False, 23, 1), (False, 12, 1)]
)
def test_a_constant_counts_once_towards_the_most_bytes(
    same: bool, most: int, computed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three elements of four bytes."""
    monkeypatch.setattr("harness.graph.ops.real.MOST_BYTES", most)
    names = kinds(with_real_values(shared(same)))
    assert names == ["ADD", *SATURATED] * computed + ["QUANTIZE", "ADD", "DEQUANTIZE"] * (2 - computed)


def test_a_constant_that_two_ops_read_is_made_once(evaluate: Evaluate) -> None:
    real = with_real_values(shared(True))
    first, second = (op for op in real.graph().ops if op.name == "ADD")
    assert first.inputs[1] == second.inputs[1]
    values = real.constant(first.inputs[1])
    assert values is not None
    assert values.tolist() == [0.5, 1.0, 1.5]
    found = evaluate(real, {"x": f32([1, 2, 300])})
    assert [found[name].tolist() for name in ("y0", "y1")] == [[1.5, 3.0, 127.0]] * 2


def test_a_constant_on_a_grid_is_no_tensor_that_an_op_makes() -> None:
    graph = QuantizedBuilder()
    x = graph.quantized_input("x", (3,), 0.5, 7)
    held = graph.on_grid(graph.constant(i8([1, 2, 3])), 0.25)
    made = graph.sum_of(x, held, (1.0, -1))
    graph.output(made, "y")
    found = grids(graph.build().graph())
    assert {t: (grid.step, grid.zero) for t, grid in found.items()} == {x: (0.5, 7), made: (1.0, -1)}
    assert list(found) == sorted(found)


def test_ports_without_a_grid_and_names_that_are_no_ports_keep_their_values() -> None:
    graph = QuantizedBuilder()
    x, plain = graph.quantized_input("x", (2,), 0.5, 1), graph.input("n", (2,), np.int32)
    graph.output(graph.sum_of(x, x, (2.0, -3)), "y")
    graph.output(graph.binary("ADD", plain, plain), "m")
    model = graph.build()
    codes, numbers = i8([1, 5]), i32([1, 5])
    given = real_inputs(model, {"x": codes, "n": numbers, "y": codes})
    assert {name: x.tolist() for name, x in given.items()} == {"x": [0.0, 2.0], "n": [1, 5], "y": [1, 5]}
    got = real_outputs(model, {"y": codes, "m": numbers, "x": codes})
    assert {name: x.tolist() for name, x in got.items()} == {"y": [8.0, 16.0], "m": [1, 5], "x": [1, 5]}


def test_an_input_on_a_grid_is_given_and_not_rounded_on_the_way() -> None:
    graph = QuantizedBuilder()
    x = graph.quantized_input("x", (1, 3), 1.0)
    held = graph.op("DEQUANTIZE", [x], (1, 3), schema.DequantizeOptionsT(), dtype=np.float32)
    graph.output(held, "plain")
    made = graph.op("QUANTIZE", [held], (1, 3), schema.QuantizeOptionsT(), dtype=np.int8)
    graph.on_grid(made, 0.5)
    graph.output(graph.op("DEQUANTIZE", [made], (1, 3), schema.DequantizeOptionsT(), dtype=np.float32), "behind")
    assert rounded_inside(graph.build().graph()) == {"behind"}
