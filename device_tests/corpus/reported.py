"""Delegate bugs named after their reports in google-ai-edge/LiteRT, float16's range, and graphs that are right."""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from device_tests.corpus.bug import EVERY, OLD, OLDEST, Bug
from harness.graph.build import GraphBuilder
from harness.graph.model import Model


def rank3_pad_9272() -> Model:
    """PAD of a rank-3 tensor on an axis that is not the innermost."""
    graph = GraphBuilder()
    x = graph.unary("RELU", graph.input("x", (4, 50, 64)))
    graph.output(graph.unary("TANH", graph.pad(x, [(0, 0), (3, 5), (0, 0)])), "y")
    return graph.build()


def _scores(graph: GraphBuilder) -> int:
    q, k = graph.input("q", (8, 64, 64)), graph.input("k", (8, 64, 64))
    mask = graph.input("mask", (1, 1, 64, 64))
    return graph.binary("ADD", graph.batch_matmul(q, k, adj_y=True), mask)


def broadcast_add_8593() -> Model:
    """A rank-4 mask [1,1,64,64] added to a rank-3 BATCH_MATMUL result [8,64,64]."""
    graph = GraphBuilder()
    graph.output(_scores(graph), "scores")
    return graph.build()


def masked_attention_8593() -> Model:
    """The same inside attention: softmax(q·kᵀ + mask)·v."""
    graph = GraphBuilder()
    weights = graph.softmax(_scores(graph))
    graph.output(graph.batch_matmul(weights, graph.input("v", (1, 8, 64, 64))), "y")
    return graph.build()


def tapped_add_8599() -> Model:
    """a = x + y is an output and is read as well; b = relu(a)·2 + y."""
    graph = GraphBuilder()
    x, y = graph.input("x", (1, 16, 16, 32)), graph.input("y", (1, 16, 16, 32))
    a = graph.binary("ADD", x, y)
    graph.output(a, "a")
    graph.output(graph.binary("ADD", graph.binary("MUL", graph.unary("RELU", a), graph.constant([2.0])), y), "b")
    return graph.build()


def layernorm_overflow() -> Model:
    """Plain LayerNorm of values in the thousands: their squares leave float16's range."""
    graph = GraphBuilder()
    x = graph.binary("MUL", graph.input("x", (1, 64, 256)), graph.constant([400.0]))
    mean = graph.reduce("MEAN", x, 2)
    centred = graph.binary("SUB", x, mean)
    options = schema.SquaredDifferenceOptionsT()
    square = graph.op("SQUARED_DIFFERENCE", [x, mean], (1, 64, 256), options)
    variance = graph.binary("ADD", graph.reduce("MEAN", square, 2), graph.constant([1e-5]))
    graph.output(graph.binary("MUL", centred, graph.unary("RSQRT", variance)), "y")
    return graph.build()


def rank3_pad_beside_loud_channels() -> Model:
    """The rank-3 PAD again, its result one half of an output whose other half is a thousand times as large."""
    graph = GraphBuilder()
    padded = graph.pad(graph.unary("RELU", graph.input("scores", (4, 50, 64))), [(0, 0), (3, 5), (0, 0)])
    boxes = graph.binary("MUL", graph.input("boxes", (4, 58, 64)), graph.constant([640.0]))
    options = schema.ConcatenationOptionsT()
    options.axis = 2
    graph.output(graph.op("CONCATENATION", [graph.unary("TANH", padded), boxes], (4, 58, 128), options), "y")
    return graph.build()


def mask_out_of_range() -> Model:
    """A mask of -1e9 before a softmax becomes -infinity, as it may; the PAD behind it is the culprit."""
    graph = GraphBuilder()
    mask = np.zeros((1, 1, 64), np.float32)
    mask[..., 32:] = -1e9
    masked = graph.binary("ADD", graph.input("x", (4, 50, 64)), graph.constant(mask))
    graph.output(graph.pad(graph.softmax(masked), [(0, 0), (3, 5), (0, 0)]), "y")
    return graph.build()


def harmful_underflow() -> Model:
    """Values near 1e-6, some of which become zero in float16, before a logarithm that minds."""
    graph = GraphBuilder()
    tiny = graph.binary("MUL", graph.input("x", (1, 64)), graph.constant([1e-6]))
    graph.output(graph.unary("LOG", graph.unary("ABS", tiny)), "y")
    return graph.build()


def steps_at_rounded_values() -> Model:
    """FLOOR and a comparison, whose results jump where float16 rounds their inputs."""
    graph = GraphBuilder()
    x = graph.input("x", (1, 64, 256))
    graph.output(graph.unary("FLOOR", x), "floor")
    half = graph.constant([0.5])
    graph.output(graph.op("EQUAL", [x, half], (1, 64, 256), schema.EqualOptionsT(), dtype=np.bool_), "equal")
    return graph.build()


def harmless_underflow() -> Model:
    """Values near 1e-8 become zero in float16; nothing is wrong with that."""
    graph = GraphBuilder()
    x = graph.input("x", (1, 64, 256))
    graph.output(graph.binary("MUL", x, graph.constant([1e-8])), "tiny")
    graph.output(graph.unary("TANH", x), "y")
    return graph.build()


def healthy_attention() -> Model:
    """Attention without a mask, right on every release."""
    graph = GraphBuilder()
    q, k, v = (graph.input(name, (1, 8, 64, 64)) for name in "qkv")
    scores = graph.binary("MUL", graph.batch_matmul(q, k, adj_y=True), graph.constant([0.125]))
    graph.output(graph.batch_matmul(graph.softmax(scores), v), "y")
    return graph.build()


def healthy_mlp() -> Model:
    """Two fully connected layers, a GELU and a residual, with float16 weights behind DEQUANTIZE."""
    rng = np.random.default_rng(7)
    graph = GraphBuilder()
    x = graph.input("x", (1, 32, 64))
    options = schema.FullyConnectedOptionsT()
    options.keepNumDims = True
    up = graph.dequantize((rng.standard_normal((128, 64)) / 8).astype(np.float32))
    hidden = graph.op("FULLY_CONNECTED", [x, up, -1], (1, 32, 128), options)
    hidden = graph.unary("GELU", hidden, schema.GeluOptionsT())
    down = graph.fully_connected(hidden, (rng.standard_normal((64, 128)) / 11).astype(np.float32))
    graph.output(graph.binary("ADD", down, x), "y")
    return graph.build()


REPORTED = (
    Bug("rank3_pad_9272", rank3_pad_9272, ((1, "PAD", "kernel"),), EVERY),
    Bug("broadcast_add_8593", broadcast_add_8593, ((1, "ADD", "kernel"),), (OLDEST, OLD)),
    Bug("masked_attention_8593", masked_attention_8593, ((1, "ADD", "kernel"),), (OLDEST, OLD)),
    Bug("tapped_add_8599", tapped_add_8599, ((0, "ADD", "kernel"),), (OLDEST, OLD)),
    Bug("layernorm_overflow", layernorm_overflow, ((3, "SQUARED_DIFFERENCE", "overflow"),), EVERY),
    Bug("rank3_pad_beside_loud_channels", rank3_pad_beside_loud_channels, ((1, "PAD", "kernel"),), EVERY),
    Bug("mask_out_of_range", mask_out_of_range, ((2, "PAD", "kernel"),), EVERY),
    Bug("harmful_underflow", harmful_underflow, ((0, "MUL", "underflow"),), EVERY),
    Bug("steps_at_rounded_values", steps_at_rounded_values),
    Bug("harmless_underflow", harmless_underflow),
    Bug("healthy_attention", healthy_attention),
    Bug("healthy_mlp", healthy_mlp),
)
