"""Ops whose attributes or operands the delegate's parser reads wrongly or not at all."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from device_tests.corpus.bug import EVERY, Bug
from device_tests.corpus.ops import RELU, convolved, draw, ints, options, transposed_convolution
from harness.graph.build import GraphBuilder
from harness.graph.model import Model


def matmul_broadcast() -> Model:
    """[4, 16, 32] @ [1, 32, 24]: the right side's only batch serves the first of the left; nothing checks it."""
    graph = GraphBuilder()
    x, y = graph.input("x", (4, 16, 32)), graph.input("y", (1, 32, 24))
    graph.output(graph.batch_matmul(x, y), "z")
    return graph.build()


def matmul_constant_transposed() -> Model:
    """x @ wᵀ for a constant w [32, 32] of rank 2: `adj_y` is not read."""
    graph = GraphBuilder()
    graph.output(graph.batch_matmul(graph.input("x", (16, 32)), graph.constant(draw(32, 32)), adj_y=True), "z")
    return graph.build()


def fully_connected_rank_4() -> Model:
    """[1, 4, 4, 8] through weights [16, 128], which flattens it: the GPU sums over the last 8 only."""
    graph = GraphBuilder()
    feeds = [graph.input("x", (1, 4, 4, 8)), graph.constant(draw(16, 128)), -1]
    graph.output(graph.op("FULLY_CONNECTED", feeds, (1, 16), options("FullyConnected")), "y")
    return graph.build()


def fully_connected_runtime_weights() -> Model:
    """Weights computed at run time and a constant bias: the bias is dropped."""
    graph = GraphBuilder()
    x, weights = graph.input("x", (16, 32)), graph.input("w", (24, 32))
    bias = graph.constant(10 * draw(24))
    graph.output(graph.op("FULLY_CONNECTED", [x, weights, bias], (16, 24), options("FullyConnected")), "y")
    return graph.build()


def softmax_rank_1() -> Model:
    """A softmax over [64] is taken over a channel axis of one element: ones."""
    graph = GraphBuilder()
    graph.output(graph.softmax(graph.input("x", (64,))), "y")
    return graph.build()


def cumsum(shape: tuple[int, ...], axis: int, **fields: bool) -> Callable[[], Model]:
    """CUMSUM along one axis."""

    def build() -> Model:
        graph = GraphBuilder()
        feeds = [graph.input("x", shape), graph.constant(np.asarray(axis, np.int32))]
        graph.output(graph.op("CUMSUM", feeds, shape, options("Cumsum", **fields)), "y")
        return graph.build()

    return build


def select_by_row() -> Model:
    """A condition [16, 32] chooses among values [4, 16, 32]: it is laid along the batch, not along rows."""
    graph = GraphBuilder()
    mask = graph.input("mask", (16, 32), np.bool_)
    x, y = graph.input("x", (4, 16, 32)), graph.input("y", (4, 16, 32))
    graph.output(graph.op("SELECT_V2", [mask, x, y], (4, 16, 32), options("SelectV2"), dtype=np.float32), "z")
    return graph.build()


def grouped_convolution() -> Model:
    """Two groups of three channels: the groups' kernels are made without a height, a width or a depth."""
    graph = GraphBuilder()
    graph.output(convolved(graph, graph.input("x", (1, 8, 8, 6)), draw(6, 3, 3, 3)), "y")
    return graph.build()


def depthwise_pointwise() -> Model:
    """DEPTHWISE_CONV_2D with a 1x1 kernel and multiplier 2: the weights are copied untransposed."""
    graph = GraphBuilder()
    x = graph.input("x", (1, 8, 8, 8))
    graph.output(convolved(graph, x, draw(1, 1, 1, 16), depth_multiplier=2), "y")
    return graph.build()


def transpose_conv_same() -> Model:
    """TRANSPOSE_CONV, kernel 3, stride 2, SAME, of an odd size: the result is one pixel off."""
    graph = GraphBuilder()
    x = graph.input("x", (1, 7, 9, 4))
    graph.output(transposed_convolution(graph, x, draw(8, 3, 3, 4), stride=2), "y")
    return graph.build()


def transpose_conv_relu() -> Model:
    """TRANSPOSE_CONV with a fused RELU, which is not read; kernel 4, whose padding is right."""
    graph = GraphBuilder()
    x = graph.input("x", (1, 8, 8, 4))
    graph.output(transposed_convolution(graph, x, draw(8, 4, 4, 4), stride=2, activation=RELU), "y")
    return graph.build()


def update_slice_rank_3() -> Model:
    """DYNAMIC_UPDATE_SLICE of [16, 16, 16]: where to write is read right-aligned, what is written left-aligned."""
    graph = GraphBuilder()
    x, part = graph.input("x", (16, 16, 16)), graph.input("part", (2, 4, 4))
    start = graph.input("start", (3,), np.int32)
    graph.output(graph.op("DYNAMIC_UPDATE_SLICE", [x, part, start], (16, 16, 16), options("DynamicUpdateSlice")), "y")
    return graph.build()


def top_two() -> Model:
    """The two largest of 41 values and their places: the kernel wants a multiple of four channels, and runs anyway."""
    graph = GraphBuilder()
    feeds = [graph.input("x", (8, 41)), graph.constant(np.asarray(2, np.int32))]
    values = graph.op("TOPK_V2", feeds, (8, 2), options("TopKV2"))
    places = graph.tensor("places", (8, 2), np.int32)
    graph.output(values, "values")
    graph.output(places)
    model = graph.build()
    (topk,) = model.root.subgraphs[0].operators
    topk.outputs = ints(values, places)
    return Model.from_bytes(Model(model.root).to_bytes())


def rank3_mirror_pad() -> Model:
    """MIRROR_PAD of rows of a rank-3 tensor with a leading dimension over 1: padded along another axis, as PAD is."""
    graph = GraphBuilder()
    feeds = [graph.input("x", (4, 12, 16)), graph.constant(np.asarray([[0, 0], [3, 2], [0, 0]], np.int32))]
    graph.output(graph.op("MIRROR_PAD", feeds, (4, 17, 16), options("MirrorPad", mode=0)), "y")
    return graph.build()


def pad_batch_of_one() -> Model:
    """PAD of a batch of one in rank 4: the image is repeated where zeros are asked for."""
    graph = GraphBuilder()
    graph.output(graph.pad(graph.input("x", (1, 8, 8, 16)), ((0, 1), (0, 0), (0, 0), (0, 0))), "y")
    return graph.build()


def reverse_columns() -> Model:
    """REVERSE_V2 of six columns in rank 2, which lie along channels."""
    graph = GraphBuilder()
    feeds = [graph.input("x", (4, 6)), graph.constant(ints(1))]
    graph.output(graph.op("REVERSE_V2", feeds, (4, 6), options("ReverseV2")), "y")
    return graph.build()


PARSING = (
    Bug("matmul_broadcast", matmul_broadcast, ((0, "BATCH_MATMUL", "kernel"),), EVERY),
    Bug("matmul_constant_transposed", matmul_constant_transposed, ((0, "BATCH_MATMUL", "kernel"),), EVERY),
    Bug("fully_connected_rank_4", fully_connected_rank_4, ((0, "FULLY_CONNECTED", "kernel"),), EVERY),
    Bug("fully_connected_runtime_weights", fully_connected_runtime_weights, ((0, "FULLY_CONNECTED", "kernel"),), EVERY),
    Bug("softmax_rank_1", softmax_rank_1, ((0, "SOFTMAX", "kernel"),), EVERY),
    Bug("cumsum_leading_axis", cumsum((4, 16, 32), 0), ((0, "CUMSUM", "kernel"),), EVERY),
    Bug("cumsum_reverse", cumsum((1, 4, 16, 32), 3, reverse=True), ((0, "CUMSUM", "kernel"),), EVERY),
    Bug("select_by_row", select_by_row, ((0, "SELECT_V2", "kernel"),), EVERY),
    Bug("grouped_convolution", grouped_convolution, ((0, "CONV_2D", "kernel"),), EVERY, unwritten=True),
    Bug("depthwise_pointwise", depthwise_pointwise, ((0, "DEPTHWISE_CONV_2D", "kernel"),), EVERY),
    Bug("transpose_conv_same", transpose_conv_same, ((0, "TRANSPOSE_CONV", "kernel"),), EVERY),
    Bug("transpose_conv_relu", transpose_conv_relu, ((0, "TRANSPOSE_CONV", "kernel"),), EVERY),
    Bug("update_slice_rank_3", update_slice_rank_3, ((0, "DYNAMIC_UPDATE_SLICE", "kernel"),), EVERY),
    Bug("cumsum_negative_axis", cumsum((4, 8), -1), ((0, "CUMSUM", "kernel"),), EVERY),
    Bug("rank3_mirror_pad", rank3_mirror_pad, ((0, "MIRROR_PAD", "kernel"),), EVERY),
    Bug("pad_batch_of_one", pad_batch_of_one, ((0, "PAD", "kernel"),), EVERY),
    Bug("reverse_columns", reverse_columns, ((0, "REVERSE_V2", "kernel"),), EVERY),
    Bug("top_two", top_two, ((0, "TOPK_V2", "kernel"),), EVERY),
)
