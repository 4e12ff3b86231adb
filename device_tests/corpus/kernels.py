"""Kernels that compute something else, whatever feeds them."""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from device_tests.corpus.bug import EVERY, Bug
from device_tests.corpus.ops import VALID, draw, ints, options, pooled
from harness.graph.build import GraphBuilder
from harness.graph.model import Model


def softmax_mask() -> Model:
    """-1e9 on the first four of 64 logits: in float16 that is -infinity, and the kernel takes it from itself: NaN."""
    graph = GraphBuilder()
    mask = np.zeros((1, 1, 64), np.float32)
    mask[..., :4] = -1e9
    graph.output(graph.softmax(graph.binary("ADD", graph.input("x", (4, 16, 64)), graph.constant(mask))), "y")
    return graph.build()


def max_pool_low() -> Model:
    """The maximum of values near -20000, which the kernel starts at -10000."""
    graph = GraphBuilder()
    low = graph.binary("MUL", graph.input("x", (1, 8, 8, 8)), graph.constant([500.0]))
    graph.output(pooled(graph, "MAX_POOL_2D", graph.binary("SUB", low, graph.constant([20000.0]))), "y")
    return graph.build()


def reverse_channels() -> Model:
    """REVERSE_V2 of five channels: only multiples of four are turned round."""
    graph = GraphBuilder()
    feeds = [graph.input("x", (1, 4, 6, 5)), graph.constant(ints(3))]
    graph.output(graph.op("REVERSE_V2", feeds, (1, 4, 6, 5), options("ReverseV2")), "y")
    return graph.build()


def space_to_depth_batch() -> Model:
    """SPACE_TO_DEPTH of a batch of two: the shader does not compile, and nothing is written."""
    graph = GraphBuilder()
    x = graph.input("x", (2, 4, 6, 8))
    graph.output(graph.op("SPACE_TO_DEPTH", [x], (2, 2, 3, 32), options("SpaceToDepth", blockSize=2)), "y")
    return graph.build()


def depth_to_space_batch() -> Model:
    """DEPTH_TO_SPACE of a batch of two: as SPACE_TO_DEPTH."""
    graph = GraphBuilder()
    x = graph.input("x", (2, 2, 3, 32))
    graph.output(graph.op("DEPTH_TO_SPACE", [x], (2, 4, 6, 8), options("DepthToSpace", blockSize=2)), "y")
    return graph.build()


def power_of_negative() -> Model:
    """x to the fourth, x of either sign: NaN where it is negative, as WGSL's pow has it."""
    graph = GraphBuilder()
    feeds = [graph.input("x", (1, 4, 4, 16)), graph.constant([4.0])]
    graph.output(graph.op("POW", feeds, (1, 4, 4, 16), options("Pow")), "y")
    return graph.build()


def leaky_relu_steep() -> Model:
    """LEAKY_RELU with slope 1.5: the maximum of x and 1.5 x is taken."""
    graph = GraphBuilder()
    graph.output(graph.unary("LEAKY_RELU", graph.input("x", (1, 4, 4, 16)), options("LeakyRelu", alpha=1.5)), "y")
    return graph.build()


def strided_pointwise_int8() -> Model:
    """CONV_2D with a 1x1 kernel of int8 weights and stride 2: the corner of the result of stride 1 is given."""
    graph = GraphBuilder()
    x = graph.input("x", (1, 16, 16, 16))
    weights = np.clip(np.round(40 * draw(32, 1, 1, 16)), -127, 127).astype(np.int8)
    feeds = [x, graph.constant(weights, "weights"), graph.constant(draw(32, seed=5))]
    table = options("Conv2D", padding=VALID, strideH=2, strideW=2, dilationHFactor=1, dilationWFactor=1)
    graph.output(graph.op("CONV_2D", feeds, (1, 8, 8, 32), table), "y")
    model = graph.build()
    scales = schema.QuantizationParametersT()
    scales.scale, scales.zeroPoint = np.full(32, 1 / 40, np.float32), np.zeros(32, np.int64)
    model.root.subgraphs[0].tensors[feeds[1]].quantization = scales
    return Model.from_bytes(Model(model.root).to_bytes())


KERNELS = (
    Bug("softmax_mask", softmax_mask, ((1, "SOFTMAX", "overflow"),), EVERY),
    Bug("max_pool_low", max_pool_low, ((2, "MAX_POOL_2D", "kernel"),), EVERY),
    Bug("reverse_channels", reverse_channels, ((0, "REVERSE_V2", "kernel"),), EVERY),
    Bug("space_to_depth_batch", space_to_depth_batch, ((0, "SPACE_TO_DEPTH", "kernel"),), EVERY, unwritten=True),
    Bug("depth_to_space_batch", depth_to_space_batch, ((0, "DEPTH_TO_SPACE", "kernel"),), EVERY, unwritten=True),
    Bug(
        "power_of_negative",
        power_of_negative,
        ((0, "POW", "kernel"),),
        EVERY,
        pending=dict.fromkeys(EVERY, "cause overflow"),
    ),
    Bug("leaky_relu_steep", leaky_relu_steep, ((0, "LEAKY_RELU", "kernel"),), EVERY),
    Bug("strided_pointwise_int8", strided_pointwise_int8, ((0, "CONV_2D", "kernel"),), EVERY),
)
