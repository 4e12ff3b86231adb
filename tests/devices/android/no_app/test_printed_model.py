"""A model made ready for a tool that prints whole numbers: the same bits come out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from harness.devices.android.no_app.model import PrintedOutput, Unprintable, tool_model
from harness.devices.android.no_app.words import MARK
from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from tests.standin.scenes import crossed_signature, halves_behind_an_op, mixed_types, small_network


def printed(data: bytes, inputs: dict[str, Any]) -> list[list[int]]:
    """The values of each output as the tool prints them."""
    interpreter = Interpreter(model_content=data)
    runner = interpreter.get_signature_runner()
    found = runner(**inputs)
    return [
        found[name].reshape(-1).view(np.uint8 if found[name].itemsize == 1 else np.int32).tolist()
        for name in sorted(found)
    ]


def test_every_type_comes_through_bit_by_bit() -> None:
    model, inputs, expected = mixed_types()
    made = tool_model(model)
    named = {tool: inputs[name] for name, _, tool in made.inputs}
    values = printed(made.data, named)
    for output, numbers, (name, exact) in zip(made.outputs, values, expected.items(), strict=True):
        assert len(numbers) == output.count
        assert output.decoded(numbers).tobytes() == exact.tobytes(), name
        assert output.decoded(numbers).dtype == exact.dtype


def test_ops_are_added_only_where_the_tool_would_round() -> None:
    made = tool_model(mixed_types()[0])
    assert made.added == 2 * 2  # float32 and int64; int32, int8 and bool are printed as they are
    graph = Model.from_bytes(made.data).graph()
    added = graph.ops[-4:]
    assert [op.name for op in added] == ["RESHAPE", "BITCAST"] * 2
    assert all(graph.tensors[t].name.startswith(MARK) for op in added for t in op.outputs)
    assert all(len(graph.tensors[t].shape or ()) >= 6 for op in added for t in op.outputs)


def test_what_computes_the_model_is_not_touched() -> None:
    model = small_network()
    before = [(op.name, op.inputs, op.outputs) for op in model.graph().ops]
    after = Model.from_bytes(tool_model(model).data).graph()
    assert [(op.name, op.inputs, op.outputs) for op in after.ops][: len(before)] == before


def test_float16_weights_are_expanded_before_anything_else_and_values_stay_the_same() -> None:
    model, inputs = halves_behind_an_op()
    assert [op.name for op in model.graph().ops] == ["NEG", "DEQUANTIZE", "MUL", "DEQUANTIZE", "ADD"]
    made = tool_model(model)
    after = Model.from_bytes(made.data).graph()
    assert [op.name for op in after.ops][:5] == ["DEQUANTIZE", "DEQUANTIZE", "NEG", "MUL", "ADD"]
    (values,) = printed(made.data, {"in_0000": inputs["x"]})
    assert made.outputs[0].decoded(values).tolist() == [[-0.5, -3.5]]


def test_inputs_and_outputs_are_in_the_runtimes_order_by_plain_names() -> None:
    made = tool_model(crossed_signature())
    assert [(name, tool) for name, _, tool in made.inputs] == [("a", "in_0000"), ("b", "in_0001")]
    graph = Model.from_bytes(made.data).graph()
    assert [port.name for port in graph.inputs] == ["in_0000", "in_0001"]
    assert [port.name for port in graph.outputs] == [f"{MARK}_0000", f"{MARK}_0001"]


def test_an_input_that_is_an_output_and_one_output_twice_are_copies() -> None:
    graph = GraphBuilder()
    x = graph.input("x", (2,), np.int32)
    graph.output(x, "same")
    model = graph.build()
    made = tool_model(model)
    assert made.added == 2
    assert printed(made.data, {"in_0000": np.asarray([3, -4], np.int32)}) == [[3, -4]]


def test_an_output_without_a_size_is_refused() -> None:
    model = small_network()
    sub = model.root.subgraphs[0]
    sub.tensors[int(sub.outputs[0])].shapeSignature = np.asarray([-1, 16], np.int32)
    with pytest.raises(Unprintable, match=r"^output 'fully_connected_2' has type FLOAT32 and shape dynamic$"):
        tool_model(model)


class TestDecoding:
    @pytest.mark.parametrize(
        ("dtype", "numbers", "exact"),
        [
            (np.float32, [0x7FC00001, -(1 << 31)], np.asarray([0x7FC00001, 1 << 31], np.uint32).view(np.float32)),
            (np.float16, [0x00, 0x3C, 0x01, 0x80], np.asarray([0x3C00, 0x8001], np.uint16).view(np.float16)),
            (np.int64, [1, 0, -1, -1], np.asarray([1, -1], np.int64)),
            (np.int8, [255, 128], np.asarray([-1, -128], np.int8)),
            (np.bool_, [1, 0], np.asarray([True, False])),
        ],
    )
    def test_gives_the_bits(self, dtype: Any, numbers: list[int], exact: Any) -> None:
        found = PrintedOutput(np.dtype(dtype), (2,), len(numbers)).decoded(numbers)
        assert found.tobytes() == exact.tobytes() and found.dtype == exact.dtype

    def test_of_another_number_of_values_is_no_array_of_that_shape(self) -> None:
        output = PrintedOutput(np.dtype(np.int64), (2,), 4)
        assert output.decoded([1, 0, 5]).tolist() == [1]
        assert output.decoded([1, 0, 2, 0, 3, 0]).shape == (3,)

    @pytest.mark.parametrize(("dtype", "value"), [(np.float32, 1 << 31), (np.int8, -1), (np.float16, 256)])
    def test_of_a_number_beyond_the_type_fails(self, dtype: Any, value: int) -> None:
        with pytest.raises(ValueError, match="a value is beyond"):
            PrintedOutput(np.dtype(dtype), (1,), 1).decoded([value])
