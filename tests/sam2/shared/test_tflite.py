from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from harness.sam2.shared.modules import tflite


def adds(*constants: NDArray[np.float32]) -> Any:
    """y = x + c0 + c1 + ..., one ADD per constant; x and y are [n], with the names a converter would give."""
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.subgraphs, model.buffers = 3, [graph], [schema.BufferT()]
    graph.tensors, graph.operators = [], []
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.ADD
    code.version = 1
    model.operatorCodes = [code]

    def tensor(name: str, shape: tuple[int, ...], content: NDArray[np.float32] | None = None) -> int:
        made = schema.TensorT()
        made.name, made.shape, made.type = name, np.array(shape, np.int32), schema.TensorType.FLOAT32
        if content is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(content.tobytes(), np.uint8)
            model.buffers.append(buffer)
            made.buffer = len(model.buffers) - 1
        graph.tensors.append(made)
        return len(graph.tensors) - 1

    size = constants[0].shape
    last = first = tensor("args_0", size)
    for number, constant in enumerate(constants):
        op = schema.OperatorT()
        op.inputs = np.array([last, tensor(f"c{number}", constant.shape, constant)], np.int32)
        last = tensor(f"sum{number}", size)
        op.outputs = np.array([last], np.int32)
        op.builtinOptionsType, op.builtinOptions = schema.BuiltinOptions.AddOptions, schema.AddOptionsT()
        graph.operators.append(op)
    graph.inputs, graph.outputs = np.array([first], np.int32), np.array([last], np.int32)
    signature = schema.SignatureDefT()
    signature.signatureKey = "serving_default"
    for side, index in (("inputs", first), ("outputs", last)):
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = f"old_{side}", index
        setattr(signature, side, [entry])
    model.signatureDefs = [signature]
    return model


def run(content: bytes, x: NDArray[np.float32]) -> NDArray[np.float32]:
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    result: NDArray[np.float32] = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    return result


def values(*numbers: float) -> NDArray[np.float32]:
    return np.array(numbers, np.float32)


def test_names_are_given_to_tensors_and_signature_alike() -> None:
    model = adds(values(1, 2))
    tflite.rename(model, ["x"], ["y"])
    interpreter = Interpreter(model_content=tflite.write(model))
    assert interpreter.get_signature_list() == {"serving_default": {"inputs": ["x"], "outputs": ["y"]}}
    assert [detail["name"] for detail in interpreter.get_input_details()] == ["x"]
    assert [detail["name"] for detail in interpreter.get_output_details()] == ["y"]


def test_a_wrong_number_of_names_is_refused() -> None:
    with pytest.raises(ValueError, match="2 names for 1 inputs"):
        tflite.rename(adds(values(1, 2)), ["x", "z"], ["y"])


def test_a_model_without_its_one_signature_is_refused() -> None:
    model = adds(values(1, 2))
    model.signatureDefs = []
    with pytest.raises(ValueError, match="1 subgraphs and 0 signatures"):
        tflite.rename(model, ["x"], ["y"])


def test_halved_weights_are_rounded_to_fp16_and_computed_with_in_float32() -> None:
    third = values(1 / 3, 2 / 3)
    model = adds(third)
    assert tflite.halve_weights(model) == 1
    x = values(1e-6, 0)
    np.testing.assert_array_equal(run(tflite.write(model), x), x + third.astype(np.float16).astype(np.float32))


def test_halved_weights_take_half_the_room() -> None:
    weights = np.linspace(-1, 1, 10000, dtype=np.float32)
    plain, halved = adds(weights), adds(weights)
    tflite.halve_weights(halved)
    saved = len(tflite.write(plain)) - len(tflite.write(halved))
    assert 19000 < saved <= 20000


def test_a_constant_beyond_fp16_and_a_scalar_stay_as_they_are() -> None:
    large, scalar = values(70000, 1 / 3), values(1 / 3)
    model = adds(large, scalar)
    assert tflite.halve_weights(model) == 0
    assert len(model.subgraphs[0].operators) == 2
    np.testing.assert_array_equal(run(tflite.write(model), values(0, 0)), large + scalar)


def test_tensors_that_share_a_buffer_share_its_half() -> None:
    third = values(1 / 3, 2 / 3)
    model = adds(third, third)
    first, second = model.subgraphs[0].operators[0].inputs[1], model.subgraphs[0].operators[1].inputs[1]
    model.subgraphs[0].tensors[second].buffer = model.subgraphs[0].tensors[first].buffer
    assert tflite.halve_weights(model) == 1
    half = third.astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(run(tflite.write(model), values(0, 0)), half + half)
