"""Models that the app and the host both run."""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from tests.arrays import Values, normal
from tests.quantized import QuantizedBuilder


def small_network() -> Model:
    """Two linear layers of 16 with a GELU between: enough that float16 shows."""
    graph = GraphBuilder()
    x = graph.input("x", (1, 16))
    hidden = graph.fully_connected(x, normal((16, 16), seed=1), normal((16,), seed=2))
    active = graph.unary("LOGISTIC", hidden)
    graph.output(graph.fully_connected(active, normal((16, 16), seed=3), normal((16,), seed=4)), "y")
    return graph.build()


def halves_behind_an_op() -> tuple[Model, Values]:
    """-2 x + 1 with float16 constants, expanded where they are read, behind an op that reads none; and an x."""
    graph = GraphBuilder()
    negated = graph.unary("NEG", graph.input("x", (1, 2)), schema.NegOptionsT())
    doubled = graph.binary("MUL", negated, graph.dequantize(np.asarray([[2, 2]])))
    graph.output(graph.binary("ADD", doubled, graph.dequantize(np.asarray([[1, 1]]))), "y")
    return graph.build(), {"x": np.asarray([[0.75, 2.25]], np.float32)}


def crossed_signature() -> Model:
    """difference = a - b and sum = a + b, in a signature that names inputs and outputs in another order."""
    graph = GraphBuilder()
    a, b = graph.input("a", (2,)), graph.input("b", (2,))
    graph.output(graph.binary("SUB", a, b), "difference")
    graph.output(graph.binary("ADD", a, b), "sum")
    model = graph.build()
    signature = model.root.signatureDefs[0]
    signature.inputs, signature.outputs = signature.inputs[::-1], signature.outputs[::-1]
    model.edited()
    return model


def mixed_types() -> tuple[Model, Values, Values]:
    """A model that passes every type of LiteRT's Kotlin API on, its inputs, and what comes out."""
    graph = GraphBuilder()
    inputs: Values = {
        "floats": np.asarray([[1.5, -2.0], [np.inf, 1e-40]], np.float32),
        "ints": np.asarray([[1, -2], [2**31 - 1, -(2**31)]], np.int32),
        "longs": np.asarray([[1, -2], [2**63 - 1, -(2**63)]], np.int64),
        "bytes": np.asarray([[1, -2], [127, -128]], np.int8),
        "flags": np.asarray([[True, False], [False, True]]),
    }
    flat = graph.constant(np.asarray([4], np.int32))
    for name, values in inputs.items():
        handle = graph.input(name, values.shape, values.dtype)
        options = schema.ReshapeOptionsT()
        graph.output(graph.op("RESHAPE", [handle, flat], (4,), options, dtype=values.dtype.type), f"flat_{name}")
    return graph.build(), inputs, {f"flat_{name}": values.reshape(4) for name, values in inputs.items()}


def other_types() -> tuple[Model, Values, Values]:
    """A model that takes and gives what LiteRT's Kotlin API has no buffers of: uint8 and int16 on a grid, float16."""
    graph = QuantizedBuilder()
    x = graph.input("x", (1, 4))
    inputs: Values = {"x": np.asarray([[0.0, 1.5, -1.0, 3.25]], np.float32)}
    expected: Values = {"half": inputs["x"].astype(np.float16)}
    cast = schema.CastOptionsT()
    cast.inDataType, cast.outDataType = schema.TensorType.FLOAT32, schema.TensorType.FLOAT16
    graph.output(graph.op("CAST", [x], (1, 4), cast, dtype=np.float16), "half")
    for dtype, step, zero in ((np.uint8, 0.25, 4), (np.int16, 0.25, 0)):
        name = np.dtype(dtype).name
        made = graph.op("QUANTIZE", [x], (1, 4), schema.QuantizeOptionsT(), dtype=dtype, version=2)
        graph.output(graph.on_grid(made, step, zero), f"on grid {name}")
        expected[f"on grid {name}"] = (inputs["x"] / step + zero).astype(dtype)
    flat = graph.constant(np.asarray([4], np.int32))
    for given in (
        np.asarray([[0, 1, 128, 255]], np.uint8),
        np.asarray([[1, -2, 32767, -32768]], np.int16),
        np.asarray([[1, -0.0, 6e-8, np.inf]], np.float16),
    ):
        name, kind = given.dtype.name, given.dtype.type
        handle = graph.input(f"in {name}", given.shape, kind)
        inputs[f"in {name}"] = given
        graph.output(graph.op("RESHAPE", [handle, flat], (4,), schema.ReshapeOptionsT(), dtype=kind), f"flat {name}")
        expected[f"flat {name}"] = given.reshape(4)
    return graph.build(), inputs, expected
