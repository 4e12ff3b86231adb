"""The parts that an op is computed in: what each reads, and that the whole is the op's own result."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from harness.graph.build import GraphBuilder
from harness.graph.inputs import random_inputs
from harness.graph.model import Model
from harness.graph.rebuild import Rebuild
from harness.remedies.piecewise import (
    convolved_by_group,
    gathered_backwards,
    image_by_image,
    largest_of_fours,
    plain,
    repeated_before,
    sliced_from_whole,
)
from tests.arrays import Evaluate, f32, i32
from tests.remedies.small import Build, of, one_op, quarters, table, weights
from tests.remedies.test_piecewise import Rewrite, grown

SAME, VALID = schema.Padding.SAME, schema.Padding.VALID
NONE, RELU6 = schema.ActivationFunctionType.NONE, schema.ActivationFunctionType.RELU6
ONCE = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}


def replaced(model: Model, rewrite: Rewrite) -> Model:
    rebuild = Rebuild(model)
    (op,) = rebuild.graph.ops
    rebuild.replace(op.outputs[0], rewrite(rebuild, op))
    return rebuild.finish()


def grouped(bias: str) -> Build:
    """Three groups of two channels in and two out, through kernels of 3 x 2."""

    def build(graph: GraphBuilder) -> int:
        feeds = [graph.input("x", (2, 5, 4, 6)), graph.constant(weights(6, 3, 2, 2))]
        feeds += {"given": [graph.constant(weights(6))], "absent": [-1], "none": []}[bias]
        return graph.op("CONV_2D", feeds, (2, 3, 3, 6), table("Conv2D", padding=VALID, **ONCE))

    return build


def multiplied(graph: GraphBuilder) -> int:
    options = table("DepthwiseConv2D", padding=SAME, depthMultiplier=3, **ONCE)
    feeds = [graph.input("x", (1, 4, 5, 2)), graph.constant(weights(1, 3, 3, 6)), graph.constant(weights(6))]
    return graph.op("DEPTHWISE_CONV_2D", feeds, (1, 4, 5, 6), options)


def turned(*axes: int) -> Build:
    return of("REVERSE_V2", table("ReverseV2"), (2, 3, 5), (2, 3, 5), i32(axes))


IMAGES = of("SPACE_TO_DEPTH", table("SpaceToDepth", blockSize=2), (3, 2, 4, 3), (3, 1, 2, 12))


@pytest.mark.parametrize(
    ("build", "rewrite", "kinds"),
    [
        (multiplied, repeated_before, {"GATHER": 1, "DEPTHWISE_CONV_2D": 1}),
        (IMAGES, image_by_image, {"SPACE_TO_DEPTH": 3, "CONCATENATION": 1}),
        (turned(1), gathered_backwards, {"GATHER": 1}),
        (turned(-1), gathered_backwards, {"GATHER": 1}),
        (turned(0, -2), gathered_backwards, {"GATHER": 2}),
        (grown(SAME, 2, 1, 4), sliced_from_whole, {"TRANSPOSE_CONV": 1}),
        (grown(SAME, 3, 1, 4), sliced_from_whole, {"TRANSPOSE_CONV": 1}),
        (grown(SAME, 3, 2, 8), sliced_from_whole, {"TRANSPOSE_CONV": 1}),
        (grown(SAME, 4, 1, 4), sliced_from_whole, {"TRANSPOSE_CONV": 1}),
        (grown(SAME, 5, 2, 8), sliced_from_whole, {"TRANSPOSE_CONV": 1}),
    ],
)
def test_the_parts_make_the_whole(build: Build, rewrite: Rewrite, kinds: dict[str, int], evaluate: Evaluate) -> None:
    model = one_op(build)
    made = replaced(model, rewrite)
    names = [op.name for op in made.graph().ops]
    assert {kind: names.count(kind) for kind in kinds} == kinds
    inputs = {name: quarters(x) for name, x in random_inputs(model.graph(), 0).items()}
    np.testing.assert_array_equal(evaluate(made, inputs)["y"], evaluate(model, inputs)["y"])


@pytest.mark.parametrize(("bias", "operands"), [("given", 3), ("absent", 2), ("none", 2)])
def test_a_group_has_a_bias_where_the_op_has_one(bias: str, operands: int) -> None:
    made = replaced(one_op(grouped(bias)), convolved_by_group).graph()
    assert [len(op.inputs) for op in made.ops if op.name == "CONV_2D"] == [operands] * 3


def test_each_group_has_its_own_channels_kernels_and_bias(evaluate: Evaluate) -> None:
    model = one_op(grouped("given"))
    op = model.graph().ops[0]
    made = replaced(model, convolved_by_group)
    assert [o.name for o in made.graph().ops].count("CONV_2D") == 3
    x = quarters(random_inputs(model.graph(), 0)["x"])
    kernel, offsets = model.constant(op.inputs[1]), model.constant(op.inputs[2])
    assert kernel is not None
    assert offsets is not None
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 2), axis=(1, 2))  # n, y, x, channel, kernel y, kernel x
    right = np.concatenate(
        [np.einsum("nyxcij,oijc->nyxo", windows[:, :, :, g : g + 2], kernel[g : g + 2]) for g in (0, 2, 4)], axis=3
    )
    np.testing.assert_array_equal(evaluate(made, {"x": x})["y"], right + offsets)


@pytest.mark.parametrize("last", [5, 6, 7, 9])
def test_the_smallest_value_fills_a_row_up_to_a_multiple_of_four(last: int, evaluate: Evaluate) -> None:
    """Also where all values are alike, so that what was filled in has equals in front of it."""
    for row in (np.arange(last), np.zeros(last)):
        values = f32([row, -row])
        graph = GraphBuilder()
        k = graph.constant(i32(last))
        x = graph.input("x", (2, last))
        largest = graph.op("TOPK_V2", [x, k], (2, last), table("TopKV2"), dtype=np.float32)
        places = graph.tensor("places", (2, last), np.int32)
        graph._ops[-1].outputs = i32([largest, places])
        graph.output(largest, "y")
        graph.output(places, "places")
        model = graph.build()
        rebuild = Rebuild(model)
        (op,) = rebuild.graph.ops
        assert largest_of_fours(rebuild, op) == op.outputs[0]
        made = rebuild.finish()
        (top,) = [o for o in made.graph().ops if o.name == "TOPK_V2"]
        assert made.graph().tensors[top.inputs[0]].shape == (2, 8 if last < 9 else 12)
        found = evaluate(made, {"x": values})
        assert found["y"].tolist() == np.sort(values)[:, ::-1].tolist()
        assert found["places"].tolist() == np.argsort(-values, axis=1, kind="stable").tolist()


def test_a_plain_op_has_no_activation_and_the_first_one_keeps_its_own() -> None:
    options = table("Conv2D", padding=VALID, fusedActivationFunction=RELU6, **ONCE)
    rebuild = Rebuild(one_op(of("CONV_2D", options, (1, 2, 2, 2), (1, 2, 2, 3), weights(3, 1, 1, 2), weights(3))))
    (op,) = rebuild.graph.ops
    assert plain(rebuild, op).fusedActivationFunction == NONE
    assert rebuild.options(op).fusedActivationFunction == RELU6
    turning = Rebuild(one_op(turned(1)))
    assert not hasattr(plain(turning, turning.graph.ops[0]), "fusedActivationFunction")
