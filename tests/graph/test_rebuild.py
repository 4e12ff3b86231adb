"""Rewriting a model op by op: what is kept stays what it was, what is replaced is gone."""

from __future__ import annotations

import numpy as np
import pytest

from harness.graph.build import GraphBuilder
from harness.graph.inputs import random_inputs
from harness.graph.model import Model
from harness.graph.rebuild import CannotRewrite, Rebuild
from tests.arrays import Evaluate


def chain() -> Model:
    graph = GraphBuilder()
    x = graph.input("x", (2, 8))
    middle = graph.unary("TANH", graph.fully_connected(x, np.eye(8, dtype=np.float32)))
    graph.output(middle, "middle")
    graph.output(graph.binary("ADD", middle, x), "sum")
    return graph.build()


def names(model: Model) -> list[str]:
    return [op.name for op in model.graph().ops]


def test_a_model_whose_ops_are_all_kept_computes_the_same_under_the_same_ports(
    rich_model: Model, evaluate: Evaluate
) -> None:
    for model in (chain(), rich_model):
        rebuild = Rebuild(model)
        for op in rebuild.graph.ops:
            rebuild.keep(op)
        again = rebuild.finish()
        before, after = model.graph(), again.graph()
        assert [p.name for p in after.inputs] == [p.name for p in before.inputs]
        assert [p.name for p in after.outputs] == [p.name for p in before.outputs]
        assert names(again) == names(model)
        assert len(again.root.subgraphs) == len(model.root.subgraphs)
    inputs = random_inputs(chain().graph(), 0)
    rebuilt, original = evaluate(rebuild_all(chain()), inputs), evaluate(chain(), inputs)
    assert all(np.array_equal(rebuilt[name], original[name]) for name in original)


@pytest.mark.parametrize(("given", "kept"), [("", "serving_default"), ("decode", "decode")])
def test_a_signature_keeps_its_name_and_a_file_without_one_gets_one(given: str, kept: str) -> None:
    graph = GraphBuilder()
    graph.output(graph.unary("RELU", graph.input("x", (4,))), "y")
    rebuilt = rebuild_all(graph.build(given))
    assert [signature.signatureKey for signature in rebuilt.root.signatureDefs] == [kept.encode()]


def rebuild_all(model: Model) -> Model:
    rebuild = Rebuild(model)
    for op in rebuild.graph.ops:
        rebuild.keep(op)
    return rebuild.finish()


def test_what_stands_for_a_tensor_reaches_its_readers_and_the_output_and_the_old_op_is_gone(evaluate: Evaluate) -> None:
    rebuild = Rebuild(chain())
    for op in rebuild.graph.ops:
        if op.name == "TANH":
            rebuild.replace(op.outputs[0], rebuild.unary("LOGISTIC", op.inputs[0]))
        else:
            rebuild.keep(op)
    model = rebuild.finish()
    assert names(model) == ["FULLY_CONNECTED", "LOGISTIC", "ADD"]
    inputs = random_inputs(model.graph(), 0)
    outputs = evaluate(model, inputs)
    np.testing.assert_allclose(outputs["middle"], 1 / (1 + np.exp(-inputs["x"])), rtol=1e-5)
    np.testing.assert_allclose(outputs["sum"], outputs["middle"] + inputs["x"], rtol=1e-6)


def test_a_replacement_of_a_replacement_reads_what_was_there_when_it_was_made(evaluate: Evaluate) -> None:
    rebuild = Rebuild(chain())
    for op in rebuild.graph.ops:
        rebuild.keep(op)
        if op.name == "TANH":
            t = op.outputs[0]
            twice = rebuild.binary("ADD", t, t)
            rebuild.replace(t, twice)
            rebuild.replace(twice, rebuild.binary("MUL", twice, rebuild.constant([0.5])))
    inputs = random_inputs(chain().graph(), 0)
    outputs, right = evaluate(rebuild.finish(), inputs), evaluate(chain(), inputs)
    assert all(np.array_equal(outputs[name], right[name]) for name in right)


def test_what_is_given_out_can_differ_from_what_is_read(evaluate: Evaluate) -> None:
    rebuild = Rebuild(chain())
    for op in rebuild.graph.ops:
        rebuild.keep(op)
        if op.name == "TANH":
            rebuild.give_out(op.outputs[0], rebuild.unary("NEG", op.outputs[0]))
    inputs = random_inputs(chain().graph(), 0)
    outputs, right = evaluate(rebuild.finish(), inputs), evaluate(chain(), inputs)
    np.testing.assert_array_equal(outputs["middle"], -right["middle"])
    np.testing.assert_array_equal(outputs["sum"], right["sum"])


def test_a_result_of_another_shape_cannot_stand_for_a_tensor() -> None:
    rebuild = Rebuild(chain())
    with pytest.raises(CannotRewrite, match=r"\(8, 2\)"):
        rebuild.replace(rebuild.graph.inputs[0].tensor, rebuild.transpose(rebuild.graph.inputs[0].tensor, (1, 0)))


def test_constants_that_nothing_reads_any_more_leave_the_file() -> None:
    rebuild = Rebuild(chain())
    for op in rebuild.graph.ops:
        if op.name == "FULLY_CONNECTED":
            rebuild.replace(op.outputs[0], op.inputs[0])
        else:
            rebuild.keep(op)
    assert rebuild.finish().weights_bytes == 0


def test_float16_weights_behind_dequantize_are_known_values() -> None:
    graph = GraphBuilder()
    half = graph.dequantize(np.asarray([0.1, 2.0], np.float32))
    graph.output(graph.binary("MUL", graph.input("x", (2,)), half), "y")
    rebuild = Rebuild(graph.build())
    values = rebuild.values(rebuild.graph.ops[1].inputs[1])
    assert values is not None
    np.testing.assert_array_equal(values, np.asarray([0.1, 2.0], np.float16).astype(np.float32))
