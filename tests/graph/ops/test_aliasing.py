"""The reference is right where the CPU interpreter by itself overwrites what it still needs."""

from __future__ import annotations

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from harness.core.arrays import Array
from harness.devices.execute import completed, make_job
from harness.devices.registry import open_device
from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from harness.graph.ops.aliasing import at_risk, with_memory_of_their_own
from harness.localize.base.case import REFERENCE

X = np.linspace(-1.0, 1.0, 128, dtype=np.float32).reshape(8, 16)
RIGHT = ((np.maximum(X, 0) + 0.5) + 5.0) * (np.maximum(X, 0) + 0.5)


def residual() -> Model:
    """q = relu(x) + 0.5; y = (reshape(q) + 5)·q: the second ADD could write over q."""
    graph = GraphBuilder()
    q = graph.binary("ADD", graph.unary("RELU", graph.input("x", (8, 16))), graph.constant([0.5]))
    shifted = graph.binary("ADD", graph.reshape(q, (1, 1, 8, 16)), graph.constant(np.full((1, 1, 8, 16), 5.0)))
    graph.output(graph.binary("MUL", graph.reshape(shifted, (8, 16)), q), "y")
    return graph.build()


def interpreted(model: Model) -> Array:
    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(model_content=model.to_bytes(), experimental_op_resolver_type=plain)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], X)
    interpreter.invoke()
    values: Array = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    return values


def test_a_reshape_of_a_tensor_that_is_read_again_is_at_risk_and_others_are_not() -> None:
    model = residual()
    graph = model.graph()
    assert [graph.ops[graph.producer[t]].index for t in at_risk(graph)] == [2]


def test_with_memory_of_its_own_the_interpreter_overwrites_nothing() -> None:
    """Where a release no longer overwrites, the rewrite is not needed, and this says so."""
    assert np.abs(interpreted(residual()) - RIGHT).max() > 1, "this release is right by itself: see graph/aliasing.py"
    safe = with_memory_of_their_own(residual())
    assert next(port.name for port in safe.graph().outputs) == "y"
    np.testing.assert_allclose(interpreted(safe), RIGHT, rtol=1e-6)


def test_the_reference_gives_the_right_values() -> None:
    job = make_job(residual(), {"x": X}, REFERENCE, timeout=60)
    with open_device("host") as host:
        outputs = completed(host, job, "running the reference").outputs
    assert list(outputs) == ["y"]
    np.testing.assert_allclose(outputs["y"], RIGHT, rtol=1e-6)


def test_a_model_without_such_a_tensor_is_left_as_it_is() -> None:
    graph = GraphBuilder()
    graph.output(graph.reshape(graph.unary("RELU", graph.input("x", (8, 16))), (16, 8)), "y")
    model = graph.build()
    assert with_memory_of_their_own(model) is model
